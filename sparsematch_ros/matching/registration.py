"""How far a segment has moved, from its pixels rather than from its outline.

SAM's masks breathe by whole pixels between frames, and their centroids with them. Under a dark sky the picture itself
is laid over the next one instead, all segments at once (inverse compositional Lucas-Kanade with a gain: Baker and
Matthews, "Lucas-Kanade 20 Years On", IJCV 2004). Brightness is cut off at a low level, so that the outline counts and
not the surface, which turns with the object while the outline's centroid stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sparsematch_ros.data import BoolArray, EgoMotion, FloatArray, IntArray, Matches, Segments
from sparsematch_ros.kinematics import apply_homography, touches_border
from sparsematch_ros.matching.segments import background_variance_px2

Float32 = NDArray[np.float32]
Image = NDArray[np.uint8]

# Brightness counts from here to there above the sky [grey levels of 255], enlarged so that blurring rounds little.
_LEAST_LEVEL, _MOST_LEVEL, _ENLARGED = 4.0, 44.0, 6.0
_BLUR_PX = 1.0
# Samples a side, and what is looked at around a segment's box [px].
_SIDE = 24
_MARGIN_PX = 5.0
_ROUNDS = 4
_GAIN_STEP = 0.3
# Noise of a sample [grey levels], against which a segment is expected to stretch a frame by this much at its ends: in
# pixels, and as a share of its size.
_NOISE = 2.0
_STRETCH_PX, _STRETCH_SHARE = 0.05, 0.03
# A displacement may differ from the centroids' by no more than this [px] and this share of the segment's size.
_REACH_PX, _REACH_SHARE = 2.0, 0.15
# What is left unexplained, over what is there, of a segment that has only moved; more is another picture.
_MOST_RESIDUAL = 0.35
# Share of a segment's rim that may be bright before it is not alone.
_MOST_RIM_LIGHT = 0.1
# Error of a displacement [px], and what a stretch of one pixel adds to it.
_FLOOR_PX = 0.05
_BENT_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Registration:
    """How K segments moved.

    Attributes:
        displacements_px: `(K, 2)` float64 against the background; NaN where the pictures do not agree.
        covariances_px2: `(K, 2, 2)` float64.

    """

    displacements_px: FloatArray
    covariances_px2: FloatArray

    def take(self, rows: BoolArray) -> Registration:
        """Give some of them."""
        return Registration(self.displacements_px[rows], self.covariances_px2[rows])

    @property
    def known(self) -> BoolArray:
        """Say which segments could be laid over each other, `(K,)`."""
        return np.isfinite(self.displacements_px[:, 0])


@dataclass(frozen=True, eq=False)
class _Templates:
    """Samples of K segments in the previous image.

    Attributes:
        moved_px: `(K, S, S, 2)` where the background's motion carries each sample.
        arms: `(K, S*S, 2)` from the segment's centroid, 1 at the edge of what is sampled.
        levels: `(K, S*S)`.
        slopes: `(K, S*S, 2)`.
        weights: `(K, S*S)` 1 in the segment and around its edge, else 0.
        rims: `(K, S*S)` 1 around the segment where nothing of it can show any more, else 0.

    """

    moved_px: FloatArray
    arms: Float32
    levels: Float32
    slopes: Float32
    weights: Float32
    rims: Float32


@dataclass(frozen=True, eq=False)
class _Warp:
    """How K templates lie in the current image.

    Attributes:
        shifts_px: `(K, 2)` of the centroid, against the background.
        gains: `(K,)` brightness over the template's.
        bends_px: `(K, 2, 2)` further shift for each unit of the arms.

    """

    shifts_px: FloatArray
    gains: FloatArray
    bends_px: FloatArray

    def stepped(self, step: FloatArray) -> _Warp:
        """Give the warp after a step `(K, 7)`: shift, gain, bend."""
        gains = self.gains * (1 + np.clip(step[:, 2], -_GAIN_STEP, _GAIN_STEP))
        return _Warp(self.shifts_px - step[:, :2], gains, self.bends_px - step[:, 3:].reshape(-1, 2, 2))


def outlined(gray: Image, sky_level: float) -> Image:
    """Cut an image `(H, W)` of a dark sky to the brightness that `register` compares, and blur it.

    Args:
        gray: the image, uint8.
        sky_level: level of its sky [grey levels].

    """
    levels = np.arange(256) - sky_level - _LEAST_LEVEL
    table = (_ENLARGED * levels.clip(0, _MOST_LEVEL - _LEAST_LEVEL)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(cv2.LUT(gray, table), (0, 0), _BLUR_PX), dtype=np.uint8)


def with_registration(
    matches: Matches, segments: tuple[Segments, Segments], pictures: tuple[Image, Image], motion: EgoMotion
) -> Matches:
    """Measure the displacement of matches by registration, where both segments have a mask that no border cuts.

    Args:
        matches: K pairs with the centroids' displacement.
        segments: of the previous and the current frame.
        pictures: both frames' images from `outlined`.
        motion: the background's motion.

    """
    whole = [_is_whole(part)[rows] for part, rows in zip(segments, (matches.previous, matches.current))]
    pairs = np.flatnonzero(whole[0] & whole[1])
    found = register(pictures, segments[0], matches.previous[pairs], matches.displacement_px[pairs], motion.homography)
    pairs, found = pairs[found.known], found.take(found.known)
    displacement, covariance = matches.displacement_px.copy(), matches.velocity_covariance.copy()
    registered = matches.registered.copy()
    displacement[pairs], registered[pairs] = found.displacements_px, True
    noise = found.covariances_px2 + background_variance_px2(motion) * np.eye(2)
    covariance[pairs] = noise / motion.dt_s**2
    return replace(
        matches, displacement_px=displacement, velocity_px_s=displacement / motion.dt_s, velocity_covariance=covariance,
        registered=registered,
    )  # fmt: skip


def _is_whole(segments: Segments) -> BoolArray:
    """Say which segments `(N,)` have a mask that the image's border does not cut."""
    masked = np.arange(len(segments)) < segments.mask_count
    return np.asarray(masked & ~touches_border(segments.boxes_xywh_px, segments.masks.shape[1:]))


