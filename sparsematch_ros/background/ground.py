"""The motion of ground and clouds from their texture: corners followed by optical flow, fitted robustly."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.background.corners import follow_corners
from sparsematch_ros.background.covariance import fit_covariance, image_sigma_px
from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.geometry import apply_homography

# Smooth cloud has structure over larger windows only: the image reduced by this factor shows it.
_COARSE = 4
# A corner of that is followed in a window that reaches so far [px].
REACH_PX = 40.0
# A layer whose motion is known no better than this over the image is not known [px].
_MOST_SIGMA_PX = 3.0
# A motion that misses that of a quarter of the steep slopes by more than this is not the ground's [px]; the share of
# the pixels that are less steep, and the least number of the others.
_MOST_MISFIT_PX, _STEEP, _LEAST_SAMPLES = 6.0, 0.7, 100


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
    shift = (_COARSE - 1) / 2
    enlarge = np.array([[_COARSE, 0, shift], [0, _COARSE, shift], [0, 0, 1.0]])
    size = tuple(length // _COARSE for length in images[0].shape[::-1])
    first, second = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images)
    small = (first, second), cv2.resize(allowed.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    for scale, (pair, where), error in ((np.eye(3), (images, allowed), noise), (enlarge, small, noise / _COARSE)):
        reduced = np.linalg.inv(scale) @ expected @ scale
        before, after = follow_corners(
            pair, where, functools.partial(apply_homography, reduced), error, config.max_features
        )
        before, after = apply_homography(scale, before), apply_homography(scale, after)
        layer = _fit(before, after, images[0].shape, scale[0, 0] * config.ransac_threshold_px, config.min_inliers)
        if layer is not None:
            carried = np.linalg.inv(enlarge) @ layer.homography @ enlarge
            if _COARSE * _misfit_px(*small, carried, noise / _COARSE) < _MOST_MISFIT_PX:
                return layer
    return None


def _misfit_px(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]], allowed: BoolArray, homography: FloatArray, noise: float
) -> float:
    """Measure by how much a motion misses that of the texture all over the image; 0 where no texture shows it.

    Objects before smooth cloud have most of the corners, but little of the area.

    Args:
        images: previous and current one, `(h, w)` uint8.
        allowed: `(h, w)` bool, where the previous image may show ground.
        homography: `(3, 3)` the motion.
        noise: standard deviation of a pixel [grey levels].

    Returns:
        The upper quartile of what steep slopes show [px of these images].

    """
    size = images[0].shape[::-1]
    known = cv2.warpPerspective(allowed.astype(np.uint8), homography, size, flags=cv2.INTER_NEAREST) > 0
    carried = cv2.warpPerspective(images[0].astype(np.float32), homography, size, flags=cv2.INTER_LINEAR)
    slope = np.hypot(cv2.Sobel(carried, -1, 1, 0, scale=1 / 8), cv2.Sobel(carried, -1, 0, 1, scale=1 / 8))
    known &= cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    known &= slope > max(2 * noise, float(np.quantile(slope[known], _STEEP)) if known.any() else 0.0)
    if known.sum() < _LEAST_SAMPLES:
        return 0.0
    return float(np.quantile(np.abs(images[1][known] - carried[known]) / slope[known], 0.75))


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
