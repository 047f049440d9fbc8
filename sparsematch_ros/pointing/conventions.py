"""Quaternions, modified Rodrigues parameters, and what other simulators call them.

Here a quaternion is x, y, z, w and `q_NB` rotates body vectors into N: `v_N = R(q_NB) v_B`, as geometry_msgs has it.
Basilisk's `sigma_BN` belongs to the same rotation; 42's `qbn` and NOS3's are the same four numbers, scalar last.
"""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError

FloatArray = NDArray[np.float64]

# How far from length 1 a quaternion or unit vector of a message may be: float32 telemetry rounds to about 1e-7.
NORM_TOLERANCE = 1e-3
# A vector shorter than this has no direction worth the name.
SHORTEST = 1e-9


def rotation(q_xyzw: ArrayLike) -> Rotation:
    """Turn a quaternion `(4,)` into scipy's rotation.

    Raises:
        SparsematchError: where it is not finite or not of length 1 to 1e-3, such as an unset message's zeros.

    """
    q = np.asarray(q_xyzw, dtype=np.float64)
    if q.shape != (4,):
        raise SparsematchError(f"quaternion has {q.size} numbers, expected x, y, z, w")
    if not np.isfinite(q).all() or abs(np.linalg.norm(q) - 1.0) > NORM_TOLERANCE:
        raise SparsematchError(f"quaternion {q.tolist()} is not of length 1")
    return Rotation.from_quat(q)


def unit_vector(vector: ArrayLike) -> FloatArray:
    """Give a vector `(3,)` the length 1.

    Raises:
        SparsematchError: where it is not finite, or zero.

    """
    v = np.asarray(vector, dtype=np.float64)
    if v.shape != (3,):
        raise SparsematchError(f"vector has {v.size} numbers, expected x, y, z")
    length = sqrt(v @ v)
    if not SHORTEST <= length < inf:
        raise SparsematchError(f"vector {v.tolist()} has no direction")
    return np.asarray(v / length)


def quaternion(turn: Rotation) -> FloatArray:
    """Give x, y, z, w of a rotation, with w not negative."""
    q = np.asarray(turn.as_quat(), dtype=np.float64)
    return -q if q[3] < 0 else q


def sigma_BN_from_quaternion(q_NB_xyzw: ArrayLike) -> FloatArray:
    """Turn `q_NB` into Basilisk's `sigma_BN`, `(3,)` modified Rodrigues parameters.

    They are (x, y, z) / (1 + w), and the shadow set -sigma / |sigma|^2 where the length would exceed 1
    (Schaub and Junkins, Analytical Mechanics of Space Systems, section 3.5).
    """
    return np.asarray(rotation(q_NB_xyzw).as_mrp(), dtype=np.float64)


def switched_sigma(sigma: ArrayLike) -> FloatArray:
    """Give the set of modified Rodrigues parameters `(3,)` with length up to 1: the shadow set of a longer one.

    Both sets are the same attitude. The switch is Basilisk's `MRPswitch(sigma, 1)`: a stream of references jumps there,
    and a controller has to form its error from the attitudes, not from the difference of the numbers.

    Raises:
        SparsematchError: where it is not three finite numbers.

    """
    sigma = _three(sigma)
    square = float(sigma @ sigma)
    return -sigma / square if square > 1.0 else sigma


def sigma_rate(sigma: ArrayLike, omega_BN_B_rad_s: ArrayLike) -> FloatArray:
    """Give d sigma_BN / dt `(3,)` [1/s] from the angular velocity in body axes.

    It is [(1 - s^2) I + 2 [s x] + 2 s s^T] omega / 4 (Schaub and Junkins, section 3.5; Basilisk's `dMRP`).
    """
    s, omega = _three(sigma), np.asarray(omega_BN_B_rad_s, dtype=np.float64)
    return np.asarray(((1 - s @ s) * omega + 2 * np.cross(s, omega) + 2 * (s @ omega) * s) / 4)


def _three(sigma: ArrayLike) -> FloatArray:
    values = np.asarray(sigma, dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise SparsematchError(f"sigma_BN {values.tolist()} is not three finite numbers")
    return values


def quaternion_from_sigma_BN(sigma_BN: ArrayLike) -> FloatArray:
    """Turn Basilisk's `sigma_BN`, either set, into `q_NB`.

    Raises:
        SparsematchError: where it is not three finite numbers.

    """
    return quaternion(Rotation.from_mrp(_three(sigma_BN)))
