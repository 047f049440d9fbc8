"""The two pictures of `sparsematch match`: dense features as colours, and a sparse set of matching patches."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.media.canvas import Canvas, Colour

Picture = NDArray[np.uint8]
# How bright the picture stays where no feature is shown, and outside a mask.
_DARK = 0.15
_DIM = 0.5
# Longest side of each picture side by side [px]: lines need room, and files an end.
_VIEW_PX = (480, 1280)
_GAP_PX = 8
_GAP_GREY = 90
# The ends of the turbo map are too dark for lines.
_LEVELS = (30, 230)


def feature_picture(image: Picture, inside: BoolArray, colours: NDArray[np.float32]) -> Picture:
    """Paint the patches in a mask; the rest is the image itself, dark.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        inside: `(h, w)` patches that are painted.
        colours: `(N, 3)` float32 RGB in [0, 1], one a patch that is True in `inside`, row by row.

    Returns:
        `(H, W, 3)` uint8 RGB.

    """
    raster = np.zeros((*inside.shape, 3), dtype=np.uint8)
    raster[inside] = np.rint(colours * 255)
    size = (image.shape[1], image.shape[0])
    painted = cv2.resize(raster, size, interpolation=cv2.INTER_NEAREST)
    shown = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.where(shown[..., None], painted, _dimmed(image, _DARK))


def side_by_side(pictures: Sequence[Picture]) -> tuple[Picture, FloatArray]:
    """Put pictures beside each other, each enlarged or reduced until its longest side is 480 to 1280 px.

    Returns:
        The joined picture, and for each of the P pictures the scale and the offset in x [px] at which it stands there,
        `(P, 2)`.

    """
    scales = [_view_scale(picture) for picture in pictures]
    fitted = [_scaled(picture, scale) for picture, scale in zip(pictures, scales)]
    width = sum(picture.shape[1] for picture in fitted) + _GAP_PX * (len(fitted) - 1)
    joined = np.full((max(picture.shape[0] for picture in fitted), width, 3), _GAP_GREY, dtype=np.uint8)
    offsets, left = [], 0
    for picture in fitted:
        joined[: picture.shape[0], left : left + picture.shape[1]] = picture
        offsets.append(left)
        left += picture.shape[1] + _GAP_PX
    return joined, np.stack([scales, offsets], axis=1).astype(np.float64)


def match_picture(
    images: tuple[Picture, Picture],
    masks: tuple[BoolArray | None, BoolArray | None],
    pairs_px: FloatArray,
    text: str,
) -> Picture:
    """Draw lines between matching places of two images side by side; outside a mask the image is dimmed.

    Args:
        images: `(H, W, 3)` uint8 RGB of A and of B.
        masks: `(H, W)` bool of each, or None.
        pairs_px: `(K, 2, 2)` places x, y in A and in B [px].
        text: line along the upper edge.

    Returns:
        `(H', W', 3)` uint8 RGB. Colours go through the rainbow from the uppermost place in A to the lowest.

    """
    shown = [
        image if mask is None else np.where(mask[..., None], image, _dimmed(image, _DIM))
        for image, mask in zip(images, masks)
    ]
    joined, layout = side_by_side(shown)
    canvas = Canvas(joined)
    for (start, end), colour in zip(_placed(pairs_px, layout), _rainbow(pairs_px[:, 0, 1])):
        _line(canvas, start, end, colour)
    canvas.panel_top(text)
    return canvas.image


def _placed(pairs_px: FloatArray, layout: FloatArray) -> FloatArray:
    """Move places of A and B to where they are in the joined picture."""
    scales, offsets = layout[:, 0], layout[:, 1]
    moved = (pairs_px + 0.5) * scales[None, :, None] - 0.5
    moved[..., 0] += offsets
    return moved


def _line(canvas: Canvas, start: FloatArray, end: FloatArray, colour: Colour) -> None:
    ends = [(round(float(x)), round(float(y))) for x, y in (start, end)]
    cv2.line(canvas.image, ends[0], ends[1], colour, max(1, canvas.line // 2), cv2.LINE_AA)
    for point in (start, end):
        canvas.dot(point, colour)


def _rainbow(heights: FloatArray) -> list[Colour]:
    """Give each height a colour of the turbo map, stretched over all of them."""
    if len(heights) == 0:
        return []
    spread = max(float(np.ptp(heights)), 1e-9)
    levels = np.rint(np.interp((heights - heights.min()) / spread, (0, 1), _LEVELS)).astype(np.uint8)
    colours = cv2.applyColorMap(levels[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return [(int(red), int(green), int(blue)) for red, green, blue in colours]


def _dimmed(image: Picture, share: float) -> Picture:
    return np.rint(image * share).astype(np.uint8)


def _view_scale(picture: Picture) -> float:
    longest = max(picture.shape[:2])
    return float(np.clip(longest, *_VIEW_PX)) / longest


def _scaled(picture: Picture, scale: float) -> Picture:
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST))
