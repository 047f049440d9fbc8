"""Objects that hide each other, merge, or fall apart by shadow: where the hidden one is, and who is an object."""

from collections.abc import Callable
from uuid import UUID

import numpy as np
import pytest
import torch
from sparsematch_ros.matching.segments import match_segments, no_matches
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.sky import Sky
from sparsematch_ros.tracking.companions import are_companions
from sparsematch_ros.tracking.crowding import are_crowded, are_more, with_free_flight

from sparsematch_ros.config import MatchingConfig, TrackingConfig
from sparsematch_ros.data import Descriptors, EgoMotion, Expectations, Frame, ObjectState, Segments, SpaceObject
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.tracking.outlines import Outlines
from sparsematch_ros.tracking.table import TrackTable
from sparsematch_ros.tracking.tracker import Tracker

Maker = Callable[..., Segments]
SIZE, DT_S = (120, 320), 0.1
TENTATIVE, CONFIRMED, COASTING = ObjectState.TENTATIVE, ObjectState.CONFIRMED, ObjectState.COASTING
STILL = EgoMotion(np.eye(3), "telemetry", True, DT_S, residual_px=0.0)


class Line:
    """Matching and tracking in the order of the pipeline, before a dark sky that rests, on masks `(H, W)` bool."""

    def __init__(self) -> None:
        self.tracker, self.frames = Tracker(TrackingConfig(), MatchingConfig()), 0
        self.past: Segments | None = None

    def step(self, *masks: np.ndarray) -> dict[UUID, SpaceObject]:
        motion = STILL if self.frames else EgoMotion()
        expectations, found = self.tracker.expect(motion), segments_of(*masks)
        nothing = Descriptors(torch.zeros((len(found), 0)))
        matches = no_matches()
        if self.past is not None:
            cosines = cosine_matrix(Descriptors(torch.zeros((len(self.past), 0))), nothing)
            matches = match_segments(self.past, found, cosines, motion, expectations, MatchingConfig())
        frame = Frame(0, round(self.frames * DT_S * 1e9), np.broadcast_to(np.uint8(0), (*SIZE, 3)))
        self.past, self.frames = found, self.frames + 1
        objects = self.tracker.step(frame, Sky(dark=True), found, nothing, matches, expectations)
        return {item.id: item for item in objects}


def segments_of(*masks: np.ndarray) -> Segments:
    stack = torch.from_numpy(np.stack(masks)) if masks else torch.zeros((0, *SIZE), dtype=torch.bool)
    ones, none = torch.ones(len(masks)), np.zeros(0, dtype=np.int64)
    return assemble(MaskRows(stack, ones, ones, ones, ones.long()), Sky(dark=True), none, EgoMotion())[0]


def block(middle: tuple[float, float], width: int, height: int | None = None) -> np.ndarray:
    """Draw a rectangle of odd sides around a whole pixel."""
    (x, y), half, rise = np.rint(middle).astype(int), width // 2, (height or width) // 2
    mask = np.zeros(SIZE, dtype=bool)
    mask[y - rise : y + rise + 1, max(x - half, 0) : x + half + 1] = True
    return mask


def at(objects: dict[UUID, SpaceObject], place: object, within_px: float = 3.0) -> SpaceObject:
    close = [item for item in objects.values() if np.linalg.norm(item.centroid_px - place) < within_px]
    assert len(close) == 1, f"{len(close)} objects at {place}"
    return close[0]


