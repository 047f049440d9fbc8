"""Turns fitted to stars: their covariance, the focal length of an unknown lens, and telemetry held against them."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sparsematch_ros.egomotion.estimator import EgoMotionEstimator
from sparsematch_ros.egomotion.rotation import rotation_homography
from sparsematch_ros.egomotion.uncertainty import background_covariances_px2, fit_covariance, image_sigma_px
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import EgoMotionConfig, SegmentationConfig
from sparsematch_ros.data import EgoMotion, Frame

SIZE = (480, 640)
CAMERA = CameraModel.from_fov(640, 480, 20.0)
LENS = CameraModel(640, 480, CAMERA.matrix, np.array([-0.2, 0.05, 0.0005, -0.0004, 0.0]))
FOCAL_PX = float(CAMERA.matrix[0, 0])
SIGMA_PX = 0.05
CORNERS = np.array([[0, 0], [639, 0], [0, 479], [639, 479.0]])
TURN = Rotation.from_rotvec([0.12, -0.3, 0.5], degrees=True)


def frame(index: int, camera: CameraModel | None = None, q: np.ndarray | None = None) -> Frame:
    return Frame(index, index * 200_000_000, np.zeros((*SIZE, 3), np.uint8), camera, q)


def sky_of(points: np.ndarray, rng: np.random.Generator, promised_px: float = SIGMA_PX) -> Sky:
    """Survey stars `(S, 2)` with an error of SIGMA_PX an axis in each centroid; the image shows no others."""
    seen = points[((points > 0) & (points < np.array(SIZE[::-1]) - 1)).all(axis=1)]
    count = len(seen)
    return Sky(
        dark=True,
        noise=1.0,
        points_px=seen + rng.normal(0, SIGMA_PX, seen.shape),
        fluxes=np.full(count, 500.0),
        sigmas_px=np.full(count, promised_px),
        snr=np.full(count, 15.0),
        extents_px=np.full(count, 3.0),
    )


def stars(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform((-40, -40), (680, 520), (count, 2))


def moved(points: np.ndarray, rotation_CP: Rotation, camera: CameraModel = CAMERA) -> np.ndarray:
    return camera.project(rotation_CP.apply(camera.bearings(points)))


def farthest_px(homography: np.ndarray, rotation_CP: Rotation) -> float:
    """Give how far a corner of the image is from where a turn of CAMERA puts it, at most."""
    return float(np.linalg.norm(apply_homography(homography, CORNERS) - moved(CORNERS, rotation_CP), axis=1).max())


def shares_px(errors: np.ndarray, covariances: np.ndarray) -> float:
    """Give the mean of squared errors `(N, D)` over their covariances `(N, D, D)`; 1 is as promised."""
    inverse = np.linalg.inv(covariances)
    return float(np.einsum("ni,nij,nj->n", errors, inverse, errors).mean()) / errors.shape[1]


# Covariance


@pytest.mark.parametrize("promised_px", [SIGMA_PX, 0.02, 0.15])
@pytest.mark.parametrize("strays", [0, 12])
def test_turn_has_the_covariance_that_its_errors_show(promised_px: float, strays: int) -> None:
    """80 stars; centroids that promise too much or too little change nothing, nor do strays beside the stars."""
    rng = np.random.default_rng(0)
    errors, spreads, point_errors, point_spreads = [], [], [], []
    for _ in range(80):
        turn = Rotation.from_rotvec(rng.normal(0, (0.3, 0.3, 0.6)), degrees=True)
        before = stars(80, rng)
        after = moved(before, turn)
        after[:strays] += rng.uniform(0.5, 3, (strays, 2))
        skies = sky_of(before, rng, promised_px), sky_of(after, rng, promised_px)
        motion = EgoMotionEstimator(EgoMotionConfig()).estimate(frame(0, CAMERA), frame(1, CAMERA), skies, None)
        assert motion.valid and motion.rotation_covariance_rad2 is not None
        errors.append((turn * Rotation.from_quat(motion.rotation_CP_xyzw).inv()).as_rotvec())
        spreads.append(motion.rotation_covariance_rad2)
        point_errors.append(apply_homography(motion.homography, CORNERS[:1]) - moved(CORNERS[:1], turn))
        point_spreads.append(background_covariances_px2(motion, CORNERS[:1]))
    assert shares_px(np.stack(errors), np.stack(spreads)) == pytest.approx(1.0, abs=0.35)
    assert shares_px(np.concatenate(point_errors), np.concatenate(point_spreads)) == pytest.approx(1.0, abs=0.35)


def test_covariance_says_where_the_background_is_known_worst() -> None:
    """Stars on the left alone fix the right side least."""
    rng = np.random.default_rng(1)
    before = stars(150, rng)
    before = before[before[:, 0] < 250]
    skies = sky_of(before, rng), sky_of(moved(before, TURN), rng)
    motion = EgoMotionEstimator(EgoMotionConfig()).estimate(frame(0, CAMERA), frame(1, CAMERA), skies, None)
    sigmas = np.sqrt(np.trace(background_covariances_px2(motion, CORNERS), axis1=1, axis2=2))
    assert sigmas[[1, 3]].min() > 1.5 * sigmas[[0, 2]].max()


def test_no_motion_has_no_covariance() -> None:
    assert not background_covariances_px2(EgoMotion(), CORNERS).any()
    assert background_covariances_px2(EgoMotion(covariance=np.eye(9)), np.zeros((0, 2))).shape == (0, 2, 2)


def test_texture_has_the_covariance_that_its_errors_show() -> None:
    rng = np.random.default_rng(2)
    truth = np.array([[1.003, -0.012, 9.0], [0.012, 1.002, -6.0], [6e-6, -4e-6, 1]])
    errors, spreads = [], []
    for _ in range(150):
        before = rng.uniform((0, 0), (639, 479), (60, 2))
        after = apply_homography(truth, before) + rng.normal(0, 0.2, before.shape)
        fitted, _ = cv2.findHomography(before, after, 0)
        covariance = fit_covariance(fitted, before, after)
        assert covariance is not None
        errors.append(apply_homography(fitted, CORNERS[3:]) - apply_homography(truth, CORNERS[3:]))
        spreads.append(background_covariances_px2(EgoMotion(fitted, covariance=covariance), CORNERS[3:]))
    assert shares_px(np.concatenate(errors), np.concatenate(spreads)) == pytest.approx(1.0, abs=0.3)


def test_points_that_fix_no_background_are_told() -> None:
    """Four points leave nothing to judge by, a line and a heap in a corner fix nothing far away."""
    rng = np.random.default_rng(3)
    assert fit_covariance(np.eye(3), CORNERS, CORNERS) is None
    line = np.stack([np.linspace(0, 600, 30), np.full(30, 200.0)], axis=1)
    assert fit_covariance(np.eye(3), line, line + rng.normal(0, 0.1, line.shape)) is None
    spread = rng.uniform((0, 0), (639, 479), (30, 2))
    for points, known in ((spread, True), (spread / 20, False)):
        covariance = fit_covariance(np.eye(3), points, points + rng.normal(0, 0.2, points.shape))
        assert covariance is not None and (image_sigma_px(np.eye(3), covariance, SIZE) < 1.0) == known


# An unknown lens


def turning(frames: int, seed: int, camera: CameraModel = CAMERA) -> tuple[list[Sky], list[Rotation]]:
    """Survey 90 stars in and around the view of a camera that swings by up to 9 px a frame and rolls."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    swing = np.stack([0.02 * np.sin(time / 7), 0.03 * np.sin(time / 6), 0.05 * np.sin(time / 8)], axis=1)
    attitudes = [Rotation.from_rotvec(each) for each in swing]
    field = CAMERA.bearings(rng.uniform((-120, -120), (760, 600), (90, 2)))
    skies = [sky_of(camera.project(attitude.apply(field)), rng) for attitude in attitudes]
    return skies, [after * before.inv() for before, after in pairwise(attitudes)]


