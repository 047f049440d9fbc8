"""Which reported object is which true one, frame by frame, as `definitions.md` says.

A reported object matches a visible true one, one to one by assignment, at IoU of masks at least 0.5, or with centroids
within 2 px where the true object has under 10 px across. True objects count while they show at least 4 px and from 3
frames after they came into view. What matches a true object that does not count is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.sightings import Frames, Sighting
from sparsematch_ros.media.records import Rle

MIN_IOU = 0.5
MAX_DISTANCE_PX = 2.0
SMALL_PX = 10.0
MIN_VISIBLE_PX = 4
FRAMES_IN_VIEW = 3


@dataclass(frozen=True, eq=False)
class FrameMatches:
    """One frame's matching.

    Attributes:
        frame: position in the source.
        visible: true objects that show at all.
        pairs: matched true and reported objects, whether the true one counts or not.
        counted: true objects that count.
        missed: those of `counted` that nothing matched.
        false: reported objects that match no visible true one.

    """

    frame: int
    visible: list[Sighting]
    pairs: list[tuple[Sighting, Sighting]]
    counted: list[Sighting]
    missed: list[Sighting]
    false: list[Sighting]

    @property
    def hits(self) -> list[tuple[Sighting, Sighting]]:
        """Give the pairs whose true object counts."""
        counted = {item.id for item in self.counted}
        return [pair for pair in self.pairs if pair[0].id in counted]


def match_frames(truth: Frames, reported: Frames, frames: Iterable[int]) -> list[FrameMatches]:
    """Match every frame in `frames`, in order; these are all that were shown to the pipeline."""
    order = sorted(frames)
    entered = _frames_since_entry(truth, order)
    matches = []
    for frame in order:
        visible = [item for item in truth.get(frame, []) if item.visible_px > 0]
        counted = [item for item in visible if _counts(item, entered[frame, item.id])]
        matches.append(_match_frame(frame, visible, counted, reported.get(frame, [])))
    return matches


def similarities(visible: list[Sighting], reported: list[Sighting]) -> FloatArray:
    """Give how well each pair fits `(T, R)`: in [0.5, 1] where it may match, 0 where not."""
    overlap = iou_matrix(visible, reported)
    similarity = np.where(overlap >= MIN_IOU, overlap, 0.0)
    for row, item in enumerate(visible):
        if max(item.bbox_xywh_px[2:]) < SMALL_PX:
            for column, other in enumerate(reported):
                distance = float(np.hypot(*(item.centroid_px - other.centroid_px)))
                if distance <= MAX_DISTANCE_PX:
                    similarity[row, column] = max(similarity[row, column], 1 - distance / (2 * MAX_DISTANCE_PX))
    return similarity


def overlaps(visible: list[Sighting], reported: list[Sighting]) -> FloatArray:
    """Compute the similarity `(T, R)` of each pair in [0, 1], without the thresholds of `similarities`.

    It is the IoU of the masks, and 1 - d / 4 px (0 from d = 4 px on) where the true object has under 10 px across, with
    d the distance of the centroids.
    """
    result = iou_matrix(visible, reported)
    for row, item in enumerate(visible):
        if max(item.bbox_xywh_px[2:]) < SMALL_PX:
            distances = [float(np.hypot(*(item.centroid_px - other.centroid_px))) for other in reported]
            result[row] = np.maximum(1 - np.array(distances) / (2 * MAX_DISTANCE_PX), 0.0)
    return result


def iou_matrix(first: list[Sighting], second: list[Sighting]) -> FloatArray:
    """Give the IoU of masks of each pair `(A, B)`; 0 where one has none."""
    result = np.zeros((len(first), len(second)))
    rows = [row for row, item in enumerate(first) if item.mask]
    columns = [column for column, item in enumerate(second) if item.mask]
    if rows and columns:
        overlap = rle_iou([first[row].mask for row in rows], [second[column].mask for column in columns])
        result[np.ix_(rows, columns)] = overlap
    return result


def rle_iou(true: Sequence[Rle | None], reported: Sequence[Rle | None]) -> FloatArray:
    """Give the IoU of each pair of run lengths `(T, R)`.

    Raises:
        SparsematchError: where the masks are of different sizes.

    """
    sizes = {tuple(rle["size"]) for rle in (*true, *reported) if rle}
    if len(sizes) > 1:
        raise SparsematchError(f"masks of different sizes cannot be compared: {sorted(sizes)} (height, width)")
    return np.asarray(coco.iou(list(true), list(reported), [0] * len(reported)), dtype=np.float64)


def _match_frame(
    frame: int, visible: list[Sighting], counted: list[Sighting], reported: list[Sighting]
) -> FrameMatches:
    similarity = similarities(visible, reported)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    pairs = [(visible[row], reported[column]) for row, column in zip(rows, columns) if similarity[row, column] > 0]
    found = {true.id for true, _ in pairs}
    used = {item.id for _, item in pairs}
    missed = [item for item in counted if item.id not in found]
    return FrameMatches(frame, visible, pairs, counted, missed, [item for item in reported if item.id not in used])


def _counts(item: Sighting, frames_in_view: int) -> bool:
    return item.visible_px >= MIN_VISIBLE_PX and frames_in_view >= FRAMES_IN_VIEW


def _frames_since_entry(truth: Frames, order: list[int]) -> dict[tuple[int, str], int]:
    """Count the frames since each visible object came into view, 0 for the first; it may leave and come back."""
    since: dict[tuple[int, str], int] = {}
    previous: dict[str, int] = {}
    for frame in order:
        visible = [item.id for item in truth.get(frame, []) if item.visible_px > 0]
        previous = {identity: previous.get(identity, -1) + 1 for identity in visible}
        since.update({(frame, identity): count for identity, count in previous.items()})
    return since
