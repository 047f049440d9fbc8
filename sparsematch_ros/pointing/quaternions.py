"""Single quaternions x, y, z, w as arrays `(4,)`, for the inner loop of planning.

scipy's `Rotation` does the same and checks more; at its price a call, a way around a cone would take several times its
millisecond. The tests hold both against each other.
"""

from __future__ import annotations

from math import atan2, cos, sin, sqrt

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def product(p: FloatArray, q: FloatArray) -> FloatArray:
    """Give the rotation q and then p: p q, of length 1 where both are."""
    (px, py, pz, pw), (qx, qy, qz, qw) = p.tolist(), q.tolist()
    return np.array([
        pw * qx + px * qw + py * qz - pz * qy,
        pw * qy - px * qz + py * qw + pz * qx,
        pw * qz + px * qy - py * qx + pz * qw,
        pw * qw - px * qx - py * qy - pz * qz,
    ])  # fmt: skip


def inverse(q: FloatArray) -> FloatArray:
    """Give the rotation back."""
    x, y, z, w = q.tolist()
    return np.array([-x, -y, -z, w])


def from_rotation_vector(vector_rad: FloatArray) -> FloatArray:
    """Give the rotation about a vector `(3,)` by its length [rad]."""
    x, y, z = vector_rad.tolist()
    angle = sqrt(x * x + y * y + z * z)
    share = sin(angle / 2) / angle if angle > 1e-9 else 0.5
    return np.array([share * x, share * y, share * z, cos(angle / 2)])


def rotation_vector(q: FloatArray) -> FloatArray:
    """Give axis times angle `(3,)` [rad], the shorter way round."""
    x, y, z, w = q.tolist()
    if w < 0:
        x, y, z, w = -x, -y, -z, -w
    size = sqrt(x * x + y * y + z * z)
    share = 2 * atan2(size, w) / size if size > 1e-12 else 2.0
    return np.array([share * x, share * y, share * z])


def matrix(q: FloatArray) -> FloatArray:
    """Give the rotation matrix `(3, 3)`."""
    x, y, z, w = q.tolist()
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
