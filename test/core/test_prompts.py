"""Where SAM is asked, and why: regions and predicted objects made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import PromptReason, TrackPredictions
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.segmentation.prompts import Prompts, Proposal, grid_prompts, propose

SIZE = (120, 200)
Box = tuple[float, float, float, float]  # Left, top, right and bottom pixel.


def regions_of(*boxes: Box, ground: bool | list[Box] = False) -> Regions:
    """Build filled rectangles, the largest first, against the sky, or on ground that fills the view or some boxes."""
    labels, below = np.zeros(SIZE, dtype=np.int32), np.full(SIZE, ground is True)
    for left, top, right, bottom in ground if isinstance(ground, list) else []:
        below[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
    for number, (left, top, right, bottom) in enumerate(boxes):
        labels[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = number + 1
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    # The sky around a region belongs to its box, as the corners of real ones do.
    sky = ~below & (labels == 0)
    for left, top, _, _ in boxes:
        sky[int(top), int(left)] = not below[int(top), int(left)]
    return Regions(
        labels, labels > 0, sky, boxes_xyxy_px=corners, cores_xyxy_px=corners + np.array([2, 2, -2, -2]),
        seeds_px=(corners[:, :2] + corners[:, 2:]) / 2, areas_px=(corners[:, 2:] - corners[:, :2] + 1).prod(axis=1),
        solid=np.ones(len(corners), dtype=bool),
    )  # fmt: skip


def tracked(
    *boxes: Box, priorities: object = 1.0, resolved: object = True, believed: object = True
) -> TrackPredictions:
    """Predict objects that fill their boxes (left, top, right, bottom), whose places are known to a pixel."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    extents = corners[:, 2:] - corners[:, :2] + 1
    return TrackPredictions(
        states=np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, np.zeros((count, 2))], axis=1),
        covariances=np.tile(np.eye(4), (count, 1, 1)),
        boxes_xywh_px=np.concatenate([corners[:, :2], extents], axis=1),
        areas_px=extents.prod(axis=1),
        segment_rows=np.arange(count),
        priorities=np.broadcast_to(np.asarray(priorities, dtype=np.float64), (count,)),
        believed=np.broadcast_to(np.asarray(believed, dtype=bool), (count,)),
        resolved=np.broadcast_to(np.asarray(resolved, dtype=bool), (count,)),
        bodies=np.arange(count),
    )


def run(regions: Regions, predictions: TrackPredictions | None = None, budget: int = 8) -> Proposal:
    return propose(regions, predictions or tracked(), SIZE, SegmentationConfig(prompt_budget=budget))


LARGE, SMALL = (20.0, 20.0, 59.0, 49.0), (120.0, 70.0, 143.0, 89.0)


def test_what_nobody_knows_is_asked_for_by_its_reason() -> None:
    """Against the sky by its outline's box, on the ground by its thick part; at the region's deepest point."""
    bright, moving = run(regions_of(LARGE, SMALL)), run(regions_of(LARGE, SMALL, ground=True))
    assert bright.prompts.reasons.tolist() == [PromptReason.BRIGHT] * 2
    assert moving.prompts.reasons.tolist() == [PromptReason.MOTION] * 2
    assert bright.prompts.boxes_xyxy_px.tolist() == [list(LARGE), list(SMALL)]
    assert moving.prompts.boxes_xyxy_px.tolist() == [[22, 22, 57, 47], [122, 72, 141, 87]]
    assert bright.prompts.points_px.tolist() == [[39.5, 34.5], [131.5, 79.5]]
    assert np.isnan(bright.prompts.areas_px).all()
    assert (bright.on_sky.all(), moving.on_sky.any()) == (True, False)
    # Where brightness marks the edges less detail is needed.
    assert (moving.prompts.details_px > bright.prompts.details_px).all()


