"""Segments of two frames paired: who goes with whom, and what that says of velocity."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sparsematch_ros.matching.segments import match_segments

from sparsematch_ros.config import MatchingConfig
from sparsematch_ros.data import EgoMotion, Expectations, Matches, Segments

Maker = Callable[..., Segments]
STILL = EgoMotion(np.eye(3), "telemetry", True, dt_s=0.1, residual_px=0.0)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def match(
    previous: Segments,
    current: Segments,
    cosines: object = float("nan"),
    motion: EgoMotion = STILL,
    expectations: Expectations | None = None,
    **settings: float,
) -> Matches:
    table = np.broadcast_to(np.asarray(cosines, dtype=np.float64), (len(previous), len(current)))
    return match_segments(previous, current, table, motion, expectations or Expectations(), MatchingConfig(**settings))


def pairs(matches: Matches) -> set[tuple[int, int]]:
    return set(zip(matches.previous.tolist(), matches.current.tolist(), strict=True))


def expected_at(
    previous: Segments, places: object, sigma_px: float, velocity_px_s: object = (0.0, 0.0)
) -> Expectations:
    """Expect every previous segment, a tracked object each, at a place of this frame."""
    count = len(previous)
    states = np.concatenate([np.reshape(places, (count, 2)), np.broadcast_to(velocity_px_s, (count, 2))], axis=1)
    return Expectations(
        background=STILL,
        states=states.astype(np.float64),
        covariances=np.tile(np.diag([sigma_px**2, sigma_px**2, 1.0, 1.0]), (count, 1, 1)),
        boxes_xywh_px=previous.boxes_xywh_px,
        areas_px=previous.areas_px,
        segment_rows=np.arange(count),
        worth=np.ones(count),
        resolved=np.ones(count, dtype=bool),
    )


def test_the_cheapest_whole_is_chosen(points: Maker) -> None:
    """Two neighbours step 16 px right, one nearly to the other's old place, yet both keep their successor."""
    matches = match(points([[100, 100], [120, 100]]), points([[116, 100], [136, 100]]))
    assert pairs(matches) == {(0, 0), (1, 1)}


def test_crossing_segments_are_told_apart_by_appearance(squares: Maker) -> None:
    previous, current = squares([[60, 60], [72, 60]]), squares([[68, 60], [64, 60]])
    alike = np.array([[0.98, 0.52], [0.52, 0.98]])
    assert pairs(match(previous, current)) == {(0, 1), (1, 0)}  # Place alone takes the nearest.
    assert pairs(match(previous, current, alike)) == {(0, 0), (1, 1)}


def test_crossing_segments_are_told_apart_by_their_own_motion(points: Maker) -> None:
    previous, current = points([[60, 60], [72, 60]]), points([[70, 60], [62, 60]])
    expectations = expected_at(previous, [[70, 60], [62, 60]], 0.5)
    assert pairs(match(previous, current, expectations=expectations)) == {(0, 0), (1, 1)}


@pytest.mark.parametrize(("distance_px", "count"), [(29.5, 1), (30.5, 0)])
def test_nothing_is_faster_than_the_fastest(points: Maker, distance_px: float, count: int) -> None:
    matches = match(points([[100, 100]]), points([[100 + distance_px, 100]]), max_speed_px_s=300.0)
    assert len(matches) == count  # 300 px/s for 0.1 s: 30 px.


@pytest.mark.parametrize(("distance_px", "count"), [(79.0, 1), (81.0, 0)])
def test_no_step_is_longer_than_the_longest(points: Maker, distance_px: float, count: int) -> None:
    motion = replace(STILL, dt_s=2.0)
    assert len(match(points([[100, 100]]), points([[100 + distance_px, 100]]), motion=motion)) == count


@pytest.mark.parametrize(("off_px", "count"), [(4.5, 1), (6.5, 0)])
def test_a_tracked_object_is_looked_for_near_its_place_only(points: Maker, off_px: float, count: int) -> None:
    """Known to 0.25 px: the gate is 4 sigma, 3 px and 0.3 of its size (2.7 px), 4.8 px in all."""
    previous = points([[100, 100]])
    expectations = expected_at(previous, [[120.0, 100]], 0.25)
    assert len(match(previous, points([[120 + off_px, 100]]), expectations=expectations)) == count


@pytest.mark.parametrize(("sides", "count"), [((21, 27), 1), ((21, 31), 0), ((31, 21), 0), ((5, 11), 1)])
def test_sizes_must_agree(squares: Maker, sides: tuple[int, int], count: int) -> None:
    """Area ratios 1.65 and 2.2 against the limit of 2; under 200 px^2 areas are too coarse to judge by."""
    assert len(match(squares([[80, 60]], sides[0]), squares([[82, 60]], sides[1]))) == count


