"""Objects that pass in front of each other: what the hidden one did before, it goes on doing.

As an object slips behind another the centroid of what still shows of it stands still or turns back, and the filter
follows: it is the velocity of that part that is reported. Once nothing shows, the object is where its free flight
leads.
"""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import BoolArray, EgoMotion, Expectations, FloatArray, IntArray, Segments
from sparsematch_ros.kinematics import apply_homography, box_intersection, transitions
from sparsematch_ros.tracking.table import TrackTable

# What is smaller than this share of an object changes little of it.
_NOTABLE_SHARE = 0.1
# A younger object's velocity is not settled yet.
_SETTLED_AGE = 4
# SAM's masks grow by less than this share by themselves.
_MORE_RATIO = 1.12
# What holds this share of another's box reaches over it.
_COVERED_SHARE = 0.3


def are_crowded(expectations: Expectations) -> BoolArray:
    """Say which objects' expected boxes meet that of another notable one, `(T,)`."""
    boxes = expectations.boxes_xywh_px
    return np.asarray(((box_intersection(boxes, boxes) > 0) & _notable(expectations)).any(axis=1))


def _notable(expectations: Expectations) -> BoolArray:
    """Say which objects (column) are large enough and believed in, so that they matter to which others (row)."""
    areas = expectations.areas_px
    notable = areas[None] > _NOTABLE_SHARE * areas[:, None]
    notable &= expectations.resolved & expectations.believed
    np.fill_diagonal(notable, False)
    return np.asarray(notable)


def with_free_flight(
    before: TrackTable, table: TrackTable, assigned: IntArray, segments: Segments, crowded: BoolArray,
    motion: EgoMotion, longest_s: float,
) -> TrackTable:  # fmt: skip
    """Let hidden objects go on in free flight, and learn that of the others.

    Args:
        before: T objects after the previous frame.
        table: the same after this frame's measurements.
        assigned: `(T,)` segment of each, -1 for none.
        segments: N segments of this frame.
        crowded: `(T,)` of `are_crowded`.
        motion: the background's motion.
        longest_s: how long free flight is believed after the last open view [s].

    """
    free, areas = _flown_on(before.free_states, motion), before.free_areas_px.copy()
    crowded_s = before.crowded_s + motion.dt_s
    settled = (assigned >= 0) & ~crowded & (table.ages >= _SETTLED_AGE)
    free[settled], crowded_s[settled] = table.states[settled], 0.0
    areas[settled] = segments.areas_px[assigned[settled]]
    stale = crowded_s > longest_s
    free[stale], areas[stale] = np.nan, np.nan
    hidden = (assigned < 0) & crowded & np.isfinite(free[:, 0])
    states = np.where(hidden[:, None], free, table.states)
    return table.with_columns(
        states=states,
        free_states=free,
        free_areas_px=areas,
        crowded_s=crowded_s,
    )


def are_more(table: TrackTable, expectations: Expectations, segments: Segments) -> BoolArray:
    """Say which segments are more than which object, `(T, N)`: larger than it was, and they reach over a notable other.

    Args:
        table: T objects after the previous frame.
        expectations: the same, predicted into this one.
        segments: N segments.

    """
    larger = segments.areas_px[None] > _MORE_RATIO * table.free_areas_px[:, None]
    larger[:, segments.mask_count :] = False
    boxes = expectations.boxes_xywh_px
    covered = box_intersection(boxes, segments.boxes_xywh_px) > _COVERED_SHARE * boxes[:, 2:].prod(axis=1)[:, None]
    return np.asarray(larger & (_notable(expectations).astype(np.int64) @ covered.astype(np.int64) > 0))


def _flown_on(states: FloatArray, motion: EgoMotion) -> FloatArray:
    """Carry states `(T, 4)` into the next frame; NaN stays NaN."""
    moved = apply_homography(motion.homography, states[:, :2] + motion.dt_s * states[:, 2:])
    turned = transitions(states, motion.homography, motion.dt_s)[:, 2:, 2:]
    return np.concatenate([moved, np.einsum("nij,nj->ni", turned, states[:, 2:])], axis=1)
