"""Real star images seen by a camera that turns by known angles: there is nothing to find, and its turn is known.

The turn and the lens are drawn by the seed, and the line is told neither. Each frame gets its own blur and noise: the
noise of the image itself moves with the stars, and would help to register the frames.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.background.layers import Background
from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.evaluate import evaluate_source, open_evaluation
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.keeping import file_digest, kept_or_made, run_key
from sparsematch_ros.evaluation.suite.sky_view import SkyView
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.media.calibration import write_camera
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.media.folder_source import IMAGE_SUFFIXES
from sparsematch_ros.media.run import Perception

FRAMES, QUICK_FRAMES = 40, 15
RATE_HZ = 5.0
# Standard deviation of each frame's own noise, as a share of the largest value, and the range of its own blur [px].
NOISE_SHARE, BLUR_PX = 0.003, (0.5, 1.0)


class MotionKeeper:
    """A pipeline that keeps what it found of the background.

    Attributes:
        device: of the pipeline.
        motions: the background's motion by frame.

    """

    def __init__(self, pipeline: Perception) -> None:
        """Take the pipeline."""
        self._pipeline = pipeline
        self.device = pipeline.device
        self.motions: dict[int, Background] = {}

    def process(self, frame: Frame) -> FrameResult:
        """Process one frame, as the pipeline does."""
        result = self._pipeline.process(frame)
        self.motions[frame.index] = result.background
        return result


def find_skies(folder: Path) -> list[Path]:
    """List the images in a folder.

    Raises:
        SparsematchError: where there is none.

    """
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise SparsematchError(f"{folder} holds no image of a sky ({', '.join(IMAGE_SUFFIXES)})")
    return found


def read_sky(file: Path) -> NDArray[Any]:
    """Read an image of a sky at its own depth.

    Raises:
        SparsematchError: where the image cannot be read.

    """
    image = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if image is None:
        raise SparsematchError(f"{file} is not a readable image")
    return np.asarray(image)


def render_sky(image: NDArray[Any], view: SkyView, out: Path, with_camera: bool, rng: np.random.Generator) -> None:
    """Write what the camera sees of the image as a folder to evaluate; there is nothing in its truth."""
    (out / "frames").mkdir(parents=True)
    width, height = view.camera.width, view.camera.height
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype(np.float64)
    ideal = view.undistorted(grid)
    lines = []
    for number, homography in enumerate(view.homographies):
        places = apply_homography(homography, ideal).reshape(height, width, 2).astype(np.float32)
        seen = cv2.remap(image.astype(np.float32), places, None, cv2.INTER_LANCZOS4)
        name = f"{number:06d}.png"
        cv2.imwrite(str(out / "frames" / name), exposed(seen, image.dtype, rng))
        lines.append(json.dumps({"frame": number, "file": name, "stamp_s": number / RATE_HZ, "q_NC_xyzw": None}))
    (out / "frames.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "truth.jsonl").write_text("", encoding="utf-8")
    if with_camera:
        write_camera(out / "camera.yaml", view.camera, "sky")


def exposed(seen: NDArray[Any], dtype: np.dtype[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Blur an image `(H, W, 3)` by a drawn width, add noise and round it to whole values of a type."""
    largest = np.iinfo(dtype).max
    blurred = cv2.GaussianBlur(seen, (0, 0), rng.uniform(*BLUR_PX))
    # A sensor of one colour: the same noise in all channels.
    noise = rng.normal(0.0, NOISE_SHARE * largest, seen.shape[:2])
    return np.asarray(np.clip(np.rint(blurred + noise[..., None]), 0, largest).astype(dtype))


@dataclass(frozen=True)
class SkyRun:
    """One turn in front of one image.

    Attributes:
        file: an image of stars.
        with_camera: whether the line is told the intrinsics.
        seed: of the turn, the lens, the noise and the blur.
        frames: how many.

    """

    file: Path
    with_camera: bool
    seed: int
    frames: int = FRAMES

    @property
    def name(self) -> str:
        """Name of the row that the run belongs to."""
        return f"{self.file.stem}{'' if self.with_camera else ', camera unknown'}"

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        told = "camera" if self.with_camera else "no_camera"
        return f"{self.file.stem}_{told}_seed_{self.seed}_frames_{self.frames}"


def run_sky(run: SkyRun, config: Config, device: str, pipeline: Callable[[], Perception], out: Path) -> Scores:
    """Turn a camera over an image, run and score it, unless that was done.

    Args:
        run: what to do.
        config: the pipeline's settings.
        device: torch device that it runs on.
        pipeline: makes one that has seen nothing yet.
        out: folder of all runs.

    Returns:
        The figures of `metrics.json`, with `background_error_px`, the largest error of a corner over all frames, and
        `background_unknown`, the frames without an estimate.

    """
    own = out / run.folder

    def make() -> Scores:
        image, rng = read_sky(run.file), np.random.default_rng(run.seed)
        view = SkyView.over(image.shape[1], image.shape[0], run.frames, rng)
        with tempfile.TemporaryDirectory() as scratch:
            render_sky(image, view, Path(scratch), run.with_camera, rng)
            source, truth = open_evaluation(Path(scratch))
            source.name = run.file.stem
            keeper = MotionKeeper(pipeline())
            scores = evaluate_source(source, truth, keeper, config, own)
        return {**scores, **background_scores(view, keeper.motions)}

    place = {"with_camera": run.with_camera, "seed": run.seed, "frames": run.frames}
    return kept_or_made(own, run_key(config, device, input_sha256=file_digest(run.file), **place), make)


def background_scores(view: SkyView, motions: dict[int, Background]) -> Scores:
    """Compare the background's motions by frame with the true ones; the first frame has none."""
    known = {frame: motion.homography for frame, motion in motions.items() if frame > 0 and motion.valid}
    errors = [view.error_px(frame, homography) for frame, homography in known.items()]
    return {
        "background_error_px": rounded(max(errors)) if errors else None,
        "background_unknown": len(view.homographies) - 1 - len(known),
    }
