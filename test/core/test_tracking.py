"""Objects over time, from segments made by hand: identity, states, velocity and what is said of its error."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from uuid import UUID

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import chi2
from sparsematch_ros.egomotion.rotation import rotation_homography
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.matching.segments import match_segments, no_matches
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.sky import Sky

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import MatchingConfig, SegmentationConfig, TrackingConfig
from sparsematch_ros.data import Descriptors, EgoMotion, Expectations, Frame, ObjectState, Segments, SpaceObject
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.tracking.tracker import Tracker

Maker = Callable[..., Segments]
CONFIRMED, COASTING, LOST = ObjectState.CONFIRMED, ObjectState.COASTING, ObjectState.LOST
CAMERA = CameraModel.from_fov(640, 480, 20.0)


@dataclass
class Line:
    """Matching and tracking in the order of the pipeline, on segments from outside."""

    config: TrackingConfig = field(default_factory=TrackingConfig)
    camera: CameraModel | None = None
    dark: bool = True
    stamp_s: float = 0.0
    past: tuple[Segments, Descriptors] | None = None
    motion: EgoMotion = field(default_factory=EgoMotion)

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.config, MatchingConfig())

    def step(
        self,
        segments: Segments | Callable[[Expectations], Segments],
        dt_s: float = 0.1,
        homography: np.ndarray | None = None,
        sky: Sky | None = None,
        vectors: torch.Tensor | None = None,
        valid: bool = True,
    ) -> tuple[SpaceObject, ...]:
        first, gap = self.past is None, dt_s > self.config.max_gap_s
        self.stamp_s += 0.0 if first else dt_s
        known = valid and not first and not gap
        matrix = np.eye(3) if homography is None or not known else homography
        self.motion = EgoMotion(
            matrix, "telemetry" if known else "none", known, 0.0 if first else dt_s, residual_px=0.0
        )
        expectations = self.tracker.expect(self.motion)
        found = segments(expectations) if callable(segments) else segments
        descriptors = Descriptors(torch.zeros((len(found), 0)) if vectors is None else vectors)
        matches = no_matches()
        if self.past is not None and not gap:
            cosines = cosine_matrix(self.past[1], descriptors)
            matches = match_segments(self.past[0], found, cosines, self.motion, expectations, MatchingConfig())
        self.past = (found, descriptors)
        image = np.broadcast_to(np.uint8(0), (*found.masks.shape[1:], 3))
        frame = Frame(0, round(self.stamp_s * 1e9), image, self.camera)
        return self.tracker.step(frame, sky or Sky(dark=self.dark), found, descriptors, matches, expectations)


def near(objects: tuple[SpaceObject, ...], place: object, within_px: float = 3.0) -> SpaceObject:
    """Give the one object alive within so many pixels of a place."""
    close = [item for item in objects if np.linalg.norm(item.centroid_px - place) < within_px and item.state != LOST]
    assert len(close) == 1, f"{len(close)} objects near {place}: {[item.centroid_px for item in objects]}"
    return close[0]


def reported(objects: tuple[SpaceObject, ...]) -> list[SpaceObject]:
    return [item for item in objects if item.reported]


# Birth and confirmation


def test_a_moving_mask_is_reported_in_its_third_frame(squares: Maker) -> None:
    line, seen = Line(), []
    for number in range(3):
        (item,) = line.step(squares([[40 + 4 * number, 60 - 2 * number]]))
        seen.append((item.state, item.reported))
    assert seen == [(ObjectState.TENTATIVE, False), (ObjectState.TENTATIVE, False), (CONFIRMED, True)]
    assert item.first_seen_ns == 0 and item.last_seen_ns == 200_000_000
    np.testing.assert_allclose(item.velocity_px_s, (40, -20), atol=5)
    assert item.mask is not None and int(item.mask.sum()) == 121


def test_a_moving_point_source_is_reported_in_its_fifth_frame(points: Maker) -> None:
    line = Line()
    states = [line.step(points([[100 + 3 * number, 200]]))[0] for number in range(5)]
    assert [item.state for item in states[:4]] == [ObjectState.TENTATIVE] * 4
    assert states[4].reported and states[4].mask is None
    assert len({item.id for item in states}) == 1
    assert states[4].existence_probability > states[0].existence_probability


def test_confirmation_follows_the_settings(points: Maker) -> None:
    line = Line(TrackingConfig(confirm_hits_point=2, confirm_window_point=3))
    line.step(points([[100, 200]]))
    assert line.step(points([[103, 200]]))[0].state == CONFIRMED


def test_single_flashes_are_never_reported(points: Maker) -> None:
    rng, line = np.random.default_rng(3), Line()
    for _ in range(60):
        assert not reported(line.step(points(rng.uniform(0, (640, 480), (4, 2)))))


def test_in_a_textured_scene_only_what_moves_is_born(squares: Maker) -> None:
    line = Line(dark=False)
    assert line.step(squares([[40, 60]], moving_share=0.1)) == ()
    assert line.step(squares([[44, 60]])) == ()  # Motion not computed is no motion seen.
    assert len(line.step(squares([[48, 60]], moving_share=0.8))) == 1


def test_what_frames_the_image_is_no_object(squares: Maker) -> None:
    line = Line(dark=False)
    assert line.step(squares([[60, 60]], side_px=119, size=(120, 121), moving_share=0.9)) == ()


def test_no_more_objects_than_allowed(points: Maker) -> None:
    rng, line = np.random.default_rng(0), Line(TrackingConfig(max_objects=3))
    places = rng.uniform(50, 400, (10, 2))
    for number in range(12):
        objects = line.step(points(places + np.array([2 * number, 0])))
        assert sum(item.state != LOST for item in objects) == 3
    assert len(reported(objects)) == 3


# Velocity and its covariance


def one_sky(rng: np.random.Generator, acceleration_px_s2: float, stamps_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Let 100 objects fly far from each other: true places and velocities, `(F, 100, 2)` each."""
    x, y = np.meshgrid(np.arange(10), np.arange(10))
    place = np.stack([x.ravel(), y.ravel()], axis=1) * 600.0 + 300
    velocity = rng.normal(0, 30, (100, 2))
    places, velocities = [place], [velocity]
    for dt_s in np.diff(stamps_s):
        push = rng.normal(0, acceleration_px_s2, (100, 2))
        place = place + dt_s * velocity + dt_s**2 / 2 * push
        velocity = velocity + dt_s * push
        places.append(place)
        velocities.append(velocity)
    return np.stack(places), np.stack(velocities)


