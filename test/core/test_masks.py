"""Masks and what is made of them: geometry, stability, duplicates, edges against the sky, and a frame's segments."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass
from sparsematch_ros.egomotion.residual import moving_shares
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, PromptReason, ResidualMotion
from sparsematch_ros.description.pooling import mask_shares
from sparsematch_ros.segmentation.masks import (
    candidate_agreement,
    keep_strongest,
    mask_geometry,
    masks_at,
    sharpen_against_sky,
    size_change,
    stability,
)

SIZE = (96, 128)


def rectangle(left: int, top: int, width: int, height: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def disc(centre: tuple[float, float], radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.indices(size)
    return np.hypot(x - centre[0], y - centre[1]) <= radius


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


def test_stability_is_the_share_that_a_raised_threshold_leaves() -> None:
    logits = torch.tensor([[[-2.0, -0.5], [0.5, 2.0]], [[3.0, 3.0], [3.0, -3.0]], [[-5.0, -5.0], [-5.0, -5.0]]])
    assert stability(logits, 1.0).tolist() == pytest.approx([1 / 3, 1.0, 0.0])
    assert stability(logits[:0], 1.0).shape == (0,)


def test_one_thing_gives_one_segment() -> None:
    """Over IoU 0.7 a mask is a duplicate, over 0.8 inside a kept one its part; the ranks say which goes first."""
    body, nearly = rectangle(10, 10, 20, 20), rectangle(10, 10, 20, 17)
    inside, holder = rectangle(12, 12, 5, 5), rectangle(0, 0, 60, 60)
    beside = rectangle(26, 10, 20, 20)  # A fifth of it lies in the body.

    def kept(ranks: list[float], *masks: torch.Tensor) -> list[int]:
        return keep_strongest(torch.stack(masks), torch.tensor(ranks), 0.7, 0.8).tolist()

    assert kept([1.0, 2.0], body, nearly) == [1]
    assert kept([2.0, 1.0], body, nearly) == [0]
    assert kept([2.0, 1.0], body, inside) == [0]
    assert kept([1.0, 2.0], holder, body) == [1, 0]  # A larger whole that holds a kept one is another thing.
    assert kept([2.0, 1.0], holder, body) == [0]
    assert kept([1.0, 3.0, 2.0], beside, body, inside) == [1, 0]
    assert kept([1.0, 1.0], body, body) == [0]
    assert keep_strongest(torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0), 0.7, 0.8).tolist() == []


def test_candidates_are_compared_with_what_was_asked() -> None:
    whole, half, none = rectangle(8, 8, 40, 20), rectangle(8, 8, 20, 20), rectangle(0, 0, 0, 0)
    candidates = torch.stack([whole, half, none])[None]
    found = candidate_agreement(candidates, torch.tensor([[8.0, 8.0, 48.0, 28.0]]))
    assert found[0].tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert size_change(candidates, np.array([400.0]))[0].tolist()[:2] == pytest.approx([np.log(2), 0.0])
    assert size_change(candidates, np.array([np.nan])).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("error_px", [-3.0, 0.0, 3.0])
def test_edges_against_a_dark_sky_are_good_to_a_pixel(error_px: float) -> None:
    """SAM's disc is 3 px off all around; the picture's has a point spread of 1 px and a face in shadow."""
    truth, shadow = disc((60, 50), 25), disc((60, 50), 8)
    light = np.where(truth & ~shadow, 160.0, 0.0)
    image = np.clip(8 + cv2.GaussianBlur(light, (0, 0), 1.0), 0, 255).astype(np.uint8)
    sky = survey_sky(image, SegmentationConfig(), 100)
    assert sky.silhouettes is not None
    rough = disc((60, 50), 25 + error_px)
    masks = torch.stack([torch.from_numpy(rough), rectangle(100, 5, 20, 15)])  # The second holds sky alone.
    sharp, shares = sharpen_against_sky(masks, sky.silhouettes)
    y, x = np.nonzero(sharp[0].numpy() != truth)
    assert np.abs(np.hypot(x - 60, y - 50) - 25).max(initial=0.0) <= 1.0
    # The shadow takes (8 / 25)^2 of the area.
    assert shares.tolist() == pytest.approx([0.9, 0.0], abs=0.04)
    assert sharpen_against_sky(masks[:0], sky.silhouettes)[0].shape == (0, *SIZE)


def test_assembled_figures() -> None:
    """A mask at the border says five times less of its centroid; one of two moves; empty ones are left out."""
    evidence = np.zeros((48, 64), dtype=np.float32)
    evidence[20:30, 30:40] = 1.0
    motion = EgoMotion(residual=ResidualMotion(np.zeros((48, 64, 2), dtype=np.float32), evidence))
    masks = torch.stack([rectangle(60, 40, 20, 20), rectangle(0, 10, 20, 20), rectangle(0, 0, 0, 0)])
    scores, owners = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([4, 1, 2])
    rows = MaskRows(masks, scores, torch.ones(3), torch.full((3,), 3.0), owners)
    sky = Sky(True, 1.0, np.array([[5.0, 6.0]]), np.array([99.0]), np.array([0.2]), np.array([10.0]), np.array([3.0]))
    found, kept_owners = assemble(rows, sky, np.array([0]), motion)
    assert (len(found), found.mask_count) == (3, 2)
    assert found.centroid_sigma_px[1] == pytest.approx(1.5 * found.centroid_sigma_px[0])
    assert found.moving_shares[:2] == pytest.approx([1.0, 0.0])
    assert found.boxes_xywh_px.tolist()[2] == [4.0, 5.0, 3.0, 3.0]  # 3 px across, around 5, 6
    assert found.reasons.tolist() == [PromptReason.SWEEP, PromptReason.SWEEP, PromptReason.POINT_SOURCE]
    assert found.fluxes[2] == 99.0
    assert np.isnan(found.fluxes[:2]).all()
    assert kept_owners.tolist() == [4, 1]
    assert found.scores[:2] == pytest.approx([0.9, 0.8])


def test_nothing_to_assemble() -> None:
    rows = MaskRows.empty(SIZE, torch.device("cpu"))
    found, owners = assemble(MaskRows.join([rows, rows]), Sky(), np.zeros(0, dtype=np.int64), EgoMotion())
    assert (len(found), found.masks.shape, owners.shape) == (0, (0, *SIZE), (0,))


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("part", [(0, 0, 128, 96), (64, 0, 128, 96), (32, 48, 96, 96)])
def test_motion_in_a_part_is_as_in_the_whole(part: tuple[int, int, int, int], halved: bool) -> None:
    """Masks of a part alone, at its own resolution, against the same masks drawn in the whole frame."""
    left, top, right, bottom = part
    evidence = (np.random.default_rng(2).random((48, 64)) < 0.3).astype(np.float32)
    masks = torch.stack([rectangle(68, 56, 12, 20), rectangle(64, 50, 30, 46), rectangle(70, 60, 2, 2)])
    cut = masks[:, top:bottom, left:right]
    cut = cut[:, ::2, ::2] if halved else cut
    edges = np.array([left / 128, top / 96, right / 128, bottom / 96])
    for found, expected in zip(moving_shares(evidence, cut, edges), moving_shares(evidence, masks), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    inside, ring = moving_shares(evidence, cut, edges)
    assert inside[0] == pytest.approx(evidence[28:38, 34:40].mean(), abs=1e-5)  # The raster has half the resolution.
    around = evidence[23:43, 29:45].sum() - evidence[28:38, 34:40].sum()
    assert ring[0] == pytest.approx(around / (20 * 16 - 10 * 6), abs=1e-5)


def test_motion_of_no_masks() -> None:
    evidence = np.ones((48, 64), dtype=np.float32)
    assert [len(each) for each in moving_shares(evidence, torch.zeros((0, 5, 5), dtype=torch.bool))] == [0, 0]


def test_many_large_masks_are_as_one_by_one() -> None:
    """Eleven masks of 1500 x 2100 px are more than is taken at once; their shares are those of each alone."""
    rng = np.random.default_rng(3)
    masks, evidence = torch.from_numpy(rng.random((11, 1500, 2100)) < 0.4), rng.random((48, 64)).astype(np.float32)
    alone = [[share[0] for share in moving_shares(evidence, mask[None])] for mask in masks]
    torch.testing.assert_close(torch.stack(moving_shares(evidence, masks), dim=1), torch.tensor(alone))
    patches = torch.cat([mask_shares(mask[None], (16, 21)) for mask in masks])
    torch.testing.assert_close(mask_shares(masks, (16, 21)), patches)
    assert mask_shares(masks[:0], (16, 21)).shape == (0, 16, 21)


def test_which_masks_hold_which_points() -> None:
    masks = torch.stack([rectangle(10, 20, 6, 3), rectangle(14, 20, 6, 3)])
    points = np.array([[10.4, 19.6], [15.0, 21.0], [16.4, 22.4], [-0.6, 20.0], [500.0, 21.0]])
    assert masks_at(masks, points).tolist() == [[True, False], [True, True], [False, True], [False] * 2, [False] * 2]
    assert masks_at(masks[:0], points).shape == (5, 0)
    assert masks_at(masks, points[:0]).shape == (0, 2)
