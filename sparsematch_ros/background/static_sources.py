"""Point sources that belong to the background: stars, which go with the sky, and hot pixels, which stay where they are.

They are remembered, so that only what moves otherwise becomes an object.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sparsematch_ros.background.layers import DETECTOR, Layer
from sparsematch_ros.data import BoolArray, FloatArray, IntArray
from sparsematch_ros.geometry import apply_homography

# A source within this and so many standard deviations of a remembered place is the one that was seen there.
_SAME_PX, _SAME_SIGMA = 0.4, 3.0
# A place follows its source slowly: a drift of the background is learnt, a slow mover leaves its place behind.
_FOLLOW = 0.1
# A place is kept through as many misses as it had hits, and no more than this; so many places are kept.
_MOST_MISSES, _MOST_PLACES = 10, 6000
# Seen this often at its place a source is static for good; fewer times it may still be an object tracked there.
_FIXED_HITS, _CLAIMED_HITS = 4, 2
# So near to a star, in standard deviations of the point spread, a source is a blend with it.
_BLEND_SIGMA = 1.5
# So near to the border it is cut.
_BORDER_SIGMA = 2.5
# The detector is told from the sky once the sky has moved this far over it [px].
_LEAST_WAY_PX = 1.5


class StaticSources:
    """Places of static sources in one layer, carried along by its motion."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.places_px: FloatArray = np.zeros((0, 2))
        self.hits: IntArray = np.zeros(0, dtype=np.int64)
        self.ways_px: FloatArray = np.zeros(0)
        self._misses: IntArray = np.zeros(0, dtype=np.int64)

    def advance(self, layer: Layer | None, sky: Layer | None) -> None:
        """Carry the places into the next frame; a layer whose motion is unknown loses them.

        Args:
            layer: the layer of these places.
            sky: that of the stars, whose way over each place is counted.

        """
        if layer is None:
            self.__init__()  # type: ignore[misc]
            return
        if sky is not None and len(self.places_px):
            moved = sky.transport(self.places_px).points_px - layer.transport(self.places_px).points_px
            self.ways_px = self.ways_px + np.linalg.norm(moved, axis=1)
        self.places_px = layer.transport(self.places_px).points_px

    def at(self, points_px: FloatArray, sigmas_px: FloatArray) -> tuple[IntArray, FloatArray]:
        """Look up the remembered source at each of S points: its hits `(S,)`, 0 for none, and the sky's way [px]."""
        if len(self.places_px) == 0 or len(points_px) == 0:
            return np.zeros(len(points_px), dtype=np.int64), np.zeros(len(points_px))
        distance, row = cKDTree(self.places_px).query(points_px)
        near = distance <= _SAME_PX + _SAME_SIGMA * sigmas_px
        return np.where(near, self.hits[row], 0), np.where(near, self.ways_px[row], 0.0)

    def beside(self, points_px: FloatArray, root: FloatArray) -> BoolArray:
        """Test which of S points lie within the point spread, of root `(2, 2)` [px], of a source that is surely static.

        What is measured there is a blend with it.
        """
        fixed = self.places_px[self.hits >= _FIXED_HITS]
        if len(fixed) == 0 or len(points_px) == 0:
            return np.zeros(len(points_px), dtype=bool)
        scale = np.linalg.inv(root)
        return np.asarray(cKDTree(fixed @ scale).query(points_px @ scale)[0] <= _BLEND_SIGMA)

    def learn(self, points_px: FloatArray, sigmas_px: FloatArray, size: tuple[int, int]) -> None:
        """Count the sources `(S,)` of a frame of some height and width that are found again, and remember new ones."""
        places, seen = self.places_px.copy(), np.zeros(len(self.places_px), dtype=bool)
        fresh = np.ones(len(points_px), dtype=bool)
        if len(places) and len(points_px):
            distance, row = cKDTree(places).query(points_px)
            met = distance <= _SAME_PX + _SAME_SIGMA * sigmas_px
            places[row[met]] += _FOLLOW * (points_px[met] - places[row[met]])
            seen[row[met]], fresh = True, ~met
        hits, misses = self.hits + seen, np.where(seen, 0, self._misses + 1)
        inside = ((places >= 0) & (places < np.array(size)[::-1])).all(axis=1)
        # A place seen once and not again was a mover or noise.
        kept = inside & (misses <= np.minimum(hits - 1, _MOST_MISSES))
        new = int(fresh.sum())
        self.places_px = np.concatenate([places[kept], points_px[fresh]])[:_MOST_PLACES]
        self.hits = np.concatenate([hits[kept], np.ones(new, dtype=np.int64)])[:_MOST_PLACES]
        self.ways_px = np.concatenate([self.ways_px[kept], np.zeros(new)])[:_MOST_PLACES]
        self._misses = np.concatenate([misses[kept], np.zeros(new, dtype=np.int64)])[:_MOST_PLACES]


class StaticBackground:
    """Static sources of the sky and of the detector."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._sky, self._detector = StaticSources(), StaticSources()
        self._started = False

    def movers(
        self, points_px: FloatArray, sigmas_px: FloatArray, root: FloatArray, sky: Layer | None, claimed: BoolArray,
        size: tuple[int, int],
    ) -> BoolArray:  # fmt: skip
        """Test which of a frame's S sources belong to no layer of the background, and remember all of them.

        Before anything is remembered, none does.

        Args:
            points_px: `(S, 2)` centroids.
            sigmas_px: `(S,)` their standard deviations an axis.
            root: `(2, 2)` symmetric root of the covariance of a point source's image [px].
            sky: motion of the stars since the frame before, or None.
            claimed: `(S,)` where tracked objects are predicted; a source that is new there may be one.
            size: height and width of the image [px].

        """
        self._sky.advance(sky, sky)
        self._detector.advance(DETECTOR, sky)
        hits, _ = self._sky.at(points_px, sigmas_px)
        fixed_hits, ways_px = self._detector.at(points_px, sigmas_px)
        on_detector = np.where(ways_px >= _LEAST_WAY_PX, fixed_hits, 0)
        known = np.maximum(hits, on_detector)
        fresh = (known == 0) & _seen_before(points_px, sky, size, root) & ~self._sky.beside(points_px, root)
        movers = fresh | (claimed & (known < _CLAIMED_HITS))
        if not self._started or sky is None:
            movers[:] = False
        self._started = len(points_px) > 0
        self._sky.learn(points_px, sigmas_px, size)
        self._detector.learn(points_px, sigmas_px, size)
        return movers


def _seen_before(points_px: FloatArray, sky: Layer | None, size: tuple[int, int], root: FloatArray) -> BoolArray:
    """Test at which points `(S, 2)` the frame before could have shown a source: new stars enter along the border."""
    if sky is None:
        return np.zeros(len(points_px), dtype=bool)
    before = apply_homography(np.linalg.inv(sky.homography).astype(np.float64), points_px)
    margin = _BORDER_SIGMA * np.sqrt((root @ root).diagonal())
    limits = np.array(size)[::-1] - 1 - margin
    both = np.stack([before, points_px])
    return np.asarray(((both >= margin) & (both <= limits)).all(axis=(0, 2)))
