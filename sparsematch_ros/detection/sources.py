"""Point sources of a frame: the matched filter of the frame's own point spread, which a slew draws out into streaks.

The filter is the point spread itself (DAOFIND, Stetson 1987). When the camera turns during the exposure, all stars are
smeared along one vector; the median second moments of the frame's sources give it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, check_shape
from sparsematch_ros.detection.radiance import SMOOTHING_PX, Radiance, Raster, lower_deviation

# Standard deviation of the point spread in the image, and after the smoothing [px].
_SPREAD_PX = 1.1
_SMOOTHED_PX = float(np.hypot(_SPREAD_PX, SMOOTHING_PX))
# Sources down to this share of the wanted signal to noise are kept, so that faint stars stay known through their noise.
FAINT_SHARE = 0.65
# On the contour on which a point source has fallen to 30% of its peak it stays below this share; a body does not.
_CONTOUR, _MOST_ON_CONTOUR = 0.3, 0.6
_DIRECTIONS = 12
# Where a point source has sunk to the threshold, and this much farther out [px], the sky shows in this share of the
# directions at least.
_FOOT_PX, _EMBEDDED_SHARE = 2.5, 0.6
# A body lights this many times the pixels that its peaks explain, each with an edge [px], and is longer than wide by
# this factor.
_MOST_LIT, _EDGE_PX, _LONG = 1.7, 0.5, 1.7
# What is this much sharper than the sharper ones of the frame's sources is no image of the optics: a hot pixel.
_MOST_SHARPNESS = 1.7
# The frame's sources are smeared when the median of their second moments is this elongated; so many are asked.
_LEAST_ELONGATION, _LEAST_MEASURED = 1.9, 8


@dataclass(frozen=True, eq=False)
class Sources:
    """Point sources, brightest first.

    Attributes:
        points_px: `(S, 2)` float64 centroids.
        sigmas_px: `(S,)` float64 standard deviation an axis of the centroids.
        fluxes: `(S,)` float64 brightness above the level, summed in the aperture [grey levels].
        snr: `(S,)` float64 signal to noise.
        smear_px: `(2,)` float64 vector along which all of them are smeared; zero where they are round. Its sign is
            not known.

    """

    points_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    sigmas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    fluxes: FloatArray = field(default_factory=lambda: np.zeros(0))
    snr: FloatArray = field(default_factory=lambda: np.zeros(0))
    smear_px: FloatArray = field(default_factory=lambda: np.zeros(2))

    def __post_init__(self) -> None:
        """Check shapes."""
        for name in ("sigmas_px", "fluxes", "snr"):
            check_shape(name, getattr(self, name), len(self.points_px))
        check_shape("smear_px", self.smear_px, 2)

    def __len__(self) -> int:
        """Count the sources."""
        return len(self.points_px)

    @property
    def spread_root_px(self) -> FloatArray:
        """Symmetric root `(2, 2)` of the covariance of a point source's image after smoothing and filtering [px]."""
        return _spread_root(self.smear_px)

    def take(self, rows: IntArray | BoolArray) -> Sources:
        """Select some sources."""
        return Sources(self.points_px[rows], self.sigmas_px[rows], self.fluxes[rows], self.snr[rows], self.smear_px)


def detect_sources(radiance: Radiance, levels: Raster, least_snr: float, most: int) -> tuple[Sources, BoolArray]:
    """Detect point sources against the sky.

    Args:
        radiance: of the frame.
        levels: `(H, W)` float32 brightness before smoothing [grey levels].
        least_snr: signal to noise from which a source counts; down to `FAINT_SHARE` of it they are kept.
        most: most sources.

    Returns:
        The sources, and `(H, W)` bool the pixels that they light.

    """
    nothing = Sources(), np.zeros(levels.shape, dtype=bool)
    if not radiance.has_sky:
        return nothing
    smear = _common_smear(radiance.significance, least_snr)
    response = _filtered(radiance, smear)
    x, y = _peaks(response, FAINT_SHARE * least_snr, smear)
    x, y = _point_like(response, x, y, smear, FAINT_SHARE * least_snr)
    x, y = _without_arms(response, x, y, smear, least_snr)
    if len(x) == 0:
        return nothing
    lit = _lit_pixels(response, x, y, FAINT_SHARE * least_snr, smear)
    x, y = _without_spikes(levels, radiance, x, y)
    order = np.argsort(-response[y, x], kind="stable")[:most]
    x, y = x[order], y[order]
    points, fluxes = _centroids(levels - radiance.level, x, y, smear)
    snr = response[y, x].astype(np.float64)
    # Cramer-Rao bound of a Gaussian spot's centroid, with a floor for what the pixel grid leaves.
    width = np.sqrt(_SPREAD_PX**2 + float(smear @ smear) / 24)
    sigmas = np.hypot(1.5 * width / np.maximum(snr, 1.0), 0.05)
    return Sources(points, sigmas, fluxes, snr, smear), lit


