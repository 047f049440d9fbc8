"""What a camera's rotation does to the pixels of things far away."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError


def rotation_homography(camera: CameraModel, rotation_CP: Rotation) -> FloatArray:
    """Give the homography `(3, 3)`, previous pixel to current, of a pure rotation.

    Args:
        camera: intrinsics; with distortion the homography is the best fit to a grid of pixels.
        rotation_CP: turns vectors of the previous camera's axes into the current one's.

    Raises:
        SparsematchError: where the two views share nothing.

    """
    if camera.distortion.size == 0:
        homography = camera.matrix @ rotation_CP.as_matrix() @ np.linalg.inv(camera.matrix)
        return np.asarray(homography / homography[2, 2])
    x, y = np.meshgrid(np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 7))
    before = np.stack([x.ravel(), y.ravel()], axis=1)
    after = camera.project(rotation_CP.apply(camera.bearings(before)))
    seen = np.isfinite(after).all(axis=1)
    if seen.sum() < 8:
        raise SparsematchError(f"rotation of {np.degrees(rotation_CP.magnitude()):.1f} deg between frames: no overlap")
    fitted, _ = cv2.findHomography(before[seen], after[seen], 0)
    return np.asarray(fitted, dtype=np.float64)


def relative_rotation(q_NP_xyzw: FloatArray, q_NC_xyzw: FloatArray) -> Rotation:
    """Give the rotation from the previous camera's axes P to the current one's C, from their attitudes in N."""
    return Rotation.from_quat(q_NC_xyzw).inv() * Rotation.from_quat(q_NP_xyzw)
