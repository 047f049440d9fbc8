"""Parts of an object that a shadow has cut off: they show beside it, and go where it goes.

A stage's nozzle behind a dark ring, or a panel behind a boom in the shade, is a bright region of its own. It is no
object while it keeps beside one that is much larger and moves with it.
"""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import BoolArray
from sparsematch_ros.tracking.table import TrackTable

# A part is smaller than this share of the whole, and within this share of its longer side.
_PART_SHARE = 0.35
_GAP_SHARE = 0.15
# It moves with the whole to this [px/s], and as fast as a turning body moves its ends [rad/s].
_SAME_SPEED_PX_S = 1.0
_TURN_RAD_S = 0.04


def are_companions(table: TrackTable) -> BoolArray:
    """Say which objects `(T,)` keep beside one that is much larger, and move with it."""
    low, extent = table.boxes_xywh_px[:, :2], table.boxes_xywh_px[:, 2:]
    high = low + extent
    gaps = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(min=0).max(axis=2)
    distances = np.linalg.norm(table.states[:, None, :2] - table.states[None, :, :2], axis=2)
    speeds = np.linalg.norm(table.states[:, None, 2:] - table.states[None, :, 2:], axis=2)
    beside = gaps < _GAP_SHARE * extent.max(axis=1)[None]
    smaller = table.areas_px[:, None] < _PART_SHARE * table.areas_px[None]
    along = speeds < _SAME_SPEED_PX_S + _TURN_RAD_S * distances
    return np.asarray((beside & smaller & along & ~table.point_source[None]).any(axis=1))
