"""Homographies, boxes and distances, for many of them at once."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import BoolArray, FloatArray


def apply_homography(homography: FloatArray, points_px: FloatArray) -> FloatArray:
    """Move points `(N, 2)` by a `(3, 3)` homography."""
    if len(points_px) == 0:
        return np.zeros((0, 2))
    moved = np.concatenate([points_px, np.ones((len(points_px), 1))], axis=1) @ homography.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def homography_jacobians(homography: FloatArray, points_px: FloatArray) -> FloatArray:
    """Compute d moved / d point `(N, 2, 2)` of a homography at points `(N, 2)`."""
    moved = np.concatenate([points_px, np.ones((len(points_px), 1))], axis=1) @ homography.T
    image = moved[:, :2] / moved[:, 2:]
    numerator = homography[None, :2, :2] - image[:, :, None] * homography[None, 2:, :2]
    return np.asarray(numerator / moved[:, 2, None, None])


def box_intersection(first_xywh: FloatArray, second_xywh: FloatArray) -> FloatArray:
    """Compute the common area `(N, M)` [px^2] of boxes `(N, 4)` and `(M, 4)`."""
    low = np.maximum(first_xywh[:, None, :2], second_xywh[None, :, :2])
    high = np.minimum((first_xywh[:, :2] + first_xywh[:, 2:])[:, None], (second_xywh[:, :2] + second_xywh[:, 2:])[None])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def box_iou(first_xywh: FloatArray, second_xywh: FloatArray) -> FloatArray:
    """Compute the intersection over union `(N, M)` of boxes `(N, 4)` and `(M, 4)`."""
    overlap = box_intersection(first_xywh, second_xywh)
    union = first_xywh[:, 2:].prod(axis=1)[:, None] + second_xywh[:, 2:].prod(axis=1)[None] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9))


def touches_border(boxes_xywh_px: FloatArray, size: tuple[int, ...]) -> BoolArray:
    """Test which boxes `(N, 4)` touch the border of an image of `size` (height, width)."""
    low, high = boxes_xywh_px[:, :2], boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:]
    return np.asarray(((low <= 0) | (high >= np.array(size)[::-1])).any(axis=1))


def mahalanobis2(differences: FloatArray, covariances: FloatArray) -> FloatArray:
    """Compute squared Mahalanobis distances `(...)` of vectors `(..., D)` under covariances `(..., D, D)`."""
    solved = np.linalg.solve(covariances, differences[..., None])[..., 0]
    return np.asarray((differences * solved).sum(axis=-1))
