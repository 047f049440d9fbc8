"""The part of an image around what is followed, so that a descriptor's patches are fine where they matter."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import FloatArray
from sparsematch_ros.description.pooling import Region
from sparsematch_ros.segmentation.segments import Segments

# A patch knows its surroundings: what is added on each side, of the longer side of the box around all segments.
_MARGIN_SHARE = 0.2
# A smaller region is enlarged beyond what its pixels can show.
MOST_ENLARGED = 4.0


def region_around(segments: Segments, input_size_px: int) -> Region | None:
    """Give the region that holds all masks with a margin, in whole pixels inside the image.

    Args:
        segments: N segments, of which the first M carry masks; point sources do not count.
        input_size_px: as in `region_of_box`.

    Returns:
        Left, top, right and bottom edge [px], or None where there is no mask.

    """
    if not segments.mask_count:
        return None
    boxes = segments.boxes_xywh_px[: segments.mask_count]
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    return region_of_box(low, high, (segments.masks.shape[1], segments.masks.shape[2]), input_size_px)


def region_of_box(low: FloatArray, high: FloatArray, image_size: tuple[int, int], input_size_px: int) -> Region:
    """Give the region that holds a box with a margin, in whole pixels inside the image.

    Args:
        low: `(2,)` left and top edge [px].
        high: `(2,)` right and bottom edge [px].
        image_size: height and width of the image [px].
        input_size_px: longest side that the network sees. The region is at least a quarter of it, in both
            directions, so that no pixel is enlarged more than 4 times.

    """
    sides = np.maximum(high - low + 2 * _MARGIN_SHARE * (high - low).max(), input_size_px / MOST_ENLARGED)
    height, width = image_size
    left, right = _placed(float(low[0] + high[0]) / 2, float(sides[0]), width)
    top, bottom = _placed(float(low[1] + high[1]) / 2, float(sides[1]), height)
    return left, top, right, bottom


def _placed(centre: float, side: float, length: int) -> tuple[int, int]:
    """Place a stretch of whole pixels around a centre, shifted inside [0, length]."""
    size = min(int(np.ceil(side)), length)
    start = int(np.clip(round(centre - size / 2), 0, length - size))
    return start, start + size
