"""The background's motion from telemetry, stars and texture, against what made the images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sparsematch_ros.egomotion.estimator import EgoMotionEstimator
from sparsematch_ros.egomotion.residual import moving_regions
from sparsematch_ros.egomotion.rotation import relative_rotation, rotation_homography
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import EgoMotionConfig, SegmentationConfig
from sparsematch_ros.data import EgoMotion, Frame
from sparsematch_ros.errors import SparsematchError

SKY = Path(__file__).resolve().parents[3] / "shared" / "data" / "sky"
SIZE = (480, 640)
CAMERA = CameraModel.from_fov(640, 480, 20.0)
LENS = CameraModel(640, 480, CAMERA.matrix, np.array([-0.2, 0.05, 0.0005, -0.0004, 0.0]))


def grid(width: int = 640, height: int = 480) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, width - 1, 13), np.linspace(0, height - 1, 9))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def farthest_px(estimate: np.ndarray, truth: np.ndarray, points: np.ndarray) -> float:
    """Give the largest distance between where two homographies move points."""
    return float(np.linalg.norm(apply_homography(estimate, points) - apply_homography(truth, points), axis=1).max())


def frame(
    image: np.ndarray, stamp_s: float = 0.0, camera: CameraModel | None = None, q: np.ndarray | None = None
) -> Frame:
    return Frame(0, round(stamp_s * 1e9), np.repeat(image[..., None], 3, axis=2), camera, q)


def estimate(previous: Frame, current: Frame, last: EgoMotion | None = None, **settings: object) -> EgoMotion:
    skies = tuple(survey_sky(item.gray, SegmentationConfig(), 500) for item in (previous, current))
    return EgoMotionEstimator(EgoMotionConfig(**settings)).estimate(previous, current, skies, last)


# Rotations


@pytest.mark.parametrize("turn_deg", [(0, 0.9, 0), (-0.8, 0, 0), (0, 0, 3), (5, -8, 20)])
def test_rotation_moves_projected_bearings_exactly(turn_deg: tuple[float, float, float]) -> None:
    rotation_CP = Rotation.from_rotvec(turn_deg, degrees=True)
    truth = CAMERA.project(rotation_CP.apply(CAMERA.bearings(grid())))
    np.testing.assert_allclose(apply_homography(rotation_homography(CAMERA, rotation_CP), grid()), truth, atol=1e-8)


@pytest.mark.parametrize("turn_deg", [(0, 0.9, 0), (-0.8, 0, 0), (0, 0, 3), (0.5, -0.5, 1)])
def test_rotation_behind_a_distorting_lens_is_fitted(turn_deg: tuple[float, float, float]) -> None:
    """No homography is exact there: within half a pixel at the corners, 0.1 px at the median."""
    rotation_CP = Rotation.from_rotvec(turn_deg, degrees=True)
    truth = LENS.project(rotation_CP.apply(LENS.bearings(grid())))
    error = np.linalg.norm(apply_homography(rotation_homography(LENS, rotation_CP), grid()) - truth, axis=1)
    assert error.max() < 0.5 and np.median(error) < 0.1


def test_views_that_share_nothing_are_refused() -> None:
    with pytest.raises(SparsematchError, match=r"180\.0 deg"):
        rotation_homography(LENS, Rotation.from_rotvec([0, 180, 0], degrees=True))


# Telemetry


def test_attitude_gives_the_exact_motion() -> None:
    """A direction fixed in N is seen where the homography says, whatever the images show."""
    R_NP = Rotation.from_euler("zyx", [30, 40, -50], degrees=True)
    R_NC = R_NP * Rotation.from_rotvec([0.01, -0.012, 0.03])
    black = np.zeros(SIZE, np.uint8)
    motion = estimate(frame(black, 0, CAMERA, R_NP.as_quat()), frame(black, 0.2, CAMERA, -R_NC.as_quat()))
    assert (motion.valid, motion.method, motion.dt_s) == (True, "telemetry", pytest.approx(0.2))
    stars_N = R_NP.apply(CAMERA.bearings(grid()))
    seen = CAMERA.project(R_NC.inv().apply(stars_N))
    np.testing.assert_allclose(apply_homography(motion.homography, grid()), seen, atol=1e-8)
    np.testing.assert_allclose(
        relative_rotation(R_NP.as_quat(), R_NC.as_quat()).as_matrix(), (R_NC.inv() * R_NP).as_matrix(), atol=1e-12
    )


def test_attitude_is_left_aside_when_told_so_or_without_intrinsics() -> None:
    black, q = np.zeros(SIZE, np.uint8), np.array([0, 0, 0, 1.0])
    assert not estimate(frame(black, 0, CAMERA, q), frame(black, 0.2, CAMERA, q), telemetry=False).valid
    assert not estimate(frame(black, 0, None, q), frame(black, 0.2, None, q)).valid
    assert not estimate(frame(black, 0, CAMERA, None), frame(black, 0.2, CAMERA, q)).valid


@pytest.mark.parametrize("camera", [CAMERA, LENS])
@pytest.mark.parametrize("turn_deg", [30.0, 60.0, 89.0, 90.0, 91.0, 120.0, 180.0])
def test_a_turn_beyond_the_view_leaves_nothing_in_it(camera: CameraModel, turn_deg: float) -> None:
    """Nothing that the one frame shows is expected in the other: it moves out, or the motion is not known; no error."""
    black, turned = np.zeros(SIZE, np.uint8), Rotation.from_rotvec([0, turn_deg, 0], degrees=True).as_quat()
    motion = estimate(frame(black, 0, camera, np.array([0, 0, 0, 1.0])), frame(black, 1, camera, turned))
    if motion.valid:
        places = apply_homography(motion.homography, grid())
        assert ((places < 0) | (places > (639, 479))).any(axis=1).all()
    else:
        np.testing.assert_array_equal(motion.homography, np.eye(3))
    assert motion.valid == (turn_deg < 95)


# Stars


def render_stars(places: np.ndarray, fluxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw Gaussian spots of 1.1 px sigma on a sky of 8 grey levels with 1.5 levels of noise."""
    levels = rng.normal(8, 1.5, SIZE)
    for (x, y), flux in zip(places, fluxes, strict=True):
        if 4 < x < SIZE[1] - 5 and 4 < y < SIZE[0] - 5:
            columns, rows = int(x) + np.arange(-4, 6), int(y) + np.arange(-4, 6)
            spot = np.exp(-((columns - x) ** 2)[None] / 2.42) * np.exp(-((rows - y) ** 2)[:, None] / 2.42)
            levels[np.ix_(rows, columns)] += flux / (2 * np.pi * 1.21) * spot
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def star_pair(
    camera: CameraModel, rotation_CP: Rotation, seed: int, movers: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a star field before and after a rotation: some spots move on their own, one in five goes, as many come.

    Returns:
        Both images, and where the points of the grid are to go.

    """
    rng = np.random.default_rng(seed)
    before = rng.uniform(-40, (680, 520), (120, 2))
    fluxes = 10 ** rng.uniform(2.0, 3.4, len(before))
    after = camera.project(rotation_CP.apply(camera.bearings(before)))
    after[:movers] += rng.uniform(5, 15, (movers, 2)) * rng.choice([-1, 1], (movers, 2))
    gone = rng.random(len(before)) < 0.2
    after[gone] = rng.uniform(0, (640, 480), (int(gone.sum()), 2))
    truth = camera.project(rotation_CP.apply(camera.bearings(grid())))
    return render_stars(before, fluxes, rng), render_stars(after, fluxes, rng), truth


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (0, 0.9, 0), (-0.8, 0, 0), (0, 0, 1.5), (0.4, -0.6, 0.8), (0, 0, -3)])
def test_stars_give_the_rotation_to_a_tenth_of_a_pixel(turn_deg: tuple[float, float, float], seed: int) -> None:
    """Up to 30 px of shift or 3 degrees of roll; 120 stars in and around the view, ten movers, a fifth replaced."""
    before, after, truth = star_pair(CAMERA, Rotation.from_rotvec(turn_deg, degrees=True), seed)
    motion = estimate(frame(before, 0, CAMERA), frame(after, 0.2, CAMERA))
    assert motion.valid and motion.method == "stars"
    error = np.linalg.norm(apply_homography(motion.homography, grid()) - truth, axis=1)
    assert error.max() < 0.1
    assert motion.inliers >= 30 and motion.residual_px < 0.4


def test_stars_without_intrinsics_give_a_similarity() -> None:
    """5 px of shift, 1 degree of roll: perspective comes to 0.2 px in the corners, the fit's own error to 0.1."""
    before, after, truth = star_pair(CAMERA, Rotation.from_rotvec([0.1, 0.12, 1], degrees=True), 4)
    motion = estimate(frame(before), frame(after, 0.2))
    assert motion.valid and motion.method == "stars"
    assert np.linalg.norm(apply_homography(motion.homography, grid()) - truth, axis=1).max() < 0.3


def test_stars_are_found_where_the_past_expects_them() -> None:
    """100 px of yaw lie outside the search, but not beyond what the last motion lets expect."""
    turn = Rotation.from_rotvec([0, 3.1, 0], degrees=True)
    before, after, truth = star_pair(CAMERA, turn, 5)
    last = EgoMotion(rotation_homography(CAMERA, turn**0.5), "stars", True, dt_s=0.1)
    motion = estimate(frame(before, 0, CAMERA), frame(after, 0.2, CAMERA), last)
    assert motion.valid
    assert np.linalg.norm(apply_homography(motion.homography, grid()) - truth, axis=1).max() < 0.15


def test_faint_noise_does_not_outvote_the_stars() -> None:
    """30 stars and 400 chance sources in each frame, none of these shared: a fifth of a pixel still."""
    turn = Rotation.from_rotvec([0.1, 0.17, 0.5], degrees=True)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        stars = rng.uniform(20, (620, 460), (30, 2))
        skies = []
        for places in (stars, CAMERA.project(turn.apply(CAMERA.bearings(stars)))):
            points = np.concatenate([places + rng.normal(0, 0.1, places.shape), rng.uniform(0, (640, 480), (400, 2))])
            snr = np.concatenate([np.full(30, 12.0), np.full(400, 3.4)])
            lone = {"fluxes": 20 * snr, "sigmas_px": 1.6 / snr, "snr": snr, "extents_px": np.full(430, 3.0)}
            skies.append(Sky(dark=True, noise=1.0, points_px=points, **lone))
        black = np.zeros(SIZE, np.uint8)
        frames = frame(black, 0, CAMERA), frame(black, 0.2, CAMERA)
        motion = EgoMotionEstimator(EgoMotionConfig()).estimate(*frames, (skies[0], skies[1]), None)
        assert motion.valid
        assert farthest_px(motion.homography, rotation_homography(CAMERA, turn), grid()) < 0.2


def test_too_few_stars_say_nothing() -> None:
    rng = np.random.default_rng(0)
    places = np.array([[100.0, 100], [300, 200], [500, 400], [200, 350], [420, 90]])
    images = [render_stars(places + step, np.full(5, 2000.0), rng) for step in (0, 3)]
    motion = estimate(frame(images[0], 0, CAMERA), frame(images[1], 0.2, CAMERA))
    assert (motion.valid, motion.inliers, motion.dt_s) == (False, 0, pytest.approx(0.2))


def test_two_skies_without_a_common_star_say_nothing() -> None:
    rng = np.random.default_rng(1)
    images = [render_stars(rng.uniform(0, (640, 480), (25, 2)), np.full(25, 2000.0), rng) for _ in range(2)]
    assert not estimate(frame(images[0], 0, CAMERA), frame(images[1], 0.2, CAMERA)).valid


@pytest.mark.parametrize("level", [0, 8, 128, 255])
def test_even_frames_say_nothing(level: int) -> None:
    even = frame(np.full(SIZE, level, np.uint8), 0, CAMERA)
    motion = estimate(even, frame(even.gray, 0.1, CAMERA))
    assert not motion.valid
    np.testing.assert_array_equal(motion.homography, np.eye(3))


@pytest.mark.parametrize("name", ["starfield_alt40_azi-45.tiff", "starfield_alt60_azi45.tiff"])
@pytest.mark.parametrize("turn_deg", [(0.12, -0.2, 0), (-0.05, 0.1, 0.7)])
def test_real_stars_give_the_rotation(name: str, turn_deg: tuple[float, float, float]) -> None:
    """A real night sky turned by up to 20 px of shift, or 0.7 degrees of roll, with noise of its own: 0.1 px."""
    if not (SKY / name).is_file():
        pytest.skip(f"{SKY / name} is not there: the shared data came without it")
    levels = cv2.imread(str(SKY / name), cv2.IMREAD_UNCHANGED).astype(np.float32) * (255 / 65535)
    camera = CameraModel.from_fov(1024, 768, 11.4)
    rotation_CP = Rotation.from_rotvec(turn_deg, degrees=True)
    truth = camera.matrix @ rotation_CP.as_matrix() @ np.linalg.inv(camera.matrix)
    turned = cv2.warpPerspective(levels, truth, (1024, 768), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    rng = np.random.default_rng(0)
    noisy = [np.clip(np.round(item + rng.normal(0, 1.0, item.shape)), 0, 255) for item in (levels, turned)]
    motion = estimate(*(frame(item.astype(np.uint8), 0.1 * row, camera) for row, item in enumerate(noisy)))
    assert motion.valid and motion.method == "stars"
    assert farthest_px(motion.homography, truth, grid(1024, 768)) < 0.1


# Texture


def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Make a daylight picture with detail of every size from 2 px up, standard deviation 35 around 140."""
    total = np.zeros(shape)
    for sigma in (2, 5, 12, 30):
        layer = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigma)
        total += layer / layer.std()
    return np.clip(140 + 35 * total / total.std(), 0, 255)


def textured_pair(truth: np.ndarray, patch: tuple[int, int, int, int], shift: tuple[int, int]) -> list[np.ndarray]:
    """Draw a background under a homography, and a patch (x, y, w, h in the second image) that moves by more."""
    rng = np.random.default_rng(7)
    x, y, width, height = patch
    wide = texture((680, 840), rng)
    offset = np.array([[1.0, 0, -100], [0, 1, -100], [0, 0, 1]])
    images = [
        cv2.warpPerspective(wide, homography @ offset, (640, 480), flags=cv2.INTER_CUBIC)
        for homography in (np.eye(3), truth)
    ]
    middle = np.array([[x + width / 2, y + height / 2]])
    back = np.round(apply_homography(np.linalg.inv(truth), middle - shift)[0] - middle[0]).astype(int)
    object_ = np.clip(texture((height, width), rng) - 40, 0, 255)
    images[0][y + back[1] : y + back[1] + height, x + back[0] : x + back[0] + width] = object_
    images[1][y : y + height, x : x + width] = object_
    return [np.clip(np.round(image + rng.normal(0, 1, image.shape)), 0, 255).astype(np.uint8) for image in images]


TURN = np.array([[1.003, -0.012, 9.0], [0.012, 1.002, -6.0], [6e-6, -4e-6, 1]])


@pytest.mark.parametrize(("homography", "shift"), [(np.eye(3), (6, 3)), (TURN, (7, -4)), (TURN, (-5, 8))])
def test_texture_gives_background_and_what_moves_against_it(homography: np.ndarray, shift: tuple[int, int]) -> None:
    x, y, width, height = patch = (360, 200, 110, 90)
    before, after = textured_pair(homography, patch, shift)
    motion = estimate(frame(before), frame(after, 0.1))
    assert motion.valid and motion.method == "features" and motion.residual is not None
    assert farthest_px(motion.homography, homography, grid()) < 0.3
    assert motion.surroundings_px < 0.3

    scale = motion.residual.evidence.shape[1] / 640
    inner = np.s_[int((y + 15) * scale) : int((y + height - 15) * scale),
                  int((x + 15) * scale) : int((x + width - 15) * scale)]  # fmt: skip
    # The background that the patch uncovers is explained by nothing: 20 px around it are left out.
    far = np.ones(motion.residual.evidence.shape, dtype=bool)
    far[
        int((y - 20) * scale) : int((y + height + 20) * scale), int((x - 20) * scale) : int((x + width + 20) * scale)
    ] = 0
    assert motion.residual.evidence[inner].mean() > 0.5
    assert motion.residual.evidence[far].mean() < 0.02
    # Dense flow is smooth: across a patch as small as this it falls short by up to 30 %.
    flow = np.median(motion.residual.flow_px[inner], axis=(0, 1))
    assert np.linalg.norm(flow - shift) < 0.3 * np.hypot(*shift)

    regions = moving_regions(motion.residual, SIZE, 0.7 + 3 * motion.surroundings_px, 80.0, 6)
    left, top, right, bottom = regions.boxes_xyxy_px[0]
    shared = max(0, min(right, x + width) - max(left, x)) * max(0, min(bottom, y + height) - max(top, y))
    union = (right - left) * (bottom - top) + width * height - shared
    # What else is found is the skirt of the same flow, not another place.
    assert (regions.boxes_xyxy_px[:, :2] > (x - 20, y - 20)).all()
    assert (regions.boxes_xyxy_px[:, 2:] < (x + width + 20, y + height + 20)).all()
    assert shared / union > 0.5
    assert x <= regions.points_px[0, 0] <= x + width and y <= regions.points_px[0, 1] <= y + height
    assert regions.speeds_px[0] == pytest.approx(np.hypot(*shift), rel=0.3)


def test_texture_at_rest_moves_nowhere() -> None:
    before, after = textured_pair(TURN, (360, 200, 110, 90), (0, 0))
    motion = estimate(frame(before), frame(after, 0.1))
    assert motion.valid and motion.residual is not None
    assert motion.residual.evidence.mean() < 0.02
    regions = moving_regions(motion.residual, SIZE, 0.7 + 3 * motion.surroundings_px, 80.0, 6)
    assert regions.boxes_xyxy_px.shape == (0, 4) and regions.points_px.shape == (0, 2)


def test_two_scenes_without_common_texture_say_nothing() -> None:
    images = [texture(SIZE, np.random.default_rng(seed)).astype(np.uint8) for seed in (1, 2)]
    motion = estimate(frame(images[0]), frame(images[1], 0.1))
    assert not motion.valid and motion.residual is None


def test_a_change_from_dark_to_bright_says_nothing() -> None:
    dark, bright = np.full(SIZE, 5, np.uint8), texture(SIZE, np.random.default_rng(1)).astype(np.uint8)
    for before, after in ((dark, bright), (bright, dark)):
        assert not estimate(frame(before), frame(after, 0.1)).valid
