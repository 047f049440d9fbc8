"""Segmenters against hand-made scenes; SAM has random weights here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sparsematch_ros.segmentation.assembly import MaskRows
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, Frame, PromptReason, Prompts
from sparsematch_ros.segmentation.candidates import PromptAsker, Question
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, Segmentation

STILL = EgoMotion()
SIZE = (96, 128)


def disc(centre: tuple[float, float], radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.indices(size)
    return np.hypot(x - centre[0], y - centre[1]) <= radius


@pytest.fixture(scope="module")
def sam() -> PromptedSam:
    """Random weights say nothing of quality: the bias makes SAM sure of itself, so that its masks pass the filters."""
    torch.manual_seed(4)
    model = build_sam("mobile_sam", None, 128)
    model.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(2.0)
    return PromptedSam(model, torch.device("cpu"))


def run(
    sam: PromptedSam,
    picture: np.ndarray,
    expectations: Expectations | None = None,
    resting: bool = True,
    **changes: object,
) -> Segmentation:
    """Segment one frame, `(H, W)` or `(H, W, 3)`, without a survey unless the changes of the settings say so."""
    rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    frame = Frame(0, 0, rgb.astype(np.uint8))
    config = replace(SegmentationConfig(max_area_fraction=1.0, survey_first_frame=False), **changes)
    known = expectations or Expectations(resting_px=np.zeros((0, 2)) if resting else None)
    return AdaptiveSegmenter(sam, config).segment(frame, STILL, survey_sky(frame.gray, config, 100), known)


def expecting(boxes_xywh: list[list[float]]) -> Expectations:
    """Expect resolved objects that fill their boxes (left, top, width, height)."""
    boxes = np.array(boxes_xywh, dtype=np.float64)
    count = len(boxes)
    states = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, np.zeros((count, 2))], axis=1)
    known = np.ones(count, dtype=bool)
    return Expectations(
        None, states, np.tile(np.eye(4), (count, 1, 1)), boxes, boxes[:, 2:].prod(axis=1), np.arange(count),
        np.ones(count), known, np.zeros((0, 2)),
    )  # fmt: skip


def noise(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("survey", [False, True])
@pytest.mark.parametrize("size", [(96, 128), (16, 16), (16, 200)])
def test_a_black_frame_costs_nothing(sam: PromptedSam, size: tuple[int, int], survey: bool) -> None:
    found = run(sam, np.zeros(size), survey_first_frame=survey)
    assert (found.embeddings, found.regions_xyxy_px.shape, found.owners.shape) == ((), (0, 4), (0,))
    assert (len(found.prompts), len(found.segments)) == (0, 0)
    assert found.segments.masks.shape == (0, *size)


def test_no_prompts_cost_nothing(sam: PromptedSam) -> None:
    """By day, with a budget of none: nothing is encoded though there is much to see."""
    found = run(sam, noise(), expecting([[20, 20, 30, 30]]), prompt_budget=0)
    assert (found.embeddings, len(found.prompts), len(found.segments)) == ((), 0, 0)


def test_a_bright_blob_is_asked_for_once(sam: PromptedSam) -> None:
    blob = disc((70, 40), 15)
    found = run(sam, np.where(blob, 180, 10))
    assert len(found.embeddings) > 0
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
    found = run(sam, gray.round(), survey_first_frame=True)
    assert found.embeddings == ()
    assert found.segments.mask_count == 0
    assert sorted(map(tuple, found.segments.centroids_px.round().tolist())) == places
    assert len(run(sam, gray.round(), resting=False).segments) == 0


# Parts of a frame -----------------------------------------------------------------------------------------------------


def test_a_mask_that_its_part_cuts_is_asked_for_in_the_whole(sam: PromptedSam) -> None:
    """With random weights masks reach everywhere: that of a part of 64 px does not stay, that of the whole does."""
    found = run(sam, noise((240, 320)), expecting([[150, 110, 20, 20]]), sweep_prompts=0)
    # Around the box's middle at 160.5, 120.5, rounded outwards.
    assert found.regions_xyxy_px.tolist() == [[128.0, 88.0, 193.0, 153.0], [0.0, 0.0, 320.0, 240.0]]
    assert [embedding.features.shape[-1] for embedding in found.embeddings] == [64 // 16, 128 // 16]
    assert found.owners.tolist() == [1]
    assert found.segments.reasons.tolist() == [PromptReason.EXPECTED]


def test_a_mask_cut_by_the_frame_alone_is_not_cut(sam: PromptedSam) -> None:
    """Where the part is all there is, a mask that reaches its border is whole."""
    found = run(sam, noise((60, 60)), expecting([[20, 20, 20, 20]]), sweep_prompts=0)
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 60.0, 60.0]]
    assert found.owners.tolist() == [0]


@pytest.mark.parametrize("corner", [(40, 50), (190, 120), (150, 70)])
def test_a_mask_inside_its_part_stays_and_lies_where_the_object_is(
    blob_sam: PromptedSam, corner: tuple[int, int]
) -> None:
    """A blob of some 70 px in a part of 144 px: it lies around the box in the frame, and nothing else is encoded."""
    found = run(
        blob_sam, np.full((240, 320), 90), expecting([[*corner, 70, 70]]), sweep_prompts=0, targeted_iou_thresh=0.0
    )
    ((left, top, right, bottom),) = found.regions_xyxy_px
    assert 140 < right - left < 150
    assert found.owners.tolist() == [0]
    np.testing.assert_allclose(found.segments.centroids_px[0], np.array(corner) + 35, atol=12)
    x, y, width, height = found.segments.boxes_xywh_px[0]
    assert left < x and top < y and x + width < right and y + height < bottom


@pytest.mark.parametrize(
    ("corner", "inner"),
    [((0, 0), "right bottom"), ((100, 90), "left top right bottom"), ((0, 90), "top right bottom"),
     ((100, 144), "left top right"), ((224, 50), "left top bottom"), ((150, 0), "left right bottom")],
)  # fmt: skip
def test_cut_masks_are_those_that_reach_an_inner_border(
    blob_sam: PromptedSam, corner: tuple[int, int], inner: str
) -> None:
    """Blobs all over a part of 96 x 96 px of a frame of 240 x 320 px; borders of the frame itself cut nothing."""
    left, top = corner
    frame = Frame(0, 0, noise((240, 320)))
    embedding = blob_sam.encode(frame.image, (left, top, left + 96, top + 96))
    points = np.stack(np.meshgrid(np.arange(6.0, 96, 12), np.arange(6.0, 96, 12)), axis=-1).reshape(-1, 2) + corner
    count = len(points)
    reasons, unknown = np.full(count, int(PromptReason.SWEEP)), np.full(count, np.nan)
    prompts = Prompts(points, np.full((count, 4), np.nan), reasons, unknown)
    config = SegmentationConfig(max_area_fraction=1.0, stability_score_thresh=0.0, pred_iou_thresh=0.0)
    asked = PromptAsker(blob_sam, config).ask(embedding, Question(frame, prompts, STILL, Sky()), np.arange(count))
    masks = asked.logits > 0
    borders = {"left": masks[:, :, 0], "top": masks[:, 0], "right": masks[:, :, -1], "bottom": masks[:, -1]}
    reached = torch.stack([borders[name].any(dim=1) for name in inner.split()]).any(dim=0)
    assert 10 < reached.sum() < len(masks) - 10
    assert torch.equal(asked.cut, reached)


def test_of_two_masks_the_whole_goes_before_its_part(sam: PromptedSam) -> None:
    """Down to a few pixels: 30 px hold 24 px, so one thing is there, whichever was asked for first."""
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 10:14, 10:16] = True
    masks[1, 10:15, 10:16] = True
    rows = MaskRows(masks, torch.tensor([0.9, 0.9]), torch.ones(2), torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    segmenter = AdaptiveSegmenter(sam, SegmentationConfig())
    for order in ([0, 1], [1, 0]):
        kept = segmenter._one_for_each([rows.take(torch.tensor(order))], SIZE)
        assert kept.masks.flatten(1).sum(dim=1).tolist() == [30]


# Surveys --------------------------------------------------------------------------------------------------------------


def test_the_first_frame_is_surveyed(sam: PromptedSam) -> None:
    """Sixteen bare points and the expected object, all in one encoding of the whole frame."""
    found = run(
        sam, noise(), expecting([[20, 20, 30, 30]]), survey_first_frame=True, survey_points_per_side=4, sweep_prompts=0,
        pred_iou_thresh=0.0, stability_score_thresh=0.0,
    )  # fmt: skip
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED] + [PromptReason.GRID] * 16
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 128.0, 96.0]]
    assert (found.owners == 0).all() and len(found.owners) == found.segments.mask_count
    assert set(found.segments.reasons.tolist()) == {PromptReason.EXPECTED, PromptReason.GRID}
    steps = {(x, y) for x in (16.0, 48.0, 80.0, 112.0) for y in (12.0, 36.0, 60.0, 84.0)}
    assert {(x, y) for x, y in found.prompts.points_px[1:].tolist()} == steps


def test_a_survey_on_request(sam: PromptedSam) -> None:
    config = SegmentationConfig(survey_first_frame=False, survey_points_per_side=3)
    segmenter, grids = AdaptiveSegmenter(sam, config), []
    for number in range(4):
        if number == 2:
            segmenter.request_survey()
        found = segmenter.segment(Frame(number, number, noise()), STILL, Sky(), Expectations())
        grids.append(int((found.prompts.reasons == PromptReason.GRID).sum()))
    assert grids == [0, 0, 9, 0]


@pytest.mark.parametrize("change", [{"survey_points_per_side": 0}, {"sweep_points_per_side": 0}])
def test_what_is_switched_off_is_not_asked(sam: PromptedSam, change: dict[str, int]) -> None:
    found = run(sam, noise(), survey_first_frame=True, sweep_prompts=2, **change)
    asked = set(found.prompts.reasons.tolist())
    surveyed, swept = PromptReason.GRID in asked, bool(asked & {PromptReason.SWEEP, PromptReason.TEXTURE})
    assert (surveyed, swept) == ("sweep_points_per_side" in change, "survey_points_per_side" in change)


def test_a_survey_under_a_dark_sky_looks_at_what_is_bright(sam: PromptedSam) -> None:
    blob = disc((70, 40), 15)
    found = run(sam, np.where(blob, 180, 10), survey_first_frame=True)
    grid = found.prompts.points_px[found.prompts.reasons == PromptReason.GRID]
    assert len(grid) > 5
    assert np.hypot(*(grid - np.array([70, 40])).T).max() < 17


# The full grid --------------------------------------------------------------------------------------------------------


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
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 128.0, 96.0]]
    assert found.owners.tolist() == [0] * found.segments.mask_count
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


def test_a_bright_region_without_a_mask_is_its_silhouette(sam: PromptedSam) -> None:
    """Nothing may be asked, yet two discs against a dark sky are two segments, good to a pixel all around."""
    discs = disc((40, 30), 12) | disc((95, 60), 9)
    found = run(sam, np.where(discs, 180, 10), prompt_budget=0, survey_first_frame=False)
    assert not found.embeddings
    assert found.segments.mask_count == 2
    assert (found.segments.scores < 0.7).all()
    for mask, (centre, radius) in zip(found.segments.masks.numpy(), (((40, 30), 12), ((95, 60), 9)), strict=True):
        assert not (mask & ~disc(centre, radius + 1)).any()
        assert not (disc(centre, radius - 1) & ~mask).any()
