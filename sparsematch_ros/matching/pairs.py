"""Segments of two consecutive frames that one object had, with the velocity between them."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.background.layers import Background
from sparsematch_ros.data import FloatArray, IntArray, Matches, TrackPredictions
from sparsematch_ros.segmentation.segments import Segments


def no_matches() -> Matches:
    """Make the matches of a frame without a predecessor."""
    none, pair = np.zeros(0), np.zeros((0, 2))
    index = np.zeros(0, dtype=np.int64)
    return Matches(index, index, none, none, pair, pair, np.zeros((0, 2, 2)))


def pair_matches(
    previous: Segments | None,
    current: Segments,
    predictions: TrackPredictions,
    assigned: IntArray,
    cosines: FloatArray,
    background: Background,
) -> Matches:
    """Read the matches off the association, and measure their displacements against the background.

    Args:
        previous: P segments of the frame before, or None.
        current: C segments of this frame.
        predictions: T objects with their rows among the previous segments.
        assigned: `(T,)` their rows among the current ones, -1 for none.
        cosines: `(T, C)` of the descriptors; NaN where unknown.
        background: the motion between the frames.

    """
    both = np.flatnonzero((predictions.segment_rows >= 0) & (assigned >= 0))
    if previous is None or len(both) == 0 or background.dt_s <= 0:
        return no_matches()
    rows, columns = predictions.segment_rows[both], assigned[both]
    moved, errors = previous.centroids_px[rows], np.zeros((len(rows), 2, 2))
    if background.reference is not None:
        transport = background.reference.transport(moved)
        moved, errors = transport.points_px, transport.covariances_px2
    displacement = current.centroids_px[columns] - moved
    spread = previous.covariances_px2[rows] + current.covariances_px2[columns] + errors
    return Matches(
        previous=rows,
        current=columns,
        cosine=cosines[both, columns],
        bidirectional=_bidirectional(cosines, both, columns),
        displacement_px=displacement,
        velocity_px_s=displacement / background.dt_s,
        velocity_covariance=spread / background.dt_s**2,
    )


def _bidirectional(cosines: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """Score each pair `(K,)` by its cosine over the best that either side has; 1 where it is the best of both."""
    known = np.nan_to_num(cosines, nan=0.0)
    best = np.maximum(known[rows].max(axis=1), known[:, columns].max(axis=0))
    return np.where(best > 0, np.clip(known[rows, columns] / np.maximum(best, 1e-9), 0.0, 1.0), 1.0)
