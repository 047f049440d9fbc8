"""What a frame's segments say of where objects are and how they moved."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import EgoMotion, FloatArray, IntArray, Matches, Segments
from sparsematch_ros.kinematics import acceleration_noise, apply_homography, touches_border, transitions
from sparsematch_ros.matching.segments import background_variance_px2
from sparsematch_ros.tracking.kalman import innovations, mahalanobis2, update, update_by_displacement
from sparsematch_ros.tracking.table import TrackTable

# Centroid's standard deviation for a change of the mask's size, both in pixels.
_SHAPE_SIGMA = 0.5
# Weight of a new frame in the surprises, and the most that one frame may say.
_SMOOTHING = 0.1
# A point source that leaps, from star to star, says more at once.
_LEAP_SMOOTHING = 0.3
_MOST_SURPRISE = 20.0
# The centroid of what the border leaves of an object turns and slows like this.
_CUT_ACCELERATION_PX_S2 = 20.0
# A newborn's velocity is unknown: until this age its innovations say nothing of the filter.
_SETTLED_AGE = 2


def measured(
    before: TrackTable, predicted: TrackTable, assigned: IntArray, segments: Segments, matches: Matches,
    motion: EgoMotion,
) -> TrackTable:  # fmt: skip
    """Correct the states of the objects that were seen, and learn how well their innovations were foretold.

    Args:
        before: T objects after the previous frame.
        predicted: the same, predicted into this one.
        assigned: `(T,)` segment of each, -1 for none.
        segments: N segments of this frame.
        matches: pairs with the previous frame's segments.
        motion: the background's motion.

    """
    states, surprises = predicted.states.copy(), predicted.surprises.copy()
    cut = touches_border(predicted.boxes_xywh_px, segments.masks.shape[1:]) & ~predicted.point_source
    # What the border leaves of an object moves by its own law.
    freedom = acceleration_noise(motion.dt_s, _CUT_ACCELERATION_PX_S2)
    covariances = predicted.covariances + cut[:, None, None] * freedom
    moved, pairs = _registered(before.segment_rows, assigned, matches)
    told = np.full(len(predicted), np.nan)
    if len(moved):
        innovation, spread, cross = _displacement_innovation(
            before, predicted.with_columns(covariances=covariances), moved, matches, pairs, motion
        )
        told[moved] = mahalanobis2(innovation, spread) / 2
        states[moved], covariances[moved] = update_by_displacement(
            states[moved], covariances[moved], cross, innovation, spread
        )
    seen = np.flatnonzero(assigned >= 0)
    places = segments.centroids_px[assigned[seen]]
    variances = _centroid_variances(predicted, seen, assigned[seen], segments, motion)
    by_place = mahalanobis2(*innovations(states[seen], covariances[seen], places, variances)) / 2
    # Masks err alike from frame to frame: that their centroids come as foretold is no proof of a good velocity.
    least = np.where(assigned[seen] < segments.mask_count, 1.0, 0.0)
    told[seen] = np.where(np.isnan(told[seen]), np.maximum(by_place, least), told[seen])
    states[seen], covariances[seen] = update(states[seen], covariances[seen], places, variances)
    learnt = ~np.isnan(told) & (predicted.ages > _SETTLED_AGE) & ~cut
    weight = np.where(predicted.point_source & (told > surprises), _LEAP_SMOOTHING, _SMOOTHING)[learnt]
    surprises[learnt] += weight * (np.minimum(told[learnt], _MOST_SURPRISE) - surprises[learnt])
    return predicted.with_columns(states=states, covariances=covariances, surprises=surprises)


def _registered(segment_rows: IntArray, assigned: IntArray, matches: Matches) -> tuple[IntArray, IntArray]:
    """Give the objects that followed a match whose displacement is registered, and the rows of these matches."""
    rows = np.flatnonzero(matches.registered)
    last = max(matches.previous.max(initial=-1), segment_rows.max(initial=-1))
    match_of = np.full(last + 2, -1, dtype=np.int64)  # The entry of -1, an object without a segment, stays -1.
    match_of[matches.previous[rows]] = rows
    found = match_of[segment_rows]
    followed = (found >= 0) & (assigned >= 0)
    followed[followed] = matches.current[found[followed]] == assigned[followed]
    objects = np.flatnonzero(followed)
    return objects, found[objects]


def _displacement_innovation(
    before: TrackTable, predicted: TrackTable, moved: IntArray, matches: Matches, pairs: IntArray, motion: EgoMotion
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give innovation `(K, 2)`, its covariance `(K, 2, 2)` and that of the new states with the old places `(K, 4, 2)`.

    The background's own error is part of the match's covariance.
    """
    transition = transitions(before.states[moved], motion.homography, motion.dt_s)
    carried = transition[:, :2, :2].transpose(0, 2, 1)
    cross = transition @ before.covariances[moved][:, :, :2] @ carried
    old = transition[:, :2, :2] @ before.covariances[moved][:, :2, :2] @ carried
    new = predicted.covariances[moved][:, :2, :2]
    noise = matches.velocity_covariance[pairs] * motion.dt_s**2
    spread = new - cross[:, :2] - cross[:, :2].transpose(0, 2, 1) + old + noise
    places = apply_homography(motion.homography, before.states[moved, :2])
    expected = predicted.states[moved, :2] - places
    return matches.displacement_px[pairs] - expected, spread, cross


def _centroid_variances(
    predicted: TrackTable, seen: IntArray, rows: IntArray, segments: Segments, motion: EgoMotion
) -> FloatArray:
    """Give the variance an axis `(K,)` of the centroids: of the mask, of the background, and of what has changed.

    A mask that has grown or shrunk by a part has moved its centroid by a share of that.
    """
    changed = np.abs(np.sqrt(segments.areas_px[rows]) - np.sqrt(predicted.areas_px[seen]))
    changed = np.where(rows < segments.mask_count, changed, 0.0) * ~predicted.point_source[seen]
    variances = segments.centroid_sigma_px[rows] ** 2 + (_SHAPE_SIGMA * changed) ** 2
    return np.asarray(variances + background_variance_px2(motion))
