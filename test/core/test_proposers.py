"""Where SAM is asked, and why: hand-made skies, motion and expectations."""

from __future__ import annotations

import numpy as np
import pytest
from sparsematch_ros.segmentation.proposers import Proposer
from sparsematch_ros.segmentation.unseen import UnseenPlaces
from sparsematch_ros.sky import Sky

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, Frame, PromptReason, ResidualMotion

STILL = EgoMotion()
SIZE = (96, 128)
FLAT = Frame(0, 0, np.full((*SIZE, 3), 90, dtype=np.uint8))
BARE = (PromptReason.SWEEP, PromptReason.TEXTURE)


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


def test_the_budget_keeps_what_is_expected() -> None:
    boxes = [[10.0 * row, 0.0, 10.0 * row + 8, 8.0] for row in range(12)]
    proposer = Proposer(SegmentationConfig(prompt_budget=3))
    expected = expecting([[10, 60, 20, 20], [60, 60, 20, 20]], worth=[0.2, 0.9])
    prompts = proposer.propose(FLAT, STILL, bright_sky(boxes), expected)
    assert prompts.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.EXPECTED, PromptReason.BRIGHT]
    assert prompts.points_px[:2].tolist() == [[70, 70], [20, 70]]  # The worthier first.
    assert prompts.areas_px[:2].tolist() == [300, 300]
    assert len(Proposer(SegmentationConfig(prompt_budget=0)).propose(FLAT, STILL, bright_sky(boxes), expected)) == 0


def test_what_cannot_be_asked_for() -> None:
    """Objects out of view, and point sources, which SAM does not see."""
    expected = expecting([[-50, 0, 20, 20], [10, 200, 9, 9], [30, 30, 3, 3]], resolved=[True, True, False])
    proposer = Proposer(SegmentationConfig(sweep_prompts=0))
    assert len(proposer.propose(FLAT, STILL, Sky(), expected)) == 0
    partly = expecting([[-10, 20, 30, 30]])
    assert len(proposer.propose(FLAT, STILL, Sky(dark=True), partly)) == 0  # It would be bright against the sky.
    cut = proposer.propose(FLAT, STILL, Sky(), partly)
    assert cut.boxes_xyxy_px[0, 0] == 0
    assert 0 < cut.points_px[0, 0] < 20


def grid(side: int) -> set[tuple[float, float]]:
    """Give the middles of the cells into which `side` x `side` cut the frame."""
    steps = (np.arange(side) + 0.5) / side
    return {(round(SIZE[1] * x, 6), round(SIZE[0] * y, 6)) for x in steps for y in steps}


