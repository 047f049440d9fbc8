"""The motion of all layers of the background, from whatever a pair of frames offers: stars, texture, telemetry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.background.covariance import fit_covariance
from sparsematch_ros.background.ghosts import ghost_layer
from sparsematch_ros.background.ground import REACH_PX, fit_ground
from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.background.rotation_fit import Lens
from sparsematch_ros.background.star_pairs import pair_stars
from sparsematch_ros.background.stars import StarFit, Stars, fit_stars, similar_pairs
from sparsematch_ros.background.telemetry import CameraRotation, Telemetry
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import NANOSECONDS, BoolArray, FloatArray, Frame
from sparsematch_ros.geometry import apply_homography, mahalanobis2

# Smooth dark ocean looks like sky: where sky takes less than this share of the image, it must show stars to be it.
_SKY_SHARE = 0.4
# Less of the image than this shows no ground.
_GROUND_SHARE = 0.02
# Layers whose motion differs by less than this at half of the stars are the same.
_SAME_MOTION_PX, _SAME_MOTION_SIGMA = 0.2, 0.7
# Among the brightest sources of a sky at least these shares are stars: where that alone proves it, and where its motion
# does.
_STARRY_SHARE, _LEAST_STARRY_SHARE = 0.8, 0.5
# Of so many sources fewer than this share are stars where the view shows no sky.
_MANY_SOURCES, _STARLESS_SHARE = 20, 0.2
# What is rough, or shows no star, and correlates this much with the frame before, is texture and no noise of a sensor.
_MOST_ROUGHNESS, _MOST_REPEATED = 4.0, 0.4
# A change of the interval extrapolates the motion by no more than this factor.
_MOST_EXTRAPOLATION = 4.0


@dataclass(frozen=True, eq=False)
class View:
    """What one frame shows of the background.

    Attributes:
        frame: the image.
        stars: its point sources.
        surroundings: `(H, W)` bool, where ground fills the view; everything where no sky is in view.
        sky_share: share of the image that looks like sky.
        objects: `(H, W)` bool, where tracked objects are, or None.
        noise: standard deviation of a pixel [grey levels].
        texture: `(H, W)` float32, what looks like sky over its level [grey levels]; NaN elsewhere and at sources.
        roughness: noise of what looks like sky over that of its pixels.
        light_px: `(2,)` a light so bright that the optics may show ghosts of it, or None.

    """

    frame: Frame
    stars: Stars
    surroundings: BoolArray
    sky_share: float
    noise: float
    texture: NDArray[np.float32]
    roughness: float = 1.0
    light_px: FloatArray | None = None
    objects: BoolArray | None = None


class BackgroundEstimator:
    """Estimates how the layers of the background moved between two frames."""

    def __init__(self, config: BackgroundConfig) -> None:
        """Keep the settings; telemetry is untested."""
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget what was learnt of telemetry."""
        self._telemetry = Telemetry()

    def estimate(self, previous: View, current: View, last: Background) -> Background:
        """Estimate the motion between two frames of the same size.

        Args:
            previous: the frame before.
            current: this frame.
            last: the motion one frame earlier, from which this one is expected.

        """
        dt_s = (current.frame.stamp_ns - previous.frame.stamp_ns) / NANOSECONDS
        changed = _intrinsics_differ(previous.frame, current.frame)
        if changed:
            stars, rotation = self._stars_across_cameras(previous, current, last), None
        else:
            told = self._telemetry.rotation(previous.frame, current.frame) if self.config.telemetry else None
            fit = self._fit_stars(previous, current, last, told, dt_s)
            rotation = self._rotation(told, fit, current)
            stars = rotation.layer if rotation is not None else (None if fit is None else fit.layer)
        expected = stars.homography if stars is not None else _expected(last.homography, last.dt_s, dt_s)
        ground = self._fit_ground(previous, current, stars, last, expected, dt_s)
        starless = _starless(stars, previous)
        by_stars = not starless if ground is None else _sky_in_view(stars, ground, previous, current)
        reference = stars if by_stars else ground
        method = "none" if reference is None else "ground" if reference is ground else "stars"
        if reference is stars and rotation is not None:
            method = rotation.method
        focal = last.focal if changed or fit is None or current.frame.camera is not None else fit.turn.focal
        ghosts = ghost_layer(previous.light_px, current.frame, stars)
        background = Background(
            dt_s, reference, ground, stars, method, focal=focal, starless=starless, ghosts=ghosts,
            light_px=current.light_px,
        )  # fmt: skip
        if rotation is None:
            return background
        return replace(
            background,
            rotation_CP_xyzw=rotation.rotation_CP.as_quat(),
            rotation_covariance_rad2=rotation.covariance_rad2,
            disagreement_rad=rotation.disagreement_rad,
            problem=rotation.problem,
        )

    def _rotation(self, told: CameraRotation | None, fit: StarFit | None, current: View) -> CameraRotation | None:
        """Combine telemetry and stars; what looks like stars over a dark ocean must not contradict telemetry."""
        if current.frame.camera is None:
            return None
        return self._telemetry.combine(told, fit, current.frame)

    def _fit_stars(
        self, previous: View, current: View, last: Background, told: CameraRotation | None, dt_s: float
    ) -> StarFit | None:
        """Look for the stars where telemetry and the last motion lead."""
        lens = Lens.of(current.frame.camera, current.frame.size, last.focal)
        ways = [] if told is None else [told.layer.homography]
        before = last.stars
        if before is not None:
            ways.append(_expected(before.homography, last.dt_s, dt_s))
        ways.append(np.eye(3))  # The last motion may have been a change of the lens.
        for expected in ways:
            fit = fit_stars(previous.stars, current.stars, expected, lens, self.config)
            if fit is not None:
                return fit
        return None

    def _fit_ground(
        self, previous: View, current: View, stars: Layer | None, last: Background, expected: FloatArray, dt_s: float
    ) -> Layer | None:
        """Fit the ground where it may show.

        That is in surroundings; where no star proves a sky, in what looks like one too, and anywhere where little does.
        """
        allowed = previous.surroundings
        if _starless(stars, previous) or previous.roughness > _MOST_ROUGHNESS:
            allowed = np.ones_like(allowed)
        elif stars is None or stars.inliers == 0:
            allowed = allowed | _far_from_bodies(previous) | (previous.sky_share < _SKY_SHARE)
        if previous.objects is not None:
            allowed = allowed & ~previous.objects
        if allowed.mean() < _GROUND_SHARE:
            return None
        if last.ground is not None:
            expected = _expected(last.ground.homography, last.dt_s, dt_s)
        return fit_ground((previous.frame.gray, current.frame.gray), allowed, expected, previous.noise, self.config)

    def _stars_across_cameras(self, previous: View, current: View, last: Background) -> Layer | None:
        """Fit a similarity to the stars of two frames whose intrinsics differ.

        Whether the optics have changed or only what is known of them cannot be told from the intrinsics, so no
        rotation is right in both cameras at once; the intrinsics say where to look first.
        """
        if previous.frame.camera is None or current.frame.camera is None:
            return None
        zoom = current.frame.camera.matrix @ np.linalg.inv(previous.frame.camera.matrix)
        before, after = previous.stars.points_px, current.stars.points_px
        if min(len(before), len(after)) < self.config.min_inliers:
            return None
        expected = zoom if last.stars is None else zoom @ last.stars.homography
        rows, columns = pair_stars(before, after, expected, self.config)
        similarity, agree = similar_pairs(before[rows], after[columns], self.config)
        if similarity is None or len(agree) < max(self.config.min_inliers, len(rows) / 2):
            return None
        before, after = before[rows[agree]], after[columns[agree]]
        homography = np.vstack([similarity, [0.0, 0.0, 1.0]])
        covariance = fit_covariance(homography, before, after)
        residual = float(np.sqrt(np.mean((apply_homography(homography, before) - after) ** 2)))
        return None if covariance is None else Layer(LayerKind.STARS, homography, covariance, len(agree), residual)


