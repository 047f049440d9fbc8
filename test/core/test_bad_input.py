"""Input that is wrong or changes in mid-stream: intrinsics, image sizes, NaN, and what a sensor makes up.

Elsewhere: stamps and attitudes that the line refuses, frames of one brightness, gaps in time (test_pipeline.py); counts
of refused frames (test_media_outputs.py); malformed images (test_media_images.py); single flashes as segments
(test_tracking.py); spikes of single pixels (test_sky.py); objects that must not be asked for (test_pointing.py).
"""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from sparsematch_ros.kinematics import apply_homography

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import Config, PointingConfig
from sparsematch_ros.data import NANOSECONDS, Frame, FrameResult, ObjectState, SpaceObject
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.images import camera_from_info
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.pointing.decision import Code, Decision, Policy, Situation, decide
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.simulation.camera_specs import FaultsSpec
from sparsematch_ros.simulation.faults import SensorFaults
from sparsematch_ros.simulation.stars import add_spots

WIDTH, HEIGHT, DT_S = 320, 240, 0.2
CAMERA = CameraModel.from_fov(WIDTH, HEIGHT, 10.0)
TURN_RAD_S = np.radians([0.1, 0.17, 0.8])
MOVER_PX_S = 25.0
LOST = ObjectState.LOST


@pytest.fixture
def pipeline(blob_sam: PromptedSam) -> Iterator[Pipeline]:
    """Give a line on one thread: several wait for each other on a busy machine, for forty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Pipeline(Config(), Models(blob_sam, None))
    torch.set_num_threads(threads)


class Flight:
    """A noisy sky before a camera that turns, and in it a bright point that crosses the stars at 25 px/s."""

    def __init__(self, mover: bool = True, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        field_px = self.rng.uniform((-120, -120), (440, 360), (150, 2))
        self.stars_N = CAMERA.bearings(field_px[np.abs(field_px[:, 1] - 120) > 12])
        self.fluxes = 10 ** self.rng.uniform(1.9, 3.2, len(self.stars_N))
        self.mover = mover

    def attitude(self, number: int) -> Rotation:
        """Give R_NC of a frame."""
        return Rotation.from_rotvec(DT_S * number * TURN_RAD_S)

    def place(self, number: int, camera: CameraModel = CAMERA) -> np.ndarray:
        """Give the mover's true place `(2,)` in the pixels of a camera."""
        mover_N = CAMERA.bearings(np.array([[90 + MOVER_PX_S * DT_S * number, 120.0]]))
        return camera.project(self.attitude(number).inv().apply(mover_N))[0]

    def levels(self, number: int, camera: CameraModel = CAMERA) -> np.ndarray:
        """Draw a frame in grey levels, `(height, width, 3)`."""
        image = np.full((camera.height, camera.width, 3), 6.0, dtype=np.float32)
        places = camera.project(self.attitude(number).inv().apply(self.stars_N))
        add_spots(image, places, np.repeat(self.fluxes[:, None], 3, axis=1), 1.1)
        if self.mover:
            add_spots(image, self.place(number, camera)[None], np.full((1, 3), 600.0), 1.1)
        return image + self.rng.normal(0, 1.2, image.shape[:2])[..., None]

    def frame(self, number: int, camera: CameraModel = CAMERA, attitude: bool = False) -> Frame:
        q_NC = self.attitude(number).as_quat() if attitude else None
        return as_frame(self.levels(number, camera), number, camera, q_NC)


def as_frame(
    levels: np.ndarray, number: int, camera: CameraModel | None = CAMERA, q_NC: np.ndarray | None = None
) -> Frame:
    image = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Frame(number, round(DT_S * number * NANOSECONDS), image, camera, q_NC)


def reported(result: FrameResult) -> list[SpaceObject]:
    return [item for item in result.objects if item.reported]


def check_numbers(result: FrameResult) -> None:
    """Check that everything which is said is a number: None alone is unknown."""
    for item in result.objects:
        for value in vars(item).values():
            if isinstance(value, (float, np.ndarray)):
                assert np.isfinite(value).all()
    for name in ("displacement_px", "velocity_px_s", "velocity_covariance", "bidirectional"):
        assert np.isfinite(getattr(result.matches, name)).all()
    assert np.isfinite(result.motion.homography).all()


# Intrinsics that change


