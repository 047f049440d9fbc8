"""Stars of two frames, paired."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import FloatArray, IntArray
from sparsematch_ros.geometry import apply_homography

_VOTE_CELL_PX = 4.0
# Rolls that are tried: a step of 1.5 deg leaves the corners of a 640x480 image within two cells.
_ROLLS_DEG = (0.0, 1.5, -1.5, 3.0, -3.0, 4.5, -4.5, 6.0, -6.0)
# This share of the stars in one cell leaves no doubt.
_CLEAR_VOTE = 0.6


def pair_stars(
    previous_px: FloatArray, current_px: FloatArray, expected: FloatArray, config: BackgroundConfig
) -> tuple[IntArray, IntArray]:
    """Pair the stars of two frames.

    For each of a few rolls about the stars' middle, all differences within the search radius vote for a shift beyond
    the expected motion; the winner, which true pairs share and false ones do not, is refined by nearest neighbours.

    Args:
        previous_px: `(P, 2)` in the previous frame.
        current_px: `(C, 2)` in this frame.
        expected: `(3, 3)` homography expected from the past.
        config: radius and thresholds.

    Returns:
        Rows of `previous_px` and of `current_px`, `(K,)` each.

    """
    expected_px = apply_homography(expected, previous_px)
    tree = cKDTree(current_px)
    best, most = expected_px, 0
    for roll_deg in _ROLLS_DEG:
        moved = _rolled(expected_px, roll_deg)
        shift, votes = _voted_shift(moved, tree, config.star_search_px)
        if votes > most:
            best, most = moved + shift, votes
        if most > _CLEAR_VOTE * min(len(previous_px), len(current_px)):
            break
    return _nearest(best, tree, 2 * _VOTE_CELL_PX)


def _rolled(points_px: FloatArray, roll_deg: float) -> FloatArray:
    """Turn points `(P, 2)` about their middle."""
    cosine, sine = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    middle = points_px.mean(axis=0)
    return np.asarray((points_px - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle)


def pair_again(expected_px: FloatArray, current_px: FloatArray) -> tuple[IntArray, IntArray]:
    """Pair the stars of two frames by a first fit, which follows a roll and perspective where one shift cannot.

    Args:
        expected_px: `(P, 2)` where the fit expects the stars of the previous frame.
        current_px: `(C, 2)` in this frame.

    Returns:
        Rows of both, `(K,)` each.

    """
    return _nearest(expected_px, cKDTree(current_px), _VOTE_CELL_PX)


def _nearest(expected_px: FloatArray, tree: cKDTree, reach_px: float) -> tuple[IntArray, IntArray]:
    distance, current = tree.query(expected_px, distance_upper_bound=reach_px)
    found = np.isfinite(distance)
    return np.flatnonzero(found), current[found].astype(np.int64)


def _voted_shift(moved_px: FloatArray, tree: cKDTree, reach_px: float) -> tuple[FloatArray, int]:
    """Compute the median of the differences around their densest place, and how many those are."""
    near = cKDTree(moved_px).sparse_distance_matrix(tree, reach_px, output_type="coo_matrix")
    if near.nnz == 0:
        return np.zeros(2), 0
    differences = tree.data[near.col] - moved_px[near.row]
    counts = cKDTree(differences).query_ball_point(differences, _VOTE_CELL_PX, return_length=True)
    centre = differences[int(np.argmax(counts))]
    members = np.linalg.norm(differences - centre, axis=1) <= _VOTE_CELL_PX
    return np.asarray(np.median(differences[members], axis=0)), int(members.sum())
