"""Pairs of stars and the turn fitted to them, against drawn star fields whose turn is known."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.layers import Background, FocalEstimate
from sparsematch_ros.background.rotation import rotation_homography
from sparsematch_ros.background.rotation_fit import Lens, fit_turn, turned
from sparsematch_ros.background.star_pairs import pair_again, pair_stars
from sparsematch_ros.background.stars import StarFit, Stars, fit_stars, similar_pairs
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.geometry import apply_homography

SIZE = (480, 640)
CAMERA = CameraModel.from_fov(640, 480, 20.0)
LENS = CameraModel(640, 480, CAMERA.matrix, np.array([-0.2, 0.05, 0.0005, -0.0004, 0.0]))
FOCAL_PX = float(CAMERA.matrix[0, 0])
SIGMA_PX = 0.05
CORNERS = np.array([[0, 0], [639, 0], [0, 479], [639, 479.0]])
TURN = Rotation.from_rotvec([0.12, -0.3, 0.5], degrees=True)
CONFIG = BackgroundConfig()
STILL = np.eye(3)


def field(count: int, rng: np.random.Generator) -> np.ndarray:
    """Spread stars over the view and 40 px around it."""
    return rng.uniform((-40, -40), (680, 520), (count, 2))


def moved(points: np.ndarray, rotation_CP: Rotation, camera: CameraModel = CAMERA) -> np.ndarray:
    return camera.project(rotation_CP.apply(camera.bearings(points)))


def seen(points: np.ndarray, rng: np.random.Generator, promised_px: float = SIGMA_PX) -> Stars:
    """See the stars inside the view, in another order, with an error of SIGMA_PX an axis."""
    inside = points[((points > 0) & (points < np.array(SIZE[::-1]) - 1)).all(axis=1)]
    inside = rng.permutation(inside)
    each = np.ones(len(inside))
    return Stars.of(inside + rng.normal(0, SIGMA_PX, inside.shape), promised_px * each, 15 * each, 1000)


def fitted(
    before: Stars, after: Stars, camera: CameraModel | None = CAMERA, expected: np.ndarray = STILL
) -> StarFit | None:
    return fit_stars(before, after, expected, Lens.of(camera, SIZE, None), CONFIG)


def farthest_px(homography: np.ndarray, rotation_CP: Rotation, camera: CameraModel = CAMERA) -> float:
    """Compute how far a corner of the image is from where a turn puts it, at most."""
    error = apply_homography(homography, CORNERS) - moved(CORNERS, rotation_CP, camera)
    return float(np.linalg.norm(error, axis=1).max())


def share(errors: np.ndarray, covariances: np.ndarray) -> float:
    """Compute the mean of squared errors `(N, D)` over their covariances `(N, D, D)`; 1 is as promised."""
    return float(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors).mean()) / errors.shape[1]


# Pairs


def test_the_brightest_that_are_no_noise_are_stars() -> None:
    points = np.arange(12.0).reshape(6, 2)
    stars = Stars.of(points, np.full(6, 0.2), np.array([50.0, 9, 8, 5, 3.9, 3.3]), 3)
    np.testing.assert_array_equal(stars.points_px, points[:3])
    np.testing.assert_allclose(stars.variances_px2, 0.04)
    assert len(Stars.of(points, np.full(6, 0.2), np.array([50.0, 9, 8, 5, 3.9, 3.3]), 10)) == 4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), way=st.floats(0, 35), course=st.floats(0, 6.28), roll=st.floats(-6.0, 6.0))
def test_stars_are_paired_within_the_search_radius(seed: int, way: float, course: float, roll: float) -> None:
    """40 stars of which a fifth is replaced: any shift up to 35 px, any roll up to 6 deg; hardly a false pair."""
    rng = np.random.default_rng(seed)
    before = rng.uniform((60, 60), (580, 420), (40, 2))
    turn, middle = np.radians(roll), before.mean(axis=0)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    after = (before - middle) @ matrix.T + middle + way * np.array([np.cos(course), np.sin(course)])
    after[:8] = rng.uniform((0, 0), (640, 480), (8, 2))
    order = rng.permutation(40)
    rows, columns = pair_stars(before, after[order], STILL, CONFIG)
    right = order[columns] == rows
    # The rolls that are tried are 1.5 deg apart: the stars farthest from the middle, 6 px off, are paired all the same.
    assert right.sum() >= 28
    assert right[rows >= 8].mean() > 0.9


def test_pairs_are_sought_where_the_past_expects_them() -> None:
    """A shift of 150 px is beyond the search, but within it of the motion before."""
    before = np.random.default_rng(0).uniform((20, 20), (460, 460), (30, 2))
    after, expected = before + np.array([150, 3]), np.array([[1.0, 0, 140], [0, 1, 0], [0, 0, 1]])
    rows, columns = pair_stars(before, after, expected, CONFIG)
    np.testing.assert_array_equal(rows, np.arange(30))
    np.testing.assert_array_equal(columns, np.arange(30))
    assert (np.equal(*pair_stars(before, after, STILL, CONFIG))).sum() < 6


def test_pairs_by_a_fit_reach_four_pixels() -> None:
    before = np.array([[100.0, 100], [200, 100], [300, 100]])
    rows, columns = pair_again(before, np.array([[301.0, 102], [104.5, 100], [203.5, 100]]))
    assert (rows.tolist(), columns.tolist()) == ([1, 2], [2, 0])


def test_a_similarity_leaves_false_pairs_out() -> None:
    rng = np.random.default_rng(1)
    before = field(40, rng)
    after = 1.01 * before + np.array([5, -3])
    after[30:] += rng.uniform(10, 20, (10, 2))
    similarity, agree = similar_pairs(before, after, CONFIG)
    assert agree.tolist() == list(range(30))
    assert similarity is not None
    np.testing.assert_allclose(similarity, [[1.01, 0, 5], [0, 1.01, -3]], atol=1e-4)
    assert similar_pairs(before[:5], after[:5], CONFIG)[0] is None


# Turns


@settings(max_examples=30)
@given(x=st.floats(-20, 20), y=st.floats(-20, 20), roll=st.floats(-0.1, 0.1), seed=st.integers(0, 2**32 - 1))
def test_nearly_exact_pairs_give_the_exact_turn(x: float, y: float, roll: float, seed: int) -> None:
    """Pairs with an error of 1e-4 px, as no two centroids agree to the last digit, give a turn as exact."""
    assume(max(abs(x), abs(y)) > 0.1)
    rng, truth = np.random.default_rng(seed), Rotation.from_rotvec([x / FOCAL_PX, y / FOCAL_PX, roll])
    before, lens = field(30, rng), Lens.of(CAMERA, SIZE, None)
    after = lens.centred(moved(before, truth)) + rng.normal(0, 1e-4, before.shape)
    turn = fit_turn(lens.centred(before), after, np.full(30, 0.01), lens)
    assert (turn.rotation_CP * truth.inv()).magnitude() * FOCAL_PX < 1e-3
    assert 0 < np.linalg.eigvalsh(turn.rotation_covariance_rad2 * FOCAL_PX**2).min() < 1e-3
    assert turn.focal.focal_px == pytest.approx(FOCAL_PX) and turn.focal.sigma == 0
    centred = turned(turn.parameters, lens.centred(before))
    np.testing.assert_allclose(centred, lens.centred(moved(before, truth)), atol=2e-3)


@pytest.mark.parametrize("camera", [CAMERA, LENS])
@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (0, 0.9, 0), (-0.8, 0, 0), (0, 0, 3), (0.4, -0.6, 0.8)])
def test_stars_give_the_rotation_to_a_tenth_of_a_pixel(
    turn_deg: tuple[float, float, float], camera: CameraModel
) -> None:
    """Up to 30 px of shift or 3 deg of roll; ten movers, a fifth replaced; errors of 0.05 px over 60 stars and more."""
    for seed in range(3):
        rng, rotation_CP = np.random.default_rng(seed), Rotation.from_rotvec(turn_deg, degrees=True)
        before = field(120, rng)
        after = moved(before, rotation_CP, camera)
        after[:10] += rng.uniform(5, 15, (10, 2)) * rng.choice([-1, 1], (10, 2))
        after[96:] = field(24, rng)
        fit = fitted(seen(before, rng), seen(after, rng), camera)
        assert fit is not None and fit.layer.inliers >= 50
        # A rotation of 0.1 px off the axis, and a roll of as much at the corners.
        assert (fit.turn.rotation_CP * rotation_CP.inv()).magnitude() < 0.1 / 400
        # Behind the lens no homography is exact.
        assert farthest_px(fit.layer.homography, rotation_CP, camera) < (0.1 if camera is CAMERA else 0.6)
        assert fit.layer.residual_px < (0.15 if camera is CAMERA else 0.3)


@pytest.mark.parametrize("promised_px", [SIGMA_PX, 0.02, 0.15])
@pytest.mark.parametrize("strays", [0, 12])
def test_a_turn_has_the_covariance_that_its_errors_show(promised_px: float, strays: int) -> None:
    """80 fits to 60 stars: 240 squares scatter about 1 by 0.09. Promises do not count, strays hardly."""
    rng = np.random.default_rng(0)
    errors, spreads, corner_errors, corner_spreads = [], [], [], []
    for _ in range(80):
        turn = Rotation.from_rotvec(rng.normal(0, (0.3, 0.3, 0.6)), degrees=True)
        before = field(80, rng)
        after = moved(before, turn)
        after[:strays] += rng.uniform(0.5, 3, (strays, 2))
        fit = fitted(seen(before, rng, promised_px), seen(after, rng, promised_px))
        assert fit is not None
        errors.append((turn * fit.turn.rotation_CP.inv()).as_rotvec())
        spreads.append(fit.turn.rotation_covariance_rad2)
        transport = fit.layer.transport(CORNERS[:1])
        corner_errors.append(transport.points_px - moved(CORNERS[:1], turn))
        corner_spreads.append(transport.covariances_px2)
    assert share(np.stack(errors), np.stack(spreads)) == pytest.approx(1.0, abs=0.35)
    assert share(np.concatenate(corner_errors), np.concatenate(corner_spreads)) == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("camera", [CAMERA, None], ids=["known lens", "unknown lens"])
def test_a_fit_that_rests_on_a_corner_is_not_valid_elsewhere(camera: CameraModel | None) -> None:
    """30 stars within 100 px of a corner: the roll about them is known to 1.4 x 0.05 / (33 sqrt(30)) = 4e-4 rad.

    In the opposite corner, 700 px away, that is 0.3 px. The covariance says so there, and covers the errors.
    """
    rng, errors, spreads = np.random.default_rng(4), [], []
    for _ in range(40):
        before = rng.uniform((15, 15), (115, 115), (30, 2))
        fit = fitted(seen(before, rng), seen(moved(before, TURN), rng), camera)
        assert fit is not None
        transport = fit.layer.transport(CORNERS[[0, 3]])
        errors.append(transport.points_px - moved(CORNERS[[0, 3]], TURN))
        spreads.append(transport.covariances_px2)
    sigmas = np.sqrt(np.trace(np.mean(spreads, axis=0), axis1=1, axis2=2) / 2)
    assert sigmas[1] > 3 * sigmas[0] and sigmas[1] > 0.15
    assert 0.6 < share(np.stack(errors)[:, 1], np.stack(spreads)[:, 1]) < 1.6


@pytest.mark.parametrize("camera", [CAMERA, None])
def test_a_repeated_image_shows_no_turn(camera: CameraModel | None) -> None:
    """Every star at exactly the same place: the identity, and a covariance that is no NaN."""
    rng = np.random.default_rng(0)
    stars = seen(field(80, rng), rng)
    fit = fitted(stars, stars, camera)
    assert fit is not None and np.isfinite(fit.layer.covariance).all()
    assert farthest_px(fit.layer.homography, Rotation.identity()) < 1e-6


def test_small_turns_of_a_narrow_view() -> None:
    """A twentieth of a pixel at 3 deg; 60 stars known to 0.01 px show it to 0.0013 px, of which 8 are allowed."""
    camera = CameraModel.from_fov(640, 480, 3.0)
    rng, focal = np.random.default_rng(0), camera.matrix[0, 0]
    before, lens = rng.uniform((0, 0), (639, 479), (60, 2)), Lens.of(camera, SIZE, None)
    after = camera.project(Rotation.from_rotvec([0, 0.05 / focal, 0]).apply(camera.bearings(before)))
    after += rng.normal(0, 0.01, after.shape)
    turn = fit_turn(lens.centred(before), lens.centred(after), np.full(60, 1e-4), lens)
    assert turn.rotation_CP.as_rotvec()[1] * focal == pytest.approx(0.05, abs=0.01)


# What says nothing


def test_too_few_stars_say_nothing() -> None:
    rng = np.random.default_rng(5)
    few = np.array([[100.0, 100], [300, 200], [500, 400], [200, 350], [420, 90]])
    assert fitted(seen(few, rng), seen(few + 3, rng)) is None
    none = Stars.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 100)
    assert len(none) == 0 and fitted(none, seen(field(50, rng), rng)) is None and fitted(none, none) is None


def test_two_skies_without_a_common_star_say_nothing() -> None:
    """25 stars each, drawn alike twenty times: chance agrees on no turn."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        assert fitted(seen(field(25, rng), rng), seen(field(25, rng), rng)) is None


