"""Segmenters against hand-made scenes that the real detectors look at; SAM has random weights here."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sparsematch_ros.background.layers import Background
from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame, PromptReason, TrackPredictions
from sparsematch_ros.detection.detector import Detector
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.segmentation.candidates import PromptBatch, PromptDecoder, detection_agreement
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.prompts import grid_prompts
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, Segmentation
from sparsematch_ros.segmentation.segments import MaskRows

SIZE = (96, 128)
NOBODY = TrackPredictions()


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


def frame_of(picture: np.ndarray) -> Frame:
    rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return Frame(0, 0, rgb.astype(np.uint8))


def run(
    sam: PromptedSam, picture: np.ndarray, predictions: TrackPredictions = NOBODY, regions: Regions | None = None,
    sources: Sources | None = None, survey: bool = False, **changes: object,
) -> Segmentation:  # fmt: skip
    """Segment one frame, `(H, W)` or `(H, W, 3)`, with the regions that the detectors find where none are given."""
    config = replace(SegmentationConfig(max_area_fraction=1.0), **changes)
    frame, detector = frame_of(picture), Detector(config)
    found = detector.detect(detector.measure(frame), Background(), None).regions if regions is None else regions
    segmenter = AdaptiveSegmenter(sam, config)
    if survey:
        segmenter.request_survey()
    return segmenter.segment(frame, found, Sources() if sources is None else sources, predictions)


def expecting(*boxes_xywh: tuple[float, ...]) -> TrackPredictions:
    """Predict resolved objects that fill their boxes (left, top, width, height)."""
    boxes = np.array(boxes_xywh, dtype=np.float64)
    count = len(boxes)
    states = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, np.zeros((count, 2))], axis=1)
    known = np.ones(count, dtype=bool)
    return TrackPredictions(
        states, np.tile(np.eye(4), (count, 1, 1)), boxes, boxes[:, 2:].prod(axis=1), np.arange(count), np.ones(count),
        known, known, np.arange(count),
    )  # fmt: skip


def daylight(size: tuple[int, int] = SIZE, evidence: np.ndarray | None = None) -> Regions:
    """Build what is known of a frame full of ground, in which nothing stands out."""
    nothing = np.zeros(size, dtype=bool)
    return Regions(nothing.astype(np.int32), nothing, nothing, evidence)


def noise(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 256, (*size, 3), dtype=np.uint8)


def night(*discs: tuple[tuple[float, float], float]) -> np.ndarray:
    """Draw bright discs, blurred by 1 px, before a dark sky of little noise."""
    light = sum((180.0 * disc(centre, radius) for centre, radius in discs), np.zeros(SIZE))
    return np.clip(
        np.rint(8 + cv2.GaussianBlur(light, (0, 0), 1.0) + np.random.default_rng(1).normal(0, 1, SIZE)), 0, 255
    )


def assert_close_to(mask: np.ndarray, centre: tuple[float, float], radius: float) -> None:
    """Check that a mask is a disc to within a pixel all around."""
    assert not (mask & ~disc(centre, radius + 1)).any(), "the mask reaches beyond the disc"
    assert not (disc(centre, radius - 1) & ~mask).any(), "the mask misses a part of the disc"


# What is asked, and what that costs


@pytest.mark.parametrize("size", [(96, 128), (16, 16), (16, 200)])
def test_a_black_frame_costs_nothing(sam: PromptedSam, size: tuple[int, int]) -> None:
    found = run(sam, np.zeros(size))
    assert (found.embeddings, found.regions_xyxy_px.shape, found.owners.shape) == ((), (0, 4), (0,))
    assert (len(found.prompts), len(found.segments)) == (0, 0)
    assert found.segments.masks.shape == (0, *size)


def test_no_prompts_cost_nothing(sam: PromptedSam) -> None:
    """By day, with a budget of none: nothing is encoded though something is tracked."""
    found = run(sam, noise(), expecting((20, 20, 30, 30)), daylight(), prompt_budget=0)
    assert (found.embeddings, len(found.prompts), len(found.segments)) == ((), 0, 0)


def test_a_bright_body_is_asked_for_once_and_its_edge_is_that_of_its_brightness(sam: PromptedSam) -> None:
    """SAM's answer is noise here, and reaches the sky; the sky is cut off, and what was detected belongs to it."""
    found = run(sam, night(((70, 40), 15)))
    assert len(found.embeddings) > 0
    assert found.prompts.reasons.tolist() == [PromptReason.BRIGHT]
    assert disc((70, 40), 15)[tuple(found.prompts.points_px[0].astype(int)[::-1])]
    np.testing.assert_allclose(found.prompts.boxes_xyxy_px[0], [55, 25, 85, 55], atol=2.0)
    assert found.segments.reasons.tolist() == [PromptReason.BRIGHT]
    assert_close_to(found.segments.masks[0].numpy(), (70, 40), 15)
    np.testing.assert_allclose(found.segments.centroids_px, [[70, 40]], atol=0.2)