def zoomed(factor: float) -> CameraModel:
    matrix = CAMERA.matrix.copy()
    matrix[[0, 1], [0, 1]] *= factor
    return CameraModel(WIDTH, HEIGHT, matrix)


@pytest.mark.parametrize("attitude", [False, True])
@pytest.mark.parametrize("factor", [1.02, 1.3])
def test_changed_intrinsics_count_from_their_frame_on(pipeline: Pipeline, attitude: bool, factor: float) -> None:
    """The lens zooms in frame 10. Between the two cameras, pixels alone give the motion: true to 0.5 px, where a
    rotation in either camera would miss the corners by 3 px and by 50. The object stays the same and is where it is."""
    flight, new = Flight(), zoomed(factor)
    corners = np.array([[0.0, 0], [WIDTH - 1, 0], [0, HEIGHT - 1], [WIDTH - 1, HEIGHT - 1]])
    identities = set()
    for number in range(20):
        camera = new if number >= 10 else CAMERA
        result = pipeline.process(flight.frame(number, camera, attitude))
        check_numbers(result)
        assert number == 0 or result.motion.method == ("telemetry" if attitude and number != 10 else "stars")
        if number == 10:
            turned = (flight.attitude(10).inv() * flight.attitude(9)).apply(CAMERA.bearings(corners))
            moved = apply_homography(result.motion.homography, corners)
            np.testing.assert_allclose(moved, new.project(turned), atol=0.5)
        for item in reported(result):
            identities.add(item.id)
            np.testing.assert_allclose(item.centroid_px, flight.place(number, camera), atol=0.6)
            np.testing.assert_allclose(item.bearing, camera.bearings(item.centroid_px[None])[0], atol=1e-12)
    (item,) = reported(result)
    assert len(identities) == 1
    # The same bearing rate as before, and what it is in pixels of the new camera.
    np.testing.assert_allclose(np.linalg.norm(item.bearing_rate_rad_s), MOVER_PX_S / CAMERA.matrix[0, 0], rtol=0.06)
    np.testing.assert_allclose(np.linalg.norm(item.velocity_px_s), factor * MOVER_PX_S, rtol=0.06)


