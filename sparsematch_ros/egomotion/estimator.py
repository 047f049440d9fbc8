"""The background's motion by the best means that a frame offers: telemetry, stars, texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparsematch_ros.config import EgoMotionConfig
from sparsematch_ros.data import EgoMotion, FloatArray, Frame, IntArray
from sparsematch_ros.egomotion.features import fit_background, follow_corners
from sparsematch_ros.egomotion.residual import ResidualFlow, flow_scatter_px
from sparsematch_ros.egomotion.rotation import relative_rotation, rotation_homography, turned_away
from sparsematch_ros.egomotion.stars import fit_stars, pair_again, pair_stars
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky

# An attitude that comes with a frame is trusted to this in pixels; star trackers do better, gyros alone do worse.
_TELEMETRY_RESIDUAL_PX = 0.15

# Fainter sources are mostly noise, and where they are many they outvote the stars.
_LEAST_STAR_SNR = 4.0


class EgoMotionEstimator:
    """Estimates how the background moved since the previous frame."""

    def __init__(self, config: EgoMotionConfig) -> None:
        """Take the settings."""
        self.config = config
        self._flow = ResidualFlow(config.flow_size)

    def estimate(self, previous: Frame, current: Frame, skies: tuple[Sky, Sky], last: EgoMotion | None) -> EgoMotion:
        """Estimate the motion between two frames of the same size.

        Telemetry is taken where both frames carry an attitude and intrinsics, unless these say that the camera has
        turned its back on the previous view. Stars are used under a dark sky, where texture would be that of the
        objects themselves; texture otherwise.

        Args:
            previous: the frame before.
            current: this frame.
            skies: the surveys of both, in this order.
            last: the motion found one frame earlier, from which this one is expected.

        Returns:
            The motion; `valid` is False where nothing gave it.

        """
        dt_s = (current.stamp_ns - previous.stamp_ns) / 1e9
        motion = self._telemetry(previous, current)
        if motion is None:
            expected = _expected_homography(last, dt_s)
            motion = (
                self._stars(skies, current, expected) if skies[1].dark else self._texture(previous, current, expected)
            )
        motion = replace(motion, dt_s=dt_s)
        return motion if skies[1].dark or not motion.valid else self._with_flow(motion, previous, current)

    def _telemetry(self, previous: Frame, current: Frame) -> EgoMotion | None:
        before, after, camera = previous.q_NC_xyzw, current.q_NC_xyzw, current.camera
        if not self.config.telemetry or before is None or after is None or camera is None:
            return None
        rotation = relative_rotation(before, after)
        if turned_away(camera, rotation):
            return None
        return EgoMotion(rotation_homography(camera, rotation), "telemetry", True, residual_px=_TELEMETRY_RESIDUAL_PX)

    def _stars(self, skies: tuple[Sky, Sky], current: Frame, expected: FloatArray) -> EgoMotion:
        bright = [np.flatnonzero(sky.snr >= _LEAST_STAR_SNR)[: self.config.max_stars] for sky in skies]
        before, after = (sky.points_px[rows] for sky, rows in zip(skies, bright))
        noise = [sky.sigmas_px[rows] ** 2 for sky, rows in zip(skies, bright)]
        if min(len(before), len(after)) < self.config.min_inliers:
            return EgoMotion()

        def fit_pairs(rows: IntArray, columns: IntArray) -> tuple[FloatArray, IntArray] | None:
            variances = noise[0][rows] + noise[1][columns]
            return fit_stars(before[rows], after[columns], variances, current.camera, self.config)

        first = fit_pairs(*pair_stars(before, after, expected, self.config))
        if first is None:
            return EgoMotion()
        rows, columns = pair_again(before, after, first[0])
        fit = fit_pairs(rows, columns)
        return EgoMotion() if fit is None else _fitted("stars", before[rows], after[columns], *fit)

    def _texture(self, previous: Frame, current: Frame, expected: FloatArray) -> EgoMotion:
        before, after = follow_corners(previous.gray, current.gray, expected, self.config)
        fit = fit_background(before, after, self.config)
        return EgoMotion() if fit is None else _fitted("features", before, after, *fit)

    def _with_flow(self, motion: EgoMotion, previous: Frame, current: Frame) -> EgoMotion:
        residual = self._flow(previous.gray, current.gray, motion.homography)
        return replace(motion, residual=residual, surroundings_px=flow_scatter_px(residual.flow_px))


def _expected_homography(last: EgoMotion | None, dt_s: float) -> FloatArray:
    """Expect the background to go on as it did; a changed interval scales its shift."""
    if last is None or not last.valid or last.dt_s <= 0:
        return np.eye(3)
    ratio = min(dt_s / last.dt_s, 4.0)
    return np.asarray(np.eye(3) + ratio * (last.homography - np.eye(3)))


def _fitted(method: str, before: FloatArray, after: FloatArray, homography: FloatArray, inliers: IntArray) -> EgoMotion:
    residual = apply_homography(homography, before[inliers]) - after[inliers]
    spread = float(np.sqrt(np.mean(residual**2)))
    return EgoMotion(homography, method, True, inliers=len(inliers), residual_px=spread)
