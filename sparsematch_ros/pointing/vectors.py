"""Small products of vectors of three, which numpy's general ones make ten times slower."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Give the vector product of two vectors `(3,)`."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def crosses(a: FloatArray, b: FloatArray) -> FloatArray:
    """Give vector products `(..., 3)` of `(..., 3)` and `(..., 3)`."""
    product = a[..., [1, 2, 0]] * b[..., [2, 0, 1]]
    product -= a[..., [2, 0, 1]] * b[..., [1, 2, 0]]
    return np.asarray(product)


def length(vector: FloatArray) -> float:
    """Give the length of a vector `(3,)`."""
    return sqrt(vector @ vector)


def turned(vectors: FloatArray, axis: FloatArray, angles_rad: FloatArray) -> FloatArray:
    """Turn vectors `(3,)` or `(N, 3)` about one unit axis `(3,)` by angles `(N,)`, as Rodrigues has it."""
    if vectors.ndim == 1:
        return _on_circle(vectors, axis, angles_rad)
    share = np.multiply.outer(vectors @ axis, axis)
    sines, cosines = np.sin(angles_rad)[:, None], np.cos(angles_rad)[:, None]
    x, y, z = axis.tolist()
    across = vectors @ np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
    return np.asarray(share + cosines * (vectors - share) + sines * across)


def _on_circle(vector: FloatArray, axis: FloatArray, angles_rad: FloatArray) -> FloatArray:
    """Turn one vector by many angles: a sum of three fixed vectors, so one product of matrices gives them all."""
    share = (vector @ axis) * axis
    waves = np.empty((len(angles_rad), 3))
    waves[:, 0] = 1.0
    np.cos(angles_rad, out=waves[:, 1])
    np.sin(angles_rad, out=waves[:, 2])
    return np.asarray(waves @ np.array([share, vector - share, cross(axis, vector)]))
