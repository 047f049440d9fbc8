"""Regions of a frame that are not background: above the sky by their brightness, elsewhere by their residual motion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, check_shape
from sparsematch_ros.detection.bodies import LEAST_AREA_PX, THRESHOLD, Bodies, joined_labels
from sparsematch_ros.detection.evidence import EVIDENT, Evidence
from sparsematch_ros.detection.radiance import Radiance, Raster
from sparsematch_ros.detection.sources import Sources

# Against ground a region has so many evident pixels side by side [px^2]; its strongest is twice as far from the
# background as what is evident.
_LEAST_SPECK_PX = 9
# The wings of the point spread: outside a body brightness falls to these shares of it within so many pixels.
_WINGS = ((0.4, 1), (0.25, 2), (0.03, 4), (0.004, 6))
# Outside a moving body the difference to the background is below this share of the largest within so many pixels.
_SKIRT = (0.4, 2)
# The thick part of a region is deeper than this share of its depth, and what is as near to that.
_CORE_SHARE = 0.3
# A fragment has at most this share of the area of what it belongs to, and lies within this share of its longer side.
_FRAGMENT_SHARE, _FRAGMENT_GAP = 0.35, 0.15
# Gaps are measured on every so many pixels.
_COARSE = 4
# What shines through a ghost is detail finer than this [px], which follows the background's by so many standard
# deviations, and is correlated with it by this much.
_DETAIL_PX, _TRANSPARENT_SIGMA, _TRANSPARENT = 3.0, 4.0, 0.55
# The slope of a body is surely below this.
_OPAQUE, _OPAQUE_SIGMA = 0.7, 2.0
# Area over which smoothed noise is correlated [px^2].
_CORRELATED_PX = 12.0
# Of a blend of stars few pixels move against them; it is no larger than this [px^2].
_RESTING_SHARE, _MOST_BLEND_PX = 0.1, 200.0
# A point source this close to a region belongs to it; this close to the border it is cut [px].
_NEAR_PX = 4
# Gaps of this width inside a traced body are part of it [px].
_CLOSED_PX = 5


@dataclass(frozen=True, eq=False)
class Regions:
    """R regions, the largest first.

    Attributes:
        labels: `(H, W)` int32, 1 + row of the region at each pixel, 0 for none.
        foreground: `(H, W)` bool, pixels that are not background, their edges where the point spread halves them.
        sky: `(H, W)` bool, pixels that are sky, or glow before it: certainly background.
        evidence: `(H, W)` float32 of residual motion in standard deviations, NaN where a motion would not show, or None
            where none was measured.
        contrast: `(H, W)` float32 how far each pixel stands out from the sky, or from the ground that is expected there
            [noise of the sky, or of the residual motion].
        boxes_xyxy_px: `(R, 4)` float64, first and last column and row.
        cores_xyxy_px: `(R, 4)` float64, the same of each region's thick part, without booms and trails.
        seeds_px: `(R, 2)` float64 point deepest inside each region.
        areas_px: `(R,)` float64 pixels of the foreground.
        solid: `(R,)` bool, regions that may be no ghosts of the optics: they stand before the sky, or hide the ground.

    """

    labels: NDArray[np.int32]
    foreground: BoolArray
    sky: BoolArray
    evidence: Raster | None = None
    contrast: Raster | None = None
    boxes_xyxy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    cores_xyxy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    seeds_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    areas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    solid: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("boxes_xyxy_px", self.boxes_xyxy_px, None, 4)
        check_shape("cores_xyxy_px", self.cores_xyxy_px, len(self), 4)
        check_shape("seeds_px", self.seeds_px, len(self), 2)
        check_shape("areas_px", self.areas_px, len(self))
        check_shape("solid", self.solid, len(self))

    def __len__(self) -> int:
        """Count the regions."""
        return len(self.boxes_xyxy_px)

    def off(self, points_px: FloatArray) -> BoolArray:
        """Test which points `(S, 2)` lie off all regions, and off the image's border, by a few pixels."""
        near = cv2.dilate((self.labels > 0).astype(np.uint8), np.ones((2 * _NEAR_PX + 1, 2 * _NEAR_PX + 1), np.uint8))
        height, width = near.shape
        x, y = np.rint(points_px).astype(np.int64).T
        inside = (x >= _NEAR_PX) & (y >= _NEAR_PX) & (x < width - _NEAR_PX) & (y < height - _NEAR_PX)
        off = np.zeros(len(points_px), dtype=bool)
        off[inside] = near[y[inside], x[inside]] == 0
        return off


