"""All tracked objects as columns, so that a frame's work is a few array operations, whatever their number."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from uuid import UUID, uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, ObjectState

# However calm or wild an object was, its covariance is scaled by no less and no more than this.
_SCALES = (0.3, 10.0)


@dataclass(frozen=True, eq=False)
class TrackTable:
    """T objects.

    Attributes:
        ids: `(T,)` object array of UUID.
        states: `(T, 4)` centroid [px] and scene-relative velocity [px/s].
        covariances: `(T, 4, 4)`.
        free_states: `(T, 4)` as `states`, flown on from when nothing was near; NaN where that never was.
        free_areas_px: `(T,)` the area then; NaN where that never was.
        crowded_s: `(T,)` time since then [s].
        surprises: `(T,)` smoothed square of the innovations over what their covariance lets expect; 1 is as expected.
        boxes_xywh_px: `(T, 4)`.
        areas_px: `(T,)`.
        segment_rows: `(T,)` row among the last frame's segments, -1 where not seen.
        log_odds: `(T,)` of existence.
        recent: `(T, W)` bool, seen in the last W frames, newest first.
        stages: `(T,)` of `ObjectState`.
        moving: `(T,)` bool.
        anchors_px: `(T, 2)` place in the scene, followed slowly: what leaves it moves, however slow.
        still_frames: `(T,)` frames since birth or since last found moving.
        moving_shares: `(T,)` smoothed share of pixels that move against the background; NaN unknown.
        point_source: `(T,)` bool, last seen without a mask.
        ages: `(T,)` frames since birth.
        first_seen_ns: `(T,)`.
        last_seen_ns: `(T,)`.
        descriptors: `(T, D)` tensor of smoothed unit rows; zero unknown.

    """

    ids: NDArray[np.object_]
    states: FloatArray
    covariances: FloatArray
    free_states: FloatArray
    free_areas_px: FloatArray
    crowded_s: FloatArray
    surprises: FloatArray
    boxes_xywh_px: FloatArray
    areas_px: FloatArray
    segment_rows: IntArray
    log_odds: FloatArray
    recent: BoolArray
    stages: IntArray
    moving: BoolArray
    anchors_px: FloatArray
    still_frames: IntArray
    moving_shares: FloatArray
    point_source: BoolArray
    ages: IntArray
    first_seen_ns: IntArray
    last_seen_ns: IntArray
    descriptors: Tensor

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.states)

    @property
    def velocity_covariances(self) -> FloatArray:
        """Give the covariances of the velocities `(T, 2, 2)`, scaled by how well the innovations were foretold.

        (Covariance matching: Mehra, "Approaches to Adaptive Filtering", IEEE Trans. Automatic Control 1972.)
        """
        return np.asarray(self.scales[:, None, None] * self.covariances[:, 2:, 2:])

    @property
    def scales(self) -> FloatArray:
        """Give the factors `(T,)` of `velocity_covariances`."""
        return np.clip(self.surprises, *_SCALES)

    @classmethod
    def empty(cls, window: int) -> TrackTable:
        """Make a table without objects whose history is `window` frames long."""
        return cls.born(np.zeros((0, 2)), np.zeros((0, 4, 4)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64),
                        window, 0, torch.zeros((0, 0)))  # fmt: skip

    @classmethod
    def born(
        cls,
        centroids_px: FloatArray,
        covariances: FloatArray,
        boxes_xywh_px: FloatArray,
        areas_px: FloatArray,
        segment_rows: IntArray,
        window: int,
        stamp_ns: int,
        descriptors: Tensor,
    ) -> TrackTable:
        """Make tentative objects from segments of this frame."""
        count = len(centroids_px)
        recent = np.zeros((count, window), dtype=bool)
        recent[:, 0] = True
        return cls(
            ids=np.array([uuid4() for _ in range(count)], dtype=object),
            states=np.concatenate([centroids_px, np.zeros((count, 2))], axis=1),
            covariances=covariances,
            free_states=np.full((count, 4), np.nan),
            free_areas_px=np.full(count, np.nan),
            crowded_s=np.zeros(count),
            surprises=np.ones(count),
            boxes_xywh_px=boxes_xywh_px,
            areas_px=areas_px,
            segment_rows=segment_rows,
            log_odds=np.zeros(count),
            recent=recent,
            stages=np.full(count, int(ObjectState.TENTATIVE), dtype=np.int64),
            moving=np.zeros(count, dtype=bool),
            anchors_px=centroids_px.copy(),
            still_frames=np.zeros(count, dtype=np.int64),
            moving_shares=np.full(count, np.nan),
            point_source=np.zeros(count, dtype=bool),
            ages=np.ones(count, dtype=np.int64),
            first_seen_ns=np.full(count, stamp_ns, dtype=np.int64),
            last_seen_ns=np.full(count, stamp_ns, dtype=np.int64),
            descriptors=descriptors,
        )

    def take(self, rows: IntArray | BoolArray) -> TrackTable:
        """Give some of the objects."""
        picked = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        index = torch.as_tensor(picked, device=self.descriptors.device)
        columns = {item.name: getattr(self, item.name)[picked] for item in fields(self) if item.name != "descriptors"}
        return TrackTable(**columns, descriptors=self.descriptors[index])

    def join(self, other: TrackTable) -> TrackTable:
        """Append other objects; where one table has no descriptors yet, zeros stand in."""
        width = max(self.descriptors.shape[1], other.descriptors.shape[1])
        device = other.descriptors.device if len(other) else self.descriptors.device
        tensors = [_widened(table.descriptors.to(device), width) for table in (self, other)]
        names = [item.name for item in fields(self) if item.name != "descriptors"]
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return TrackTable(**columns, descriptors=torch.cat(tensors))

    def with_columns(self, **columns: object) -> TrackTable:
        """Give the table with some columns replaced."""
        return replace(self, **columns)  # type: ignore[arg-type]

    def uuid(self, row: int) -> UUID:
        """Give an object's identity."""
        identity: UUID = self.ids[row]
        return identity


def _widened(descriptors: Tensor, width: int) -> Tensor:
    if descriptors.shape[1] == width:
        return descriptors
    return descriptors.new_zeros((len(descriptors), width))
