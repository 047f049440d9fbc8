"""Where to ask SAM: the number of prompts is the cost of a frame, so each has a reason."""

from __future__ import annotations

import numpy as np
from segment_anything.utils.amg import build_point_grid

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, EgoMotion, Expectations, FloatArray, IntArray, PromptReason, Prompts
from sparsematch_ros.egomotion.residual import moving_regions
from sparsematch_ros.kinematics import box_iou
from sparsematch_ros.sky import Sky

_MOST_MOVING_REGIONS = 6
# A region and an expected object with this box IoU are the same thing.
_SAME_IOU = 0.3
# The box of a prompt is widened by this share, since predictions and thresholds cut into the object.
_MARGIN = 0.02


class Proposer:
    """Chooses the prompts of a frame: expected objects, moving regions, bright regions, then a sweep."""

    def __init__(self, config: SegmentationConfig) -> None:
        """Take the settings; the sweep starts at its first point."""
        self.config = config
        self._sweep_position = 0

    def propose(self, size: tuple[int, int], motion: EgoMotion, sky: Sky, expectations: Expectations) -> Prompts:
        """Give at most `prompt_budget` prompts for a frame of `size` (height, width).

        Under a dark sky without a bright region there is nothing for SAM, whatever was expected.
        """
        if sky.dark and len(sky.boxes_xyxy_px) == 0:
            return _prompts(np.zeros((0, 2)), None, PromptReason.EXPECTED)
        expected = self._expected(expectations, size)
        seen = _join([self._motion(motion, size), self._bright(sky)])
        expected, seen = _refresh(expected, seen)
        known = _join([expected, seen])
        prompts = _join([known, self._sweep(size, sky, known)])
        return _take(prompts, np.arange(min(len(prompts), self.config.prompt_budget)))

    def _expected(self, expectations: Expectations, size: tuple[int, int]) -> Prompts:
        """Ask at the predicted boxes of resolved objects, the worthiest first."""
        boxes = _corners(expectations.boxes_xywh_px)
        clipped = np.clip(boxes, 0, np.tile(np.array(size)[::-1] - 1, 2))
        extent = clipped[:, 2:] - clipped[:, :2]
        rows = np.flatnonzero(expectations.resolved & (extent > 2).all(axis=1))
        rows = rows[np.argsort(-expectations.worth[rows], kind="stable")]
        centres = (clipped[rows, :2] + clipped[rows, 2:]) / 2
        return _prompts(centres, clipped[rows], PromptReason.EXPECTED, expectations.areas_px[rows])

    def _motion(self, motion: EgoMotion, size: tuple[int, int]) -> Prompts:
        if motion.residual is None:
            return _prompts(np.zeros((0, 2)), None, PromptReason.MOTION)
        threshold = self.config.motion_threshold_px + 3 * motion.surroundings_px
        regions = moving_regions(motion.residual, size, threshold, self.config.min_region_px, _MOST_MOVING_REGIONS)
        return _prompts(regions.points_px, regions.boxes_xyxy_px, PromptReason.MOTION)

    def _bright(self, sky: Sky) -> Prompts:
        return _prompts(sky.region_points_px, sky.boxes_xyxy_px, PromptReason.BRIGHT)

    def _sweep(self, size: tuple[int, int], sky: Sky, known: Prompts) -> Prompts:
        """Take the next points of the sparse grid that no other prompt covers; a dark sky holds nothing to sweep."""
        side = self.config.sweep_points_per_side
        if side == 0 or self.config.sweep_prompts == 0 or sky.dark:
            return _prompts(np.zeros((0, 2)), None, PromptReason.SWEEP)
        # A step coprime to the grid spreads successive frames' points over the image.
        grid = build_point_grid(side) * np.array(size)[::-1]
        numbers = (self._sweep_position + np.arange(len(grid))) * _coprime_step(len(grid)) % len(grid)
        free = ~_inside(grid[numbers], known.boxes_xyxy_px)
        chosen = np.flatnonzero(free)[: self.config.sweep_prompts]
        if len(chosen):
            self._sweep_position = (self._sweep_position + int(chosen[-1]) + 1) % len(grid)
        return _prompts(grid[numbers[chosen]], None, PromptReason.SWEEP)


def _coprime_step(count: int) -> int:
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    return step


def _refresh(expected: Prompts, seen: Prompts) -> tuple[Prompts, Prompts]:
    """Merge what is expected with what is seen: one prompt each.

    Where a region of this frame and an expected box agree, the expected prompt takes the bright region's point and box,
    which were measured; a moving region only drops out, since flow is coarser than a prediction from masks.
    """
    if len(expected) == 0 or len(seen) == 0:
        return expected, seen
    overlap = box_iou(_widths(expected.boxes_xyxy_px), _widths(seen.boxes_xyxy_px))
    best = overlap.argmax(axis=1)
    measured = (overlap.max(axis=1) > _SAME_IOU) & (seen.reasons[best] == PromptReason.BRIGHT)
    points, boxes = expected.points_px.copy(), expected.boxes_xyxy_px.copy()
    points[measured] = seen.points_px[best[measured]]
    boxes[measured] = seen.boxes_xyxy_px[best[measured]]
    fresh = (overlap.max(axis=0) <= _SAME_IOU) & ~_inside(seen.points_px, expected.boxes_xyxy_px)
    refreshed = Prompts(points, boxes, expected.reasons, expected.areas_px)
    return refreshed, _take(seen, np.flatnonzero(fresh))


def _prompts(
    points: FloatArray, boxes: FloatArray | None, reason: PromptReason, areas: FloatArray | None = None
) -> Prompts:
    count = len(points)
    corners = np.full((count, 4), np.nan) if boxes is None else boxes
    known = np.full(count, np.nan) if areas is None else areas
    return Prompts(points, corners, np.full(count, int(reason), dtype=np.int64), known)


def _join(parts: list[Prompts]) -> Prompts:
    names = ("points_px", "boxes_xyxy_px", "reasons", "areas_px")
    return Prompts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _take(prompts: Prompts, rows: IntArray) -> Prompts:
    return Prompts(prompts.points_px[rows], prompts.boxes_xyxy_px[rows], prompts.reasons[rows], prompts.areas_px[rows])


def _corners(boxes_xywh: FloatArray) -> FloatArray:
    margin = _MARGIN * boxes_xywh[:, 2:]
    return np.concatenate([boxes_xywh[:, :2] - margin, boxes_xywh[:, :2] + boxes_xywh[:, 2:] + margin], axis=1)


def _widths(boxes_xyxy: FloatArray) -> FloatArray:
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)


def _inside(points: FloatArray, boxes_xyxy: FloatArray) -> BoolArray:
    """Say which points `(P, 2)` lie in any of the boxes `(B, 4)`; NaN boxes hold none."""
    if len(boxes_xyxy) == 0:
        return np.zeros(len(points), dtype=bool)
    above = points[:, None] >= boxes_xyxy[None, :, :2]
    below = points[:, None] <= boxes_xyxy[None, :, 2:]
    return np.asarray(np.any(np.all(above & below, axis=2), axis=1))