def find_regions(
    radiance: Radiance, levels: Raster, bodies: Bodies, sources: Sources, evidence: Evidence | None, sky_in_view: bool,
    most: int,
) -> Regions:  # fmt: skip
    """Find the regions that stand out from every background.

    Args:
        radiance: of the frame.
        levels: `(H, W)` float32 brightness before smoothing [grey levels].
        bodies: of the frame.
        sources: its point sources.
        evidence: residual motion, or None.
        sky_in_view: False where what looks like sky is none, so that brightness tells nothing.
        most: most regions.

    """
    bright = bodies.foreground if sky_in_view else np.zeros_like(bodies.foreground)
    surroundings = bodies.surroundings if sky_in_view else np.ones_like(bodies.surroundings)
    moving = np.zeros_like(bright) if evidence is None else _evident(radiance.smooth, evidence, surroundings)
    if sky_in_view and evidence is not None:
        bright = bright | _moving_groups(radiance, evidence, sources) & ~surroundings
    labels, count = joined_labels(bright | moving)
    above = (labels > 0) & (radiance.significance > THRESHOLD) & ~surroundings
    if evidence is not None:
        above &= ~(bodies.lit & (evidence.deviations < EVIDENT))
    foreground = _traced(levels - radiance.level, above) | moving
    areas = np.bincount(labels[foreground], minlength=count)
    large, solid = areas >= LEAST_AREA_PX, np.ones(count, dtype=bool)
    if evidence is not None:
        ghosts, opaque = _transparency(radiance.smooth, evidence.expected, labels, count)
        on_sky = np.bincount(labels[bright], minlength=count) > 0
        large &= _proven(labels, foreground, moving, evidence, areas, on_sky, ghosts)
        solid = on_sky | opaque
        evidence = replace(evidence, deviations=np.where(ghosts[labels], np.float32(0), evidence.deviations))
    large[0] = False
    rows = np.flatnonzero(large)
    rows = rows[np.argsort(-areas[rows], kind="stable")][:most]
    rows, whole = _with_fragments(labels, rows, areas)
    numbers = np.zeros(count, dtype=np.int32)
    numbers[rows] = np.arange(1, len(rows) + 1)
    labels = numbers[whole[labels]]
    areas = np.bincount(whole, areas)
    sky = ~foreground & ~surroundings
    shapes = _shapes(labels, foreground, len(rows))
    deviations = np.float32(0) if evidence is None else evidence.deviations
    contrast = np.where(surroundings, deviations, radiance.significance)
    return Regions(
        labels,
        foreground & (labels > 0),
        sky,
        _shown_motion(evidence),
        contrast,
        *shapes,
        areas[rows].astype(np.float64),
        solid[rows],
    )


def _proven(
    labels: NDArray[np.int32], foreground: BoolArray, moving: BoolArray, evidence: Evidence, areas: IntArray,
    on_sky: BoolArray, ghosts: BoolArray,
) -> BoolArray:  # fmt: skip
    """Test which labels `(count,)` stand against the sky or surely move, and are no stars that touch.

    What is hardly larger than a star, and goes with the stars to the last pixel, is a few of them in one.
    """
    peaks = np.zeros(len(areas), dtype=np.float32)
    np.maximum.at(peaks, labels[moving], evidence.deviations[moving])
    moved = np.bincount(labels[foreground & (evidence.deviations >= EVIDENT)], minlength=len(areas))
    alone = (moved >= _RESTING_SHARE * areas) | (areas > _MOST_BLEND_PX)
    return np.asarray((on_sky | ((peaks > 2 * EVIDENT) & ~ghosts)) & alone)


def _shown_motion(evidence: Evidence | None) -> Raster | None:
    """Keep the residual motion where there is some, and where there would be if something moved."""
    if evidence is None:
        return None
    shown = evidence.visible | (evidence.deviations > EVIDENT)
    return np.where(shown, evidence.deviations, np.float32(np.nan))


def _moving_groups(radiance: Radiance, evidence: Evidence, sources: Sources) -> BoolArray:
    """Find bodies whose bright parts look like point sources side by side: what holds several of them and moves."""
    moving = (evidence.deviations > EVIDENT) & (radiance.significance > THRESHOLD)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving.astype(np.uint8), connectivity=8)
    x, y = np.rint(sources.points_px).astype(np.int64).T
    held = np.bincount(labels[y.clip(0, labels.shape[0] - 1), x.clip(0, labels.shape[1] - 1)], minlength=count)
    several = (held >= 2) & (stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA_PX)
    several[0] = False
    return np.asarray(several[labels])


