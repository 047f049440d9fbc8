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


def pair_stars(
    previous_px: FloatArray, current_px: FloatArray, expected: FloatArray, config: EgoMotionConfig
) -> tuple[IntArray, IntArray]:
    """Pair the stars of two frames.

    All differences within the search radius vote for a shift beyond the expected motion; the winner, which true pairs
    share and false ones do not, is refined by nearest neighbours.

    Args:
        previous_px: `(P, 2)` in the previous frame.
        current_px: `(C, 2)` in this frame.
        expected: `(3, 3)` homography expected from the past.
        config: radius and thresholds.

    Returns:
        Rows of `previous_px` and of `current_px`, `(K,)` each.

    """
    moved = apply_homography(expected, previous_px)
    tree = cKDTree(current_px)
    near = cKDTree(moved).sparse_distance_matrix(tree, config.star_search_px, output_type="coo_matrix")
    if near.nnz == 0:
        none = np.zeros(0, dtype=np.int64)
        return none, none
    shift = _voted_shift(current_px[near.col] - moved[near.row])
    return _nearest(moved + shift, tree, 2 * _VOTE_CELL_PX)


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


def _voted_shift(differences: FloatArray) -> FloatArray:
    """Give the median of the differences around their densest place."""
    counts = cKDTree(differences).query_ball_point(differences, _VOTE_CELL_PX, return_length=True)
    centre = differences[int(np.argmax(counts))]
    members = np.linalg.norm(differences - centre, axis=1) <= _VOTE_CELL_PX
    return np.asarray(np.median(differences[members], axis=0))


def fit_stars(
    previous_px: FloatArray, current_px: FloatArray, camera: CameraModel | None, config: EgoMotionConfig
) -> tuple[FloatArray, IntArray] | None:
    """Fit the background's homography to paired stars `(K, 2)`: a rotation with intrinsics, else a similarity.

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
            homography = _fit_rotation(previous_px[inliers], current_px[inliers], camera)
        residual = np.linalg.norm(apply_homography(homography, previous_px) - current_px, axis=1)
        inliers = np.flatnonzero(residual <= config.ransac_threshold_px)
    return (homography, inliers) if len(inliers) >= config.min_inliers else None


def _fit_rotation(previous_px: FloatArray, current_px: FloatArray, camera: CameraModel) -> FloatArray:
    """Fit the rotation between the two views (Kabsch 1976, as in scipy's align_vectors)."""
    rotation, _ = Rotation.align_vectors(camera.bearings(current_px), camera.bearings(previous_px))
    return rotation_homography(camera, rotation)