def _common_smear(significance: Raster, threshold: float) -> FloatArray:
    """Estimate the vector `(2,)` [px] along which the sources are drawn out; zero where they are round."""
    bright = (significance > 1.5 * threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    compact = (areas >= 5) & (areas <= 500)
    compact[0] = False
    y, x = np.nonzero(compact[labels])
    rows, weights = labels[y, x], significance[y, x].astype(np.float64)
    if compact.sum() < _LEAST_MEASURED:
        return np.zeros(2)
    total = np.maximum(np.bincount(rows, weights, count), 1e-9)
    middle = [np.bincount(rows, weights * axis, count) / total for axis in (x, y)]
    dx, dy = x - middle[0][rows], y - middle[1][rows]
    products = (dx * dx, dx * dy, dy * dy)
    xx, xy, yy = (np.median((np.bincount(rows, weights * each, count) / total)[compact]) for each in products)
    (minor, major), axes = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    if major < _LEAST_ELONGATION * minor:
        return np.zeros(2)
    # A segment of length l has the variance l^2 / 12 along itself.
    return np.asarray(axes[:, 1] * np.sqrt(12 * (major - minor)))


def _filtered(radiance: Radiance, smear_px: FloatArray) -> Raster:
    """Filter the significance, which the smoothing has already matched to a round point, along the smear."""
    if not smear_px.any():
        return radiance.significance
    half = int(np.ceil(np.abs(smear_px).max() / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    ends = [(half + sign * smear_px / 2) * 16 for sign in (-1, 1)]
    cv2.line(kernel, *(tuple(np.rint(end).astype(int)) for end in ends), 1.0, 1, cv2.LINE_AA, 4)  # type: ignore[call-overload]
    response = cv2.filter2D(radiance.significance, -1, kernel / kernel.sum())
    sample = response[radiance.sky]
    level = np.median(sample)
    return np.asarray((response - level) / lower_deviation(np.abs(sample - level)), dtype=np.float32)


def _peaks(response: Raster, least: float, smear_px: FloatArray) -> tuple[IntArray, IntArray]:
    """Find local maxima `(S,)` x and y above a threshold, off the image's border."""
    side = 5 if not smear_px.any() else 7
    highest = cv2.dilate(response, np.ones((side, side), np.uint8))
    # Of equal neighbours the first counts: it is higher than all that come before it in the order of reading.
    earlier = np.ones((side, side), np.uint8)
    earlier.ravel()[side * side // 2 :] = 0
    peaks = (response >= highest) & (response > cv2.dilate(response, earlier)) & (response > least)
    peaks[[0, 1, -2, -1]] = False
    peaks[:, [0, 1, -2, -1]] = False
    y, x = np.nonzero(peaks)
    return x, y


def _point_like(
    response: Raster, x: IntArray, y: IntArray, smear_px: FloatArray, threshold: float
) -> tuple[IntArray, IntArray]:
    """Select the peaks around which the response falls as it does around a point source, down to the sky.

    A neighbour brightens one side of a contour, a body that goes on beyond it two opposite ones; a glint on a dim body
    is a point by its peak, but has the body all around.
    """
    if len(x) == 0:
        return x, y
    angles = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    contour, peak = circle @ _spread_root(smear_px), response[y, x]
    around = _sampled(response, x, y, np.sqrt(-2 * np.log(_CONTOUR)) * contour[None])
    opposite = np.minimum(around[:, : _DIRECTIONS // 2], around[:, _DIRECTIONS // 2 :]).max(axis=1)
    reach = np.sqrt(2 * np.log(np.maximum(peak / threshold, 1.0)))
    foot = _sampled(response, x, y, reach[:, None, None] * contour + _FOOT_PX * circle)
    good = (opposite < _MOST_ON_CONTOUR * peak + 1.0) & ((foot > threshold).mean(axis=1) < _EMBEDDED_SHARE)
    return x[good], y[good]


def _without_arms(
    response: Raster, x: IntArray, y: IntArray, smear_px: FloatArray, threshold: float
) -> tuple[IntArray, IntArray]:
    """Drop the peaks of bodies with a bright core and dim arms, such as a craft with its panels.

    They light more pixels than their peaks explain, and lie along a line; halos of bright stars are round. Where all
    sources are smeared, streaks that touch do the same.
    """
    if len(x) == 0 or smear_px.any():
        return x, y
    count, labels, stats, _ = cv2.connectedComponentsWithStats((response > threshold).astype(np.uint8), connectivity=8)
    owner = labels[y, x]
    root = _spread_root(smear_px)
    reach = np.sqrt(2 * np.log(np.maximum(response[y, x] / threshold, 1.0)))
    explained = np.bincount(owner, np.pi * (reach * np.sqrt(np.linalg.det(root)) + _EDGE_PX) ** 2, count)
    large = stats[:, cv2.CC_STAT_AREA] > _MOST_LIT * explained
    large[0] = False
    large &= explained > 0
    rows, columns = np.nonzero(large[labels])
    if len(rows) == 0:
        return x, y
    part = labels[rows, columns]
    places = np.stack([columns, rows], axis=1) @ np.linalg.inv(root)
    size = np.maximum(np.bincount(part, minlength=count), 1)[:, None]
    apart = places - (np.stack([np.bincount(part, each, count) for each in places.T], axis=1) / size)[part]
    xx, xy, yy = (np.bincount(part, a * b, count) for a, b in ((apart[:, 0],) * 2, apart.T, (apart[:, 1],) * 2))
    long = xx + yy + np.hypot(xx - yy, 2 * xy) > _LONG**2 * (xx + yy - np.hypot(xx - yy, 2 * xy))
    good = ~(large & long)[owner]
    return x[good], y[good]


def _without_spikes(levels: Raster, radiance: Radiance, x: IntArray, y: IntArray) -> tuple[IntArray, IntArray]:
    """Drop peaks of single pixels that no optics could make: hot ones, and most hits of particles.

    Smoothing lowers a spike more than it lowers a point source. Three quarters of the peaks may be spikes.
    """
    peaks = cv2.dilate(levels, np.ones((3, 3), np.uint8))[y, x] - radiance.level[y, x]
    sharpness = peaks / np.maximum(radiance.smooth[y, x] - radiance.level[y, x], 1e-6)
    good = sharpness < _MOST_SHARPNESS * np.quantile(sharpness, 0.25)
    return x[good], y[good]


def _sampled(response: Raster, x: IntArray, y: IntArray, offsets: FloatArray) -> Raster:
    """Sample the response at offsets `(S or 1, D, 2)` from S places: `(S, D)`."""
    places = (np.stack([x, y], axis=1)[:, None] + offsets).astype(np.float32)
    return np.asarray(cv2.remap(response, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _spread_root(smear_px: FloatArray) -> FloatArray:
    """Compute the symmetric root `(2, 2)` [px] of a point source's covariance after smoothing and filtering."""
    covariance = _SMOOTHED_PX**2 * np.eye(2) + np.outer(smear_px, smear_px) / 6
    values, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(values) @ axes.T)


def _lit_pixels(response: Raster, x: IntArray, y: IntArray, threshold: float, smear_px: FloatArray) -> BoolArray:
    """Mark the pixels that the sources light above a threshold, with one pixel around."""
    lit = np.zeros(response.shape, dtype=np.uint8)
    values, axes = np.linalg.eigh(_spread_root(smear_px))
    angle = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))
    reaches = np.sqrt(2 * np.log(np.maximum(response[y, x] / threshold, 1.01)))
    for column, row, reach in zip(x.tolist(), y.tolist(), reaches.tolist()):  # Drawn by OpenCV, 2 us each.
        axes_px = (round(reach * values[1] + 1.5), round(reach * values[0] + 1.5))
        cv2.ellipse(lit, (column, row), axes_px, angle, 0, 360, 1, cv2.FILLED)
    return lit > 0


def _centroids(contrast: Raster, x: IntArray, y: IntArray, smear_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Measure Gaussian-weighted centroids `(S, 2)` and aperture fluxes `(S,)` around peaks."""
    half = 3 + int(np.ceil(np.abs(smear_px).max() / 2))
    padded = np.pad(contrast, half)
    offsets = np.arange(-half, half + 1)
    grid_y, grid_x = np.meshgrid(offsets, offsets, indexing="ij")
    patches = padded[y[:, None, None] + half + grid_y, x[:, None, None] + half + grid_x]
    precision = np.linalg.inv((1.5 * _SPREAD_PX) ** 2 * np.eye(2) + np.outer(smear_px, smear_px) / 6)
    lit = np.maximum(patches, 0)
    shift = np.zeros((len(x), 2))
    for _ in range(4):  # The weight follows the spot; four rounds settle it to a hundredth of a pixel.
        dx, dy = grid_x - shift[:, 0, None, None], grid_y - shift[:, 1, None, None]
        distance2 = precision[0, 0] * dx * dx + 2 * precision[0, 1] * dx * dy + precision[1, 1] * dy * dy
        weight = np.exp(-distance2 / 2) * lit
        total = np.maximum(weight.sum(axis=(1, 2)), 1e-9)
        # A spot and a weight of like width pull the weighted mean half way; the step undoes most of it.
        step = 1.5 * np.stack([(weight * dx).sum(axis=(1, 2)), (weight * dy).sum(axis=(1, 2))], axis=1) / total[:, None]
        shift = np.clip(shift + step, -2.0, 2.0)
    return np.stack([x, y], axis=1) + shift, patches.sum(axis=(1, 2))
