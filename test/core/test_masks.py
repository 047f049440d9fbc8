"""Tensor operations on masks: geometry, contacts with the border, stability, and which of many to keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, center_of_mass

from sparsematch_ros.description.pooling import mask_shares
from sparsematch_ros.segmentation.masks import (
    border_contacts,
    box_agreement,
    grown,
    keep_strongest,
    mask_geometry,
    masks_at,
    pairwise_overlap,
    stability,
)

SIZE = (96, 128)


def rectangle(left: int, top: int, width: int, height: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_geometry_of_hand_made_masks() -> None:
    pair = rectangle(0, 0, 1, 1) | rectangle(127, 95, 1, 1)
    masks = torch.stack([rectangle(10, 20, 6, 3), rectangle(5, 7, 1, 1), rectangle(0, 0, 0, 0), pair])
    boxes, centroids, areas = mask_geometry(masks)
    assert boxes.tolist() == [[10, 20, 6, 3], [5, 7, 1, 1], [0, 0, 0, 0], [0, 0, 128, 96]]
    # Pixels count from the centre of the first: columns 10 to 15 have their middle at 12.5.
    assert centroids.tolist() == [[12.5, 21.0], [5.0, 7.0], [0.0, 0.0], [63.5, 47.5]]
    assert areas.tolist() == [18, 1, 0, 2]
    assert [tuple(each.shape) for each in mask_geometry(masks[:0])] == [(0, 4), (0, 2), (0,)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.9))
def test_geometry_of_random_masks(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((13, 29)) < share
    mask[5, 8] = True
    boxes, centroids, areas = mask_geometry(torch.from_numpy(mask)[None])
    rows, columns = np.nonzero(mask)
    extent = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert boxes[0].tolist() == extent
    np.testing.assert_allclose(centroids[0], center_of_mass(mask)[::-1], atol=1e-9)
    assert areas[0] == mask.sum()


def test_contacts_with_the_border() -> None:
    """Length and middle on the left, right, top and bottom border: inside none, in a corner two, all around four."""
    masks = torch.stack(
        [rectangle(10, 10, 5, 5), rectangle(0, 20, 7, 11), rectangle(118, 90, 10, 6), rectangle(0, 0, 128, 96)]
    )
    assert border_contacts(masks).tolist() == [
        [[0, 0], [0, 0], [0, 0], [0, 0]],
        [[11, 25], [0, 0], [0, 0], [0, 0]],
        [[0, 0], [6, 92.5], [0, 0], [10, 122.5]],
        [[96, 47.5], [96, 47.5], [128, 63.5], [128, 63.5]],
    ]
    assert border_contacts(masks[:0]).shape == (0, 4, 2)


def test_which_masks_hold_which_points() -> None:
    masks = torch.stack([rectangle(10, 20, 6, 3), rectangle(14, 20, 6, 3)])
    points = np.array([[10.4, 19.6], [15.0, 21.0], [16.4, 22.4], [-0.6, 20.0], [500.0, 21.0]])
    assert masks_at(masks, points).tolist() == [[True, False], [True, True], [False, True], [False] * 2, [False] * 2]
    assert masks_at(masks[:0], points).shape == (5, 0)
    assert masks_at(masks, points[:0]).shape == (0, 2)


def test_stability_is_the_share_that_a_raised_threshold_leaves() -> None:
    logits = torch.tensor([[[-2.0, -0.5], [0.5, 2.0]], [[3.0, 3.0], [3.0, -3.0]], [[-5.0, -5.0], [-5.0, -5.0]]])
    assert stability(logits, 1.0).tolist() == pytest.approx([1 / 3, 1.0, 0.0])
    assert stability(logits[:0], 1.0).shape == (0,)


def test_overlaps_of_pairs() -> None:
    """20 x 20 px and 10 x 20 px inside of it, and a stranger: IoU a half, all of the smaller and half of the larger."""
    masks = torch.stack([rectangle(10, 10, 20, 20), rectangle(10, 10, 10, 20), rectangle(60, 60, 5, 5)])
    iou, share = pairwise_overlap(masks)
    np.testing.assert_allclose(iou, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(share, [[1, 0.5, 0], [1, 1, 0], [0, 0, 1]])
    empty_iou, empty_share = pairwise_overlap(torch.zeros((2, 4, 4), dtype=torch.bool))
    assert not empty_iou.any() and not empty_share.any()


def kept(
    ranks: list[float], *masks: torch.Tensor, whole: list[bool] | None = None, rivals: list[int] | None = None
) -> list[int]:
    flags, numbers = (None if each is None else torch.tensor(each) for each in (whole, rivals))
    return keep_strongest(torch.stack(masks), torch.tensor(ranks), 0.7, 0.8, flags, numbers).tolist()


def test_one_thing_gives_one_segment() -> None:
    """Over IoU 0.7 a mask is a duplicate, over 0.8 inside a kept one its part; the ranks say which goes first."""
    body, nearly = rectangle(10, 10, 20, 20), rectangle(10, 10, 20, 17)
    inside, holder = rectangle(12, 12, 5, 5), rectangle(0, 0, 60, 60)
    beside = rectangle(26, 10, 20, 20)  # A fifth of it lies in the body.
    assert kept([1.0, 2.0], body, nearly) == [1]
    assert kept([2.0, 1.0], body, nearly) == [0]
    assert kept([2.0, 1.0], body, inside) == [0]
    assert kept([1.0, 2.0], holder, body) == [1]  # A larger one of lower rank holds a kept one as its part.
    assert kept([2.0, 1.0], holder, body) == [0]
    assert kept([1.0, 3.0, 2.0], beside, body, inside) == [1, 0]
    assert kept([1.0, 1.0], body, body) == [0]
    assert keep_strongest(torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0), 0.7, 0.8).tolist() == []


def test_what_is_known_to_be_whole_is_no_part() -> None:
    """An object before a larger one stays, whichever goes first; as a duplicate it goes all the same."""
    body, inside = rectangle(10, 10, 40, 40), rectangle(20, 20, 9, 9)
    assert kept([2.0, 1.0], body, inside, whole=[False, True]) == [0, 1]
    assert kept([2.0, 1.0], body, inside, whole=[True, False]) == [0]
    assert kept([2.0, 1.0], body, rectangle(10, 10, 40, 38), whole=[False, True]) == [0]


def test_a_larger_mask_of_lower_rank_is_dropped_unless_it_is_whole() -> None:
    """40 x 40 px hold 9 x 9 px that go first, or three quarters of another 9 x 9 px, which are no part."""
    small, body = rectangle(20, 20, 9, 9), rectangle(10, 10, 40, 40)
    assert kept([2.0, 1.0], small, body) == [0]
    assert kept([2.0, 1.0], small, body, whole=[False, True]) == [0, 1]
    assert kept([2.0, 1.0], rectangle(8, 20, 9, 9), body) == [0, 1]


def test_of_rivals_one_is_kept() -> None:
    """Of three masks that lie apart two are answers for one object; -1 stands for no object."""
    masks = rectangle(0, 0, 9, 9), rectangle(40, 0, 9, 9), rectangle(80, 0, 9, 9)
    assert kept([1.0, 2.0, 3.0], *masks, rivals=[0, 1, 0]) == [2, 1]
    assert kept([1.0, 2.0, 3.0], *masks, rivals=[0, 1, 0], whole=[True] * 3) == [2, 1]
    assert kept([1.0, 2.0, 3.0], *masks, rivals=[-1, -1, -1]) == [2, 1, 0]


def test_candidates_are_compared_with_the_box_that_was_asked() -> None:
    whole, half, none = rectangle(8, 8, 40, 20), rectangle(8, 8, 20, 20), rectangle(0, 0, 0, 0)
    candidates = torch.stack([torch.stack([whole, half, none]), torch.stack([none, rectangle(80, 60, 10, 10), whole])])
    found = box_agreement(candidates, torch.tensor([[8.0, 8.0, 48.0, 28.0], [80.0, 60.0, 100.0, 70.0]]))
    assert found[0].tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert found[1].tolist() == pytest.approx([0.0, 0.5, 0.0])


@pytest.mark.parametrize("reach_px", [1, 4])
def test_growing_reaches_so_far_in_every_direction(reach_px: int) -> None:
    """As scipy's dilation by a square, at the border too; an empty mask stays empty."""
    masks = torch.stack([rectangle(40, 30, 5, 3), rectangle(0, 90, 3, 6), rectangle(0, 0, 0, 0)])
    found = grown(masks, reach_px).numpy()
    square = np.ones((2 * reach_px + 1, 2 * reach_px + 1), dtype=bool)
    for mask, wide in zip(masks.numpy(), found, strict=True):
        np.testing.assert_array_equal(wide, binary_dilation(mask, square))
    assert grown(masks[:0]).shape == (0, *SIZE)


def test_many_large_masks_are_as_one_by_one() -> None:
    """Eleven masks of 1500 x 2100 px are more than is taken at once; their shares are those of each alone."""
    masks = torch.from_numpy(np.random.default_rng(3).random((11, 1500, 2100)) < 0.4)
    patches = torch.cat([mask_shares(mask[None], (16, 21)) for mask in masks])
    torch.testing.assert_close(mask_shares(masks, (16, 21)), patches)
    assert mask_shares(masks[:0], (16, 21)).shape == (0, 16, 21)