def test_chance_sources_do_not_outvote_the_stars() -> None:
    """30 stars and 120 chance sources in each frame, none of these shared: a fifth of a pixel still."""
    turn = Rotation.from_rotvec([0.1, 0.17, 0.5], degrees=True)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        before = rng.uniform(20, (620, 460), (30, 2))
        both = [np.concatenate([places, field(120, rng)]) for places in (before, moved(before, turn))]
        fit = fitted(seen(both[0], rng), seen(both[1], rng))
        assert fit is not None and farthest_px(fit.layer.homography, turn) < 0.2


# An unknown lens


def test_a_wide_view_is_followed_to_its_corners() -> None:
    """60 degrees and 35 px of yaw: perspective moves corners by 10 px, which no similarity follows."""
    camera = CameraModel.from_fov(640, 480, 60.0)
    rng, turn = np.random.default_rng(7), Rotation.from_rotvec([0, 0.063, 0.02])
    before = field(120, rng)
    skies = seen(before, rng), seen(moved(before, turn, camera), rng)
    for given_camera in (camera, None):
        fit = fitted(*skies, given_camera)
        assert fit is not None and fit.layer.inliers > 70
        assert farthest_px(fit.layer.homography, turn, camera) < 0.2


def test_the_focal_length_shows_in_the_perspective() -> None:
    """60 degrees and 35 px of yaw: the true 554 px lie within five deviations of 3 %; a still sky shows none."""
    camera = CameraModel.from_fov(640, 480, 60.0)
    rng = np.random.default_rng(8)
    before = field(150, rng)
    turn = Rotation.from_rotvec([0.03, 0.063, 0.02])
    fit = fitted(seen(before, rng), seen(moved(before, turn, camera), rng), None)
    assert fit is not None
    focal = fit.turn.focal
    assert focal.sigma / focal.inverse_square < 0.06
    assert focal.inverse_square == pytest.approx(camera.matrix[0, 0] ** -2, abs=5 * focal.sigma)
    still = fitted(seen(before, rng), seen(before, rng), None)
    start = Lens.of(None, SIZE, None).focal
    assert still is not None and still.turn.focal.sigma == pytest.approx(start.sigma, rel=0.2)


