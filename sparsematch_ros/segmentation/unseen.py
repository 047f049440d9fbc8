"""Where nothing has been looked at for long: a sparse grid that follows the background, textured places first."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from segment_anything.utils.amg import build_point_grid

from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.kinematics import apply_homography

# Side of a grid's cell in the reduced image whose gradients are its texture [px].
_CELL_PX = 8
# A cell with this many times the median texture is a place of its own, not just next in turn.
_TEXTURED = 2.0


class UnseenPlaces:
    """Remembers where was looked, and moves it with the background."""

    def __init__(self, points_per_side: int) -> None:
        """Take the grid's side; 0 makes an empty grid."""
        self._side = points_per_side
        self._seen_px = np.zeros((0, 2))

    def move(self, homography: FloatArray) -> None:
        """Carry what was looked at along with the background, `(3, 3)` previous pixel to current pixel."""
        self._seen_px = apply_homography(homography, self._seen_px)

    def choose(self, gray: NDArray[np.uint8], covered_xyxy_px: FloatArray, most: int) -> tuple[FloatArray, BoolArray]:
        """Choose the next places, and remember them as looked at.

        Args:
            gray: `(H, W)` the image.
            covered_xyxy_px: `(B, 4)` boxes that are looked at anyway; NaN rows cover nothing.
            most: most places.

        Returns:
            `(K, 2)` places [px], and `(K,)` whether each stands out by its texture.

        """
        if most == 0 or self._side == 0:
            return np.zeros((0, 2)), np.zeros(0, dtype=bool)
        size = np.array(gray.shape[::-1], dtype=np.float64)
        grid = build_point_grid(self._side) * size
        free = np.flatnonzero(~inside_boxes(grid, covered_xyxy_px))
        fresh = free[~self._seen(grid[free], size / self._side)]
        if len(fresh) == 0:  # All has been looked at: begin anew.
            self._seen_px, fresh = np.zeros((0, 2)), free
        texture = _texture(gray, self._side)
        chosen = fresh[np.argsort(-texture[fresh], kind="stable")][:most]
        self._seen_px = np.concatenate([self._seen_px, grid[chosen]])[-(self._side**2) :]
        return grid[chosen], texture[chosen] > _TEXTURED * np.median(texture)

    def _seen(self, places: FloatArray, cell_px: FloatArray) -> BoolArray:
        """Say in the cells around which of `(K, 2)` places was looked."""
        near = np.all(np.abs(places[:, None] - self._seen_px[None]) < cell_px / 2, axis=2)
        return np.asarray(np.any(near, axis=1))


def inside_boxes(points: FloatArray, boxes_xyxy: FloatArray) -> BoolArray:
    """Say which points `(P, 2)` lie in any of the boxes `(B, 4)`; NaN boxes hold none."""
    if len(boxes_xyxy) == 0:
        return np.zeros(len(points), dtype=bool)
    above = points[:, None] >= boxes_xyxy[None, :, :2]
    below = points[:, None] <= boxes_xyxy[None, :, 2:]
    return np.asarray(np.any(np.all(above & below, axis=2), axis=1))


def _texture(gray: NDArray[np.uint8], side: int) -> FloatArray:
    """Give the mean gradient of each of the `side * side` cells, row by row [grey levels a reduced pixel]."""
    small = cv2.resize(gray, (side * _CELL_PX, side * _CELL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)) / 8
    return np.asarray(cv2.resize(gradient, (side, side), interpolation=cv2.INTER_AREA).ravel(), dtype=np.float64)
