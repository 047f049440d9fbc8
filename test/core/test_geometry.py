"""Homographies, boxes and distances against rays, finite differences and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.geometry import (
    apply_homography,
    box_intersection,
    box_iou,
    homography_jacobians,
    mahalanobis2,
    touches_border,
)

MATRIX = np.array([[600.0, 0, 320], [0, 610.0, 240], [0, 0, 1]])
POINTS = np.array([[0.0, 0], [320, 240], [639, 479], [100, 400]])

angles = st.tuples(*[st.floats(-0.15, 0.15)] * 3)
seeds = st.integers(0, 2**32 - 1)


def homography_of(rotation_vector: tuple[float, float, float]) -> np.ndarray:
    return MATRIX @ Rotation.from_rotvec(rotation_vector).as_matrix() @ np.linalg.inv(MATRIX)


def test_a_rotation_moves_pixels_as_it_moves_rays() -> None:
    """The same rays, turned and projected by hand; 1e-9 px is rounding."""
    turn = (0.05, -0.08, 0.1)
    rays = np.concatenate([POINTS, np.ones((4, 1))], axis=1) @ np.linalg.inv(MATRIX).T
    turned = Rotation.from_rotvec(turn).apply(rays) @ MATRIX.T
    np.testing.assert_allclose(apply_homography(homography_of(turn), POINTS), turned[:, :2] / turned[:, 2:], atol=1e-9)


@given(first=angles, second=angles, scale=st.floats(0.1, 10))
def test_homographies_follow_each_other_whatever_their_scale(
    first: tuple[float, float, float], second: tuple[float, float, float], scale: float
) -> None:
    one, other = homography_of(first), homography_of(second)
    both = apply_homography(scale * other @ one, POINTS)
    np.testing.assert_allclose(both, apply_homography(other, apply_homography(one, POINTS)), atol=1e-8)


@given(turn=angles, scale=st.floats(0.1, 10), x=st.floats(0, 639), y=st.floats(0, 479))
def test_jacobian_is_the_finite_difference(turn: tuple[float, float, float], scale: float, x: float, y: float) -> None:
    """Central differences of 1e-3 px: their own error is below 1e-6."""
    homography = scale * homography_of(turn)
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


def test_box_overlaps_by_hand() -> None:
    """The box itself; a quarter of it shared; apart; wholly inside; without extent; touching along a side."""
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 10, 10], [20, 20, 4, 5], [2, 2, 5, 4], [3, 3, 0, 0], [10, 0, 10, 10]])
    np.testing.assert_allclose(box_intersection(boxes[:1], boxes)[0], [100, 25, 0, 20, 0, 0], atol=1e-12)
    np.testing.assert_allclose(box_iou(boxes[:1], boxes)[0], [1, 25 / 175, 0, 0.2, 0, 0], atol=1e-12)


@settings(max_examples=50)
@given(seed=seeds)
def test_box_overlap_is_a_count_of_pixels(seed: int) -> None:
    """Boxes of whole pixels cover as many cells of a raster as they share."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.integers(0, 20, (5, 2)), rng.integers(1, 15, (5, 2))], axis=1)
    rasters = np.zeros((5, 40, 40), dtype=bool)
    for raster, (x, y, width, height) in zip(rasters, boxes, strict=True):
        raster[y : y + height, x : x + width] = True
    shared = (rasters[:, None] & rasters[None]).sum(axis=(2, 3))
    either = (rasters[:, None] | rasters[None]).sum(axis=(2, 3))
    np.testing.assert_array_equal(box_intersection(boxes.astype(float), boxes.astype(float)), shared)
    np.testing.assert_allclose(box_iou(boxes.astype(float), boxes.astype(float)), shared / either, atol=1e-12)


def test_boxes_at_the_border() -> None:
    """In an image of 40 x 30 a box of columns 30 to 39 touches the right border, one of 30 to 38 does not."""
    boxes = np.array([[30, 5, 10, 5], [30, 5, 9, 5], [0, 5, 3, 3], [5, 0, 3, 3], [5, 27, 3, 3], [5, 26, 3, 3]], float)
    assert touches_border(boxes, (30, 40)).tolist() == [True, False, True, True, True, False]
    assert touches_border(boxes[:0], (30, 40)).tolist() == []


def test_mahalanobis_distance_by_hand() -> None:
    """3 and 4 standard deviations along the axes; an ellipse turned by 45 degrees of 2 and 1 px."""
    assert mahalanobis2(np.array([6.0, 2.0]), np.diag([4.0, 0.25])) == pytest.approx(9 + 16)
    axis = np.sqrt(0.5) * np.array([1.0, 1.0])
    across = np.sqrt(0.5) * np.array([1.0, -1.0])
    covariance = 4 * np.outer(axis, axis) + np.outer(across, across)
    vectors = np.stack([6 * axis, 3 * across])
    np.testing.assert_allclose(mahalanobis2(vectors, np.stack([covariance] * 2)), [9, 9], atol=1e-9)


@settings(max_examples=50)
@given(seed=seeds)
def test_mahalanobis_distance_is_the_length_before_a_stretch(seed: int) -> None:
    """Vectors of unit covariance, stretched by any matrix with its covariance, keep their length."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(0, 1, (4, 3, 2))
    stretch = rng.normal(0, 1, (4, 3, 2, 2)) + 4 * np.eye(2)  # Far from singular.
    stretched = np.einsum("...ij,...j->...i", stretch, unit)
    covariances = stretch @ stretch.swapaxes(-1, -2)
    np.testing.assert_allclose(mahalanobis2(stretched, covariances), (unit**2).sum(axis=-1), rtol=1e-6, atol=1e-9)


def test_nothing_stays_nothing() -> None:
    assert apply_homography(np.eye(3), np.zeros((0, 2))).shape == (0, 2)
    assert homography_jacobians(np.eye(3), np.zeros((0, 2))).shape == (0, 2, 2)
    assert box_iou(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert box_iou(np.ones((3, 4)), np.zeros((0, 4))).shape == (3, 0)
    assert box_intersection(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0, 0)
    assert mahalanobis2(np.zeros((0, 2)), np.zeros((0, 2, 2))).shape == (0,)
