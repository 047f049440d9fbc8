"""From a bearing in camera axes to the attitude and rate that put the boresight on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.pointing.conventions import unit_vector

FloatArray = NDArray[np.float64]

# Sine of the angle under which two directions count as parallel.
PARALLEL = 1e-9


def angle_between_rad(a: FloatArray, b: FloatArray) -> float:
    """Give the angle between two vectors `(3,)` [rad], accurate near 0 and pi as well."""
    return float(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b)))


def smallest_rotation(start: FloatArray, end: FloatArray) -> Rotation:
    """Give the smallest rotation that takes the direction `start` `(3,)` to `end` `(3,)`.

    Opposite directions leave the axis open: the one nearest to the least component of `start` is taken.
    """
    a, b = unit_vector(start), unit_vector(end)
    axis = np.cross(a, b)
    if float(np.linalg.norm(axis)) <= PARALLEL:
        if float(np.dot(a, b)) > 0:
            return Rotation.identity()
        axis = np.cross(a, np.eye(3)[int(np.argmin(np.abs(a)))])
    return Rotation.from_rotvec(unit_vector(axis) * angle_between_rad(a, b))


def pointing_rotation(
    R_RB: Rotation,
    boresight_B: FloatArray,
    bearing_R: FloatArray,
    roll_body_axis_B: FloatArray | None = None,
    roll_direction_R: FloatArray | None = None,
) -> Rotation:
    """Give the attitude of the body in R that puts the boresight on the bearing.

    Args:
        R_RB: attitude now, `v_R = R_RB v_B`.
        boresight_B: `(3,)` body axis that shall meet the target.
        bearing_R: `(3,)` direction to the target in R.
        roll_body_axis_B: `(3,)` body axis to bring as near to `roll_direction_R` as the boresight leaves free.
        roll_direction_R: `(3,)` direction in R. Without both, the smallest rotation from the attitude now is taken.

    """
    if roll_body_axis_B is None or roll_direction_R is None:
        return smallest_rotation(R_RB.apply(boresight_B), bearing_R) * R_RB
    targets = np.stack([unit_vector(bearing_R), unit_vector(roll_direction_R)])
    axes = np.stack([unit_vector(boresight_B), unit_vector(roll_body_axis_B)])
    # An infinite weight makes the first pair exact, so the second one sets the roll alone.
    turn, _ = Rotation.align_vectors(targets, axes, weights=[np.inf, 1.0])
    return turn


def following_rate_rad_s(bearing: FloatArray, bearing_rate_rad_s: FloatArray) -> FloatArray:
    """Give the least angular velocity `(3,)` [rad/s] that keeps a boresight on a moving bearing.

    A direction b fixed in a body that turns with omega changes by omega x b. The omega without a component along b that
    gives the wanted change is b x db/dt.

    Args:
        bearing: `(3,)` unit vector.
        bearing_rate_rad_s: `(3,)` its derivative, in the same axes.

    """
    return np.asarray(np.cross(bearing, bearing_rate_rad_s), dtype=np.float64)


def turned_covariance(turn: Rotation, covariance: FloatArray | None) -> FloatArray | None:
    """Give a covariance `(3, 3)` in the axes that the rotation leads to."""
    if covariance is None:
        return None
    matrix = turn.as_matrix()
    return np.asarray(matrix @ covariance @ matrix.T, dtype=np.float64)
