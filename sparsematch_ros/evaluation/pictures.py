"""The pictures that an evaluation leaves beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.evaluation.failure_picture import plot_failures
from sparsematch_ros.evaluation.identity_picture import plot_identity
from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.overview_picture import plot_overview
from sparsematch_ros.evaluation.velocity_picture import plot_velocity
from sparsematch_ros.media.folder_source import FolderSource


def draw_pictures(
    out: Path, source: FolderSource, matches: Sequence[FrameMatches], times_s: Mapping[int, float]
) -> None:
    """Write `velocity.png`, `identity.png`, `failures.png` and `overview.jpg`.

    Args:
        out: folder to write to.
        source: the images.
        matches: of all frames that were shown to the pipeline.
        times_s: their times by frame [s].

    """
    entries = {entry.index: entry for entry in source.entries}

    def load(frame: int) -> NDArray[np.uint8] | None:
        try:
            return source.read(entries[frame]).image
        except BadFrameError:
            return None  # The run has said so, and the sheet says it again.

    plot_velocity(out / "velocity.png", source.name, matches, times_s)
    plot_identity(out / "identity.png", source.name, matches)
    plot_failures(out / "failures.png", source.name, matches, load)
    middle = matches[len(matches) // 2].frame if matches else None
    plot_overview(out / "overview.jpg", source.name, matches, None if middle is None else load(middle))
