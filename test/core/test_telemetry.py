"""Attitude telemetry weighed with stars, and rejected where it is wrong: drawn star fields whose turn is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.estimator import BackgroundEstimator, View
from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.background.rotation import rotation_homography
from sparsematch_ros.background.stars import Stars
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.geometry import apply_homography

SIZE = (480, 640)
CAMERA = CameraModel.from_fov(640, 480, 20.0)
LENS = CameraModel(640, 480, CAMERA.matrix, np.array([-0.2, 0.05, 0.0005, -0.0004, 0.0]))
FOCAL_PX = float(CAMERA.matrix[0, 0])
SIGMA_PX = 0.05
CORNERS = np.array([[0, 0], [639, 0], [0, 479], [639, 479.0]])
TURN = Rotation.from_rotvec([0.12, -0.3, 0.5], degrees=True)
R_NP = Rotation.from_euler("zyx", [30, 40, -50], degrees=True)
DARK = np.zeros((*SIZE, 3), np.uint8)
NO_GROUND, NO_TEXTURE = np.zeros(SIZE, dtype=bool), np.full(SIZE, np.nan, dtype=np.float32)


def view(
    index: int,
    points: np.ndarray,
    rng: np.random.Generator,
    camera: CameraModel | None = CAMERA,
    attitude: Rotation | None = None,
) -> View:
    """View a dark sky whose stars have an error of SIGMA_PX an axis."""
    inside = points[((points > 0) & (points < np.array(SIZE[::-1]) - 1)).all(axis=1)]
    each = np.ones(len(inside))
    stars = Stars.of(inside + rng.normal(0, SIGMA_PX, inside.shape), SIGMA_PX * each, 15 * each, 1000)
    q = None if attitude is None else attitude.as_quat()
    return View(Frame(index, index * 200_000_000, DARK, camera, q), stars, NO_GROUND, 1.0, 1.0, NO_TEXTURE)


def field(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform((-40, -40), (680, 520), (count, 2))


def moved(points: np.ndarray, rotation_CP: Rotation, camera: CameraModel = CAMERA) -> np.ndarray:
    return camera.project(rotation_CP.apply(camera.bearings(points)))


def farthest_px(homography: np.ndarray, rotation_CP: Rotation, camera: CameraModel = CAMERA) -> float:
    """Compute how far a corner of the image is from where a turn puts it, at most."""
    error = apply_homography(homography, CORNERS) - moved(CORNERS, rotation_CP, camera)
    return float(np.linalg.norm(error, axis=1).max())


def turned_by(x_px: float, y_px: float) -> Rotation:
    """Build the turn that moves the middle of the image by so much."""
    return Rotation.from_rotvec(np.array([-y_px, x_px, 0.0]) / FOCAL_PX)


def told_and_shown(
    wrong: Rotation, count: int, last: Background | None = None, seed: int = 8, telemetry: bool = True
) -> Background:
    """Estimate a turn that stars show and telemetry tells with an error."""
    rng = np.random.default_rng(seed)
    before = field(count, rng)
    views = (
        view(0, before, rng, attitude=R_NP),
        view(1, moved(before, TURN), rng, attitude=R_NP * (wrong * TURN).inv()),
    )
    return BackgroundEstimator(BackgroundConfig(telemetry=telemetry)).estimate(*views, last or Background())


def sequence(errors: list[Rotation], count: int = 80, seed: int = 3) -> list[Background]:
    """Estimate one frame after another, of which telemetry tells each with its own error."""
    rng = np.random.default_rng(seed)
    estimator, background, found = BackgroundEstimator(BackgroundConfig()), Background(), []
    for index, wrong in enumerate(errors):
        before = field(count, rng)
        views = (
            view(index, before, rng, attitude=R_NP),
            view(index + 1, moved(before, TURN), rng, attitude=R_NP * (wrong * TURN).inv()),
        )
        background = estimator.estimate(*views, background)
        found.append(background)
    return found


# Telemetry alone


def test_attitude_gives_the_exact_motion() -> None:
    """A direction fixed in N is seen where the homography says, whatever the images show."""
    motion = told_and_shown(Rotation.identity(), 0)
    assert (motion.valid, motion.method, motion.problem) == (True, "telemetry", "")
    assert motion.dt_s == pytest.approx(0.2)
    assert farthest_px(motion.homography, TURN) < 1e-8
    assert np.isnan(motion.disagreement_rad) and motion.stars is motion.reference and motion.ground is None
    np.testing.assert_allclose(Rotation.from_quat(motion.rotation_CP_xyzw).as_matrix(), TURN.as_matrix(), atol=1e-12)
    # Untested, it is as good as a tenth of a pixel, everywhere.
    assert motion.reference is not None
    spreads = motion.reference.transport(CORNERS).covariances_px2
    np.testing.assert_allclose(np.sqrt(np.trace(spreads, axis1=1, axis2=2) / 2), 0.1, rtol=0.1)


def test_attitude_is_left_aside_when_told_so_or_without_intrinsics() -> None:
    rng, none = np.random.default_rng(0), np.zeros((0, 2))
    views = [view(index, none, rng, attitude=R_NP) for index in range(2)]
    deaf = BackgroundEstimator(BackgroundConfig(telemetry=False))
    assert not deaf.estimate(views[0], views[1], Background()).valid
    for camera, attitudes in ((None, (R_NP, R_NP)), (CAMERA, (None, R_NP)), (CAMERA, (R_NP, None))):
        pair = [view(index, none, rng, camera, attitude) for index, attitude in enumerate(attitudes)]
        motion = BackgroundEstimator(BackgroundConfig()).estimate(pair[0], pair[1], Background())
        assert (motion.valid, motion.method, motion.dt_s) == (False, "none", pytest.approx(0.2))
        np.testing.assert_array_equal(motion.homography, np.eye(3))


@pytest.mark.parametrize("camera", [CAMERA, LENS])
@pytest.mark.parametrize("turn_deg", [30.0, 60.0, 89.0, 90.0, 91.0, 120.0, 180.0])
def test_a_turn_beyond_the_view_leaves_nothing_in_it(camera: CameraModel, turn_deg: float) -> None:
    """Nothing that the one frame shows is expected in the other: it moves out, or the motion is not known; no error."""
    rng, none = np.random.default_rng(0), np.zeros((0, 2))
    attitudes = Rotation.identity(), Rotation.from_rotvec([0, turn_deg, 0], degrees=True)
    views = [view(index, none, rng, camera, attitude) for index, attitude in enumerate(attitudes)]
    motion = BackgroundEstimator(BackgroundConfig()).estimate(views[0], views[1], Background())
    if motion.valid:
        x, y = np.meshgrid(np.linspace(0, 639, 13), np.linspace(0, 479, 9))
        places = apply_homography(motion.homography, np.stack([x.ravel(), y.ravel()], axis=1))
        assert ((places < 0) | (places > (639, 479))).any(axis=1).all()
    assert motion.valid == (turn_deg < 95)


# Telemetry and stars


def test_telemetry_and_stars_that_agree_are_weighed() -> None:
    """Telemetry is 0.1 px off, within its error; stars are exact to sqrt(2) 0.05 / sqrt(65) = 0.01 px: they prevail."""
    motion = told_and_shown(turned_by(0.1, 0.0), 80)
    assert (motion.method, motion.problem) == ("stars+telemetry", "")
    assert motion.disagreement_rad == pytest.approx(0.1 / FOCAL_PX, abs=0.1 / FOCAL_PX)
    assert farthest_px(motion.homography, TURN) < 0.06
    assert motion.reference is not None and motion.reference.inliers > 50


def test_both_together_are_better_than_either() -> None:
    """The mean of both is surer than each in every direction, and its errors are as it says: by 20 stars 30 % allowed.

    60 fits of three axes scatter by 0.1; the scale of so few stars is a guess that adds as much, one-sided.
    """
    errors, spreads = [], []
    for seed in range(60):
        wrong = Rotation.from_rotvec(np.random.default_rng(1000 + seed).normal(0, 0.1 / FOCAL_PX, 3))
        motion = told_and_shown(wrong, 30, seed=seed)
        shown = told_and_shown(wrong, 30, seed=seed, telemetry=False)
        assert (motion.method, shown.method) == ("stars+telemetry", "stars")
        assert motion.rotation_covariance_rad2 is not None and shown.rotation_covariance_rad2 is not None
        both_px2 = motion.rotation_covariance_rad2 * FOCAL_PX**2
        assert np.linalg.eigvalsh(0.1**2 * np.eye(3) - both_px2).min() > 0
        assert np.linalg.eigvalsh(shown.rotation_covariance_rad2 * FOCAL_PX**2 - both_px2).min() > 0
        errors.append((TURN * Rotation.from_quat(motion.rotation_CP_xyzw).inv()).as_rotvec())
        spreads.append(motion.rotation_covariance_rad2)
    squares = np.einsum("ni,nij,nj->n", errors, np.linalg.inv(spreads), errors)
    assert squares.mean() / 3 == pytest.approx(1.1, abs=0.3)


@pytest.mark.parametrize("error_px", [(0.0, 2.0), (-5.0, 3.0), (30.0, 10.0)])
def test_many_stars_are_believed_before_wrong_telemetry(error_px: tuple[float, float]) -> None:
    motion = told_and_shown(turned_by(*error_px), 80)
    assert motion.valid and motion.method == "stars" and "stars used" in motion.problem
    assert motion.disagreement_rad == pytest.approx(np.hypot(*error_px) / FOCAL_PX, rel=0.1)
    assert farthest_px(motion.homography, TURN) < 0.1


def test_telemetry_beyond_all_stars_is_told_by_the_past() -> None:
    """150 px off, stars are not found where telemetry leads; where they went so far, they are."""
    stars = Layer(LayerKind.STARS, rotation_homography(CAMERA, TURN), np.zeros((9, 9)), 60, 0.1)
    motion = told_and_shown(turned_by(150.0, 0.0), 80, Background(0.2, stars, None, stars, "stars"))
    assert motion.method == "stars" and farthest_px(motion.homography, TURN) < 0.1
    assert motion.disagreement_rad == pytest.approx(150 / FOCAL_PX, rel=0.02)


def test_few_stars_do_not_overrule_telemetry() -> None:
    """The dozen that is in view shows a fault, which is told, and telemetry stays."""
    motion = told_and_shown(turned_by(3.0, 0.0), 14)
    assert motion.method == "telemetry" and "telemetry used" in motion.problem
    assert motion.disagreement_rad == pytest.approx(3 / FOCAL_PX, rel=0.15)
    assert farthest_px(motion.homography, turned_by(3.0, 0.0) * TURN) < 1e-6


def test_telemetry_that_is_wrong_again_and_again_is_ignored_until_it_agrees_again() -> None:
    """Three alarms in a row, then as many agreements; in between stars alone count, and without any nothing does."""
    right, wrong = Rotation.identity(), turned_by(4.0, -2.0)
    found = sequence([right, wrong, wrong, wrong, right, right, right, right])
    methods = [motion.method for motion in found]
    assert methods == ["stars+telemetry"] + ["stars"] * 5 + ["stars+telemetry"] * 2
    assert ["ignored" in motion.problem for motion in found] == [False] * 3 + [True] * 3 + [False] * 2
    assert all(farthest_px(motion.homography, TURN) < 0.1 for motion in found)


def test_ignored_telemetry_does_not_stand_in_for_missing_stars() -> None:
    rng, estimator, background = np.random.default_rng(4), BackgroundEstimator(BackgroundConfig()), Background()
    told = R_NP, R_NP * (turned_by(5.0, 0.0) * TURN).inv()
    for index in range(4):
        before = field(80, rng) if index < 3 else np.zeros((0, 2))
        views = view(index, before, rng, attitude=told[0]), view(index + 1, moved(before, TURN), rng, attitude=told[1])
        background = estimator.estimate(*views, background)
        assert background.valid == (index < 3)
    estimator.reset()
    assert estimator.estimate(*views, background).method == "telemetry"


def test_one_wrong_attitude_is_forgiven() -> None:
    right, wrong = Rotation.identity(), turned_by(4.0, -2.0)
    found = sequence([right, wrong, right, wrong, wrong, right])
    assert [motion.method for motion in found] == [
        "stars+telemetry", "stars", "stars+telemetry", "stars", "stars", "stars+telemetry",
    ]  # fmt: skip


def test_the_error_of_telemetry_is_learnt_from_the_stars() -> None:
    """60 frames of telemetry with 0.3 px an axis: what it is then said to know alone is 0.3 px, not the first 0.1."""
    rng = np.random.default_rng(5)
    estimator, background = BackgroundEstimator(BackgroundConfig()), Background()
    for index in range(60):
        before = field(80, rng)
        wrong = turned_by(*rng.normal(0, 0.3, 2))
        views = (
            view(index, before, rng, attitude=R_NP),
            view(index + 1, moved(before, TURN), rng, attitude=R_NP * (wrong * TURN).inv()),
        )
        background = estimator.estimate(*views, background)
    alone = estimator.estimate(replace(views[0], stars=Stars(np.zeros((0, 2)), np.zeros(0))), views[1], background)
    assert alone.method == "telemetry" and alone.reference is not None
    spreads = alone.reference.transport(CORNERS).covariances_px2
    # Half of what the last dozen frames taught counts: 24 squares scatter by 30 %, their root by 15 %.
    assert 0.17 < np.sqrt(np.trace(spreads.mean(axis=0)) / 2) < 0.45


def test_right_telemetry_is_hardly_ever_doubted() -> None:
    """40 skies, a lens that distorts: no false alarm."""
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        turn = Rotation.from_rotvec(rng.normal(0, 0.3, 3), degrees=True)
        before = field(60, rng)
        views = view(0, before, rng, LENS, R_NP), view(1, moved(before, turn, LENS), rng, LENS, R_NP * turn.inv())
        motion = BackgroundEstimator(BackgroundConfig()).estimate(*views, Background())
        assert motion.method == "stars+telemetry" and not motion.problem
        assert motion.disagreement_rad < 0.4 / FOCAL_PX


def test_a_repeated_image_with_telemetry_shows_no_turn() -> None:
    """The attitudes and all stars are the same to the last bit: the identity, and a covariance that is no NaN."""
    rng = np.random.default_rng(0)
    first = view(0, field(80, rng), rng, attitude=R_NP)
    second = replace(view(1, np.zeros((0, 2)), rng, attitude=R_NP), stars=first.stars)
    motion = BackgroundEstimator(BackgroundConfig()).estimate(first, second, Background())
    assert motion.valid and motion.rotation_covariance_rad2 is not None
    assert np.isfinite(motion.rotation_covariance_rad2).all()
    assert farthest_px(motion.homography, Rotation.identity()) < 1e-6


# Cameras


@pytest.mark.parametrize("seed", range(3))
def test_focal_length_is_learnt_from_turning(seed: int) -> None:
    """Perspective moves the corners by up to half a pixel; all frames are right to 0.15 px, the first included."""
    rng = np.random.default_rng(seed)
    time = np.arange(25)
    swing = np.stack([0.02 * np.sin(time / 7), 0.03 * np.sin(time / 6), 0.05 * np.sin(time / 8)], axis=1)
    attitudes = [Rotation.from_rotvec(each) for each in swing]
    sky = CAMERA.bearings(rng.uniform((-120, -120), (760, 600), (90, 2)))
    views = [view(index, CAMERA.project(each.apply(sky)), rng, None) for index, each in enumerate(attitudes)]
    estimator, motion = BackgroundEstimator(BackgroundConfig()), Background()
    for (first, second), (before, after) in zip(pairwise(views), pairwise(attitudes), strict=True):
        motion = estimator.estimate(first, second, motion)
        assert motion.method == "stars" and motion.rotation_CP_xyzw is None
        assert farthest_px(motion.homography, after * before.inv()) < 0.15
    assert motion.focal is not None
    sigma = motion.focal.sigma / motion.focal.inverse_square / 2
    assert sigma < 0.08 and motion.focal.focal_px == pytest.approx(FOCAL_PX, rel=4 * sigma)
    empty = replace(views[-1], stars=Stars(np.zeros((0, 2)), np.zeros(0)))
    blind = estimator.estimate(views[-2], empty, motion)
    assert not blind.valid and blind.focal == motion.focal


def test_stars_are_followed_through_a_change_of_the_lens() -> None:
    """The focal length grows by 10 % between two frames: the stars give a similarity, and attitudes nothing.

    What it leaves out is perspective: 5 px of shift bend the corners, 400 px from the axis, by 5 (400 / 1815)^2 px.
    """
    rng = np.random.default_rng(6)
    zoomed = CameraModel(640, 480, CAMERA.matrix @ np.diag([1.1, 1.1, 1.0]))
    before = field(80, rng)
    after = zoomed.project(turned_by(4.0, 3.0).apply(CAMERA.bearings(before)))
    views = view(0, before, rng, CAMERA, R_NP), view(1, after, rng, zoomed, R_NP)
    motion = BackgroundEstimator(BackgroundConfig()).estimate(*views, Background())
    assert motion.method == "stars" and motion.rotation_CP_xyzw is None
    truth = zoomed.project(turned_by(4.0, 3.0).apply(CAMERA.bearings(CORNERS)))
    assert np.linalg.norm(apply_homography(motion.homography, CORNERS) - truth, axis=1).max() < 0.35
