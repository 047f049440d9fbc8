"""The background's homography from texture: corners followed by optical flow, fitted robustly."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import FloatArray
from sparsematch_ros.kinematics import apply_homography

_WINDOW = (21, 21)
_PYRAMID_LEVELS = 3
# What noise of one grey level gives as the lesser eigenvalue of OpenCV's structure tensor, whatever the window: its
# Sobel filter squared, over the square of its scale. Twice that is structure in every direction.
_NOISE_EIGENVALUE = 12 / 16
_STRUCTURE_SHARE = 2.0
# Noise of a perfect 8-bit image: its quantisation.
_LEAST_NOISE = 0.3
# Columns and rows of the raster over which corners are spread.
_CELLS = (8, 6)


def follow_corners(
    previous: NDArray[np.uint8], current: NDArray[np.uint8], expected: FloatArray, config: EgoMotionConfig
) -> tuple[FloatArray, FloatArray]:
    """Follow corners from one `(H, W)` image to the next.

    Pyramidal Lucas-Kanade both ways; a corner that does not come back to its place within half a pixel is dropped
    (Kalal et al., "Forward-Backward Error", 2010).

    Returns:
        Points in the previous and in the current image, `(K, 2)` each.

    """
    corners = _spread_corners(previous, config.max_features)
    if len(corners) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    guess = apply_homography(expected, corners[:, 0].astype(np.float64)).astype(np.float32)[:, None]
    options = {"winSize": _WINDOW, "maxLevel": _PYRAMID_LEVELS, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    moved, found, _ = cv2.calcOpticalFlowPyrLK(previous, current, corners, guess.copy(), **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(current, previous, moved, corners.copy(), **options)
    error = np.linalg.norm((back - corners)[:, 0], axis=1)
    good = (found.ravel() == 1) & (found_back.ravel() == 1) & (error < 0.5)
    return corners[good, 0].astype(np.float64), moved[good, 0].astype(np.float64)


def _spread_corners(image: NDArray[np.uint8], most: int) -> NDArray[np.float32]:
    """Find corners `(K, 1, 2)` spread over the image, so that one textured object cannot outvote the background."""
    corners = cv2.goodFeaturesToTrack(image, 5 * most, 0.001, 5)
    if corners is None:
        return np.zeros((0, 1, 2), dtype=np.float32)
    corners = corners[_structured(image, corners[:, 0])]
    height, width = image.shape
    cells = (corners[:, 0] // (width / _CELLS[0], height / _CELLS[1])).astype(np.int64)
    numbers = cells[:, 1] * _CELLS[0] + cells[:, 0]
    # The strongest come first: a stable sort by cell keeps that order, and the rank in the cell cuts it.
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], numbers[order])
    rank = np.arange(len(order)) - starts
    kept = order[rank < max(1, most // (_CELLS[0] * _CELLS[1]))]
    return np.asarray(corners[kept], dtype=np.float32)


def _structured(image: NDArray[np.uint8], corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which corners `(K, 2)` flow can be followed from in every direction.

    An edge such as a planet's limb slides along itself without a trace, and noise agrees with any motion.
    """
    levels = image.astype(np.float32)
    eigenvalues = cv2.cornerMinEigenVal(levels, _WINDOW[0], ksize=3)
    columns, rows = corners.astype(np.int64).T
    return np.asarray(eigenvalues[rows, columns] > _STRUCTURE_SHARE * _NOISE_EIGENVALUE * _noise(levels) ** 2)


def _noise(levels: NDArray[np.float32]) -> float:
    """Estimate the noise [grey levels] from what edges leave of it (Immerkaer, 1996), as a median."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    rest = np.abs(cv2.filter2D(levels, -1, kernel)[1:-1, 1:-1])
    return max(_LEAST_NOISE, 1.4826 * float(np.median(rest)) / float(np.linalg.norm(kernel)))


def fit_background(
    previous_px: FloatArray, current_px: FloatArray, config: EgoMotionConfig
) -> tuple[FloatArray, NDArray[np.int64]] | None:
    """Fit a homography `(3, 3)` to followed points `(K, 2)` with MAGSAC++ (Barath et al., 2020).

    Returns:
        The homography and the rows that agree, or None where too few do.

    """
    if len(previous_px) < max(4, config.min_inliers):
        return None
    homography, agree = cv2.findHomography(
        previous_px, current_px, cv2.USAC_MAGSAC, config.ransac_threshold_px, maxIters=2000, confidence=0.999
    )
    if homography is None:
        return None
    inliers = np.flatnonzero(agree.ravel())
    return (homography, inliers) if len(inliers) >= config.min_inliers else None