def test_what_is_seen_now_corrects_what_was_predicted() -> None:
    """The object was predicted 4 px off; it is asked for where its region is, with its own area."""
    found = run(regions_of(LARGE, SMALL), tracked((24, 22, 63, 51)))
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.BRIGHT]
    assert found.prompts.boxes_xyxy_px.tolist() == [list(LARGE), list(SMALL)]
    assert found.prompts.areas_px[0] == 1200 and np.isnan(found.prompts.areas_px[1])
    assert found.prompt_of_region.tolist() == [0, 1]


def test_all_parts_of_a_body_before_the_sky_are_asked_for_at_once() -> None:
    """A bus and two panels that shadow cuts off: one prompt, at the bus, whose box holds all three."""
    bus, left, right = (80.0, 40.0, 119.0, 79.0), (50.0, 50.0, 71.0, 65.0), (128.0, 50.0, 149.0, 65.0)
    found = run(regions_of(bus, left, right), tracked((50, 40, 149, 79)))
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED]
    assert found.prompts.boxes_xyxy_px.tolist() == [[50, 40, 149, 79]]
    assert found.prompts.points_px.tolist() == [[99.5, 59.5]]
    assert found.prompt_of_region.tolist() == [0, 0, 0]


def test_two_objects_in_one_region_are_asked_for_by_their_own_boxes() -> None:
    """They have merged; neither is the whole, so the region stands for none."""
    found = run(regions_of((20, 20, 99, 49)), tracked((20, 20, 57, 49), (62, 20, 99, 49)))
    assert found.prompts.reasons.tolist() == [PromptReason.EXPECTED] * 2
    boxes = sorted(found.prompts.boxes_xyxy_px.tolist())
    np.testing.assert_allclose(boxes, [[20, 20, 58, 50], [62, 20, 100, 50]], atol=1.0)
    assert found.prompt_of_region.tolist() == [-1]
    # Of which one is not believed in, the region is the other's.
    alone = run(regions_of((20, 20, 99, 49)), tracked((20, 20, 95, 49), (62, 20, 99, 49), believed=[True, False]))
    assert alone.prompt_of_region[0] >= 0


@pytest.mark.parametrize(
    ("ground", "priority", "asked"),
    [(True, 1.0, True), (True, 0.4, False), (False, 1.0, False)],
    ids=["moves over the ground", "rests on the ground", "empty sky"],
)
def test_what_is_not_seen_is_asked_for_where_it_may_be_hidden_by_the_ground(
    ground: bool, priority: float, asked: bool
) -> None:
    found = run(regions_of(ground=ground), tracked((50, 40, 79, 69), priorities=priority))
    assert len(found.prompts) == asked
    if asked:
        np.testing.assert_allclose(found.prompts.boxes_xyxy_px, [[50, 40, 79, 69]], atol=1.0)
        np.testing.assert_allclose(found.prompts.points_px, [[65, 55]], atol=1.0)


def test_what_cannot_be_asked_for() -> None:
    """Objects out of view, and points, which SAM does not see; one that the border cuts is asked for in the image."""
    away = tracked((-50, 0, -30, 20), (10, 200, 19, 219), (30, 30, 32, 32), resolved=[True, True, False])
    assert len(run(regions_of(ground=True), away).prompts) == 0
    cut = run(regions_of(ground=True), tracked((-20, 30, 29, 59))).prompts
    assert cut.boxes_xyxy_px[0, 0] == 0 and 0 < cut.points_px[0, 0] < 29


def test_specks_are_not_prompted() -> None:
    """Of 9 x 9 px the outline is known better than SAM does: neither a new one nor a tracked one is asked for."""
    speck = (100.0, 50.0, 108.0, 58.0)
    for predictions in (tracked(), tracked(speck)):
        found = run(regions_of(LARGE, speck), predictions)
        assert found.prompts.boxes_xyxy_px.tolist() == [list(LARGE)]
        assert found.prompt_of_region.tolist() == [0, -1]