def test_what_was_learnt_of_a_lens_goes_into_the_next_fit() -> None:
    """It drifts by some per cent; a camera's own intrinsics need no learning."""
    before = FocalEstimate(1 / 900.0**2, 0.01 / 900.0**2)
    lens = Lens.of(None, SIZE, before)
    assert lens.focal.inverse_square == before.inverse_square and not lens.known
    assert before.sigma < lens.focal.sigma < 0.1 * before.inverse_square
    assert Lens.of(CAMERA, SIZE, before).known
    assert Lens.of(CAMERA, SIZE, before).focal.focal_px == pytest.approx(FOCAL_PX)
    np.testing.assert_allclose(lens.centred(np.array([[319.5, 239.5], [319.5 + 90, 239.5]])), [[0, 0], [90, 0]])
    assert Background().focal is None


def test_pixels_behind_a_lens_are_made_ideal() -> None:
    """A ray at 0.1 and -0.05 lies at these focal lengths from the axis, wherever the lens puts it."""
    pixel = LENS.project(np.array([[0.1, -0.05, 1.0]]))
    np.testing.assert_allclose(Lens.of(LENS, SIZE, None).centred(pixel), FOCAL_PX * np.array([[0.1, -0.05]]), atol=1e-4)


def test_the_layer_of_a_turn_is_its_homography() -> None:
    rng = np.random.default_rng(9)
    before = field(120, rng)
    fit = fitted(seen(before, rng), seen(moved(before, TURN), rng))
    assert fit is not None
    np.testing.assert_allclose(fit.layer.homography, rotation_homography(CAMERA, fit.turn.rotation_CP), atol=1e-12)
    # Differences of two centroids.
    assert fit.layer.residual_px == pytest.approx(np.sqrt(2) * SIGMA_PX, rel=0.15)
