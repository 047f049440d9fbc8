"""What stands out against a dark sky: point sources of a few pixels, and bright regions too large for one.

Surveyed once a frame and used twice: the stars carry the background's motion, the rest is where to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import FloatArray, check_shape

# A sky whose typical level is above this (of 255) is daylight, a limb or a planet, not a place for stars.
_DARK_LEVEL = 64.0
# Noise of a perfect 8-bit image: its quantisation.
_LEAST_NOISE = 0.3
_LEAST_FILTERED_NOISE = 0.1
# Bright parts this close to each other belong to one object, such as panels on both sides of a bus in shadow.
_GAP_PX = 9
# Sources down to this share of the wanted signal to noise are kept, so that faint stars stay known through their noise.
_FAINT_SHARE = 0.65
_SKY_PERCENT = 25
_PSF_SIGMA_PX = 1.1
_APERTURE_PX = 7
_EDGE_SHARE = 0.4
_WINGS_PX = 15
_WINGS_SHARE = 0.1
_BLOCK_PX = 12
_SPIKE_SIGMA = 4.0
_SPIKE_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Sky:
    """A frame's survey.

    Attributes:
        dark: True where most of the image is dark sky; the rest is empty where it is not.
        noise: standard deviation of the sky [grey levels of 255].
        points_px: `(S, 2)` float64 centroids of point sources, brightest first.
        fluxes: `(S,)` float64 [grey levels], summed in the aperture.
        sigmas_px: `(S,)` float64 standard deviation an axis of the centroids.
        snr: `(S,)` float64 signal to noise.
        extents_px: `(S,)` float64 widest extent above the detection threshold.
        boxes_xyxy_px: `(R, 4)` float64 boxes of bright regions, largest first.
        region_points_px: `(R, 2)` float64 point deepest inside each region.
        region_areas_px: `(R,)` float64.
        silhouettes: `(H, W)` bool, what is bright with its edges where the point spread halves them, or None where
            there is no bright region.
        region_labels: `(H, W)` int32, 1 + row of the bright region at each pixel, 0 for none; None with `silhouettes`.
        level: of the sky, also where a planet fills half the image [grey levels of 255].

    """

    dark: bool = False
    noise: float = float("nan")
    points_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    fluxes: FloatArray = field(default_factory=lambda: np.zeros(0))
    sigmas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    snr: FloatArray = field(default_factory=lambda: np.zeros(0))
    extents_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    boxes_xyxy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    region_points_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    region_areas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    silhouettes: NDArray[np.bool_] | None = None
    region_labels: NDArray[np.int32] | None = None
    level: float = float("nan")

    def __post_init__(self) -> None:
        """Check shapes."""
        sources, regions = len(self.points_px), len(self.boxes_xyxy_px)
        for name in ("fluxes", "sigmas_px", "snr", "extents_px"):
            check_shape(name, getattr(self, name), sources)
        check_shape("region_points_px", self.region_points_px, regions, 2)
        check_shape("region_areas_px", self.region_areas_px, regions)


def survey_sky(gray: NDArray[np.uint8], config: SegmentationConfig, max_sources: int) -> Sky:
    """Find point sources and bright regions in an `(H, W)` image.

    The detection filter is the matched filter of a Gaussian point spread (as in DAOFIND, Stetson 1987); noise comes
    from the median absolute difference of neighbours, so stars do not raise it.
    """
    levels = gray.astype(np.float32)
    level, background = _levels(gray, (_SKY_PERCENT, 50))
    noise = max(_LEAST_NOISE, _difference_noise(levels))
    if background > _DARK_LEVEL:
        return Sky(level=level, noise=noise)
    # A threshold of its own for what is large: faint haze and glow stay sky.
    threshold = max(config.bright_threshold * 255.0, 5 * noise)
    contrast = cv2.GaussianBlur(levels - background, (0, 0), 0.8)
    bright = contrast > threshold
    regions, labels = _bright_regions(bright.astype(np.uint8), config)
    covered = cv2.dilate((labels > 0).astype(np.uint8), np.ones((7, 7), np.uint8))
    points = _point_sources(_without_spikes(levels, noise), covered, config, max_sources)
    if len(regions[0]) == 0:
        return Sky(True, noise, *points, level=level)
    return Sky(True, noise, *points, *regions, _silhouettes(contrast, bright), labels, level)


def _levels(gray: NDArray[np.uint8], percents: tuple[int, ...]) -> tuple[float, ...]:
    """Give grey levels below which so many percent of the pixels lie; counting them is quicker than sorting."""
    below = np.cumsum(np.bincount(gray.ravel(), minlength=256))
    return tuple(float(np.searchsorted(below, percent / 100 * gray.size)) for percent in percents)


def region_seeds(labels: NDArray[np.int32], rows: NDArray[np.int64], boxes: NDArray[np.int32]) -> FloatArray:
    """Find the point deepest inside each labelled region, `(R, 2)` x, y.

    Args:
        labels: `(H, W)` int32 component numbers.
        rows: `(R,)` numbers of the regions that matter.
        boxes: `(R, 4)` left, top, width, height of each.

    """
    seeds = np.zeros((len(rows), 2))
    for position, (row, (x, y, width, height)) in enumerate(zip(rows, boxes, strict=True)):
        patch = np.pad((labels[y : y + height, x : x + width] == row).astype(np.uint8), 1)
        depth = cv2.distanceTransform(patch, cv2.DIST_L2, 3)
        seeds[position] = np.unravel_index(int(depth.argmax()), depth.shape)[::-1] + np.array([x - 1, y - 1])
    return seeds


def _difference_noise(levels: NDArray[np.float32]) -> float:
    steps = np.abs(levels[::2, 1:] - levels[::2, :-1])
    return float(np.median(steps)) * 1.4826 / np.sqrt(2)


def _without_spikes(levels: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    """Level single pixels that no optics could make: hot ones, and most hits of particles.

    A point spread lights the eight neighbours with more than twice its middle (0.6 times for one as sharp as half a
    pixel); a hot pixel leaves them dark.
    """
    around = cv2.medianBlur(levels, 3)
    above = levels - around
    neighbours = 9 * cv2.blur(above, (3, 3)) - above
    spikes = (above > _SPIKE_SIGMA * noise) & (neighbours < _SPIKE_SHARE * above)
    return np.where(spikes, around, levels)


def _bright_regions(
    bright: NDArray[np.uint8], config: SegmentationConfig
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], NDArray[np.int32]]:
    """Give boxes, seeds and areas of regions that are no point sources, and where they lie, numbered from 1."""
    joined = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GAP_PX, _GAP_PX)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    extent = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    lit = np.bincount(labels[bright > 0], minlength=count)
    large = (extent > config.point_source_max_px) & (lit >= 2 * config.point_source_max_px)
    large[0] = False
    rows = np.flatnonzero(large)
    rows = rows[np.argsort(-stats[rows, cv2.CC_STAT_AREA])]
    boxes = stats[rows, :4]
    numbers = np.zeros(count, dtype=np.int32)
    numbers[rows] = np.arange(1, len(rows) + 1)
    seeds = region_seeds(labels, rows, boxes)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1], axis=1).astype(np.float64)
    return (corners, seeds, stats[rows, cv2.CC_STAT_AREA].astype(np.float64)), numbers[labels]


def _silhouettes(contrast: NDArray[np.float32], bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Trace bright things at a share of their own brightness: a blurred edge halves there, wherever the threshold."""
    local = cv2.dilate(contrast, np.ones((_APERTURE_PX, _APERTURE_PX), np.uint8))
    lit = (bright & (contrast > _EDGE_SHARE * local)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_APERTURE_PX, _APERTURE_PX))
    return np.asarray(cv2.morphologyEx(lit, cv2.MORPH_CLOSE, kernel) > 0)