@pytest.mark.parametrize("seed", range(3))
def test_focal_length_is_learnt_from_turning(seed: int) -> None:
    """Perspective moves the corners by up to half a pixel; all frames are right to 0.1 px, the first included."""
    skies, turns = turning(25, seed)
    estimator, motion = EgoMotionEstimator(EgoMotionConfig()), None
    for index, turn in enumerate(turns):
        motion = estimator.estimate(frame(index), frame(index + 1), (skies[index], skies[index + 1]), motion)
        assert motion.valid and motion.rotation_CP_xyzw is None
        assert farthest_px(motion.homography, turn) < 0.1
    assert motion is not None and motion.focal is not None
    sigma = motion.focal.sigma / motion.focal.inverse_square / 2
    assert sigma < 0.08
    assert motion.focal.focal_px == pytest.approx(FOCAL_PX, rel=4 * sigma)


def test_focal_length_outlives_frames_without_stars() -> None:
    skies, turns = turning(10, 4)
    estimator, motion = EgoMotionEstimator(EgoMotionConfig()), None
    for index in range(8):
        motion = estimator.estimate(frame(index), frame(index + 1), (skies[index], skies[index + 1]), motion)
    assert motion is not None and motion.focal is not None
    empty = Sky(dark=True, noise=1.0)
    blind = estimator.estimate(frame(8), frame(9), (skies[8], empty), motion)
    assert not blind.valid and blind.focal == motion.focal
    again = estimator.estimate(frame(8), frame(9), (skies[8], skies[9]), blind)
    assert again.focal is not None and again.focal.sigma < 1.5 * motion.focal.sigma
    assert farthest_px(again.homography, turns[8]) < 0.1