def expected(boxes: object, worth: object = 1.0, resolved: object = True) -> Expectations:
    """Expect objects that fill their boxes."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    middle = corners[:, :2] + corners[:, 2:] / 2
    return Expectations(
        background=STILL,
        states=np.concatenate([middle, np.zeros((count, 2))], axis=1),
        covariances=np.repeat(np.eye(4)[None], count, axis=0),
        boxes_xywh_px=corners,
        areas_px=corners[:, 2:].prod(axis=1),
        segment_rows=np.full(count, -1),
        worth=np.broadcast_to(np.asarray(worth, dtype=np.float64), (count,)),
        resolved=np.broadcast_to(np.asarray(resolved, dtype=bool), (count,)),
    )


def table_of(states: object, boxes: object, age: int = 10) -> TrackTable:
    rows, corners = np.asarray(states, dtype=np.float64), np.asarray(boxes, dtype=np.float64)
    count = len(rows)
    table = TrackTable.born(
        rows[:, :2], np.repeat(np.eye(4)[None], count, axis=0), corners, corners[:, 2:].prod(axis=1), np.arange(count),
        6, 0, torch.zeros((count, 0)),
    )  # fmt: skip
    return table.with_columns(states=rows.copy(), ages=np.full(count, age))


# Who is crowded


def test_who_meets_a_notable_other_is_crowded() -> None:
    """20 px beside 20 px that overlap; 20 px alone; 5 px, a sixteenth, before 20 px: that alone is crowded."""
    boxes = [[10, 10, 20, 20], [28, 10, 20, 20], [100, 10, 20, 20], [200, 10, 20, 20], [205, 15, 5, 5]]
    assert are_crowded(expected(boxes)).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize(("worth", "resolved"), [([1.0, 0.3], True), (1.0, [True, False])])
def test_nobody_is_crowded_by_what_is_not_believed_or_a_point(worth: object, resolved: object) -> None:
    crowded = are_crowded(expected([[10, 10, 20, 20], [15, 15, 20, 20]], worth, resolved))
    assert crowded.tolist() == [False, True]


def test_boxes_that_touch_do_not_meet() -> None:
    assert not are_crowded(expected([[10, 10, 20, 20], [30, 10, 20, 20]])).any()
    assert are_crowded(expected(np.zeros((0, 4)))).shape == (0,)


# Free flight


def flown(crowded: object, assigned: object, age: int = 10, free: object = (100.0, 50, 30, 0)) -> TrackTable:
    """Take one object whose filter has been led astray by a frame in which a segment may be at x = 90."""
    boxes = [[90, 45, 11, 11]]
    before = table_of([[95, 50, -20, 0]], boxes, age).with_columns(
        free_states=np.array([free], dtype=np.float64), free_areas_px=np.array([150.0])
    )
    turn = EgoMotion(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), "telemetry", True, DT_S)
    table = before.with_columns(states=np.array([[-50.0, 93, 0, -20]]))
    return with_free_flight(
        before, table, np.array([assigned]), segments_of(block((90, 50), 11)), np.array([crowded]), turn, 4.5
    )


def test_what_is_hidden_flies_on_as_it_did_in_the_open() -> None:
    """3 px on in 0.1 s, then a quarter turn of the background: (x, y) becomes (-y, x), velocity too."""
    found = flown(crowded=True, assigned=-1)
    np.testing.assert_allclose(found.states[0], [-50, 103, 0, 30], atol=1e-9)
    np.testing.assert_allclose(found.free_states, found.states)
    assert found.free_areas_px.tolist() == [150.0]


def test_what_shows_in_a_crowd_follows_the_filter_and_teaches_nothing() -> None:
    found = flown(crowded=True, assigned=0)
    np.testing.assert_allclose(found.states[0], [-50, 93, 0, -20])
    np.testing.assert_allclose(found.free_states[0], [-50, 103, 0, 30], atol=1e-9)
    assert found.free_areas_px.tolist() == [150.0]


def test_what_is_missed_in_the_open_follows_the_filter() -> None:
    np.testing.assert_allclose(flown(crowded=False, assigned=-1).states[0], [-50, 93, 0, -20])


@pytest.mark.parametrize(("age", "learns"), [(3, False), (4, True)])
def test_who_is_seen_in_the_open_teaches_its_flight_once_settled(age: int, learns: bool) -> None:
    found = flown(crowded=False, assigned=0, age=age, free=[np.nan] * 4)
    assert np.isfinite(found.free_states).all() == learns
    if learns:
        np.testing.assert_allclose(found.free_states, found.states)
        assert found.free_areas_px.tolist() == [121.0]


def test_who_was_never_in_the_open_has_the_filter_alone() -> None:
    found = flown(crowded=True, assigned=-1, free=[np.nan] * 4)
    np.testing.assert_allclose(found.states[0], [-50, 93, 0, -20])


def behind(line: Line, frames: range) -> dict[UUID, SpaceObject]:
    """Fly 21 px at 40 px/s along y = 60 from x = 30 behind 71 x 61 px that rest at x = 150: seen is what shows."""
    for frame in frames:
        big, small = block((150, 60), 71, 61), block((30 + 4 * frame, 60), 21)
        shows = small & ~big
        objects = line.step(big, shows) if shows.any() else line.step(big)
    return objects


def test_free_flight_through_an_occlusion_keeps_the_true_place() -> None:
    """As it slips behind, the centroid of what shows slows to half; 15 frames later it comes out where it is."""
    line = Line()
    small = at(behind(line, range(20)), (106, 60))
    for frame in range(20, 37):
        objects = behind(line, range(frame, frame + 1))
        if frame >= 26:  # Wholly behind from x = 125 on.
            hidden = objects[small.id]
            assert hidden.state == COASTING and not hidden.reported
            np.testing.assert_allclose(hidden.centroid_px, (30 + 4 * frame, 60), atol=1.5)
            np.testing.assert_allclose(hidden.velocity_px_s, (40, 0), atol=3.0)
    objects = behind(line, range(37, 48))
    assert len(objects) == 2
    after = at(objects, (30 + 4 * 47, 60))
    assert after.id == small.id and after.reported
    np.testing.assert_allclose(after.velocity_px_s, (40, 0), atol=3.0)


def test_what_is_hidden_keeps_its_existence() -> None:
    """Unseen because another is in front says nothing; unseen in the open says much."""
    line, gone = Line(), Line()
    small = at(behind(line, range(26)), (130, 60), 6.0)
    before = small.existence_probability
    for frame in range(26, 36):
        assert behind(line, range(frame, frame + 1))[small.id].existence_probability == pytest.approx(before)
    other = at(behind(gone, range(10)), (66, 60))
    lone = gone.step(block((150, 60), 71, 61))[other.id]
    assert lone.existence_probability < other.existence_probability


def test_what_is_hidden_is_waited_for_three_times_as_long() -> None:
    """1.5 s in the open, 4.5 s behind another: 10 px/s lead it from x = 100 to x = 145 behind 101 px about x = 150."""
    line, small = Line(), UUID(int=0)
    for frame in range(40):
        objects = line.step(block((150, 60), 101, 91), block((50 + frame, 60), 11))
    small = at(objects, (89, 60)).id
    states = []
    for _ in range(50):
        item = line.step(block((150, 60), 101, 91)).get(small)
        states.append(None if item is None else item.state)
    assert states[:45] == [COASTING] * 45 and states[45] == ObjectState.LOST and states[46:] == [None] * 4


# Merged masks


def test_a_mask_over_two_is_more_than_either() -> None:
    """A body of 41 px and one of 17 px touch: 1.17 of the larger. To the small one the large one's is too much too."""
    boxes = [[20, 20, 41, 41], [61, 32, 17, 17]]
    table = table_of([[40, 40, 0, 0], [69, 40, 0, 0]], boxes).with_columns(free_areas_px=np.array([41.0**2, 17.0**2]))
    big, small = block((40, 40), 41), block((69, 40), 17)
    more = are_more(table, expected(boxes), segments_of(big | small, big, small))
    assert more.tolist() == [[True, False, False], [True, True, False]]
    unknown = table.with_columns(free_areas_px=np.full(2, np.nan))
    assert not are_more(unknown, expected(boxes), segments_of(big | small)).any()  # Nothing to compare with.
    assert not are_more(table, expected(boxes, worth=0.1), segments_of(big | small)).any()  # Nobody to mistake it for.
    alone = expected([[20, 20, 41, 41], [161, 32, 17, 17]])
    # The small one is not there: the body's mask grew by itself.
    assert are_more(table, alone, segments_of(big | small))[0].tolist() == [False]