def _point_sources(
    levels: NDArray[np.float32], covered: NDArray[np.uint8], config: SegmentationConfig, most: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Give centroids, fluxes, centroid sigmas, SNR and extents of the brightest point sources."""
    flat = levels - _local_background(levels)
    filtered = cv2.GaussianBlur(flat, (0, 0), _PSF_SIGMA_PX)
    # Measured on the filtered image, where 8-bit rounding no longer shows and neighbours' correlation counts.
    filtered_noise = max(_LEAST_FILTERED_NOISE, 1.4826 * float(np.median(np.abs(filtered - np.median(filtered)))))
    # The wings of a bright source are no extent: it counts down to a share of its own peak.
    peak = cv2.dilate(filtered, np.ones((_WINGS_PX, _WINGS_PX), np.uint8))
    floor = np.maximum(_FAINT_SHARE * config.point_source_snr * filtered_noise, _WINGS_SHARE * peak)
    above = ((filtered > floor) & (covered == 0)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    extent = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    peaks = (filtered >= cv2.dilate(filtered, np.ones((5, 5), np.uint8))) & (above > 0)
    peaks &= (extent <= 2 * config.point_source_max_px)[labels]
    y, x = np.nonzero(peaks)
    order = np.argsort(-filtered[y, x], kind="stable")[:most]
    y, x = y[order], x[order]
    centroids, fluxes = _centroids(flat, x, y)
    snr = filtered[y, x] / filtered_noise
    # Cramer-Rao bound of a Gaussian spot's centroid, with a floor for what the pixel grid leaves.
    sigmas = np.hypot(_PSF_SIGMA_PX * 1.5 / np.maximum(snr, 1.0), 0.05)
    return centroids, fluxes, sigmas, snr.astype(np.float64), extent[labels[y, x]].astype(np.float64)


def _local_background(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the median of block means over 60 px: means keep fractions of a level, medians pass by what is bright."""
    height, width = levels.shape
    blocks = (max(1, round(width / _BLOCK_PX)), max(1, round(height / _BLOCK_PX)))
    smooth = cv2.medianBlur(cv2.resize(levels, blocks, interpolation=cv2.INTER_AREA), 5)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _centroids(flat: NDArray[np.float32], x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Give Gaussian-weighted centroids `(S, 2)` and aperture fluxes `(S,)` around peaks."""
    half = _APERTURE_PX // 2
    padded = np.pad(flat, half)
    offsets = np.arange(-half, half + 1)
    grid_y, grid_x = np.meshgrid(offsets, offsets, indexing="ij")
    patches = padded[y[:, None, None] + half + grid_y, x[:, None, None] + half + grid_x].astype(np.float64)
    shift = np.zeros((len(x), 2))
    for _ in range(4):  # The weight follows the spot; four rounds settle it to a hundredth of a pixel.
        dx, dy = grid_x - shift[:, 0, None, None], grid_y - shift[:, 1, None, None]
        weight = np.exp(-(dx**2 + dy**2) / (2 * (1.5 * _PSF_SIGMA_PX) ** 2)) * np.maximum(patches, 0)
        total = np.maximum(weight.sum(axis=(1, 2)), 1e-9)
        # A spot and a weight of like width pull the weighted mean half way; the step undoes most of it.
        step = 1.5 * np.stack([(weight * dx).sum(axis=(1, 2)), (weight * dy).sum(axis=(1, 2))], axis=1) / total[:, None]
        shift = np.clip(shift + step, -2.0, 2.0)
    fluxes = patches.sum(axis=(1, 2))
    return np.stack([x, y], axis=1) + shift, fluxes
