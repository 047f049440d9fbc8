"""Masks, proposers and segmenters against hand-made scenes; SAM has random weights here."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, Frame, PromptReason, ResidualMotion
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.masks import (
    candidate_agreement,
    keep_strongest,
    mask_geometry,
    sharpen_against_sky,
    size_change,
    stability,
)
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.proposers import Proposer
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, Segmentation
from sparsematch_ros.sky import Sky, survey_sky

STILL = EgoMotion()
SIZE = (96, 128)


def rectangle(left: int, top: int, width: int, height: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def disc(centre: tuple[float, float], radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.indices(size)
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def expecting(
    boxes: list[list[float]], worth: list[float] | None = None, resolved: list[bool] | None = None
) -> Expectations:
    """Expect objects that fill their boxes (left, top, width, height) to three quarters."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    states = np.zeros((count, 4))
    states[:, :2] = corners[:, :2] + corners[:, 2:] / 2
    return Expectations(
        states=states,
        covariances=np.tile(np.eye(4), (count, 1, 1)),
        boxes_xywh_px=corners,
        areas_px=0.75 * corners[:, 2] * corners[:, 3],
        segment_rows=np.arange(count),
        worth=np.array(worth or [1.0] * count),
        resolved=np.array(resolved or [True] * count, dtype=bool),
        resting_px=np.zeros((0, 2)),
    )


def bright_sky(boxes_xyxy: list[list[float]], dark: bool = True) -> Sky:
    corners = np.array(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return Sky(dark, boxes_xyxy_px=corners, region_points_px=corners[:, :2] + 1, region_areas_px=areas)


# Masks ----------------------------------------------------------------------------------------------------------------


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
    rows = MaskRows(masks, torch.tensor([0.9, 0.8, 0.7]), torch.ones(3), torch.full((3,), 3.0))
    sky = Sky(True, 1.0, np.array([[5.0, 6.0]]), np.array([99.0]), np.array([0.2]), np.array([10.0]), np.array([3.0]))
    found = assemble(rows, sky, np.array([0]), motion)
    assert (len(found), found.mask_count) == (3, 2)
    assert found.centroid_sigma_px[1] == pytest.approx(5 * found.centroid_sigma_px[0])
    assert found.moving_shares[:2] == pytest.approx([1.0, 0.0])
    assert found.boxes_xywh_px.tolist()[2] == [4.0, 5.0, 3.0, 3.0]  # 3 px across, around 5, 6
    assert found.reasons.tolist() == [PromptReason.SWEEP, PromptReason.SWEEP, PromptReason.POINT_SOURCE]
    assert found.fluxes[2] == 99.0
    assert np.isnan(found.fluxes[:2]).all()


# Proposers ------------------------------------------------------------------------------------------------------------


def test_the_budget_keeps_what_is_expected() -> None:
    boxes = [[10.0 * row, 0.0, 10.0 * row + 8, 8.0] for row in range(12)]
    proposer = Proposer(SegmentationConfig(prompt_budget=3))
    expected = expecting([[10, 60, 20, 20], [60, 60, 20, 20]], worth=[0.2, 0.9])
    prompts = proposer.propose(SIZE, STILL, bright_sky(boxes), expected)
    assert prompts.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.EXPECTED, PromptReason.BRIGHT]
    assert prompts.points_px[:2].tolist() == [[70, 70], [20, 70]]  # The worthier first.
    assert prompts.areas_px[:2].tolist() == [300, 300]
    assert len(Proposer(SegmentationConfig(prompt_budget=0)).propose(SIZE, STILL, bright_sky(boxes), expected)) == 0


def test_what_cannot_be_asked_for() -> None:
    """Objects out of view, and point sources, which SAM does not see."""
    expected = expecting([[-50, 0, 20, 20], [10, 200, 9, 9], [30, 30, 3, 3]], resolved=[True, True, False])
    proposer = Proposer(SegmentationConfig(sweep_prompts=0))
    assert len(proposer.propose(SIZE, STILL, Sky(), expected)) == 0
    partly = expecting([[-10, 20, 30, 30]])
    assert len(proposer.propose(SIZE, STILL, Sky(dark=True), partly)) == 0  # It would be bright against the sky.
    cut = proposer.propose(SIZE, STILL, Sky(), partly)
    assert cut.boxes_xyxy_px[0, 0] == 0
    assert 0 < cut.points_px[0, 0] < 20


