"""Objects over time, from segments made by hand: birth, states, identity, velocity, and what never counts as moving."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from sparsematch_ros.background.rotation import rotation_homography
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import ObjectState, SpaceObject
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.segmentation.segments import Segments

Maker = Callable[..., Segments]
Lines = Callable[..., Any]
TENTATIVE, CONFIRMED, COASTING, LOST = ObjectState
CAMERA = CameraModel.from_fov(640, 480, 20.0)
WIDE = (120, 400)
SHIFT = np.array([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
SLOW_SHIFT = np.array([[1.0, 0, 0.5], [0, 1, 0.2], [0, 0, 1]])


def near(objects: tuple[SpaceObject, ...], place: object, within_px: float = 3.0) -> SpaceObject:
    """Find the one object alive within so many pixels of a place."""
    close = [item for item in objects if np.linalg.norm(item.centroid_px - place) < within_px and item.state != LOST]
    assert len(close) == 1, f"{len(close)} objects near {place}: {[item.centroid_px for item in objects]}"
    return close[0]


def reported(objects: tuple[SpaceObject, ...]) -> list[SpaceObject]:
    return [item for item in objects if item.reported]


def fly(flight: Any, make: Maker, frames: int, **options: object) -> tuple[SpaceObject, ...]:
    """Fly one object 40 px/s along y = 60 from x = 20 on, as the stamp says."""
    for _ in range(frames):
        x = 20 + round(40 * (flight.stamp_s + (0.0 if flight.matches is None else 0.1)))
        objects = flight.step(make([[x, 60]], size=WIDE), **options)
    return objects


# Birth and confirmation


@pytest.mark.parametrize("kind", ["points", "squares"])
def test_a_moving_object_is_reported_within_six_frames(line: Lines, points: Maker, squares: Maker, kind: str) -> None:
    """Born tentative, never reported in its first two frames, then itself to the end with the true velocity."""
    flight, seen = line(), []
    make = {"points": points, "squares": squares}[kind]
    for number in range(8):
        (item,) = flight.step(make([[40 + 4 * number, 90 - 2 * number]], size=(120, 160)))
        seen.append((item.id, item.state, item.reported))
    identities, states, found = zip(*seen, strict=True)
    assert len(set(identities)) == 1
    assert states[0] == TENTATIVE and states[-1] == CONFIRMED and sorted(states) == list(states)
    assert not any(found[:2]) and all(found[5:])
    assert item.first_seen_ns == 0 and item.last_seen_ns == 700_000_000
    np.testing.assert_allclose(item.velocity_px_s, (40, -20), atol=1.5)
    np.testing.assert_allclose(item.centroid_px, (68, 76), atol=0.3)
    assert (item.mask is None) == (kind == "points")
    assert item.mask is None or int(item.mask.sum()) == 121


def test_no_more_objects_than_allowed(line: Lines, points: Maker) -> None:
    places = np.random.default_rng(0).uniform(50, 400, (10, 2))
    flight = line(max_objects=3)
    for number in range(10):
        objects = flight.step(points(places + np.array([2 * number, 0])))
        assert sum(item.state != LOST for item in objects) == 3
    assert len(reported(objects)) == 3


def test_faint_points_are_followed_but_not_born(line: Lines, points: Maker) -> None:
    """A tracked point that becomes too faint to be born is still followed; one that never was known is not begun."""
    flight = line()
    for number in range(6):
        (item,) = flight.step(points([[100 + 3 * number, 200]]))
    for number in range(6, 10):
        seen = points([[100 + 3 * number, 200], [400, 300]])
        objects = flight.step(replace(seen, faint=np.array([True, True])))
    assert [(each.id, each.state) for each in objects] == [(item.id, CONFIRMED)]


def test_empty_frames_are_ordinary(line: Lines, points: Maker) -> None:
    flight = line()
    for _ in range(3):
        assert flight.step(points([])) == ()
    assert len(flight.step(points([[50, 50]]))) == 1


# Coasting and loss


def test_a_missed_frame_is_bridged(line: Lines, squares: Maker) -> None:
    flight = line()
    (before,) = fly(flight, squares, 6)
    (missed,) = flight.step(squares([], size=WIDE))
    assert (missed.id, missed.state, missed.reported) == (before.id, COASTING, True)
    assert missed.last_seen_ns == before.last_seen_ns
    assert missed.mask is not None  # Its last outline, 4 px on: 11 px across, around the expected centroid.
    rows, columns = np.nonzero(missed.mask.numpy())
    assert missed.mask.sum() == 121
    np.testing.assert_allclose([columns.mean(), rows.mean()], missed.centroid_px, atol=0.5)
    np.testing.assert_allclose(missed.centroid_px, (44, 60), atol=1.0)
    np.testing.assert_allclose(missed.bbox_xywh_px[:2] + 5, missed.centroid_px, atol=1.0)
    assert missed.existence_probability < before.existence_probability
    assert np.linalg.det(missed.centroid_covariance) > np.linalg.det(before.centroid_covariance)
    (after,) = fly(flight, squares, 1)
    assert (after.id, after.state) == (before.id, CONFIRMED)


def test_an_object_absent_too_long_is_lost_once(line: Lines, squares: Maker) -> None:
    """1.5 s without a sighting are fifteen frames of 0.1 s; in the sixteenth it is lost, and then never told again."""
    flight = line(max_coast_s=1.5)
    (before,) = fly(flight, squares, 6)
    history = [flight.step(squares([], size=WIDE)) for _ in range(20)]
    states = [[(item.id, item.state) for item in objects] for objects in history]
    assert states == [[(before.id, COASTING)]] * 15 + [[(before.id, LOST)]] + [[]] * 4
    assert not reported(history[-5])


def test_coasting_ends_where_the_image_ends(line: Lines, squares: Maker) -> None:
    """At 100 px/s from x = 150 of 160: the next frame is outside."""
    flight = line()
    for number in range(6):
        (item,) = flight.step(squares([[100 + 10 * number, 60]]))
    ended = [flight.step(squares([])) for _ in range(3)]
    assert [each.state for objects in ended for each in objects if each.id == item.id][-1] == LOST
    assert ended[-1] == ()


@pytest.mark.parametrize("max_coast_s", [1.5, 60.0])
def test_nothing_survives_a_long_gap(line: Lines, squares: Maker, max_coast_s: float) -> None:
    """What is seen where the object would be 10 s later is somebody else, however long objects may coast."""
    flight = line(max_coast_s=max_coast_s)
    (before,) = fly(flight, squares, 6)
    objects = flight.step(squares([[44, 60]], size=WIDE), dt_s=10.0)
    assert {item.id: item.state for item in objects}[before.id] == LOST
    (fresh,) = [item for item in objects if item.id != before.id]
    assert fresh.state == TENTATIVE and not fresh.moving
    np.testing.assert_allclose(fresh.velocity_px_s, 0, atol=1e-9)
    assert fresh.first_seen_ns == round(flight.stamp_s * 1e9)
    (later,) = flight.step(squares([[48, 60]], size=WIDE))
    assert later.id == fresh.id


# What does not move


@pytest.mark.parametrize("dt_s", [0.1, 0.5])
@pytest.mark.parametrize(
    ("homography", "side_px"),
    [(SHIFT, 31), (SLOW_SHIFT, 11), (rotation_homography(CAMERA, Rotation.from_rotvec([0.002, 0.004, 0.01])), 31)],
    ids=["shift", "slow", "rotation"],
)
def test_what_is_fixed_on_the_detector_is_never_reported(
    line: Lines, points: Maker, squares: Maker, homography: np.ndarray, side_px: int, dt_s: float
) -> None:
    """30 hot pixels with noise as stated, and a ghost of the optics, under a sky that moves over them."""
    rng = np.random.default_rng(7)
    places = np.stack(np.meshgrid(np.arange(6), np.arange(5)), axis=-1).reshape(-1, 2) * 90.0 + 70
    hot, ghost = line(), line()
    for number in range(40):
        objects = hot.step(points(places + rng.normal(0, 0.1, places.shape)), dt_s, homography)
        assert not reported(objects), f"a hot pixel is reported in frame {number}"
        seen = replace(squares([[200, 200]], side_px, (480, 640)), fixed_priors=np.array([0.1]))
        objects = ghost.step(seen, dt_s, homography)
        assert not reported(objects), f"a ghost is reported in frame {number}"
    assert len(objects) == 1 and objects[0].state == CONFIRMED  # Followed, and known not to move.


@pytest.mark.parametrize("layer", ["stars", "ground"])
def test_what_rests_among_the_background_does_not_move(line: Lines, points: Maker, layer: str) -> None:
    """40 objects that go along with a turning sky, or with the ground before it, measured to 0.2 px as stated.

    At most 1 % of the judgements may be false, as the settings say, and none is reported for ten frames in a row.
    """
    rng, flight = np.random.default_rng(2), line(moving_false_alarm=0.01)
    sky = rotation_homography(CAMERA, Rotation.from_rotvec([0.001, 0.002, 0.005]))
    ground = np.array([[1.002, 0, -3], [0.001, 1.001, 1.5], [0, 0, 1]])
    carries = {"stars": sky, "ground": ground}[layer]
    places = np.stack(np.meshgrid(np.arange(8), np.arange(5)), axis=-1).reshape(-1, 2) * 55.0 + 120
    alarms, judged = 0, 0
    for _ in range(35):
        objects = flight.step(
            points(places + rng.normal(0, 0.2, places.shape), sigma_px=0.2), homography=sky, ground=ground
        )
        alarms, judged = alarms + sum(item.moving for item in objects), judged + len(objects)
        places = apply_homography(carries, places)
    assert judged >= 40 * 30 and alarms <= 0.01 * judged
    assert sum(item.state == CONFIRMED for item in objects) >= 38


def test_a_mask_at_exact_rest_never_moves(line: Lines, squares: Maker) -> None:
    flight = line()
    for _ in range(40):
        (item,) = flight.step(squares([[80, 60]], moving_share=0.0))
        assert not item.moving
    assert item.state == CONFIRMED and np.linalg.norm(item.velocity_px_s) < 0.1


def test_motion_is_not_judged_while_the_background_is_unknown(line: Lines, squares: Maker) -> None:
    flight = line()
    for number in range(6):
        assert not reported(flight.step(squares([[20 + 4 * number, 60]]), valid=False))


# Identity


def test_crossing_points_keep_their_identities(line: Lines, points: Maker) -> None:
    """They pass each other at 2 px with 80 px/s against each other."""
    rng, flight, ids = np.random.default_rng(4), line(), []
    for number in range(40):
        right, left = np.array([200 + 4.0 * number, 100]), np.array([356 - 4.0 * number, 102 + 0.1 * number])
        objects = flight.step(points(np.stack([right, left]) + rng.normal(0, 0.1, (2, 2))))
        if number >= 5 and np.linalg.norm(right - left) > 5:
            ids.append((near(objects, right, 2.0).id, near(objects, left, 2.0).id))
    assert len(set(ids)) == 1 and ids[0][0] != ids[0][1]


def test_identity_and_velocity_survive_the_cameras_rotation(line: Lines, points: Maker) -> None:
    """The camera yaws, pitches and rolls by up to 35 px a frame; three sources stand, one flies 50 px/s among them."""
    flight, turn = line(CAMERA), Rotation.from_rotvec([0.004, 0.015, 0.02])
    homography = rotation_homography(CAMERA, turn)
    standing = np.array([[500.0, 100], [520, 300], [420, 220]])
    mover, velocity, ids = np.array([450.0, 150]), np.array([-30.0, 40]), set()
    for number in range(10):
        if number:
            standing = apply_homography(homography, standing)
            end = apply_homography(homography, np.stack([mover + 0.1 * velocity, mover + 0.101 * velocity]))
            mover, velocity = end[0], (end[1] - end[0]) / 0.001
        objects = flight.step(points(np.concatenate([standing, mover[None]]), sigma_px=0.1), homography=homography)
        item = near(objects, mover)
        ids.add(item.id)
    assert len(ids) == 1
    assert [other.id for other in reported(objects)] == [item.id]
    np.testing.assert_allclose(item.velocity_px_s, velocity, atol=1.0)


def test_a_frame_without_descriptors_does_not_forget_them(line: Lines, squares: Maker) -> None:
    vector, flight = torch.tensor([[0.6, 0.8]]), line()
    for x in (20, 24, 28, 32, 36):
        flight.step(squares([[x, 60]], 17), vectors=vector)
    (coasting,) = flight.step(squares([]), vectors=torch.zeros((0, 0)))
    assert coasting.state == COASTING and coasting.descriptor is not None
    np.testing.assert_allclose(coasting.descriptor, vector[0], atol=1e-6)


# Velocity, errors and bearings


def test_errors_of_reported_objects_are_as_large_as_stated(line: Lines, points: Maker) -> None:
    """64 objects of 100 px/s and slower, stamps 0.05 to 0.3 s apart: 85 % of errors at least in the 95 % ellipse."""
    rng, flight = np.random.default_rng(5), line()
    places = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 500.0 + 300
    velocities = rng.normal(0, 30, (64, 2))
    for number in range(16):
        dt_s = rng.uniform(0.05, 0.3)
        if number:
            push = rng.normal(0, 0.9, (64, 2))
            places, velocities = places + dt_s * velocities + dt_s**2 / 2 * push, velocities + dt_s * push
        objects = flight.step(points(places + rng.normal(0, 0.15, places.shape), (4400, 4400), 0.15), dt_s)
    inside = {"centroid": [], "velocity": []}
    for place, velocity in zip(places, velocities, strict=True):
        item = near(objects, place)
        for name, error in (("centroid", item.centroid_px - place), ("velocity", item.velocity_px_s - velocity)):
            spread = getattr(item, f"{name}_covariance")
            inside[name].append(error @ np.linalg.solve(spread, error) < chi2.ppf(0.95, 2))
    assert len(reported(objects)) >= 60
    assert np.mean(inside["centroid"]) >= 0.85 and np.mean(inside["velocity"]) >= 0.85


def test_apparent_velocity_holds_the_cameras_motion(line: Lines, points: Maker) -> None:
    """The background runs 30 px/s to the left; the object runs 20 px/s to the right against it."""
    flight, left = line(), np.array([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])
    for number in range(14):
        (item,) = flight.step(points([[300 - number, 200]], sigma_px=0.05), homography=left)
    np.testing.assert_allclose(item.velocity_px_s, (20, 0), atol=0.2)
    np.testing.assert_allclose(item.apparent_velocity_px_s, (-10, 0), atol=0.2)


@pytest.mark.parametrize("turn_rad_s", [(0, 0, 0), (0.02, -0.02, 0.1)])
def test_bearing_rate_is_that_of_geometry(line: Lines, points: Maker, turn_rad_s: tuple[float, ...]) -> None:
    """A direction runs along a great circle at 25 mrad/s in N, while the camera turns: 2 % of that."""
    flight, rate = line(CAMERA), 0.025
    start, axis = np.array([-0.06, 0.03, 1]) / np.linalg.norm([-0.06, 0.03, 1]), np.array([0.2, 1, 0])
    axis -= (axis @ start) * start
    axis /= np.linalg.norm(axis)
    homography = rotation_homography(CAMERA, Rotation.from_rotvec(0.1 * np.array(turn_rad_s)).inv())
    for number in range(31):
        R_CN = Rotation.from_rotvec(0.1 * number * np.array(turn_rad_s)).inv()
        bearing_N = Rotation.from_rotvec(rate * 0.1 * number * axis).apply(start)
        place = CAMERA.project(R_CN.apply(bearing_N)[None])
        assert 0 < place[0, 0] < 639 and 0 < place[0, 1] < 479, "the test's object leaves the view"
        (item,) = flight.step(points(place, sigma_px=0.05), homography=homography)
    truth_C = R_CN.apply(rate * np.cross(axis, bearing_N))
    assert item.bearing is not None and item.bearing_rate_rad_s is not None
    np.testing.assert_allclose(item.bearing, R_CN.apply(bearing_N), atol=0.2 / CAMERA.matrix[0, 0])
    assert np.linalg.norm(item.bearing_rate_rad_s - truth_C) < 0.02 * rate
    assert abs(item.bearing_rate_rad_s @ item.bearing) < 1e-3 * rate  # A unit vector turns across itself.
    assert item.bearing_covariance is not None and item.bearing_rate_covariance is not None
    sigma = np.sqrt(np.linalg.eigvalsh(item.bearing_covariance)[1:])  # The first is that along the line of sight: 0.
    expected = np.sqrt(np.linalg.eigvalsh(item.centroid_covariance)) / CAMERA.matrix[0, 0]
    np.testing.assert_allclose(sigma, expected, rtol=0.05)


def test_without_intrinsics_there_is_no_bearing(line: Lines, points: Maker) -> None:
    (item,) = line().step(points([[100, 100]]))
    assert item.bearing is None and item.bearing_covariance is None
    assert item.bearing_rate_rad_s is None and item.bearing_rate_covariance is None


# What the early stages are told


def test_predictions_lead_to_the_next_frame(line: Lines, squares: Maker, points: Maker) -> None:
    """40 px/s through a sky that shifts by (3, -2) px: 7 px right and 2 px up in 0.1 s, and the box with it."""
    flight = line()
    for number in range(8):
        flight.step(squares([[20 + 7 * number, 90 - 2 * number]]), homography=SHIFT)
    predictions = flight.tracker.predict(flight.background)
    np.testing.assert_allclose(predictions.states[0], [20 + 7 * 8, 90 - 2 * 8, 40, 0], atol=1.0)
    np.testing.assert_allclose(predictions.boxes_xywh_px[0], [71, 69, 11, 11], atol=1.0)
    assert predictions.believed[0] and predictions.resolved[0] and predictions.segment_rows.tolist() == [0]
    expected, far = np.array([76.0, 74.0]), np.array([100.0, 74.0])
    assert flight.tracker.claims(predictions, np.stack([expected, far])).tolist() == [True, False]
    assert flight.tracker.claims(predictions, np.zeros((0, 2))).shape == (0,)


def test_moving_masks_are_those_of_moving_objects_alone(line: Lines, squares: Maker) -> None:
    flight = line()
    for number in range(8):
        found = squares([[30 + 4 * number, 60], [130, 60]])
        flight.step(found)
    moving = flight.tracker.moving_masks(found)
    np.testing.assert_array_equal(moving, found.masks[0])
    resting = line()
    for _ in range(8):
        resting.step(squares([[130, 60]]))
    assert resting.tracker.moving_masks(squares([[130, 60]])) is None
