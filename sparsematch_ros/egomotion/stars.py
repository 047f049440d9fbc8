"""The camera's motion from stars: point sources of two frames, paired and fitted robustly."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import FloatArray, IntArray
from sparsematch_ros.egomotion.rotation import rotation_homography
from sparsematch_ros.kinematics import apply_homography

_VOTE_CELL_PX = 4.0
# Rolls that are tried: a step of 1.5 deg leaves the corners of a 640x480 image within two cells.
_ROLLS_DEG = (0.0, 1.5, -1.5, 3.0, -3.0, 4.5, -4.5, 6.0, -6.0)
# This share of the stars in one cell leaves no doubt.
_CLEAR_VOTE = 0.6


def pair_stars(
    previous_px: FloatArray, current_px: FloatArray, expected: FloatArray, config: EgoMotionConfig
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


def pair_again(previous_px: FloatArray, current_px: FloatArray, homography: FloatArray) -> tuple[IntArray, IntArray]:
    """Pair the stars of two frames by a first fit, which follows a roll where one voted shift cannot.

    Returns:
        Rows of `previous_px` `(P, 2)` and of `current_px` `(C, 2)`, `(K,)` each.

    """
    return _nearest(apply_homography(homography, previous_px), cKDTree(current_px), _VOTE_CELL_PX)


def _nearest(expected_px: FloatArray, tree: cKDTree, reach_px: float) -> tuple[IntArray, IntArray]:
    distance, current = tree.query(expected_px, distance_upper_bound=reach_px)
    found = np.isfinite(distance)
    return np.flatnonzero(found), current[found].astype(np.int64)


def _voted_shift(moved_px: FloatArray, tree: cKDTree, reach_px: float) -> tuple[FloatArray, int]:
    """Give the median of the differences around their densest place, and how many those are."""
    near = cKDTree(moved_px).sparse_distance_matrix(tree, reach_px, output_type="coo_matrix")
    if near.nnz == 0:
        return np.zeros(2), 0
    differences = tree.data[near.col] - moved_px[near.row]
    counts = cKDTree(differences).query_ball_point(differences, _VOTE_CELL_PX, return_length=True)
    centre = differences[int(np.argmax(counts))]
    members = np.linalg.norm(differences - centre, axis=1) <= _VOTE_CELL_PX
    return np.asarray(np.median(differences[members], axis=0)), int(members.sum())


def fit_stars(
    previous_px: FloatArray,
    current_px: FloatArray,
    variances_px2: FloatArray,
    camera: CameraModel | None,
    config: EgoMotionConfig,
) -> tuple[FloatArray, IntArray] | None:
    """Fit the background's homography to paired stars: a rotation with intrinsics, else a similarity.

    Args:
        previous_px: `(K, 2)` in the previous frame.
        current_px: `(K, 2)` in this frame.
        variances_px2: `(K,)` variance an axis of each pair's difference; a rotation weighs by it.
        camera: intrinsics, or None.
        config: thresholds.

    Returns:
        The homography `(3, 3)` and the rows that agree, or None where too few do.

    """
    if len(previous_px) < config.min_inliers:
        return None
    similarity, agree = cv2.estimateAffinePartial2D(
        previous_px, current_px, method=cv2.RANSAC, ransacReprojThreshold=2 * config.ransac_threshold_px
    )
    if similarity is None:
        return None
    inliers = np.flatnonzero(agree.ravel())
    homography = np.vstack([similarity, [0.0, 0.0, 1.0]])
    for _ in range(3):
        if len(inliers) < config.min_inliers:
            return None
        if camera is not None:
            homography = _fit_rotation(previous_px[inliers], current_px[inliers], variances_px2[inliers], camera)
        residual = np.linalg.norm(apply_homography(homography, previous_px) - current_px, axis=1)
        inliers = np.flatnonzero(residual <= config.ransac_threshold_px)
    return (homography, inliers) if len(inliers) >= config.min_inliers else None


def _fit_rotation(
    previous_px: FloatArray, current_px: FloatArray, variances_px2: FloatArray, camera: CameraModel
) -> FloatArray:
    """Fit the rotation between the two views (Kabsch 1976, as in scipy's align_vectors)."""
    bearings = camera.bearings(current_px), camera.bearings(previous_px)
    rotation, _ = Rotation.align_vectors(*bearings, weights=1 / variances_px2)
    return rotation_homography(camera, rotation)