def register(
    pictures: tuple[Image, Image], segments: Segments, rows: IntArray, guesses_px: FloatArray, homography: FloatArray
) -> Registration:
    """Lay segments of the previous picture over the current one.

    Args:
        pictures: previous and current one, `(H, W)` uint8, from `outlined`.
        segments: of the previous image.
        rows: `(K,)` which of them; with a mask.
        guesses_px: `(K, 2)` displacement against the background to start from, such as the centroids'.
        homography: `(3, 3)` the background's motion.

    """
    if len(rows) == 0:
        return Registration(np.zeros((0, 2)), np.zeros((0, 2, 2)))
    templates = _templates(pictures[0], segments, rows, homography)
    return _solve(templates, pictures[1], guesses_px, np.sqrt(segments.areas_px[rows]))


def _templates(image: Image, segments: Segments, rows: IntArray, homography: FloatArray) -> _Templates:
    boxes = segments.boxes_xywh_px[rows]
    extent = boxes[:, 2:] + 2 * _MARGIN_PX
    reach = np.maximum(extent, _SIDE - 1) / 2
    middle = boxes[:, :2] + (boxes[:, 2:] - 1) / 2
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, _SIDE)]), axis=-1)
    places = middle[:, None, None] + reach[:, None, None] * grid
    arms = (places - segments.centroids_px[rows, None, None]) / reach[:, None, None]
    # Eight times the slope, which sixteen bits hold; the samples are few, so they are divided.
    slopes = cv2.merge([cv2.Sobel(image, cv2.CV_16S, *order, ksize=3) for order in ((1, 0), (0, 1))])
    return _Templates(
        apply_homography(homography, places.reshape(-1, 2)).reshape(places.shape),
        arms.reshape(len(rows), -1, 2).astype(np.float32),
        _sampled(image, places),
        _sampled(slopes, places) / np.float32(8),
        *_weights(segments, rows, places),
    )


def _weights(segments: Segments, rows: IntArray, places_px: FloatArray) -> tuple[Float32, Float32]:
    """Give weights and rims as in `_Templates`; outside the image both are 0."""
    height, width = segments.masks.shape[1:]
    column, line = (torch.from_numpy(np.rint(places_px[..., axis]).astype(np.int64)) for axis in (0, 1))
    inside = (column >= 0) & (line >= 0) & (column < width) & (line < height)
    device = segments.masks.device
    index = torch.from_numpy(np.asarray(rows))[:, None, None].expand_as(column).to(device)
    held = segments.masks[index, line.clamp(0, height - 1).to(device), column.clamp(0, width - 1).to(device)].cpu()
    near = functional.max_pool2d((held & inside).float(), 5, stride=1, padding=2)
    around = functional.max_pool2d(near, 3, stride=1, padding=1)
    return (near * inside).flatten(1).numpy(), ((around - near) * inside).flatten(1).numpy()