@pytest.mark.parametrize(
    ("cosine", "side", "count"),
    # 11 px across are too few to tell by their look what lies where it was expected; 21 px are not.
    [(0.55, 21, 1), (0.45, 21, 0), (float("nan"), 21, 1), (0.45, 11, 1)],
)
def test_appearance_must_agree_where_it_is_known(squares: Maker, cosine: float, side: int, count: int) -> None:
    matches = match(squares([[80, 60]], side), squares([[82, 60]], side), cosine)
    assert len(matches) == count
    np.testing.assert_array_equal(matches.cosine, [cosine] * count)


def test_brightness_must_agree(points: Maker, squares: Maker) -> None:
    star = points([[50.0, 50]], (120, 160), fluxes=100.0)
    assert len(match(star, points([[52.0, 50]], (120, 160), fluxes=290.0))) == 1
    assert len(match(star, points([[52.0, 50]], (120, 160), fluxes=310.0))) == 0
    assert len(match(star, points([[52.0, 50]], (120, 160), fluxes=30.0))) == 0
    assert len(match(star, squares([[52, 50]], 5))) == 1  # A mask has no flux to disagree.


def test_empty_sides_match_nothing(points: Maker) -> None:
    none, some = points([]), points([[10, 10], [20, 20]])
    for previous, current in [(none, none), (none, some), (some, none)]:
        matches = match(previous, current)
        assert len(matches) == 0
        assert matches.velocity_covariance.shape == (0, 2, 2)


def test_what_has_no_partner_stays_alone(points: Maker) -> None:
    matches = match(points([[100, 100], [400, 300]]), points([[300, 50], [103, 104]]))
    assert pairs(matches) == {(0, 1)}


def test_velocity_is_the_way_over_the_time(points: Maker) -> None:
    motion = EgoMotion(np.eye(3), "stars", True, dt_s=0.25, inliers=16, residual_px=0.2)
    matches = match(points([[100, 100]], sigma_px=0.3), points([[103, 96]], sigma_px=0.4), motion=motion)
    np.testing.assert_allclose(matches.displacement_px, [[3, -4]], atol=1e-12)
    np.testing.assert_allclose(matches.velocity_px_s, [[12, -16]], atol=1e-12)
    # 0.3^2 + 0.4^2, and the background's 0.2^2 known from 16 stars where 4 would do, over 0.25 s squared.
    np.testing.assert_allclose(matches.velocity_covariance, [(0.25 + 0.04 / 4) / 0.0625 * np.eye(2)], atol=1e-12)


def test_velocity_scatters_as_its_covariance_says(points: Maker) -> None:
    """400 pairs with noisy centroids: the mean squared normalised error of two axes is 2 to within 0.4 (four sigma)."""
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(20), np.arange(20))
    places = np.stack([x.ravel(), y.ravel()], axis=1) * 200.0 + 100
    previous = points(places + rng.normal(0, 0.2, places.shape), sigma_px=0.2)
    current = points(places + np.array([6, -3]) + rng.normal(0, 0.1, places.shape), sigma_px=0.1)
    matches = match(previous, current)
    assert len(matches) == 400
    error = matches.velocity_px_s - (60, -30)
    nees = np.einsum("ni,nij,nj->n", error, np.linalg.inv(matches.velocity_covariance), error)
    assert nees.mean() == pytest.approx(2, abs=0.4)


def test_the_cameras_motion_is_taken_out(points: Maker) -> None:
    """The camera turns by 50 px and 2 degrees; one of three segments moves by (4, 1) px of the new frame besides."""
    angle = np.radians(2)
    turn = np.array([[np.cos(angle), -np.sin(angle), 50], [np.sin(angle), np.cos(angle), -20], [0, 0, 1.0]])
    before = np.array([[100.0, 100], [300, 200], [200, 400]])
    after = before @ turn[:2, :2].T + turn[:2, 2] + [[0, 0], [0, 0], [4, 1]]
    matches = match(points(before), points(after), motion=replace(STILL, homography=turn))
    assert pairs(matches) == {(0, 0), (1, 1), (2, 2)}
    np.testing.assert_allclose(matches.velocity_px_s, [[0, 0], [0, 0], [40, 10]], atol=1e-9)


def test_the_cameras_motion_does_not_use_up_the_gate(points: Maker) -> None:
    motion = replace(STILL, homography=shift(200, 0))
    assert len(match(points([[100, 100]]), points([[305, 100]]), motion=motion)) == 1
    assert len(match(points([[100, 100]]), points([[105, 100]]), motion=motion)) == 0


def test_bidirectional_says_how_sure_a_pair_is(points: Maker) -> None:
    clear = match(points([[100, 100], [300, 300]]), points([[102, 100], [301, 302]]))
    np.testing.assert_array_equal(clear.bidirectional, [1, 1])
    # The second would rather have the first's partner, and that one the second: neither pair is the best of both sides.
    contested = match(points([[100, 100], [120, 100]]), points([[115, 100], [145, 100]]))
    assert pairs(contested) == {(0, 0), (1, 1)}
    assert (contested.bidirectional < 1).all() and (contested.bidirectional > 0).all()
