"""Which segment is which tracked object."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from sparsematch_ros.data import BoolArray, Expectations, FloatArray, IntArray, Matches, Segments
from sparsematch_ros.kinematics import box_intersection, box_iou, touches_border
from sparsematch_ros.segmentation.masks import masks_at
from sparsematch_ros.tracking.kalman import innovations, mahalanobis2

_FORBIDDEN = 1e6
# SAM's masks grow and shrink by whole parts: a match may miss the gate by this share of the object's size. A point
# source that stays one does not, beside it stands another star; but a faint one's noise has tails.
_FLICKER_SHARE = 0.3
_POINT_ALLOWANCE = 2.0
_SMALL_PX2 = 200.0
# A mask this much larger than an object, which holds another's place too, is more than it.
_MERGED_RATIO = 1.3
# A segment with this share of its box inside a believed object's is a part of it.
_PART_SHARE = 0.7
_SAME_PLACE_IOU = 0.4
_TELLING_PX2 = 400.0


def assign_segments(
    expectations: Expectations,
    segments: Segments,
    matches: Matches,
    cosines: FloatArray,
    gate_sigma: float,
    ages: IntArray,
    merged: BoolArray,
) -> IntArray:
    """Give each object's segment `(T,)`, -1 for none.

    An object seen in the previous frame follows its segment's match; the others, and those whose match falls outside
    the gate, take what is left near their predicted place.

    Args:
        expectations: T objects predicted into this frame.
        segments: N segments of this frame.
        matches: pairs of the previous frame's segments and this frame's.
        cosines: `(T, N)` appearance of objects against segments; NaN unknown.
        gate_sigma: innovation gate [standard deviations].
        ages: `(T,)` frames since birth; a newborn has no velocity yet, so only a match can carry it on.
        merged: `(T, N)` of `mergers`: segments that are more than the object.

    """
    assigned = _follow(expectations, segments, matches, gate_sigma)
    seen = np.flatnonzero(assigned >= 0)
    assigned[seen[merged[seen, assigned[seen]]]] = -1
    objects = np.flatnonzero((assigned < 0) & (ages > 1))
    free = np.setdiff1d(np.arange(len(segments)), assigned)
    if len(objects) and len(free):
        cost = _gated_cost(expectations, segments, objects, free, gate_sigma)
        cost = np.where(merged[np.ix_(objects, free)], _FORBIDDEN, cost)
        unlike = np.nan_to_num(1 - cosines[np.ix_(objects, free)], nan=0.0)
        # The look of few pixels changes with what is around them: where one is expected it does not matter.
        telling = box_iou(expectations.boxes_xywh_px[objects], segments.boxes_xywh_px[free]) < _SAME_PLACE_IOU
        telling |= (expectations.areas_px[objects] >= _TELLING_PX2)[:, None]
        cost = np.where((unlike > 0.5) & telling, _FORBIDDEN, cost + gate_sigma * unlike)
        rows, columns = linear_sum_assignment(cost)
        good = cost[rows, columns] < _FORBIDDEN
        assigned[objects[rows[good]]] = free[columns[good]]
    return assigned


def held_in(expectations: Expectations, segments: Segments) -> BoolArray:
    """Say which masks hold the predicted place of which object, `(T, N)`; a point source holds none."""
    held = np.zeros((len(expectations), len(segments)), dtype=bool)
    held[:, : segments.mask_count] = masks_at(segments.masks, expectations.states[:, :2])
    return held


def mergers(expectations: Expectations, segments: Segments, held: BoolArray) -> BoolArray:
    """Say which segments are several objects in one for which object, `(T, N)`: it is none of them alone.

    A mask that holds the places of two believed objects is both, for each of them that is much smaller than it.
    `held` `(T, N)` is of `held_in`.
    """
    several = held[expectations.believed].sum(axis=0) >= 2
    grown = segments.areas_px[None] > _MERGED_RATIO * expectations.areas_px[:, None]
    return np.asarray(held & several[None] & grown)


def parts_of_known(expectations: Expectations, segments: Segments, held: BoolArray) -> BoolArray:
    """Say which segments `(N,)` are a part of a believed object or hold one: they are no objects of their own.

    `held` `(T, N)` is of `held_in`.
    """
    known = np.flatnonzero(expectations.believed & expectations.resolved)
    common = box_intersection(expectations.boxes_xywh_px[known], segments.boxes_xywh_px)
    part = (common > _PART_SHARE * segments.boxes_xywh_px[:, 2:].prod(axis=1)).any(axis=0)
    part[segments.mask_count :] = False
    return np.asarray(part | held[known].any(axis=0))


def _follow(expectations: Expectations, segments: Segments, matches: Matches, gate_sigma: float) -> IntArray:
    """Carry objects along the matches of the segments that they had."""
    # One entry more than any row in use: -1, an object without a segment, reads it and finds no successor.
    last = max(matches.previous.max(initial=-1), expectations.segment_rows.max(initial=-1))
    successor = np.full(last + 2, -1, dtype=np.int64)
    successor[matches.previous] = matches.current
    assigned = successor[expectations.segment_rows]
    held = np.flatnonzero(assigned >= 0)
    rows = assigned[held]
    size = _FLICKER_SHARE * np.sqrt(segments.areas_px[rows])
    points = ~expectations.resolved[held] & (rows >= segments.mask_count)
    sigma = np.where(points, _POINT_ALLOWANCE * segments.centroid_sigma_px[rows], segments.centroid_sigma_px[rows])
    variance = sigma**2 + (np.where(points, 0.0, size) / gate_sigma) ** 2
    innovation, spread = innovations(
        expectations.states[held], expectations.covariances[held], segments.centroids_px[rows], variance
    )
    assigned[held[mahalanobis2(innovation, spread) > gate_sigma**2]] = -1
    return assigned


def _gated_cost(
    expectations: Expectations, segments: Segments, objects: IntArray, free: IntArray, gate_sigma: float
) -> FloatArray:
    """Give Mahalanobis distances `(len(objects), len(free))`; `_FORBIDDEN` outside the gate or at a wrong size."""
    innovation = segments.centroids_px[free][None] - expectations.states[objects, None, :2]
    masked = expectations.resolved[objects, None] | (free < segments.mask_count)[None]
    size = _FLICKER_SHARE * np.sqrt(expectations.areas_px[objects, None]) * masked
    sigma = segments.centroid_sigma_px[free][None] * np.where(masked, 1.0, _POINT_ALLOWANCE)
    variance = sigma**2 + (size / gate_sigma) ** 2
    spread = expectations.covariances[objects, None, :2, :2] + variance[..., None, None] * np.eye(2)
    distance = np.sqrt(mahalanobis2(innovation, spread))
    ratio = np.abs(
        np.log(np.maximum(expectations.areas_px[objects], 10)[:, None] / np.maximum(segments.areas_px[free], 10))
    )
    # Of a few pixels the area says little: point sources become masks and masks point sources. What the border cuts
    # may have any size.
    small = (expectations.areas_px[objects] < _SMALL_PX2)[:, None] & (segments.areas_px[free] < _SMALL_PX2)[None]
    any_size = small | touches_border(segments.boxes_xywh_px[free], segments.masks.shape[1:])[None]
    return np.where((distance > gate_sigma) | ((ratio > np.log(4.0)) & ~any_size), _FORBIDDEN, distance)
