"""Which tracked objects are parts of one body: those beside a larger one, those inside of it, and equal halves."""

from collections.abc import Callable

import numpy as np
import pytest

from sparsematch_ros.tracking.fragments import find_bodies, find_fragments
from sparsematch_ros.tracking.table import TrackTable

Tables = Callable[..., TrackTable]
# Two halves of 60 x 60 px, 1 px apart, whose centroids are 61 px apart.
HALVES = [[10, 20, 60, 60], [71, 20, 60, 60]]


# Parts of a larger object


@pytest.mark.parametrize(
    ("box", "velocity", "is_part"),
    [
        ((71, 50, 11, 11), (20, 0), True),  # 1 px beside it, at its velocity.
        ((71, 50, 11, 11), (60, 0), False),  # 40 px/s faster: it passes.
        ((170, 50, 11, 11), (20, 0), False),  # 100 px off, more than the body is long.
        ((71, 20, 45, 45), (20, 0), False),  # More than half as large: a companion of its own right.
    ],
)
def test_a_small_piece_beside_a_large_body_goes_with_it(
    table_of: Tables, box: tuple[float, ...], velocity: tuple[float, float], is_part: bool
) -> None:
    middle = np.array(box[:2]) + np.array(box[2:]) / 2
    states, boxes = [[40, 55, 20, 0], [*middle, *velocity]], [[10, 25, 60, 60], box]
    assert find_fragments(table_of(states, boxes))[0].tolist() == [False, is_part]
    assert not find_fragments(table_of(states, boxes, points=[True, False]))[0].any()  # A point has no pieces.


@pytest.mark.parametrize(
    ("box", "velocity", "sigma_px_s", "absorbed"),
    [
        ((35, 50, 11, 11), (20, 0), 1.0, True),
        ((35, 50, 11, 11), (20, 0), 10.0, False),  # Both velocities are known to half the speed: that says nothing.
        ((35, 50, 11, 11), (28, 0), 1.0, False),  # Faster by 8 px/s, known to 1.4 px/s.
        ((35, 50, 11, 11), (0, 20), 1.0, False),  # As fast, but across.
        ((63, 50, 11, 11), (20, 0), 1.0, False),  # 7 of its 11 px are inside.
        ((71, 50, 11, 11), (20, 0), 1.0, False),  # Beside it.
        ((12, 30, 50, 50), (20, 0), 1.0, False),  # More than half as large.
    ],
)
def test_a_small_object_inside_a_larger_one_at_its_velocity_is_absorbed(
    table_of: Tables, box: tuple[float, ...], velocity: tuple[float, float], sigma_px_s: float, absorbed: bool
) -> None:  # fmt: skip
    middle = np.array(box[:2]) + np.array(box[2:]) / 2
    table = table_of([[40, 55, 20, 0], [*middle, *velocity]], [[10, 25, 60, 60], box], sigma_px_s=sigma_px_s)
    assert find_fragments(table)[1].tolist() == [False, absorbed]
    # What is not in view absorbs nothing.
    assert not find_fragments(table.with_columns(segment_rows=np.array([-1, 1])))[1].any()


def test_a_glint_on_a_body_is_a_piece_however_it_slides(table_of: Tables) -> None:
    boxes = [[10, 25, 60, 60], [30, 40, 3, 3]]
    states = [[40, 55, 20, 0], [31, 41, 80, 30]]
    assert find_fragments(table_of(states, boxes, points=[False, True]))[0].tolist() == [False, True]
    assert find_fragments(table_of(states, boxes))[0].tolist() == [False, False]


# Parts of one body


def halves(first: tuple[float, float], second: tuple[float, float]) -> list[list[float]]:
    """Build the states of the two halves with their velocities."""
    return [[39.5, 49.5, *first], [100.5, 49.5, *second]]


@pytest.mark.parametrize(
    ("first", "second", "sigma_px_s", "one"),
    [
        ((40, 0), (40, 0), 1.0, True),
        ((40, 6), (40, -6), 1.0, True),  # 12 px/s over 61 px are a turn of 0.2 rad/s.
        ((40, 15), (40, -15), 1.0, False),  # That would be a turn of 0.5 rad/s.
        ((40, 0), (-40, 0), 1.0, False),  # They cross.
        ((40, 0), (40, 0), 20.0, False),  # Velocities known to half the speed tell nothing.
        ((0, 0), (0, 0), 1.0, False),  # Nor does rest: everything on the ground rests.
    ],
)
def test_halves_side_by_side_that_surely_move_as_one_are_one_body(
    table_of: Tables, first: tuple[float, float], second: tuple[float, float], sigma_px_s: float, one: bool
) -> None:
    numbers = find_bodies(table_of(halves(first, second), HALVES, sigma_px_s=sigma_px_s))
    assert numbers.dtype == np.int64 and numbers.shape == (2,)
    assert (numbers[0] == numbers[1]) == one


def test_halves_of_a_body_are_no_fragments_of_each_other(table_of: Tables) -> None:
    """Neither is smaller than half the other, so both may be confirmed and neither ends."""
    maybe, surely = find_fragments(table_of(halves((40, 0), (40, 0)), HALVES))
    assert not maybe.any() and not surely.any()


def test_bodies_are_chains_of_neighbours(table_of: Tables) -> None:
    """Three in a row are one body though the outer two do not touch; a fourth, 140 px below them, is another."""
    boxes = [[10, 20, 60, 60], [71, 20, 60, 60], [132, 20, 60, 60], [71, 220, 60, 60]]
    states = [[*(np.array(box[:2]) + 29.5), 40, 0] for box in boxes]
    numbers = find_bodies(table_of(states, boxes))
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


def test_only_believed_masks_are_parts_of_a_body(table_of: Tables) -> None:
    states = halves((40, 0), (40, 0))
    assert len(set(find_bodies(table_of(states, HALVES, points=[False, True])).tolist())) == 2
    assert len(set(find_bodies(table_of(states, HALVES, log_odds=-1.0)).tolist())) == 2


def test_no_objects_have_no_bodies() -> None:
    assert find_bodies(TrackTable.empty()).shape == (0,)
    assert [each.shape for each in find_fragments(TrackTable.empty())] == [(0,), (0,)]
