"""What `sparsematch bench` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsematch_ros.errors import SparsematchError

SAM_MODELS = ("mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h")
DINOV2_MODELS = ("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14", "dinov2_vitg14")


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and on what.

    Attributes:
        source: images, or None for simulated ones.
        topic: image topic of a bag; None for the only one.
        scenario: what to simulate.
        seed: of the simulation.
        frames: most frames.
        stride: every so manieth frame of the source is taken.
        warmup: frames that are not counted at the start of each run.
        repeat: runs over the frames.
        reference: whether to run the stock mask generator beside ours.
        reference_frames: frames for that, spread over the others; None for all.
        models: networks to time one by one: `all`, names with commas between, or None for none.
        models_points: points a side for them; None for what suits the device.
        out: folder to write to.

    """

    source: Path | None = None
    topic: str | None = None
    scenario: str = "fly_by"
    seed: int = 0
    frames: int = 12
    stride: int = 1
    warmup: int = 2
    repeat: int = 1
    reference: bool = False
    reference_frames: int | None = None
    models: str | None = None
    models_points: int | None = None
    out: Path = Path("sparsematch_output")

    def __post_init__(self) -> None:
        """Refuse what is wrong before anything is loaded."""
        _ = self.networks

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks to time one by one.

        Raises:
            SparsematchError: for a name that is none; the message lists those that are.

        """
        known = (*SAM_MODELS, *DINOV2_MODELS)
        names = {None: (), "all": known}.get(self.models)
        if names is None:
            names = tuple(name.strip() for name in str(self.models).split(","))
        for name in names:
            if name not in known:
                raise SparsematchError(f"--models '{name}': give all, or some of {', '.join(known)}")
        return names

    @property
    def source_name(self) -> str:
        """Where the frames come from, for people."""
        name = str(self.source) if self.source else f"{self.scenario}, simulated, seed {self.seed}"
        return name if self.stride == 1 else f"{name}, one frame of {self.stride}"
