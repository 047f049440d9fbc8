"""Lost objects that come back: who gets an old identity again, and who must not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.config import TrackingConfig
from sparsematch_ros.data import ObjectState, SpaceObject
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.models import COUNT, ModelBank
from sparsematch_ros.tracking.reidentification import LostObjects
from sparsematch_ros.tracking.table import TrackTable

Maker = Callable[..., Segments]
Lines = Callable[..., Any]
TENTATIVE, CONFIRMED, COASTING, LOST = ObjectState
SIZE, DT_S = (120, 400), 0.1
LOOK = torch.tensor([1.0, 0.0, 0.0])
SKY = Layer(LayerKind.STARS, np.eye(3), np.zeros((9, 9)))
STILL = Background(dt_s=DT_S, reference=SKY, stars=SKY, method="stars")


def alike(cosine: float) -> torch.Tensor:
    """Build a unit vector of this cosine with LOOK."""
    return torch.tensor([cosine, 0.0, (1 - cosine**2) ** 0.5])


def seen(flight: Any, make: Maker, x: float, look: torch.Tensor = LOOK, **options: object) -> tuple[SpaceObject, ...]:
    return flight.step(make([[x, 60]], 21, SIZE), vectors=look[None], **options)


def unseen(flight: Any, make: Maker, frames: int, **options: object) -> list[tuple[SpaceObject, ...]]:
    return [flight.step(make([], size=SIZE), vectors=torch.zeros((0, 3)), **options) for _ in range(frames)]


def absence(
    flight: Any, make: Maker, back_at_px: int = 0, look: torch.Tensor = LOOK, absent: int = 25
) -> tuple[SpaceObject, list[tuple[SpaceObject, ...]]]:
    """Fly a square 2 px a frame for 10 frames, hide it, and bring it back `back_at_px` off its way for 10 frames.

    Returns:
        It before, and all objects of each frame since.

    """
    for number in range(10):
        objects = seen(flight, make, 40 + 2 * number)
    (before,) = [item for item in objects if item.state == CONFIRMED]
    history = unseen(flight, make, absent)
    for number in range(10 + absent, 20 + absent):
        history.append(seen(flight, make, 40 + 2 * number + back_at_px, look))
    return before, history


def states_of(history: list[tuple[SpaceObject, ...]], identity: object) -> list[ObjectState]:
    return [item.state for objects in history for item in objects if item.id == identity]


@pytest.mark.parametrize("look", [LOOK, alike(0.9)])
def test_an_object_that_comes_back_is_known_again_at_its_confirmation(
    line: Lines, squares: Maker, look: torch.Tensor
) -> None:
    """It coasts for 1.5 s, is lost, is absent for another second, and is itself within six frames of its return."""
    before, history = absence(line(max_coast_s=1.5), squares, look=look)
    states = states_of(history, before.id)
    again = len(states) - 16
    assert states == [COASTING] * 15 + [LOST] + [CONFIRMED] * again and again >= 5
    (stranger,) = {item.id for objects in history[25:] for item in objects} - {before.id}
    # What it was called until then is told to have ended, in that very frame.
    assert states_of(history, stranger) == [TENTATIVE] * (10 - again) + [LOST]
    (end,) = [item for item in history[-again] if item.id == stranger]
    assert not end.reported and end.mask is None
    (after,) = history[-1]
    assert after.first_seen_ns == before.first_seen_ns == 0 and after.reported and after.mask is not None
    np.testing.assert_allclose(after.velocity_px_s, (20, 0), atol=2)
    assert all(len({item.id for item in objects}) == len(objects) for objects in history)


@pytest.mark.parametrize(
    ("settings", "otherwise"),
    [
        ({}, {"look": alike(0.7)}),  # Below the least cosine of 0.85.
        ({}, {"look": torch.zeros(3)}),  # Unknown is not alike.
        ({}, {"back_at_px": 150}),  # Far from where it would be.
        ({}, {"absent": 110}),  # Eleven seconds, one more than it is remembered for.
        ({"reidentify_s": 0.0}, {}),
        ({"reidentify_cosine": 1.0}, {"look": alike(0.99)}),
    ],
    ids=["looks", "unknown", "place", "time", "switched off", "strict"],
)
def test_what_is_not_it_is_somebody_new(
    line: Lines, squares: Maker, settings: dict[str, float], otherwise: dict[str, Any]
) -> None:
    known = {"reidentify_cosine": 0.85, "reidentify_s": 10.0} | settings
    before, history = absence(line(**known), squares, **otherwise)
    assert states_of(history, before.id)[-1] == LOST
    (after,) = history[-1]
    assert after.id != before.id and after.state == CONFIRMED and after.first_seen_ns > before.last_seen_ns


def test_nothing_is_known_again_across_a_gap(line: Lines, squares: Maker) -> None:
    """10 s without a frame: what stands where the object would be, and looks like it, is somebody new."""
    flight = line()
    for number in range(10):
        objects = seen(flight, squares, 40 + 2 * number)
    (before,) = objects
    after = seen(flight, squares, 258, dt_s=10.0)
    assert {item.id: item.state for item in after}[before.id] == LOST
    for number in range(1, 10):
        after = seen(flight, squares, 258 + 2 * number)
    (found,) = after
    assert found.state == CONFIRMED and found.id != before.id


def test_point_sources_are_never_known_again(line: Lines, points: Maker) -> None:
    flight, identities = line(), []
    for number in range(60):
        there = number < 12 or number >= 40
        found = points([[40 + 2 * number, 60]] if there else [], SIZE)
        objects = flight.step(found, vectors=LOOK.expand(len(found), 3))
        identities += [item.id for item in objects if item.state == CONFIRMED]
    assert len(set(identities)) == 2


def test_the_cameras_turn_is_followed_meanwhile(line: Lines, squares: Maker) -> None:
    """The background runs 3 px a frame to the left while nothing is seen: it comes back 75 px farther left."""
    flight, left = line(), np.array([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])
    for number in range(10):
        objects = seen(flight, squares, 300 + 2 * number)
    (before,) = objects
    unseen(flight, squares, 25, homography=left)
    for number in range(35, 45):
        objects = seen(flight, squares, 300 + 2 * number - 75)
    assert [item.id for item in objects] == [before.id]


# The memory by itself


def table(count: int, stage: ObjectState, looks: torch.Tensor, stamp_ns: int, spacing_px: float = 100.0) -> TrackTable:
    """Build objects in a row that rest, their velocity known to 1 px/s."""
    places = np.stack([spacing_px * np.arange(count), np.full(count, 50.0)], axis=1)
    spread = np.tile(0.1 * np.eye(2), (count, 1, 1))
    born = TrackTable.empty().born(
        ModelBank.born(places, spread, np.full(count, 1e-4), np.full(count, 1e-6), 1.0), 3.0, stamp_ns,
        boxes_xywh_px=np.concatenate([places - 5, np.full((count, 2), 10.0)], axis=1), areas_px=np.full(count, 100.0),
        fluxes=np.full(count, np.nan), mobilities=np.tile(np.eye(2), (count, 1, 1)), offsets_px=np.zeros((count, 2)),
        segment_rows=np.arange(count), point_source=np.zeros(count, dtype=bool), descriptors=looks,
    )  # fmt: skip
    return born.with_columns(stages=np.full(count, int(stage)))


def before(count: int, stage: ObjectState) -> np.ndarray:
    return np.full(count, int(stage))


def test_the_most_similar_one_counts_and_each_identity_goes_once() -> None:
    """Two lost objects at one place, two newcomers there: each goes to the one that it looks like."""
    memory = LostObjects(TrackingConfig())
    lost = table(2, LOST, torch.stack([LOOK, alike(0.9)]), 0, 0.0)
    memory.step(lost, before(2, CONFIRMED), STILL, 10**8)
    assert len(memory) == 2
    newcomers = table(2, CONFIRMED, torch.stack([alike(0.92), alike(0.999)]), 2 * 10**8, 0.0)
    named = memory.step(newcomers, before(2, TENTATIVE), STILL, 3 * 10**8)
    assert list(named.ids[:2]) == [lost.ids[1], lost.ids[0]]
    assert set(named.ids[2:]) == set(newcomers.ids)
    assert named.stages.tolist() == [CONFIRMED, CONFIRMED, LOST, LOST]
    assert len(memory) == 0
    third = table(1, CONFIRMED, LOOK[None], 3 * 10**8)
    assert memory.step(third, before(1, TENTATIVE), STILL, 4 * 10**8).ids[0] == third.ids[0]


def test_who_was_there_before_the_other_left_is_not_it() -> None:
    memory = LostObjects(TrackingConfig())
    memory.step(table(1, LOST, LOOK[None], 10**9), before(1, CONFIRMED), STILL, 11 * 10**8)
    contemporary = table(1, CONFIRMED, LOOK[None], 10**9)
    assert memory.step(contemporary, before(1, TENTATIVE), STILL, 12 * 10**8).ids[0] == contemporary.ids[0]


@pytest.mark.parametrize("change", ["velocity", "area", "point"])
def test_velocity_and_size_must_agree_too(change: str) -> None:
    """40 px/s against rest known to 1 px/s, nine times the area, or a point source: each is somebody else."""
    memory = LostObjects(TrackingConfig())
    memory.step(table(1, LOST, LOOK[None], 0), before(1, CONFIRMED), STILL, 10**8)
    newcomer = table(1, CONFIRMED, LOOK[None], 2 * 10**8)
    states = newcomer.bank.states.copy()
    states[:, :, 2] = 40.0
    fast = ModelBank(newcomer.bank.log_weights, states, newcomer.bank.covariances)
    columns = {
        "velocity": {"bank": fast},
        "area": {"areas_px": np.array([900.0])},
        "point": {"point_source": np.ones(1, bool)},
    }
    other = newcomer.with_columns(**columns[change])
    assert memory.step(other, before(1, TENTATIVE), STILL, 3 * 10**8).ids[0] == newcomer.ids[0]
    same = memory.step(newcomer, before(1, TENTATIVE), STILL, 4 * 10**8)
    assert same.ids[0] != newcomer.ids[0]


def test_it_remembers_the_newest_and_no_more_than_it_may() -> None:
    """Of 300 lost objects a part is kept, the newest; what was never confirmed, or has no mask, not at all."""
    memory = LostObjects(TrackingConfig())
    looks = LOOK.expand(50, 3)
    for step in range(6):
        newest = table(50, LOST, looks, step * 10**8)
        memory.step(newest, before(50, CONFIRMED), STILL, step * 10**8)
    assert 50 <= len(memory) < 300
    returned = table(50, CONFIRMED, looks, 6 * 10**8)
    named = memory.step(returned, before(50, TENTATIVE), STILL, 7 * 10**8)
    assert set(named.ids[:50]) <= set(newest.ids) | set(returned.ids) and set(named.ids[:50]) & set(newest.ids)
    for stage, flag in ((TENTATIVE, False), (CONFIRMED, True)):
        fresh = LostObjects(TrackingConfig())
        gone = table(3, LOST, looks[:3], 0).with_columns(point_source=np.full(3, flag))
        fresh.step(gone, before(3, stage), STILL, 0)
        assert len(fresh) == 0


def test_it_forgets_with_time_with_a_gap_and_with_the_tracker(line: Lines) -> None:
    def full() -> LostObjects:
        memory = LostObjects(TrackingConfig(reidentify_s=10.0))
        memory.step(table(2, LOST, LOOK.expand(2, 3), 0), before(2, CONFIRMED), STILL, 0)
        assert len(memory) == 2
        return memory

    nothing, none = TrackTable.empty(), before(0, CONFIRMED)
    old, young, gap = full(), full(), full()
    old.step(nothing, none, STILL, 11 * 10**9)
    young.step(nothing, none, STILL, 9 * 10**9)
    gap.step(nothing, none, Background(dt_s=8.0, gap=True), 8 * 10**9)
    assert (len(old), len(young), len(gap)) == (0, 2, 0)
    tracker = line().tracker
    tracker._lost.step(table(1, LOST, LOOK[None], 0), before(1, CONFIRMED), STILL, 0)
    assert len(tracker._lost) == 1
    tracker.reset()
    assert len(tracker._lost) == 0


def test_a_table_keeps_its_rows_together() -> None:
    """Rows taken and joined again, with descriptors of one table alone: every column goes along."""
    first, second = table(3, CONFIRMED, LOOK.expand(3, 3), 5), table(2, LOST, torch.zeros((2, 0)), 7)
    both = first.take(np.array([2, 0])).join(second)
    assert len(both) == len(both.bank) == 4 and both.bank.states.shape == (4, COUNT, 4)
    assert list(both.ids) == [first.ids[2], first.ids[0], *second.ids]
    assert both.first_seen_ns.tolist() == [5, 5, 7, 7] and both.stages.tolist() == [CONFIRMED] * 2 + [LOST] * 2
    np.testing.assert_allclose(both.bank.mean()[0][:2, 0], [200, 0])
    np.testing.assert_array_equal(both.descriptors, [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
