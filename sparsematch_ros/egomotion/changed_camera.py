"""The background's motion between two frames whose intrinsics differ: a zoom, another region, another calibration."""

from __future__ import annotations

import cv2
import numpy as np

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import EgoMotion, FloatArray, Frame
from sparsematch_ros.egomotion.features import fit_background, follow_corners
from sparsematch_ros.egomotion.star_motion import Stars
from sparsematch_ros.egomotion.stars import pair_stars
from sparsematch_ros.egomotion.uncertainty import fit_covariance
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky

# A similarity that fewer of the paired stars follow is an accident.
_CONSISTENT_SHARE = 0.5


def motion_across_cameras(
    previous: Frame, current: Frame, skies: tuple[Sky, Sky], last: EgoMotion | None, config: EgoMotionConfig
) -> EgoMotion:
    """Find the motion between frames of the same size but of two cameras.

    It comes from pixels alone. No rotation is right in both cameras at once, and whether the optics have changed or
    only what is known of them cannot be told from the intrinsics; these say no more than where to look first.

    Args:
        previous: the frame before, with intrinsics.
        current: this frame, with others.
        skies: the surveys of both, in this order.
        last: the motion one frame earlier.
        config: thresholds.

    Returns:
        A similarity of the stars under a dark sky, else a homography of the texture, without dense motion; not valid
        where too little agrees.

    """
    dt_s = (current.stamp_ns - previous.stamp_ns) / 1e9
    if previous.camera is None or current.camera is None:
        return EgoMotion(dt_s=dt_s)
    expected = _change(previous.camera, current.camera) @ (np.eye(3) if last is None else last.homography)
    if skies[1].dark:
        before, after = (Stars.of(sky, config.max_stars).points_px for sky in skies)
        method, fit = "stars", _similarity(before, after, expected, config)
    else:
        before, after = follow_corners(previous.gray, current.gray, expected, config)
        found = fit_background(before, after, config)
        method, fit = "features", None if found is None else (found[0], before[found[1]], after[found[1]])
    return EgoMotion(dt_s=dt_s) if fit is None else _motion(method, *fit, dt_s)


def _change(before: CameraModel, after: CameraModel) -> FloatArray:
    """Give where a camera at rest would put the pixels of the other, distortion left aside."""
    return np.asarray(after.matrix @ np.linalg.inv(before.matrix))


def _similarity(
    before: FloatArray, after: FloatArray, expected: FloatArray, config: EgoMotionConfig
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Give the similarity `(3, 3)` of paired stars and the pairs `(K, 2)` that agree with it, or None."""
    if min(len(before), len(after)) < config.min_inliers:
        return None
    rows, columns = pair_stars(before, after, expected, config)
    if len(rows) < config.min_inliers:
        return None
    similarity, agree = cv2.estimateAffinePartial2D(
        before[rows], after[columns], method=cv2.RANSAC, ransacReprojThreshold=config.ransac_threshold_px
    )
    inliers = np.flatnonzero(agree)
    if similarity is None or len(inliers) < max(config.min_inliers, _CONSISTENT_SHARE * len(rows)):
        return None
    return np.vstack([similarity, [0.0, 0.0, 1.0]]), before[rows[inliers]], after[columns[inliers]]


def _motion(method: str, homography: FloatArray, before: FloatArray, after: FloatArray, dt_s: float) -> EgoMotion:
    covariance = fit_covariance(homography, before, after)
    if covariance is None:
        return EgoMotion(dt_s=dt_s)
    residual = apply_homography(homography, before) - after
    return EgoMotion(
        homography, method, True, dt_s, len(before), float(np.sqrt(np.mean(residual**2))), covariance=covariance
    )