@pytest.mark.parametrize(("acceleration_px_s2", "least", "most"), [(0.0, 0.91, 1.0), (4.0, 0.91, 0.99)])
@pytest.mark.parametrize("irregular", [False, True])
def test_velocity_errors_are_as_large_as_stated(
    points: Maker, acceleration_px_s2: float, least: float, most: float, irregular: bool
) -> None:
    """300 flights: 95 % of errors in the 95 % ellipse where objects accelerate as assumed (3 sigma of counting: 4 %),
    and no fewer where they do not accelerate. Stamps 0.1 s apart, or 0.03 to 0.5 s."""
    rng, inside, error_px_s, size = np.random.default_rng(5), [], [], (6000, 6000)
    for _ in range(3):
        steps = rng.uniform(0.03, 0.5, 15) if irregular else np.full(15, 0.1)
        places, velocities = one_sky(rng, acceleration_px_s2, np.concatenate([[0], np.cumsum(steps)]))
        # A gate that not one of 4,500 innovations leaves by chance.
        line = Line(TrackingConfig(acceleration_px_s2=4.0, gate_sigma=6.0))
        for place, dt_s in zip(places, [0.1, *steps], strict=True):
            objects = line.step(points(place + rng.normal(0, 0.15, place.shape), size, sigma_px=0.15), dt_s)
        assert len(objects) == 100 and len(reported(objects)) >= 97
        for place, velocity in zip(places[-1], velocities[-1], strict=True):
            item = near(objects, place)
            error = item.velocity_px_s - velocity
            error_px_s.append(error)
            inside.append(error @ np.linalg.solve(item.velocity_covariance, error) < chi2.ppf(0.95, 2))
    assert least <= np.mean(inside) <= most
    assert np.abs(np.mean(error_px_s)) < 0.2  # No bias.


