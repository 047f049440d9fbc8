"""Where to ask SAM: the number of prompts is the cost of a frame, so each has a reason."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, EgoMotion, Expectations, FloatArray, Frame, IntArray, PromptReason, Prompts
from sparsematch_ros.egomotion.residual import evident_places, moving_regions
from sparsematch_ros.kinematics import box_iou
from sparsematch_ros.segmentation.unseen import UnseenPlaces, inside_boxes
from sparsematch_ros.sky import Sky

_MOST_MOVING_REGIONS = 6
# Bare points where motion is densest: several, since some fall on a part, and some on water or leaves.
_MOST_EVIDENT_PLACES = 4
# A region and an expected object with this box IoU are the same thing.
_SAME_IOU = 0.3
# The box of a prompt is widened by this share, since predictions and thresholds cut into the object.
_MARGIN = 0.02
# Under a dark sky an expected box with a smaller bright share is not asked.
_LIT_SHARE = 0.1
_SMALL_PX = 8.0


class Proposer:
    """Chooses the prompts of a frame: expected objects, moving and bright regions, then what was not looked at yet."""

    def __init__(self, config: SegmentationConfig) -> None:
        """Take the settings; nothing has been looked at."""
        self.config = config
        self._unseen = UnseenPlaces(config.sweep_points_per_side)

    def propose(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Prompts:
        """Give at most `prompt_budget` prompts.

        Under a dark sky without a bright region there is nothing for SAM, whatever was expected.
        """
        self._unseen.move(motion.homography)
        if sky.dark and len(sky.boxes_xyxy_px) == 0:
            return _prompts(np.zeros((0, 2)), None, PromptReason.EXPECTED)
        expected = _lit(self._expected(expectations, frame.size), sky)
        seen = join_prompts([self._motion(motion, frame.size), self._bright(sky)])
        expected, seen = _refresh(expected, seen)
        known = join_prompts([expected, self._evident(motion, frame.size, expected), seen])
        room = self.config.prompt_budget - len(known)
        if sky.dark or room <= 0:
            return _take(known, np.arange(min(len(known), self.config.prompt_budget)))
        return join_prompts([known, self._sweep(frame, known, min(room, self.config.sweep_prompts))])

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
        threshold = self._least_motion_px(motion)
        regions = moving_regions(motion.residual, size, threshold, self.config.min_region_px, _MOST_MOVING_REGIONS)
        return _prompts(regions.points_px, regions.boxes_xyxy_px, PromptReason.MOTION)

    def _evident(self, motion: EgoMotion, size: tuple[int, int], expected: Prompts) -> Prompts:
        """Ask by a bare point where motion is densest, off the boxes of what is expected.

        The box of a moving region is that of everything that moves there; a point leaves the extent to SAM.
        """
        if motion.residual is None:
            return _prompts(np.zeros((0, 2)), None, PromptReason.MOTION)
        places = evident_places(motion.residual, size, self._least_motion_px(motion), _MOST_EVIDENT_PLACES)
        return _prompts(places[~inside_boxes(places, expected.boxes_xyxy_px)], None, PromptReason.MOTION)

    def _least_motion_px(self, motion: EgoMotion) -> float:
        return self.config.motion_threshold_px + 3 * motion.surroundings_px

    def _bright(self, sky: Sky) -> Prompts:
        return _prompts(sky.region_points_px, sky.boxes_xyxy_px, PromptReason.BRIGHT)

    def _sweep(self, frame: Frame, known: Prompts, most: int) -> Prompts:
        """Look where nothing has been looked at for long, the most textured places first."""
        places, textured = self._unseen.choose(frame.gray, known.boxes_xyxy_px, most)
        reasons = np.where(textured, int(PromptReason.TEXTURE), int(PromptReason.SWEEP))
        return replace(_prompts(places, None, PromptReason.SWEEP), reasons=reasons)


def _lit(prompts: Prompts, sky: Sky) -> Prompts:
    """Leave out what is expected where a dark sky shows nothing: SAM would answer with a piece of sky.

    Where there is no bright region, what is smaller than a few pixels is left to the point sources.
    """
    if len(prompts) == 0 or sky.silhouettes is None or sky.region_labels is None:
        return prompts
    large = (_extents(prompts) > _SMALL_PX).any(axis=1)
    lit = _lit_shares(prompts, sky.silhouettes) >= _LIT_SHARE
    regions = _lit_shares(prompts, sky.region_labels > 0) > 0
    return _take(prompts, np.flatnonzero(lit & (large | regions)))


def _extents(prompts: Prompts) -> FloatArray:
    return prompts.boxes_xyxy_px[:, 2:] - prompts.boxes_xyxy_px[:, :2]


def _lit_shares(prompts: Prompts, lit: BoolArray) -> FloatArray:
    """Give the share of each prompt's box `(P,)` that a raster `(H, W)` lights."""
    total = cv2.integral(lit.astype(np.uint8))
    left, top = np.floor(prompts.boxes_xyxy_px[:, :2]).astype(np.int64).T
    right, bottom = np.ceil(prompts.boxes_xyxy_px[:, 2:]).astype(np.int64).T + 1
    count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(count / ((right - left) * (bottom - top)))


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
    # A region that holds several expected objects is all of them together: each is asked for by its own box.
    centres = (expected.boxes_xyxy_px[:, :2] + expected.boxes_xyxy_px[:, 2:]) / 2
    held = np.array([inside_boxes(centres, box[None]).sum() for box in seen.boxes_xyxy_px])
    measured &= held[best] < 2
    points, boxes = expected.points_px.copy(), expected.boxes_xyxy_px.copy()
    points[measured] = seen.points_px[best[measured]]
    boxes[measured] = seen.boxes_xyxy_px[best[measured]]
    fresh = (overlap.max(axis=0) <= _SAME_IOU) & ~inside_boxes(seen.points_px, expected.boxes_xyxy_px)
    refreshed = Prompts(points, boxes, expected.reasons, expected.areas_px)
    return refreshed, _take(seen, np.flatnonzero(fresh))


def grid_prompts(places_px: FloatArray) -> Prompts:
    """Describe the bare points `(P, 2)` of a full grid."""
    return _prompts(places_px, None, PromptReason.GRID)


def _prompts(
    points: FloatArray, boxes: FloatArray | None, reason: PromptReason, areas: FloatArray | None = None
) -> Prompts:
    count = len(points)
    corners = np.full((count, 4), np.nan) if boxes is None else boxes
    known = np.full(count, np.nan) if areas is None else areas
    return Prompts(points, corners, np.full(count, int(reason), dtype=np.int64), known)


def join_prompts(parts: list[Prompts]) -> Prompts:
    """Put prompts one after another."""
    names = ("points_px", "boxes_xyxy_px", "reasons", "areas_px")
    return Prompts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _take(prompts: Prompts, rows: IntArray) -> Prompts:
    return Prompts(prompts.points_px[rows], prompts.boxes_xyxy_px[rows], prompts.reasons[rows], prompts.areas_px[rows])


def _corners(boxes_xywh: FloatArray) -> FloatArray:
    margin = _MARGIN * boxes_xywh[:, 2:]
    return np.concatenate([boxes_xywh[:, :2] - margin, boxes_xywh[:, :2] + boxes_xywh[:, 2:] + margin], axis=1)


def _widths(boxes_xyxy: FloatArray) -> FloatArray:
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