def test_a_merged_mask_is_refused_for_both() -> None:
    """17 px graze the upper edge of 41 px at 40 px/s: for 14 frames SAM gives one mask, 1.16 times the larger."""
    line, big = Line(), block((138, 60), 41)
    for frame in range(23):
        objects = line.step(big, block((20 + 4 * frame, 32), 17))
    first, second = at(objects, (138, 60)), at(objects, (108, 32))
    for frame in range(23, 37):
        objects = line.step(big | block((20 + 4 * frame, 32), 17))
        assert set(objects) == {first.id, second.id}, "a merged mask is no new object"
        assert {item.state for item in objects.values()} == {COASTING}
        np.testing.assert_allclose(objects[first.id].centroid_px, (138, 60), atol=0.5)
        np.testing.assert_allclose(objects[second.id].centroid_px, (20 + 4 * frame, 32), atol=1.0)
        np.testing.assert_allclose(objects[first.id].velocity_px_s, (0, 0), atol=1.0)
        np.testing.assert_allclose(objects[second.id].velocity_px_s, (40, 0), atol=2.0)
    objects = line.step(big, block((168, 32), 17))
    assert {item.state for item in objects.values()} == {CONFIRMED}
    assert (at(objects, (138, 60)).id, at(objects, (168, 32)).id) == (first.id, second.id)


