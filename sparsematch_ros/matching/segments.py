"""Segments of two consecutive frames paired by appearance, place and size, with the velocity of each pair."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from sparsematch_ros.config import MatchingConfig
from sparsematch_ros.data import EgoMotion, Expectations, FloatArray, IntArray, Matches, Segments
from sparsematch_ros.kinematics import apply_homography, box_iou, move_boxes, touches_border

_FORBIDDEN = 1e6
# A tracked object is looked for within this many standard deviations of where it is expected.
_GATE_SIGMA = 4.0
_LEAST_GATE_PX = 3.0
_SAME_PLACE_IOU = 0.4
_TELLING_PX2 = 400.0


def match_segments(
    previous: Segments,
    current: Segments,
    cosines: FloatArray,
    motion: EgoMotion,
    expectations: Expectations,
    config: MatchingConfig,
) -> Matches:
    """Pair segments one to one at the least total cost (Hungarian method, scipy's).

    Args:
        previous: P segments of the frame before.
        current: C segments of this frame.
        cosines: `(P, C)` cosines of their descriptors; NaN where unknown.
        motion: the background's motion between the frames.
        expectations: tracked objects, whose own velocity is expected to go on.
        config: gates and weights.

    """
    expected, gate = _expected_places(previous, motion, expectations, config)
    cost = _cost(previous, current, cosines, expected, gate, motion, config)
    if cost.size == 0:
        return no_matches()
    rows, columns = linear_sum_assignment(cost)
    allowed = cost[rows, columns] < _FORBIDDEN
    return _measure(previous, current, rows[allowed], columns[allowed], cosines, cost, motion)


def no_matches() -> Matches:
    """Give the matches of a frame without a predecessor."""
    none, pair = np.zeros(0), np.zeros((0, 2))
    index = np.zeros(0, dtype=np.int64)
    return Matches(index, index, none, none, pair, pair, np.zeros((0, 2, 2)), np.zeros(0, dtype=bool))


def _expected_places(
    previous: Segments, motion: EgoMotion, expectations: Expectations, config: MatchingConfig
) -> tuple[FloatArray, FloatArray]:
    """Give where each previous segment is expected `(P, 2)` and how far off it may be `(P,)` [px]."""
    places = apply_homography(motion.homography, previous.centroids_px)
    gate = np.full(len(previous), min(config.max_speed_px_s * motion.dt_s, config.max_step_px))
    tracked = np.flatnonzero(expectations.segment_rows >= 0)
    rows = expectations.segment_rows[tracked]
    places[rows] = expectations.states[tracked, :2]
    spread = np.sqrt(expectations.covariances[tracked][:, [0, 1], [0, 1]].max(axis=1, initial=0.0))
    size = np.sqrt(previous.areas_px[rows])
    gate[rows] = np.minimum(gate[rows] + _LEAST_GATE_PX, _GATE_SIGMA * spread + _LEAST_GATE_PX + 0.3 * size)
    return places, np.maximum(gate, _LEAST_GATE_PX)


def _cost(
    previous: Segments,
    current: Segments,
    cosines: FloatArray,
    expected: FloatArray,
    gate: FloatArray,
    motion: EgoMotion,
    config: MatchingConfig,
) -> FloatArray:
    """Give the cost `(P, C)` of each pair; `_FORBIDDEN` outside a gate."""
    distance = np.linalg.norm(expected[:, None] - current.centroids_px[None], axis=2) / gate[:, None]
    shift = expected - apply_homography(motion.homography, previous.centroids_px)
    overlap = box_iou(move_boxes(motion.homography, previous.boxes_xywh_px, shift), current.boxes_xywh_px)
    ratio = np.abs(np.log(np.maximum(previous.areas_px, 1)[:, None] / np.maximum(current.areas_px, 1)[None]))
    appearance = np.where(np.isnan(cosines), 0.0, 1 - cosines)
    cost = (
        config.appearance_weight * appearance
        + config.position_weight * distance
        + config.overlap_weight * (1 - overlap)
        + ratio
        # As in a likelihood: who may be anywhere in a wide gate has less claim to a place than who is expected there.
        + np.log(gate / _LEAST_GATE_PX)[:, None]
    )
    both_small = (previous.areas_px[:, None] < 200) & (current.areas_px[None] < 200)
    before, now = (touches_border(part.boxes_xywh_px, part.masks.shape[1:]) for part in (previous, current))
    cut = before[:, None] | now[None]
    # What the border cuts may shrink and grow as it leaves and enters.
    wrong_size = (ratio > np.log(config.max_area_ratio)) & ~both_small & ~cut
    # The look of few pixels changes with what is around them: where one was expected it does not matter.
    telling = (overlap < _SAME_PLACE_IOU) | (previous.areas_px >= _TELLING_PX2)[:, None]
    unlike = np.where(np.isnan(cosines), False, cosines < config.min_cosine) & telling
    flux_ratio = np.abs(np.log(np.maximum(previous.fluxes, 1)[:, None] / np.maximum(current.fluxes, 1)[None]))
    unlike |= flux_ratio > np.log(config.max_flux_ratio)  # NaN, and so False, unless both are point sources.
    return np.where((distance > 1) | wrong_size | unlike, _FORBIDDEN, cost)


def _measure(
    previous: Segments,
    current: Segments,
    rows: IntArray,
    columns: IntArray,
    cosines: FloatArray,
    cost: FloatArray,
    motion: EgoMotion,
) -> Matches:
    """Turn pairs into displacements and two-frame velocities with covariance."""
    moved = apply_homography(motion.homography, previous.centroids_px[rows])
    displacement = current.centroids_px[columns] - moved
    noise = previous.centroid_sigma_px[rows] ** 2 + current.centroid_sigma_px[columns] ** 2
    variance = (noise + background_variance_px2(motion)) / motion.dt_s**2
    return Matches(
        previous=rows.astype(np.int64),
        current=columns.astype(np.int64),
        cosine=cosines[rows, columns],
        bidirectional=_bidirectional(cost, rows, columns),
        displacement_px=displacement,
        velocity_px_s=displacement / motion.dt_s,
        velocity_covariance=variance[:, None, None] * np.eye(2),
        registered=np.zeros(len(rows), dtype=bool),
    )


def background_variance_px2(motion: EgoMotion) -> float:
    """Give the variance an axis [px^2] that the background's own error adds to a displacement.

    A homography rests on four points; N points that agree to `residual_px` fix it sqrt(4 / N) as well as one of them.
    """
    if np.isnan(motion.residual_px):
        return 0.0
    return motion.residual_px**2 * min(1.0, 4 / max(motion.inliers, 1))


def _bidirectional(cost: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """Score each pair `(K,)`: 1 where it is the best of both its sides, else how near its cost comes to their best."""
    own = cost[rows, columns]
    best = np.minimum(cost[rows].min(axis=1), cost[:, columns].min(axis=0))
    return np.asarray((best + 1e-9) / (own + 1e-9))