def listed(places: np.ndarray) -> list[tuple[float, float]]:
    return [(x, y) for x, y in places.round(6).tolist()]


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(("side", "each"), [(4, 1), (8, 3), (3, 20), (1, 1)])
def test_the_sweep_comes_everywhere_before_it_repeats(side: int, each: int, seed: int | None) -> None:
    """In an even picture and in one of noise, three times over."""
    proposer = Proposer(SegmentationConfig(sweep_points_per_side=side, sweep_prompts=each, prompt_budget=100))
    noise = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    frame = FLAT if seed is None else Frame(0, 0, noise)
    rounds = []
    for _ in range(3):
        asked = [proposer.propose(frame, STILL, Sky(), Expectations()) for _ in range(-(-(side**2) // each))]
        assert all(len(prompts) <= each for prompts in asked)
        rounds.append([place for prompts in asked for place in listed(prompts.points_px)])
        assert len(rounds[-1]) == side**2
        assert set(rounds[-1]) == grid(side)
        assert all(np.isin(prompts.reasons, BARE).all() for prompts in asked)
        assert all(np.isnan(prompts.boxes_xyxy_px).all() for prompts in asked)
    assert rounds[0] == rounds[1] == rounds[2]


def test_textured_places_come_first() -> None:
    """Two cells of a nearly even picture carry noise, one twice as much: they stand out, and the stronger leads."""
    rng = np.random.default_rng(1)
    gray = 90 + rng.normal(0, 1, SIZE)
    gray[54:66, 40:56] += rng.normal(0, 40, (12, 16))  # Well inside its cell, so that its edge is none of another's.
    gray[6:18, 104:120] += rng.normal(0, 20, (12, 16))
    image = np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    proposer = Proposer(SegmentationConfig(sweep_points_per_side=4, sweep_prompts=1))
    asked = [proposer.propose(Frame(0, 0, image), STILL, Sky(), Expectations()) for _ in range(16)]
    assert listed(asked[0].points_px) == [(48.0, 60.0)]
    assert listed(asked[1].points_px) == [(112.0, 12.0)]
    reasons = [int(prompts.reasons[0]) for prompts in asked]
    assert reasons == [PromptReason.TEXTURE] * 2 + [PromptReason.SWEEP] * 14


def test_what_was_looked_at_moves_with_the_background() -> None:
    """The picture moves right by half the frame: the right half was looked at, the left half is new."""
    unseen, gray, nothing = UnseenPlaces(4), FLAT.gray, np.zeros((0, 4))
    assert len(unseen.choose(gray, nothing, 100)[0]) == 16
    unseen.move(np.array([[1.0, 0, 64], [0, 1, 0], [0, 0, 1]]))
    places, _ = unseen.choose(gray, nothing, 100)
    assert set(listed(places)) == {place for place in grid(4) if place[0] < 64}


def test_what_was_looked_at_turns_with_the_background() -> None:
    """Turned by half a turn, a place looked at in one corner lies in the opposite one, which then comes last."""
    unseen, gray, nothing = UnseenPlaces(4), FLAT.gray, np.zeros((0, 4))
    ((x, y),) = unseen.choose(gray, nothing, 1)[0]
    unseen.move(np.array([[-1.0, 0, 128], [0, -1, 96], [0, 0, 1]]))
    places = [listed(unseen.choose(gray, nothing, 1)[0])[0] for _ in range(15)]
    assert set(places) == grid(4) - {(128 - x, 96 - y)}


def test_a_sweep_of_no_points_gives_none() -> None:
    places, textured = UnseenPlaces(0).choose(FLAT.gray, np.zeros((0, 4)), 3)
    assert (places.shape, textured.shape) == ((0, 2), (0,))


def test_everything_covered_leaves_nothing_to_sweep() -> None:
    places, textured = UnseenPlaces(4).choose(FLAT.gray, np.array([[0.0, 0, 127, 95]]), 3)
    assert (places.shape, textured.shape) == ((0, 2), (0,))


def test_the_sweep_leaves_out_covered_places() -> None:
    proposer = Proposer(SegmentationConfig(sweep_points_per_side=4, sweep_prompts=2))
    left_half = expecting([[0, 0, 64, 96]])
    asked = [proposer.propose(FLAT, STILL, Sky(), left_half) for _ in range(4)]
    swept = np.concatenate([prompts.points_px[prompts.reasons == PromptReason.SWEEP] for prompts in asked])
    assert len({tuple(place) for place in swept.tolist()}) == 8  # The right half's points, each once.
    assert swept[:, 0].min() > 64


@pytest.mark.parametrize("change", [{"sweep_prompts": 0}, {"sweep_points_per_side": 0}])
def test_no_sweep(change: dict[str, int]) -> None:
    assert len(Proposer(SegmentationConfig(**change)).propose(FLAT, STILL, Sky(), Expectations())) == 0
    assert len(Proposer(SegmentationConfig()).propose(FLAT, STILL, Sky(dark=True), Expectations())) == 0


def test_what_is_bright_now_corrects_what_was_expected() -> None:
    sky = bright_sky([[14.0, 12.0, 34.0, 32.0], [80.0, 50.0, 95.0, 60.0]])
    prompts = Proposer(SegmentationConfig()).propose(FLAT, STILL, sky, expecting([[10, 10, 20, 20]]))
    assert prompts.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.BRIGHT]
    np.testing.assert_array_equal(prompts.boxes_xyxy_px, sky.boxes_xyxy_px)
    np.testing.assert_array_equal(prompts.points_px, sky.region_points_px)
    assert prompts.areas_px[0] == 300
    assert np.isnan(prompts.areas_px[1])


def test_what_moves_is_asked_for() -> None:
    """A patch of a raster at half resolution moves by 5 px; it covers columns 60 to 99 of the image.

    Bare points inside it go before the box.
    """
    flow, evidence = np.zeros((48, 64, 2), dtype=np.float32), np.zeros((48, 64), dtype=np.float32)
    flow[10:30, 30:50, 0] = 5.0
    evidence[10:30, 30:50] = 1.0
    motion = EgoMotion(residual=ResidualMotion(flow, evidence))
    prompts = Proposer(SegmentationConfig(sweep_prompts=0)).propose(FLAT, motion, Sky(), Expectations())
    assert (prompts.reasons == PromptReason.MOTION).all()
    assert len(prompts) > 1 and np.isnan(prompts.boxes_xyxy_px[:-1]).all()
    assert ((prompts.points_px >= (60, 20)) & (prompts.points_px < (100, 60))).all()
    np.testing.assert_allclose(prompts.boxes_xyxy_px[-1], [60, 20, 99, 59], atol=4.0)  # Two cells of the raster.
    np.testing.assert_allclose(prompts.points_px[-1], [79.5, 39.5], atol=4.0)
    weak = EgoMotion(residual=motion.residual, surroundings_px=2.0)  # Surroundings that scatter by 2 px hide it.
    assert len(Proposer(SegmentationConfig()).propose(FLAT, weak, Sky(dark=True), Expectations())) == 0


def test_the_sweep_takes_what_the_budget_leaves() -> None:
    """Eight prompts, two of them expected: the sweep asks at most its own number, and at most what is left."""
    expected = expecting([[10, 60, 20, 20], [60, 60, 20, 20]])
    for most, left in [(3, 3), (100, 6)]:
        config = SegmentationConfig(prompt_budget=8, sweep_prompts=most)
        prompts = Proposer(config).propose(FLAT, STILL, Sky(), expected)
        assert np.isin(prompts.reasons, BARE).sum() == left


def test_what_is_expected_in_the_dark_is_asked_only_where_something_is_bright() -> None:
    """Of two expected objects one is there; and two that share one bright region are asked by their own boxes."""
    labels = np.zeros(SIZE, dtype=np.int32)
    labels[20:40, 20:60] = 1
    box = np.array([[20.0, 20.0, 59.0, 39.0]])
    sky = Sky(
        True,
        boxes_xyxy_px=box,
        region_points_px=np.array([[40.0, 30.0]]),
        region_areas_px=np.array([800.0]),
        silhouettes=labels > 0,
        region_labels=labels,
    )
    one = Proposer(SegmentationConfig()).propose(FLAT, STILL, sky, expecting([[20, 20, 40, 20], [90, 60, 20, 20]]))
    assert one.reasons.tolist() == [PromptReason.EXPECTED]
    np.testing.assert_array_equal(one.boxes_xyxy_px, box)
    both = Proposer(SegmentationConfig()).propose(FLAT, STILL, sky, expecting([[20, 20, 22, 20], [38, 20, 22, 20]]))
    assert both.reasons.tolist() == [PromptReason.EXPECTED, PromptReason.EXPECTED]
    assert both.boxes_xyxy_px[0, 2] < 45 < 59 < both.boxes_xyxy_px[1, 2]
