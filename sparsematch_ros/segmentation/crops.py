"""Which parts of a frame are encoded: around what is asked, where that is cheaper than the whole frame.

A part around an object shows it to SAM in more detail than the whole frame does, at a smaller input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsematch_ros.data import FloatArray, IntArray
from sparsematch_ros.segmentation.prompts import Prompts

# A part is this many times as wide as the box that it is about, and never narrower than this [px].
_CONTEXT = 2.0
_LEAST_PX = 64.0
# An image is enlarged by no more than this.
_MOST_SCALE = 6.0
# Shares of the model's input side at which a part may be encoded.
_SIDES = (0.5, 0.75, 1.0)
_MULTIPLE = 64


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the frame to encode.

    Attributes:
        bounds: left, top, right and bottom, the last two exclusive [px].
        side: side of the encoder's square input [px].
        rows: `(K,)` int64, the prompts that are asked in it.

    """

    bounds: tuple[int, int, int, int]
    side: int
    rows: IntArray


def plan_regions(prompts: Prompts, size: tuple[int, int], input_size: int, resizable: bool) -> list[Region]:
    """Choose the parts of a frame that are encoded for its prompts.

    Args:
        prompts: P of them; one without a box asks for the whole frame.
        size: height and width of the frame [px].
        input_size: side of the model's input [px]; encoding costs the square of the side.
        resizable: whether smaller inputs may be encoded.

    Returns:
        Parts that hold each prompt once: the whole frame where parts would cost as much.

    """
    if len(prompts) == 0:
        return []
    everything = Region((0, 0, size[1], size[0]), input_size, np.arange(len(prompts)))
    if not np.isfinite(prompts.boxes_xyxy_px).all():
        return [everything]
    extents = (prompts.boxes_xyxy_px[:, 2:] - prompts.boxes_xyxy_px[:, :2] + 1).max(axis=1)
    scales = np.minimum(prompts.details_px / extents, _MOST_SCALE)
    plan = _Plan(size, _sides(input_size) if resizable else (input_size,))
    bounds = [plan.around(box) for box in prompts.boxes_xyxy_px]
    groups = [np.array([row]) for row in range(len(prompts))]
    while (pair := plan.cheapest_union(bounds, [scales[rows].max() for rows in groups])) is not None:
        first, second = pair  # Each round leaves one fewer; prompts are few.
        bounds[first] = plan.grown(_union(bounds[first], bounds[second]))
        groups[first] = np.concatenate([groups[first], groups[second]])
        del bounds[second], groups[second]
    cost = sum(plan.cost(box, scales[rows].max()) for box, rows in zip(bounds, groups))
    # One part at the price of the frame still shows more; several do not pay, unless the frame shows too little.
    enough = scales.max() <= input_size / max(size)
    if enough and (cost > input_size**2 or (cost == input_size**2 and len(bounds) > 1)):
        return [everything]
    return [Region(_whole(box), plan.side(box, scales[rows].max()), rows) for box, rows in zip(bounds, groups)]


class _Plan:
    """Prices and shapes of parts for one frame."""

    def __init__(self, size: tuple[int, int], sides: tuple[int, ...]) -> None:
        self._extent = np.array(size[::-1], dtype=np.float64)
        self._sides = sides

    def around(self, box: FloatArray) -> FloatArray:
        """Compute the square part around a box, shifted into the frame."""
        centre, extent = (box[:2] + box[2:] + 1) / 2, box[2:] - box[:2] + 1
        half = max(float(extent.max()) * _CONTEXT, _LEAST_PX) / 2
        return self.grown(np.concatenate([centre - half, centre + half]))

    def grown(self, box: FloatArray) -> FloatArray:
        """Make a part square as far as the frame allows, and shift it into the frame."""
        wanted = np.minimum(np.max(box[2:] - box[:2]), self._extent)
        low = np.clip((box[:2] + box[2:] - wanted) / 2, 0, self._extent - wanted)
        return np.concatenate([low, low + wanted])

    def side(self, box: FloatArray, scale: float) -> int:
        """Choose the smallest input that shows the part at a scale, or the largest."""
        length = float(np.max(box[2:] - box[:2]))
        return next((side for side in self._sides if side >= scale * length), self._sides[-1])

    def cost(self, box: FloatArray, scale: float) -> int:
        """Compute the price of encoding a part [px^2 of input]."""
        return self.side(box, scale) ** 2

    def cheapest_union(self, bounds: list[FloatArray], scales: list[float]) -> tuple[int, int] | None:
        """Find the two parts whose union saves most, or None where none saves."""
        best: tuple[int, tuple[int, int]] | None = None
        for first in range(len(bounds)):
            for second in range(first + 1, len(bounds)):
                joined, scale = self.grown(_union(bounds[first], bounds[second])), max(scales[first], scales[second])
                saved = self.cost(bounds[first], scales[first]) + self.cost(bounds[second], scales[second])
                saved -= self.cost(joined, scale)
                shown = self.side(joined, scale) >= scale * float(np.max(joined[2:] - joined[:2]))
                if saved > (best[0] if best else 0) and shown:
                    best = (saved, (first, second))
        return best[1] if best else None


def _sides(input_size: int) -> tuple[int, ...]:
    sizes = {max(_MULTIPLE, round(input_size * share / _MULTIPLE) * _MULTIPLE) for share in _SIDES}
    return tuple(sorted(sizes))


def _union(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.concatenate([np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])])


def _whole(box: FloatArray) -> tuple[int, int, int, int]:
    left, top = (int(np.floor(value)) for value in box[:2])
    right, bottom = (int(np.ceil(value)) for value in box[2:])
    return left, top, right, bottom