def test_apparent_velocity_holds_the_cameras_motion(points: Maker) -> None:
    """The background runs 30 px/s to the left; the object runs 20 px/s to the right against it."""
    line, left = Line(), np.array([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])
    for number in range(10):
        (item,) = line.step(points([[300 - number, 200]], sigma_px=0.05), homography=left)
    np.testing.assert_allclose(item.velocity_px_s, (20, 0), atol=0.1)
    np.testing.assert_allclose(item.apparent_velocity_px_s, (-10, 0), atol=0.1)


def test_a_resting_object_does_not_move(squares: Maker, points: Maker) -> None:
    """Exactly at rest never; with noise as stated in at most 1 % of frames, ten times the test's false alarm."""
    line, noisy, rng = Line(), Line(TrackingConfig(moving_speed_px_s=0.0, retire_after=1000)), np.random.default_rng(2)
    places, alarms, judged = rng.uniform(20, 460, (40, 2)), 0, 0
    for number in range(60):
        (item,) = line.step(squares([[80, 60]]))
        assert not item.moving
        objects = noisy.step(points(places + rng.normal(0, 0.2, places.shape), sigma_px=0.2))
        alarms += sum(item.moving for item in objects) if number >= 5 else 0
        judged += len(objects) if number >= 5 else 0
    assert item.state == CONFIRMED  # Under a dark sky what has a mask stays.
    assert judged >= 40 * 50 and alarms / judged <= 0.01


def test_motion_is_not_judged_while_the_background_is_unknown(squares: Maker) -> None:
    line = Line()
    for number in range(6):
        objects = line.step(squares([[20 + 4 * number, 60]]), valid=False)
        assert not reported(objects)


# Coasting and loss


def fly(line: Line, make: Maker, frames: int, **options: object) -> tuple[SpaceObject, ...]:
    """Let one object fly 4 px a frame along y = 60 from x = 20, as the stamp says."""
    for _ in range(frames):
        x = 20 + round(40 * (line.stamp_s + (0.0 if line.past is None else 0.1)))
        objects = line.step(make([[x, 60]], size=(120, 400), **options))
    return objects


def test_a_missed_frame_is_bridged(squares: Maker) -> None:
    line = Line()
    (before,) = fly(line, squares, 5)
    (missed,) = line.step(squares([], size=(120, 400)))
    assert (missed.id, missed.state, missed.reported) == (before.id, COASTING, True)
    assert missed.last_seen_ns == before.last_seen_ns
    assert missed.mask is not None  # Its last outline, 4 px on: 11 px across, around the expected centroid.
    rows, columns = np.nonzero(missed.mask.numpy())
    assert missed.mask.sum() == 121
    np.testing.assert_allclose([columns.mean(), rows.mean()], missed.centroid_px, atol=0.5)
    np.testing.assert_allclose(missed.centroid_px, (40, 60), atol=1.0)
    np.testing.assert_allclose(missed.bbox_xywh_px[:2] + 5, missed.centroid_px, atol=1.0)
    assert missed.existence_probability < before.existence_probability
    assert np.linalg.det(missed.centroid_covariance) > np.linalg.det(before.centroid_covariance)
    (after,) = fly(line, squares, 1)
    assert (after.id, after.state) == (before.id, CONFIRMED)


def test_an_object_absent_too_long_is_lost_once(squares: Maker) -> None:
    line = Line()
    (before,) = fly(line, squares, 6)
    history = [line.step(squares([], size=(120, 400))) for _ in range(20)]
    states = [[(item.id, item.state) for item in objects] for objects in history]
    # max_coast_s is 1.5 s: fifteen frames of 0.1 s, lost in the sixteenth, and then never again.
    assert states == [[(before.id, COASTING)]] * 15 + [[(before.id, LOST)]] + [[]] * 4


def test_coasting_ends_where_the_image_ends(squares: Maker) -> None:
    line = Line()
    for number in range(5):
        (item,) = line.step(squares([[100 + 10 * number, 60]]))
    (gone,) = line.step(squares([]))  # x = 150 + 10 is outside 160 px.
    (gone,) = line.step(squares([])) or (gone,)
    assert (gone.id, gone.state) == (item.id, LOST)
    assert line.step(squares([])) == ()