@pytest.mark.parametrize(("side", "each"), [(4, 1), (8, 3), (3, 20), (1, 1)])
def test_the_sweep_comes_everywhere(side: int, each: int) -> None:
    proposer = Proposer(SegmentationConfig(sweep_points_per_side=side, sweep_prompts=each, prompt_budget=100))
    frames = -(-(side**2) // each)
    asked = [proposer.propose(SIZE, STILL, Sky(), Expectations()) for _ in range(frames)]
    assert all(len(prompts) == min(each, side**2) for prompts in asked)
    assert all((prompts.reasons == PromptReason.SWEEP).all() for prompts in asked)
    places = {(x, y) for prompts in asked for x, y in prompts.points_px.round(6).tolist()}
    steps = (np.arange(side) + 0.5) / side
    assert places == {(round(128 * x, 6), round(96 * y, 6)) for x in steps for y in steps}


def test_the_sweep_leaves_out_covered_places() -> None:
    proposer = Proposer(SegmentationConfig(sweep_points_per_side=4, sweep_prompts=2))
    left_half = expecting([[0, 0, 64, 96]])
    asked = [proposer.propose(SIZE, STILL, Sky(), left_half) for _ in range(4)]
    swept = np.concatenate([prompts.points_px[prompts.reasons == PromptReason.SWEEP] for prompts in asked])
    assert len({tuple(place) for place in swept.tolist()}) == 8  # The right half's points, each once.
    assert swept[:, 0].min() > 64


@pytest.mark.parametrize("change", [{"sweep_prompts": 0}, {"sweep_points_per_side": 0}])
def test_no_sweep(change: dict[str, int]) -> None:
    assert len(Proposer(SegmentationConfig(**change)).propose(SIZE, STILL, Sky(), Expectations())) == 0
    assert len(Proposer(SegmentationConfig()).propose(SIZE, STILL, Sky(dark=True), Expectations())) == 0


def test_what_is_bright_now_corrects_what_was_expected() -> None:
    sky = bright_sky([[14.0, 12.0, 34.0, 32.0], [80.0, 50.0, 95.0, 60.0]])
    prompts = Proposer(SegmentationConfig()).propose(SIZE, STILL, sky, expecting([[10, 10, 20, 20]]))
    assert prompts.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.BRIGHT]
    np.testing.assert_array_equal(prompts.boxes_xyxy_px, sky.boxes_xyxy_px)
    np.testing.assert_array_equal(prompts.points_px, sky.region_points_px)
    assert prompts.areas_px[0] == 300
    assert np.isnan(prompts.areas_px[1])


def test_what_moves_is_asked_for() -> None:
    """A patch of a raster at half resolution moves by 5 px; it covers columns 60 to 99 of the image."""
    flow, evidence = np.zeros((48, 64, 2), dtype=np.float32), np.zeros((48, 64), dtype=np.float32)
    flow[10:30, 30:50, 0] = 5.0
    evidence[10:30, 30:50] = 1.0
    motion = EgoMotion(residual=ResidualMotion(flow, evidence))
    prompts = Proposer(SegmentationConfig(sweep_prompts=0)).propose(SIZE, motion, Sky(), Expectations())
    assert prompts.reasons.tolist() == [PromptReason.MOTION]
    np.testing.assert_allclose(prompts.boxes_xyxy_px[0], [60, 20, 99, 59], atol=4.0)  # Two cells of the raster.
    np.testing.assert_allclose(prompts.points_px[0], [79.5, 39.5], atol=4.0)
    weak = EgoMotion(residual=motion.residual, surroundings_px=2.0)  # Surroundings that scatter by 2 px hide it.
    assert len(Proposer(SegmentationConfig()).propose(SIZE, weak, Sky(dark=True), Expectations())) == 0


