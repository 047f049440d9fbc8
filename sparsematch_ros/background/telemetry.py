"""Attitude telemetry as a measurement of the camera's rotation, with an error that the stars tell.

Only the rotation from one frame to the next is used: an attitude that is wrong by a constant does no harm here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from sparsematch_ros.background.covariance import turn_covariance
from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.background.rotation import relative_rotation, rotation_homography, turned_away
from sparsematch_ros.background.stars import StarFit
from sparsematch_ros.data import FloatArray, Frame

# Error of an attitude before any stars were compared with it [px], and the largest one that is an error and no fault.
_FIRST_SIGMA_PX, _MOST_SIGMA_PX = 0.1, 1.0
# Weight of a new comparison in the learnt error.
_LEARNING = 0.1
# One in a million comparisons of correct sources raises an alarm; stars are believed when so many agree.
_LIMIT = float(chi2.isf(1e-6, 3))
_MANY_STARS = 15
# After this many alarms in a row telemetry is ignored until it agrees again as often.
_ALARMS = 3


@dataclass(frozen=True, eq=False)
class CameraRotation:
    """The camera's rotation between two frames.

    Attributes:
        rotation_CP: from the previous camera's axes P to the current one's C.
        covariance_rad2: `(3, 3)` of a small rotation in C's axes that follows it.
        layer: the motion of the stars under it.
        method: `telemetry`, `stars` or `stars+telemetry`.
        disagreement_rad: angle between both sources; NaN where one is missing.
        problem: what is wrong with a source; empty where nothing is.

    """

    rotation_CP: Rotation
    covariance_rad2: FloatArray
    layer: Layer
    method: str
    disagreement_rad: float = float("nan")
    problem: str = ""


class Telemetry:
    """Turns attitudes into rotations, learns their error, and refuses them while they contradict the stars."""

    def __init__(self) -> None:
        """Start with an untested source."""
        self._sigma_px = _FIRST_SIGMA_PX
        self._alarms = 0
        self._ignored = False
        self._last_apart_px: FloatArray | None = None

    def rotation(self, previous: Frame, current: Frame) -> CameraRotation | None:
        """Compute the rotation that the attitudes of two frames tell.

        Returns:
            None without attitudes or intrinsics, and where the camera has turned away from the previous view.

        """
        camera = current.camera
        if previous.q_NC_xyzw is None or current.q_NC_xyzw is None or camera is None:
            return None
        rotation = relative_rotation(previous.q_NC_xyzw, current.q_NC_xyzw)
        if turned_away(camera, rotation):
            return None
        covariance_rad2 = self._sigma_px**2 / (camera.matrix[0, 0] * camera.matrix[1, 1]) * np.eye(3)
        homography = rotation_homography(camera, rotation)
        covariance = turn_covariance(camera, rotation, homography, covariance_rad2)
        layer = Layer(LayerKind.STARS, homography, covariance, residual_px=self._sigma_px)
        return CameraRotation(rotation, covariance_rad2, layer, "telemetry")

    def combine(self, told: CameraRotation | None, stars: StarFit | None, current: Frame) -> CameraRotation | None:
        """Weigh both sources by their covariances, or choose one where they contradict each other.

        Args:
            told: the rotation by telemetry.
            stars: the fit to the stars, with known intrinsics.
            current: the current frame.

        """
        camera = current.camera
        if stars is None or camera is None:
            return None if self._ignored else told
        shown = _of_stars(stars)
        if told is None:
            return shown
        apart_rad = (shown.rotation_CP * told.rotation_CP.inv()).as_rotvec()
        both = shown.covariance_rad2 + told.covariance_rad2
        distance2 = float(apart_rad @ np.linalg.solve(both, apart_rad))
        focal_px = float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
        self._judge(distance2)
        self._learn(apart_rad * focal_px, shown.covariance_rad2 * focal_px**2)
        angle_rad = float(np.linalg.norm(apart_rad))
        if distance2 > _LIMIT or self._ignored:
            return self._chosen(told, shown, angle_rad, float(np.sqrt(distance2)))
        gain = told.covariance_rad2 @ np.linalg.inv(both)
        rotation = Rotation.from_rotvec(gain @ apart_rad) * told.rotation_CP
        covariance_rad2 = told.covariance_rad2 - gain @ told.covariance_rad2
        homography = rotation_homography(camera, rotation)
        covariance = turn_covariance(camera, rotation, homography, covariance_rad2)
        layer = Layer(LayerKind.STARS, homography, covariance, shown.layer.inliers, shown.layer.residual_px)
        return CameraRotation(rotation, covariance_rad2, layer, "stars+telemetry", angle_rad)

    def _judge(self, distance2: float) -> None:
        """Count alarms in a row, or agreements in a row while telemetry is ignored."""
        against = (distance2 > _LIMIT) != self._ignored
        self._alarms = self._alarms + 1 if against else 0
        if self._alarms >= _ALARMS:
            self._ignored, self._alarms = not self._ignored, 0

    def _learn(self, apart_px: FloatArray, star_covariance_px2: FloatArray) -> None:
        """Follow the noise of telemetry: what of the difference the stars' own error leaves over, rolls left out.

        Noise is new in each frame. What stays the same, as of another camera's attitude, is no noise.
        """
        last, self._last_apart_px = self._last_apart_px, apart_px
        if last is None:
            return
        change = apart_px - last
        excess = float((change[:2] ** 2).mean() / 2 - np.trace(star_covariance_px2[:2, :2]) / 2)
        bounded = min(max(excess, 0.0), (3 * self._sigma_px) ** 2)
        variance = self._sigma_px**2 + _LEARNING * (bounded - self._sigma_px**2)
        self._sigma_px = float(np.clip(np.sqrt(variance), _FIRST_SIGMA_PX / 10, _MOST_SIGMA_PX))

    def _chosen(self, told: CameraRotation, shown: CameraRotation, angle_rad: float, sigmas: float) -> CameraRotation:
        believed = shown if self._ignored or shown.layer.inliers >= _MANY_STARS else told
        problem = (
            f"telemetry and {shown.layer.inliers} stars differ by {angle_rad:.2e} rad in a frame, "
            f"{sigmas:.0f} standard deviations: {believed.method} used"
        )
        if self._ignored:
            problem += "; telemetry is ignored until it agrees again"
        return CameraRotation(
            believed.rotation_CP, believed.covariance_rad2, believed.layer, believed.method, angle_rad, problem
        )


def _of_stars(stars: StarFit) -> CameraRotation:
    return CameraRotation(stars.turn.rotation_CP, stars.turn.rotation_covariance_rad2, stars.layer, "stars")