@pytest.mark.parametrize("max_coast_s", [1.5, 60.0])
def test_nothing_survives_a_long_gap(squares: Maker, max_coast_s: float) -> None:
    """What is seen at the same place 10 s later is somebody else, however long objects may coast."""
    line = Line(TrackingConfig(max_coast_s=max_coast_s))
    (before,) = fly(line, squares, 6)
    objects = line.step(squares([[44, 60]], size=(120, 400)), dt_s=10.0)
    assert {item.id: item.state for item in objects}[before.id] == LOST
    (fresh,) = [item for item in objects if item.id != before.id]
    assert fresh.state == ObjectState.TENTATIVE and not fresh.moving
    np.testing.assert_array_equal(fresh.velocity_px_s, 0)
    assert fresh.first_seen_ns == round(line.stamp_s * 1e9)
    (later,) = line.step(squares([[48, 60]], size=(120, 400)))
    assert later.id == fresh.id


def test_a_frame_without_descriptors_does_not_forget_them(squares: Maker) -> None:
    """No segment, no descriptors: who coasts is still known by what it looked like."""
    vector, line = torch.tensor([[0.6, 0.8]]), Line()
    for x in (20, 24, 28, 32):
        line.step(squares([[x, 60]], 21), vectors=vector)
    (coasting,) = line.step(squares([]), vectors=torch.zeros((0, 0)))
    assert coasting.descriptor is not None
    np.testing.assert_allclose(coasting.descriptor, vector[0], atol=1e-6)
    # What comes at its place next but looks otherwise is not it; and while it is waited for, nothing is born there.
    (waiting,) = line.step(squares([[40, 60]], 21), vectors=torch.tensor([[0.8, -0.6]]))
    assert (waiting.id, waiting.state) == (coasting.id, COASTING)


def test_empty_frames_are_ordinary(points: Maker) -> None:
    line = Line()
    for _ in range(3):
        assert line.step(points([])) == ()
    assert len(line.step(points([[50, 50]]))) == 1


# Identity


def test_crossing_objects_keep_their_identities(points: Maker) -> None:
    """Two point sources pass each other at 2 px with 80 px/s against each other."""
    rng, line = np.random.default_rng(4), Line()
    ids: list[tuple[UUID, UUID]] = []
    for number in range(40):
        right, left = np.array([200 + 4.0 * number, 100]), np.array([356 - 4.0 * number, 102 + 0.1 * number])
        objects = line.step(points(np.stack([right, left]) + rng.normal(0, 0.1, (2, 2))))
        if number >= 5 and np.linalg.norm(right - left) > 5:
            ids.append((near(objects, right, 2.0).id, near(objects, left, 2.0).id))
    assert len(set(ids)) == 1 and ids[0][0] != ids[0][1]


def test_crossing_masks_keep_their_identities(squares: Maker) -> None:
    line, ids = Line(), []
    for number in range(24):
        places = [(20 + 4 * number, 40 + number), (112 - 4 * number, 64)]
        objects = line.step(squares(places))
        if number >= 3 and abs(places[0][0] - places[1][0]) > 8:
            ids.append(tuple(near(objects, place).id for place in places))
    assert len(set(ids)) == 1 and ids[0][0] != ids[0][1]


def test_identity_and_velocity_survive_the_cameras_rotation(points: Maker) -> None:
    """The camera yaws, pitches and rolls by up to 35 px a frame; three sources stand, one flies 50 px/s among them."""
    line, turn = Line(camera=CAMERA), Rotation.from_rotvec([0.004, 0.015, 0.02])
    homography = rotation_homography(CAMERA, turn)
    standing = np.array([[500.0, 100], [520, 300], [420, 220]])
    mover, velocity, ids = np.array([450.0, 150]), np.array([-30.0, 40]), set()
    for number in range(9):
        if number:
            standing = apply_homography(homography, standing)
            end = apply_homography(homography, np.stack([mover + 0.1 * velocity, mover + 0.101 * velocity]))
            mover, velocity = end[0], (end[1] - end[0]) / 0.001
        objects = line.step(points(np.concatenate([standing, mover[None]]), sigma_px=0.1), homography=homography)
        item = near(objects, mover)
        ids.add(item.id)
    assert len(ids) == 1
    assert [other.id for other in reported(objects)] == [item.id]
    np.testing.assert_allclose(item.velocity_px_s, velocity, atol=1.0)


