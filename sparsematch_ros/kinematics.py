"""Constant velocity in the scene's frame, seen through the background's motion."""

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
    """Give d moved / d point `(N, 2, 2)` of a homography at points `(N, 2)`."""
    moved = np.concatenate([points_px, np.ones((len(points_px), 1))], axis=1) @ homography.T
    image = moved[:, :2] / moved[:, 2:]
    numerator = homography[None, :2, :2] - image[:, :, None] * homography[None, 2:, :2]
    return np.asarray(numerator / moved[:, 2, None, None])


def move_boxes(homography: FloatArray, boxes_xywh_px: FloatArray, shift_px: FloatArray) -> FloatArray:
    """Move boxes `(N, 4)` by their own shift `(N, 2)`, then their centres by a homography; their size stays."""
    centres = boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:] / 2
    moved = apply_homography(homography, centres + shift_px)
    return np.concatenate([moved - boxes_xywh_px[:, 2:] / 2, boxes_xywh_px[:, 2:]], axis=1)


def predict_states(
    states: FloatArray, covariances: FloatArray, homography: FloatArray, dt_s: float, acceleration_px_s2: float
) -> tuple[FloatArray, FloatArray]:
    """Predict centroids and scene-relative velocities into the next frame.

    The state moves by its own velocity in the previous frame and is then carried by the background's homography, whose
    Jacobian turns the velocity too. Process noise is white acceleration (Bar-Shalom, "Estimation with Applications to
    Tracking and Navigation", 6.3.2).

    Args:
        states: `(T, 4)` x, y [px], velocity x, y [px/s].
        covariances: `(T, 4, 4)`.
        homography: `(3, 3)` previous pixel to current pixel.
        dt_s: time between the frames [s].
        acceleration_px_s2: standard deviation of the acceleration [px/s^2].

    """
    if len(states) == 0:
        return np.zeros((0, 4)), np.zeros((0, 4, 4))
    transition = transitions(states, homography, dt_s)
    coasted = states[:, :2] + dt_s * states[:, 2:]
    velocity = np.einsum("nij,nj->ni", transition[:, 2:, 2:], states[:, 2:])
    noise = acceleration_noise(dt_s, acceleration_px_s2)
    predicted = transition @ covariances @ transition.transpose(0, 2, 1) + noise
    return np.concatenate([apply_homography(homography, coasted), velocity], axis=1), predicted


def transitions(states: FloatArray, homography: FloatArray, dt_s: float) -> FloatArray:
    """Give the transition matrices `(T, 4, 4)` of `predict_states`: d predicted state / d state."""
    jacobians = homography_jacobians(homography, states[:, :2] + dt_s * states[:, 2:])
    transition = np.zeros((len(states), 4, 4))
    transition[:, :2, :2] = jacobians
    transition[:, :2, 2:] = dt_s * jacobians
    transition[:, 2:, 2:] = jacobians
    return transition


def acceleration_noise(dt_s: float, acceleration_px_s2: float) -> FloatArray:
    """Give the process noise `(4, 4)` of a white acceleration of some standard deviation [px/s^2]."""
    block = np.array([[dt_s**4 / 4, dt_s**3 / 2], [dt_s**3 / 2, dt_s**2]]) * acceleration_px_s2**2
    return np.asarray(np.kron(block, np.eye(2)), dtype=np.float64)


def box_intersection(first_xywh: FloatArray, second_xywh: FloatArray) -> FloatArray:
    """Give the common area `(N, M)` [px^2] of boxes `(N, 4)` and `(M, 4)`."""
    low = np.maximum(first_xywh[:, None, :2], second_xywh[None, :, :2])
    high = np.minimum((first_xywh[:, :2] + first_xywh[:, 2:])[:, None], (second_xywh[:, :2] + second_xywh[:, 2:])[None])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def touches_border(boxes_xywh_px: FloatArray, size: tuple[int, ...]) -> BoolArray:
    """Say which boxes `(N, 4)` touch the border of an image of `size` (height, width), beyond which they may go on."""
    low, high = boxes_xywh_px[:, :2], boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:]
    return np.asarray(((low <= 0) | (high >= np.array(size)[::-1])).any(axis=1))


def box_iou(first_xywh: FloatArray, second_xywh: FloatArray) -> FloatArray:
    """Give the intersection over union `(N, M)` of boxes `(N, 4)` and `(M, 4)`."""
    overlap = box_intersection(first_xywh, second_xywh)
    union = first_xywh[:, 2:].prod(axis=1)[:, None] + second_xywh[:, 2:].prod(axis=1)[None] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9))