def test_a_bright_region_without_a_mask_is_its_outline(sam: PromptedSam) -> None:
    """Nothing may be asked, yet two discs against a dark sky are two segments, good to a pixel all around."""
    discs = ((40.0, 30.0), 12.0), ((95.0, 60.0), 9.0)
    found = run(sam, night(*discs), prompt_budget=0)
    assert not found.embeddings
    assert found.segments.mask_count == 2 and (found.segments.scores < 0.9).all()
    assert found.segments.reasons.tolist() == [PromptReason.BRIGHT] * 2
    for mask, (centre, radius) in zip(found.segments.masks.numpy(), discs, strict=True):
        assert_close_to(mask, centre, radius)


def test_two_prompts_and_one_outline_are_each_one_segment(blob_sam: PromptedSam) -> None:
    """Of three discs two may be asked for: three segments come out, none twice."""
    discs = ((24.0, 24.0), 9.5), ((104.0, 24.0), 9.0), ((56.0, 72.0), 8.5)
    found = run(blob_sam, night(*discs), prompt_budget=2, targeted_iou_thresh=0.0)
    assert len(found.prompts) == 2 and found.segments.mask_count == 3
    centres = np.sort(found.segments.centroids_px, axis=0)
    np.testing.assert_allclose(centres, [[24, 24], [56, 24], [104, 72]], atol=0.5)
    assert not (found.segments.masks.sum(dim=0) > 1).any()


def test_point_sources_need_no_encoder_and_one_in_a_mask_is_that_mask(sam: PromptedSam) -> None:
    places = np.array([[100.0, 20.0], [40.0, 40.0]])
    sources = Sources(places, np.full(2, 0.1), np.full(2, 300.0), np.full(2, 9.0))
    found = run(sam, night(((40, 40), 12)), sources=sources, prompt_budget=0)
    assert found.embeddings == () and len(found.segments) == 2 and found.segments.mask_count == 1
    np.testing.assert_array_equal(found.segments.centroids_px[1], [100, 20])


@pytest.mark.parametrize("gone", [True, False])
def test_masks_that_show_nothing_but_ground_are_dropped(blob_sam: PromptedSam, gone: bool) -> None:
    """SAM answers wherever it is asked; residual motion says whether the object is still there."""
    evidence = np.zeros((240, 320), dtype=np.float32)
    if not gone:
        evidence[90:151, 130:191] = 20.0
    found = run(blob_sam, np.full((240, 320), 90), expecting((130, 90, 61, 61)), daylight((240, 320), evidence),
                targeted_iou_thresh=0.0)  # fmt: skip
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED]
    assert found.segments.mask_count == (0 if gone else 1)
    if not gone:
        assert found.segments.moving_shares[0] > 0.3


# Parts of a frame


def test_a_mask_that_its_part_cuts_is_asked_for_in_the_whole(sam: PromptedSam) -> None:
    """With random weights masks reach everywhere: that of a part does not stay, that of the whole does."""
    found = run(sam, noise((240, 320)), expecting((150, 110, 20, 20)), daylight((240, 320)))
    (left, top, right, bottom), whole = found.regions_xyxy_px.tolist()
    assert whole == [0, 0, 320, 240]
    assert 0 < left < 150 and 170 < right < 320 and 0 < top < 110 and 130 < bottom < 240
    assert found.owners.tolist() == [1]
    assert found.segments.reasons.tolist() == [PromptReason.EXPECTED]


def test_a_mask_cut_by_the_frame_alone_is_not_cut(sam: PromptedSam) -> None:
    """Where the part is all there is, a mask that reaches its border is whole."""
    found = run(sam, noise((60, 60)), expecting((20, 20, 20, 20)), daylight((60, 60)))
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 60.0, 60.0]]
    assert found.owners.tolist() == [0]


