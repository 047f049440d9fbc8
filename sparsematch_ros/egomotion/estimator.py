"""The background's motion by the best means that a frame offers: telemetry, stars, texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import EgoMotion, FloatArray, FocalEstimate, Frame
from sparsematch_ros.egomotion.agreement import check_telemetry
from sparsematch_ros.egomotion.features import fit_background, follow_corners
from sparsematch_ros.egomotion.residual import ResidualFlow, flow_scatter_px
from sparsematch_ros.egomotion.rotation import relative_rotation, rotation_homography, turned_away
from sparsematch_ros.egomotion.star_motion import Stars, star_motion
from sparsematch_ros.egomotion.turn_fit import Lens
from sparsematch_ros.egomotion.uncertainty import fit_covariance, image_sigma_px, turn_covariance
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky

# An attitude that comes with a frame is trusted to this in pixels; star trackers do better, gyros alone do worse.
_TELEMETRY_RESIDUAL_PX = 0.05
_CHECKED_STARS = 60

# A background that is known no better than this over the image is not known.
_MOST_SIGMA_PX = 3.0


class EgoMotionEstimator:
    """Estimates how the background moved since the previous frame."""

    def __init__(self, config: EgoMotionConfig) -> None:
        """Take the settings."""
        self.config = config
        self._flow = ResidualFlow(config.flow_size)

    def estimate(self, previous: Frame, current: Frame, skies: tuple[Sky, Sky], last: EgoMotion | None) -> EgoMotion:
        """Estimate the motion between two frames of the same size.

        Telemetry is taken where both frames carry an attitude and intrinsics, unless these say that the camera has
        turned its back on the previous view, or that many stars show another turn. Stars are used under a dark sky,
        where texture would be that of the objects themselves; texture otherwise. Without intrinsics the focal length is
        learnt from the stars as they move, and handed from one motion to the next.

        Args:
            previous: the frame before.
            current: this frame.
            skies: the surveys of both, in this order.
            last: the motion found one frame earlier, from which this one is expected.

        Returns:
            The motion; `valid` is False where nothing gave it.

        """
        dt_s = (current.stamp_ns - previous.stamp_ns) / 1e9
        expected, focal = _expected_homography(last, dt_s), None if last is None else last.focal
        told = self._telemetry(previous, current)
        if skies[1].dark:
            motion = self._under_stars(skies, current, (told, expected), focal)
        else:
            motion = told or self._texture(previous, current, expected)
        motion = replace(motion, dt_s=dt_s, focal=motion.focal or focal)
        return motion if skies[1].dark or not motion.valid else self._with_flow(motion, previous, current)

    def _telemetry(self, previous: Frame, current: Frame) -> EgoMotion | None:
        before, after, camera = previous.q_NC_xyzw, current.q_NC_xyzw, current.camera
        if not self.config.telemetry or before is None or after is None or camera is None:
            return None
        rotation = relative_rotation(before, after)
        if turned_away(camera, rotation):
            return None
        homography = rotation_homography(camera, rotation)
        spread_rad2 = _TELEMETRY_RESIDUAL_PX**2 / (camera.matrix[0, 0] * camera.matrix[1, 1]) * np.eye(3)
        return EgoMotion(
            homography,
            "telemetry",
            True,
            residual_px=_TELEMETRY_RESIDUAL_PX,
            covariance=turn_covariance(camera, rotation, homography, spread_rad2),
            rotation_CP_xyzw=rotation.as_quat(),
            rotation_covariance_rad2=spread_rad2,
        )

    def _under_stars(
        self,
        skies: tuple[Sky, Sky],
        current: Frame,
        ways: tuple[EgoMotion | None, FloatArray],
        focal: FocalEstimate | None,
    ) -> EgoMotion:
        """Take telemetry where the stars agree or say nothing, else the stars; look for them where either way leads."""
        told, expected = ways
        # Telemetry is only checked: the brightest stars do.
        most = self.config.max_stars if told is None else min(self.config.max_stars, _CHECKED_STARS)
        stars = Stars.of(skies[0], most), Stars.of(skies[1], most)
        lens = Lens.of(current.camera, current.size, focal)
        shown = EgoMotion()
        for homography in (expected,) if told is None else (told.homography, expected):
            shown = star_motion(*stars, homography, lens, self.config)
            if shown.valid:
                break
        return shown if told is None else check_telemetry(told, shown, stars, current.size, self.config)

    def _texture(self, previous: Frame, current: Frame, expected: FloatArray) -> EgoMotion:
        before, after = follow_corners(previous.gray, current.gray, expected, self.config)
        fit = fit_background(before, after, self.config)
        if fit is None:
            return EgoMotion()
        homography, inliers = fit
        covariance = fit_covariance(homography, before[inliers], after[inliers])
        if covariance is None or image_sigma_px(homography, covariance, current.size) > _MOST_SIGMA_PX:
            return EgoMotion()
        residual = apply_homography(homography, before[inliers]) - after[inliers]
        spread = float(np.sqrt(np.mean(residual**2)))
        return EgoMotion(homography, "features", True, inliers=len(inliers), residual_px=spread, covariance=covariance)

    def _with_flow(self, motion: EgoMotion, previous: Frame, current: Frame) -> EgoMotion:
        residual = self._flow(previous.gray, current.gray, motion.homography)
        return replace(motion, residual=residual, surroundings_px=flow_scatter_px(residual.flow_px))


def _expected_homography(last: EgoMotion | None, dt_s: float) -> FloatArray:
    """Expect the background to go on as it did; a changed interval scales its shift."""
    if last is None or not last.valid or last.dt_s <= 0:
        return np.eye(3)
    ratio = min(dt_s / last.dt_s, 4.0)
    return np.asarray(np.eye(3) + ratio * (last.homography - np.eye(3)))