def _intrinsics_differ(before: Frame, after: Frame) -> bool:
    return before.camera is not None and after.camera is not None and not after.camera.agrees_with(before.camera)


def _starless(stars: Layer | None, view: View) -> bool:
    """Test whether a view shows many sources and hardly one of them moves as stars do."""
    count, inliers = len(view.stars.points_px), 0 if stars is None else stars.inliers
    return count >= _MANY_SOURCES and inliers < _STARLESS_SHARE * count


def _sky_in_view(stars: Layer | None, ground: Layer, previous: View, current: View) -> bool:
    """Test whether what looks like sky is sky.

    It fills much of the image, and nearly all its sources move as stars do or its noise is new in each frame; or it is
    smooth and its stars move otherwise than the ground. A dark ocean looks like sky and specks of cloud over it like
    stars, but they move with the ground. Where no star is seen, smooth cloud looks like sky, and so does a pattern of
    the detector.
    """
    if stars is None or _starless(stars, previous):
        return False
    rough = current.roughness > _MOST_ROUGHNESS
    starry = stars.inliers / max(len(current.stars.points_px), 1)
    if min(previous.sky_share, current.sky_share) >= _SKY_SHARE:
        texture = rough or (stars.inliers == 0 and not _stands_still(ground, current))
        repeated = texture and _repeated(previous.texture, current.texture, ground) > _MOST_REPEATED
        return starry > _STARRY_SHARE or not repeated
    if rough or starry < _LEAST_STARRY_SHARE:
        return False
    # Where the stars are: elsewhere both may be wrong.
    places = previous.stars.points_px
    by_stars, by_ground = stars.transport(places), ground.transport(places)
    spread = by_stars.covariances_px2 + by_ground.covariances_px2 + _SAME_MOTION_PX**2 * np.eye(2)
    distance2 = mahalanobis2(by_stars.points_px - by_ground.points_px, spread)
    return bool(np.median(distance2) > _SAME_MOTION_SIGMA**2)


