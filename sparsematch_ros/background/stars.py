"""The motion of the stars between two frames: paired, fitted, paired again by the fit, fitted again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sparsematch_ros.background.covariance import entries_covariance, turn_covariance, turn_derivatives
from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.background.rotation import rotation_homography
from sparsematch_ros.background.rotation_fit import Lens, Turn, fit_turn, turned
from sparsematch_ros.background.star_pairs import pair_again, pair_stars
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import FloatArray, IntArray
from sparsematch_ros.geometry import apply_homography

# Fainter sources are mostly noise, and where they are many they outvote the stars.
_LEAST_STAR_SNR = 4.0
# This share of the stars in agreement leaves no doubt.
_CLEAR_SHARE = 0.6
_INVERSE_SQUARE_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Stars:
    """Point sources of a frame that are bright enough to be stars.

    Attributes:
        points_px: `(S, 2)` centroids.
        variances_px2: `(S,)` variance an axis of the centroids.

    """

    points_px: FloatArray
    variances_px2: FloatArray

    @classmethod
    def of(cls, points_px: FloatArray, sigmas_px: FloatArray, snr: FloatArray, most: int) -> Stars:
        """Select the brightest of S sources, which come in the order of their brightness."""
        rows = np.flatnonzero(snr >= _LEAST_STAR_SNR)[:most]
        return cls(points_px[rows], sigmas_px[rows] ** 2)

    def __len__(self) -> int:
        """Count the stars."""
        return len(self.points_px)


@dataclass(frozen=True, eq=False)
class StarFit:
    """The stars' motion.

    Attributes:
        turn: the camera's rotation, with the focal length where it was not known.
        layer: the same as a layer.

    """

    turn: Turn
    layer: Layer


def fit_stars(
    before: Stars, after: Stars, expected: FloatArray, lens: Lens, config: BackgroundConfig
) -> StarFit | None:
    """Fit the motion of the stars.

    They are paired where they are expected; if that leaves doubt, in all the search radius. Then a similarity starts
    the fit of a rotation; that includes the perspective, so the stars far from the middle find their partners when all
    are paired again.

    Args:
        before: stars of the previous frame.
        after: stars of this frame.
        expected: `(3, 3)` homography that is expected.
        lens: what is known of the lens.
        config: radius and thresholds.

    Returns:
        The motion, or None where too few stars agree.

    """
    if min(len(before), len(after)) < config.min_inliers:
        return None
    fit = _Fitter(before, after, lens, config)
    near = apply_homography(expected, before.points_px)
    found = fit(pair_again(near, after.points_px))
    if found is None or len(found[1][0]) < _CLEAR_SHARE * min(len(before), len(after)):
        found = fit.twice(pair_stars(before.points_px, after.points_px, expected, config))
    if found is None:
        return None
    turn, (rows, columns) = found
    return StarFit(turn, star_layer(turn, lens, before.points_px[rows], after.points_px[columns]))


def star_layer(turn: Turn, lens: Lens, previous_px: FloatArray, current_px: FloatArray) -> Layer:
    """Describe a rotation as the layer of the stars, with the pairs `(K, 2)` of stars that agree with it."""
    homography = _homography(turn, lens)
    residual = apply_homography(homography, previous_px) - current_px
    rms = float(np.sqrt(np.mean(residual**2))) if len(residual) else float("nan")
    return Layer(LayerKind.STARS, homography, _covariance(turn, homography, lens), len(previous_px), rms)


class _Fitter:
    """Fits rotations to pairs of the stars of two frames."""

    def __init__(self, before: Stars, after: Stars, lens: Lens, config: BackgroundConfig) -> None:
        self._before, self._after = lens.centred(before.points_px), lens.centred(after.points_px)
        self._variances = before.variances_px2, after.variances_px2
        self._lens, self._config = lens, config

    def __call__(
        self, pairs: tuple[IntArray, IntArray], start: Turn | None = None
    ) -> tuple[Turn, tuple[IntArray, IntArray]] | None:
        """Fit a rotation to pairs; return it with the pairs that agree with it, or None where too few do."""
        rows, columns = pairs
        if len(rows) < self._config.min_inliers:
            return None
        before, after = self._before[rows], self._after[columns]
        variances = self._variances[0][rows] + self._variances[1][columns]
        turn = fit_turn(before, after, variances, self._lens, start)
        residual = np.linalg.norm(turned(turn.parameters, before) - after, axis=1)
        agree = residual <= self._config.ransac_threshold_px
        return (turn, (rows[agree], columns[agree])) if agree.sum() >= self._config.min_inliers else None

    def twice(self, pairs: tuple[IntArray, IntArray]) -> tuple[Turn, tuple[IntArray, IntArray]] | None:
        """Fit those of the pairs that one similarity explains, then all stars, paired by that fit."""
        rows, columns = pairs
        agree = similar_pairs(self._before[rows], self._after[columns], self._config)[1]
        first = self((rows[agree], columns[agree]))
        if first is None:
            return None
        return self(pair_again(turned(first[0].parameters, self._before), self._after), first[0])


def similar_pairs(
    before: FloatArray, after: FloatArray, config: BackgroundConfig
) -> tuple[FloatArray | None, IntArray]:
    """Find a similarity `(2, 3)` of pairs `(K, 2)` from random samples (RANSAC), and the rows that agree with it."""
    if len(before) < config.min_inliers:
        return None, np.zeros(0, dtype=np.int64)
    similarity, agree = cv2.estimateAffinePartial2D(
        before, after, method=cv2.RANSAC, ransacReprojThreshold=2 * config.ransac_threshold_px
    )
    return similarity, np.flatnonzero(agree)


def _homography(turn: Turn, lens: Lens) -> FloatArray:
    return rotation_homography(lens.camera_with(turn.parameters[3]), turn.rotation_CP)


def _covariance(turn: Turn, homography: FloatArray, lens: Lens) -> FloatArray:
    """Compute the covariance `(9, 9)` of the homography's entries, with the uncertainty of the lens."""
    inverse_square = turn.parameters[3]
    camera = lens.camera_with(inverse_square)
    if lens.known:
        return turn_covariance(camera, turn.rotation_CP, homography, turn.rotation_covariance_rad2)
    turns = turn_derivatives(camera, homography) * np.sqrt([inverse_square, inverse_square, 1.0])[:, None, None]
    step = np.array([0.0, 0.0, 0.0, _INVERSE_SQUARE_STEP * inverse_square])
    bent = (_homography(replace(turn, parameters=turn.parameters + step), lens) - homography) / step[3]
    return entries_covariance(np.concatenate([turns, bent[None]]), turn.covariance, homography)
