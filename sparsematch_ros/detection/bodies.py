"""Bodies that stand out from the sky, and which of them are surroundings: a planet that the image's border frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.detection.radiance import Radiance, Raster

# A body stands this many standard deviations of the smoothed sky above it.
THRESHOLD = 4.5
# Parts that are this close to each other are looked at as one [px].
GAP_PX = 7
# A body has more pixels than a point source after the smoothing [px^2].
LEAST_AREA_PX = 20
# A half plane has at least half of its outline on the image's border, as a chord is shorter than the way around it.
# A limb is curved a little: what covers this share of the image, with this share of its outline on the border, is
# surroundings.
_FRAMED_SHARE, _LEAST_SHARE = 0.42, 0.02
# So far over a limb the air may shine [px].
_HAZE_PX = 32
# Rings so wide inside and outside an outline are compared [px]; a glare keeps more than this share of its brightness.
_RING_PX, _GLOW = 3, 0.4
# Outlines are measured in cells of this side, in which texture does not lengthen them [px].
_OUTLINE_CELL_PX = 8


@dataclass(frozen=True, eq=False)
class Bodies:
    """What is larger than a point source, against the sky.

    Attributes:
        foreground: `(H, W)` bool, pixels above the sky that no point source lights, without the surroundings.
        surroundings: `(H, W)` bool, where ground, clouds or a planet fill the view; everything where no sky is in view.
        lit: `(H, W)` bool, pixels that point sources light.

    """

    foreground: BoolArray
    surroundings: BoolArray
    lit: BoolArray

    def off(self, points_px: FloatArray) -> BoolArray:
        """Test which points `(S, 2)` inside the image lie off the surroundings."""
        x, y = np.rint(points_px).astype(np.int64).T
        return ~self.surroundings[y, x]


def find_bodies(radiance: Radiance, lit: BoolArray) -> Bodies:
    """Separate what stands above the sky into bodies and surroundings.

    Args:
        radiance: of the frame.
        lit: `(H, W)` bool, pixels that point sources light.

    """
    if not radiance.has_sky:
        return Bodies(np.zeros_like(lit), np.ones_like(lit), lit)
    above = (radiance.significance > THRESHOLD) & ~lit
    surroundings = np.zeros_like(above)
    labels, _ = joined_labels(above)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    for label in np.flatnonzero(areas > _LEAST_SHARE * labels.size):  # A few at most.
        body = labels == label
        if _framed_share(body) > _FRAMED_SHARE or _fading(body, radiance.significance) > _GLOW:
            surroundings |= body
    if surroundings.any():
        surroundings = _widened(surroundings)
    return Bodies(above & ~surroundings, surroundings, lit)


def _fading(body: BoolArray, significance: Raster) -> float:
    """Compute how much of a body's brightness inside its outline `(H, W)` is left outside of it, as a share.

    A body ends within the point spread; a glare fades, and its outline is no more than where the threshold cuts it.
    Columns that bleed out of it end as bodies do, so only what is thicker is looked at.
    """
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RING_PX + 1, 2 * _RING_PX + 1))
    mask = cv2.morphologyEx(body.astype(np.uint8), cv2.MORPH_OPEN, reach, iterations=2)
    inside, outside = (cv2.dilate(each, reach) > each for each in (1 - mask, mask))
    if not inside.any() or not outside.any():
        return 0.0
    return float(np.median(significance[outside]) / np.median(significance[inside]))


def _widened(surroundings: BoolArray) -> BoolArray:
    """Add what lies over a planet's limb: there haze and airglow shine, and brightness proves no body."""
    size = tuple(max(2, length // _OUTLINE_CELL_PX) for length in surroundings.shape[::-1])
    cells = cv2.resize(surroundings.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    reach = 2 * (_HAZE_PX // _OUTLINE_CELL_PX) + 1
    wide = cv2.dilate(cells, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return cv2.resize(wide, surroundings.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def joined_labels(mask: BoolArray) -> tuple[NDArray[np.int32], int]:
    """Label the connected parts of a mask `(H, W)` after closing its gaps; 0 is background."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP_PX, GAP_PX))
    # The border must not erode what touches it.
    closed = cv2.morphologyEx(np.pad(mask.astype(np.uint8), GAP_PX), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(closed[GAP_PX:-GAP_PX, GAP_PX:-GAP_PX], connectivity=8)
    return labels, count


def _framed_share(body: BoolArray) -> float:
    """Compute the share of a body's outline that lies on the image's border, from an `(H, W)` mask."""
    size = tuple(max(2, length // _OUTLINE_CELL_PX) for length in body.shape[::-1])
    cells = (cv2.resize(body.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.3).astype(np.uint8)
    cells = cv2.morphologyEx(np.pad(cells, 2, mode="edge"), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))[2:-2, 2:-2]
    framed, free = 0.0, 0.0
    for outline in cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        points = outline[:, 0].astype(np.float64)
        following = np.roll(points, -1, axis=0)
        middles, lengths = (points + following) / 2, np.linalg.norm(following - points, axis=1)
        on_border = ((middles <= 0) | (middles >= np.array(size) - 1)).any(axis=1)
        framed, free = framed + float(lengths[on_border].sum()), free + float(lengths[~on_border].sum())
    return framed / max(framed + free, 1e-9)
