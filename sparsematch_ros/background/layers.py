"""The layers of the background, and how each carries points from the previous frame into the current one."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from sparsematch_ros.background.covariance import entry_jacobians
from sparsematch_ros.data import FloatArray, check_shape
from sparsematch_ros.geometry import apply_homography, homography_jacobians


class LayerKind(enum.IntEnum):
    """What may lie behind an object."""

    STARS = 0
    GROUND = 1
    DETECTOR = 2
    GHOST = 3


@dataclass(frozen=True, eq=False)
class Transport:
    """Where a layer carries N points.

    Attributes:
        points_px: `(N, 2)` places in the current frame.
        jacobians: `(N, 2, 2)` d place / d point.
        covariances_px2: `(N, 2, 2)` error of the places that comes from the layer's own motion.

    """

    points_px: FloatArray
    jacobians: FloatArray
    covariances_px2: FloatArray


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's motion from the previous frame to the current one.

    Attributes:
        kind: which layer.
        homography: `(3, 3)` previous pixel to current pixel, its last entry 1.
        covariance: `(9, 9)` of the homography's entries, row by row.
        inliers: stars or corners that agree with it; 0 where telemetry alone gave it.
        residual_px: standard deviation an axis of these [px]; NaN if unknown.

    """

    kind: LayerKind
    homography: FloatArray
    covariance: FloatArray
    inliers: int = 0
    residual_px: float = float("nan")

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("homography", self.homography, 3, 3)
        check_shape("covariance", self.covariance, 9, 9)

    def transport(self, points_px: FloatArray) -> Transport:
        """Carry points `(N, 2)` of the previous frame into the current one.

        A layer that was fitted to a small part of the image has large covariances elsewhere.
        """
        if len(points_px) == 0:
            return Transport(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros((0, 2, 2)))
        entries = entry_jacobians(self.homography, points_px)
        covariances = entries @ self.covariance @ entries.transpose(0, 2, 1)
        return Transport(
            apply_homography(self.homography, points_px), homography_jacobians(self.homography, points_px), covariances
        )


DETECTOR = Layer(LayerKind.DETECTOR, np.eye(3), np.zeros((9, 9)))


@dataclass(frozen=True)
class FocalEstimate:
    """Focal length learnt from moving stars, of a camera without intrinsics.

    In the inverse square the motion of stars is nearly linear, and a camera without perspective is no special case.

    Attributes:
        inverse_square: one over the square of the focal length [1/px^2].
        sigma: its standard deviation [1/px^2].

    """

    inverse_square: float
    sigma: float

    @property
    def focal_px(self) -> float:
        """Focal length [px]."""
        return float(self.inverse_square**-0.5)


@dataclass(frozen=True, eq=False)
class Background:
    """The motion of the whole background from the previous frame to the current one.

    Attributes:
        dt_s: time between the frames [s]; 0 on the first.
        reference: the layer against which velocities are given, the stars where sky is in view and else the ground;
            None where nothing is known.
        ground: the layer of ground and clouds, or None.
        stars: the layer of the stars, or None.
        ghosts: the motion of ghosts of the optics on the line of a bright light, or None without one.
        light_px: `(2,)` where that light is now, or None.
        method: `telemetry`, `stars`, `stars+telemetry`, `ground` or `none`: what the reference rests on.
        rotation_CP_xyzw: `(4,)` with `v_C = R v_P` from the previous camera's axes P to this one's C, or None.
        rotation_covariance_rad2: `(3, 3)` of a small rotation in C's axes that follows it, or None with it.
        focal: focal length learnt from the stars, or None.
        disagreement_rad: angle between the rotations by telemetry and by stars; NaN where one of them is missing.
        problem: what is wrong with the sources of this motion; empty where nothing is.
        starless: whether what looks like sky holds sources of which hardly one is a star: it is none.
        gap: whether images are missing between the frames: nothing is matched across.

    """

    dt_s: float = 0.0
    reference: Layer | None = None
    ground: Layer | None = None
    stars: Layer | None = None
    method: str = "none"
    rotation_CP_xyzw: FloatArray | None = None
    rotation_covariance_rad2: FloatArray | None = None
    focal: FocalEstimate | None = None
    disagreement_rad: float = float("nan")
    problem: str = ""
    starless: bool = False
    gap: bool = False
    ghosts: Layer | None = None
    light_px: FloatArray | None = None
    homography: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Check shapes, and take over the reference's homography, the identity without one."""
        check_shape("rotation_CP_xyzw", self.rotation_CP_xyzw, 4)
        check_shape("rotation_covariance_rad2", self.rotation_covariance_rad2, 3, 3)
        object.__setattr__(self, "homography", np.eye(3) if self.reference is None else self.reference.homography)

    @property
    def valid(self) -> bool:
        """Whether the motion of what velocities refer to is known."""
        return self.reference is not None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in which something may be at rest, the reference first, the detector last."""
        others = (self.stars, self.ground, self.ghosts)
        known = [layer for layer in others if layer is not None and layer is not self.reference]
        return (*((self.reference,) if self.reference is not None else ()), *known, DETECTOR)
