"""Tracked parts of one body: they show beside a larger object, and go where it goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2

from sparsematch_ros.data import BoolArray, FloatArray, IntArray
from sparsematch_ros.geometry import box_intersection, mahalanobis2
from sparsematch_ros.tracking.models import MOVING
from sparsematch_ros.tracking.table import TrackTable

# A part is smaller than this share of the whole, and within this share of its longer side from it.
_AREA_SHARE, _GAP_SHARE = 0.5, 0.25
# It is a part for good where this share of its box lies in that of the whole, and both velocities are known to this
# share of the speed.
_INSIDE_SHARE, _KNOWN_SHARE = 0.7, 0.3
# A body turns this fast, which moves its ends: usually, and at most [rad/s].
TURN_RAD_S, _MOST_TURN_RAD_S = 0.1, 0.2
# One part in a hundred is taken for an object of its own.
_LIMIT = float(chi2.isf(0.01, 2))


def find_fragments(table: TrackTable) -> tuple[BoolArray, BoolArray]:
    """Find the objects that keep beside a larger one and move with it.

    Returns:
        Which objects `(T,)` may be such parts, and which surely are.

    """
    part, whole = _neighbours(table)
    seen, points = table.segment_rows >= 0, table.point_source
    # What is not seen where a whole is seen need not be much smaller than that.
    smaller = table.areas_px[part] < np.where(seen[part], _AREA_SHARE, 1.0) * table.areas_px[whole]
    part, whole = (rows[smaller & ~points[whole]] for rows in (part, whole))
    # A glint slides over the body on which it is, so inside of one a point source is a part however it moves.
    inside = points[part] & (_gaps(table)[part, whole] == 0)
    relative = _Relative.of(table, part, whole)
    beside = relative.together(TURN_RAD_S) | inside
    common = box_intersection(table.boxes_xywh_px, table.boxes_xywh_px)[part, whole]
    within = common > _INSIDE_SHARE * table.boxes_xywh_px[part, 2:].prod(axis=1)
    maybe, surely = (np.zeros(len(table), dtype=bool) for _ in range(2))
    maybe[part[beside]] = True
    surely[part[relative.surely_together() & within & seen[whole]]] = True
    return maybe, surely


def find_bodies(table: TrackTable) -> IntArray:
    """Number the objects `(T,)` so that those which lie side by side and surely move as one have one number."""
    first, second = _neighbours(table)
    real = ~table.point_source & (table.log_odds > 0)
    first, second = (rows[real[first] & real[second] & (first < second)] for rows in (first, second))
    surely = _Relative.of(table, first, second).surely_together()
    links = np.zeros((len(table), len(table)), dtype=bool)
    links[first[surely], second[surely]] = True
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _neighbours(table: TrackTable) -> tuple[IntArray, IntArray]:
    """Find the pairs `(P,)` of different objects that lie side by side."""
    longest = table.boxes_xywh_px[:, 2:].max(axis=1, initial=0.0)
    near = _gaps(table) < _GAP_SHARE * np.maximum(longest[:, None], longest[None])
    np.fill_diagonal(near, False)
    first, second = np.nonzero(near)
    return first, second


def _gaps(table: TrackTable) -> FloatArray:
    """Compute the gaps `(T, T)` [px] between the objects' boxes."""
    low, extent = table.boxes_xywh_px[:, :2], table.boxes_xywh_px[:, 2:]
    high = low + extent
    return np.asarray(np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(min=0).max(axis=2))


@dataclass(frozen=True, eq=False)
class _Relative:
    """Relative motion of P pairs of objects.

    Attributes:
        distances_px: `(P,)` between their centroids.
        velocities_px_s: `(P, 2)` of the first against the second.
        covariances: `(P, 2, 2)` of these [px^2/s^2].
        speeds_px_s: `(P,)` of the slower of the two.

    """

    distances_px: FloatArray
    velocities_px_s: FloatArray
    covariances: FloatArray
    speeds_px_s: FloatArray

    @classmethod
    def of(cls, table: TrackTable, first: IntArray, second: IntArray) -> _Relative:
        """Measure the pairs `(P,)` of rows of a table."""
        if len(first) == 0:  # In most frames.
            return cls(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0))
        states, covariances = table.bank.mean(MOVING)
        apart = states[first] - states[second]
        speeds = np.linalg.norm(states[:, 2:], axis=1)
        return cls(
            np.linalg.norm(apart[:, :2], axis=1),
            apart[:, 2:],
            covariances[first, 2:, 2:] + covariances[second, 2:, 2:],
            np.minimum(speeds[first], speeds[second]),
        )

    def together(self, turn_rad_s: float) -> BoolArray:
        """Test which pairs `(P,)` may be of one body that turns so fast."""
        return np.asarray(mahalanobis2(self.velocities_px_s, self._spread(turn_rad_s)) < _LIMIT)

    def surely_together(self) -> BoolArray:
        """Test which pairs `(P,)` may be of one body, however it turns, and move by much more than the error."""
        error2 = np.trace(self._spread(_MOST_TURN_RAD_S), axis1=1, axis2=2)
        return np.asarray(self.together(_MOST_TURN_RAD_S) & (error2 < (_KNOWN_SHARE * self.speeds_px_s) ** 2))

    def _spread(self, turn_rad_s: float) -> FloatArray:
        turn = (turn_rad_s / 2 * self.distances_px) ** 2 + 1e-9
        return self.covariances + turn[:, None, None] * np.eye(2)
