"""Point sources at rest among the stars: remembered, so that only what moves becomes an object."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sparsematch_ros.data import EgoMotion, FloatArray, IntArray
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.sky import Sky

_SAME_PX = 0.4
_SAME_SIGMA = 3.0
# A place follows its source slowly: a drift of the background is learned, a slow mover leaves its place behind.
_FOLLOW = 0.1
_MOST_MISSES = 10
_MOST_PLACES = 2000


class RestingSources:
    """Places of resting point sources, carried along by the background's motion.

    Attributes:
        places_px: `(S, 2)` in the last frame, or None before the first dark sky.
        hits: `(S,)` frames in which each was seen.

    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.places_px: FloatArray | None = None
        self.hits: IntArray = np.zeros(0, dtype=np.int64)
        self._misses: IntArray = np.zeros(0, dtype=np.int64)

    def expected(self, motion: EgoMotion) -> FloatArray | None:
        """Give where the places are in the next frame; None where nothing is known or the motion is not."""
        if self.places_px is None or not motion.valid:
            return None
        return apply_homography(motion.homography, self.places_px)

    def learn(self, sky: Sky, expected_px: FloatArray | None, size: tuple[int, int]) -> None:
        """Take in a frame's sources: places found again are kept, new ones added, forgotten ones dropped.

        Args:
            sky: the survey.
            expected_px: `(S, 2)` what `expected` gave for this frame; None starts anew.
            size: height and width of the image [px].

        """
        if expected_px is None:
            self.places_px = sky.points_px.copy() if sky.dark else None
            self.hits = np.ones(len(sky.points_px) if sky.dark else 0, dtype=np.int64)
            self._misses = np.zeros_like(self.hits)
            return
        places, fresh = self._meet(sky, expected_px)
        inside = ((places >= 0) & (places < np.array(size)[::-1])).all(axis=1)
        # A place seen once and not again was a mover or noise.
        keep = inside & (self._misses <= np.minimum(self.hits - 1, _MOST_MISSES))
        self.places_px = np.concatenate([places[keep], sky.points_px[fresh]])[:_MOST_PLACES]
        self.hits = np.concatenate([self.hits[keep], np.ones(len(fresh), dtype=np.int64)])[:_MOST_PLACES]
        self._misses = np.concatenate([self._misses[keep], np.zeros(len(fresh), dtype=np.int64)])[:_MOST_PLACES]

    def _meet(self, sky: Sky, places: FloatArray) -> tuple[FloatArray, IntArray]:
        """Move places toward the sources found there; give them and the rows of sources without a place."""
        if len(places) == 0 or len(sky.points_px) == 0:
            self._misses = self._misses + 1
            return places, np.arange(len(sky.points_px))
        distance, row = cKDTree(places).query(sky.points_px)
        met = distance <= _SAME_PX + _SAME_SIGMA * sky.sigmas_px
        moved, seen = places.copy(), np.zeros(len(places), dtype=bool)
        moved[row[met]] += _FOLLOW * (sky.points_px[met] - places[row[met]])
        seen[row[met]] = True
        self.hits = self.hits + seen
        self._misses = np.where(seen, 0, self._misses + 1)
        return moved, np.flatnonzero(~met)
