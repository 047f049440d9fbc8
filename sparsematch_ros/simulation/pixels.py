"""The rays of a camera's pixels, and which pixels a thing may fall on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray

MARGIN_PX = 3
# Samples along a side of a small object's box: fine enough that its edge is smooth to a hundredth of a pixel.
SAMPLES_ACROSS = 160
MOST_SAMPLES = 8


@dataclass(frozen=True)
class PixelBox:
    """Pixels from left and top up to, not with, right and bottom."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Count the columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Count the rows."""
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Give the index of these pixels in an image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def clipped_box(low_px: FloatArray, high_px: FloatArray, width: int, height: int) -> PixelBox | None:
    """Give the whole pixels between two corners `(2,)` that lie in the image, or None."""
    left, top = np.floor(low_px).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(high_px).astype(int) + 1, [width, height])
    return PixelBox(int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


class PixelRays:
    """The ray of every pixel, computed once, distortion included.

    Attributes:
        units: `(H * W, 3)` unit vectors in camera axes.
        half_angle_rad: of the cone about the boresight that holds the image.

    """

    def __init__(self, camera: CameraModel) -> None:
        """Compute the rays."""
        self._camera = camera
        grid_y, grid_x = np.mgrid[: camera.height, : camera.width]
        self.units: FloatArray = camera.bearings(np.stack([grid_x.ravel(), grid_y.ravel()], axis=1).astype(np.float64))
        self._image: FloatArray = self.units.reshape(camera.height, camera.width, 3)
        # Half a degree beyond the outermost pixel, for spots that reach in from outside.
        self.half_angle_rad = float(np.arccos(self.units[:, 2].min()) + np.radians(0.5))

    def in_cone(self, vector_C: FloatArray) -> bool:
        """Say whether a vector `(3,)` lies in the cone that holds the image."""
        return bool(vector_C[2] > np.cos(self.half_angle_rad) * np.linalg.norm(vector_C))

    def box(self, corners_C_m: FloatArray) -> PixelBox | None:
        """Give the pixels that a body with these bounding corners `(8, 3)` may fall on, or None."""
        size = np.array([self._camera.width, self._camera.height])
        if (corners_C_m[:, 2] <= 0).all():
            return None
        centre = corners_C_m.mean(axis=0)
        radius, distance = np.linalg.norm(corners_C_m - centre, axis=1).max(), np.linalg.norm(centre)
        reach = np.arcsin(radius / distance) if radius < distance else np.pi
        if np.arccos(np.clip(centre[2] / max(distance, 1e-12), -1, 1)) - reach > self.half_angle_rad:
            return None
        if reach > np.pi / 4 or (corners_C_m[:, 2] <= 1e-6).any():
            return PixelBox(0, 0, self._camera.width, self._camera.height)
        pixels = self._camera.project(corners_C_m)
        return clipped_box(pixels.min(axis=0) - MARGIN_PX, pixels.max(axis=0) + MARGIN_PX, int(size[0]), int(size[1]))

    def sampled(self, box: PixelBox) -> tuple[FloatArray, int]:
        """Give rays `(h * w * s^2, 3)` on a regular raster of s by s in each pixel of a box, and s.

        Between pixels the rays are linear to a millionth of a pixel, so neighbours give the step.
        """
        samples = int(np.clip(np.ceil(SAMPLES_ACROSS / max(box.width, box.height)), 2, MOST_SAMPLES))
        rays = self._image[box.slices]
        padded = self._image[max(box.top - 1, 0) : box.bottom + 1, max(box.left - 1, 0) : box.right + 1]
        top, left = min(box.top, 1), min(box.left, 1)
        inner = (slice(top, top + box.height), slice(left, left + box.width))
        step_y, step_x = (np.gradient(padded, axis=axis)[inner] for axis in (0, 1))
        offsets = (np.arange(samples) + 0.5) / samples - 0.5
        y, x = (grid.reshape(-1, 1) for grid in np.meshgrid(offsets, offsets, indexing="ij"))
        fine = rays[:, :, None] + step_x[:, :, None] * x + step_y[:, :, None] * y
        return fine.reshape(-1, 3), samples


@dataclass(frozen=True, eq=False)
class Layer:
    """Coverage and light of one object on a part of the image.

    Attributes:
        box: the pixels that the arrays are about.
        coverage: `(h, w)` share of each pixel that the object fills, in [0, 1].
        light_e: `(h, w, 3)` its expected electrons, coverage already in them.

    """

    box: PixelBox
    coverage: FloatArray
    light_e: FloatArray

    def grown(self, margin_px: int, width: int, height: int) -> Layer:
        """Add empty pixels on all sides, as far as an image of this size has them."""
        box = self.box
        left, top = max(box.left - margin_px, 0), max(box.top - margin_px, 0)
        right, bottom = min(box.right + margin_px, width), min(box.bottom + margin_px, height)
        sides = ((box.top - top, bottom - box.bottom), (box.left - left, right - box.right))
        return Layer(
            PixelBox(left, top, right, bottom), np.pad(self.coverage, sides), np.pad(self.light_e, (*sides, (0, 0)))
        )


@dataclass(frozen=True, eq=False)
class Disc:
    """A small disc on the image.

    Attributes:
        box: its pixels in the image.
        coverage: `(h, w)` share of each of these pixels that it fills.
        centre_px: `(2,)` of the whole disc.
        raster_centre_px: `(2,)` the same as pixels that are uniform inside give it.

    """

    box: PixelBox
    coverage: FloatArray
    centre_px: FloatArray
    raster_centre_px: FloatArray


def disc_coverage(centre_px: FloatArray, diameter_px: float, width: int, height: int) -> Disc | None:
    """Lay a disc on the image's pixels; None where it is outside."""
    radius = diameter_px / 2
    low, high = centre_px - radius - 1, centre_px + radius + 1
    box = clipped_box(low, high, width, height)
    if box is None:
        return None
    (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int) + 1
    samples = 16
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    x = (np.arange(left, right)[:, None] + offsets).ravel() - centre_px[0]
    y = (np.arange(top, bottom)[:, None] + offsets).ravel() - centre_px[1]
    inside = x[None, :] ** 2 + y[:, None] ** 2 <= radius**2
    whole = inside.reshape(bottom - top, samples, right - left, samples).mean(axis=(1, 3))
    seen = whole[box.top - top : box.bottom - top, box.left - left : box.right - left]
    return Disc(box, seen, centre_px, weighted_centre(PixelBox(left, top, right, bottom), whole))


def weighted_centre(box: PixelBox, weights: FloatArray) -> FloatArray:
    """Give the weighted mean `(2,)` of a box's pixels, by weights `(h, w)`."""
    grid_y, grid_x = np.mgrid[box.top : box.bottom, box.left : box.right]
    total = weights.sum()
    return np.array([(grid_x * weights).sum(), (grid_y * weights).sum()]) / total