def test_a_camera_at_rest_learns_nothing_of_its_lens() -> None:
    rng = np.random.default_rng(5)
    field = stars(80, rng)
    estimator, motion = EgoMotionEstimator(EgoMotionConfig()), None
    for index in range(40):
        motion = estimator.estimate(frame(index), frame(index + 1), (sky_of(field, rng), sky_of(field, rng)), motion)
        assert motion.valid and farthest_px(motion.homography, Rotation.identity()) < 0.1
    assert motion is not None and motion.focal is not None
    assert motion.focal.sigma > 0.3 * motion.focal.inverse_square


def test_an_unknown_lens_may_distort() -> None:
    """No lens without distortion explains it: half a pixel, and the motion is known all the same."""
    skies, turns = turning(12, 6, LENS)
    estimator, motion = EgoMotionEstimator(EgoMotionConfig()), None
    for index, turn in enumerate(turns):
        motion = estimator.estimate(frame(index), frame(index + 1), (skies[index], skies[index + 1]), motion)
        truth = LENS.project(turn.apply(LENS.bearings(CORNERS)))
        assert motion.valid
        assert np.linalg.norm(apply_homography(motion.homography, CORNERS) - truth, axis=1).max() < 0.5


def test_a_wide_view_is_followed_to_its_corners() -> None:
    """60 degrees and 35 px of yaw: perspective moves corners by 10 px, which no similarity follows."""
    camera = CameraModel.from_fov(640, 480, 60.0)
    rng = np.random.default_rng(7)
    turn = Rotation.from_rotvec([0, 0.063, 0.02])
    before = stars(120, rng)
    skies = sky_of(before, rng), sky_of(moved(before, turn, camera), rng)
    for given in (camera, None):
        motion = EgoMotionEstimator(EgoMotionConfig()).estimate(frame(0, given), frame(1, given), skies, None)
        error = apply_homography(motion.homography, CORNERS) - moved(CORNERS, turn, camera)
        assert motion.valid and np.linalg.norm(error, axis=1).max() < 0.2
        assert motion.inliers > 70


# Telemetry against stars


def told_and_shown(
    wrong: Rotation, count: int, swarm: int = 0, last: EgoMotion | None = None, camera: CameraModel = CAMERA
) -> EgoMotion:
    """Estimate a turn that stars show and telemetry tells with an error; a swarm drifts against the stars."""
    rng = np.random.default_rng(8)
    before, others = stars(count, rng), rng.uniform((50, 50), (590, 430), (swarm, 2))
    drift_px = np.array([6.0, -3.0])
    skies = [
        sky_of(np.concatenate(parts), rng)
        for parts in ((before, others), (moved(before, TURN, camera), moved(others, TURN, camera) + drift_px))
    ]
    q_NP = Rotation.from_euler("zyx", [30, 40, -50], degrees=True)
    q_NC = q_NP * (wrong * TURN).inv()
    frames = frame(0, camera, q_NP.as_quat()), frame(1, camera, q_NC.as_quat())
    return EgoMotionEstimator(EgoMotionConfig()).estimate(*frames, (skies[0], skies[1]), last)


def test_telemetry_that_stars_confirm_stays() -> None:
    """An error of 0.1 px lies within its covariance."""
    motion = told_and_shown(Rotation.from_rotvec([0, 0.1 / FOCAL_PX, 0]), 80)
    assert (motion.method, motion.problem) == ("telemetry", "")
    assert motion.disagreement_rad == pytest.approx(0.1 / FOCAL_PX, abs=0.1 / FOCAL_PX)