@pytest.mark.parametrize("corner", [(40, 50), (190, 120), (150, 70)])
def test_a_mask_inside_its_part_lies_where_the_object_is(blob_sam: PromptedSam, corner: tuple[int, int]) -> None:
    """A blob in a part of the frame: it lies around the box in the frame, and nothing else is encoded."""
    found = run(blob_sam, np.full((240, 320), 90), expecting((*corner, 50, 50)), daylight((240, 320)),
                targeted_iou_thresh=0.0)  # fmt: skip
    ((left, top, right, bottom),) = found.regions_xyxy_px
    assert 80 < right - left < 200
    assert found.owners.tolist() == [0]
    np.testing.assert_allclose(found.segments.centroids_px[0], np.array(corner) + 25, atol=12)
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
    config = SegmentationConfig(max_area_fraction=1.0, stability_score_thresh=0.0, pred_iou_thresh=0.0)
    batch = PromptBatch(frame, grid_prompts(points), daylight((240, 320)), np.zeros(0, dtype=bool))
    asked = PromptDecoder(blob_sam, config).decode(embedding, batch, np.arange(len(points)))
    masks = asked.logits > 0
    borders = {"left": masks[:, :, 0], "top": masks[:, 0], "right": masks[:, :, -1], "bottom": masks[:, -1]}
    reached = torch.stack([borders[name].any(dim=1) for name in inner.split()]).any(dim=0)
    assert 10 < reached.sum() < len(masks) - 10
    assert torch.equal(asked.cut, reached)


def test_masks_are_weighed_by_what_was_detected(sam: PromptedSam) -> None:
    """A box of 40 x 20 px is foreground, with sky to its left and ground of no evidence elsewhere.

    The box itself agrees wholly, its half by a half; what reaches as far again into the sky, or over resting ground,
    agrees by a half. Where no motion is measured ground costs nothing, where none would show half as much.
    """
    size = (128, 128)
    foreground, sky = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    foreground[48:68, 40:80], sky[:, :40] = True, True
    unknown = Regions(foreground.astype(np.int32), foreground, sky)
    quiet = replace(unknown, evidence=np.zeros(size, dtype=np.float32))
    embedding = sam.encode(np.zeros((*size, 3), dtype=np.uint8))
    drawn = []
    for left, right in ((40, 80), (40, 60), (0, 80), (40, 120)):
        mask = np.zeros(size, dtype=np.float32)
        mask[48:68, left:right] = 1.0
        drawn.append(cv2.resize(mask, (32, 32), interpolation=cv2.INTER_AREA) > 0.5)
    masks = torch.from_numpy(np.stack(drawn))[None]
    boxes = torch.tensor([[10.0, 12.0, 20.0, 17.0]])  # Cells of 4 px.
    found = detection_agreement(masks, embedding, unknown, boxes)[0].tolist()
    assert found == pytest.approx([1.0, 0.5, 0.5, 1.0], abs=0.01)
    over_ground = detection_agreement(masks, embedding, quiet, boxes)[0].tolist()
    assert over_ground == pytest.approx([*found[:3], 0.5], abs=0.01)
    smooth = replace(unknown, evidence=np.full(size, np.nan, dtype=np.float32))
    over_smooth = detection_agreement(masks, embedding, smooth, boxes)[0].tolist()
    assert over_smooth == pytest.approx([*found[:3], 1 / 1.5], abs=0.01)


def one_for_each(
    sam: PromptedSam, masks: torch.Tensor, regions: Regions, tracks: list[int], parts: list[bool]
) -> list[int]:
    """Choose among masks of equal scores, one for each prompt; returns the areas of those that are kept [px^2]."""
    count, column = len(masks), torch.ones(len(masks))
    prompts = replace(grid_prompts(np.zeros((count, 2))), tracks=np.array(tracks))
    rows = MaskRows(masks, 0.9 * column, column, 0 * column, 0 * column.long(), torch.arange(count))
    batch = PromptBatch(frame_of(np.zeros(SIZE)), prompts, regions, np.array(parts, dtype=bool))
    kept = AdaptiveSegmenter(sam, SegmentationConfig())._one_for_each([rows], batch)
    return kept.masks.flatten(1).sum(dim=1).tolist()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_masks_that_goes_first_which_explains_more(sam: PromptedSam, order: list[int]) -> None:
    """30 px hold 24 px, so one thing is there, whichever was asked for first: the 30 px where all was detected.

    Where the other 6 px are sky they explain 24 - 6 px, and the 24 px go first.
    """
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 10:14, 10:16] = True
    masks[1, 10:15, 10:16] = True
    whole, part = masks[1].numpy(), masks[0].numpy()
    all_of_it = replace(daylight(), labels=whole.astype(np.int32), foreground=whole)
    before_sky = replace(daylight(), labels=part.astype(np.int32), foreground=part, sky=~part)
    for regions, area in ((all_of_it, 30), (before_sky, 24)):
        assert one_for_each(sam, masks[order], regions, [0, 1], [False, False]) == [area]


