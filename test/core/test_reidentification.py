"""Lost objects that come back: who gets an old identity again, and who must not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sparsematch_ros.matching.segments import match_segments, no_matches
from sparsematch_ros.sky import Sky

from sparsematch_ros.config import Config, MatchingConfig, TrackingConfig
from sparsematch_ros.data import Descriptors, EgoMotion, Frame, Matches, ObjectState, Segments, SpaceObject
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.tracking.reidentification import LostObjects
from sparsematch_ros.tracking.table import TrackTable
from sparsematch_ros.tracking.tracker import Tracker

Maker = Callable[..., Segments]
TENTATIVE, CONFIRMED, LOST = ObjectState.TENTATIVE, ObjectState.CONFIRMED, ObjectState.LOST
SIZE, DT_S = (120, 400), 0.1
LOOK, OTHER = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


class Line:
    """Matching and tracking in the order of the pipeline; the background rests, or moves as a homography says."""

    def __init__(self, config: TrackingConfig) -> None:
        self.tracker, self.stamp_ns = Tracker(config, MatchingConfig()), 0
        self.past: tuple[Segments, Descriptors] | None = None

    def step(
        self, segments: Segments, looks: list[torch.Tensor], dt_s: float = DT_S, homography: np.ndarray | None = None
    ) -> tuple[SpaceObject, ...]:
        self.stamp_ns += 0 if self.past is None else round(dt_s * 1e9)
        known = self.past is not None and dt_s <= self.tracker.config.max_gap_s
        matrix = np.eye(3) if homography is None else homography
        motion = EgoMotion(matrix, "stars", True, dt_s, residual_px=0.0) if known else EgoMotion(dt_s=dt_s)
        expectations = self.tracker.expect(motion)
        descriptors = Descriptors(torch.stack(looks) if looks else torch.zeros((0, 3)))
        matches: Matches = no_matches()
        if self.past is not None and known:
            cosines = cosine_matrix(self.past[1], descriptors)
            matches = match_segments(self.past[0], segments, cosines, motion, expectations, MatchingConfig())
        self.past = (segments, descriptors)
        frame = Frame(0, self.stamp_ns, np.broadcast_to(np.uint8(0), (*SIZE, 3)))
        return self.tracker.step(frame, Sky(dark=True), segments, descriptors, matches, expectations)


def alike(cosine: float) -> torch.Tensor:
    """Give a unit vector of this cosine with LOOK."""
    return torch.tensor([cosine, 0.0, (1 - cosine**2) ** 0.5])


def absence(
    make: Maker, back_at_px: float = 0.0, look: torch.Tensor = LOOK, absent: int = 25, **config: object
) -> tuple[SpaceObject, list[tuple[SpaceObject, ...]]]:
    """Let a square fly 2 px a frame for 10 frames, be absent, and come back `back_at_px` off its way for 8 frames.

    Returns:
        It before, and all objects of each frame since.

    """
    line = Line(TrackingConfig(**config))  # type: ignore[arg-type]
    for number in range(10):
        objects = line.step(make([[40 + 2 * number, 60]], 21, SIZE), [LOOK])
    (before,) = [item for item in objects if item.state == CONFIRMED]
    history = [line.step(make([], 21, SIZE), []) for _ in range(absent)]
    for number in range(10 + absent, 18 + absent):
        history.append(line.step(make([[40 + 2 * number + back_at_px, 60]], 21, SIZE), [look]))
    return before, history


def states_of(history: list[tuple[SpaceObject, ...]], identity: object) -> list[ObjectState]:
    return [item.state for objects in history for item in objects if item.id == identity]


@pytest.mark.parametrize("look", [LOOK, alike(0.9)])
def test_an_object_that_comes_back_is_known_again_at_its_confirmation(squares: Maker, look: torch.Tensor) -> None:
    """It coasts for 1.5 s, is lost, is absent for another second, and is itself in the third frame after."""
    before, history = absence(squares, look=look)
    states = states_of(history, before.id)
    assert states == [ObjectState.COASTING] * 15 + [LOST] + [CONFIRMED] * 6
    (stranger,) = {item.id for objects in history[25:] for item in objects} - {before.id}
    # What it was called until then is told to have ended, in that very frame.
    assert states_of(history, stranger) == [TENTATIVE, TENTATIVE, LOST]
    ends = [item for item in history[27] if item.id == stranger]
    assert ends[0].state == LOST and not ends[0].reported and ends[0].mask is None
    (after,) = history[-1]
    assert after.first_seen_ns == before.first_seen_ns == 0 and after.reported and after.mask is not None
    np.testing.assert_allclose(after.velocity_px_s, (20, 0), atol=2)
    assert all(len({item.id for item in objects}) == len(objects) for objects in history)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"look": alike(0.8)},  # Below the least cosine of 0.85.
        {"look": torch.zeros(3)},  # Unknown is not alike.
        {"back_at_px": 60.0},  # Far outside the gate.
        {"absent": 110},  # Eleven seconds, one more than it is remembered for.
        {"reidentify_s": 0.0},
        {"reidentify_cosine": 1.0, "look": alike(0.99)},
    ],
)
def test_what_is_not_it_is_somebody_new(squares: Maker, otherwise: dict[str, object]) -> None:
    before, history = absence(squares, **otherwise)  # type: ignore[arg-type]
    assert states_of(history, before.id)[-1] == LOST
    (after,) = history[-1]
    assert after.id != before.id and after.state == CONFIRMED and after.first_seen_ns > before.last_seen_ns


def test_nothing_is_known_again_across_a_gap(squares: Maker) -> None:
    """10 s without a frame: what stands where the object would be, and looks like it, is somebody new."""
    line = Line(TrackingConfig())
    for number in range(10):
        objects = line.step(squares([[40 + 2 * number, 60]], 21, SIZE), [LOOK])
    (before,) = objects
    after = line.step(squares([[258, 60]], 21, SIZE), [LOOK], dt_s=10.0)
    assert {item.id: item.state for item in after}[before.id] == LOST
    for number in range(1, 8):
        after = line.step(squares([[258 + 2 * number, 60]], 21, SIZE), [LOOK])
    (found,) = after
    assert found.state == CONFIRMED and found.id != before.id


def test_point_sources_are_never_known_again(points: Maker) -> None:
    line = Line(TrackingConfig())
    identities = []
    for number in range(60):
        seen = number < 12 or number >= 40
        objects = line.step(points([[40 + 2 * number, 60]] if seen else [], SIZE), [LOOK] if seen else [])
        identities += [item.id for item in objects if item.state == CONFIRMED]
    assert len(set(identities)) == 2


def test_the_cameras_turn_is_followed_meanwhile(squares: Maker) -> None:
    """The background runs 3 px a frame to the left while nothing is seen: it comes back 75 px farther left."""
    line, left = Line(TrackingConfig()), np.array([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])
    for number in range(10):
        objects = line.step(squares([[300 + 2 * number, 60]], 21, SIZE), [LOOK])
    (before,) = objects
    for _ in range(25):
        line.step(squares([], 21, SIZE), [], homography=left)
    for number in range(35, 43):
        objects = line.step(squares([[300 + 2 * number - 75, 60]], 21, SIZE), [LOOK])
    assert [item.id for item in objects] == [before.id]


# The memory by itself


def table(count: int, stage: ObjectState, looks: torch.Tensor, stamp_ns: int, spacing_px: float = 100.0) -> TrackTable:
    """Make objects at rest in a row."""
    places = np.stack([spacing_px * np.arange(count), np.full(count, 50.0)], axis=1)
    covariances = np.repeat(np.diag([0.1, 0.1, 1.0, 1.0])[None], count, axis=0)
    born = TrackTable.born(
        places, covariances, np.ones((count, 4)), np.full(count, 100.0), np.arange(count), 6, stamp_ns, looks
    )
    return born.with_columns(stages=np.full(count, int(stage)))


MOTION = EgoMotion(np.eye(3), "stars", True, DT_S)
BELIEVED, NEW = np.array([CONFIRMED]), np.array([TENTATIVE])


def test_the_most_similar_one_counts_and_each_identity_goes_once() -> None:
    """Two lost objects at one place, two newcomers there: each goes to the one that it looks like."""
    memory = LostObjects(TrackingConfig())
    lost = table(2, LOST, torch.stack([LOOK, alike(0.9)]), 0, 0.0)
    memory.step(lost, np.repeat(BELIEVED, 2), MOTION, 10**8)
    assert len(memory) == 2
    newcomers = table(2, CONFIRMED, torch.stack([alike(0.92), alike(0.999)]), 2 * 10**8, 0.0)
    named = memory.step(newcomers, np.repeat(NEW, 2), MOTION, 3 * 10**8)
    assert list(named.ids[:2]) == [lost.ids[1], lost.ids[0]]
    assert list(named.ids[2:]) == list(newcomers.ids) or list(named.ids[2:]) == list(newcomers.ids[::-1])
    assert named.stages.tolist() == [CONFIRMED, CONFIRMED, LOST, LOST]
    assert len(memory) == 0
    third = table(1, CONFIRMED, LOOK[None], 3 * 10**8)
    assert memory.step(third, NEW, MOTION, 4 * 10**8).ids[0] == third.ids[0]


def test_who_was_there_before_the_other_left_is_not_it() -> None:
    memory = LostObjects(TrackingConfig())
    memory.step(table(1, LOST, LOOK[None], 10**9), BELIEVED, MOTION, 11 * 10**8)
    contemporary = table(1, CONFIRMED, LOOK[None], 10**9)
    assert memory.step(contemporary, NEW, MOTION, 12 * 10**8).ids[0] == contemporary.ids[0]


@pytest.mark.parametrize(
    "change",
    [
        {"states": np.array([[0.0, 50, 40, 0]])},  # 40 px/s against rest, known to 1 px/s each.
        {"areas_px": np.array([450.0])},  # More than four times as large.
        {"point_source": np.array([True])},
    ],
)
def test_velocity_and_size_must_agree_too(change: dict[str, np.ndarray]) -> None:
    memory = LostObjects(TrackingConfig())
    memory.step(table(1, LOST, LOOK[None], 0), BELIEVED, MOTION, 10**8)
    newcomer = table(1, CONFIRMED, LOOK[None], 2 * 10**8)
    other = newcomer.with_columns(**change)
    assert memory.step(other, NEW, MOTION, 3 * 10**8).ids[0] == newcomer.ids[0]
    same = memory.step(newcomer, NEW, MOTION, 4 * 10**8)
    assert same.ids[0] != newcomer.ids[0]


def test_it_remembers_no_more_than_it_may() -> None:
    """64 at most, the newest; what was never confirmed, or has no mask, not at all."""
    memory = LostObjects(TrackingConfig())
    looks = LOOK.expand(50, 3)
    for step in range(3):
        memory.step(table(50, LOST, looks, step * 10**8), np.repeat(BELIEVED, 50), MOTION, step * 10**8)
    assert len(memory) == 64
    for stage, flag in ((TENTATIVE, False), (CONFIRMED, True)):
        fresh = LostObjects(TrackingConfig())
        gone = table(3, LOST, looks[:3], 0).with_columns(point_source=np.full(3, flag))
        fresh.step(gone, np.full(3, int(stage)), MOTION, 0)
        assert len(fresh) == 0
    # After ten seconds nothing is left, and nothing was there to begin with.
    memory.step(TrackTable.empty(6), np.zeros(0, dtype=np.int64), replace(MOTION, dt_s=4.9), 11 * 10**9)
    assert len(memory) == 0


def test_another_size_forgets_all() -> None:
    """As the line starts anew, so does this memory."""
    tracker = Tracker(Config().tracking, MatchingConfig())
    tracker._lost.step(table(1, LOST, LOOK[None], 0), BELIEVED, MOTION, 0)
    assert len(tracker._lost) == 1
    tracker.reset()
    assert len(tracker._lost) == 0
