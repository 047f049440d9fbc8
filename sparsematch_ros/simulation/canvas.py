"""The sharp picture while it is drawn, nearest things first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.pixels import Disc, Layer, PixelBox, weighted_centre

# An object owns the pixels of which it fills at least half.
OWNED = 0.5
# Pixels that are uniform inside tell a centre no better than this; less than it does not move a known one.
RASTER_ERROR_PX = 0.02


class Canvas:
    """Light, free share and labels of every pixel.

    Attributes:
        light_e: `(H, W, 3)` float32 expected electrons.
        labels: `(H, W)` uint16 as in `Rendered`.
        centroids_px: by object number.

    """

    def __init__(self, height: int, width: int, least_light_e: float = 0.0) -> None:
        """Start with a black, empty picture, in which labels and centroids count pixels of at least so much light."""
        self._least_light_e = least_light_e
        self.light_e: NDArray[np.float32] = np.zeros((height, width, 3), dtype=np.float32)
        self.labels: NDArray[np.uint16] = np.zeros((height, width), dtype=np.uint16)
        self.centroids_px: dict[int, FloatArray] = {}
        self._free: NDArray[np.float32] = np.ones((height, width), dtype=np.float32)
        self._free_sharp: NDArray[np.float32] = np.ones((height, width), dtype=np.float32)

    def add(self, number: int, sharp: Layer, shown: Layer, disc: Disc | None = None) -> None:
        """Draw an object over what nearer ones leave free.

        Args:
            number: of the object, from 1.
            sharp: the object at the exposure's middle, for labels and centroids.
            shown: the same as the exposure smears it, for the light.
            disc: the disc of a point object, whose centre is known better than from the pixels.

        """
        self.light_e[shown.box.slices] += shown.light_e * self._free[shown.box.slices][..., None]
        self._free[shown.box.slices] *= (1 - shown.coverage).astype(np.float32)
        box, coverage = sharp.box, sharp.coverage
        where = box.slices
        free = self._free_sharp[where]
        visible = coverage * free * (sharp.light_e.mean(axis=2) >= self._least_light_e)
        owned = (visible >= OWNED) & (self.labels[where] == 0)
        if disc is not None and not owned.any():
            owned = self._nearest(box, disc.centre_px, free)
        self.labels[where][owned] = number
        self._free_sharp[where] = free * (1 - coverage)
        if owned.any():
            # By the share of each pixel, not by the label, which parts of a thin panel win and lose as it moves on.
            self.centroids_px[number] = (
                weighted_centre(box, visible) if disc is None else _visible_centre(disc, visible)
            )

    def add_background(self, light_e: NDArray[np.float32], transmission: FloatArray) -> None:
        """Draw something behind all objects that fills the picture: `(H, W, 3)` and `(H * W,)`."""
        self.light_e += light_e * self._free[..., None]
        self._free *= transmission.reshape(self._free.shape).astype(np.float32)

    def free_at(self, pixels: FloatArray) -> FloatArray:
        """Give the share of light from infinity that arrives at points `(n, 2)`; outside the image the edge's."""
        height, width = self._free.shape
        columns = np.rint(pixels[:, 0]).astype(np.int64).clip(0, width - 1)
        rows = np.rint(pixels[:, 1]).astype(np.int64).clip(0, height - 1)
        return self._free[rows, columns].astype(np.float64)

    @staticmethod
    def _nearest(box: PixelBox, centre_px: FloatArray, free: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Give a point object that fills no pixel by half the one that holds its centre."""
        x, y = np.rint(centre_px)
        grid_y, grid_x = np.mgrid[box.top : box.bottom, box.left : box.right]
        return np.asarray((grid_x == x) & (grid_y == y) & (free >= OWNED))


def _visible_centre(disc: Disc, visible: FloatArray) -> FloatArray:
    """Give the centre `(2,)` of what shows of a disc: the whole one's, moved as the pixels' mean moves.

    Args:
        disc: the disc.
        visible: `(h, w)` share of its pixels that shows.

    """
    moved = weighted_centre(disc.box, visible) - disc.raster_centre_px
    return disc.centre_px + moved if np.abs(moved).max() > RASTER_ERROR_PX else disc.centre_px
