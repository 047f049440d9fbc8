"""Earth as an analytic sphere: oceans, land and clouds under the Sun, and the atmosphere's glow at the limb."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.scenario import EarthSpec

RADIUS_KM = 6371.0
LATTICE = 32
OCEAN = np.array([0.05, 0.12, 0.28])
LAND = np.array([0.22, 0.20, 0.12])
CLOUD = np.array([0.95, 0.97, 1.0])
HAZE = np.array([0.30, 0.52, 1.0])


@dataclass(frozen=True, eq=False)
class EarthView:
    """What the rays see of Earth.

    Attributes:
        brightness: `(N, 3)`, 1 for a white diffuse surface that faces the Sun.
        transmission: `(N,)` of starlight: 0 behind the disc.

    """

    brightness: FloatArray
    transmission: FloatArray


class Earth:
    """One Earth, with clouds of its own seed."""

    def __init__(self, spec: EarthSpec, seed: int) -> None:
        """Draw the clouds."""
        self._spec = spec
        self._distance_km = RADIUS_KM + spec.altitude_km
        self._plain = np.random.default_rng([seed, 3]).random((LATTICE,) * 3, dtype=np.float32)
        self._noise = spline_filter(self._plain, order=2, mode="grid-wrap").astype(np.float32)

    @property
    def angular_radius_rad(self) -> float:
        """Half angle of the disc as seen from the camera [rad]."""
        return float(np.arcsin(RADIUS_KM / self._distance_km))

    def fills(self, directions_N: FloatArray, nadir_N: FloatArray) -> bool:
        """Check whether all of these unit vectors `(N, 3)` meet the ground; the image's corners tell of the image."""
        return bool((directions_N @ nadir_N > np.cos(self.angular_radius_rad)).all())

    def carry(self, directions_N: FloatArray, nadir_before_N: FloatArray, nadir_now_N: FloatArray) -> FloatArray:
        """Compute in which directions `(N, 3)` the ground is seen now that was seen in given ones before.

        Args:
            directions_N: `(N, 3)` unit vectors that meet the ground.
            nadir_before_N: `(3,)` unit vector to Earth's center then.
            nadir_now_N: the same now; the ground rests in N.

        """
        cosine = directions_N @ nadir_before_N
        along_km = self._distance_km * cosine - np.sqrt(RADIUS_KM**2 - self._distance_km**2 * (1 - cosine**2))
        return np.asarray(directions_N * along_km[:, None] + self._distance_km * (nadir_now_N - nadir_before_N))

    def look(self, directions_N: FloatArray, nadir_N: FloatArray, sun_N: FloatArray) -> EarthView:
        """Say what rays see.

        Args:
            directions_N: `(N, 3)` unit vectors.
            nadir_N: `(3,)` unit vector to Earth's centre.
            sun_N: `(3,)` unit vector to the Sun.

        """
        cosine = directions_N @ nadir_N
        miss_km = self._distance_km * np.sqrt(np.maximum(1 - cosine**2, 0))
        # A ray that points away is nearest to Earth at the camera itself.
        height_km = np.where(cosine > 0, miss_km, self._distance_km) - RADIUS_KM
        brightness, transmission = np.zeros((len(directions_N), 3)), np.ones(len(directions_N))
        disc = height_km < 0
        # Seven scale heights up the glow is a thousandth.
        limb = ~disc & (height_km < 7 * self._spec.atmosphere_km)
        glow = np.exp(-height_km[limb] / self._spec.atmosphere_km)
        brightness[limb] = self._limb(directions_N[limb], glow, cosine[limb], nadir_N, sun_N)
        if disc.any():
            brightness[disc] = self._surface(directions_N[disc], miss_km[disc], cosine[disc], nadir_N, sun_N)
        transmission[disc], transmission[limb] = 0.0, 1 - 0.9 * glow
        return EarthView(brightness * self._spec.brightness, transmission)

    def _limb(
        self, directions: FloatArray, glow: FloatArray, cosine: FloatArray, nadir: FloatArray, sun: FloatArray
    ) -> FloatArray:
        """Give the light of the air above the limb, of the strength `glow` `(N,)`."""
        up = directions * cosine[:, None] - nadir
        up /= np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-9)
        return _air_colour(glow) * _twilight(up @ sun)

    def _surface(
        self, directions: FloatArray, miss_km: FloatArray, cosine: FloatArray, nadir: FloatArray, sun: FloatArray
    ) -> FloatArray:
        along_km = self._distance_km * cosine - np.sqrt(np.maximum(RADIUS_KM**2 - miss_km**2, 0))
        normals = (directions * along_km[:, None] - self._distance_km * nadir) / RADIUS_KM
        cosine_sun = normals @ sun
        view = np.clip(-np.einsum("ij,ij->i", normals, directions), 0.02, 1)[:, None]
        noise = self._fractal(normals, 40.0, self._spec.cloud_octaves)
        clouds = np.clip((noise - (1 - self._spec.clouds)) * 4.5, 0, 1)[:, None]
        land = np.clip((self._fractal(normals + 0.37, 5.0, 4) - 0.55) * 12, 0, 1)[:, None]
        ground = OCEAN + (LAND - OCEAN) * land
        colour = ground + (CLOUD - ground) * clouds
        # The slant path through the air is 1 / cos, so haze gathers toward the limb.
        haze = 1 - np.exp(-0.08 / view)
        daylight = np.clip(cosine_sun, 0, 1)[:, None]
        return np.asarray(colour * (1 - haze) * daylight + _air_colour(haze[:, 0]) * _twilight(cosine_sun))

    def _fractal(self, points: FloatArray, frequency: float, octaves: int) -> NDArray[np.float32]:
        """Sum octaves of smooth noise at points `(N, 3)`, each of half the size and half the strength, in [0, 1]."""
        total = np.zeros(len(points), dtype=np.float32)
        for octave in range(octaves):
            # The shift keeps the octaves' lattices from lining up.
            # Only the coarse octaves are so large in the picture that linear steps would show.
            order = 2 if octave < 2 else 1
            noise = self._noise if order == 2 else self._plain
            where = (points * frequency * 2**octave + 11.3 * octave).T.astype(np.float32)
            total += map_coordinates(noise, where, order=order, mode="grid-wrap", prefilter=False) / 2**octave
        return total / np.float32(2 - 2 ** (1 - octaves))


def _air_colour(strength: FloatArray) -> FloatArray:
    """Colour air `(N, 3)` by its strength `(N,)`: blue where it is thin, whitish where it is thick."""
    return np.asarray(strength[:, None] * (HAZE + (1 - HAZE) * 0.6 * strength[:, None] ** 3))


def _twilight(cosine_sun: FloatArray) -> FloatArray:
    """Light of the air `(N, 1)`, which the Sun reaches a little beyond the terminator."""
    return np.asarray(np.clip(cosine_sun * 2.5 + 0.35, 0, 1)[:, None])
