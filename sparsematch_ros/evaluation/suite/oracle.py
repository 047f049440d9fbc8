"""An oracle for sequences with masks: it is told a point inside the true object, and which of SAM's masks is best."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray, Frame
from sparsematch_ros.evaluation.sightings import Frames, Sighting
from sparsematch_ros.media.records import decode_mask
from sparsematch_ros.segmentation.sam import PromptedSam


def deepest_point(mask: BoolArray) -> FloatArray:
    """Give the pixel `(2,)` x, y of an `(H, W)` mask that is not empty that lies farthest from all that is outside.

    The image's border counts as outside. Among several the one nearest to their mean is taken.
    """
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= depth.max() - 1e-3)
    places = np.stack([columns, rows], axis=1).astype(np.float64)
    return np.asarray(places[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()])


def best_iou(sam: PromptedSam, image: NDArray[np.uint8], mask: BoolArray) -> float:
    """Give the best IoU of the true mask `(H, W)` with SAM's four masks for its deepest point.

    Args:
        sam: the model; the whole image is encoded at its `input_size`, as the pipeline does.
        image: `(H, W, 3)` uint8 RGB.
        mask: `(H, W)`, not empty.

    """
    embedding = sam.encode(image)
    logits, _ = sam.decode(embedding, deepest_point(mask)[None])
    answers = (sam.upsample(logits[0], embedding) > 0).cpu().numpy()
    common = (answers & mask).sum(axis=(1, 2))
    return float((common / (answers | mask).sum(axis=(1, 2))).max())


def oracle_j_mean(sam: PromptedSam, frames: Iterable[Frame], truth: Frames) -> float | None:
    """Give the oracle's `j_mean` over frames in order: the first is left out, and those with an empty true mask."""
    overlaps = []
    for number, frame in enumerate(frames):
        mask = _union(truth.get(frame.index, []), frame.size)
        if number > 0 and mask.any():
            overlaps.append(best_iou(sam, frame.image, mask))
    return float(np.mean(overlaps)) if overlaps else None


def _union(items: Iterable[Sighting], size: tuple[int, int]) -> BoolArray:
    mask = np.zeros(size, dtype=bool)
    for item in items:
        if item.mask:
            mask |= decode_mask(item.mask)
    return mask