def test_texture_is_followed_from_one_camera_to_the_other(pipeline: Pipeline) -> None:
    """A bright scene, enlarged by 3 % about the middle of the image."""
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (HEIGHT, WIDTH)), (0, 0), 2)
    scene = (120 + 25 * noise / noise.std()).astype(np.float32)
    middle = (np.array([WIDTH, HEIGHT]) - 1) / 2
    enlarged = np.array([[1.03, 0, -0.03 * middle[0]], [0, 1.03, -0.03 * middle[1]]])
    after = cv2.warpAffine(scene, enlarged, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    pipeline.process(as_frame(np.repeat(scene[..., None], 3, axis=2), 0))
    motion = pipeline.process(as_frame(np.repeat(after[..., None], 3, axis=2), 1, zoomed(1.03))).motion
    assert motion.valid and motion.method == "features" and motion.residual is None
    corners = np.array([[0.0, 0], [WIDTH - 1, HEIGHT - 1]])
    np.testing.assert_allclose(
        apply_homography(motion.homography, corners), corners @ enlarged[:, :2].T + enlarged[:, 2], atol=0.3
    )


def test_a_change_that_nothing_follows_is_said_and_nothing_jumps(pipeline: Pipeline) -> None:
    """With the intrinsics the whole view changes: no motion is found, and no identity goes over to the new view."""
    first, second = Flight(), Flight(seed=8)
    for number in range(10):
        before = pipeline.process(first.frame(number))
    (mover,) = reported(before)
    for number in range(10, 20):
        result = pipeline.process(second.frame(number, zoomed(1.5)))
        check_numbers(result)
        assert result.motion.valid == (number > 10)
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


# Image sizes that change


def test_with_another_size_every_object_ends_once_and_the_line_starts_anew(pipeline: Pipeline) -> None:
    flight, small = Flight(), CAMERA.windowed(0, 0, 300, 220, (1, 1))
    for number in range(10):
        result = pipeline.process(flight.frame(number))
    alive = {item.id: item for item in result.objects if item.state != LOST}
    (mover,) = reported(result)
    assert mover.id in alive
    change = pipeline.process(flight.frame(10, small))
    check_numbers(change)
    ended = {item.id: item for item in change.objects if item.state == LOST}
    assert ended.keys() == alive.keys() and len(change.objects) == len({item.id for item in change.objects})
    for identity, item in ended.items():
        assert item.mask is None and item.bearing is None and item.bearing_rate_rad_s is None and not item.reported
        np.testing.assert_array_equal(item.centroid_px, alive[identity].centroid_px)
        assert item.last_seen_ns == alive[identity].last_seen_ns
    assert change.previous_stamp_ns is None and not change.motion.valid and len(change.matches) == 0
    for number in range(11, 20):
        result = pipeline.process(flight.frame(number, small))
        assert result.motion.valid and not alive.keys() & {item.id for item in result.objects}
    (again,) = reported(result)
    np.testing.assert_allclose(again.centroid_px, flight.place(19, small), atol=0.6)
    assert again.first_seen_ns >= change.frame.stamp_ns


def test_nothing_alive_ends_with_another_size(pipeline: Pipeline) -> None:
    dark = np.zeros((64, 64, 3))
    assert pipeline.process(as_frame(dark, 0, None)).objects == ()
    assert pipeline.process(as_frame(dark[:32], 1, None)).objects == ()


# NaN and absurd numbers


def info(**changes: object) -> SimpleNamespace:
    """Make a CameraInfo."""
    values = {
        "width": WIDTH, "height": HEIGHT, "distortion_model": "plumb_bob", "d": np.zeros(5), "binning_x": 0,
        "binning_y": 0, "k": CAMERA.matrix.ravel(), "r": np.eye(3).ravel(), "p": np.zeros(12),
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def with_number(array: np.ndarray, place: int, value: float) -> np.ndarray:
    changed = np.array(array, dtype=np.float64).ravel()
    changed[place] = value
    return changed


K = CAMERA.matrix.ravel()
ABSURD = [
    *[({"k": with_number(K, place, np.nan)}, "K must be 3x3 and finite") for place in range(9)],
    ({"k": with_number(K, 0, np.inf)}, "K must be 3x3 and finite"),
    ({"k": with_number(K, 4, -500.0)}, "must be positive"),
    ({"k": with_number(K, 8, 0.0)}, r"ends in \[0.0, 0.0, 0.0\]"),
    ({"k": with_number(with_number(K, 2, 1e308), 0, 1e-300)}, "no directions at the image's corners"),
    *[({"d": with_number(np.zeros(5), place, np.nan)}, "D must be finite") for place in range(5)],
    ({"d": np.full(3, 0.1)}, r"3 distortion coefficients: plumb_bob takes \(4, 5\)"),
    ({"d": np.full(5, 0.1), "distortion_model": "equidistant"}, "equidistant takes"),
]


@pytest.mark.parametrize(("changes", "words"), ABSURD)
def test_a_camera_info_with_such_numbers_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadFrameError, match=f"CameraInfo: .*{words}"):
        camera_from_info(info(**changes))


def test_rectification_is_not_read() -> None:
    """R and P belong to the rectified image; the one that comes here is not."""
    camera = camera_from_info(info(r=np.full(9, np.nan), p=np.full(12, np.nan)))
    assert camera is not None and camera.agrees_with(CAMERA)


def test_a_stream_with_bad_frames_in_between_stays_right(pipeline: Pipeline) -> None:
    """Every third frame is bad in one way or another; each is refused with its reason, and the object goes on."""
    flight, refused = Flight(), []
    nan = np.full(4, np.nan)
    for number in range(24):
        frame = flight.frame(number, attitude=True)
        bad = {
            2: replace(frame, q_NC_xyzw=nan),
            5: replace(frame, q_NC_xyzw=with_number(frame.q_NC_xyzw, 1, np.inf)),
            8: replace(frame, stamp_ns=frame.stamp_ns - round(DT_S * NANOSECONDS)),
            11: replace(frame, stamp_ns=-1),
            14: replace(frame, image=frame.image[:8, :8]),
            17: replace(frame, q_NC_xyzw=np.zeros(4)),
            20: replace(frame, stamp_ns=0),
        }.get(number)
        try:
            result = pipeline.process(bad or frame)
        except BadFrameError as error:
            refused.append((number, str(error)))
            continue
        assert bad is None
        check_numbers(result)
        assert number < 2 or result.motion.method == "telemetry"
        for item in reported(result):
            np.testing.assert_allclose(item.centroid_px, flight.place(number), atol=0.6)
    words = ("attitude", "attitude", "repeats", "goes back", "at least 16 px", "attitude", "goes back")
    assert [number for number, _ in refused] == list(range(2, 22, 3))
    assert all(word in reason for word, (_, reason) in zip(words, refused, strict=True))
    (item,) = reported(result)
    np.testing.assert_allclose(np.linalg.norm(item.velocity_px_s), MOVER_PX_S, rtol=0.05)


def target(**changes: object) -> SpaceObject:
    good = SpaceObject(
        id=UUID(int=7), state=ObjectState.CONFIRMED, moving=True, existence_probability=0.95,
        bbox_xywh_px=np.ones(4), centroid_px=np.ones(2), centroid_covariance=np.eye(2), area_px=20.0,
        velocity_px_s=np.ones(2), velocity_covariance=np.eye(2), apparent_velocity_px_s=np.ones(2),
        first_seen_ns=1, last_seen_ns=2, bearing=np.array([0.0, 0.6, 0.8]), bearing_covariance=np.eye(3) * 1e-6,
        bearing_rate_rad_s=np.array([0.01, 0.0, 0.0]), bearing_rate_covariance=np.eye(3) * 1e-8,
    )  # fmt: skip
    return replace(good, **changes)  # type: ignore[arg-type]


NUMBERS = ("centroid_px", "velocity_px_s", "bearing", "bearing_covariance", "bearing_rate_rad_s")
NEEDLESS = ("bbox_xywh_px", "area_px", "centroid_covariance", "apparent_velocity_px_s", "velocity_covariance")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*NUMBERS, *NEEDLESS])
def test_no_number_of_a_request_is_none(name: str, value: float) -> None:
    """A number that a request needs and is none refuses it; one that it does not need is not looked at."""
    good = getattr(target(), name)
    bad = value if np.ndim(good) == 0 else with_number(good, 0, value).reshape(np.shape(good))
    situation = Situation(
        stamp_ns=10**9, camera_frame="camera", objects=(target(**{name: bad}),), now_ns=10**9, enabled=True,
        q_NB_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
    )  # fmt: skip
    answer = decide(situation, Policy.from_config(PointingConfig()))
    if name in NUMBERS:
        assert (answer.code, answer.request) == (Code.BAD_INPUT, None)
        return
    assert answer.decision == Decision.SENT and answer.request is not None
    for number in vars(answer.request).values():
        if isinstance(number, (float, np.ndarray)):
            assert np.isfinite(number).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pipeline_takes_no_such_camera(value: float) -> None:
    with pytest.raises(SparsematchError, match="finite"):
        CameraModel(WIDTH, HEIGHT, with_number(K, 2, value).reshape(3, 3))


