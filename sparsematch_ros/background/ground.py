"""The motion of ground and clouds from their texture: corners followed by optical flow, fitted robustly."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.background.covariance import fit_covariance, image_sigma_px
from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.geometry import apply_homography

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
# Smooth cloud has structure over larger windows only: the image reduced by this factor shows it.
_COARSE = 4
# A layer whose motion is known no better than this over the image is not known [px].
_MOST_SIGMA_PX = 3.0


def fit_ground(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    allowed: BoolArray,
    expected: FloatArray,
    noise: float,
    config: BackgroundConfig,
) -> Layer | None:
    """Fit a homography to the motion of the texture; of smooth clouds to that of their coarse structure.

    Args:
        images: previous and current one, `(H, W)` uint8.
        allowed: `(H, W)` bool, where the previous image may show ground.
        expected: `(3, 3)` homography that is expected.
        noise: standard deviation of a pixel [grey levels].
        config: thresholds.

    Returns:
        The layer, or None where too little agrees, or what agrees covers too little of the image to tell of the rest.

    """
    before, after = _follow_corners(images, allowed, expected, noise, config.max_features)
    layer = _fit(before, after, images[0].shape, config.ransac_threshold_px, config.min_inliers)
    if layer is not None:
        return layer
    shift = (_COARSE - 1) / 2
    enlarge = np.array([[_COARSE, 0, shift], [0, _COARSE, shift], [0, 0, 1.0]])
    size = tuple(length // _COARSE for length in images[0].shape[::-1])
    first, second = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images)
    coarse = cv2.resize(allowed.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    reduced = np.linalg.inv(enlarge) @ expected @ enlarge
    before, after = _follow_corners((first, second), coarse, reduced, noise / _COARSE, config.max_features)
    before, after = apply_homography(enlarge, before), apply_homography(enlarge, after)
    return _fit(before, after, images[0].shape, _COARSE * config.ransac_threshold_px, config.min_inliers)


def _fit(before: FloatArray, after: FloatArray, size: tuple[int, ...], threshold_px: float, least: int) -> Layer | None:
    """Fit a homography to followed points `(K, 2)` with MAGSAC++ (Barath et al., 2020)."""
    if len(before) < max(5, least):
        return None
    homography, agree = cv2.findHomography(
        before, after, cv2.USAC_MAGSAC, threshold_px, maxIters=2000, confidence=0.999
    )
    inliers = np.flatnonzero(agree) if homography is not None else np.zeros(0, dtype=np.int64)
    if len(inliers) < least:
        return None
    covariance = fit_covariance(homography, before[inliers], after[inliers])
    if covariance is None or image_sigma_px(homography, covariance, (size[0], size[1])) > _MOST_SIGMA_PX:
        return None
    residual = apply_homography(homography, before[inliers]) - after[inliers]
    return Layer(LayerKind.GROUND, homography, covariance, len(inliers), float(np.sqrt(np.mean(residual**2))))


def _follow_corners(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]], allowed: BoolArray, expected: FloatArray, noise: float,
    most: int,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Follow corners from one image to the next by pyramidal Lucas-Kanade, both ways.

    A corner that does not come back to its place is dropped (Kalal et al., "Forward-Backward Error", 2010).

    Returns:
        Points in the previous and in the current image, `(K, 2)` each.

    """
    corners = _spread_corners(images[0], allowed, noise, most)
    if len(corners) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    guess = apply_homography(expected, corners[:, 0].astype(np.float64)).astype(np.float32)[:, None]
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
