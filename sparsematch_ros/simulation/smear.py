"""The blur of a camera that turns while its shutter is open."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray

SAMPLES_PER_PX = 2
MOST_SAMPLES = 64
# Below this nothing shows, and resampling would blur more than the turn.
LEAST_PX = 0.1
# Odd, so that a sample of the rays runs over all columns.
SAMPLE_STRIDE = 61


class Smear:
    """One exposure during which the camera turns at a constant rate; its middle is the instant of the truth."""

    def __init__(self, camera: CameraModel, turn_C_rad: FloatArray) -> None:
        """Take the rotation vector `(3,)` of the turn from the exposure's begin to its end, in camera axes."""
        self._camera = camera
        self._half = Rotation.from_rotvec(np.asarray(turn_C_rad) / 2)

    def path_px(self, directions_C: FloatArray) -> FloatArray:
        """Give how far resting things move in the image during the exposure, `(N, 2)`.

        Args:
            directions_C: `(N, 3)` where they are at the exposure's middle, in camera axes.

        """
        begin = self._camera.project(self._half.apply(directions_C))
        end = self._camera.project(self._half.inv().apply(directions_C))
        return np.nan_to_num(end - begin)

    def spots(self, pixels: FloatArray, fluxes: FloatArray, directions_C: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Spread spots along their paths: `(N, 2)`, `(N, 3)` to `(N * s, 2)`, `(N * s, 3)`."""
        paths = self.path_px(directions_C)
        steps = _steps(paths)
        spread = pixels[:, None] + steps[:, None] * paths[:, None]
        return spread.reshape(-1, 2), np.repeat(fluxes / len(steps), len(steps), axis=0)

    def image(self, light: NDArray[np.float32], rays_C: FloatArray) -> NDArray[np.float32]:
        """Smear an image.

        Args:
            light: `(H, W, 3)` as at the exposure's middle.
            rays_C: `(H * W, 3)` of its pixels.

        """
        where = _lit_part(light, self._reach_px(rays_C))
        if where is None:
            return light
        part = light[where]
        height, width = part.shape[:2]
        paths = self.path_px(rays_C.reshape(*light.shape)[where].reshape(-1, 3))
        steps = _steps(paths)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        total = np.zeros_like(part)
        for step in steps:
            # Paths of neighbours are alike, so a pixel's light comes from as far the other way.
            source = (grid - step * paths.reshape(height, width, 2)).astype(np.float32)
            total += cv2.remap(part, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        smeared = light.copy()
        smeared[where] = total / np.float32(len(steps)) if len(steps) > 1 else part
        return smeared

    def _reach_px(self, rays_C: FloatArray) -> int:
        """Bound half of the longest path in the image, from a coarse sample of its rays."""
        paths = self.path_px(rays_C[::SAMPLE_STRIDE])
        return int(np.ceil(0.6 * np.linalg.norm(paths, axis=1).max())) + 2


def _lit_part(light: NDArray[np.float32], margin: int) -> tuple[slice, slice] | None:
    """Give the part of an image `(H, W, 3)` outside which it is black, with a margin; None where all of it is."""
    lit = light.max(axis=2) > 0
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if len(rows) == 0:
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


def _steps(paths_px: FloatArray) -> FloatArray:
    """Give the instants of the exposure to draw, in (-0.5, 0.5), as many as the longest path needs."""
    longest = float(np.linalg.norm(paths_px, axis=1).max(initial=0.0))
    count = 1 if longest < LEAST_PX else int(np.clip(np.ceil(SAMPLES_PER_PX * longest), 2, MOST_SAMPLES))
    return (np.arange(count) + 0.5) / count - 0.5
