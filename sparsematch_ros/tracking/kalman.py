"""The measurement step of the Kalman filter for many objects at once."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import FloatArray


def innovations(
    states: FloatArray, covariances: FloatArray, measured_px: FloatArray, variances_px2: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give innovations `(K, 2)` and their covariances `(K, 2, 2)`.

    Args:
        states: `(K, 4)` predicted.
        covariances: `(K, 4, 4)` predicted.
        measured_px: `(K, 2)` centroids.
        variances_px2: `(K,)` variance an axis of each centroid.

    """
    spread = covariances[:, :2, :2] + variances_px2[:, None, None] * np.eye(2)
    return measured_px - states[:, :2], spread


def mahalanobis2(innovation: FloatArray, spread: FloatArray) -> FloatArray:
    """Give squared Mahalanobis distances `(...)` of vectors `(..., 2)` under covariances `(..., 2, 2)`."""
    solved = np.linalg.solve(spread, innovation[..., None])[..., 0]
    return np.asarray((innovation * solved).sum(axis=-1))


def update(
    states: FloatArray, covariances: FloatArray, measured_px: FloatArray, variances_px2: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Correct predictions by measured centroids (Joseph form, so that covariances stay positive)."""
    innovation, spread = innovations(states, covariances, measured_px, variances_px2)
    gain = np.linalg.solve(spread, covariances[:, :2, :]).transpose(0, 2, 1)
    keep = np.eye(4) - gain @ np.eye(2, 4)
    corrected = keep @ covariances @ keep.transpose(0, 2, 1)
    corrected += variances_px2[:, None, None] * (gain @ gain.transpose(0, 2, 1))
    return states + np.einsum("kij,kj->ki", gain, innovation), corrected


def update_by_displacement(
    states: FloatArray,
    covariances: FloatArray,
    crosses: FloatArray,
    innovation_px: FloatArray,
    spreads_px2: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Correct predictions by how far objects have moved since the state that they were predicted from.

    A displacement measures the new place less the old one. The old place is part of what the prediction rests on, so
    their covariance enters (a delayed state: Brown and Hwang, "Introduction to Random Signals and Applied Kalman
    Filtering").

    Args:
        states: `(K, 4)` predicted.
        covariances: `(K, 4, 4)` predicted.
        crosses: `(K, 4, 2)` covariance of the predicted state with the old place.
        innovation_px: `(K, 2)` measured less expected displacement.
        spreads_px2: `(K, 2, 2)` covariance of that.

    """
    reach = covariances[:, :, :2] - crosses
    gain = np.linalg.solve(spreads_px2, reach.transpose(0, 2, 1)).transpose(0, 2, 1)
    corrected = covariances - gain @ reach.transpose(0, 2, 1)
    return states + np.einsum("kij,kj->ki", gain, innovation_px), (corrected + corrected.transpose(0, 2, 1)) / 2
