"""Motion seen through a homography, against finite differences, samples and hand values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from sparsematch_ros.kinematics import (
    apply_homography,
    box_iou,
    homography_jacobians,
    move_boxes,
    predict_states,
    touches_border,
)

MATRIX = np.array([[600.0, 0, 320], [0, 610.0, 240], [0, 0, 1]])

angles = st.tuples(*[st.floats(-0.15, 0.15)] * 3)
seeds = st.integers(0, 2**32 - 1)


def homography_of(rotation_vector: tuple[float, float, float]) -> np.ndarray:
    return MATRIX @ Rotation.from_rotvec(rotation_vector).as_matrix() @ np.linalg.inv(MATRIX)


def quarter_turn() -> np.ndarray:
    """Roll of 90 degrees about pixel (320, 240): what was to its right lies below it afterwards."""
    return np.array([[0.0, -1, 560], [1, 0, -80], [0, 0, 1]])


def some_covariances(rng: np.random.Generator, count: int) -> np.ndarray:
    roots = rng.normal(0, 1, (count, 4, 4)) * np.array([1, 1, 20, 20])[:, None]
    return roots @ roots.transpose(0, 2, 1)


def test_a_rotation_moves_pixels_as_it_moves_rays() -> None:
    turn = (0.05, -0.08, 0.1)
    points = np.array([[0.0, 0], [320, 240], [639, 479], [100, 400]])
    rays = np.concatenate([points, np.ones((4, 1))], axis=1) @ np.linalg.inv(MATRIX).T
    turned = Rotation.from_rotvec(turn).apply(rays) @ MATRIX.T
    np.testing.assert_allclose(apply_homography(homography_of(turn), points), turned[:, :2] / turned[:, 2:], atol=1e-9)


@given(turn=angles, scale=st.floats(0.1, 10), x=st.floats(0, 639), y=st.floats(0, 479))
def test_jacobian_is_the_finite_difference(turn: tuple[float, float, float], scale: float, x: float, y: float) -> None:
    homography = scale * homography_of(turn)  # A homography is known up to its scale.
    point, step = np.array([[x, y]]), 1e-3
    numeric = np.stack(
        [
            (apply_homography(homography, point + offset) - apply_homography(homography, point - offset))[0]
            / (2 * step)
            for offset in step * np.eye(2)
        ],
        axis=1,
    )
    np.testing.assert_allclose(homography_jacobians(homography, point)[0], numeric, atol=1e-6)


def test_still_background_means_constant_velocity() -> None:
    states = np.array([[10.0, 20, 3, -4], [100, 50, 0, 0]])
    predicted, covariances = predict_states(states, np.zeros((2, 4, 4)), np.eye(3), 0.5, 0.0)
    np.testing.assert_allclose(predicted, [[11.5, 18, 3, -4], [100, 50, 0, 0]], atol=1e-12)
    np.testing.assert_array_equal(covariances, 0)


def test_acceleration_noise_is_that_of_a_random_step_in_acceleration() -> None:
    _, covariances = predict_states(np.zeros((1, 4)), np.zeros((1, 4, 4)), np.eye(3), 0.5, 4.0)
    # An acceleration of 4 px/s^2 held for 0.5 s: 0.5 px and 2 px/s, fully correlated, axes apart.
    axis = np.array([[0.25, 1.0], [1.0, 4.0]])
    np.testing.assert_allclose(covariances[0][np.ix_([0, 2], [0, 2])], axis, atol=1e-12)
    np.testing.assert_allclose(covariances[0][np.ix_([1, 3], [1, 3])], axis, atol=1e-12)
    np.testing.assert_array_equal(covariances[0][np.ix_([0, 2], [1, 3])], 0)


def test_roll_turns_velocity_and_covariance() -> None:
    states, covariance = np.array([[330.0, 240, 5, 0]]), np.diag([4.0, 1.0, 9.0, 2.0])[None]
    predicted, turned = predict_states(states, covariance, quarter_turn(), 2.0, 0.0)
    # 20 px right of the centre after 2 s; the roll brings that to 20 px below it.
    np.testing.assert_allclose(predicted, [[320, 260, 0, 5]], atol=1e-9)
    np.testing.assert_allclose(np.diag(turned[0]), [1 + 4 * 2, 4 + 4 * 9, 2, 9], atol=1e-9)


def test_covariance_is_that_of_samples() -> None:
    """10^5 samples through the exact motion: covariances agree to 3 % of their size."""
    rng = np.random.default_rng(0)
    state, homography, dt_s = np.array([500.0, 100, 40, -30]), homography_of((0.02, 0.03, 0.2)), 0.4
    covariance = some_covariances(rng, 1)
    samples = rng.multivariate_normal(state, covariance[0], 100_000)
    _, predicted = predict_states(state[None], covariance, homography, dt_s, 0.0)
    moved = samples[:, :2] + dt_s * samples[:, 2:]
    velocity = np.einsum("nij,nj->ni", homography_jacobians(homography, moved), samples[:, 2:])
    exact = np.cov(np.concatenate([apply_homography(homography, moved), velocity], axis=1).T)
    sigma = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(predicted[0] / np.outer(sigma, sigma), exact / np.outer(sigma, sigma), atol=0.03)


@settings(max_examples=50)
@given(turn=angles, dt_s=st.floats(1e-3, 10), noise=st.floats(0, 100), seed=seeds)
def test_covariance_stays_symmetric_and_positive(
    turn: tuple[float, float, float], dt_s: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    states = np.concatenate([rng.uniform(0, 480, (3, 2)), rng.normal(0, 20, (3, 2))], axis=1)
    _, covariances = predict_states(states, some_covariances(rng, 3), homography_of(turn), dt_s, noise)
    size = np.abs(covariances).max()
    np.testing.assert_allclose(covariances, covariances.transpose(0, 2, 1), atol=1e-12 * size)
    assert np.linalg.eigvalsh(covariances).min() > -1e-10 * size


def test_nothing_stays_nothing() -> None:
    assert apply_homography(np.eye(3), np.zeros((0, 2))).shape == (0, 2)
    assert homography_jacobians(np.eye(3), np.zeros((0, 2))).shape == (0, 2, 2)
    states, covariances = predict_states(np.zeros((0, 4)), np.zeros((0, 4, 4)), np.eye(3), 0.1, 1.0)
    assert states.shape == (0, 4) and covariances.shape == (0, 4, 4)
    assert move_boxes(np.eye(3), np.zeros((0, 4)), np.zeros((0, 2))).shape == (0, 4)
    assert box_iou(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert box_iou(np.ones((3, 4)), np.zeros((0, 4))).shape == (3, 0)


def test_boxes_keep_their_size_and_follow_their_centre() -> None:
    moved = move_boxes(quarter_turn(), np.array([[328.0, 238, 4, 6]]), np.array([[10.0, -1]]))
    # Centre (330, 241), shifted to (340, 240), 20 px right of the roll's centre, so 20 px below it: (320, 260).
    np.testing.assert_allclose(moved, [[318, 257, 4, 6]], atol=1e-9)


def test_box_iou_by_hand() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 10, 10], [20, 20, 4, 5], [2, 2, 5, 4], [3, 3, 0, 0]])
    overlaps = box_iou(boxes[:1], boxes)[0]
    # Itself; a quarter of it shared, 25 / 175; apart; wholly inside, 20 / 100; a box without extent.
    np.testing.assert_allclose(overlaps, [1, 25 / 175, 0, 0.2, 0], atol=1e-12)
    np.testing.assert_allclose(box_iou(boxes, boxes), box_iou(boxes, boxes).T, atol=1e-12)


def test_boxes_at_the_border() -> None:
    """In an image of 40 x 30 a box of columns 30 to 39 touches the right border, one of 30 to 38 does not."""
    boxes = np.array([[30, 5, 10, 5], [30, 5, 9, 5], [0, 5, 3, 3], [5, 0, 3, 3], [5, 27, 3, 3], [5, 26, 3, 3]], float)
    assert touches_border(boxes, (30, 40)).tolist() == [True, False, True, True, True, False]
    assert touches_border(boxes[:0], (30, 40)).tolist() == []
