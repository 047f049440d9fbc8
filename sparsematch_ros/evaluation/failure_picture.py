"""`failures.png`: a contact sheet of the frames in which a run failed worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sparsematch_ros.evaluation.failures import Failure, worst_failures
from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.picture_style import brightened, new_figure, save_small_png
from sparsematch_ros.evaluation.sightings import Sighting
from sparsematch_ros.media.records import decode_mask

Image = NDArray[np.uint8]
MOST_FRAMES = 6
MOST_WORDS = 3
MOST_BYTES = 290_000
TRUE_COLOUR, OWN_COLOUR = "#40e0ff", "#ff9a2e"
# Smallest part of the image that is shown [px], and what is left around the error.
LEAST_WIDTH_PX, ASPECT, MARGIN_PX = 120.0, 4 / 3, 24.0
SMALLEST_RING_PX = 5.0


def plot_failures(path: Path, title: str, matches: Sequence[FrameMatches], load: Callable[[int], Image | None]) -> None:
    """Write `failures.png`.

    Args:
        path: the file to write.
        title: heading.
        matches: of all frames.
        load: gives a frame's image, `(H, W, 3)` uint8 RGB, or None where it cannot be read.

    """
    failures = worst_failures(matches, MOST_FRAMES)
    rows = max(1, -(-len(failures) // 3))
    figure = new_figure(10.8, 0.6 + 3.3 * rows if failures else 1.2)
    for number, axes in enumerate(figure.subplots(rows, 3 if failures else 1, squeeze=False).flat):
        axes.set_axis_off()
        if number < len(failures):
            _draw_failure(axes, failures[number], load(failures[number].matches.frame))
    if not failures:
        figure.axes[0].text(0.5, 0.5, "no frame with an error", ha="center")
    figure.suptitle(f"{title}: where it failed (blue: truth, orange: reported)", fontsize=10)
    save_small_png(figure, path, MOST_BYTES)


def crop_around(places: Sequence[Sighting], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Choose the part of an image of `size` (height, width) that shows the places: left, top, right, bottom [px]."""
    boxes = np.array([item.bbox_xywh_px for item in places])
    low, high = boxes[:, :2].min(axis=0) - MARGIN_PX, (boxes[:, :2] + boxes[:, 2:]).max(axis=0) + MARGIN_PX
    width = max(LEAST_WIDTH_PX, high[0] - low[0], (high[1] - low[1]) * ASPECT)
    extent = np.minimum(np.array([width, width / ASPECT]), np.array(size[::-1], dtype=float))
    corner = np.clip((low + high - extent) / 2, 0, np.array(size[::-1]) - extent)
    left, top = np.floor(corner).astype(int)
    right, bottom = np.ceil(corner + extent).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _draw_failure(axes: Axes, failure: Failure, image: Image | None) -> None:
    words = failure.words[:MOST_WORDS]
    more = len(failure.words) - len(words)
    heading = [f"frame {failure.matches.frame}", *words, *([f"and {more} more"] if more else [])]
    axes.set_title("\n".join(heading), fontsize=7.5)
    if image is None:
        axes.text(0.5, 0.5, "the image cannot be read", ha="center", transform=axes.transAxes)
        return
    places = [item for entry in failure.places[:MOST_WORDS] for item in entry]
    left, top, right, bottom = crop_around(places, image.shape[:2])
    part = brightened(image[top:bottom, left:right])
    axes.imshow(part, extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5), interpolation="bilinear")
    frame = failure.matches
    for item in frame.visible:
        _outline(axes, item, TRUE_COLOUR, "-")
    for item in [*(own for _, own in frame.pairs), *frame.false]:
        _outline(axes, item, OWN_COLOUR, "--")
    axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))


def _outline(axes: Axes, item: Sighting, colour: str, style: Any) -> None:
    """Draw the mask's outline, or a ring around an object that has none."""
    mask = None if item.mask is None else decode_mask(item.mask)
    if mask is not None and mask.any():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.0, linestyles=[style])
        return
    turn = np.linspace(0, 2 * np.pi, 40)
    radius = max(SMALLEST_RING_PX, float(max(item.bbox_xywh_px[2:])) / 2 + 2)
    x, y = item.centroid_px
    axes.plot(x + radius * np.cos(turn), y + radius * np.sin(turn), style, color=colour, linewidth=1.0)
