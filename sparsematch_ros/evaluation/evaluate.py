"""`sparsematch evaluate`: a folder through the pipeline, and its results against truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sparsematch_ros.config import Config
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.matching import FrameMatches, match_frames
from sparsematch_ros.evaluation.pictures import draw_pictures
from sparsematch_ros.evaluation.requests import false_requests, requested_targets
from sparsematch_ros.evaluation.scores import (
    Scores,
    confirmation_scores,
    detection_scores,
    identity_scores,
    j_mean,
    velocity_scores,
)
from sparsematch_ros.evaluation.sightings import Frames, load_reported, load_truth
from sparsematch_ros.media.figures import rounded, write_json
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.media.outputs import Summary
from sparsematch_ros.media.records import read_records
from sparsematch_ros.media.run import Perception, run_source

FROM_RUN = ("seconds_per_frame", "prompts_per_frame", "frames", "refused_frames")
# The stages that follow objects, whose time together `motion_matching_tracking_ms` gives.
FOLLOWING = ("background", "tracking")


def open_evaluation(folder: Path, rate_hz: float | None = None) -> tuple[FolderSource, Frames]:
    """Open a folder with `frames/` and `truth.jsonl` and/or `masks/`; cheap, so that it can come before the models.

    Args:
        folder: the folder.
        rate_hz: frame rate where there is no `frames.jsonl` [Hz].

    Returns:
        The images, and the truth by frame.

    Raises:
        SparsematchError: where a part is missing or cannot be read.

    """
    if not (folder / "frames").is_dir():
        raise SparsematchError(f"{folder} has no frames/: evaluate needs frames/ and truth.jsonl and/or masks/ in it")
    source = FolderSource(folder, rate_hz)
    return source, load_truth(folder, {entry.file.stem: entry.index for entry in source.entries})


def evaluate_source(
    source: FolderSource, truth: Frames, pipeline: Perception, config: Config, out: Path, limit: int | None = None
) -> Scores:
    """Run a folder, score the results and write `metrics.json` and pictures beside what `run` writes.

    Args:
        source: the images.
        truth: from `open_evaluation`.
        pipeline: the stages.
        config: the pipeline's settings.
        out: folder to write to.
        limit: most frames to look at, None for all.

    Returns:
        What was written to `metrics.json`.

    """
    summary = run_source(source, pipeline, config, out, limit, "evaluate")
    entries = source.entries[:limit]
    times_s = {entry.index: entry.stamp_ns / NANOSECONDS for entry in entries}
    steps_s = np.diff(list(times_s.values()))
    reported = load_reported(out / "objects.jsonl")
    scores = score(truth, reported, list(times_s), float(np.median(steps_s)) if len(steps_s) else None)
    matches = match_frames(truth, reported, times_s)
    scores["false_requests"] = _false_requests(source, matches, out, limit)
    metrics = _finish(scores, summary)
    write_json(out / "metrics.json", metrics)
    draw_pictures(out, source, matches, times_s)
    return metrics


def score(truth: Frames, reported: Frames, frames: list[int], interval_s: float | None) -> Scores:
    """Compute every figure that results and truth give.

    Args:
        truth: true objects by frame.
        reported: reported objects by frame.
        frames: all frames that were shown to the pipeline, refused ones too.
        interval_s: time between frames [s], None where unknown.

    """
    matches = match_frames(truth, reported, frames)
    return {
        "j_mean": j_mean(truth, reported, frames),
        **detection_scores(matches),
        **identity_scores(matches),
        **velocity_scores(matches, interval_s),
        **confirmation_scores(matches),
    }


def print_scores(name: str, scores: Scores) -> None:
    """Print the figures as a table, then `j_mean` on a line of its own."""
    table = Table(title=name)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in scores.items():
        table.add_row(key, "-" if value is None else f"{value:.4g}")
    Console().print(table)
    overlap = scores["j_mean"]
    print(f"j_mean {'unknown: no masks' if overlap is None else format(overlap, '.4f')}")


def _false_requests(source: FolderSource, matches: list[FrameMatches], out: Path, limit: int | None) -> int | None:
    """Count the requests for false identities; None without intrinsics, because then no request can be sent."""
    if source.camera is None:
        return None
    stamps_ns = {entry.index: entry.stamp_ns for entry in source.entries[:limit]}
    size_wh_px = (source.camera.width, source.camera.height)
    return false_requests(requested_targets(read_records(out / "objects.jsonl"), stamps_ns, size_wh_px), matches)


def _finish(scores: Scores, summary: Summary) -> Scores:
    spent = summary["stage_seconds_per_frame"]
    following_ms = 1e3 * sum(spent.get(stage, 0.0) for stage in FOLLOWING)
    figures = {**scores, "motion_matching_tracking_ms": following_ms}
    plain = {key: rounded(value) if isinstance(value, float) else value for key, value in figures.items()}
    return {**plain, **{key: summary[key] for key in FROM_RUN}}
