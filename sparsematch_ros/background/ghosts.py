"""Ghosts of the optics: images of a bright light between the lenses, on the line through it and the optical axis.

A ghost lies at the axis plus a share of the way from there to the light, and keeps that share: when the light moves in
the image, the ghost moves along by its share of that, or against it (Hullin et al., "Physically-Based Real-Time Lens
Flare Rendering", 2011, whose paraxial matrices make the place of a ghost linear in that of the light).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.data import FloatArray, Frame

# A light that makes ghosts saturates the image at this level, over a disc of this radius [px].
_SATURATED, _LEAST_RADIUS_PX = 250, 2.0
# A light nearer to the axis tells no direction [px].
_LEAST_DISTANCE_PX = 10.0
# Ghosts keep to the line up to this share of their distance, and this much [px].
_OFF_SHARE, _OFF_PX = 0.02, 4.0


def find_light(gray: NDArray[np.uint8]) -> FloatArray | None:
    """Find the largest saturated disc of an image `(H, W)`: its middle `(2,)` [px], None without one."""
    saturated = cv2.compare(gray, _SATURATED - 1, cv2.CMP_GT)
    if cv2.countNonZero(saturated) < np.pi * _LEAST_RADIUS_PX**2:
        return None
    depth = cv2.distanceTransform(cv2.copyMakeBorder(saturated, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5)
    if depth.max() < _LEAST_RADIUS_PX:
        return None
    y, x = np.nonzero(depth > 0.8 * depth.max())
    return np.array([x.mean(), y.mean()]) - 1


def ghost_layer(light_px: FloatArray | None, frame: Frame, stars: Layer | None) -> Layer | None:
    """Compute how ghosts move: as an affine map of places on the line of a light that is as far away as the stars.

    Args:
        light_px: `(2,)` place of the light in the previous frame, or None.
        frame: one of the two frames, for its optical axis.
        stars: the layer of the stars, or None.

    """
    way, axis = _way(light_px, frame), optical_axis_px(frame)
    if light_px is None or way is None or stars is None:
        return None
    step = stars.transport(light_px[None]).points_px[0] - light_px
    homography = np.eye(3)
    homography[:2, :2] += np.outer(step, way) / (way @ way)
    homography[:2, 2] = axis - homography[:2, :2] @ axis
    return Layer(LayerKind.GHOST, homography, np.zeros((9, 9)))


def _way(light_px: FloatArray | None, frame: Frame) -> FloatArray | None:
    """Compute the way `(2,)` [px] from the optical axis to a light; None without one, and where it is too short."""
    way = None if light_px is None else light_px - optical_axis_px(frame)
    return None if way is None or np.linalg.norm(way) < _LEAST_DISTANCE_PX else way


def optical_axis_px(frame: Frame) -> FloatArray:
    """Return where the optical axis meets the image `(2,)` [px]; its middle where the camera is not known."""
    if frame.camera is not None:
        return np.asarray(frame.camera.matrix[:2, 2], dtype=np.float64)
    return (np.array(frame.size[::-1]) - 1) / 2


def on_line(points_px: FloatArray, light_px: FloatArray | None, frame: Frame) -> FloatArray:
    """Compute how well places `(N, 2)` lie on the line of a light, in [0, 1]; 0 without a light off the axis."""
    way = _way(light_px, frame)
    if way is None:
        return np.zeros(len(points_px))
    away = points_px - optical_axis_px(frame)
    off = np.abs(away @ np.array([-way[1], way[0]])) / np.linalg.norm(way)
    sigma = _OFF_PX + _OFF_SHARE * np.linalg.norm(away, axis=1)
    return np.asarray(np.exp(-0.5 * (off / sigma) ** 2))
