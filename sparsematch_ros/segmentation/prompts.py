"""Where to prompt SAM: the number of prompts is the cost of a frame, so each has a reason."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, FloatArray, IntArray, PromptReason, TrackPredictions, check_shape
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.geometry import box_intersection, box_iou

# A region belongs to an object where this share of its box lies in the object's predicted one, or their boxes overlap
# by this IoU.
_INSIDE_SHARE, _SAME_IOU = 0.7, 0.3
# A predicted box is widened by its error, by this share of its size and by this much [px].
_WIDENED_SIGMA, _WIDENED_SHARE, _WIDENED_PX = 2.0, 0.02, 3.0
# Where this share of a predicted box is sky, nothing is there.
_EMPTY_SHARE = 0.95
# What rests on the ground is not asked for where nothing is seen of it.
_LEAST_PRIORITY = 0.5
# A box takes so many pixels of the encoder's input: against the sky, whose brightness marks the edges, and elsewhere.
_DETAIL_PX, _FINE_DETAIL_PX = 96.0, 192.0
# Smaller regions are not prompted [px^2].
_LEAST_PROMPTED_PX = 150.0
# Moving regions may be one body where the gap between them is below this share of the longer side of the larger one; a
# group is asked for where no object that is asked for has its box already, by this IoU.
_GROUP_GAP, _ASKED_IOU = 0.15, 0.6
# Regions without an object, and with several.
_NOBODYS, _SEVERAL = -1, -2


@dataclass(frozen=True, eq=False)
class Prompts:
    """Where SAM is asked for masks.

    Attributes:
        points_px: `(P, 2)` float64.
        boxes_xyxy_px: `(P, 4)` float64, the box that the prompt is about; NaN rows for a bare point.
        reasons: `(P,)` int64 of `PromptReason`.
        tracks: `(P,)` int64 row of the tracked object that the prompt is about, -1 for none.
        areas_px: `(P,)` float64 area of that object [px^2], NaN for none.
        details_px: `(P,)` float64 how large the box should be in the encoder's input [px].

    """

    points_px: FloatArray
    boxes_xyxy_px: FloatArray
    reasons: IntArray
    tracks: IntArray
    areas_px: FloatArray
    details_px: FloatArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.points_px)
        check_shape("points_px", self.points_px, count, 2)
        check_shape("boxes_xyxy_px", self.boxes_xyxy_px, count, 4)
        check_shape("reasons", self.reasons, count)
        check_shape("tracks", self.tracks, count)
        check_shape("areas_px", self.areas_px, count)
        check_shape("details_px", self.details_px, count)

    def __len__(self) -> int:
        """Count the prompts."""
        return len(self.points_px)

    def take(self, rows: IntArray) -> Prompts:
        """Select some prompts."""
        return Prompts(*(getattr(self, item.name)[rows] for item in fields(self)))

    @classmethod
    def join(cls, parts: list[Prompts]) -> Prompts:
        """Put prompts one after another."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))


@dataclass(frozen=True, eq=False)
class Proposal:
    """The prompts of a frame, and which region each is about.

    Attributes:
        prompts: P of them.
        prompt_of_region: `(R,)` int64 the prompt that stands for each region alone, -1 where none does.
        on_sky: `(R,)` bool, regions against the sky.

    """

    prompts: Prompts
    prompt_of_region: IntArray
    on_sky: BoolArray


