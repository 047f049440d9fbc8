"""What masks over the ground lose because it visibly rests, and which are dropped for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame, PromptReason, TrackPredictions
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, _evident, _resting
from sparsematch_ros.segmentation.segments import MaskRows, Segments

SIZE = (96, 128)
UNKNOWN, RESTS, MOVES = np.nan, 0.0, 20.0


def ground(evidence: np.ndarray | None, size: tuple[int, int] = SIZE) -> Regions:
    """Build a frame full of ground without a region."""
    nothing = np.zeros(size, dtype=bool)
    return Regions(nothing.astype(np.int32), nothing, nothing, evidence)


def everywhere(value: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size, value, dtype=np.float32)


# Places that rest


def test_places_rest_where_most_of_what_is_seen_does() -> None:
    """Left of column 64 all rests, from there on all moves, and from column 100 on nothing shows."""
    evidence = everywhere(RESTS)
    evidence[:, 64:], evidence[:, 100:] = MOVES, UNKNOWN
    expected = np.zeros(SIZE, dtype=bool)
    expected[:, :64] = True
    np.testing.assert_array_equal(_resting(ground(evidence)), expected)


def test_places_rest_by_what_shows_among_what_does_not() -> None:
    """Every other column shows that it rests, so all of it does; single pixels say nothing of what is around them."""
    columns, single = everywhere(UNKNOWN), everywhere(UNKNOWN)
    columns[:, ::2], single[::9, ::9] = RESTS, RESTS
    assert _resting(ground(columns)).all()
    assert not _resting(ground(single)).any()


def test_where_nothing_was_measured_nothing_rests() -> None:
    assert not _resting(ground(None)).any()
    assert not _resting(ground(everywhere(UNKNOWN))).any()


# Masks


def segmented(sam: PromptedSam, evidence: np.ndarray) -> Segments:
    """Segment a grey frame in which an object is expected at 130 to 190 x 90 to 150 px."""
    boxes, known = np.array([[130.0, 90, 61, 61]]), np.ones(1, dtype=bool)
    states = np.array([[160.5, 120.5, 0, 0]])
    expected = TrackPredictions(
        states, np.eye(4)[None], boxes, np.full(1, 61.0**2), np.zeros(1, dtype=np.int64), np.ones(1), known, known,
        np.zeros(1, dtype=np.int64),
    )  # fmt: skip
    segmenter = AdaptiveSegmenter(sam, replace(SegmentationConfig(max_area_fraction=1.0), targeted_iou_thresh=0.0))
    frame = Frame(0, 0, np.full((240, 320, 3), 90, dtype=np.uint8))
    return segmenter.segment(frame, ground(evidence, (240, 320)), Sources(), expected).segments


def test_a_mask_loses_what_visibly_rests(blob_sam: PromptedSam) -> None:
    """All of the body is seen to move, but for the lowest quarter of its mask, which rests; nothing shows around it.

    A place is known by the 5 px about it, so the edge of what is lost is good to 2 px.
    """
    evidence = everywhere(UNKNOWN, (240, 320))
    evidence[90:151, 130:191] = MOVES
    (whole,) = segmented(blob_sam, evidence).masks.numpy()
    rows = np.flatnonzero(whole.any(axis=1))
    edge = rows[-1] - len(rows) // 4
    evidence[edge:, 100:220] = RESTS
    (left,) = segmented(blob_sam, evidence).masks.numpy()
    assert whole[edge:].sum() > 50 and whole.any(axis=0)[100:220].sum() == whole.any(axis=0).sum()
    assert not left[edge:].any()
    np.testing.assert_array_equal(left[: edge - 2], whole[: edge - 2])


def rows_of(mask: torch.Tensor, reason: PromptReason) -> MaskRows:
    one, none = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    return MaskRows(mask[None], one, one, one * float(reason), none, none)


@pytest.mark.parametrize(
    ("moving", "resting", "kept"),
    [
        (400, 0, True),
        (240, 160, True),  # Most of what tells moves.
        (100, 300, False),  # Most of what tells rests.
        (100, 30, True),  # A quarter of it surely moves, and little is seen to rest.
        (100, 200, False),  # As much moves, but more is seen to rest.
        (20, 0, False),  # All that tells moves, but of the mask that is a twentieth.
        (0, 400, False),
        (0, 0, False),  # Nothing tells anything.
    ],
)
def test_a_mask_most_of_whose_telling_pixels_rest_is_dropped(moving: int, resting: int, kept: bool) -> None:
    """Of 400 px some move and some rest; of the others a motion would not show. What a survey found is not judged."""
    mask, values = torch.zeros(SIZE, dtype=torch.bool), np.full(400, UNKNOWN, dtype=np.float32)
    mask[30:50, 40:60] = True
    values[:moving], values[moving : moving + resting] = MOVES, RESTS
    evidence = everywhere(MOVES)  # Beside the mask it does not matter.
    evidence[30:50, 40:60] = values.reshape(20, 20)
    for reason in (PromptReason.EXPECTED, PromptReason.MOTION):
        assert len(_evident(rows_of(mask, reason), ground(evidence)).masks) == kept
    assert len(_evident(rows_of(mask, PromptReason.GRID), ground(evidence)).masks) == 1


def test_what_was_detected_moves_whatever_shows() -> None:
    """The mask is a region, of which no motion would show; without any measurement every mask stays."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[30:50, 40:60] = True
    rows, unknown = rows_of(mask, PromptReason.MOTION), ground(everywhere(UNKNOWN))
    assert len(_evident(rows, unknown).masks) == 0
    assert len(_evident(rows, replace(unknown, foreground=mask.numpy())).masks) == 1
    assert len(_evident(rows, ground(None)).masks) == 1
