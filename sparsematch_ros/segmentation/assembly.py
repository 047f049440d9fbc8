"""Masks and point sources joined to one `Segments`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.data import EgoMotion, FloatArray, IntArray, PromptReason, Segments
from sparsematch_ros.egomotion.residual import moving_shares
from sparsematch_ros.kinematics import touches_border
from sparsematch_ros.segmentation.masks import mask_geometry
from sparsematch_ros.sky import Sky

# The boundary's error [px], and the share of the size by which SAM's masks breathe between frames.
_BOUNDARY_SIGMA_PX = 0.2
_BREATHING_SHARE = 0.007
# A mask cut by the image border says little of the centroid.
_TRUNCATED_FACTOR = 1.5


@dataclass(frozen=True, eq=False)
class MaskRows:
    """The masks of a frame with what SAM says of them, on the device.

    Attributes:
        masks: `(M, H, W)` bool.
        scores: `(M,)` predicted IoU.
        stability: `(M,)` stability score.
        reasons: `(M,)` float of `PromptReason`.
        owners: `(M,)` int64, the encoded part of the frame that each comes from.

    """

    masks: Tensor
    scores: Tensor
    stability: Tensor
    reasons: Tensor
    owners: Tensor

    @classmethod
    def empty(cls, size: tuple[int, int], device: torch.device) -> MaskRows:
        """Make the masks of a frame of `size` (height, width) in which nothing was asked."""
        none = torch.zeros(0, device=device)
        return cls(torch.zeros((0, *size), dtype=torch.bool, device=device), none, none, none, none.long())

    @classmethod
    def join(cls, parts: Sequence[MaskRows]) -> MaskRows:
        """Put several parts one after another."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))

    def take(self, rows: Tensor) -> MaskRows:
        """Give some rows, named by number or by a mask."""
        return MaskRows(*(getattr(self, name)[rows] for name in _COLUMNS))


_COLUMNS = ("masks", "scores", "stability", "reasons", "owners")


def assemble(rows: MaskRows, sky: Sky, points: IntArray, motion: EgoMotion) -> tuple[Segments, IntArray]:
    """Join masks and the point sources `sky.points_px[points]`; the masks' figures come to the host in one copy.

    Returns:
        The segments, without masks that are empty, and the owners `(M,)` int64 of the masks.

    """
    masks, table = _mask_table(rows)
    joined = np.concatenate([table[:, :10], _point_table(sky, points)])
    unknown = np.full(len(points), np.nan)
    moving = np.full(len(table), np.nan)
    if motion.residual is not None:
        moving = moving_shares(motion.residual.evidence, masks)[0].double().cpu().numpy()
    segments = Segments(
        masks=masks,
        boxes_xywh_px=joined[:, :4],
        centroids_px=joined[:, 4:6],
        areas_px=joined[:, 6],
        centroid_sigma_px=np.concatenate([_centroid_sigma(table, masks.shape[1:]), sky.sigmas_px[points]]),
        scores=joined[:, 7],
        stability=joined[:, 8],
        reasons=joined[:, 9].astype(np.int64),
        fluxes=np.concatenate([np.full(len(table), np.nan), sky.fluxes[points]]),
        moving_shares=np.concatenate([moving, unknown]),
    )
    return segments, table[:, 10].astype(np.int64)


def _mask_table(rows: MaskRows) -> tuple[Tensor, FloatArray]:
    """Give the masks that are not empty, and a row of figures for each."""
    boxes, centroids, areas = mask_geometry(rows.masks)
    columns = (rows.scores, rows.stability, rows.reasons, rows.owners)
    figures = torch.stack([areas, *(column.double() for column in columns)], dim=1)
    table = torch.cat([boxes, centroids, figures], dim=1).cpu().numpy()
    full = table[:, 6] > 0
    masks = rows.masks if full.all() else rows.masks[torch.as_tensor(full, device=rows.masks.device)]
    return masks, table[full]


def _point_table(sky: Sky, points: IntArray) -> FloatArray:
    """Lay point sources out as masks are: box, centroid, area, score, stability, reason."""
    centroids, extent = sky.points_px[points], np.maximum(sky.extents_px[points], 1.0)[:, None]
    score = (1 - np.exp(-sky.snr[points] / 5.0))[:, None]
    reason = np.full_like(extent, float(PromptReason.POINT_SOURCE))
    area = np.pi / 4 * extent**2
    corner = centroids - (extent - 1) / 2
    return np.concatenate([corner, extent, extent, centroids, area, score, np.ones_like(extent), reason], axis=1)


def _centroid_sigma(table: FloatArray, size: tuple[int, ...]) -> FloatArray:
    """Give the centroid's standard deviation an axis `(M,)`: boundary error, breathing masks, truncation."""
    sigma = np.hypot(_BOUNDARY_SIGMA_PX, _BREATHING_SHARE * np.sqrt(table[:, 6]))
    return np.where(touches_border(table[:, :4], size), sigma * _TRUNCATED_FACTOR, sigma)