def test_the_budget_goes_to_what_nothing_else_can_replace() -> None:
    """First objects and regions on the ground, by priority, then what has an outline before the sky, the larger first.

    Two objects on the ground, one before the sky, a region on the ground and two before the sky.
    """
    low, high, sky = (10.0, 80.0, 39.0, 109.0), (60.0, 80.0, 89.0, 109.0), (150.0, 10.0, 189.0, 39.0)
    strange, large, small = (110.0, 80.0, 129.0, 99.0), (20.0, 10.0, 69.0, 39.0), (90.0, 15.0, 119.0, 34.0)
    regions = regions_of(large, sky, low, high, small, strange, ground=[(0, 70, 199, 119)])
    predictions = tracked(low, high, sky, priorities=[0.6, 0.9, 1.0])
    ways = []
    for budget in range(8):
        found = run(regions, predictions, budget)
        ways.append([tuple(corner) for corner in found.prompts.points_px.tolist()])
        assert len(ways[-1]) == min(budget, 6)
        for region, prompt in enumerate(found.prompt_of_region):
            point = tuple(regions.seeds_px[region].tolist())
            assert (point in ways[-1]) == (prompt >= 0) and (prompt < 0 or ways[-1][prompt] == point)
    order = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (high, low, strange, sky, large, small)]
    assert ways[-1] == order and all(way == order[: len(way)] for way in ways)


# What may be one body, and what was measured in part


WIDE, BESIDE = (20.0, 20.0, 79.0, 59.0), (82.0, 30.0, 101.0, 49.0)


def test_moving_regions_side_by_side_are_asked_for_together_too() -> None:
    """Their thick parts, 2 px inside, are 7 px apart, which is less than 0.15 of 55 px: one more prompt, and first."""
    found = run(regions_of(WIDE, BESIDE, ground=True))
    assert found.prompts.boxes_xyxy_px.tolist() == [[22, 22, 99, 57], [22, 22, 77, 57], [84, 32, 99, 47]]
    assert found.prompts.points_px[0].tolist() == [49.5, 39.5]  # The deepest point of the larger.
    assert found.prompts.reasons.tolist() == [PromptReason.MOTION] * 3
    assert found.prompts.tracks.tolist() == [-1] * 3
    assert found.prompt_of_region.tolist() == [1, 2]  # The joint prompt stands for none alone.
    apart = (92.0, *BESIDE[1:])
    assert len(run(regions_of(WIDE, apart, ground=True)).prompts) == 2
    assert len(run(regions_of(WIDE, BESIDE)).prompts) == 2  # Against the sky all parts of a body show.


def test_objects_side_by_side_are_asked_for_together_too() -> None:
    """Two that are tracked, 1 px apart, each with its region: each by itself, and both as one."""
    boxes = (20.0, 20.0, 59.0, 59.0), (61.0, 20.0, 100.0, 59.0)
    found = run(regions_of(*boxes, ground=True), tracked(*boxes))
    assert sorted(found.prompts.tracks.tolist()) == [-1, 0, 1]
    (joint,) = found.prompts.boxes_xyxy_px[found.prompts.tracks < 0]
    np.testing.assert_allclose(joint, [20, 20, 100, 59], atol=1.0)
    assert np.isnan(found.prompts.areas_px[found.prompts.tracks < 0]).all()


@pytest.mark.parametrize(("side", "asked"), [(11, 1), (9, 0)])
def test_small_groups_are_not_asked_for(side: int, asked: int) -> None:
    """121 + 64 px^2 are more than 150 px^2, 81 + 64 px^2 are less; either region alone is a speck."""
    first, second = (100.0, 50.0, 99.0 + side, 49.0 + side), (100.0 + side, 50.0, 107.0 + side, 57.0)
    regions = regions_of(first, second, ground=True)
    found = run(replace(regions, cores_xyxy_px=regions.boxes_xyxy_px))
    assert len(found.prompts) == asked and found.prompt_of_region.tolist() == [-1, -1]
    assert found.prompts.boxes_xyxy_px.tolist() == [[100, 50, 107 + side, 49 + side]] * asked


