"""Motion of layers and what is known of it, against finite differences, hand values and drawn errors."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.covariance import (
    entries_covariance,
    entry_jacobians,
    fit_covariance,
    image_sigma_px,
    turn_covariance,
    turn_derivatives,
)
from sparsematch_ros.background.layers import DETECTOR, Background, FocalEstimate, Layer, LayerKind
from sparsematch_ros.background.rotation import (
    homography_misfit_px2,
    relative_rotation,
    rotation_homography,
    turned_away,
)
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.geometry import apply_homography

SIZE = (480, 640)
CAMERA = CameraModel.from_fov(640, 480, 20.0)
LENS = CameraModel(640, 480, CAMERA.matrix, np.array([-0.2, 0.05, 0.0005, -0.0004, 0.0]))
CORNERS = np.array([[0, 0], [639, 0], [0, 479], [639, 479.0]])
INCLINED = np.array([[1.003, -0.012, 9.0], [0.012, 1.002, -6.0], [6e-6, -4e-6, 1]])

homographies = st.builds(
    lambda entries, seed: INCLINED + np.array(entries).reshape(3, 3) * np.random.default_rng(seed).normal(0, 1, (3, 3)),
    st.just([0.05, 0.05, 30, 0.05, 0.05, 30, 5e-5, 5e-5, 0]),
    st.integers(0, 2**32 - 1),
)
places = st.tuples(st.floats(0, 639), st.floats(0, 479))


def grid() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 639, 13), np.linspace(0, 479, 9))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def share(errors: np.ndarray, covariances: np.ndarray) -> float:
    """Compute the mean of squared errors `(N, D)` over their covariances `(N, D, D)`; 1 is as promised."""
    return float(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors).mean()) / errors.shape[1]


# Transport


@given(homography=homographies, place=places)
def test_jacobians_of_a_transport_are_finite_differences(homography: np.ndarray, place: tuple[float, float]) -> None:
    """Central differences of 1e-3 px, whose own error is below 1e-6."""
    layer, step = Layer(LayerKind.GROUND, homography, np.zeros((9, 9))), 1e-3
    point = np.array([place])
    shifted = [layer.transport(point + sign * offset).points_px for offset in step * np.eye(2) for sign in (1, -1)]
    numeric = np.stack([(shifted[0] - shifted[1])[0], (shifted[2] - shifted[3])[0]], axis=1) / (2 * step)
    transport = layer.transport(point)
    np.testing.assert_allclose(transport.jacobians[0], numeric, atol=1e-6)
    np.testing.assert_allclose(transport.points_px, apply_homography(homography, point), atol=1e-9)
    assert not transport.covariances_px2.any()


@given(homography=homographies, place=places)
def test_jacobians_of_the_entries_are_finite_differences(homography: np.ndarray, place: tuple[float, float]) -> None:
    """Each entry is changed by what moves a corner by some 1e-4 px, both ways."""
    point = np.array([place])
    steps = np.array([1e-7, 1e-7, 1e-4, 1e-7, 1e-7, 1e-4, 1e-10, 1e-10, 1e-7])
    numeric = np.empty((2, 9))
    for entry, step in enumerate(steps):
        change = np.zeros(9)
        change[entry] = step
        after, before = (apply_homography(homography + sign * change.reshape(3, 3), point)[0] for sign in (1, -1))
        numeric[:, entry] = (after - before) / (2 * step)
    # Relative to each entry's unit, and with room for the rounding of differences of 1e-4 px.
    np.testing.assert_allclose(entry_jacobians(homography, point)[0] * steps, numeric * steps, atol=2e-9, rtol=1e-4)


def test_covariance_of_a_transport_is_that_of_drawn_homographies() -> None:
    """20000 homographies drawn from the covariance: variances of the places agree to 5 %."""
    rng = np.random.default_rng(0)
    roots = rng.normal(0, 1, (9, 9)) * np.array([1e-3, 1e-3, 0.3, 1e-3, 1e-3, 0.3, 1e-6, 1e-6, 0])[:, None]
    drawn = INCLINED + (rng.normal(0, 1, (20000, 9)) @ roots.T).reshape(-1, 3, 3)
    transport = Layer(LayerKind.GROUND, INCLINED, roots @ roots.T).transport(CORNERS)
    homogeneous = np.concatenate([CORNERS, np.ones((4, 1))], axis=1)
    moved = np.einsum("nij,kj->nki", drawn, homogeneous)
    moved = moved[:, :, :2] / moved[:, :, 2:]
    for corner in range(4):
        exact = np.cov(moved[:, corner].T)
        sigmas = np.sqrt(np.diag(exact))
        stated = transport.covariances_px2[corner] / np.outer(sigmas, sigmas)
        np.testing.assert_allclose(stated, exact / np.outer(sigmas, sigmas), atol=0.05)


def test_an_error_of_place_alone_is_the_same_everywhere() -> None:
    covariance = np.zeros((9, 9))
    covariance[2, 2], covariance[5, 5] = 0.04, 0.09
    transport = Layer(LayerKind.STARS, np.eye(3), covariance).transport(CORNERS)
    np.testing.assert_allclose(transport.covariances_px2, np.diag([0.04, 0.09])[None].repeat(4, axis=0), atol=1e-12)


def test_no_points_are_carried_nowhere() -> None:
    transport = Layer(LayerKind.STARS, INCLINED, np.eye(9)).transport(np.zeros((0, 2)))
    assert transport.points_px.shape == (0, 2)
    assert transport.jacobians.shape == transport.covariances_px2.shape == (0, 2, 2)


def test_the_detector_carries_everything_to_itself() -> None:
    transport = DETECTOR.transport(CORNERS)
    np.testing.assert_array_equal(transport.points_px, CORNERS)
    np.testing.assert_array_equal(transport.jacobians, np.eye(2)[None].repeat(4, axis=0))
    assert not transport.covariances_px2.any()


# Backgrounds


def test_layers_come_with_the_reference_first_and_the_detector_last() -> None:
    stars = Layer(LayerKind.STARS, np.eye(3), np.zeros((9, 9)))
    ground = Layer(LayerKind.GROUND, INCLINED, np.zeros((9, 9)))
    assert Background(0.1, ground, ground, stars, "ground").layers == (ground, stars, DETECTOR)
    assert Background(0.1, stars, ground, stars, "stars").layers == (stars, ground, DETECTOR)
    assert Background(0.1, stars, None, stars, "stars").layers == (stars, DETECTOR)
    np.testing.assert_array_equal(Background(0.1, ground, ground, stars, "ground").homography, INCLINED)
    unknown = Background(0.1)
    assert unknown.layers == (DETECTOR,) and not unknown.valid
    np.testing.assert_array_equal(unknown.homography, np.eye(3))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="covariance"):
        Layer(LayerKind.STARS, np.eye(3), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="homography"):
        Layer(LayerKind.STARS, np.eye(2), np.zeros((9, 9)))
    with pytest.raises(ValueError, match="rotation_CP_xyzw"):
        Background(rotation_CP_xyzw=np.zeros(3))


def test_a_focal_length_is_the_root_of_its_inverse_square() -> None:
    assert FocalEstimate(1 / 800.0**2, 0.0).focal_px == pytest.approx(800.0)


# Rotations


@pytest.mark.parametrize("turn_deg", [(0, 0.9, 0), (-0.8, 0, 0), (0, 0, 3), (5, -8, 20)])
def test_rotation_moves_projected_bearings_exactly(turn_deg: tuple[float, float, float]) -> None:
    rotation_CP = Rotation.from_rotvec(turn_deg, degrees=True)
    truth = CAMERA.project(rotation_CP.apply(CAMERA.bearings(grid())))
    homography = rotation_homography(CAMERA, rotation_CP)
    np.testing.assert_allclose(apply_homography(homography, grid()), truth, atol=1e-8)
    assert homography[2, 2] == 1.0 and homography_misfit_px2(CAMERA, rotation_CP, homography) == 0.0


@pytest.mark.parametrize("turn_deg", [(0, 0.9, 0), (-0.8, 0, 0), (0, 0, 3), (0.5, -0.5, 1)])
def test_rotation_behind_a_distorting_lens_is_fitted(turn_deg: tuple[float, float, float]) -> None:
    """No homography is exact there: within half a pixel at the corners, 0.1 px at the median, as its misfit says."""
    rotation_CP = Rotation.from_rotvec(turn_deg, degrees=True)
    truth = LENS.project(rotation_CP.apply(LENS.bearings(grid())))
    homography = rotation_homography(LENS, rotation_CP)
    error = apply_homography(homography, grid()) - truth
    assert np.linalg.norm(error, axis=1).max() < 0.5 and np.median(np.linalg.norm(error, axis=1)) < 0.1
    inside = ((truth >= 0) & (truth <= (639, 479))).all(axis=1)
    assert homography_misfit_px2(LENS, rotation_CP, homography) == pytest.approx(np.mean(error[inside] ** 2), rel=0.5)


def test_views_that_share_nothing_are_refused() -> None:
    behind = Rotation.from_rotvec([0, 180, 0], degrees=True)
    assert turned_away(LENS, behind) and not turned_away(LENS, Rotation.from_rotvec([0, 60, 0], degrees=True))
    with pytest.raises(SparsematchError, match=r"180\.0 deg"):
        rotation_homography(LENS, behind)


def test_attitudes_tell_the_rotation_between_them() -> None:
    """A direction fixed in N has these coordinates in both cameras; the sign of a quaternion says nothing."""
    R_NP = Rotation.from_euler("zyx", [30, 40, -50], degrees=True)
    R_NC = R_NP * Rotation.from_rotvec([0.01, -0.012, 0.03])
    directions_N = np.eye(3)
    rotation_CP = relative_rotation(R_NP.as_quat(), -R_NC.as_quat())
    np.testing.assert_allclose(
        rotation_CP.apply(R_NP.inv().apply(directions_N)), R_NC.inv().apply(directions_N), atol=1e-12
    )


# Covariances


@settings(max_examples=30)
@given(x=st.floats(-0.05, 0.05), y=st.floats(-0.05, 0.05), z=st.floats(-0.2, 0.2))
def test_derivatives_of_a_turn_are_finite_differences(x: float, y: float, z: float) -> None:
    """A turn of 1e-6 rad more about each axis moves the corners by what the derivative says, to 1e-4 of it."""
    rotation_CP = Rotation.from_rotvec([x, y, z])
    homography = rotation_homography(CAMERA, rotation_CP)
    derivatives = turn_derivatives(CAMERA, homography)
    for axis in range(3):
        small = Rotation.from_rotvec(1e-6 * np.eye(3)[axis])
        exact = CAMERA.project((small * rotation_CP).apply(CAMERA.bearings(CORNERS)))
        stated = apply_homography(homography + 1e-6 * derivatives[axis], CORNERS)
        before = apply_homography(homography, CORNERS)
        np.testing.assert_allclose(stated - before, exact - before, atol=1e-4 * np.abs(exact - before).max())


@pytest.mark.parametrize("camera", [CAMERA, LENS])
def test_covariance_of_a_turn_is_that_of_drawn_turns(camera: CameraModel) -> None:
    """4000 turns drawn about the middle one: an error of some 0.5 px at the corners, variances to 10 %."""
    rng, rotation_CP = np.random.default_rng(1), Rotation.from_rotvec([0.004, -0.006, 0.02])
    covariance_rad2 = np.array([[4.0, 1, 0], [1, 2, 0.5], [0, 0.5, 9]]) * 1e-8
    homography = rotation_homography(camera, rotation_CP)
    covariance = turn_covariance(camera, rotation_CP, homography, covariance_rad2)
    small = Rotation.from_rotvec(rng.multivariate_normal(np.zeros(3), covariance_rad2, 4000))
    stated = Layer(LayerKind.STARS, homography, covariance).transport(CORNERS).covariances_px2
    misfit = homography_misfit_px2(camera, rotation_CP, homography)
    for corner in range(4):
        ray = rotation_CP.apply(camera.bearings(CORNERS[corner : corner + 1]))[0]
        exact = np.cov(camera.project(small.apply(ray)).T) + misfit * np.eye(2)
        # The lens moves pixels at the corners by some per cent more or less than the pinhole does.
        np.testing.assert_allclose(stated[corner], exact, atol=0.1 * np.trace(exact))


def test_covariance_of_entries_does_not_depend_on_the_scale() -> None:
    """The last entry is held at 1, whatever the parameters do to it."""
    derivatives = np.random.default_rng(2).normal(0, 1, (2, 3, 3)) * np.array(
        [[1e-3, 1e-3, 1], [1e-3, 1e-3, 1], [0] * 3]
    )
    covariance = entries_covariance(derivatives, np.eye(2), INCLINED)
    scaled = entries_covariance(derivatives + 0.7 * INCLINED, np.eye(2), INCLINED)
    np.testing.assert_allclose(scaled, covariance, atol=1e-9)
    assert not covariance[8].any() and not covariance[:, 8].any()


def test_fitted_texture_has_the_covariance_that_its_errors_show() -> None:
    """150 fits to 60 corners with an error of 0.2 px: 300 squares scatter about 1 by 0.08, so 0.3 is ample."""
    rng = np.random.default_rng(2)
    errors, spreads = [], []
    for _ in range(150):
        before = rng.uniform((0, 0), (639, 479), (60, 2))
        after = apply_homography(INCLINED, before) + rng.normal(0, 0.2, before.shape)
        fitted = np.asarray(cv2.findHomography(before, after, 0)[0], dtype=np.float64)
        covariance = fit_covariance(fitted, before, after)
        assert covariance is not None
        errors.append(apply_homography(fitted, CORNERS[3:]) - apply_homography(INCLINED, CORNERS[3:]))
        spreads.append(Layer(LayerKind.GROUND, fitted, covariance).transport(CORNERS[3:]).covariances_px2)
    assert share(np.concatenate(errors), np.concatenate(spreads)) == pytest.approx(1.0, abs=0.3)


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


def test_standard_deviation_over_an_image_by_hand() -> None:
    """An error of place of 0.3 and 0.4 px; a roll of 1e-3 rad about the corner, by the mean square of the distance."""
    place = np.zeros((9, 9))
    place[2, 2], place[5, 5] = 0.09, 0.16
    assert image_sigma_px(np.eye(3), place, SIZE) == pytest.approx(np.sqrt(0.25 / 2))
    roll = np.zeros(9)
    roll[1], roll[3] = -1e-3, 1e-3
    mean_square = (np.linspace(0, 639, 5) ** 2).mean() + (np.linspace(0, 479, 5) ** 2).mean()
    sigma = image_sigma_px(np.eye(3), np.outer(roll, roll), SIZE)
    assert sigma == pytest.approx(1e-3 * np.sqrt(mean_square / 2), rel=1e-9)