@pytest.mark.parametrize("error_px", [(0.0, 2.0), (-5.0, 3.0), (30.0, 10.0)])
def test_many_stars_are_believed_before_wrong_telemetry(error_px: tuple[float, float]) -> None:
    wrong = Rotation.from_rotvec(np.array([*error_px, 0.0]) / FOCAL_PX)
    motion = told_and_shown(wrong, 80)
    assert motion.valid and motion.method == "stars" and "stars believed" in motion.problem
    assert motion.disagreement_rad == pytest.approx(np.hypot(*error_px) / FOCAL_PX, rel=0.1)
    assert farthest_px(motion.homography, TURN) < 0.1


def test_telemetry_beyond_all_stars_is_told_by_the_past() -> None:
    """150 px off, stars are not found where telemetry leads; where they went so far, they are."""
    wrong = Rotation.from_rotvec([0.0, 150 / FOCAL_PX, 0.0])
    last = EgoMotion(rotation_homography(CAMERA, TURN), "stars", True, dt_s=0.2)
    motion = told_and_shown(wrong, 80, last=last)
    assert motion.method == "stars" and farthest_px(motion.homography, TURN) < 0.1
    assert motion.disagreement_rad == pytest.approx(150 / FOCAL_PX, rel=0.02)


def test_few_stars_do_not_overrule_telemetry() -> None:
    """The dozen that is in view shows a fault, which is told, and telemetry stays."""
    wrong = Rotation.from_rotvec([0.0, 3 / FOCAL_PX, 0.0])
    motion = told_and_shown(wrong, 14)
    assert motion.method == "telemetry" and "telemetry believed" in motion.problem
    assert motion.disagreement_rad == pytest.approx(3 / FOCAL_PX, rel=0.15)


def test_a_swarm_does_not_overrule_telemetry() -> None:
    """60 things that drift as one outnumber 25 stars, but telemetry and these stars tell the same."""
    motion = told_and_shown(Rotation.identity(), 30, swarm=60)
    assert motion.method == "telemetry" and farthest_px(motion.homography, TURN) < 1e-6


def test_without_stars_telemetry_is_not_checked() -> None:
    motion = told_and_shown(Rotation.from_rotvec([0.0, 5 / FOCAL_PX, 0.0]), 0)
    assert (motion.method, motion.problem) == ("telemetry", "") and np.isnan(motion.disagreement_rad)
    assert motion.covariance is not None and motion.rotation_covariance_rad2 is not None


def test_right_telemetry_is_hardly_ever_doubted() -> None:
    """50 skies, a lens that distorts: no false alarm."""
    for seed in range(50):
        rng = np.random.default_rng(100 + seed)
        turn = Rotation.from_rotvec(rng.normal(0, 0.3, 3), degrees=True)
        before = stars(60, rng)
        skies = sky_of(before, rng), sky_of(moved(before, turn, LENS), rng)
        frames = frame(0, LENS, np.array([0, 0, 0, 1.0])), frame(1, LENS, turn.inv().as_quat())
        motion = EgoMotionEstimator(EgoMotionConfig()).estimate(*frames, skies, None)
        assert motion.method == "telemetry" and not motion.problem and motion.disagreement_rad < 0.4 / FOCAL_PX


# Smear and limb


