"""What moves against the background: dense flow that is left when the background's motion is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import FloatArray, ResidualMotion

# A region is where the motion is above this share of its own peak: half of it keeps the flow's smooth skirt out.
_REGION_SHARE = 0.5
_SKIRT_SHARE = 0.25
# Flow near the part of the image that the previous frame does not show is made up.
_BORDER_PX = 15
# Flow over more than this share of the image is a mismatch.
_FARTHEST_SHARE = 0.15
# OpenCV's inverse search reads outside long images of a shorter side than this, and crashes.
_LEAST_SIDE_PX = 32
# Grey levels by which motion must explain a pixel better than rest.
_CLEAR_LEVELS = 4
# A place moves where this share of the pixels around it is evident.
_LOCAL_SHARE = 0.2
_LOCAL_PX = 9
# Pixels of masks that are numbers at once: what bounds the memory that large images take.
_PIXELS_AT_ONCE = 32_000_000
# Evidence is averaged over about this much around a place (standard deviation), and places are this far apart, in
# pixels of the raster. A place stands out where the average exceeds that of the whole raster by this much.
_PLACE_SIGMA_PX = 4.0
_PLACE_REACH_PX = 12
_PLACE_CONTRAST = 0.25
# What moves is parted from the rest at this share of the way from the mean to the densest place.
_PARTING_SHARE = 0.5
# Width of the ring around a mask that counts as its surroundings, in pixels of the raster.
_RING_PX = 5


class ResidualFlow:
    """Dense inverse search flow (Kroeger et al., 2016), checked against the picture.

    Flow is smooth and spreads over the edges of what moves; the evidence does not: a resting pixel beside a moving
    object is explained by the background's motion alone.

    Attributes:
        longest_side_px: size of the raster.

    """

    def __init__(self, longest_side_px: int) -> None:
        """Prepare the flow; its buffers are reused between frames."""
        self.longest_side_px = longest_side_px
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(
        self, previous: NDArray[np.uint8], current: NDArray[np.uint8], homography: FloatArray
    ) -> ResidualMotion:
        """Compare two `(H, W)` images under the background's homography; zero where the previous does not reach."""
        height, width = current.shape
        scale = min(1.0, self.longest_side_px / max(height, width))
        size = (max(_LEAST_SIDE_PX, round(width * scale)), max(_LEAST_SIDE_PX, round(height * scale)))
        ratio = np.array([size[0] / width, size[1] / height])
        now = cv2.resize(current, size, interpolation=cv2.INTER_AREA)
        before = cv2.resize(previous, size, interpolation=cv2.INTER_AREA)
        reduced = _scale_homography(homography, ratio)
        resting = cv2.warpPerspective(before, reduced, size, flags=cv2.INTER_LINEAR)
        seen = cv2.warpPerspective(np.full_like(before, 255), reduced, size, flags=cv2.INTER_NEAREST)
        flow = self._flow.calc(now, resting, None)  # From now back to where it was, the background held still.
        flow[cv2.erode(seen, np.ones((_BORDER_PX, _BORDER_PX), np.uint8), borderValue=0) == 0] = 0
        flow[np.abs(flow).max(axis=2) > _FARTHEST_SHARE * max(size)] = 0
        return ResidualMotion(np.asarray(-flow / ratio, dtype=np.float32), _evidence(now, resting, flow))


