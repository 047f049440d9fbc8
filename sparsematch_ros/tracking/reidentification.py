"""Lost objects that come back: known again by what they look like, near where they would be by now."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from sparsematch_ros.background.layers import Background
from sparsematch_ros.config import TrackingConfig
from sparsematch_ros.data import NANOSECONDS, BoolArray, Descriptors, IntArray, ObjectState
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.geometry import mahalanobis2
from sparsematch_ros.tracking.models import MOVING
from sparsematch_ros.tracking.table import TrackTable

_MOST_REMEMBERED = 64
# Masks grow and shrink by whole parts: a place may be wrong by this share of the object's size, and the area by this
# factor. One in ten thousand true returns is refused by its place and velocity.
_SIZE_SHARE, _AREA_RATIO = 0.1, 4.0
_GATE = float(chi2.isf(1e-4, 4))


class LostObjects:
    """Remembers lost objects for a while, and gives the identity of one to the newcomer that it turns out to be.

    A newcomer is a lost object where, at its confirmation, each is the other's most similar one, their descriptors'
    cosine is high enough, it was first seen after the other was last seen, and place, velocity and size are as
    predicted. Point sources have no descriptor: they are neither remembered nor known again.
    """

    def __init__(self, config: TrackingConfig) -> None:
        """Keep the settings and remember nothing yet."""
        self._config = config
        self._lost = TrackTable.empty()

    def __len__(self) -> int:
        """Count the objects that are remembered."""
        return len(self._lost)

    def step(self, table: TrackTable, stages_before: IntArray, background: Background, stamp_ns: int) -> TrackTable:
        """Process the objects of a frame.

        Args:
            table: T objects as they are judged, those lost in this frame among them.
            stages_before: `(T,)` their stages one frame earlier.
            background: its motion into this frame.
            stamp_ns: the frame's stamp [ns].

        Returns:
            The same objects in the same rows, those known again under their old identities; the ones that these had
            until now follow as lost.

        """
        tentative = stages_before == ObjectState.TENTATIVE
        confirmed = np.flatnonzero(tentative & (table.stages == ObjectState.CONFIRMED) & ~table.point_source)
        given_up = np.flatnonzero(~tentative & (table.stages == ObjectState.LOST) & ~table.point_source)
        if len(self._lost) + len(given_up) == 0:
            return table
        self._predict(background, stamp_ns)
        known, newcomers = self._pair(table.take(confirmed))
        renamed = _renamed(table, confirmed[newcomers], self._lost.take(known))
        self._lost = self._lost.take(np.setdiff1d(np.arange(len(self._lost)), known))
        # Where things are after a gap nobody knows.
        if self._config.reidentify_s > 0 and not background.gap:
            self._remember(table.take(given_up))
        return renamed

    def _predict(self, background: Background, stamp_ns: int) -> None:
        """Predict what is remembered; forget what is too old, or was lost before a gap."""
        if len(self._lost) == 0:
            return
        fresh = stamp_ns - self._lost.last_seen_ns <= self._config.reidentify_s * NANOSECONDS
        lost = self._lost.take(fresh & (not background.gap))
        bank = lost.bank.predicted(background, lost.mobilities, np.sqrt(lost.areas_px), self._config.acceleration_px_s2)
        self._lost = lost.with_columns(bank=bank)

    def _remember(self, lost: TrackTable) -> None:
        if len(lost) == 0:
            return
        known = self._lost.join(lost)
        self._lost = known.take(np.argsort(-known.last_seen_ns, kind="stable")[:_MOST_REMEMBERED])

    def _pair(self, newcomers: TrackTable) -> tuple[IntArray, IntArray]:
        """Pair the rows of remembered objects and those of the newcomers `(F,)` that are them, `(K,)` each."""
        rows = np.arange(len(self._lost))
        if len(rows) == 0 or len(newcomers) == 0:
            return rows[:0], rows[:0]
        remembered = Descriptors(self._lost.descriptors.to(newcomers.descriptors.device))
        cosines = cosine_matrix(remembered, Descriptors(newcomers.descriptors))
        cosines = np.where(self._may_be(newcomers) & ~np.isnan(cosines), cosines, -np.inf)
        best = cosines.argmax(axis=1)
        mutual = cosines.argmax(axis=0)[best] == rows
        good = mutual & (cosines[rows, best] >= self._config.reidentify_cosine)
        return rows[good], best[good]

    def _may_be(self, newcomers: TrackTable) -> BoolArray:
        """Test which newcomers are where and as large as a remembered object would be by now, `(L, F)`."""
        lost = self._lost
        (old, old_spread), (new, new_spread) = lost.bank.mean(MOVING), newcomers.bank.mean(MOVING)
        spread = old_spread[:, None] + new_spread[None]
        spread[..., [0, 1], [0, 1]] += (_SIZE_SHARE**2 * lost.areas_px)[:, None, None]
        grown = np.abs(np.log(np.maximum(newcomers.areas_px, 1)[None] / np.maximum(lost.areas_px, 1)[:, None]))
        later = newcomers.first_seen_ns[None] > lost.last_seen_ns[:, None]
        near = mahalanobis2(new[None] - old[:, None], spread) <= _GATE
        return np.asarray(later & (grown <= np.log(_AREA_RATIO)) & near)


def _renamed(table: TrackTable, rows: IntArray, remembered: TrackTable) -> TrackTable:
    """Rename rows `(K,)` of a table the identities of K remembered objects; their own are appended as lost."""
    if len(rows) == 0:
        return table
    ended = table.take(rows).with_columns(
        stages=np.full(len(rows), int(ObjectState.LOST)), segment_rows=np.full(len(rows), -1)
    )
    ids, first_seen_ns = table.ids.copy(), table.first_seen_ns.copy()
    ids[rows], first_seen_ns[rows] = remembered.ids, remembered.first_seen_ns
    return table.with_columns(ids=ids, first_seen_ns=first_seen_ns).join(ended)