def _far_from_bodies(view: View) -> BoolArray:
    """Mark `(H, W)` what looks like sky, so far from all else that no window of a corner holds any of it."""
    return np.asarray(cv2.distanceTransform(np.isfinite(view.texture).astype(np.uint8), cv2.DIST_L2, 3) > REACH_PX)


def _stands_still(layer: Layer, view: View) -> bool:
    """Test whether a layer stands still in the image, as a pattern of the detector does."""
    height, width = view.surroundings.shape
    places = np.array([[x, y] for x in (0.25 * width, 0.75 * width) for y in (0.25 * height, 0.75 * height)])
    return bool(np.abs(layer.transport(places).points_px - places).max() < _SAME_MOTION_PX)


def _repeated(before: NDArray[np.float32], after: NDArray[np.float32], layer: Layer) -> float:
    """Compute the correlation of what two frames show, in [-1, 1], the first carried along with a layer."""
    size = after.shape[::-1]
    known = cv2.warpPerspective(np.isfinite(before).astype(np.uint8), layer.homography, size, flags=cv2.INTER_NEAREST)
    carried = cv2.warpPerspective(np.nan_to_num(before), layer.homography, size, flags=cv2.INTER_LINEAR)
    both = (known > 0) & np.isfinite(after)
    if not both.any():
        return 0.0
    first, second = carried[both], after[both]
    return float((first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-9))


def _expected(homography: FloatArray, last_dt_s: float, dt_s: float) -> FloatArray:
    """Extrapolate a layer's motion to the next interval."""
    if last_dt_s <= 0:
        return np.eye(3)
    return np.asarray(np.eye(3) + min(dt_s / last_dt_s, _MOST_EXTRAPOLATION) * (homography - np.eye(3)))
