"""A camera's turn fitted to paired stars: robustly, weighted, with covariance, and with the focal length if need be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.layers import FocalEstimate
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray

# Half the weight is gone at this many standard deviations (Cauchy's loss): double stars and false pairs lie beyond.
_CAUCHY_SIGMAS = 2.0
_ROUNDS = 10
# In pixels, at the border for a roll, and in shares of the inverse square.
_SETTLED = 1e-3
_INVERSE_SQUARE_STEP = 1e-3
# Pairs cannot agree better than this share of what their centroids promise: what is exact must not divide by zero.
_LEAST_SCALE = 0.05
# Of full weights; pairs that scatter so much that this is all they tell fix nothing.
_LEAST_SLOPE, _LEAST_PULL = 0.1, 0.1
# The median of a plane error's length over its standard deviation an axis.
_RAYLEIGH_MEDIAN = 1.1774
# No lens is longer than a hundred thousand pixels, as far as a picture could tell.
_LEAST_INVERSE_SQUARE = 1e-10
# A lens that nobody has told of: 37 deg wide, and anything from 16 deg to 90 deg will do.
_TYPICAL_FOCAL_SIDES = 1.5
_SIGMA_FOCAL_SIDES = 1.0
# Between two frames a focal length may change by half of this share.
_INVERSE_SQUARE_DRIFT = 0.04


@dataclass(frozen=True, eq=False)
class Lens:
    """How the pixels of both frames become those of a camera without distortion, counted from its axis.

    Attributes:
        camera: intrinsics, or None where they are not known.
        size: height and width of the image [px].
        focal: its focal length, with a `sigma` of 0 where it is known.

    """

    camera: CameraModel | None
    size: tuple[int, int]
    focal: FocalEstimate

    @classmethod
    def of(cls, camera: CameraModel | None, size: tuple[int, int], before: FocalEstimate | None) -> Lens:
        """Take the intrinsics, else what was learnt of them before, else anything that is a lens."""
        if camera is not None:
            return cls(camera, size, FocalEstimate(1 / float(camera.matrix[0, 0] * camera.matrix[1, 1]), 0.0))
        if before is None:
            side = max(size)
            return cls(
                None, size, FocalEstimate((_TYPICAL_FOCAL_SIDES * side) ** -2, (_SIGMA_FOCAL_SIDES * side) ** -2)
            )
        drift = _INVERSE_SQUARE_DRIFT * before.inverse_square
        return cls(None, size, replace(before, sigma=float(np.hypot(before.sigma, drift))))

    @property
    def known(self) -> bool:
        """Whether the focal length is not to be estimated."""
        return self.focal.sigma == 0

    def centred(self, points_px: FloatArray) -> FloatArray:
        """Turn pixels `(N, 2)` into ideal ones from the axis, `(N, 2)`."""
        if self.camera is None:
            return points_px - (np.array(self.size[::-1]) - 1) / 2
        bearings = self.camera.bearings(points_px)
        return np.asarray(bearings[:, :2] / bearings[:, 2:] * self.focal.focal_px)

    def camera_with(self, inverse_square: float) -> CameraModel:
        """Give the intrinsics, or those of an ideal camera with a focal length."""
        if self.camera is not None:
            return self.camera
        (height, width), focal_px = self.size, inverse_square**-0.5
        matrix = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
        return CameraModel(width, height, matrix)


@dataclass(frozen=True, eq=False)
class Turn:
    """A fitted turn.

    Attributes:
        parameters: `(4,)` rotation vector, x and y times the focal length [px, px, rad], and the focal length's
            inverse square [1/px^2].
        covariance: `(4, 4)` of a small turn that follows it, in these units, and of the inverse square; zero there
            where it was known.
        scale: standard deviation of the pairs over what their centroids promised.

    """

    parameters: FloatArray
    covariance: FloatArray
    scale: float

    @property
    def rotation_CP(self) -> Rotation:
        """The rotation from the previous camera's axes to the current one's."""
        return Rotation.from_matrix(_rotation(self.parameters))

    @property
    def rotation_covariance_rad2(self) -> FloatArray:
        """Covariance `(3, 3)` of a small turn that follows that rotation, the focal length taken as it is."""
        radians = _radians(self.parameters[3])
        return np.asarray(self.covariance[:3, :3] * np.outer(radians, radians))

    @property
    def focal(self) -> FocalEstimate:
        """The focal length."""
        return FocalEstimate(float(self.parameters[3]), float(np.sqrt(self.covariance[3, 3])))


def fit_turn(
    before: FloatArray, after: FloatArray, variances_px2: FloatArray, lens: Lens, start: Turn | None = None
) -> Turn:
    """Fit a turn to paired stars by Gauss-Newton steps with Cauchy's weights (iteratively reweighted least squares).

    The scale of the errors comes from the pairs themselves, so centroids that promise too little or too much move the
    covariance no more than the weights. What was known of the focal length goes in as one more measurement.

    Args:
        before: `(K, 2)` of the previous frame, as `Lens.centred` gives them.
        after: `(K, 2)` of this frame.
        variances_px2: `(K,)` variance an axis of each pair's difference.
        lens: what is known of the lens.
        start: a fit to other pairs of the same frames, from which this one starts.

    """
    known = lens.focal.inverse_square
    free = 3 if lens.known else 4
    units = np.array([1.0, 1.0, 1 / max(lens.size), known])[:free]
    information = np.diag([0.0, 0.0, 0.0, 0.0 if lens.known else (known / lens.focal.sigma) ** 2])[:free, :free]
    parameters = np.array([0.0, 0.0, 0.0, known]) if start is None else start.parameters
    normal, scale = information, 1.0
    for _ in range(_ROUNDS):
        moved = turned(parameters, before)
        weights, scale = _weights(moved - after, variances_px2)
        jacobian = _jacobian(parameters, before, moved, free) * units
        normal = np.einsum("k,kai,kaj->ij", weights, jacobian, jacobian) + information
        slope = np.einsum("k,kai,ka->i", weights, jacobian, moved - after)
        slope += information[:, -1] * (parameters[3] / known - 1)
        step = np.linalg.solve(normal, -slope)
        parameters = _stepped(parameters, step * units)
        if np.abs(step).max() < _SETTLED:
            break
    covariance = np.zeros((4, 4))
    covariance[:free, :free] = np.linalg.inv(normal) * np.outer(units, units)
    return Turn(parameters, covariance, scale)


def turned(parameters: FloatArray, points: FloatArray) -> FloatArray:
    """Move centred points `(K, 2)` by the parameters of a `Turn`."""
    inverse_px, rotation = np.sqrt(parameters[3]), _rotation(parameters)
    rays = points @ rotation[:, :2].T + rotation[:, 2] / inverse_px
    return np.asarray(rays[:, :2] / (rays[:, 2:] * inverse_px))


def _weights(residuals: FloatArray, variances_px2: FloatArray) -> tuple[FloatArray, float]:
    """Give the weight of each pair [1/px^2] and the scale of the errors.

    Cauchy's weights say how a pair pulls, not what it tells; all of them are scaled so that the inverse of the weighted
    normal matrix is the covariance (Huber, "Robust Statistics", 7.6, for errors in the plane).
    """
    lengths = np.linalg.norm(residuals, axis=1) / np.sqrt(variances_px2)
    scale = max(float(np.median(lengths)) / _RAYLEIGH_MEDIAN, _LEAST_SCALE)
    square = (lengths / scale) ** 2
    weights = 1 / (1 + square / _CAUCHY_SIGMAS**2)
    pull = max(float(np.mean(weights**2 * square)) / 2, _LEAST_PULL)
    slope = float(np.mean(weights - weights**2 * square / _CAUCHY_SIGMAS**2))
    excess = pull * float(weights.mean()) / max(slope, _LEAST_SLOPE) ** 2
    return weights / (variances_px2 * scale**2 * excess), scale


def _jacobian(parameters: FloatArray, points: FloatArray, moved: FloatArray, free: int) -> FloatArray:
    """Give d turned / d parameter `(K, 2, free)`, the rotation's as a small turn that follows it."""
    (x, y), inverse_square = moved.T, parameters[3]
    jacobian = np.empty((len(points), 2, free))
    jacobian[:, 0, 0], jacobian[:, 1, 0] = -inverse_square * x * y, -1 - inverse_square * y**2
    jacobian[:, 0, 1], jacobian[:, 1, 1] = 1 + inverse_square * x**2, inverse_square * x * y
    jacobian[:, 0, 2], jacobian[:, 1, 2] = -y, x
    if free > 3:
        change = np.array([0.0, 0.0, 0.0, _INVERSE_SQUARE_STEP * inverse_square])
        jacobian[:, :, 3] = (turned(parameters + change, points) - moved) / change[3]
    return jacobian


def _stepped(parameters: FloatArray, step: FloatArray) -> FloatArray:
    """Let a small turn follow the one so far, and change the inverse square where the step has it."""
    change = np.append(step[:3], parameters[3])
    matrix = _rotation(change) @ _rotation(parameters)
    turn, _ = cv2.Rodrigues(matrix)
    if not turn.any():  # OpenCV takes an angle under 1e-5 rad for none; there the matrix is linear in it.
        turn = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / 2
    inverse_square = max(parameters[3] + (step[3] if len(step) > 3 else 0.0), _LEAST_INVERSE_SQUARE)
    return np.append(turn.ravel() / _radians(parameters[3]), inverse_square)


def _rotation(parameters: FloatArray) -> FloatArray:
    """Give the rotation matrix of parameters `(4,)`; scipy's takes ten times as long, and this runs in every round."""
    matrix, _ = cv2.Rodrigues(parameters[:3] * _radians(parameters[3]))
    return np.asarray(matrix, dtype=np.float64)


def _radians(inverse_square: float) -> FloatArray:
    """Give what turns the first three parameters into a rotation vector."""
    inverse_px = float(np.sqrt(inverse_square))
    return np.array([inverse_px, inverse_px, 1.0])