def test_tracked_objects_stay_beside_a_larger_one_unless_they_are_its_parts(sam: PromptedSam) -> None:
    """6 x 6 px inside of 30 x 30 px, both of them tracked; of two masks for the same object one is kept."""
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 20:26, 20:26] = True
    masks[1, 10:40, 10:40] = True
    shown = masks[1].numpy()
    regions = replace(daylight(), labels=shown.astype(np.int32), foreground=shown)
    assert one_for_each(sam, masks, regions, [0, 1], [False, False]) == [900, 36]
    assert one_for_each(sam, masks, regions, [0, 1], [True, True]) == [900]
    assert one_for_each(sam, masks, regions, [0, 0], [False]) == [900]


# Surveys and the full grid


def test_a_survey_looks_at_everything_with_the_prompts(sam: PromptedSam) -> None:
    """Sixteen bare points and the expected object, all in one encoding of the whole frame."""
    found = run(
        sam, noise(), expecting((20, 20, 30, 30)), daylight(), survey=True, survey_points_per_side=4,
        pred_iou_thresh=0.0, stability_score_thresh=0.0,
    )  # fmt: skip
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED] + [PromptReason.GRID] * 16
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 128.0, 96.0]]
    assert (found.owners == 0).all() and len(found.owners) == found.segments.mask_count
    assert set(found.segments.reasons.tolist()) == {PromptReason.EXPECTED, PromptReason.GRID}
    steps = {(x, y) for x in (16.0, 48.0, 80.0, 112.0) for y in (12.0, 36.0, 60.0, 84.0)}
    assert {(x, y) for x, y in found.prompts.points_px[1:].tolist()} == steps


def test_a_survey_comes_once_for_each_request_and_not_after_a_reset(sam: PromptedSam) -> None:
    segmenter, grids = AdaptiveSegmenter(sam, SegmentationConfig(survey_points_per_side=3)), []
    for number in range(6):
        if number in (2, 4):
            segmenter.request_survey()
        if number == 4:
            segmenter.reset()
        found = segmenter.segment(Frame(number, number, noise()), daylight(), Sources(), NOBODY)
        grids.append(int((found.prompts.reasons == PromptReason.GRID).sum()))
    assert grids == [0, 0, 9, 0, 0, 0]


@pytest.mark.parametrize(("layers", "prompts"), [(0, 4), (1, 4 + 4)])
def test_full_grid(sam: PromptedSam, layers: int, prompts: int) -> None:
    """Four points on the whole; on each of the four crops of the next layer the grid is half as fine: one."""
    config = SegmentationConfig(
        points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, crop_n_layers=layers,
        crop_n_points_downscale_factor=2,
    )  # fmt: skip
    star = Sources(np.array([[5.0, 6.0]]), np.ones(1), np.ones(1), np.full(1, 9.0))
    found = FullGridSegmenter(sam, config).segment(frame_of(noise()), daylight(), star, NOBODY)
    assert found.regions_xyxy_px.tolist() == [[0.0, 0.0, 128.0, 96.0]]
    assert found.owners.tolist() == [0] * found.segments.mask_count
    assert len(found.prompts) == prompts
    assert found.prompts.points_px[:4].tolist() == [[32, 24], [96, 24], [32, 72], [96, 72]]
    assert found.segments.mask_count == len(found.segments) - 1 > 0
    assert (found.segments.reasons[:-1] == PromptReason.GRID).all()
    assert found.segments.reasons[-1] == PromptReason.POINT_SOURCE


def test_full_grid_that_keeps_nothing(sam: PromptedSam) -> None:
    config = SegmentationConfig(points_per_side=1, stability_score_thresh=1.0, stability_score_offset=10.0)
    flat = frame_of(np.full((16, 16), 90))
    found = FullGridSegmenter(sam, config).segment(flat, daylight((16, 16)), Sources(), NOBODY)
    assert len(found.segments) == 0 and found.segments.masks.shape == (0, 16, 16)
