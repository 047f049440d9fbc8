"""Recall of segmentation, without tracking: which true objects a frame's segments show, as `definitions.md` says.

The pairs are of a frame and a true object that shows at least 4 px in it; a segment matches as a reported object does:
one to one by assignment, at IoU of masks at least 0.5, or with centroids within 2 px where the true object has under
10 px across.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from sparsematch_ros.data import FrameResult
from sparsematch_ros.evaluation.matching import MIN_VISIBLE_PX, similarities
from sparsematch_ros.evaluation.sightings import Sighting
from sparsematch_ros.media.records import decode_mask, encode_mask
from sparsematch_ros.segmentation.segments import Segments


@dataclass(frozen=True)
class Found:
    """One frame's true objects.

    Attributes:
        counted: identities of those that show enough.
        found: those of `counted` that a segment shows.

    """

    counted: tuple[str, ...]
    found: tuple[str, ...]


def find_objects(true: Sequence[Sighting], segments: Segments) -> Found:
    """Tell which true objects of a frame its segments show."""
    visible = [item for item in true if item.visible_px > 0]
    similarity = similarities(visible, segment_sightings(segments))
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    matched = {visible[row].id for row, column in zip(rows, columns) if similarity[row, column] > 0}
    counted = tuple(item.id for item in visible if item.visible_px >= MIN_VISIBLE_PX)
    return Found(counted, tuple(identity for identity in counted if identity in matched))


def segment_sightings(segments: Segments, frame: int = 0) -> list[Sighting]:
    """Turn segments into sightings; their identity is their row, and point sources have no mask."""
    masks = [encode_mask(mask) for mask in segments.masks]
    return [
        Sighting(
            frame,
            str(row),
            segments.boxes_xywh_px[row],
            segments.centroids_px[row] + segments.offsets_px[row],
            masks[row] if row < len(masks) else None,
        )
        for row in range(len(segments))
    ]


def reported_overlap(true: Sequence[Sighting], result: FrameResult) -> float | None:
    """Give a frame's term of `j_mean`: IoU of the true mask with the union of the masks of all reported objects.

    Returns:
        The IoU, 0 where nothing is reported; None where the true mask is empty.

    """
    wanted = np.zeros(result.frame.size, dtype=bool)
    for item in true:
        if item.mask:
            wanted |= decode_mask(item.mask)
    given = np.zeros_like(wanted)
    for thing in result.objects:
        if thing.reported and thing.mask is not None:
            given |= thing.mask.cpu().numpy()
    return float((wanted & given).sum() / (wanted | given).sum()) if wanted.any() else None
