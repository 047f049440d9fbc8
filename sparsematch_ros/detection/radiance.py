"""The level and noise of the background at each pixel, and by how many standard deviations a pixel stands above them.

A mesh of robust local estimates, as in SExtractor (Bertin and Arnouts, 1996): cells in which only noise remains and
whose levels join without a step to the darkest ones are sky. Everywhere else the level of the surrounding sky is
interpolated, so that a body that covers many cells does not become its own background.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sparsematch_ros.data import BoolArray, Frame

Raster = NDArray[np.float32]

# Side of a cell of the mesh [px], and standard deviation of the smoothing before any comparison [px].
CELL_PX = 16
SMOOTHING_PX = 1.0
# The mean of the smallest 70% of |x| of a Gaussian x is 0.4735 standard deviations.
_LOWER_SHARE, _LOWER_MEAN = 0.7, 0.4735
# Noise of a smoothed image in which every sample is exact to its last digit [quanta].
_QUANTISATION = 0.1
# So many standard deviations below the mean of a Gaussian lie these shares of it.
_TAIL_SIGMAS, _TAIL_SHARES = np.array([2.0, 3.0]), np.array([0.02275, 0.00135])
# A sky cell has at most this many times the sky's typical noise; sky that takes a smaller share of the image sets no
# level.
_MOST_NOISE_RATIO = 2.5
_LEAST_SKY_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Radiance:
    """One frame as a measurement of brightness.

    Attributes:
        smooth: `(H, W)` float32 brightness after smoothing by `SMOOTHING_PX` [grey levels of 255].
        level: `(H, W)` float32 level of the sky, interpolated where there is none [grey levels].
        noise: standard deviation of `smooth` in the sky [grey levels]; NaN where no sky is in view.
        sky: `(H, W)` bool, cells in which nothing but noise and point sources stands above the level.
        significance: `(H, W)` float32 `(smooth - level) / noise`; 0 everywhere where no sky is in view.
        pixel_noise: standard deviation of a pixel before the smoothing [grey levels], where the image is calmest.
        roughness: noise of the sky's calmer part over what smoothing leaves of the pixels' own: 1 of a true sky, more
            of an ocean; NaN where no sky is in view.

    """

    smooth: Raster
    level: Raster
    noise: float
    sky: BoolArray
    significance: Raster
    pixel_noise: float
    roughness: float

    @property
    def has_sky(self) -> bool:
        """Whether enough sky is in view for `significance` to mean something."""
        return bool(np.isfinite(self.noise))


def measure_radiance(frame: Frame) -> Radiance:
    """Estimate level and noise of a frame's background."""
    smooth = cv2.GaussianBlur(frame.levels, (0, 0), SMOOTHING_PX)
    medians, noises = _cells(smooth, _QUANTISATION * frame.quantum)
    calmest = _pixel_noise(frame.levels, frame.quantum)
    sky, noise = _sky_cells(medians, noises, frame.quantum)
    size = smooth.shape[::-1]
    if sky.mean() < _LEAST_SKY_SHARE:
        nothing = np.zeros_like(smooth)
        return Radiance(smooth, nothing, float("nan"), nothing > 0, nothing, calmest, float("nan"))
    level = cv2.resize(_interpolated(medians, sky), size, interpolation=cv2.INTER_LINEAR)
    above = smooth - level
    mask = cv2.resize(sky.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    roughness = noise / calmest * 2 * float(np.sqrt(np.pi)) * SMOOTHING_PX
    noise *= _tail(above[mask], noise)
    return Radiance(smooth, level, noise, mask, above * np.float32(1 / noise), calmest, roughness)


def _tail(above: Raster, noise: float) -> float:
    """Measure how much farther the sky's noise reaches than a Gaussian, as after JPEG; 1 if it does not.

    Args:
        above: `(N,)` brightness of the sky's pixels over its level. What lies below is noise alone, as nothing shines
            with less than no light.
        noise: standard deviation from the sky's calmer part.

    """
    return max(1.0, float((-np.quantile(above, _TAIL_SHARES) / (_TAIL_SIGMAS * noise)).max()))


def lower_deviation(deviations: Raster) -> Raster:
    """Estimate standard deviations from absolute deviations `(..., N)`, blind to the largest 30% of them."""
    count = max(1, int(_LOWER_SHARE * deviations.shape[-1]))
    smallest = np.partition(deviations, count - 1, axis=-1)[..., :count]
    return np.asarray(smallest.mean(axis=-1) / _LOWER_MEAN, dtype=np.float32)


def _cells(smooth: Raster, floor: float) -> tuple[Raster, Raster]:
    """Compute the median and the noise about the interpolated medians of each cell, `(h, w)` each."""
    rows, columns = (max(1, length // CELL_PX) for length in smooth.shape)
    # Whole cells of the image, stretched by less than a cell; every second pixel suffices after the smoothing.
    half = cv2.resize(smooth, (columns * CELL_PX // 2, rows * CELL_PX // 2), interpolation=cv2.INTER_NEAREST)
    medians = np.median(_blocks(half), axis=2).astype(np.float32)
    around = cv2.resize(medians, half.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return medians, np.maximum(lower_deviation(_blocks(np.abs(half - around))), np.float32(floor))


def _pixel_noise(levels: Raster, quantum: float) -> float:
    """Estimate the noise of a pixel where the image is calmest, from what edges leave of it (Immerkaer, 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    rest = np.abs(cv2.filter2D(levels, -1, kernel / np.linalg.norm(kernel)))
    side = CELL_PX // 2 * 2
    rows, columns = (max(1, length // side) for length in rest.shape)
    half = cv2.resize(rest, (columns * side // 2, rows * side // 2), interpolation=cv2.INTER_NEAREST)
    return max(float(np.percentile(lower_deviation(_blocks(half)), 25)), quantum / float(np.sqrt(12)))


def _blocks(image: Raster) -> Raster:
    """Rearrange `(h * c, w * c)` into `(h, w, c * c)` with c half a cell's side."""
    side = CELL_PX // 2
    rows, columns = image.shape[0] // side, image.shape[1] // side
    return image.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, side * side)


def _sky_cells(medians: Raster, noises: Raster, quantum: float) -> tuple[BoolArray, float]:
    """Find the cells `(h, w)` that join the darkest ones without a step, and their typical noise."""
    darkest = medians <= np.percentile(medians, 10)
    typical = float(np.median(noises[darkest]))
    calm = noises <= _MOST_NOISE_RATIO * typical
    labels = _joined(medians, calm, max(quantum, 4 * typical))
    size = np.bincount(labels.ravel())
    seeds = np.bincount(labels[darkest & calm], minlength=len(size))
    sky = calm & (seeds[labels] > 0) & (size[labels] > 4)
    return sky, float(np.median(noises[sky])) if sky.any() else float("nan")


def _joined(medians: Raster, calm: BoolArray, step: float) -> NDArray[np.int32]:
    """Label cells `(h, w)`: calm ones up to two cells apart are joined where their medians differ by a step at most."""
    numbers = np.arange(medians.size).reshape(medians.shape)
    links = [np.zeros((2, 0), dtype=np.int64)]
    for apart in (1, 2):
        for first, second in ((np.s_[:, :-apart], np.s_[:, apart:]), (np.s_[:-apart], np.s_[apart:])):
            linked = calm[first] & calm[second] & (np.abs(medians[first] - medians[second]) <= step)
            links.append(np.stack([numbers[first][linked], numbers[second][linked]]))
    rows, columns = np.concatenate(links, axis=1)
    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(medians.size, medians.size))
    return np.asarray(connected_components(graph, directed=False)[1].reshape(medians.shape))


def _interpolated(medians: Raster, sky: BoolArray) -> Raster:
    """Fill the cells `(h, w)` that are not sky with the mean of the nearest ones that are."""
    weights = sky.astype(np.float32)
    level = np.full_like(medians, np.median(medians[sky]))
    for reach in (9.0, 3.0, 1.0):  # From far to near, so that the nearest that reach a cell have the last word.
        total = cv2.GaussianBlur(weights, (0, 0), reach)
        near = total > 0.05
        level[near] = (cv2.GaussianBlur(medians * weights, (0, 0), reach) / np.maximum(total, 1e-6))[near]
    return level
