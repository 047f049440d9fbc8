"""The Sun in or near the view: its glare, ghosts between the lenses, and the sensor's column that bleeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.camera_specs import FlareSpec

# A ghost lies at the image center plus this share of the way from there to the Sun; a negative one moves against it.
GHOST_SHARES = (-1.1, 0.7)
# Radii and strengths of ghosts are uniform between this share of the greatest and the greatest.
SMALLEST = 0.3
# Ghosts take the colors of the coatings; the spread of each channel's strength.
COLOUR_SPREAD = 0.35
SUN_DIAMETER_RAD = 0.0093


class SunFlare:
    """The flare of one lens and sensor; the seed draws the ghosts."""

    def __init__(self, spec: FlareSpec, camera: CameraModel, seed: int) -> None:
        """Draw the ghosts of the lens."""
        self._spec, self._camera = spec, camera
        rng = np.random.default_rng([seed, 14])
        self._shares = rng.uniform(*GHOST_SHARES, spec.ghosts)
        self._radii_px = spec.ghost_radius_px * rng.uniform(SMALLEST, 1, spec.ghosts)
        tint = 1 + rng.uniform(-COLOUR_SPREAD, COLOUR_SPREAD, (spec.ghosts, 3))
        self._ghosts_e = spec.ghost_e * rng.uniform(SMALLEST, 1, (spec.ghosts, 1)) * tint

    def add(self, light_e: NDArray[np.float32], sun_px: FloatArray, visible: float) -> None:
        """Add the flare to light `(H, W, 3)` [electrons], in place.

        Args:
            light_e: light that the optics have blurred.
            sun_px: `(2,)` where the Sun is imaged; may lie outside the image.
            visible: share of the Sun that nothing hides, in [0, 1].

        """
        spec = self._spec
        radius_px = SUN_DIAMETER_RAD / 2 * float(self._camera.matrix[0, 0])
        disc = spec.sun_e * _disc(light_e.shape, sun_px, radius_px)
        glare = spec.glare_e / (1 + _distance_px(light_e.shape, sun_px) ** 2 / spec.glare_px**2)
        light_e += np.float32(visible) * (disc + glare)[..., None]
        for place, radius, ghost_e in zip(self.ghosts_px(sun_px), self._radii_px, self._ghosts_e):
            light_e += np.float32(visible) * _disc(light_e.shape, place, radius)[..., None] * ghost_e.astype(np.float32)
        offset = np.abs(np.arange(light_e.shape[1]) - sun_px[0])
        inside = -0.5 <= sun_px[0] <= light_e.shape[1] - 0.5 and -0.5 <= sun_px[1] <= light_e.shape[0] - 0.5
        column = np.clip(spec.column_px / 2 + 0.5 - offset, 0, 1) * (spec.column_e * visible * inside)
        light_e += column.astype(np.float32)[None, :, None]

    def ghosts_px(self, sun_px: FloatArray) -> FloatArray:
        """Compute the centers of the ghosts `(n, 2)`, on the line through the Sun's image and the image center."""
        center = np.array([self._camera.width - 1, self._camera.height - 1]) / 2
        return np.asarray(center + self._shares[:, None] * (sun_px - center))


def _distance_px(shape: tuple[int, ...], place_px: FloatArray) -> NDArray[np.float32]:
    """Measure how far each pixel `(h, w)` lies from a place."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(columns - place_px[0], rows - place_px[1]).astype(np.float32)


def _disc(shape: tuple[int, ...], place_px: FloatArray, radius_px: float) -> NDArray[np.float32]:
    """Cover a disc with an edge of one pixel, `(h, w)` in [0, 1]."""
    return np.clip(np.float32(radius_px + 0.5) - _distance_px(shape, place_px), 0, 1)
