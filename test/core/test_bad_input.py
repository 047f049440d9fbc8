"""Input that is wrong or changes in mid-stream: clocks, attitudes, intrinsics and image sizes.

Elsewhere: single stamps and attitudes that the line refuses, frames of one brightness, gaps (test_pipeline.py); bad
frames between good ones and faults of a sensor (test_bad_frames.py); NaN and absurd numbers in messages and requests
(test_bad_numbers.py); which stamps are used (test_clock.py); counts of refused frames (test_media_outputs.py);
malformed images (test_media_images.py).
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS, Frame, ObjectState
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.pipeline import Pipeline

WIDTH, HEIGHT, DT_S = 320, 240, 0.2
CAMERA = CameraModel.from_fov(WIDTH, HEIGHT, 10.0)
TURN_RAD_S = np.radians([0.1, 0.17, 0.8])
MOVER_PX_S = 25.0
LOST = ObjectState.LOST
DAY_NS = 86_400 * NANOSECONDS


def later(frame: Frame, by_ns: int) -> Frame:
    return replace(frame, stamp_ns=frame.stamp_ns + by_ns)


# Clocks


def test_a_frame_of_the_day_after_is_left_out(pipeline: Pipeline, sky: Any) -> None:
    """One stamp a day ahead is refused; the next frames continue what was before it."""
    flight, ids = sky(), set()
    for number in range(10):
        before = pipeline.process(flight.frame(number))
    (mover,) = sky.reported(before)
    ahead = flight.frame(10)
    with pytest.raises(BadFrameError, match=r"86400\.\d+ s ahead"):
        pipeline.process(later(ahead, DAY_NS))
    for number in range(11, 16):
        result = pipeline.process(flight.frame(number))
        assert result.restarted == "" and result.background.method == "stars"
        assert result.previous_stamp_ns == before.frame.stamp_ns
        ids |= {item.id for item in sky.reported(result)}
        before = result
    assert ids == {mover.id}
    np.testing.assert_allclose(sky.reported(result)[0].centroid_px, flight.place(15), atol=0.6)


def test_a_clock_that_is_set_back_starts_the_line_anew(pipeline: Pipeline, sky: Any) -> None:
    """From frame 10 on stamps are those of the day before: two frames are refused, with the third the line starts anew.

    It is 3 frames of 0.2 s after the last one that was used, so the clock went back by 0.6 s less than a day.
    """
    flight = sky()
    for number in range(10):
        old = pipeline.process(later(flight.frame(number), DAY_NS))
    alive = {item.id: item for item in old.objects if item.state != LOST}
    (mover,) = sky.reported(old)
    assert mover.id in alive and old.restarted == ""
    for number in (10, 11):
        with pytest.raises(BadFrameError, match="goes back"):
            pipeline.process(flight.frame(number))
    change = pipeline.process(flight.frame(12))
    sky.check_numbers(change)
    assert change.restarted == "the clock of the images was set back by 86399.400 s"
    assert change.previous_stamp_ns is None and not change.background.valid
    ended = {item.id: item for item in change.objects if item.state == LOST}
    assert ended.keys() == alive.keys()
    for identity, item in ended.items():
        assert item.mask is None and item.bearing is None and not item.reported
        assert item.last_seen_ns == alive[identity].last_seen_ns
    for number in range(13, 24):
        result = pipeline.process(flight.frame(number))
        assert result.restarted == "" and result.background.valid
        assert not alive.keys() & {item.id for item in result.objects}
    (again,) = sky.reported(result)
    np.testing.assert_allclose(again.centroid_px, flight.place(23), atol=0.6)


# Attitudes that are wrong


def test_the_attitude_of_another_camera_is_told_and_then_ignored(pipeline: Pipeline, sky: Any) -> None:
    """The other camera looks back, so it rolls the other way: by 0.32 deg a frame apart, 10 px at the focal length.

    Stars are believed from the first. After three contradictions in a row telemetry is ignored for good, and that is
    told with each frame. The object is where it would be without.
    """
    flight, mount = sky(), Rotation.from_euler("x", 180, degrees=True)
    told = []
    for number in range(24):
        frame = flight.frame(number)
        wrong = replace(frame, q_NC_xyzw=(flight.attitude(number) * mount).as_quat())
        result = pipeline.process(wrong)
        sky.check_numbers(result)
        if number:
            told.append(result.background.problem)
            assert result.background.method == "stars"
            shown = Rotation.from_quat(result.background.rotation_CP_xyzw)
            turn = flight.attitude(number).inv() * flight.attitude(number - 1)
            # Dozens of stars known to 0.2 px, 100 px from the middle, fix the roll to 3e-4 rad; the rest is surer.
            assert (shown * turn.inv()).magnitude() < 1e-3
            false = (mount.inv() * turn * mount * turn.inv()).magnitude()
            assert result.background.disagreement_rad == pytest.approx(false, abs=1e-3)
    assert all("telemetry and" in problem and "stars used" in problem for problem in told)
    assert ["ignored until it agrees again" in problem for problem in told] == [False] * 2 + [True] * 21
    (item,) = sky.reported(result)
    np.testing.assert_allclose(item.centroid_px, flight.place(23), atol=0.6)
    np.testing.assert_allclose(np.linalg.norm(item.velocity_px_s), MOVER_PX_S, rtol=0.05)


# Intrinsics that change


def zoomed(factor: float) -> CameraModel:
    matrix = CAMERA.matrix.copy()
    matrix[[0, 1], [0, 1]] *= factor
    return CameraModel(WIDTH, HEIGHT, matrix)


@pytest.mark.parametrize("attitude", [False, True])
@pytest.mark.parametrize("factor", [1.02, 1.3])
def test_changed_intrinsics_count_from_their_frame_on(
    pipeline: Pipeline, attitude: bool, factor: float, sky: Any
) -> None:
    """The lens zooms in frame 10. Between the two cameras, pixels alone give the motion: true to 0.5 px, where a
    rotation in either camera would miss the corners by 3 px and by 50. The object stays the same and is where it is."""
    flight, new = sky(), zoomed(factor)
    corners = np.array([[0.0, 0], [WIDTH - 1, 0], [0, HEIGHT - 1], [WIDTH - 1, HEIGHT - 1]])
    identities = set()
    for number in range(20):
        camera = new if number >= 10 else CAMERA
        result = pipeline.process(flight.frame(number, camera, attitude))
        sky.check_numbers(result)
        if number != 0:
            assert result.background.method == ("stars+telemetry" if attitude and number != 10 else "stars")
        if number == 10:
            turned = (flight.attitude(10).inv() * flight.attitude(9)).apply(CAMERA.bearings(corners))
            moved = apply_homography(result.background.homography, corners)
            np.testing.assert_allclose(moved, new.project(turned), atol=0.5)
        for item in sky.reported(result):
            identities.add(item.id)
            if result.background.valid:
                np.testing.assert_allclose(item.centroid_px, flight.place(number, camera), atol=0.6)
            np.testing.assert_allclose(item.bearing, camera.bearings(item.centroid_px[None])[0], atol=1e-12)
    (item,) = sky.reported(result)
    assert len(identities) == 1
    # The same bearing rate as before, and what it is in pixels of the new camera.
    np.testing.assert_allclose(np.linalg.norm(item.bearing_rate_rad_s), MOVER_PX_S / CAMERA.matrix[0, 0], rtol=0.06)
    np.testing.assert_allclose(np.linalg.norm(item.velocity_px_s), factor * MOVER_PX_S, rtol=0.06)


def test_texture_is_followed_from_one_camera_to_the_other(pipeline: Pipeline, sky: Any) -> None:
    """A bright scene, enlarged by 3 % about the middle of the image."""
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (HEIGHT, WIDTH)), (0, 0), 2)
    scene = (120 + 25 * noise / noise.std()).astype(np.float32)
    middle = (np.array([WIDTH, HEIGHT]) - 1) / 2
    enlarged = np.array([[1.03, 0, -0.03 * middle[0]], [0, 1.03, -0.03 * middle[1]]])
    after = cv2.warpAffine(scene, enlarged, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    pipeline.process(sky.as_frame(np.repeat(scene[..., None], 3, axis=2), 0))
    motion = pipeline.process(sky.as_frame(np.repeat(after[..., None], 3, axis=2), 1, zoomed(1.03))).background
    assert motion.valid and motion.method == "ground" and motion.rotation_CP_xyzw is None
    corners = np.array([[0.0, 0], [WIDTH - 1, HEIGHT - 1]])
    np.testing.assert_allclose(
        apply_homography(motion.homography, corners), corners @ enlarged[:, :2].T + enlarged[:, 2], atol=0.3
    )


def test_a_change_that_nothing_follows_is_said_and_nothing_jumps(pipeline: Pipeline, sky: Any) -> None:
    """With the intrinsics the whole view changes: no motion is found, and no identity goes over to the new view."""
    first, second = sky(), sky(mover=False, seed=8)
    for number in range(10):
        before = pipeline.process(first.frame(number))
    (mover,) = sky.reported(before)
    for number in range(10, 20):
        result = pipeline.process(second.frame(number, zoomed(1.5)))
        sky.check_numbers(result)
        assert result.background.valid == (number > 10)
        assert not [item for item in result.objects if item.id == mover.id and item.state == ObjectState.CONFIRMED]


def test_which_intrinsics_are_the_same() -> None:
    lens = np.array([-0.2, 0.05, 0.0, 0.0, 0.0])
    camera = CameraModel(WIDTH, HEIGHT, CAMERA.matrix, lens)
    assert camera.agrees_with(CameraModel(WIDTH, HEIGHT, CAMERA.matrix.copy(), lens.copy()))
    assert zoomed(1.0002).agrees_with(CAMERA)  # 0.04 px at the corners, 200 px from the middle.
    assert not zoomed(1.001).agrees_with(CAMERA)
    assert not camera.agrees_with(CAMERA)
    assert not CAMERA.agrees_with(CAMERA.windowed(10, 0, 0, 0, (1, 1)))
    assert not CAMERA.agrees_with(CameraModel(WIDTH + 1, HEIGHT, CAMERA.matrix))
    # A polynomial that folds back inside the image has no inverse there, and is still the same as itself.
    folded = CameraModel(640, 480, np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), np.array([-2.0, 0, 0, 0]))
    assert folded.agrees_with(folded)


@pytest.mark.parametrize("attitude", [False, True])
@pytest.mark.parametrize("optics", [False, True], ids=["only what is told changes", "the optics change"])
def test_intrinsics_that_change_in_every_frame(pipeline: Pipeline, optics: bool, attitude: bool, sky: Any) -> None:
    """A focal length that swings by 1 %, 2 px at the corners: the motion comes from the pixels, true to 0.5 px.

    No rotation is right in two cameras at once, so none is told. The object keeps its identity and its place.
    """
    flight, corners, identities = sky(), np.array([[0.0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1]]), set()
    cameras = [zoomed(1 + 0.01 * (number % 2)) for number in range(20)]
    shown = cameras if optics else [CAMERA] * len(cameras)
    for number, (told, real) in enumerate(zip(cameras, shown, strict=True)):
        result = pipeline.process(replace(flight.frame(number, real, attitude), camera=told))
        sky.check_numbers(result)
        if number:
            assert result.background.method == "stars" and result.background.rotation_CP_xyzw is None
            turn = flight.attitude(number).inv() * flight.attitude(number - 1)
            truth = real.project(turn.apply(shown[number - 1].bearings(corners)))
            moved = apply_homography(result.background.homography, corners)
            np.testing.assert_allclose(moved, truth, atol=0.5, err_msg=f"frame {number}")
        for item in sky.reported(result):
            identities.add(item.id)
            np.testing.assert_allclose(item.centroid_px, flight.place(number, real), atol=0.6)
    assert len(identities) == 1 and sky.reported(result)


# Image sizes that change


def test_with_another_size_every_object_ends_once_and_the_line_starts_anew(pipeline: Pipeline, sky: Any) -> None:
    flight, small = sky(), CAMERA.windowed(0, 0, 300, 220, (1, 1))
    for number in range(10):
        result = pipeline.process(flight.frame(number))
    alive = {item.id: item for item in result.objects if item.state != LOST}
    (mover,) = sky.reported(result)
    assert mover.id in alive
    change = pipeline.process(flight.frame(10, small))
    sky.check_numbers(change)
    ended = {item.id: item for item in change.objects if item.state == LOST}
    assert ended.keys() == alive.keys() and len(change.objects) == len({item.id for item in change.objects})
    for identity, item in ended.items():
        assert item.mask is None and item.bearing is None and item.bearing_rate_rad_s is None and not item.reported
        np.testing.assert_array_equal(item.centroid_px, alive[identity].centroid_px)
        assert item.last_seen_ns == alive[identity].last_seen_ns
    assert change.previous_stamp_ns is None and not change.background.valid and len(change.matches) == 0
    for number in range(11, 20):
        result = pipeline.process(flight.frame(number, small))
        assert result.background.valid and not alive.keys() & {item.id for item in result.objects}
    (again,) = sky.reported(result)
    np.testing.assert_allclose(again.centroid_px, flight.place(19, small), atol=0.6)
    assert again.first_seen_ns >= change.frame.stamp_ns


def test_nothing_alive_ends_with_another_size(pipeline: Pipeline, sky: Any) -> None:
    dark = np.zeros((64, 64, 3))
    assert pipeline.process(sky.as_frame(dark, 0, None)).objects == ()
    assert pipeline.process(sky.as_frame(dark[:32], 1, None)).objects == ()