# Segmenters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> PromptedSam:
    """Random weights say nothing of quality: the bias makes SAM sure of itself, so that its masks pass the filters."""
    torch.manual_seed(4)
    model = build_sam("mobile_sam", None, 128)
    model.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(2.0)
    return PromptedSam(model, torch.device("cpu"))


def run(sam: PromptedSam, gray: np.ndarray, resting: bool = True) -> Segmentation:
    frame = Frame(0, 0, np.repeat(gray[..., None], 3, axis=2).astype(np.uint8))
    config = SegmentationConfig(max_area_fraction=1.0)
    expectations = Expectations(resting_px=np.zeros((0, 2)) if resting else None)
    return AdaptiveSegmenter(sam, config).segment(frame, STILL, survey_sky(frame.gray, config, 100), expectations)


@pytest.mark.parametrize("size", [(96, 128), (16, 16), (16, 200)])
def test_a_black_frame_costs_nothing(sam: PromptedSam, size: tuple[int, int]) -> None:
    found = run(sam, np.zeros(size))
    assert found.embedding is None
    assert (len(found.prompts), len(found.segments)) == (0, 0)
    assert found.segments.masks.shape == (0, *size)


def test_a_bright_blob_is_asked_for_once(sam: PromptedSam) -> None:
    blob = disc((70, 40), 15)
    found = run(sam, np.where(blob, 180, 10))
    assert found.embedding is not None
    assert found.prompts.reasons.tolist() == [PromptReason.BRIGHT]
    assert blob[tuple(found.prompts.points_px[0].astype(int)[::-1])]
    np.testing.assert_allclose(found.prompts.boxes_xyxy_px[0], [55, 25, 85, 55], atol=2.0)
    assert found.segments.masks.shape == (1, *SIZE)
    assert found.segments.reasons.tolist() == [PromptReason.BRIGHT]
    assert found.segments.areas_px[0] == found.segments.masks.sum()


def test_small_sources_need_no_encoder(sam: PromptedSam) -> None:
    """Spots of a point spread become segments without SAM, once it is known what rests."""
    places = [(30.0, 20.0), (90.0, 60.0)]
    gray = 10 + sum(120 * np.exp(-np.square(np.indices(SIZE) - np.array([y, x])[:, None, None]).sum(0) / 2.4)
                    for x, y in places)  # fmt: skip
    found = run(sam, gray.round())
    assert found.embedding is None
    assert found.segments.mask_count == 0
    assert sorted(map(tuple, found.segments.centroids_px.round().tolist())) == places
    assert len(run(sam, gray.round(), resting=False).segments) == 0


@pytest.mark.parametrize(("layers", "prompts"), [(0, 4), (1, 4 + 4)])
def test_full_grid(sam: PromptedSam, layers: int, prompts: int) -> None:
    """Four points on the whole; on each of the four crops of the next layer the grid is half as fine: one."""
    config = SegmentationConfig(
        points_per_side=2,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        crop_n_layers=layers,
        crop_n_points_downscale_factor=2,
    )
    frame = Frame(0, 0, np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    found = FullGridSegmenter(sam, config).segment(frame, STILL, Sky(), Expectations())
    assert found.embedding is not None
    assert len(found.prompts) == prompts
    assert found.prompts.points_px[:4].tolist() == [[32, 24], [96, 24], [32, 72], [96, 72]]
    assert found.segments.mask_count == len(found.segments) > 0
    assert found.segments.masks.shape[1:] == SIZE
    assert (found.segments.reasons == PromptReason.GRID).all()


def test_full_grid_that_keeps_nothing(sam: PromptedSam) -> None:
    config = SegmentationConfig(points_per_side=1, stability_score_thresh=1.0, stability_score_offset=10.0)
    found = FullGridSegmenter(sam, config).segment(
        Frame(0, 0, np.full((16, 16, 3), 90, dtype=np.uint8)), STILL, Sky(), Expectations()
    )
    assert len(found.segments) == 0
    assert found.segments.masks.shape == (0, 16, 16)
