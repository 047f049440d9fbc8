"""What stands behind `sparsematch run`; returns an exit status."""

from __future__ import annotations

from pathlib import Path

from sparsematch_ros.config import Config
from sparsematch_ros.media.run import run_source
from sparsematch_ros.media.sources import Source
from sparsematch_ros.pipeline import Pipeline


def run(source: Source, config: Config, out: Path, frames: int | None = None) -> int:
    """Find and follow objects in a source, write what `run` writes, and print the most important of it.

    Args:
        source: the images.
        config: the pipeline's settings.
        out: folder to write to.
        frames: most items of the source to look at, None for all.

    Returns:
        0.

    """
    summary = run_source(source, Pipeline(config), config, out, frames)
    print(f"{summary['frames']} frames used, {summary['refused_frames']} refused; {', '.join(summary['notes'])}")
    print(
        f"{summary['confirmed_objects']} objects reported; {summary['seconds_per_frame']:.2f} s and "
        f"{summary['prompts_per_frame']:.1f} prompts a frame on {summary['device']}"
    )
    print(f"look at {out / 'overlay.mp4'} and {out / 'tracks.png'}")
    return 0
