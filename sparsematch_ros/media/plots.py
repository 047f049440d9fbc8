"""`tracks.png`: the paths of the reported objects on an image, their speed over time, and the pointing error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparsematch_ros.data import FloatArray
from sparsematch_ros.media.overlay import object_colour
from sparsematch_ros.media.tracks import Track

# More lines than this cannot be told apart.
MAX_LEGEND = 8
# The picture is dimmed so that paths stand out.
DIM = 0.55


@dataclass(frozen=True, eq=False)
class PointingHistory:
    """How far the boresight was from the target.

    Attributes:
        stamps_s: `(N,)` time [s].
        errors_deg: `(N,)` angle between boresight and target [deg]; NaN where unknown.

    """

    stamps_s: FloatArray
    errors_deg: FloatArray


def plot_tracks(
    path: Path,
    image: NDArray[np.uint8],
    tracks: Sequence[Track],
    title: str,
    pointing: PointingHistory | None = None,
) -> None:
    """Write `tracks.png`.

    Args:
        path: the file to write.
        image: `(H, W, 3)` uint8 RGB behind the paths.
        tracks: reported objects, from `gather_tracks`.
        title: heading.
        pointing: pointing error over time, where there is one.

    """
    figure = Figure(figsize=(12.8, 7.2 if pointing is not None else 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 if pointing is None else 2, 2, width_ratios=(1.25, 1))
    _draw_paths(figure.add_subplot(grid[:, 0]), image, tracks)
    origin_s = _origin(tracks, pointing)
    _draw_speeds(figure.add_subplot(grid[0, 1]), tracks, origin_s)
    if pointing is not None:
        _draw_pointing(figure.add_subplot(grid[1, 1]), pointing, origin_s)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def _origin(tracks: Sequence[Track], pointing: PointingHistory | None) -> float:
    """Count long stamps, such as seconds since 1970, from the first one."""
    first = [float(track.stamps_s[0]) for track in tracks]
    if pointing is not None and len(pointing.stamps_s):
        first.append(float(pointing.stamps_s[0]))
    return min(first) if first and min(first) > 1e6 else 0.0


def _draw_paths(axes: Axes, image: NDArray[np.uint8], tracks: Sequence[Track]) -> None:
    axes.imshow(np.rint(image * DIM).astype(np.uint8))
    for track in tracks:
        colour = _colour(track)
        axes.plot(*track.centroids_px.T, "-", color=colour, linewidth=1.8)
        axes.plot(*track.centroids_px[0], "o", color=colour, markersize=4)
        axes.plot(*track.centroids_px[-1], "o", color=colour, markersize=9, markerfacecolor="none", markeredgewidth=1.8)
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0), xlabel="x [px]", ylabel="y [px]")
    axes.set_title("paths of the reported objects (dot: first seen, ring: last)", fontsize=10)


def _draw_speeds(axes: Axes, tracks: Sequence[Track], origin_s: float) -> None:
    for number, track in enumerate(tracks):
        time, colour = track.stamps_s - origin_s, _colour(track, dark=True)
        low, high = (track.speeds_px_s + sign * track.speed_sigmas_px_s for sign in (-1, 1))
        axes.fill_between(time, np.maximum(low, 0), high, color=colour, alpha=0.2, linewidth=0)
        label = track.id[:4] if number < MAX_LEGEND else None
        axes.plot(time, track.speeds_px_s, "-", marker=".", color=colour, label=label)
    axes.set(xlabel="time [s]", ylabel="speed [px/s]", ylim=(0, None))
    axes.set_title("speed against the background, with one standard deviation", fontsize=10)
    axes.grid(alpha=0.3)
    if tracks:
        axes.legend(fontsize=8, title="object")
    else:
        axes.text(0.5, 0.5, "nothing was reported", transform=axes.transAxes, ha="center")


def _draw_pointing(axes: Axes, pointing: PointingHistory, origin_s: float) -> None:
    axes.plot(pointing.stamps_s - origin_s, pointing.errors_deg, "-", marker=".", color="tab:blue")
    axes.set(xlabel="time [s]", ylabel="pointing error [deg]", ylim=(0, None))
    axes.set_title("angle between boresight and target", fontsize=10)
    axes.grid(alpha=0.3)


def _colour(track: Track, dark: bool = False) -> Any:
    """Take the overlay's colour of the object, darker on white paper."""
    shade = 0.75 if dark else 1.0
    return tuple(channel / 255 * shade for channel in object_colour(UUID(track.id)))