def test_an_object_of_which_less_is_measured_is_asked_for_twice() -> None:
    """80 x 40 px are predicted and a region of 30 x 30 px is seen: by what is seen first, then by what is predicted."""
    whole, seen = (20.0, 20.0, 99.0, 59.0), (20.0, 20.0, 49.0, 49.0)
    prompts = run(regions_of(seen, ground=True), tracked(SMALL, whole)).prompts
    rows = np.flatnonzero(prompts.tracks == 1)
    np.testing.assert_allclose(prompts.boxes_xyxy_px[rows], [[22, 22, 47, 47], whole], atol=1.0)
    assert prompts.reasons[rows].tolist() == [PromptReason.EXPECTED] * 2
    assert prompts.areas_px[rows].tolist() == [3200, 3200]
    assert prompts.points_px[rows].tolist() == [[34.5, 34.5]] * 2  # Inside of it in any case.
    # Where nearly all is measured, and against the sky, it is asked for once.
    assert run(regions_of(whole, ground=True), tracked(whole)).prompts.tracks.tolist() == [0]
    assert run(regions_of(seen), tracked(whole)).prompts.tracks.tolist() == [0]


def test_groups_and_second_prompts_keep_the_budget() -> None:
    """A group goes first, then what is tracked, then what nobody knows, then the second prompt of what is tracked."""
    seen, whole = (110.0, 70.0, 139.0, 99.0), (110.0, 70.0, 189.0, 109.0)
    regions, predictions = regions_of(WIDE, seen, BESIDE, ground=True), tracked(whole, priorities=0.9)
    every = run(regions, predictions, 8)
    assert every.prompts.tracks.tolist() == [-1, 0, 0, -1, -1]
    for budget in range(6):
        found = run(regions, predictions, budget)
        np.testing.assert_array_equal(found.prompts.boxes_xyxy_px, every.prompts.boxes_xyxy_px[:budget])
        expected = np.where(every.prompt_of_region < budget, every.prompt_of_region, -1)
        assert found.prompt_of_region.tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10))
def test_any_scene_is_asked_within_the_budget_and_the_image(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)

    def boxes(count: int, low: int, high: int) -> list[Box]:
        corners = rng.integers(low, high, (count, 2))
        return [(float(x), float(y), float(x + w), float(y + h)) for (x, y), (w, h) in
                zip(corners, rng.integers(4, 40, (count, 2)), strict=True)]  # fmt: skip

    seen = [box for box in boxes(rng.integers(0, 6), 0, 150) if box[3] < SIZE[0] and box[2] < SIZE[1]]
    seen.sort(key=lambda box: -(box[2] - box[0]) * (box[3] - box[1]))
    regions = regions_of(*seen, ground=bool(rng.integers(2)))
    found = run(regions, tracked(*boxes(rng.integers(0, 6), -60, 180), priorities=rng.random()), budget)
    prompts = found.prompts
    assert len(prompts) <= budget and np.isfinite(prompts.boxes_xyxy_px).all()
    corners = prompts.boxes_xyxy_px.reshape(-1, 2, 2)
    assert ((corners >= 0) & (corners <= np.array(SIZE)[::-1] - 1)).all()
    assert ((prompts.points_px >= corners[:, 0]) & (prompts.points_px <= corners[:, 1])).all()
    assert found.prompt_of_region.shape == found.on_sky.shape == (len(regions),)
    assert ((found.prompt_of_region >= -1) & (found.prompt_of_region < len(prompts))).all()


def test_a_grid_is_bare_points() -> None:
    places = np.array([[1.0, 2.0], [3.0, 4.0]])
    grid = grid_prompts(places)
    assert grid.reasons.tolist() == [PromptReason.GRID] * 2 and np.isnan(grid.boxes_xyxy_px).all()
    both = Prompts.join([grid, grid.take(np.array([1]))])
    assert both.points_px.tolist() == [[1, 2], [3, 4], [3, 4]]
    with pytest.raises(ValueError, match="reasons"):
        Prompts(places, grid.boxes_xyxy_px, grid.reasons[:1], grid.tracks, grid.areas_px, grid.details_px)