# Bearings


@pytest.mark.parametrize("turn_rad_s", [(0, 0, 0), (0.02, -0.02, 0.1)])
def test_bearing_rate_is_that_of_geometry(points: Maker, turn_rad_s: tuple[float, float, float]) -> None:
    """A direction runs along a great circle at 25 mrad/s in N, while the camera turns: 2 % of that."""
    line, rate = Line(camera=CAMERA), 0.025
    start, axis = np.array([-0.06, 0.03, 1]) / np.linalg.norm([-0.06, 0.03, 1]), np.array([0.2, 1, 0])
    axis -= (axis @ start) * start
    axis /= np.linalg.norm(axis)
    homography = rotation_homography(CAMERA, Rotation.from_rotvec(0.1 * np.array(turn_rad_s)).inv())
    for number in range(31):
        R_CN = Rotation.from_rotvec(0.1 * number * np.array(turn_rad_s)).inv()
        bearing_N = Rotation.from_rotvec(rate * 0.1 * number * axis).apply(start)
        place = CAMERA.project(R_CN.apply(bearing_N)[None])
        assert 0 < place[0, 0] < 639 and 0 < place[0, 1] < 479, "the test's object leaves the view"
        (item,) = line.step(points(place, sigma_px=0.05), homography=homography)
    truth_C = R_CN.apply(rate * np.cross(axis, bearing_N))
    assert item.bearing is not None and item.bearing_rate_rad_s is not None
    np.testing.assert_allclose(item.bearing, R_CN.apply(bearing_N), atol=0.2 / CAMERA.matrix[0, 0])
    assert np.linalg.norm(item.bearing_rate_rad_s - truth_C) < 0.02 * rate
    assert abs(item.bearing_rate_rad_s @ item.bearing) < 1e-3 * rate  # A unit vector turns across itself.
    assert item.bearing_covariance is not None and item.bearing_rate_covariance is not None
    sigma = np.sqrt(np.linalg.eigvalsh(item.bearing_covariance)[1:])  # The first is that along the line of sight: 0.
    expected = np.sqrt(np.linalg.eigvalsh(item.centroid_covariance)) / CAMERA.matrix[0, 0]
    np.testing.assert_allclose(sigma, expected, rtol=0.05)


def test_without_intrinsics_there_is_no_bearing(points: Maker) -> None:
    (item,) = Line().step(points([[100, 100]]))
    assert item.bearing is None and item.bearing_covariance is None
    assert item.bearing_rate_rad_s is None and item.bearing_rate_covariance is None


# Stars


def survey(places: np.ndarray, rng: np.random.Generator) -> Sky:
    """See sources with 0.1 px of noise, and only four in five of them, as at the edge of detection."""
    seen = places[rng.random(len(places)) < 0.8]
    seen = seen[((seen > 3) & (seen < (636, 476))).all(axis=1)]
    count = len(seen)
    noisy = seen + rng.normal(0, 0.1, seen.shape)
    return Sky(True, 1.0, noisy, np.full(count, 500.0), np.full(count, 0.1), np.full(count, 9.0), np.full(count, 3.0))


def test_resting_stars_are_never_reported_but_a_mover_among_them_is(points: Maker) -> None:
    """60 frames of a turning camera, 150 flickering stars; then one of them leaves its place at 40 px/s."""
    rng, line, found = np.random.default_rng(6), Line(camera=CAMERA), 0
    homography = rotation_homography(CAMERA, Rotation.from_rotvec([0.0005, 0.001, 0.003]))
    stars, empty = rng.uniform(-300, (940, 780), (400, 2)), MaskRows.empty((480, 640), torch.device("cpu"))
    mover = np.array([320.0, 240])
    for number in range(85):
        stars = apply_homography(homography, stars)
        step = np.array([4.0 if number > 60 else 0.0, 0.0])
        mover = apply_homography(homography, (mover + step)[None])[0]
        sky = survey(np.concatenate([stars, mover[None]]), rng)
        objects = line.step(
            lambda expected, sky=sky: assemble(
                empty, sky, select_point_sources(sky, expected, (480, 640), SegmentationConfig()), EgoMotion()
            )[0],
            homography=homography,
            sky=sky,
        )
        for item in reported(objects):
            assert number > 60, f"a star is reported in frame {number}"
            assert np.linalg.norm(item.centroid_px - mover) < 3.0
            found += 1
    assert found >= 10


