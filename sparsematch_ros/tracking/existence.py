"""How likely each object exists: log odds that follow the likelihood ratios of the association.

The recursion of the integrated probabilistic data association (Musicki, Evans and Stankovic, 1994), with clutter that
is counted as it comes: segments that no object explains.
"""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import FloatArray, IntArray

# The log odds of a confirmed object are held below this, so that a few misses can end it.
MOST_LOG_ODDS = 8.0
# Log odds of a newborn.
BIRTH_LOG_ODDS = -2.0
# Weight of a new frame in the counts, and the fewest false segments a frame that are expected.
_LEARNING, _LEAST_COUNT = 0.2, 0.3
_SECONDS_AN_HOUR = 3600.0


class Clutter:
    """Counts the segments a frame that no known object explains: masks, points, and what is too faint to be born."""

    def __init__(self) -> None:
        """Expect few of each kind."""
        self._usual = np.full(3, _LEAST_COUNT)
        self._counts = self._usual

    def count(self, kinds: IntArray, known: IntArray, faint: int) -> None:
        """Count the segments of a frame beyond those of known objects.

        Args:
            kinds: `(N,)` of the segments: 0 a mask, 1 a point source, 2 a faint one.
            known: `(2,)` number of the known objects that are masks and point sources.
            faint: faint sources that are no segments, as no object claims them.

        """
        fresh = np.bincount(kinds, minlength=3) + np.array([0, 0, faint]) - np.append(known, 0)
        fresh = np.maximum(fresh, _LEAST_COUNT)
        self._counts = np.maximum(fresh, self._usual)
        self._usual = self._usual + _LEARNING * (fresh - self._usual)

    def log_densities(self, kinds: IntArray, size: tuple[int, int]) -> FloatArray:
        """Compute the log density `(N,)` [1/px^2] of false segments of each kind in an image of height and width."""
        return np.asarray(np.log(self._counts[kinds] / (size[0] * size[1])))

    def confirmation_log_odds(self, dt_s: float, accepted_per_hour: float) -> FloatArray:
        """Compute the log odds `(2,)` from which a mask and a point source are confirmed.

        A newborn from clutter reaches a likelihood ratio L with a chance of 1 / L at most (Wald, "Sequential Analysis",
        1947). All newborns of an hour together may reach it as often as is accepted.
        """
        births_per_hour = self._counts[:2] * _SECONDS_AN_HOUR / max(dt_s, 1e-3)
        return np.asarray(BIRTH_LOG_ODDS + np.log(np.maximum(births_per_hour / accepted_per_hour, 1.0)))