def _evidence(now: NDArray[np.uint8], resting: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mark the pixels that the flow explains better than rest by a clear margin."""
    y, x = np.indices(now.shape, dtype=np.float32)
    moved = cv2.remap(resting, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    better = cv2.absdiff(now, resting).astype(np.int16) - cv2.absdiff(now, moved) > _CLEAR_LEVELS
    return np.asarray(better & (flow != 0).any(axis=2), dtype=np.float32)


def _scale_homography(homography: FloatArray, ratio: FloatArray) -> FloatArray:
    """Express a homography of the full raster on one reduced by `ratio` (pixel centres at half pixels)."""
    offset = (ratio - 1) / 2
    reduce = np.array([[ratio[0], 0, offset[0]], [0, ratio[1], offset[1]], [0, 0, 1]])
    return np.asarray(reduce @ homography @ np.linalg.inv(reduce))


def flow_scatter_px(flow_px: NDArray[np.float32]) -> float:
    """Give the robust standard deviation an axis of residual flow `(h, w, 2)`: how much the surroundings move."""
    return float(1.4826 * np.median(np.abs(flow_px[::2, ::2])))


@dataclass(frozen=True, eq=False)
class MovingRegions:
    """Where the picture moves against the background, strongest first.

    Attributes:
        boxes_xyxy_px: `(R, 4)` float64 in pixels of the full image.
        points_px: `(R, 2)` float64 point deepest inside each region.
        speeds_px: `(R,)` float64 peak motion between the frames.

    """

    boxes_xyxy_px: FloatArray
    points_px: FloatArray
    speeds_px: FloatArray


def moving_regions(
    residual: ResidualMotion, size: tuple[int, int], threshold_px: float, min_area_px: float, most: int
) -> MovingRegions:
    """Find the regions that move, peak by peak.

    Args:
        residual: motion against the background.
        size: height and width of the full image [px].
        threshold_px: motion from which a place counts.
        min_area_px: smallest region [px^2 of the full image].
        most: most regions.

    """
    magnitude = cv2.GaussianBlur(np.linalg.norm(residual.flow_px, axis=2), (0, 0), 1.5)
    magnitude[cv2.blur(residual.evidence, (_LOCAL_PX, _LOCAL_PX)) < _LOCAL_SHARE] = 0
    ratio = np.array([size[1] / magnitude.shape[1], size[0] / magnitude.shape[0]])
    found: list[tuple[FloatArray, FloatArray, float]] = []
    for _ in range(2 * most):  # Bounded: peaks too small to count are peeled off too.
        peak = float(magnitude.max())
        if peak < threshold_px or len(found) == most:
            break
        region = _component_at_peak(magnitude, max(threshold_px, _REGION_SHARE * peak))
        if region.sum() * ratio.prod() >= min_area_px:
            found.append((*_box_and_seed(region, ratio), peak))
        magnitude[_component_at_peak(magnitude, max(threshold_px, _SKIRT_SHARE * peak))] = 0
    boxes, points, speeds = zip(*found, strict=True) if found else ((), (), ())
    return MovingRegions(np.reshape(boxes, (-1, 4)), np.reshape(points, (-1, 2)), np.array(speeds, dtype=np.float64))


def evident_places(residual: ResidualMotion, size: tuple[int, int], threshold_px: float, most: int) -> FloatArray:
    """Find the places around which most pixels are seen to move, where that is more than elsewhere.

    Flow joins what moves to its wake and to what is near; the density of evidence peaks on the thing itself.

    Args:
        residual: motion against the background.
        size: height and width of the full image [px].
        threshold_px: motion from which a pixel counts.
        most: most places.

    Returns:
        `(K, 2)` places [px of the full image], the densest first.

    """
    counted = residual.evidence * (np.linalg.norm(residual.flow_px, axis=2) >= threshold_px)
    density = _density(counted)
    ratio = np.array([size[1] / density.shape[1], size[0] / density.shape[0]])
    least = float(counted.mean()) + _PLACE_CONTRAST
    places: list[FloatArray] = []
    while len(places) < most and density.max() > least:
        row, column = np.unravel_index(int(density.argmax()), density.shape)
        places.append((np.array([column, row]) + 0.5) * ratio - 0.5)
        cv2.circle(density, (int(column), int(row)), _PLACE_REACH_PX, 0.0, cv2.FILLED)
    return np.reshape(places, (-1, 2)).astype(np.float64)


def evident_parting(residual: ResidualMotion) -> float:
    """Give the share of evident pixels that parts what moves from the rest: between the mean and the densest place."""
    level = float(residual.evidence.mean())
    return level + _PARTING_SHARE * (float(_density(residual.evidence).max()) - level)


def _density(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(evidence.astype(np.float32), (0, 0), _PLACE_SIGMA_PX), dtype=np.float32)


def _component_at_peak(magnitude: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    _, labels = cv2.connectedComponents((magnitude >= threshold).astype(np.uint8))
    return np.asarray(labels == labels.flat[int(magnitude.argmax())])


def _box_and_seed(region: NDArray[np.bool_], ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    mask = region.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    seed = np.array(np.unravel_index(int(depth.argmax()), depth.shape))[::-1]
    box = np.array([x, y, x + width - 1, y + height - 1], dtype=np.float64)
    return (box + 0.5) * np.tile(ratio, 2) - 0.5, (seed + 0.5) * ratio - 0.5


@torch.inference_mode()
def moving_shares(
    evidence: NDArray[np.float32], masks: Tensor, edges: FloatArray | None = None
) -> tuple[Tensor, Tensor]:
    """Give the share of evident pixels inside each mask and in the ring around it, `(M,)` float32 each.

    Args:
        evidence: `(h, w)` of `ResidualMotion`.
        masks: `(M, H, W)` bool.
        edges: `(4,)` left, top, right and bottom edge of what the masks show, in shares of the whole image, rounded to
            the raster's cells; None: the whole.

    """
    if len(masks) == 0:
        return torch.zeros(0, device=masks.device), torch.zeros(0, device=masks.device)
    raster = torch.from_numpy(evidence).to(masks.device)
    inside = _on_raster(masks, evidence.shape, np.array([0.0, 0.0, 1.0, 1.0]) if edges is None else edges)
    wide = functional.max_pool2d(inside, 2 * _RING_PX + 1, stride=1, padding=_RING_PX)
    ring = (wide - inside).clamp(min=0)
    shares = [
        (part[:, 0] * raster).sum(dim=(1, 2)) / part.sum(dim=(1, 2, 3)).clamp(min=1e-6) for part in (inside, ring)
    ]
    return shares[0], shares[1]


def _on_raster(masks: Tensor, size: tuple[int, ...], edges: FloatArray) -> Tensor:
    """Give the share `(M, 1, h, w)` of each cell of a raster that each mask fills."""
    height, width = size
    scaled = edges * np.array([width, height, width, height])
    left, top = (int(value) for value in np.minimum(scaled[:2].round(), [width - 1, height - 1]))
    right, bottom = (int(value) for value in np.maximum(scaled[2:].round(), [left + 1, top + 1]))
    part, group = (bottom - top, right - left), max(1, _PIXELS_AT_ONCE // (masks.shape[1] * masks.shape[2]))
    inside = [functional.interpolate(some[:, None].float(), part, mode="area") for some in masks.split(group)]
    return functional.pad(torch.cat(inside), (left, width - right, top, height - bottom))
