"""How sure an object is to exist: evidence and misses, clutter as it is counted, and false confirmations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparsematch_ros.data import ObjectState
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.existence import Clutter

Maker = Callable[..., Segments]
Lines = Callable[..., Any]
MASK, POINT, FAINT = 0, 1, 2
AREA_PX2 = 480 * 640


def counted(frames: int, masks: int = 0, points: int = 0, faint: int = 0, known: tuple[int, int] = (0, 0)) -> Clutter:
    clutter = Clutter()
    kinds = np.array([MASK] * masks + [POINT] * points, dtype=np.int64)
    for _ in range(frames):
        clutter.count(kinds, np.array(known), faint)
    return clutter


def densities(clutter: Clutter) -> np.ndarray:
    """Compute the density of false masks, points and faint points [1/px^2]."""
    return np.exp(clutter.log_densities(np.array([MASK, POINT, FAINT]), (480, 640)))


# Clutter


def test_clutter_is_as_dense_as_it_is_counted() -> None:
    """4 masks and 12 points a frame, 25 more that are too faint, over 480 x 640 px."""
    np.testing.assert_allclose(densities(counted(40, 4, 12, 25)), np.array([4, 12, 25]) / AREA_PX2, rtol=0.02)


def test_known_objects_are_no_clutter() -> None:
    """Of 4 masks and 12 points 3 and 10 are known: one and two are left. With all known, little is expected."""
    np.testing.assert_allclose(densities(counted(40, 4, 12, known=(3, 10)))[:2], np.array([1, 2]) / AREA_PX2, rtol=0.02)
    quiet = densities(counted(40, 4, 12, known=(4, 12)))
    assert (quiet > 0).all() and (quiet < 1 / AREA_PX2).all()
    np.testing.assert_array_equal(densities(counted(40, 4, 12, known=(9, 20))), quiet)  # Never negative.


def test_a_burst_counts_at_once_and_is_forgotten_slowly() -> None:
    """A frame with 50 points is as dense as 50; ten frames later some of it is left, a hundred later none."""
    clutter = counted(20)
    before = densities(clutter)[POINT]
    nothing = np.zeros(0, dtype=np.int64)
    clutter.count(np.full(50, POINT), np.zeros(2), 0)
    assert densities(clutter)[POINT] == pytest.approx(50 / AREA_PX2)
    past = []
    for _ in range(100):
        clutter.count(nothing, np.zeros(2), 0)
        past.append(densities(clutter)[POINT])
    assert before * 1.05 < past[9] < 50 / AREA_PX2
    assert (np.diff(past) <= 0).all() and past[-1] == pytest.approx(before, rel=1e-3)


def test_the_odds_that_confirm_follow_what_is_accepted() -> None:
    """Ten times fewer false objects, ten times more clutter, or ten times more frames ask for ln 10 more each."""
    clutter = counted(40, 4, 12)
    usual = clutter.confirmation_log_odds(0.1, 1.0)
    np.testing.assert_allclose(clutter.confirmation_log_odds(0.1, 0.1) - usual, np.log(10))
    np.testing.assert_allclose(clutter.confirmation_log_odds(0.01, 1.0) - usual, np.log(10))
    np.testing.assert_allclose(counted(60, 40, 120).confirmation_log_odds(0.1, 1.0) - usual, np.log(10), atol=0.02)
    assert usual[1] - usual[0] == pytest.approx(np.log(3), abs=0.02)
    # Where more are accepted than are born, no evidence is needed; nor is a first frame an error.
    assert (clutter.confirmation_log_odds(0.1, 1e9) == clutter.confirmation_log_odds(0.1, 1e8)).all()
    assert np.isfinite(clutter.confirmation_log_odds(0.0, 1.0)).all()


# Evidence


@pytest.mark.parametrize("kind", ["points", "squares"])
def test_existence_grows_with_evidence_and_falls_with_misses(
    line: Lines, points: Maker, squares: Maker, kind: str
) -> None:
    """Six sightings of a steady flight, then misses: each moves it its way, and ten misses are enough to doubt."""
    make = {"points": points, "squares": squares}[kind]
    flight, grown, fallen = line(), [], []
    for number in range(6):
        (item,) = flight.step(make([[40 + 4 * number, 60]], size=(120, 400)))
        grown.append(item.existence_probability)
    for _ in range(10):
        (item,) = flight.step(make([], size=(120, 400)))
        fallen.append(item.existence_probability)
    assert grown[0] < 0.5 < grown[2] and (np.diff(grown) >= 0).all() and grown[-1] > 0.99
    assert (np.diff([grown[-1], *fallen]) < 0).all() and fallen[-1] < 0.5


def test_long_evidence_does_not_outlast_many_misses(line: Lines, points: Maker) -> None:
    """Ten seconds of sightings are doubted after as many misses as one second of them, to one."""
    doubted = []
    for frames in (10, 100):
        flight = line(max_coast_s=5.0)
        for number in range(frames):
            flight.step(points([[40 + 4.0 * number, 60]], size=(120, 800)))
        misses = 0
        while (item := flight.step(points([], size=(120, 800)))[0]).existence_probability >= 0.5:
            misses += 1
        assert item.state == ObjectState.COASTING and not item.reported
        doubted.append(misses)
    assert abs(doubted[1] - doubted[0]) <= 1


def test_evidence_is_worth_less_in_clutter(line: Lines, points: Maker) -> None:
    """The same flight among 60 flashes a frame is less sure after three frames than alone, and is confirmed later."""
    alone, crowded = line(), line()
    rng, confirmed = np.random.default_rng(0), [None, None]
    for number in range(12):
        place = [[100 + 3.0 * number, 200.0]]
        flashes = rng.uniform(0, (640, 480), (60, 2))
        # The flight itself stays undisturbed, so that the number of flashes alone differs.
        flashes = flashes[np.linalg.norm(flashes - place, axis=1) > 60]
        for row, (flight, seen) in enumerate(((alone, place), (crowded, [*place, *flashes]))):
            objects = flight.step(points(seen))
            item = min(objects, key=lambda each: np.linalg.norm(each.centroid_px - place[0]))
            if confirmed[row] is None and item.state == ObjectState.CONFIRMED:
                confirmed[row] = number
            if number == 1:
                assert (item.existence_probability < 0.9) == (row == 1)
    assert confirmed[0] is not None and confirmed[1] is not None and confirmed[0] < confirmed[1]


# False confirmations


@pytest.mark.parametrize(("kind", "count"), [("points", 8), ("squares", 3)])
def test_flashes_are_not_confirmed(line: Lines, points: Maker, squares: Maker, kind: str, count: int) -> None:
    """20 s of flashes at random places, with one false object accepted in ten hours: none is confirmed."""
    rng, flight = np.random.default_rng(3), line()
    for _ in range(200):
        if kind == "points":
            places = rng.uniform(10, (630, 470), (count, 2))
            objects = flight.step(points(places, fluxes=list(500 * 10 ** rng.uniform(0, 0.5, count))))
        else:
            objects = flight.step(squares(rng.integers(10, (310, 230), (count, 2)), size=(240, 320)))
        assert all(item.state in (ObjectState.TENTATIVE, ObjectState.LOST) for item in objects)


def test_false_confirmations_stay_under_what_is_accepted(line: Lines, points: Maker) -> None:
    """With one a second accepted, 8 flashes a frame give no more than 30 false objects in 30 s, but some."""
    rng, flight = np.random.default_rng(4), line(false_confirmations_per_hour=3600.0)
    confirmed = set()
    for _ in range(300):
        objects = flight.step(points(rng.uniform(10, (310, 230), (8, 2)), size=(240, 320)))
        confirmed |= {item.id for item in objects if item.state == ObjectState.CONFIRMED}
    assert 0 < len(confirmed) <= 30


def test_a_newborn_that_is_not_seen_again_is_soon_given_up(line: Lines, points: Maker) -> None:
    flight = line()
    (born,) = flight.step(points([[100, 200]]))
    states = [flight.step(points([])) for _ in range(8)]
    assert born.state == ObjectState.TENTATIVE and states[-1] == ()
    assert sum(item.state == ObjectState.LOST for objects in states for item in objects) == 1