def propose(
    regions: Regions, predictions: TrackPredictions, size: tuple[int, int], config: SegmentationConfig
) -> Proposal:
    """Choose at most `prompt_budget` prompts: those that nothing else can replace first.

    A tracked object is asked for by the box and the deepest point of its own regions, which were measured. Where its
    region holds another object too, or none is seen, it is asked for by its predicted box; but not on empty sky. Then
    come the regions that are nobody's. A region against the sky is its own outline where no prompt is left for it.
    """
    tracks = _resolved_in_view(predictions, size)
    boxes = _clipped(_corners(predictions.boxes_xywh_px[tracks]), size)
    owner = _owners(regions, predictions, tracks)
    alone = np.isin(np.arange(len(tracks)), owner)
    priorities = predictions.priorities[tracks]
    unseen = (_shares(regions.sky, boxes) < _EMPTY_SHARE) & (priorities > _LEAST_PRIORITY)
    # Of what is small SAM knows less than the outline that was detected.
    outlined = regions.areas_px < _LEAST_PROMPTED_PX
    asked = np.flatnonzero((alone | unseen) & ~np.isin(np.arange(len(tracks)), owner[outlined]))
    free = np.flatnonzero((owner == _NOBODYS) & ~outlined)
    points, wanted = _measured(regions, owner, boxes)
    on_sky = _shares(regions.sky, regions.boxes_xyxy_px) > 0
    own = np.where(on_sky[:, None], regions.boxes_xyxy_px, regions.cores_xyxy_px)
    reasons = np.where(on_sky, int(PromptReason.BRIGHT), int(PromptReason.MOTION))
    owns_sky = alone & _owns_sky(owner, on_sky, len(tracks))
    # Smooth parts show no motion: where less of an object was measured than is predicted, both are asked for.
    less = np.diag(box_iou(_sides(wanted[asked]), _sides(boxes[asked]))) < _ASKED_IOU
    doubted = asked[less & ~owns_sky[asked] & (predictions.areas_px[tracks[asked]] >= _LEAST_PROMPTED_PX)]
    about, extents = np.concatenate([asked, doubted]), np.concatenate([wanted[asked], boxes[doubted]])
    believed = predictions.believed[tracks] & (priorities > _LEAST_PRIORITY) & ~owns_sky
    firsts, joined = _groups(regions, np.flatnonzero(~on_sky), boxes[believed], extents)
    others = np.concatenate([firsts, free])
    replaceable = np.concatenate([owns_sky[about], on_sky[others]])
    prompts = Prompts(
        np.concatenate([points[about], regions.seeds_px[others]]),
        np.concatenate([extents, joined, own[free]]),
        np.concatenate([np.full(len(about), int(PromptReason.EXPECTED)), reasons[others]]),
        np.concatenate([tracks[about], np.full(len(others), -1)]),
        np.concatenate([predictions.areas_px[tracks[about]], np.full(len(others), np.nan)]),
        np.where(replaceable, _DETAIL_PX, _FINE_DETAIL_PX),
    )
    urgency = np.concatenate(
        [priorities[asked], priorities[doubted] - 1, 2.0 - np.arange(len(firsts)), -np.arange(1.0, len(free) + 1)]
    )
    number = np.full(len(tracks) + 2, -1, dtype=np.int64)  # The last two stand for nobody and for several.
    number[asked] = np.arange(len(asked))
    prompt_of_region = number[owner]
    prompt_of_region[free] = len(about) + len(firsts) + np.arange(len(free))
    chosen, rank = _ranked(replaceable, urgency, config.prompt_budget)
    return Proposal(prompts.take(chosen), rank[prompt_of_region], on_sky)