def drawn(places: np.ndarray, smear_px: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Draw stars of 1.1 px sigma that move by `smear_px` while the shutter is open, on a sky of 8 levels, 1.5 noise."""
    wide = np.zeros(SIZE, np.float32)
    for share in np.linspace(-0.5, 0.5, 9):
        for x, y in places + share * np.array(smear_px):
            if 5 < x < SIZE[1] - 6 and 5 < y < SIZE[0] - 6:
                column, row = int(x), int(y)
                step_x, step_y = np.arange(-4, 6) + column - x, np.arange(-4, 6) + row - y
                spot = np.exp(-(step_x**2)[None] / 2.42) * np.exp(-(step_y**2)[:, None] / 2.42)
                wide[row - 4 : row + 6, column - 4 : column + 6] += 120 / 9 * spot
    return np.clip(np.round(wide + rng.normal(8, 1.5, SIZE)), 0, 255).astype(np.uint8)


def estimate_drawn(images: list[np.ndarray], camera: CameraModel | None) -> EgoMotion:
    skies = [survey_sky(image, SegmentationConfig(), 500) for image in images]
    assert all(sky.dark for sky in skies)
    frames = [
        replace(frame(index, camera), image=np.repeat(image[..., None], 3, axis=2))
        for index, image in enumerate(images)
    ]
    return EgoMotionEstimator(EgoMotionConfig()).estimate(frames[0], frames[1], (skies[0], skies[1]), None)


@pytest.mark.parametrize("camera", [CAMERA, None])
@pytest.mark.parametrize("smear_px", [(4.0, 0.0), (3.0, 5.0)])
def test_smeared_stars_give_the_turn(smear_px: tuple[float, float], camera: CameraModel | None) -> None:
    """Streaks of 4 and 6 px: what the smear adds along itself is common to both frames."""
    rng = np.random.default_rng(9)
    before = stars(100, rng)
    images = [drawn(places, smear_px, rng) for places in (before, moved(before, TURN))]
    motion = estimate_drawn(images, camera)
    assert motion.valid and motion.method == "stars" and farthest_px(motion.homography, TURN) < 0.15


@pytest.mark.parametrize("camera", [CAMERA, None])
def test_a_limb_in_the_view_does_not_turn_the_stars(camera: CameraModel | None) -> None:
    """A bright planet over two fifths of the image, which moves by 8 px against the stars, with clouds on it."""
    rng = np.random.default_rng(10)
    before = stars(120, rng)
    clouds = cv2.GaussianBlur(rng.normal(0, 1, (1200, 1200)), (0, 0), 4)
    clouds = 150 + 40 * clouds / clouds.std()
    images = []
    for places, shift in ((before, 0), (moved(before, TURN), 8)):
        image = drawn(places, (0.0, 0.0), rng)
        planet = cv2.circle(np.zeros(SIZE, np.uint8), (320 + shift, 820), 540, 255, -1) > 0
        image[planet] = np.clip(clouds[100:580, 100 + shift : 740 + shift], 0, 255)[planet].astype(np.uint8)
        images.append(image)
    motion = estimate_drawn(images, camera)
    assert motion.valid and motion.method == "stars" and farthest_px(motion.homography, TURN) < 0.15


def filled(centre_px: tuple[float, float], rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Draw a planet of 420 px radius without any mark, darker to its edge, over most of an image; stars beside it."""
    y, x = np.indices(SIZE)
    radius = np.hypot(x - centre_px[0], y - centre_px[1])
    planet = np.clip((420 - radius) / 3 + 0.5, 0, 1)
    levels = np.where(planet > 0, 8 + planet * (192 - 60 * (radius / 420) ** 2), drawn(places, (0.0, 0.0), rng))
    return np.clip(np.round(levels + rng.normal(0, 1.5, SIZE)), 0, 255).astype(np.uint8)


def estimate_texture(images: list[np.ndarray]) -> EgoMotion:
    skies = [survey_sky(image, SegmentationConfig(), 500) for image in images]
    assert not any(sky.dark for sky in skies)
    frames = [replace(frame(index), image=np.repeat(image[..., None], 3, axis=2)) for index, image in enumerate(images)]
    return EgoMotionEstimator(EgoMotionConfig()).estimate(frames[0], frames[1], (skies[0], skies[1]), None)


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (6.0, 0.0), (6.0, 4.0)])
def test_a_bare_limb_says_nothing(shift_px: tuple[float, float]) -> None:
    """A smooth edge slides along itself unseen, and noise agrees with any motion."""
    rng, none = np.random.default_rng(11), np.zeros((0, 2))
    after = filled((320 + shift_px[0], 500 + shift_px[1]), rng, none)
    motion = estimate_texture([filled((320, 500), rng, none), after])
    assert not motion.valid and motion.method == "none" and motion.covariance is None


def test_stars_beside_a_bare_limb_are_followed_as_texture() -> None:
    """The planet fills more than half the image, so the sky counts as bright; it moves as the stars do."""
    rng = np.random.default_rng(12)
    turn = Rotation.from_rotvec(np.array([-4.0, 6.0, 0.0]) / FOCAL_PX)
    places = stars(150, rng)
    motion = estimate_texture([filled((320, 500), rng, places), filled((326, 504), rng, moved(places, turn))])
    assert motion.valid and motion.method == "features"
    points = np.array([[60.0, 40], [320, 40], [580, 40]])
    assert np.linalg.norm(apply_homography(motion.homography, points) - moved(points, turn), axis=1).max() < 0.5