# What the sensor makes up


def test_hot_pixels_cosmic_rays_and_flashes_never_confirm(pipeline: Pipeline) -> None:
    """A camera that turns at 6 px/s against the stars: hot pixels run against them like movers. 60 hot pixels of up to
    the brightness of the brightest stars, 3 hits of particles and 2 flashes a frame, 50 frames: no object is believed.
    """
    flight = Flight(mover=False)
    spec = FaultsSpec(
        hot_pixels=60, hot_pixel_e=150.0, cosmic_rays=3.0, cosmic_ray_e=200.0, cosmic_ray_length_px=5.0,
        flashes=2.0, flash_e=900.0, flash_sigma_px=1.1,
    )  # fmt: skip
    faults = SensorFaults(spec, HEIGHT, WIDTH, seed=5)
    sources = 0
    for number in range(50):
        levels = flight.levels(number)
        faults.add_flashes(levels, DT_S * number)
        result = pipeline.process(as_frame(levels + faults.electrons(DT_S * number)[..., None], number))
        stars_px = CAMERA.project(flight.attitude(number).inv().apply(flight.stars_N))
        for item in result.objects:
            assert not item.reported, f"a fault is reported in frame {number}"
            # A star with a hot pixel beside it may become a thing at rest; a fault alone must not.
            star = np.linalg.norm(stars_px - item.centroid_px, axis=1).min() < 8
            assert star or item.state in (ObjectState.TENTATIVE, LOST), f"a fault is confirmed in frame {number}"
        assert number == 0 or result.motion.valid
        sources += len(result.segments)
    assert sources > 50, "the faults gave the tracker nothing to judge"