# Companions


@pytest.mark.parametrize(
    ("box", "velocity", "is_part"),
    [
        ((71, 50, 11, 11), (20, 0), True),  # 1 px beside it, at its velocity.
        (
            (71, 50, 11, 11),
            (22, 0),
            True,
        ),  # 36 px from the middle of a body that turns by 0.04 rad/s at most: 2.4 px/s.
        ((71, 50, 11, 11), (26, 0), False),  # Faster than that: it passes.
        ((90, 50, 11, 11), (20, 0), False),  # 20 px off, more than 0.15 of 60 px.
        ((71, 30, 40, 40), (20, 0), False),  # Nearly half as large: a companion of its own right.
    ],
)
def test_a_small_part_beside_a_large_body_goes_with_it(
    box: tuple[float, ...], velocity: tuple[float, float], is_part: bool
) -> None:
    middle = np.array(box[:2]) + np.array(box[2:]) / 2
    table = table_of([[40, 55, 20, 0], [*middle, *velocity]], [[10, 25, 60, 60], box])
    assert are_companions(table).tolist() == [False, is_part]
    beside_a_point = table.with_columns(point_source=np.array([True, False]))
    assert not are_companions(beside_a_point).any()


def test_a_cut_off_part_is_not_confirmed_while_a_passing_object_is() -> None:
    """A body of 61 px flies at 20 px/s; 2 px behind it a nozzle of 11 px shows, and 17 px cross before it."""
    line, nozzles, passers = Line(), [], []
    for frame in range(14):
        x = 100 + 2 * frame
        body = block((x, 70), 61)
        parts = [body] if frame < 6 else [body, block((x - 38, 70), 11)]
        if frame >= 6:
            parts.append(block((60 + 9 * (frame - 6), 22), 17))  # 90 px/s, over the body 9 px above its edge.
        objects = line.step(*parts)
        if frame >= 6:
            nozzles.append(at(objects, (x - 38, 70), 6.0).state)
            passers.append(at(objects, (60 + 9 * (frame - 6), 22), 6.0).state)
    assert nozzles == [TENTATIVE] * len(nozzles)
    assert passers[-1] == CONFIRMED


# Outlines


def test_of_crowded_objects_the_outline_is_the_one_from_before() -> None:
    """Whole at first, half hidden then: the whole is kept; who was never seen in the open has what shows."""
    whole, half = block((60, 60), 21), block((55, 60), 11, 21)
    table, outlines = table_of([[60, 60, 0, 0]], [[50, 50, 21, 21]]), Outlines()
    outlines.learn(table, segments_of(whole), np.zeros(0, dtype=np.int64))
    outlines.learn(table, segments_of(half), np.array([0]))
    kept = outlines.at(table.uuid(0), np.array([60.0, 60]), SIZE)
    assert kept is not None
    np.testing.assert_array_equal(kept[0], whole)
    fresh = Outlines()
    fresh.learn(table, segments_of(half), np.array([0]))
    shows = fresh.at(table.uuid(0), np.array([55.0, 60]), SIZE)
    assert shows is not None
    np.testing.assert_array_equal(shows[0], half)
    outlines.learn(table, segments_of(half), np.zeros(0, dtype=np.int64))
    learnt = outlines.at(table.uuid(0), np.array([55.0, 60]), SIZE)
    assert learnt is not None
    np.testing.assert_array_equal(learnt[0], half)


def test_an_outline_comes_with_the_part_of_the_frame_that_holds_it() -> None:
    """21 px whose middle is 5 px from the left and 3 px from the lower border: 16 columns and 14 rows are left."""
    table, outlines = table_of([[60, 60, 0, 0]], [[50, 50, 21, 21]]), Outlines()
    outlines.learn(table, segments_of(block((60, 60), 21)), np.zeros(0, dtype=np.int64))
    found = outlines.at(table.uuid(0), np.array([5.2, 116.3]), SIZE)
    assert found is not None
    mask, part = found
    assert part == (slice(106, 120), slice(0, 16))
    assert mask.shape == SIZE and mask[part].all() and int(mask.sum()) == 14 * 16
    assert outlines.at(table.uuid(0), np.array([-20.0, 60]), SIZE) is None
    outlines.learn(table.take(np.zeros(0, dtype=np.int64)), segments_of(), np.zeros(0, dtype=np.int64))
    assert outlines.at(table.uuid(0), np.array([60.0, 60]), SIZE) is None  # Gone, forgotten.
