"""From a bearing in camera axes to the attitude and rate that put the boresight on it."""

from __future__ import annotations

from math import atan2

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.quaternions import from_rotation_vector
from sparsematch_ros.pointing.vectors import cross, length, turned

FloatArray = NDArray[np.float64]

# Sine of the angle under which two directions count as parallel.
PARALLEL = 1e-9
# Sine of the angle to the bearing under which a roll direction says nothing about the roll.
NO_ROLL = 1e-3


def angle_between_rad(a: FloatArray, b: FloatArray) -> float:
    """Give the angle between two vectors `(3,)` [rad], accurate near 0 and pi as well."""
    return atan2(length(cross(a, b)), a @ b)


def smallest_rotation(start: FloatArray, end: FloatArray) -> Rotation:
    """Give the smallest rotation between two directions, as `smallest_turn` does, for scipy."""
    return Rotation.from_quat(smallest_turn(start, end))


def smallest_turn(start: FloatArray, end: FloatArray) -> FloatArray:
    """Give the quaternion `(4,)` of the smallest rotation that takes the direction `start` `(3,)` to `end` `(3,)`.

    Opposite directions leave the axis open: the one nearest to the least component of `start` is taken.
    """
    axis = cross(start, end)
    sine, cosine = length(axis), float(start @ end)
    if sine <= PARALLEL * abs(cosine):
        if cosine > 0:
            return np.array([0.0, 0.0, 0.0, 1.0])
        axis = cross(start, np.eye(3)[int(np.argmin(np.abs(start)))])
    return from_rotation_vector(unit_vector(axis) * atan2(sine, cosine))


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
        roll_direction_R: `(3,)` direction in R. Without both, or where it is the bearing's own, the smallest rotation
            from the attitude now is taken.

    """
    if roll_body_axis_B is None or roll_direction_R is None or _parallel(roll_direction_R, bearing_R):
        return smallest_rotation(R_RB.apply(boresight_B), bearing_R) * R_RB
    targets = np.stack([unit_vector(bearing_R), unit_vector(roll_direction_R)])
    axes = np.stack([unit_vector(boresight_B), unit_vector(roll_body_axis_B)])
    # An infinite weight makes the first pair exact, so the second one sets the roll alone.
    turn, _ = Rotation.align_vectors(targets, axes, weights=[np.inf, 1.0])
    return turn


def _parallel(a: FloatArray, b: FloatArray) -> bool:
    return length(cross(a, b)) < NO_ROLL * length(a) * length(b)


def following_rate_rad_s(bearing: FloatArray, bearing_rate_rad_s: FloatArray) -> FloatArray:
    """Give the least angular velocity `(3,)` [rad/s] that keeps a boresight on a moving bearing.

    A direction b fixed in a body that turns with omega changes by omega x b. The omega without a component along b that
    gives the wanted change is b x db/dt.

    Args:
        bearing: `(3,)` unit vector.
        bearing_rate_rad_s: `(3,)` its derivative, in the same axes.

    """
    return cross(bearing, bearing_rate_rad_s)


def predicted_bearing(bearing: FloatArray, bearing_rate_rad_s: FloatArray | None, dt_s: float) -> FloatArray:
    """Give where a bearing `(3,)` will be after a time: on along its great circle at its rate; None: where it is.

    What this leaves out is the bearing's acceleration: half of it times the time squared.
    """
    if bearing_rate_rad_s is None or dt_s == 0.0:
        return bearing
    omega = following_rate_rad_s(bearing, bearing_rate_rad_s)
    rate = length(omega)
    return turned(bearing, omega / rate, np.array([rate * dt_s]))[0] if rate else bearing


def turned_covariance(matrix: FloatArray, covariance: FloatArray | None) -> FloatArray | None:
    """Give a covariance `(3, 3)` in the axes that the rotation matrix `(3, 3)` leads to."""
    if covariance is None:
        return None
    return np.asarray(matrix @ covariance @ matrix.T, dtype=np.float64)
