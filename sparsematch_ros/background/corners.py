"""Corners of the texture, followed from one image to the next by optical flow."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray

_WINDOW = (21, 21)
_PYRAMID_LEVELS = 3
# What noise of one grey level gives as the lesser eigenvalue of OpenCV's structure tensor, whatever the window: its
# Sobel filter squared, over the square of its scale. Twice that is structure in every direction.
_NOISE_EIGENVALUE = 12 / 16
_STRUCTURE_SHARE = 2.0
# Columns and rows of the raster over which corners are spread.
_CELLS = (8, 6)
# A corner that does not return to its place within this is dropped [px].
_MOST_RETURN_PX = 0.5


def follow_corners(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    allowed: BoolArray,
    expected: Callable[[FloatArray], FloatArray],
    noise: float,
    most: int,
) -> tuple[FloatArray, FloatArray]:
    """Follow corners from one image to the next by pyramidal Lucas-Kanade, both ways.

    A corner that does not come back to its place is dropped (Kalal et al., "Forward-Backward Error", 2010).

    Args:
        images: previous and current one, `(H, W)` uint8.
        allowed: `(H, W)` bool, where corners may be in the previous image.
        expected: moves points `(K, 2)` to where they are looked for first.
        noise: standard deviation of a pixel [grey levels].
        most: most corners.

    Returns:
        Points in the previous and in the current image, `(K, 2)` float64 each.

    """
    corners = _spread_corners(images[0], allowed, noise, most)
    if len(corners) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    guess = expected(corners[:, 0].astype(np.float64)).astype(np.float32)[:, None]
    options = {"winSize": _WINDOW, "maxLevel": _PYRAMID_LEVELS, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    moved, found, _ = cv2.calcOpticalFlowPyrLK(*images, corners, guess.copy(), **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(*images[::-1], moved, corners.copy(), **options)
    error = np.linalg.norm((back - corners)[:, 0], axis=1)
    good = (found.ravel() == 1) & (found_back.ravel() == 1) & (error < _MOST_RETURN_PX)
    return corners[good, 0].astype(np.float64), moved[good, 0].astype(np.float64)


def _spread_corners(image: NDArray[np.uint8], allowed: BoolArray, noise: float, most: int) -> NDArray[np.float32]:
    """Find corners `(K, 1, 2)` spread over the image, so that one textured object cannot outvote the background."""
    mask = None if allowed.all() else allowed.astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(image, 5 * most, 0.001, 5, mask=mask)
    if corners is None:
        return np.zeros((0, 1, 2), dtype=np.float32)
    corners = corners[_structured(image, corners[:, 0], noise)]
    height, width = image.shape
    cells = (corners[:, 0] // (width / _CELLS[0], height / _CELLS[1])).astype(np.int64)
    numbers = cells[:, 1] * _CELLS[0] + cells[:, 0]
    # The strongest come first: a stable sort by cell keeps that order, and the rank in the cell cuts it.
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], numbers[order])
    rank = np.arange(len(order)) - starts
    kept = order[rank < max(1, most // (_CELLS[0] * _CELLS[1]))]
    return np.asarray(corners[kept], dtype=np.float32)


def _structured(image: NDArray[np.uint8], corners: NDArray[np.float32], noise: float) -> BoolArray:
    """Test which corners `(K, 2)` can be followed in every direction.

    An edge such as a planet's limb slides along itself without a trace, and noise agrees with any motion.
    """
    eigenvalues = cv2.cornerMinEigenVal(image.astype(np.float32), _WINDOW[0], ksize=3)
    columns, rows = corners.astype(np.int64).T
    return np.asarray(eigenvalues[rows, columns] > _STRUCTURE_SHARE * _NOISE_EIGENVALUE * noise**2)