def _ranked(replaceable: BoolArray, urgency: FloatArray, budget: int) -> tuple[IntArray, IntArray]:
    """Choose within the budget: first what has no outline of its own.

    Groups go by their size, objects by their priority, then regions by their size.

    Returns:
        The rows of the chosen prompts, and the new row `(P + 1,)` of each old one, -1 for the rest and for none.

    """
    order = np.lexsort((-urgency, replaceable))[:budget]
    rank = np.full(len(urgency) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return order, rank


def _groups(
    regions: Regions, rows: IntArray, objects_xyxy_px: FloatArray, asked_xyxy_px: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Join some regions and objects to groups that may each be one body, whose smooth parts show no motion.

    Returns:
        The largest region `(G,)` and the box `(G, 4)` of each group that is not asked for already, the largest first.

    """
    boxes = np.concatenate([regions.cores_xyxy_px[rows], objects_xyxy_px])
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    gaps = np.maximum(low - high[:, 0], low[:, 0] - high).clip(min=0).max(axis=2)
    sides = (high - low).max(axis=(1, 2))
    count, labels = connected_components(gaps < _GROUP_GAP * np.maximum(sides[:, None], sides), directed=False)
    groups = [np.flatnonzero(labels == label) for label in range(count)]
    shown = np.concatenate([regions.areas_px[rows], np.zeros(len(objects_xyxy_px))])
    groups = [
        each for each in groups
        if max((each < len(rows)).sum(), (each >= len(rows)).sum()) > 1 and shown[each].sum() >= _LEAST_PROMPTED_PX
    ]  # fmt: skip
    joined = np.array([np.concatenate([boxes[each, :2].min(axis=0), boxes[each, 2:].max(axis=0)]) for each in groups])
    firsts, joined = np.array([rows[each[0]] for each in groups], dtype=np.int64), joined.reshape(-1, 4)
    order = np.argsort(-_sides(joined)[:, 2:].prod(axis=1), kind="stable")
    likeness = box_iou(_sides(joined), _sides(asked_xyxy_px)).max(axis=1, initial=0.0)
    order = order[likeness[order] <= _ASKED_IOU]
    return firsts[order], joined[order]


def _sides(boxes_xyxy: FloatArray) -> FloatArray:
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + 1], axis=1)


def grid_prompts(places_px: FloatArray) -> Prompts:
    """Describe the bare points `(P, 2)` of a full grid."""
    count = len(places_px)
    reasons = np.full(count, int(PromptReason.GRID), dtype=np.int64)
    unknown = np.full(count, np.nan)
    return Prompts(
        places_px, np.full((count, 4), np.nan), reasons, np.full(count, -1, dtype=np.int64), unknown, unknown
    )


def _resolved_in_view(predictions: TrackPredictions, size: tuple[int, int]) -> IntArray:
    """Find the rows of resolved objects more than two pixels of whose predicted box lie in the image."""
    clipped = _clipped(_corners(predictions.boxes_xywh_px), size)
    extent = clipped[:, 2:] - clipped[:, :2]
    return np.flatnonzero(predictions.resolved & (extent > 2).all(axis=1))


def _owners(regions: Regions, predictions: TrackPredictions, tracks: IntArray) -> IntArray:
    """Find the object `(R,)` to which each region belongs, `_NOBODYS`, or `_SEVERAL` where it holds several."""
    owner = np.full(len(regions), _NOBODYS, dtype=np.int64)
    if len(regions) == 0 or len(tracks) == 0:
        return owner
    own = regions.boxes_xyxy_px
    thick = regions.cores_xyxy_px
    widths = _sides(thick)
    expected = predictions.boxes_xywh_px[tracks]
    spread = np.sqrt(predictions.covariances[tracks][:, [0, 1], [0, 1]])
    margin = _WIDENED_SIGMA * spread + _WIDENED_SHARE * expected[:, 2:] + _WIDENED_PX
    wide = np.concatenate([expected[:, :2] - margin, expected[:, 2:] + 2 * margin], axis=1)
    overlap = box_iou(widths, expected)
    inside = box_intersection(widths, wide) / widths[:, 2:].prod(axis=1)[:, None]
    belongs = (inside > _INSIDE_SHARE) | (overlap > _SAME_IOU)
    centres = expected[:, :2] + expected[:, 2:] / 2
    held = ((centres >= own[:, None, :2]) & (centres <= own[:, None, 2:])).all(axis=2)
    best = np.where(belongs, overlap + inside, -1.0).argmax(axis=1)
    owner = np.where(belongs.any(axis=1), best, owner)
    return np.where((held & predictions.believed[tracks]).sum(axis=1) >= 2, _SEVERAL, owner)


def _measured(regions: Regions, owner: IntArray, boxes_xyxy_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute the points `(T, 2)` and boxes `(T, 4)` of prompts from the objects' own regions, else as predicted.

    Against the sky all parts of a body show; residual motion leaves trails, so there their thick parts count.
    """
    points, boxes = (boxes_xyxy_px[:, :2] + boxes_xyxy_px[:, 2:]) / 2, boxes_xyxy_px.copy()
    on_sky = _shares(regions.sky, regions.boxes_xyxy_px) > 0
    for number in np.unique(owner[owner >= 0]):  # Few: the objects whose regions are seen.
        rows = np.flatnonzero(owner == number)  # The largest region comes first.
        lit = rows[on_sky[rows]]
        own = regions.boxes_xyxy_px[lit] if len(lit) else regions.cores_xyxy_px[rows]
        boxes[number] = np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])
        points[number] = regions.seeds_px[rows[0]]
    return points, boxes


def _owns_sky(owner: IntArray, on_sky: BoolArray, count: int) -> BoolArray:
    """Test which of some objects `(count,)` own a region against the sky."""
    owns = np.zeros(count, dtype=bool)
    owns[owner[on_sky & (owner >= 0)]] = True
    return owns


def _shares(mask: BoolArray, boxes_xyxy: FloatArray) -> FloatArray:
    """Compute the share `(B,)` of boxes `(B, 4)` inside the image that a mask `(H, W)` fills."""
    total = cv2.integral(mask.astype(np.uint8))
    left, top = np.floor(boxes_xyxy[:, :2]).astype(np.int64).T
    right, bottom = np.ceil(boxes_xyxy[:, 2:]).astype(np.int64).T + 1
    count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(count / ((right - left) * (bottom - top)))


def _corners(boxes_xywh: FloatArray) -> FloatArray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def _clipped(boxes_xyxy: FloatArray, size: tuple[int, int]) -> FloatArray:
    return np.clip(boxes_xyxy, 0, np.tile(np.array(size)[::-1] - 1, 2))
