"""Residual motion: how far each pixel is from what every layer of the background would show there.

For each layer the background is remembered as an image that goes along with the layer's motion: the last frame, and
under the objects that were tracked in it what was seen there before. A pixel is background if any layer explains it,
as it was one or two frames ago. Two frames back, the place that a new object has just left shows background again, so
what remains is the object itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sparsematch_ros.background.layers import Background, LayerKind
from sparsematch_ros.data import BoolArray
from sparsematch_ros.detection.radiance import Raster

# Where a pixel differs from every layer by this many standard deviations, something moves.
EVIDENT = 3.5
# States of the background that are remembered: after the last frame and after the one before.
_MEMORY = 2
# Pixels of steep slope show how far a layer misses, those of gentle slope the noise: shares of the pixels, at a
# quantile of the differences that leaves room for objects, in standard deviations.
_STEEP, _GENTLE = 0.8, 0.3
_QUANTILE, _QUANTILE_SIGMAS = 0.9, 1.645
# Noise of the difference of two smoothed images of exact samples [grey levels], and the least misfit of a layer [px].
_LEAST_NOISE, _LEAST_MISFIT_PX = 0.15, 0.05
_LEAST_SAMPLES = 100
# An object lights so many pixels beyond its mask, and the image's border is so wide [px].
_MARGIN_PX = 3


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the background does not explain.

    Attributes:
        deviations: `(H, W)` float32 distance of each pixel from the nearest layer [standard deviations]; 0 where no
            remembered image shows the place.
        expected: `(H, W)` float32 the image that comes nearest [grey levels].
        visible: `(H, W)` bool, where there is so much detail that a motion by a pixel would be evident.

    """

    deviations: Raster
    expected: Raster
    visible: BoolArray


class ResidualMotion:
    """Compares each frame with the remembered background."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.reset()

    def reset(self) -> None:
        """Forget the background."""
        self._images: dict[LayerKind, list[Raster]] = {}
        self._last: Raster | None = None

    def __call__(
        self, smooth: Raster, background: Background, surroundings: BoolArray, objects: BoolArray | None
    ) -> Evidence | None:
        """Compute by how many standard deviations each pixel differs from the background, and remember the frame.

        Args:
            smooth: `(H, W)` of `Radiance`.
            background: the motion since the frame before.
            surroundings: `(H, W)` bool, where ground fills the view.
            objects: `(H, W)` bool, where objects were tracked in the frame before, or None.

        Returns:
            None before two images are remembered, and where no layer is known.

        """
        layers = {layer.kind: layer for layer in (background.stars, background.ground) if layer is not None}
        self._images = {kind: self._images.get(kind, []) for kind in layers}
        self._remember(objects)
        size = smooth.shape[::-1]
        self._images = {
            kind: [
                cv2.warpPerspective(
                    image, layer.homography, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT,
                    borderValue=np.nan,
                )
                for image in self._images[kind]
            ]
            for kind, layer in layers.items()
        }  # fmt: skip
        self._last = smooth
        if max((len(images) for images in self._images.values()), default=0) < _MEMORY:
            return None
        return self._compare(smooth, surroundings)

    def _remember(self, objects: BoolArray | None) -> None:
        """Put the last frame into the memory of each layer; under its objects the background stays what it was."""
        if self._last is None:
            return
        hidden = None
        if objects is not None:
            kernel = np.ones((2 * _MARGIN_PX + 1, 2 * _MARGIN_PX + 1), np.uint8)
            hidden = cv2.dilate(objects.astype(np.uint8), kernel) > 0
        for kind, images in self._images.items():
            fresh = self._last if hidden is None or not images else np.where(hidden, images[0], self._last)
            self._images[kind] = [fresh, *images][:_MEMORY]

    def _compare(self, smooth: Raster, surroundings: BoolArray) -> Evidence:
        least = np.full(smooth.shape, np.inf, dtype=np.float32)
        expected, visible = smooth, np.ones(smooth.shape, dtype=bool)
        for kind, images in self._images.items():
            own = surroundings if kind == LayerKind.GROUND else ~surroundings
            nearest, shown = np.full(smooth.shape, np.nan, dtype=np.float32), smooth
            for image in images:
                deviation, clear = _standardised(smooth, image, own)
                visible &= clear
                better = ~(deviation >= nearest)
                nearest, shown = np.where(better, deviation, nearest), np.where(better, image, shown)
            # Where one of the layers that may be there is not known, nothing is.
            better = ~(nearest >= least)
            least, expected = np.where(better, nearest, least), np.where(better, shown, expected)
        known = np.isfinite(least)
        # The smoothing leans on what is next to the border.
        known[[0, 1, -2, -1]] = False
        known[:, [0, 1, -2, -1]] = False
        return Evidence(np.where(known, least, np.float32(0)), np.where(known, expected, smooth), visible & known)


def _standardised(now: Raster, expected: Raster, own: BoolArray) -> tuple[Raster, BoolArray]:
    """Divide the difference of two images by its noise: that of the pixels, and a misfit across slopes.

    Both parts of the noise are measured in the difference itself, where the layer is in view, `own` `(H, W)`.

    Returns:
        The standardised difference `(H, W)`, NaN where nothing is expected, and where a pixel's motion would show.

    """
    difference = np.abs(now - expected)
    slope = np.hypot(cv2.Sobel(expected, -1, 1, 0, scale=1 / 8), cv2.Sobel(expected, -1, 0, 1, scale=1 / 8))
    sample = np.s_[1::3, 1::3]
    chosen = own[sample] & np.isfinite(slope[sample])
    slopes, differences = slope[sample][chosen], difference[sample][chosen]
    noise, misfit_px = _LEAST_NOISE, _LEAST_MISFIT_PX
    if len(slopes) >= _LEAST_SAMPLES:
        gentle, steep = np.quantile(slopes, [_GENTLE, _STEEP])
        noise = max(noise, _deviation(differences[slopes <= gentle]))
        on_slopes = slopes > max(steep, 2 * noise)
        if on_slopes.sum() >= _LEAST_SAMPLES:
            misfit_px = max(misfit_px, _deviation(differences[on_slopes] / slopes[on_slopes]))
    sigma = np.sqrt(noise**2 + (misfit_px * slope) ** 2)
    return np.asarray(difference / sigma, dtype=np.float32), np.asarray(slope > EVIDENT * sigma)


def _deviation(absolute: Raster) -> float:
    return float(np.quantile(absolute, _QUANTILE)) / _QUANTILE_SIGMAS
