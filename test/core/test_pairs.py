"""Matches of two consecutive frames, read off the tracks: which rows, how far, and how well that is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.data import Matches, TrackPredictions
from sparsematch_ros.matching.pairs import no_matches, pair_matches
from sparsematch_ros.segmentation.segments import Segments

Maker = Callable[..., Segments]
Lines = Callable[..., Any]
UNKNOWN = float("nan")


def tracks(rows: list[int]) -> TrackPredictions:
    """Predict objects that had these rows of the previous frame; only the rows matter to the pairs."""
    count = len(rows)
    return TrackPredictions(
        np.zeros((count, 4)), np.tile(np.eye(4), (count, 1, 1)), np.zeros((count, 4)), np.ones(count), np.array(rows),
        np.ones(count), np.ones(count, dtype=bool), np.zeros(count, dtype=bool), np.arange(count),
    )  # fmt: skip


def moved(homography: np.ndarray, dt_s: float = 0.1, covariance: np.ndarray | None = None) -> Background:
    layer = Layer(LayerKind.STARS, homography, np.zeros((9, 9)) if covariance is None else covariance)
    return Background(dt_s=dt_s, reference=layer, stars=layer, method="stars")


def pairs(
    previous: Segments | None, current: Segments, before: list[int], now: list[int], background: Background,
    cosines: object = UNKNOWN,
) -> Matches:  # fmt: skip
    table = np.broadcast_to(np.asarray(cosines, dtype=np.float64), (len(before), len(current)))
    return pair_matches(previous, current, tracks(before), np.array(now), table, background)


def test_who_was_seen_in_both_frames_is_a_pair(points: Maker) -> None:
    """Four objects: seen twice, seen only before, only now, and twice; rows stand in another order each time."""
    previous, current = points([[10, 10], [20, 20], [30, 30]]), points([[31, 30], [50, 50], [10, 11]])
    found = pairs(previous, current, [0, 1, -1, 2], [2, -1, 1, 0], moved(np.eye(3)))
    assert list(zip(found.previous.tolist(), found.current.tolist(), strict=True)) == [(0, 2), (2, 0)]
    np.testing.assert_allclose(found.displacement_px, [[0, 1], [1, 0]])


def test_velocity_is_the_way_over_the_time(points: Maker) -> None:
    """(3, -4) px in 0.25 s; errors of 0.3 px before and 0.4 px after make 0.5 px, 2 px/s."""
    previous, current = points([[100, 100]], sigma_px=0.3), points([[103, 96]], sigma_px=0.4)
    found = pairs(previous, current, [0], [0], moved(np.eye(3), 0.25))
    np.testing.assert_allclose(found.displacement_px, [[3, -4]])
    np.testing.assert_allclose(found.velocity_px_s, [[12, -16]])
    np.testing.assert_allclose(found.velocity_covariance, [4 * np.eye(2)])


def test_the_backgrounds_motion_is_taken_out_and_its_error_counts(points: Maker) -> None:
    """The camera turns by 50 px and 2 degrees; of three objects one moves by (4, 1) px besides.

    The turn's own error is 0.2 px in x, everywhere.
    """
    angle = np.radians(2)
    turn = np.array([[np.cos(angle), -np.sin(angle), 50], [np.sin(angle), np.cos(angle), -20], [0, 0, 1.0]])
    before = np.array([[100.0, 100], [300, 200], [200, 400]])
    after = before @ turn[:2, :2].T + turn[:2, 2] + [[0, 0], [0, 0], [4, 1]]
    covariance = np.zeros((9, 9))
    covariance[2, 2] = 0.2**2
    exact, uncertain = (
        pairs(points(before), points(after), [0, 1, 2], [0, 1, 2], moved(turn, 0.1, each))
        for each in (None, covariance)
    )
    np.testing.assert_allclose(exact.velocity_px_s, [[0, 0], [0, 0], [40, 10]], atol=1e-9)
    added = uncertain.velocity_covariance - exact.velocity_covariance
    np.testing.assert_allclose(added, np.tile(np.diag([4.0, 0.0]), (3, 1, 1)), atol=1e-9)


def test_velocity_scatters_as_its_covariance_says(points: Maker) -> None:
    """400 pairs with noisy centroids: the mean normalised squared error lies in the 99.9 % band of chi-square."""
    rng, rows = np.random.default_rng(1), list(range(400))
    places = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2) * 200.0 + 100
    previous = points(places + rng.normal(0, 0.2, places.shape), sigma_px=0.2)
    current = points(places + np.array([6, -3]) + rng.normal(0, 0.1, places.shape), sigma_px=0.1)
    found = pairs(previous, current, rows, rows, moved(np.eye(3)))
    error = found.velocity_px_s - (60, -30)
    nees = np.einsum("ni,nij,nj->n", error, np.linalg.inv(found.velocity_covariance), error)
    low, high = chi2.ppf([5e-4, 1 - 5e-4], 800) / 400
    assert low < nees.mean() < high


def test_bidirectional_compares_with_the_best_of_either_side(points: Maker) -> None:
    """The first pair is the best of both; the second object is more like the first's partner: 0.6 of 0.8."""
    previous, current = points([[10, 10], [50, 50]]), points([[10, 10], [50, 50]])
    cosines = np.array([[0.9, 0.1], [0.8, 0.6]])
    found = pairs(previous, current, [0, 1], [0, 1], moved(np.eye(3)), cosines)
    np.testing.assert_allclose(found.bidirectional, [1.0, 0.75])
    np.testing.assert_allclose(found.cosine, [0.9, 0.6])
    unknown = pairs(previous, current, [0, 1], [0, 1], moved(np.eye(3)))
    assert np.isnan(unknown.cosine).all() and unknown.bidirectional.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dt_s", [0.0, 0.1])
