"""The blur of an exposure during which the camera turns and objects move."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.pixels import Layer, PixelBox

SAMPLES_PER_PX = 2
MOST_SAMPLES = 64
# Below this nothing shows, and resampling would blur more than the turn.
LEAST_PX = 0.1
# Odd, so that a sample of the rays runs over all columns.
SAMPLE_STRIDE = 61
# Samples along each side of an object's box, from which the paths of its pixels are interpolated.
GRID_SIDE = 5
# Cosine from a body's center beyond which its depth is held, so that a body around the camera has finite paths.
LEAST_COSINE = 0.2


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """Motion of a rigid body during an exposure, relative to the camera's position, in camera axes that do not turn.

    Attributes:
        center_C_m: `(3,)` position of the body's center at the exposure's middle.
        displacement_C_m: `(3,)` of the center, from the exposure's begin to its end.
        turn_C_rad: `(3,)` rotation vector of the body, from the exposure's begin to its end.

    """

    center_C_m: FloatArray
    displacement_C_m: FloatArray
    turn_C_rad: FloatArray

    def places(self, directions_C: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute where the body's points are at the exposure's begin and end, `(N, 3)` each [m].

        The points lie in the plane through the center and across the line of sight to it.

        Args:
            directions_C: `(N, 3)` in which they are seen at the exposure's middle.

        """
        distance_m = float(np.linalg.norm(self.center_C_m))
        units = directions_C / np.linalg.norm(directions_C, axis=1, keepdims=True)
        cosines = np.maximum(units @ self.center_C_m / distance_m, LEAST_COSINE)
        arms = units * (distance_m / cosines)[:, None] - self.center_C_m
        half = Rotation.from_rotvec(self.turn_C_rad / 2)
        shift = self.displacement_C_m / 2
        return self.center_C_m - shift + half.inv().apply(arms), self.center_C_m + shift + half.apply(arms)


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

    def body_path_px(self, directions_C: FloatArray, motion: RigidMotion) -> FloatArray:
        """Compute how far points of a moving body move in the image during the exposure, `(N, 2)`.

        Args:
            directions_C: `(N, 3)` in which they are seen at the exposure's middle, in camera axes.
            motion: of the body.

        """
        begin, end = motion.places(directions_C)
        path = self._camera.project(self._half.inv().apply(end)) - self._camera.project(self._half.apply(begin))
        return np.nan_to_num(path)

    def layer(self, layer: Layer, motion: RigidMotion) -> Layer:
        """Smear the coverage and the light of one body along its own paths; the box grows by the longest of them."""
        grid = _pixel_grid(layer.box, GRID_SIDE)
        sampled = self.body_path_px(self._camera.bearings(grid), motion)
        steps = _steps(sampled)
        if len(steps) == 1:
            return layer
        reach = int(np.ceil(0.6 * np.linalg.norm(sampled, axis=1).max())) + 2
        padded = layer.grown(reach, self._camera.width, self._camera.height)
        paths = _affine(grid, sampled, _pixel_grid(padded.box))
        stack = np.dstack([padded.light_e, padded.coverage]).astype(np.float32)
        shown = _smeared(stack, paths.reshape(padded.box.height, padded.box.width, 2), steps)
        return Layer(padded.box, shown[..., 3].astype(np.float64), shown[..., :3].astype(np.float64))

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
        longest_px = float(np.linalg.norm(self.path_px(rays_C[::SAMPLE_STRIDE]), axis=1).max())
        where = _lit_part(light, int(np.ceil(0.6 * longest_px)) + 2)
        if where is None or longest_px < LEAST_PX:
            return light
        part = light[where]
        paths = self.path_px(rays_C.reshape(*light.shape)[where].reshape(-1, 3))
        smeared = light.copy()
        smeared[where] = _smeared(part, paths.reshape(*part.shape[:2], 2), _steps(paths))
        return smeared


def _smeared(part: NDArray[np.float32], paths_px: FloatArray, steps: FloatArray) -> NDArray[np.float32]:
    """Average `(h, w, c)` over the steps of the exposure along the paths `(h, w, 2)`."""
    height, width = part.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    total = np.zeros_like(part)
    for step in steps:
        # Paths of neighbours are alike, so a pixel's light comes from as far the other way.
        source = (grid - step * paths_px).astype(np.float32)
        total += cv2.remap(part, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return total / np.float32(len(steps))


def _pixel_grid(box: PixelBox, side: int | None = None) -> FloatArray:
    """List the pixels of a box `(N, 2)`, or `side` times `side` points spread over it."""
    columns = np.linspace(box.left, box.right - 1, side or box.width)
    rows = np.linspace(box.top, box.bottom - 1, side or box.height)
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)


def _affine(points: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray:
    """Fit `values` `(n, 2)` by an affine function of `points` `(n, 2)`, and evaluate it at `(m, 2)`."""
    middle = points.mean(axis=0)
    coefficients = np.linalg.lstsq(np.column_stack([points - middle, np.ones(len(points))]), values, rcond=None)[0]
    return np.asarray((at - middle) @ coefficients[:2] + coefficients[2])


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
