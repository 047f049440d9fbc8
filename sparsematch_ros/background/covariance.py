"""How well the background's motion is known, at every pixel: covariances of homographies."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.rotation import homography_misfit_px2
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.geometry import apply_homography

# What a small turn about x, y and z adds to a vector: the cross product with each axis, `(3, 3, 3)`.
_TURNS = np.cross(np.eye(3)[:, None], np.eye(3)[None]).transpose(0, 2, 1)
# Entries of a homography that are free.
_FREE = 8


def turn_covariance(
    camera: CameraModel, rotation_CP: Rotation, homography: FloatArray, covariance_rad2: FloatArray
) -> FloatArray:
    """Compute the covariance `(9, 9)` of a homography that stands for a rotation.

    Args:
        camera: intrinsics.
        rotation_CP: from the previous camera's axes to the current one's.
        homography: `(3, 3)` of that rotation.
        covariance_rad2: `(3, 3)` of a small turn that follows it.

    """
    derivatives = turn_derivatives(camera, homography)
    covariance = entries_covariance(derivatives, covariance_rad2, homography)
    # What a lens does that no homography can is an error of place.
    covariance[[2, 5], [2, 5]] += homography_misfit_px2(camera, rotation_CP, homography)
    return covariance


def turn_derivatives(camera: CameraModel, homography: FloatArray) -> FloatArray:
    """Compute d homography / d turn `(3, 3, 3)` [1/rad]: small turns about the camera's x, y and z that follow it.

    The lens's distortion is left aside: of a standard deviation it changes a few per cent.
    """
    return np.asarray(camera.matrix @ _TURNS @ np.linalg.inv(camera.matrix) @ homography)


def entries_covariance(derivatives: FloatArray, covariance: FloatArray, homography: FloatArray) -> FloatArray:
    """Propagate a covariance of parameters `(P, P)` over to the nine entries of a homography whose last one is 1.

    Args:
        derivatives: `(P, 3, 3)` d homography / d parameter, of any scale of it.
        covariance: `(P, P)` of the parameters.
        homography: `(3, 3)`.

    Returns:
        `(9, 9)`, row by row.

    """
    held = derivatives - derivatives[:, 2:, 2:] * homography
    flat = held.reshape(len(derivatives), 9)
    return np.asarray(flat.T @ covariance @ flat)


def fit_covariance(homography: FloatArray, previous_px: FloatArray, current_px: FloatArray) -> FloatArray | None:
    """Compute the covariance `(9, 9)` of a homography that was fitted to pairs `(K, 2)` without weights.

    Returns:
        None where the pairs fix no homography: fewer than five, or all on a line.

    """
    if 2 * len(previous_px) <= _FREE:
        return None
    jacobian = entry_jacobians(homography, previous_px)[:, :, :_FREE].reshape(-1, _FREE)
    lengths = np.linalg.norm(jacobian, axis=0)
    normal = (jacobian / lengths).T @ (jacobian / lengths)
    if np.linalg.cond(normal) > 1 / np.finfo(np.float64).eps:
        return None
    residual = apply_homography(homography, previous_px) - current_px
    variance = float((residual**2).sum()) / (2 * len(previous_px) - _FREE)
    covariance = np.zeros((9, 9))
    covariance[:_FREE, :_FREE] = variance * np.linalg.inv(normal) / np.outer(lengths, lengths)
    return covariance


def image_sigma_px(homography: FloatArray, covariance: FloatArray, size: tuple[int, int]) -> float:
    """Compute the standard deviation an axis [px] of where a homography puts the pixels of an image, as RMS over it."""
    x, y = np.meshgrid(np.linspace(0, size[1] - 1, 5), np.linspace(0, size[0] - 1, 5))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    jacobians = entry_jacobians(homography, grid)
    spread = jacobians @ covariance @ jacobians.transpose(0, 2, 1)
    return float(np.sqrt(np.trace(spread, axis1=1, axis2=2).mean() / 2))


def entry_jacobians(homography: FloatArray, points_px: FloatArray) -> FloatArray:
    """Compute d moved / d entry `(N, 2, 9)` of a homography at points `(N, 2)`."""
    homogeneous = np.concatenate([points_px, np.ones((len(points_px), 1))], axis=1)
    moved = homogeneous @ homography.T
    scaled, image = homogeneous / moved[:, 2:], moved[:, :2] / moved[:, 2:]
    jacobians = np.zeros((len(points_px), 2, 9))
    jacobians[:, 0, :3] = jacobians[:, 1, 3:6] = scaled
    jacobians[:, :, 6:] = -image[:, :, None] * scaled[:, None]
    return jacobians
