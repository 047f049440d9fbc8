"""Attitude telemetry held against the stars, one against the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import EgoMotion
from sparsematch_ros.egomotion.star_motion import Stars
from sparsematch_ros.kinematics import apply_homography

# Of a million frames on which both are right one is told to disagree.
_FALSE_ALARM_RATE = 1e-6
_LIMIT = float(chi2.isf(_FALSE_ALARM_RATE, 3))
# Stars are many from here on, and consistent where this share of those that could be paired agrees.
_MANY_STARS = 15
_CONSISTENT_SHARE = 0.5


def check_telemetry(
    told: EgoMotion, shown: EgoMotion, stars: tuple[Stars, Stars], size: tuple[int, int], config: EgoMotionConfig
) -> EgoMotion:
    """Hold the turn that telemetry tells against the one that the stars show.

    Where they differ beyond their covariances, many consistent stars are believed: they are what the velocities are
    against. Else telemetry is. Only the turn from one frame to the next is compared; an attitude that is wrong by a
    constant does no harm here.

    Args:
        told: the motion by telemetry.
        shown: the motion by stars; not valid where they gave none.
        stars: those of the previous frame and of this one.
        size: height and width of the image [px].
        config: thresholds.

    Returns:
        The motion to believe, with `disagreement_rad`, and with `problem` where they differ.

    """
    apart = _apart(told, shown)
    if apart is None:
        return told
    angle_rad, distance2 = apart
    if distance2 <= _LIMIT:
        return replace(told, disagreement_rad=angle_rad)
    believed = shown if _credible(told, shown, stars, size, config) else told
    problem = (
        f"telemetry and {shown.inliers} stars differ by {angle_rad:.2e} rad in a frame, "
        f"{np.sqrt(distance2):.0f} standard deviations: {believed.method} believed"
    )
    return replace(believed, disagreement_rad=angle_rad, problem=problem)


def _apart(told: EgoMotion, shown: EgoMotion) -> tuple[float, float] | None:
    """Give the angle between two turns [rad], and its square over the covariance of both; None where one is unknown."""
    first, second = told.rotation_CP_xyzw, shown.rotation_CP_xyzw
    spreads = told.rotation_covariance_rad2, shown.rotation_covariance_rad2
    if first is None or second is None or spreads[0] is None or spreads[1] is None:
        return None
    apart_rad = (Rotation.from_quat(second) * Rotation.from_quat(first).inv()).as_rotvec()
    distance2 = apart_rad @ np.linalg.solve(spreads[0] + spreads[1], apart_rad)
    return float(np.linalg.norm(apart_rad)), float(distance2)


def _credible(
    told: EgoMotion, shown: EgoMotion, stars: tuple[Stars, Stars], size: tuple[int, int], config: EgoMotionConfig
) -> bool:
    """Say whether the stars are many and consistent, and telemetry explains none that they leave over.

    A swarm that outnumbers the stars would show its own motion; then telemetry explains the stars, and that is no
    accident.
    """
    before, after = (each.points_px for each in stars)
    if shown.inliers < _MANY_STARS or len(after) == 0:
        return False
    places = [apply_homography(motion.homography, before) for motion in (shown, told)]
    in_view = ((places[0] >= 0) & (places[0] <= np.array(size[::-1]) - 1)).all(axis=1)
    consistent = shown.inliers >= _CONSISTENT_SHARE * min(int(in_view.sum()), len(after))
    distances = [cKDTree(after).query(each)[0] for each in places]
    left_over = (distances[1] <= config.ransac_threshold_px) & (distances[0] > config.ransac_threshold_px)
    return bool(consistent and left_over.sum() < config.min_inliers)
