"""The last mask of each object, so that one that is not seen for a while still has an outline where it is expected."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.data import FloatArray
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.table import TrackTable

Part = tuple[slice, slice]


class Outlines:
    """Remembers the masks of resolved objects, cut to their boxes."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._kept: dict[UUID, tuple[Tensor, FloatArray]] = {}

    def learn(self, table: TrackTable, segments: Segments) -> None:
        """Keep the masks of the objects that were seen with one; forget those of objects that are gone."""
        known = {table.uuid(row) for row in range(len(table))}
        self._kept = {identity: kept for identity, kept in self._kept.items() if identity in known}
        for row in np.flatnonzero((table.segment_rows >= 0) & (table.segment_rows < segments.mask_count)):
            segment = int(table.segment_rows[row])
            left, top, width, height = segments.boxes_xywh_px[segment].astype(int)
            crop = segments.masks[segment, top : top + height, left : left + width].clone()
            self._kept[table.uuid(int(row))] = (crop, segments.centroids_px[segment] - (left, top))

    def at(self, identity: UUID, centroid_px: FloatArray, size: tuple[int, int]) -> tuple[Tensor, Part] | None:
        """Draw an object's last mask moved to a centroid; None where none is known or it lies outside.

        Args:
            identity: of the object.
            centroid_px: where its centroid is now.
            size: height and width of the frame.

        Returns:
            The mask `(H, W)`, a new one, and the part of it that holds the object.

        """
        if identity not in self._kept:
            return None
        crop, offset = self._kept[identity]
        left, top = np.rint(centroid_px - offset).astype(int)
        bottom, right = min(size[0], top + crop.shape[0]), min(size[1], left + crop.shape[1])
        first_row, first_column = max(top, 0), max(left, 0)
        if first_row >= bottom or first_column >= right:
            return None
        mask = torch.zeros(size, dtype=torch.bool, device=crop.device)
        part = slice(first_row, bottom), slice(first_column, right)
        mask[part] = crop[first_row - top : bottom - top, first_column - left : right - left]
        return mask, part