def test_a_first_frame_has_no_pairs(points: Maker, dt_s: float) -> None:
    current = points([[10, 10]])
    for found in (pairs(None, current, [0], [0], moved(np.eye(3), 0.1)), no_matches(),
                  pairs(current, current, [0], [-1], moved(np.eye(3), dt_s)),
                  pairs(current, points([]), [], [], moved(np.eye(3), dt_s))):  # fmt: skip
        assert len(found) == 0 and found.velocity_covariance.shape == (0, 2, 2)


def test_where_the_background_is_unknown_the_way_is_that_in_the_image(points: Maker) -> None:
    found = pairs(points([[10, 10]]), points([[13, 14]]), [0], [0], Background(dt_s=0.1))
    np.testing.assert_allclose(found.displacement_px, [[3, 4]])


# Off the tracks


def test_the_pairs_of_a_stream_are_the_true_ones(line: Lines, points: Maker) -> None:
    """Five objects of which one is missed now and then, in a new order in every frame, before a turning camera."""
    rng, flight = np.random.default_rng(2), line()
    shift = np.array([[1.0, 0, 5], [0, 1, -3], [0, 0, 1]])
    places = np.array([[60.0, 400], [150, 300], [250, 420], [330, 250], [90, 180]])
    steps = np.array([[2.0, 0], [0, 0], [-2, 1], [0, -3], [1, 1]])
    previous: np.ndarray | None = None
    right, wrong = 0, 0
    for number in range(20):
        places = places + steps + ([5, -3] if number else [0, 0])
        order = rng.permutation(5)
        order = order[order != 3] if number % 4 == 3 else order
        vectors = torch.eye(5)[order.tolist()]
        flight.step(points(places[order] + rng.normal(0, 0.05, (len(order), 2))), homography=shift, vectors=vectors)
        if previous is not None:
            same = previous[flight.matches.previous] == order[flight.matches.current]
            right, wrong = right + int(same.sum()), wrong + int((~same).sum())
            truth = 10 * steps[order[flight.matches.current]]
            # 0.1 px an axis each, 0.1 s: 1.4 px/s; no error beyond four standard deviations.
            assert np.abs(flight.matches.velocity_px_s - truth).max(initial=0) < 4 * 1.42
            np.testing.assert_allclose(flight.matches.cosine, 1.0, atol=1e-6)
        previous = order
    assert wrong == 0 and right >= 80  # Of 19 x 5 less two for each of five misses.


def test_nothing_is_paired_across_a_gap(line: Lines, squares: Maker) -> None:
    flight = line()
    for number in range(4):
        flight.step(squares([[40 + number, 60]]))
    assert len(flight.matches) == 1
    flight.step(squares([[44, 60]]), dt_s=10.0)
    assert len(flight.matches) == 0
