"""Tracked parts of one body: they show beside a larger object, and go where it goes."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from sparsematch_ros.data import BoolArray
from sparsematch_ros.geometry import box_intersection, mahalanobis2
from sparsematch_ros.tracking.models import MOVING
from sparsematch_ros.tracking.table import TrackTable

# A part is smaller than this share of the whole, and within this share of its longer side from it.
_AREA_SHARE, _GAP_SHARE = 0.5, 0.25
# It is a part for good where this share of its box lies in that of the whole, and both velocities are known to this
# share of the speed.
_INSIDE_SHARE, _KNOWN_SHARE = 0.7, 0.2
# A body turns this fast at most, which moves its ends [rad/s].
_TURN_RAD_S = 0.1
# One part in a hundred is taken for an object of its own.
_LIMIT = float(chi2.isf(0.01, 2))


def find_fragments(table: TrackTable) -> tuple[BoolArray, BoolArray]:
    """Find the objects that keep beside a larger one and move with it.

    Returns:
        Which objects `(T,)` may be such parts, and which surely are.

    """
    low, extent = table.boxes_xywh_px[:, :2], table.boxes_xywh_px[:, 2:]
    high = low + extent
    gaps = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(min=0).max(axis=2)
    states, covariances = table.bank.mean(MOVING)
    distances = np.linalg.norm(states[:, None, :2] - states[None, :, :2], axis=2)
    spread = covariances[:, None, 2:, 2:] + covariances[None, :, 2:, 2:]
    spread = spread + ((_TURN_RAD_S / 2 * distances) ** 2)[..., None, None] * np.eye(2) + 1e-9 * np.eye(2)
    together = mahalanobis2(states[:, None, 2:] - states[None, :, 2:], spread) < _LIMIT
    smaller = table.areas_px[:, None] < _AREA_SHARE * table.areas_px[None]
    reach = _GAP_SHARE * np.maximum(extent.max(axis=1)[:, None], extent.max(axis=1)[None])
    # A glint slides over the body on which it is, so inside of one a point source is a part however it moves.
    inside = table.point_source[:, None] & (gaps == 0)
    part = (gaps < reach) & (together | inside) & ~table.point_source[None] & smaller
    speeds = np.linalg.norm(states[:, 2:], axis=1)
    known = np.trace(spread, axis1=2, axis2=3) < (_KNOWN_SHARE * speeds[:, None]) ** 2
    within = box_intersection(table.boxes_xywh_px, table.boxes_xywh_px) > _INSIDE_SHARE * extent.prod(axis=1)[:, None]
    seen = table.segment_rows >= 0
    return part.any(axis=1), (part & together & known & within & seen[None]).any(axis=1)