# Objects that merge, hide each other, or fall apart


def join(*parts: Segments) -> Segments:
    """Put the masks of several segments of one frame together."""
    columns = {item.name: [getattr(part, item.name) for part in parts] for item in fields(Segments)}
    masks = torch.cat(columns.pop("masks"))
    return Segments(masks=masks, **{name: np.concatenate(values) for name, values in columns.items()})


def crossing(squares: Maker, frames: range, gap_px: int) -> list[Segments]:
    """Two squares of 21 px fly toward each other at 4 px a frame; nearer than `gap_px` they are one segment."""
    found = []
    for frame in frames:
        left, right = 40 + 4 * frame, 140 - 4 * frame
        if abs(right - left) > gap_px:
            found.append(squares([[left, 60], [right, 60]], 21, (120, 200)))
            continue
        both = squares([[left, 60]], 21, (120, 200)).masks[0] | squares([[right, 60]], 21, (120, 200)).masks[0]
        columns = np.flatnonzero(both.any(dim=0).numpy())
        extent = len(columns)
        found.append(
            replace(
                squares([[left, 60]], 21, (120, 200)),
                masks=both[None],
                boxes_xywh_px=np.array([[columns[0], 50, extent, 21]], dtype=np.float64),
                centroids_px=np.array([[columns.mean(), 60.0]]),
                areas_px=np.array([float(both.sum())]),
            )
        )
    return found


def test_two_that_cross_keep_identity_and_velocity(squares: Maker) -> None:
    """They are one segment for 8 frames; each comes out where it was going, with its own id, to 1 px and 2 px/s."""
    line = Line()
    flight = crossing(squares, range(21), 28)
    assert sum(len(segments) == 1 for segments in flight) == 8
    before = line.step(flight[0])
    for segments in flight[1:9]:
        before = line.step(segments)
    first, second = sorted(reported(before), key=lambda item: item.centroid_px[0])
    for segments in flight[9:]:
        objects = line.step(segments)
    after = {item.id: item for item in objects}
    assert set(after) == {first.id, second.id}
    np.testing.assert_allclose(after[first.id].centroid_px, [120, 60], atol=1.0)
    np.testing.assert_allclose(after[second.id].centroid_px, [60, 60], atol=1.0)
    np.testing.assert_allclose(after[first.id].velocity_px_s, [40, 0], atol=2.0)
    np.testing.assert_allclose(after[second.id].velocity_px_s, [-40, 0], atol=2.0)


def test_a_part_of_a_known_object_is_none_of_its_own(squares: Maker) -> None:
    line = Line()
    for x in range(40, 80, 4):
        objects = line.step(squares([[x, 60]], 31))
    (known,) = objects
    # The same object, and a panel of it that SAM gave too.
    (after,) = line.step(join(squares([[80, 60]], 31), squares([[86, 66]], 11)))
    assert after.id == known.id


def test_what_is_hidden_is_followed_but_not_reported(squares: Maker) -> None:
    """A square of 11 px flies behind one of 61 px that rests: hidden, it is alive but nothing to report."""
    line = Line()
    for x in range(20, 60, 4):
        objects = line.step(join(squares([[120, 60]], 61, (120, 240)), squares([[x, 60]], 11, (120, 240))))
    small = near(objects, np.array([56.0, 60.0]))
    assert small.reported
    for _ in range(14):
        objects = line.step(squares([[120, 60]], 61, (120, 240)))
    hidden = {item.id: item for item in objects}[small.id]
    np.testing.assert_allclose(hidden.centroid_px, [112, 60], atol=2.0)
    assert hidden.state == COASTING and not hidden.reported
