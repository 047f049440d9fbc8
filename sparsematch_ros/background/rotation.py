"""The motion of pixels of distant things under a rotation of the camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.geometry import apply_homography

# Fewer pixels of the grid than this in front of the camera, or still in view, fix no homography.
_LEAST_PIXELS = 8


def rotation_homography(camera: CameraModel, rotation_CP: Rotation) -> FloatArray:
    """Compute the homography `(3, 3)`, previous pixel to current, of a pure rotation.

    Args:
        camera: intrinsics; with distortion the homography is the best fit to the pixels of a grid that stay in view,
            or the one without distortion where hardly any does.
        rotation_CP: turns vectors of the previous camera's axes into the current one's.

    Raises:
        SparsematchError: where the previous view lies behind the current camera.

    """
    if turned_away(camera, rotation_CP):
        raise SparsematchError(f"rotation of {np.degrees(rotation_CP.magnitude()):.1f} deg between frames: no overlap")
    before = _pixel_grid(camera)
    rays = camera.bearings(before)
    turned = rotation_CP.apply(rays)
    pinhole = camera.matrix @ rotation_CP.as_matrix() @ np.linalg.inv(camera.matrix)
    # Lens polynomials hold inside the image alone: what leaves the view must not bend the fit.
    seen = _within(turned, rays)
    if camera.distortion.size == 0 or seen.sum() < _LEAST_PIXELS:
        return np.asarray(pinhole / pinhole[2, 2])
    fitted, _ = cv2.findHomography(before[seen], camera.project(turned[seen]), 0)
    return np.asarray(fitted, dtype=np.float64)


def homography_misfit_px2(camera: CameraModel, rotation_CP: Rotation, homography: FloatArray) -> float:
    """Compute the mean square error an axis [px^2] of a homography against a rotation seen through a distorting lens.

    0 without distortion, and where hardly anything stays in view.
    """
    if camera.distortion.size == 0:
        return 0.0
    before = _pixel_grid(camera)
    rays = camera.bearings(before)
    turned = rotation_CP.apply(rays)
    seen = _within(turned, rays)
    if seen.sum() < _LEAST_PIXELS:
        return 0.0
    return float(np.mean((apply_homography(homography, before[seen]) - camera.project(turned[seen])) ** 2))


def turned_away(camera: CameraModel, rotation_CP: Rotation) -> bool:
    """Test whether the previous view lies behind the current camera, where no homography can follow it."""
    turned = rotation_CP.apply(camera.bearings(_pixel_grid(camera)))
    return bool((turned[:, 2] > 0).sum() < _LEAST_PIXELS)


def _pixel_grid(camera: CameraModel) -> FloatArray:
    x, y = np.meshgrid(np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 7))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _within(turned: FloatArray, rays: FloatArray) -> NDArray[np.bool_]:
    """Test which turned rays `(N, 3)` lie in front of the camera and within the view that `rays` span."""
    view = rays[:, :2] / rays[:, 2:]
    places = turned[:, :2] / np.where(turned[:, 2:] > 0, turned[:, 2:], np.nan)
    return np.asarray(((places >= view.min(axis=0)) & (places <= view.max(axis=0))).all(axis=1))


def relative_rotation(q_NP_xyzw: FloatArray, q_NC_xyzw: FloatArray) -> Rotation:
    """Compute the rotation from the previous camera's axes P to the current one's C, from their attitudes in N."""
    return Rotation.from_quat(q_NC_xyzw).inv() * Rotation.from_quat(q_NP_xyzw)