def _sampled(image: NDArray[Any], places_px: FloatArray) -> Float32:
    """Sample an image `(H, W)` or `(H, W, C)` at places `(K, S, S, 2)`: `(K, S*S)` or `(K, S*S, C)`."""
    count = len(places_px)
    flat = places_px.reshape(count * _SIDE, _SIDE, 2).astype(np.float32)
    taken = cv2.remap(image, flat, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return taken.reshape(count, _SIDE * _SIDE, *image.shape[2:]).astype(np.float32)


def _solve(templates: _Templates, image: Image, guesses_px: FloatArray, sizes_px: FloatArray) -> Registration:
    count = len(guesses_px)
    weighted, prior, inverse = _normal_equations(templates, sizes_px)
    warp = _Warp(guesses_px, np.ones(count), np.zeros((count, 2, 2)))
    for _ in range(_ROUNDS):
        unlike = _difference(templates, image, warp)
        pull = (unlike[:, None] @ weighted)[:, 0].astype(np.float64)
        pull[:, 3:] += prior * warp.bends_px.reshape(count, 4)
        warp = warp.stepped(np.einsum("kij,kj->ki", inverse, pull))
    unexplained, contrast = _residuals(templates, _difference(templates, image, warp))
    far = np.linalg.norm(warp.shifts_px - guesses_px, axis=1) > _REACH_PX + _REACH_SHARE * sizes_px
    bad = far | (_rim_light(templates) > _MOST_RIM_LIGHT) | ~(unexplained < _MOST_RESIDUAL**2 * contrast)
    # What changes its shape turns, and then its outline's centroid goes another way than its surface.
    turned = _BENT_SHARE**2 * (warp.bends_px**2).sum(axis=(1, 2)) / 2 + _FLOOR_PX**2
    covariances = unexplained[:, None, None] * inverse[:, :2, :2] + turned[:, None, None] * np.eye(2)
    return Registration(np.where(bad[:, None], np.nan, warp.shifts_px), covariances)


def _normal_equations(templates: _Templates, sizes_px: FloatArray) -> tuple[Float32, FloatArray, FloatArray]:
    """Give weighted steepest descent images `(K, S*S, 7)`, the bends' prior `(K, 4)` and the inverse `(K, 7, 7)`."""
    bends = templates.slopes[..., :, None] * templates.arms[..., None, :]
    steepest = np.concatenate(
        [templates.slopes, templates.levels[..., None], bends.reshape(*bends.shape[:2], 4)], axis=2
    )
    weighted = steepest * templates.weights[..., None]
    normal = weighted.transpose(0, 2, 1).astype(np.float64) @ steepest
    bend_px = _STRETCH_PX + _STRETCH_SHARE * sizes_px
    prior = np.repeat((_NOISE * _ENLARGED / bend_px[:, None]) ** 2, 4, axis=1)
    ridge = np.full((len(normal), 7), 1e-6) * (normal[:, 0, 0] + normal[:, 1, 1] + 1.0)[:, None]
    ridge[:, 3:] += prior
    return weighted, prior, np.linalg.inv(normal + ridge[:, :, None] * np.eye(7))


def _difference(templates: _Templates, image: Image, warp: _Warp) -> FloatArray:
    """Give what the current image has more than the template `(K, S*S)`, at the template's brightness."""
    bent = templates.arms @ warp.bends_px.transpose(0, 2, 1).astype(np.float32) + warp.shifts_px[:, None]
    seen = _sampled(image, templates.moved_px + bent.reshape(templates.moved_px.shape))
    return np.asarray(seen / warp.gains[:, None].astype(np.float32) - templates.levels)


def _residuals(templates: _Templates, unlike: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give the mean square `(K,)` of what is not explained, and of the templates about their means."""
    share = templates.weights / np.maximum(templates.weights.sum(axis=1, keepdims=True), 1.0)
    mean = (share * templates.levels).sum(axis=1, keepdims=True)
    return (share * unlike**2).sum(axis=1), (share * (templates.levels - mean) ** 2).sum(axis=1)


def _rim_light(templates: _Templates) -> FloatArray:
    """Give the share `(K,)` of the rim that is bright: something else reaches to the segment there."""
    bright = templates.levels > _ENLARGED * (_MOST_LEVEL - _LEAST_LEVEL) / 2
    return np.asarray((templates.rims * bright).sum(axis=1) / np.maximum(templates.rims.sum(axis=1), 1.0))
