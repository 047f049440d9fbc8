"""Point sources that are worth a segment: those that do not rest among the stars."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, Expectations, FloatArray, IntArray
from sparsematch_ros.sky import Sky

# A source within this and so many standard deviations of a resting one is that one.
_SAME_STAR_PX = 0.4
_SAME_STAR_SIGMA = 3.0
# Nearer to the border than this a point spread is cut.
_BORDER_PX = 3
# A tracked object claims the sources within this many standard deviations of where it is expected, and this far.
_CLAIM_SIGMA = 4.0
_CLAIM_LIMIT_PX = 8.0
_WIDENED = 1.5


def select_point_sources(
    sky: Sky, expectations: Expectations, size: tuple[int, int], config: SegmentationConfig
) -> IntArray:
    """Choose the rows of `sky.points_px` that become segments.

    A source is left out where a resting source (a star, a hot pixel of a still camera) is known at its place, unless
    that is new and a tracked object is expected there. Before anything is known to rest, all are only remembered.

    Returns:
        `(K,)` int64 rows.

    """
    if not config.point_sources or len(sky.points_px) == 0 or expectations.resting_px is None:
        return np.zeros(0, dtype=np.int64)
    # What is no bright region is no larger than a point source, but the filter has widened it.
    compact = sky.extents_px <= _WIDENED * config.point_source_max_px
    small = compact & (sky.snr >= config.point_source_snr)
    reach = _SAME_STAR_PX + _SAME_STAR_SIGMA * sky.sigmas_px
    resting = _distance(sky.points_px, expectations.resting_px) <= reach
    fixed = _distance(sky.points_px, expectations.fixed_px) <= reach
    variance = expectations.covariances[:, [0, 1], [0, 1]].max(axis=1, initial=0.0)
    reach = np.minimum(_CLAIM_SIGMA * np.sqrt(variance) + 1.0, _CLAIM_LIMIT_PX)
    claimed = _near(sky.points_px, expectations.states[:, :2], reach)
    small |= claimed & compact  # A known object may fade below the threshold.
    whole = ((sky.points_px >= _BORDER_PX) & (sky.points_px <= np.array(size)[::-1] - 1 - _BORDER_PX)).all(axis=1)
    return np.flatnonzero(small & whole & (~resting | (claimed & ~fixed)))


def _distance(points: FloatArray, places: FloatArray) -> FloatArray:
    """Give each point's distance `(P,)` to the nearest place; infinite where there is none."""
    if len(places) == 0:
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(places).query(points)[0])


def _near(points: FloatArray, places: FloatArray, reach_px: FloatArray) -> BoolArray:
    """Say which points `(P, 2)` lie within reach `(Q,)` of any place `(Q, 2)`."""
    hit = np.zeros(len(points), dtype=bool)
    if len(points) and len(places):
        for rows in cKDTree(points).query_ball_point(places, reach_px):
            hit[rows] = True
    return hit
