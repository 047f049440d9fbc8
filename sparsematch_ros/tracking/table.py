"""All tracked objects as columns, so that a frame's work is a few array operations, whatever their number."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from uuid import UUID, uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, ObjectState
from sparsematch_ros.tracking.models import ModelBank


@dataclass(frozen=True, eq=False)
class TrackTable:
    """T objects.

    Attributes:
        ids: `(T,)` object array of UUID.
        bank: their motion models.
        boxes_xywh_px: `(T, 4)`.
        areas_px: `(T,)`.
        fluxes: `(T,)` summed brightness of point sources; NaN for masks.
        mobilities: `(T, 2, 2)` as in `Segments`.
        offsets_px: `(T, 2)` smoothed, as in `Segments`.
        segment_rows: `(T,)` row among the last frame's segments, -1 where not seen.
        log_odds: `(T,)` of existence.
        stages: `(T,)` of `ObjectState`.
        moving: `(T,)` bool.
        point_source: `(T,)` bool, last seen without a mask.
        ages: `(T,)` frames since birth.
        first_seen_ns: `(T,)`.
        last_seen_ns: `(T,)`.
        descriptors: `(T, D)` tensor of smoothed unit rows; zero unknown.

    """

    ids: NDArray[np.object_]
    bank: ModelBank
    boxes_xywh_px: FloatArray
    areas_px: FloatArray
    fluxes: FloatArray
    mobilities: FloatArray
    offsets_px: FloatArray
    segment_rows: IntArray
    log_odds: FloatArray
    stages: IntArray
    moving: BoolArray
    point_source: BoolArray
    ages: IntArray
    first_seen_ns: IntArray
    last_seen_ns: IntArray
    descriptors: Tensor

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.ids)

    @classmethod
    def empty(cls) -> TrackTable:
        """Make a table without objects."""
        none, row = np.zeros(0), np.zeros(0, dtype=np.int64)
        bank = ModelBank.born(np.zeros((0, 2)), np.zeros((0, 2, 2)), none, none, 1.0)
        return cls(np.zeros(0, dtype=object), bank, np.zeros((0, 4)), none, none, np.zeros((0, 2, 2)),
                   np.zeros((0, 2)), row, none, row,
                   none > 0, none > 0, row, row, row, torch.zeros((0, 0)))  # fmt: skip

    def born(self, bank: ModelBank, log_odds: float, stamp_ns: int, **columns: FloatArray | Tensor) -> TrackTable:
        """Make tentative objects of this kind of table from the segments of a frame."""
        count = len(bank)
        return TrackTable(
            ids=np.array([uuid4() for _ in range(count)], dtype=object),
            bank=bank,
            log_odds=np.full(count, log_odds),
            stages=np.full(count, int(ObjectState.TENTATIVE), dtype=np.int64),
            moving=np.zeros(count, dtype=bool),
            ages=np.ones(count, dtype=np.int64),
            first_seen_ns=np.full(count, stamp_ns, dtype=np.int64),
            last_seen_ns=np.full(count, stamp_ns, dtype=np.int64),
            **columns,  # type: ignore[arg-type]
        )

    def take(self, rows: IntArray | BoolArray) -> TrackTable:
        """Select some of the objects."""
        picked = np.arange(len(self))[rows]
        index = torch.as_tensor(picked, device=self.descriptors.device)
        columns = {item.name: getattr(self, item.name)[picked] for item in _ARRAYS}
        return TrackTable(**columns, bank=self.bank.take(picked), descriptors=self.descriptors[index])

    def join(self, other: TrackTable) -> TrackTable:
        """Append other objects; where one table has no descriptors yet, zeros stand in."""
        width = max(self.descriptors.shape[1], other.descriptors.shape[1])
        device = other.descriptors.device if len(other) else self.descriptors.device
        tensors = [_widened(table.descriptors.to(device), width) for table in (self, other)]
        columns = {item.name: np.concatenate([getattr(self, item.name), getattr(other, item.name)]) for item in _ARRAYS}
        return TrackTable(**columns, bank=self.bank.join(other.bank), descriptors=torch.cat(tensors))

    def with_columns(self, **columns: object) -> TrackTable:
        """Replace some columns."""
        return replace(self, **columns)  # type: ignore[arg-type]

    def uuid(self, row: int) -> UUID:
        """Look up an object's identity."""
        identity: UUID = self.ids[row]
        return identity


_ARRAYS = [item for item in fields(TrackTable) if item.name not in ("bank", "descriptors")]


def _widened(descriptors: Tensor, width: int) -> Tensor:
    if descriptors.shape[1] == width:
        return descriptors
    return descriptors.new_zeros((len(descriptors), width))
