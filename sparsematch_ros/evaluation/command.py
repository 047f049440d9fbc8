"""What stands behind `sparsematch evaluate`; returns an exit status."""

from __future__ import annotations

from pathlib import Path

from sparsematch_ros.config import Config
from sparsematch_ros.evaluation.evaluate import evaluate_source, open_evaluation, print_scores


def evaluate(folder: Path, config: Config, out: Path, rate_hz: float | None = None, frames: int | None = None) -> int:
    """Run a folder, score the results against its truth and print the scores.

    Args:
        folder: holds `frames/` and `truth.jsonl` and/or `masks/`.
        config: the pipeline's settings.
        out: folder to write to.
        rate_hz: frame rate of images without stamps [Hz].
        frames: most frames to look at, None for all.

    Returns:
        0.

    """
    source, truth = open_evaluation(folder, rate_hz)
    from sparsematch_ros.pipeline import Pipeline  # After the folder has been looked at: loading takes seconds.

    print_scores(str(folder), evaluate_source(source, truth, Pipeline(config), config, out, frames))
    return 0
