"""The one association: which segment is which tracked object, by likelihoods, for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, TrackPredictions
from sparsematch_ros.detection.bodies import LEAST_AREA_PX
from sparsematch_ros.geometry import box_intersection, touches_border
from sparsematch_ros.segmentation.masks import masks_at
from sparsematch_ros.segmentation.segments import Segments

# Chance that an object in view is detected, and that one is that others hide.
DETECTION, HIDDEN_DETECTION = 0.9, 0.1
# Areas and fluxes of the same object differ by this much from frame to frame (standard deviation of the log); one mask
# in twenty is broken, and hardly any point, nor a mask where parts of a larger object show. Of clutter they fall off
# from the least ones by this power.
_SIZE_SIGMA, _BROKEN, _BROKEN_POINT, _BROKEN_COVERED = 0.25, 0.05, 1e-4, 1e-3
_AREA_POWER, _FLUX_POWER = 1.0, 2.0
# Standard deviation of a centroid for a change of its mask's size, both in pixels.
_SHAPE_SHARE = 0.5
# Log likelihood ratio for each unit of the cosine, about the cosine of unlike segments, and its bounds.
_COSINE_WEIGHT, _COSINE_MIDDLE, _MOST_COSINE = 6.0, 0.7, 2.0
# What is smaller than this share of an object changes little of it.
_NOTABLE_SHARE = 0.1
# A mask this much larger than an object, which holds another's place too, is both.
_MERGED_RATIO = 1.3
# A segment with this share of its box inside an object's belongs to it.
_FRAGMENT_SHARE = 0.7


@dataclass(frozen=True, eq=False)
class Association:
    """Which segment is which object.

    Attributes:
        segment_rows: `(T,)` int64 row of each object's segment, -1 for none.
        log_ratios: `(T,)` log likelihood ratio of existence that the assignment, or the miss, carries.
        chances: `(T,)` chance that the assigned segment is the object's own and not clutter beside a missed one.
        fragments: `(N,)` bool segments that are parts of a known object, or several objects in one.
        hidden: `(T,)` bool objects that were not seen because another is where they are predicted.
        covered: `(T,)` bool objects that are predicted where a larger one is.

    """

    segment_rows: IntArray
    log_ratios: FloatArray
    chances: FloatArray
    fragments: BoolArray
    hidden: BoolArray
    covered: BoolArray


def associate(
    predictions: TrackPredictions,
    segments: Segments,
    log_densities: FloatArray,
    cosines: FloatArray,
    fluxes: FloatArray,
    log_clutter: FloatArray,
) -> Association:
    """Assign segments to objects so that the sum of their log likelihood ratios is the largest.

    Args:
        predictions: T objects predicted into this frame.
        segments: N segments of this frame.
        log_densities: `(T, N)` log density of each segment's place under each object's prediction [1/px^2].
        cosines: `(T, N)` of the descriptors; NaN where unknown.
        fluxes: `(T,)` of the objects; NaN for masks.
        log_clutter: `(N,)` log density of false segments of each kind [1/px^2].

    """
    count = len(segments)
    held = np.zeros((len(predictions), count), dtype=bool)
    held[:, : segments.mask_count] = masks_at(segments.masks, predictions.states[:, :2])
    beside = _notable(predictions).astype(np.int64) @ held.astype(np.int64) > 0
    merged = held & beside & (segments.areas_px > _MERGED_RATIO * predictions.areas_px[:, None])
    chance = np.where((held & beside).any(axis=1), HIDDEN_DETECTION, DETECTION)
    missed = np.log(1 - chance)
    covered = _covered(predictions)
    broken = np.where(covered, _BROKEN_COVERED, _BROKEN)[:, None]
    densities = np.logaddexp(np.log(1 - broken) + log_densities, np.log(broken) + _log_inside(predictions, segments))
    densities[~np.isfinite(log_densities)] = -np.inf
    ratios = densities + np.log(chance)[:, None] - log_clutter
    ratios += _area_ratio(predictions, segments, broken) + _flux_ratio(fluxes, segments) + _cosine_ratio(cosines)
    gain = np.where(merged, -np.inf, ratios - missed[:, None])
    rows, columns = linear_sum_assignment(-np.clip(gain, 0.0, None))
    good = gain[rows, columns] > 0
    assigned = np.full(len(predictions), -1, dtype=np.int64)
    assigned[rows[good]] = columns[good]
    hidden = (assigned < 0) & held.any(axis=1)
    evidence = np.where(hidden, 0.0, missed)
    evidence[rows[good]] = ratios[rows[good], columns[good]]
    chances = np.zeros(len(predictions))
    chances[rows[good]] = expit(gain[rows[good], columns[good]])
    fragments = _fragments(predictions, segments, assigned, held)
    return Association(assigned, evidence, chances, fragments, hidden, covered)


def place_errors(predictions: TrackPredictions, segments: Segments) -> FloatArray:
    """Compute the error `(T, N, 2, 2)` [px^2] of each segment's centroid as that of each object.

    A mask that has grown or shrunk by a part has moved its centroid by a share of that.
    """
    sizes = np.sqrt(predictions.areas_px)[:, None], np.sqrt(segments.areas_px)[None]
    masked = predictions.resolved[:, None] & (np.arange(len(segments)) < segments.mask_count)
    changed = np.where(masked, _SHAPE_SHARE * (sizes[1] - sizes[0]), 0.0)
    return np.asarray(segments.covariances_px2 + changed[..., None, None] ** 2 * np.eye(2))


def _log_inside(predictions: TrackPredictions, segments: Segments) -> FloatArray:
    """Compute the log density `(T, N)` of a centroid anywhere in the predicted box; -inf outside, and for points.

    When a part of a body lights up or goes dark its centroid leaps.
    """
    boxes = predictions.boxes_xywh_px[:, None]
    inside = (segments.centroids_px >= boxes[..., :2]) & (segments.centroids_px <= boxes[..., :2] + boxes[..., 2:])
    held = inside.all(axis=2) & predictions.resolved[:, None] & (np.arange(len(segments)) < segments.mask_count)
    return np.where(held, -np.log(np.maximum(predictions.boxes_xywh_px[:, 2:].prod(axis=1), 1.0))[:, None], -np.inf)


def _covered(predictions: TrackPredictions) -> BoolArray:
    """Test which objects `(T,)` are predicted where a larger one is: what shows there may be a part of that one."""
    boxes, places = predictions.boxes_xywh_px, predictions.states[:, None, :2]
    within = ((places >= boxes[:, :2]) & (places <= boxes[:, :2] + boxes[:, 2:])).all(axis=2)
    larger = predictions.areas_px[None] > _MERGED_RATIO * predictions.areas_px[:, None]
    return np.asarray((within & larger & predictions.believed & predictions.resolved).any(axis=1))


def _notable(predictions: TrackPredictions) -> BoolArray:
    """Test which objects (column) matter to which others (row), `(T, T)`: large, believed in, and of another body."""
    areas, bodies = predictions.areas_px, predictions.bodies
    notable = (areas[None] > _NOTABLE_SHARE * areas[:, None]) & predictions.resolved & predictions.believed
    return np.asarray(notable & (bodies[:, None] != bodies[None]))


def _fragments(predictions: TrackPredictions, segments: Segments, assigned: IntArray, held: BoolArray) -> BoolArray:
    """Test which segments `(N,)` are nobody's but lie in a known object, or hold several: they are no new objects."""
    known = np.flatnonzero(predictions.believed & predictions.resolved & (assigned >= 0))
    boxes = segments.boxes_xywh_px[assigned[known]]
    common = box_intersection(boxes, segments.boxes_xywh_px)
    part = (common > _FRAGMENT_SHARE * segments.boxes_xywh_px[:, 2:].prod(axis=1)).any(axis=0)
    part[assigned[assigned >= 0]] = False
    several = held[predictions.believed & predictions.resolved].sum(axis=0) >= 2
    return np.asarray(part | several)


