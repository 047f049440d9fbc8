"""`overview.jpg`: a run at a glance, small enough for a page: paths, identities and velocity errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sparsematch_ros.data import FloatArray
from sparsematch_ros.evaluation.identity_picture import draw_identities
from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.picture_style import brightened, identity_colours, new_figure, save_small_jpeg
from sparsematch_ros.evaluation.sightings import Sighting
from sparsematch_ros.evaluation.velocity_picture import draw_errors

MOST_BYTES = 60_000
DIM = 0.6


def plot_overview(path: Path, title: str, matches: Sequence[FrameMatches], image: NDArray[np.uint8] | None) -> None:
    """Write `overview.jpg`.

    Args:
        path: the file to write.
        title: heading.
        matches: of all frames.
        image: `(H, W, 3)` uint8 RGB behind the paths, or None where no frame could be read.

    """
    figure = new_figure(12.6, 3.6)
    paths, identities, errors = figure.subplots(1, 3, width_ratios=(1.25, 1.35, 0.9))
    _draw_paths(paths, matches, image)
    draw_identities(identities, matches)
    identities.set_title("identities (bar: changed; dark: missed)", fontsize=9)
    draw_errors(errors, matches)
    figure.suptitle(title, fontsize=10)
    save_small_jpeg(figure, path, MOST_BYTES)


def _draw_paths(axes: Axes, matches: Sequence[FrameMatches], image: NDArray[np.uint8] | None) -> None:
    if image is not None:
        axes.imshow(np.rint(brightened(image) * DIM).astype(np.uint8))
        axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    palette = identity_colours(matches)
    own = _paths([*(item for _, item in frame.pairs), *frame.false] for frame in matches)
    for name, path in own.items():
        axes.plot(*np.array(path).T, "-", color=palette[name], linewidth=1.6)
    for path in _paths(frame.visible for frame in matches).values():
        axes.plot(*np.array(path).T, ":", color="white", linewidth=0.8)
    axes.set(xlabel="x [px]", ylabel="y [px]")
    axes.set_title("paths (dotted: truth)", fontsize=9)


def _paths(frames: Iterable[Iterable[Sighting]]) -> dict[str, list[FloatArray]]:
    paths: dict[str, list[FloatArray]] = {}
    for frame in frames:
        for item in frame:
            paths.setdefault(item.id, []).append(item.centroid_px)
    return paths
