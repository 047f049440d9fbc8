"""What a sensor shows although nothing is there: hot pixels, cosmic-ray hits, flashes of a single frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.simulation.camera_specs import FaultsSpec
from sparsematch_ros.simulation.stars import add_spots

# Every strength is uniform between this share of the greatest and the greatest.
WEAKEST = 0.25
# Steps along a streak: fine enough that its pixels fill evenly.
STEP_PX = 0.1


class SensorFaults:
    """The faults of one sensor. The same seed and time always give the same faults."""

    def __init__(self, spec: FaultsSpec, height: int, width: int, seed: int) -> None:
        """Draw the hot pixels."""
        self._spec, self._seed, self._size = spec, seed, (width, height)
        rng = np.random.default_rng([seed, 11])
        self._hot_e: NDArray[np.float32] = np.zeros((height, width), dtype=np.float32)
        places = rng.choice(height * width, min(spec.hot_pixels, height * width), replace=False)
        self._hot_e.flat[places] = spec.hot_pixel_e * rng.uniform(WEAKEST, 1, len(places))

    def add_flashes(self, light_e: NDArray[np.float32], time_s: float) -> None:
        """Add the flashes of a frame to light `(H, W, 3)`, in place."""
        rng = np.random.default_rng([self._seed, 12, round(time_s * 1e9)])
        count = int(rng.poisson(self._spec.flashes))
        pixels = rng.uniform(-0.5, np.array(self._size) - 0.5, (count, 2))
        fluxes = self._spec.flash_e * rng.uniform(WEAKEST, 1, (count, 1))
        add_spots(light_e, pixels, np.repeat(fluxes, 3, axis=1), self._spec.flash_sigma_px)

    def electrons(self, time_s: float) -> NDArray[np.float32]:
        """Give the electrons `(H, W)` that no light made: hot pixels, and the cosmic-ray hits of a frame."""
        rng = np.random.default_rng([self._seed, 13, round(time_s * 1e9)])
        electrons = self._hot_e.copy()
        for _ in range(rng.poisson(self._spec.cosmic_rays)):
            self._add_streak(electrons, rng)
        return electrons

    def _add_streak(self, electrons: NDArray[np.float32], rng: np.random.Generator) -> None:
        start = rng.uniform(-0.5, np.array(self._size) - 0.5)
        angle, length = rng.uniform(0, 2 * np.pi), rng.exponential(self._spec.cosmic_ray_length_px)
        strength_e = self._spec.cosmic_ray_e * rng.uniform(WEAKEST, 1)
        # A hit that comes straight down still leaves its light in one pixel.
        along = np.arange(0, max(length, 1.0), STEP_PX)[:, None] * (length >= 1)
        columns, rows = np.rint(start + along * np.array([np.cos(angle), np.sin(angle)])).astype(np.int64).T
        inside = (columns >= 0) & (columns < self._size[0]) & (rows >= 0) & (rows < self._size[1])
        np.add.at(electrons, (rows[inside], columns[inside]), np.float32(strength_e * STEP_PX))