def _area_ratio(predictions: TrackPredictions, segments: Segments, broken: FloatArray) -> FloatArray:
    """Compute log p(area | same) / p(area | clutter), `(T, N)`; 0 between point sources, which have none.

    Of the masks of a resolved object the share `(T, 1)` is broken.
    """
    areas = np.maximum(predictions.areas_px, 1.0)[:, None], np.maximum(segments.areas_px, 1.0)[None]
    size = segments.masks.shape[1:]
    cut = touches_border(predictions.boxes_xywh_px, size)[:, None] | touches_border(segments.boxes_xywh_px, size)
    # The area of a few pixels is known to the pixels of its outline; what the border cuts may have any.
    sigma = np.sqrt(_SIZE_SIGMA**2 + 4 / areas[0] + 4 / areas[1] + cut)
    # A point source does not become a body from one frame to the next.
    broken = np.where(predictions.resolved[:, None], broken, _BROKEN_POINT)
    excess = np.log(np.maximum(areas[1] / LEAST_AREA_PX, 1.0))
    ratio = _size_ratio(np.log(areas[1] / areas[0]), sigma, broken, excess, _AREA_POWER)
    points = ~predictions.resolved[:, None] & (np.arange(len(segments)) >= segments.mask_count)
    return np.where(points, 0.0, ratio)


def _flux_ratio(fluxes: FloatArray, segments: Segments) -> FloatArray:
    """Compute the same of the fluxes; 0 unless both are point sources."""
    change = np.log(np.maximum(segments.fluxes, 1e-3)[None] / np.maximum(fluxes, 1e-3)[:, None])
    known = np.isfinite(change)
    if not known.any():
        return np.zeros_like(change)
    snr = np.maximum(-5 * np.log(np.maximum(1 - segments.scores, 1e-9)), 1.0)
    excess = np.log(np.maximum(snr / np.min(snr[segments.mask_count :]), 1.0))
    sigma = np.hypot(_SIZE_SIGMA, 2 / snr)[None]
    ratio = _size_ratio(np.where(known, change, 0.0), sigma, np.array(_BROKEN), excess, _FLUX_POWER)
    return np.where(known, ratio, 0.0)


def _size_ratio(
    change: FloatArray, sigma: FloatArray, broken: FloatArray, excess: FloatArray, power: float
) -> FloatArray:
    """Compute the log ratio of a log-normal change to a power law of clutter.

    Args:
        change: `(T, N)` log of the new size over the old one.
        sigma: its standard deviation.
        broken: share of changes that follow the clutter's law instead.
        excess: `(N,)` log of the new size over the least one that is detected.
        power: exponent of the number of clutter above a size.

    """
    same = np.exp(-0.5 * (change / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    clutter = power * np.exp(-power * excess)
    return np.asarray(np.log((1 - broken) * same / clutter + broken))


def _cosine_ratio(cosines: FloatArray) -> FloatArray:
    ratio = np.clip(_COSINE_WEIGHT * (cosines - _COSINE_MIDDLE), -_MOST_COSINE, _MOST_COSINE)
    return np.where(np.isnan(cosines), 0.0, ratio)
