"""Sequences with masks, real ones such as DAVIS or rendered ones: the line beside the oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.evaluate import evaluate_source, open_evaluation
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.keeping import file_digest, kept_or_made, run_key
from sparsematch_ros.evaluation.suite.oracle import oracle_j_mean
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.media.progress import with_progress
from sparsematch_ros.media.run import Perception, iterate_frames
from sparsematch_ros.segmentation.sam import PromptedSam

QUICK_FRAMES = 12


def find_sequences(folder: Path) -> list[Path]:
    """List the sequences in a folder, or the folder itself where it is one.

    Raises:
        SparsematchError: where there is none.

    """
    found = [path for path in (folder, *sorted(folder.iterdir())) if (path / "frames").is_dir()]
    found = [path for path in found if (path / "masks").is_dir()]
    if not found:
        raise SparsematchError(f"{folder} holds no sequence: each needs frames/ and masks/")
    return found


def run_sequence(
    folder: Path,
    config: Config,
    device: str,
    parts: tuple[Callable[[], Perception], Callable[[], PromptedSam]],
    out: Path,
    frames: int | None = None,
) -> Scores:
    """Run and score a sequence, and ask the oracle, unless that was done.

    Args:
        folder: holds `frames/` and `masks/`.
        config: the pipeline's settings.
        device: torch device that it runs on.
        parts: what makes a pipeline that has seen nothing yet, and what gives its SAM.
        out: folder of all runs.
        frames: most frames, None for all.

    Returns:
        The figures of `metrics.json`, with `oracle_j_mean` and `ratio`, the share of it that was reached.

    """
    source, truth = open_evaluation(folder)
    source.name = folder.name
    own = out / f"{folder.name}_frames_{frames or source.length}"

    def make() -> Scores:
        scores = evaluate_source(source, truth, parts[0](), config, own, frames)
        shown = with_progress(iterate_frames(source, frames), "oracle", frames or source.length)
        best, reached = oracle_j_mean(parts[1](), shown, truth), scores["j_mean"]
        ratio = reached / best if best and reached is not None else None
        more = {"oracle_j_mean": best, "ratio": ratio}
        return {**scores, **{name: None if value is None else rounded(value) for name, value in more.items()}}

    beside = [file for name in ("truth.jsonl", "frames.jsonl", "camera.yaml") if (file := folder / name).is_file()]
    images = [entry.file for entry in source.entries]
    digest = file_digest(*images, *sorted((folder / "masks").iterdir()), *beside)
    return kept_or_made(own, run_key(config, device, input_sha256=digest, frames=frames), make)
