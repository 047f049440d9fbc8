"""Masks against masks and segments against truth, on rectangles whose overlap is known from geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsematch_ros.evaluation.mask_pairing import iou_between, mean_iou, pair_masks, recall_of_reference_masks
from sparsematch_ros.evaluation.segmentation_recall import find_objects
from sparsematch_ros.evaluation.sightings import Sighting, sightings_of_labels
from sparsematch_ros.segmentation.segments import Segments

SIZE = (60, 120)


def rectangles(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Draw boxes (left, top, width, height) as masks `(M, H, W)`."""
    masks = torch.zeros((len(boxes), *size), dtype=torch.bool)
    for mask, (left, top, width, height) in zip(masks, boxes):
        mask[top : top + height, left : left + width] = True
    return masks


def test_overlap_of_rectangles():
    """10 x 10 px moved by one column share 90 of 110 px; moved by a row and a column, 81 of 119."""
    squares = rectangles((10, 10, 10, 10), (11, 10, 10, 10), (11, 11, 10, 10), (80, 40, 5, 5))
    iou = iou_between(squares[:1], squares)
    assert iou[0].tolist() == pytest.approx([1.0, 90 / 110, 81 / 119, 0.0])
    nothing = rectangles((0, 0, 0, 0))
    assert iou_between(nothing, torch.cat([nothing, squares])).tolist() == [[0.0] * 5]
    with pytest.raises(ValueError, match=r"\(60, 120\) and \(30, 30\) px"):
        iou_between(squares, rectangles((0, 0, 3, 3), size=(30, 30)))


def test_overlap_of_large_images_is_summed_over_parts():
    """An image of 700 x 500 px is more than what is compared at a time; numpy counts the same pixels."""
    first, second = (np.random.default_rng(seed).random((3, 700, 500)) < 0.3 for seed in (1, 2))
    expected = [[(a & b).sum() / (a | b).sum() for b in second] for a in first]
    np.testing.assert_allclose(iou_between(torch.from_numpy(first), torch.from_numpy(second)), expected, rtol=1e-12)


def test_the_best_pairs_together_and_not_the_best_pair_first():
    """A takes 80% of X, but only A overlaps Y at 70%, and B overlaps X at 75%: A-Y and B-X leave none alone."""
    a, b = (0, 0, 80, 1), (25, 0, 75, 1)
    x, y = (0, 0, 100, 1), (0, 0, 56, 1)
    pairing = pair_masks(rectangles(a, b), rectangles(x, y))
    assert pairing.reference_iou.tolist() == pytest.approx([0.7, 0.75])


def test_one_to_one():
    """Two copies of a mask find one reference mask; two reference masks are not both found by one mask."""
    once, twice = rectangles((5, 5, 20, 20)), rectangles((5, 5, 20, 20), (5, 5, 20, 20))
    assert pair_masks(once, twice).reference_iou.tolist() == [1.0]
    assert sorted(pair_masks(twice, once).reference_iou.tolist()) == [0.0, 1.0]


def test_figures_are_pooled_over_frames_and_leave_none_out():
    """Four reference masks: one found exactly, one at 19 / 20, one at 90 / 110, one in a frame where nothing is."""
    exact = rectangles((0, 0, 10, 10))
    frames = [
        pair_masks(torch.cat([exact, rectangles((40, 20, 20, 1))]), torch.cat([rectangles((40, 20, 19, 1)), exact])),
        pair_masks(rectangles((10, 10, 10, 10)), rectangles((11, 10, 10, 10))),
        pair_masks(exact, rectangles()),
        pair_masks(rectangles(), exact),
        pair_masks(rectangles(), rectangles()),
    ]
    assert [pairing.masks for pairing in frames] == [2, 1, 0, 1, 0]
    assert recall_of_reference_masks(frames) == 2 / 4
    assert mean_iou(frames) == pytest.approx((1 + 0.95 + 90 / 110 + 0) / 4)
    assert recall_of_reference_masks(frames[3:]) is None
    assert mean_iou([]) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_any_order_gives_the_same_masks_back(seed: int, count: int):
    rng = np.random.default_rng(seed)
    masks = torch.from_numpy(rng.random((count, 12, 17)) < 0.5)
    shuffled = masks[torch.from_numpy(rng.permutation(count))]
    assert pair_masks(masks, shuffled).reference_iou.tolist() == [1.0] * count


# Segments against true objects ----------------------------------------------------------------------------------------


@pytest.fixture
def segments_of(points: Callable[..., Segments]) -> Callable[..., Segments]:
    """Segments of masks, with boxes and centroids that nothing here looks at, and of point sources."""

    def make(masks: torch.Tensor, points_px: list[tuple[float, float]]) -> Segments:
        return replace(points([*[(0.0, 0.0)] * len(masks), *points_px]), masks=masks)

    return make


def truth_of(*boxes: tuple[int, int, int, int]) -> list[Sighting]:
    """Make true objects "1", "2", ... that fill their boxes."""
    labels = np.zeros(SIZE, dtype=np.uint16)
    for identity, mask in enumerate(rectangles(*boxes), start=1):
        labels[mask.numpy()] = identity
    return sightings_of_labels(labels, 0)


def test_a_segment_matches_at_half_the_union(segments_of: Callable[..., Segments]):
    """20 x 10 px cut to 10 x 10 share exactly half with their truth; 9 x 10 do not."""
    true = truth_of((10, 10, 20, 10), (50, 10, 20, 10))
    found = find_objects(true, segments_of(rectangles((10, 10, 10, 10), (50, 10, 9, 10)), []))
    assert (found.counted, found.found) == (("1", "2"), ("1",))


def test_small_objects_match_by_their_centroid(segments_of: Callable[..., Segments]):
    """Centres of 4 x 4 px at 21.5, 11.5; 2 px is near enough, and only where the object has under 10 px across."""
    true = truth_of((20, 10, 4, 4), (60, 30, 10, 10))
    near, far = (23.5, 11.5), (23.6, 11.5)
    nothing = rectangles()
    assert find_objects(true, segments_of(nothing, [near, (64.5, 34.5)])).found == ("1",)
    assert find_objects(true, segments_of(nothing, [far])).found == ()


def test_one_segment_finds_one_object_and_hardly_visible_ones_do_not_count(segments_of: Callable[..., Segments]):
    true = truth_of((20, 10, 4, 4), (24, 10, 4, 4), (50, 50, 3, 1))
    both = find_objects(true, segments_of(rectangles(), [(23.5, 11.5)]))
    assert both.counted == ("1", "2")  # The third shows 3 px.
    assert len(both.found) == 1
    assert find_objects(true, segments_of(rectangles(), [])).found == ()
    assert find_objects([], segments_of(rectangles((0, 0, 9, 9)), [])).counted == ()
