"""Stars over the whole sky: a random, seeded catalogue with the real sky's distribution of magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray

# The real sky has about 5,000 stars to magnitude 6, and tenfold more every two magnitudes.
COUNT_TO_MAGNITUDE_6 = 5000
SLOPE = 0.5
BRIGHTEST = -1.5


@dataclass(frozen=True, eq=False)
class StarCatalogue:
    """S stars.

    Attributes:
        directions_N: `(S, 3)` unit vectors.
        magnitudes: `(S,)` visual.
        colours: `(S, 3)` red, green, blue with mean 1.

    """

    directions_N: FloatArray
    magnitudes: FloatArray
    colours: FloatArray

    def brighter_than(self, magnitude: float) -> StarCatalogue:
        """Keep the stars brighter than a magnitude."""
        keep = self.magnitudes < magnitude
        return StarCatalogue(self.directions_N[keep], self.magnitudes[keep], self.colours[keep])


def random_sky(seed: int, limit_magnitude: float) -> StarCatalogue:
    """Draw a catalogue: uniform over the sphere, `N(<m) = 5000 * 10^(0.5 (m - 6))`."""
    rng = np.random.default_rng([seed, 2])
    count = round(COUNT_TO_MAGNITUDE_6 * 10 ** (SLOPE * (limit_magnitude - 6)))
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    magnitudes = limit_magnitude + np.log10(1 - rng.random(count)) / SLOPE
    # From reddish to bluish, most of them near white.
    tint = np.clip(rng.normal(0.0, 0.5, count), -1, 1)[:, None]
    colours = 1 + tint * np.array([-0.25, 0.0, 0.25])
    return StarCatalogue(directions, np.maximum(magnitudes, BRIGHTEST), colours)


def project_stars(
    catalogue: StarCatalogue, camera: CameraModel, rotation_CN: Rotation, half_angle_rad: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Give the pixels `(n, 2)` of the stars in view, and their rows `(n,)`.

    Args:
        catalogue: all stars.
        camera: intrinsics.
        rotation_CN: turns vectors of N into camera axes.
        half_angle_rad: of the cone about the boresight that holds the image; stars outside it are left out first,
            because a distortion polynomial may fold them back into the image.

    """
    boresight_N = rotation_CN.inv().apply([0.0, 0.0, 1.0])
    rows = np.flatnonzero(catalogue.directions_N @ boresight_N > np.cos(half_angle_rad))
    if len(rows) == 0:
        return np.zeros((0, 2)), rows
    pixels = camera.project(rotation_CN.apply(catalogue.directions_N[rows]))
    margin = 8.0
    size = np.array([camera.width, camera.height])
    inside = ((pixels > -margin) & (pixels < size - 1 + margin)).all(axis=1)
    return pixels[inside], rows[inside]


def add_spots(image: NDArray[np.float32], pixels: FloatArray, fluxes: FloatArray, sigma_px: float) -> None:
    """Add Gaussian spots to an image, in place, each integrated over every pixel that it touches.

    Args:
        image: `(H, W, 3)`.
        pixels: `(n, 2)` centres.
        fluxes: `(n, 3)` of each spot and channel.
        sigma_px: width.

    """
    if len(pixels) == 0:
        return
    reach = int(np.ceil(5 * sigma_px))
    offsets = np.arange(-reach, reach + 1)
    nearest = np.rint(pixels).astype(np.int64)
    columns, rows = nearest[:, :1] + offsets, nearest[:, 1:] + offsets
    share_x, share_y = (_pixel_shares(axis - pixels[:, [i]], sigma_px) for i, axis in enumerate((columns, rows)))
    height, width = image.shape[:2]
    share_x = np.where((columns >= 0) & (columns < width), share_x, 0)
    share_y = np.where((rows >= 0) & (rows < height), share_y, 0)
    index = (rows.clip(0, height - 1)[:, :, None] * width + columns.clip(0, width - 1)[:, None, :]).ravel()
    shares = share_y[:, :, None] * share_x[:, None, :]
    for channel in range(3):
        weights = (shares * fluxes[:, channel, None, None]).ravel()
        image[..., channel] += np.bincount(index, weights, minlength=height * width).reshape(height, width)


def _pixel_shares(distance_px: FloatArray, sigma_px: float) -> FloatArray:
    """Integrate a unit Gaussian over pixels whose centres lie at a distance."""
    return np.asarray(ndtr((distance_px + 0.5) / sigma_px) - ndtr((distance_px - 0.5) / sigma_px))