def _with_fragments(labels: NDArray[np.int32], rows: IntArray, areas: IntArray) -> tuple[IntArray, IntArray]:
    """Count a region beside a much larger one as a part of it, such as a nozzle behind a shadow or a lit tip of a boom.

    Args:
        labels: `(H, W)` of connected parts.
        rows: `(R,)` labels of the regions, the largest first.
        areas: of all labels [px^2].

    Returns:
        The labels `(K,)` of the regions that are no parts, and for each label the one that it belongs to.

    """
    whole = np.arange(len(areas))
    small = labels[::_COARSE, ::_COARSE]
    for number, row in enumerate(rows[:-1]):  # From large to small; what is part of another has none of its own.
        later = rows[number + 1 :]
        later = later[(areas[later] < _FRAGMENT_SHARE * areas[row]) & (whole[later] == later)]
        if whole[row] != row or len(later) == 0:
            continue
        away = np.minimum(cv2.distanceTransform((small != row).astype(np.uint8), cv2.DIST_L2, 3), 1e6) * _COARSE
        gaps = np.full(len(areas), np.inf, dtype=np.float32)
        np.minimum.at(gaps, small.ravel(), away.ravel())
        y, x = np.nonzero(labels == row)
        reach = _FRAGMENT_GAP * max(np.ptp(x), np.ptp(y))
        whole[later[gaps[later] < reach]] = row
    return rows[whole[rows] == rows], whole


def _evident(smooth: Raster, evidence: Evidence, surroundings: BoolArray) -> BoolArray:
    """Trace what moves over the ground, without specks and without the skirt that the smoothing gives it."""
    contrast = np.abs(smooth - evidence.expected)
    share, reach_px = _SKIRT
    around = cv2.dilate(contrast, np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8))
    moving = (evidence.deviations > EVIDENT) & (contrast > share * around) & surroundings
    _, labels, stats, _ = cv2.connectedComponentsWithStats(moving.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= _LEAST_SPECK_PX
    large[0] = False
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSED_PX, _CLOSED_PX))
    return np.asarray(cv2.morphologyEx(large[labels].astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0)


def _transparency(
    smooth: Raster, expected: Raster, labels: NDArray[np.int32], count: int
) -> tuple[BoolArray, BoolArray]:
    """Test which labels `(count,)` let the background shine through, and which hide it; too smooth a one shows neither.

    Ghosts of the optics add to the background, bodies stand before it: a line through the details of both has the slope
    1 or 0.
    """
    y, x = np.nonzero(labels)
    rows = labels[y, x]
    details = [(image - cv2.GaussianBlur(image, (0, 0), _DETAIL_PX))[y, x] for image in (smooth, expected)]
    number = np.maximum(np.bincount(rows, minlength=count), 1)
    centred = [each - (np.bincount(rows, each, count) / number)[rows] for each in details]
    own, other, common = (
        np.bincount(rows, centred[first] * centred[second], count) for first, second in ((0, 0), (1, 1), (0, 1))
    )
    # The slope of a line through the details, and its error; neighbours within the smoothing count as one.
    slope = common / np.maximum(other, 1e-9)
    rest = np.maximum(own - slope * common, 0.0) / np.maximum(other, 1e-9)
    error = np.sqrt(rest / np.maximum(number / _CORRELATED_PX - 1, 1.0))
    ghosts = (slope > _TRANSPARENT_SIGMA * error) & (common > _TRANSPARENT * np.sqrt(own * other))
    ghosts[0] = False
    return np.asarray(ghosts), np.asarray(slope + _OPAQUE_SIGMA * error < _OPAQUE)


def _traced(contrast: Raster, bright: BoolArray) -> BoolArray:
    """Trace bright bodies at a share of their own brightness: a blurred edge halves there, wherever the threshold."""
    if not bright.any():
        return bright
    contrast = np.where(bright, contrast, np.float32(0))
    traced = bright.copy()
    for share, reach_px in _WINGS:
        traced &= contrast > share * cv2.dilate(contrast, np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSED_PX, _CLOSED_PX))
    return np.asarray(cv2.morphologyEx(traced.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0)


def _shapes(labels: NDArray[np.int32], foreground: BoolArray, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute the boxes `(R, 4)` of each region's foreground and of its thick part, and its deepest point `(R, 2)`."""
    boxes, cores, seeds = np.zeros((count, 4)), np.zeros((count, 4)), np.zeros((count, 2))
    for row in range(count):  # A few; each on its own part of the image.
        columns, lines = (np.flatnonzero((labels == row + 1).any(axis=axis)) for axis in (0, 1))
        left, top = columns[0], lines[0]
        part = np.s_[top : lines[-1] + 1, left : columns[-1] + 1]
        held = np.pad((foreground[part] & (labels[part] == row + 1)).astype(np.uint8), 1)
        depth = cv2.distanceTransform(held, cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        thick = cv2.dilate((depth > _CORE_SHARE * depth[y, x]).astype(np.uint8), _disc(_CORE_SHARE * depth[y, x]))
        corner = np.array([left - 1, top - 1, left - 1, top - 1])
        boxes[row], cores[row] = _box(held) + corner, _box(thick & held) + corner
        seeds[row] = left + x - 1, top + y - 1
    return boxes, cores, seeds


def _box(mask: NDArray[np.uint8]) -> FloatArray:
    x, y, width, height = cv2.boundingRect(mask)
    return np.array([x, y, x + width - 1, y + height - 1], dtype=np.float64)


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * int(np.ceil(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)
