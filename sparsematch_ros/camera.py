"""Pixels and bearings: the pinhole camera of `sensor_msgs/CameraInfo`, distortion, ROI and binning included.

Axes are the optical frame's of REP-103: x right, y down, z forward. A bearing is a unit vector in these axes. Pixels
count from the centre of the top left pixel of the image as it is delivered, that is after ROI and binning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.errors import SparsematchError

FloatArray = NDArray[np.float64]

# How many coefficients OpenCV takes for each.
_COUNTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
DISTORTION_MODELS = tuple(_COUNTS)
# Intrinsics that place the whole image within this of each other are the same: nothing here is more exact.
_SAME_PX = 0.05


@dataclass(frozen=True, eq=False)
class CameraModel:
    """Intrinsics of one image size.

    Attributes:
        width: image width [px], as delivered.
        height: image height [px], as delivered.
        matrix: `(3, 3)` float64, row-major K [px], for the image as delivered.
        distortion: `(n,)` float64 coefficients in OpenCV's order; `n = 0` for none, to which all zeros are reduced.
        distortion_model: one of `DISTORTION_MODELS`; equidistant is OpenCV's fisheye.

    """

    width: int
    height: int
    matrix: FloatArray
    distortion: FloatArray = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = "plumb_bob"

    def __post_init__(self) -> None:
        """Check sizes and values.

        Raises:
            SparsematchError: where a value cannot belong to a camera.

        """
        if self.width <= 0 or self.height <= 0:
            raise SparsematchError(f"camera size {self.width}x{self.height}: both must be positive")
        if self.distortion_model not in DISTORTION_MODELS:
            raise SparsematchError(
                f"distortion model '{self.distortion_model}' unknown: {', '.join(DISTORTION_MODELS)} are known"
            )
        self._check_matrix()
        if not self.distortion.any():
            object.__setattr__(self, "distortion", np.zeros(0))  # ROS writes "no distortion" as zeros.
        self._check_distortion()

    def _check_matrix(self) -> None:
        if self.matrix.shape != (3, 3) or not np.isfinite(self.matrix).all():
            raise SparsematchError("camera matrix K must be 3x3 and finite")
        if self.matrix[0, 0] <= 0 or self.matrix[1, 1] <= 0:
            raise SparsematchError(
                f"focal length {self.matrix[0, 0]}, {self.matrix[1, 1]} px: must be positive (uncalibrated camera?)"
            )
        if (self.matrix[2] != (0, 0, 1)).any():
            raise SparsematchError(f"camera matrix K ends in {self.matrix[2].tolist()}: must be 0, 0, 1")

    def _check_distortion(self) -> None:
        allowed, count = _COUNTS[self.distortion_model], self.distortion.size
        if not np.isfinite(self.distortion).all():
            raise SparsematchError("distortion coefficients D must be finite")
        if count and count not in allowed:
            raise SparsematchError(f"{count} distortion coefficients: {self.distortion_model} takes {allowed}")
        # Numbers that are finite can still be absurd, and then what they give is not.
        with np.errstate(all="ignore"):
            directed = np.isfinite(self.bearings(self._outline())).all()
        if not directed:
            raise SparsematchError("camera matrix K and distortion D give no directions at the image's corners")

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov_deg: float) -> CameraModel:
        """Build an ideal camera from its horizontal field of view [deg]."""
        focal_px = width / 2 / np.tan(np.radians(horizontal_fov_deg) / 2)
        matrix = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
        return cls(width, height, matrix)

    def windowed(self, x_offset: int, y_offset: int, width: int, height: int, binning: tuple[int, int]) -> CameraModel:
        """Give the model of a region of interest, binned (image_geometry's rules for ROI and binning).

        Args:
            x_offset: left edge of the ROI in the full image [px].
            y_offset: top edge of the ROI in the full image [px].
            width: ROI width [px] before binning; 0 for the full width.
            height: ROI height [px] before binning; 0 for the full height.
            binning: factors in x and y; 0 counts as 1.

        """
        bin_x, bin_y = max(binning[0], 1), max(binning[1], 1)
        matrix = self.matrix.copy()
        # A binned pixel's centre lies half a binned pixel from its edge, hence the half pixels.
        matrix[0, 2] = (matrix[0, 2] - x_offset + 0.5) / bin_x - 0.5
        matrix[1, 2] = (matrix[1, 2] - y_offset + 0.5) / bin_y - 0.5
        matrix[0, :2] /= bin_x
        matrix[1, :2] /= bin_y
        size = ((width or self.width) // bin_x, (height or self.height) // bin_y)
        return CameraModel(*size, matrix, self.distortion, self.distortion_model)

    def agrees_with(self, other: CameraModel) -> bool:
        """Tell whether both see the same directions at the same pixels, to a twentieth of a pixel."""
        if (self.width, self.height) != (other.width, other.height):
            return False
        apart_rad = np.linalg.norm(self.bearings(self._outline()) - other.bearings(self._outline()), axis=1)
        return bool((apart_rad * self.matrix[0, 0] <= _SAME_PX).all())

    def bearings(self, points_px: FloatArray) -> FloatArray:
        """Turn pixels `(N, 2)` into unit vectors `(N, 3)`, undistorted."""
        if len(points_px) == 0:
            return np.zeros((0, 3))
        normalized = self._undistort(np.asarray(points_px, dtype=np.float64))
        rays = np.concatenate([normalized, np.ones((len(normalized), 1))], axis=1)
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def project(self, bearings: FloatArray) -> FloatArray:
        """Turn vectors `(N, 3)` into pixels `(N, 2)`, distorted; NaN where z is not positive."""
        vectors = np.asarray(bearings, dtype=np.float64).reshape(-1, 3)
        pixels = np.full((len(vectors), 2), np.nan)
        front = vectors[:, 2] > 1e-9
        if front.any():
            pixels[front] = self._distort(vectors[front])
        return pixels

    def bearing_jacobian(self, points_px: FloatArray) -> FloatArray:
        """Give d bearing / d pixel `(N, 3, 2)` by central differences of half a pixel."""
        points = np.asarray(points_px, dtype=np.float64).reshape(-1, 2)
        step = 0.5
        columns = [
            (self.bearings(points + offset) - self.bearings(points - offset)) / (2 * step)
            for offset in (np.array([step, 0.0]), np.array([0.0, step]))
        ]
        return np.stack(columns, axis=2)

    def _outline(self) -> FloatArray:
        """Give the corners, the middles of the sides and the middle of the image, `(9, 2)` pixels."""
        x, y = np.meshgrid(
            [0.0, (self.width - 1) / 2, self.width - 1.0], [0.0, (self.height - 1) / 2, self.height - 1.0]
        )
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def _undistort(self, points: FloatArray) -> FloatArray:
        if self.distortion_model == "equidistant" and self.distortion.size:
            flat = cv2.fisheye.undistortPoints(points[:, None], self.matrix, self.distortion)
        else:
            flat = _undistort_iterated(points, self.matrix, self._coefficients())
        return np.asarray(flat, dtype=np.float64).reshape(-1, 2)

    def _distort(self, vectors: FloatArray) -> FloatArray:
        zero = np.zeros(3)
        if self.distortion_model == "equidistant" and self.distortion.size:
            pixels, _ = cv2.fisheye.projectPoints(vectors[:, None], zero, zero, self.matrix, self.distortion)
        else:
            pixels, _ = cv2.projectPoints(vectors, zero, zero, self.matrix, self._coefficients())
        return np.asarray(pixels, dtype=np.float64).reshape(-1, 2)

    def _coefficients(self) -> FloatArray | None:
        return self.distortion if self.distortion.size else None


def _undistort_iterated(points: FloatArray, matrix: FloatArray, coefficients: FloatArray | None) -> FloatArray:
    """Undistort pixels `(N, 2)` until they settle: OpenCV's five default rounds leave tenths of a pixel."""
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-10)
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4 has a function of its own for it, 5 an argument.
        flat = cv2.undistortPointsIter(points[:, None], matrix, coefficients, None, None, criteria)
    else:
        flat = cv2.undistortPoints(points[:, None], matrix, coefficients, criteria=criteria)
    return np.asarray(flat, dtype=np.float64)
