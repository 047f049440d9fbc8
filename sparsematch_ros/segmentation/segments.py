"""The segments of a frame: masks and point sources in one form, with the error of their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, PromptReason, check_shape
from sparsematch_ros.detection.bodies import THRESHOLD
from sparsematch_ros.detection.evidence import EVIDENT
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.segmentation.masks import border_contacts, grown, mask_geometry

# Error of a mask's boundary [px], and the shares of its size by which masks change between frames: against the sky, and
# where no sky marks the edge.
_BOUNDARY_SIGMA_PX, _SIZE_SHARE, _VAGUE_SHARE = 0.06, 0.001, 0.03
# The motion of fewer pixels tells nothing of a mask's.
_LEAST_SHOWN_PX = 20
# A body's light reaches so far beyond its mask [px].
_SKIRT_PX = 2


# Chances that a point source, a solid body, and what may be a ghost are fixed on the detector.
_POINT_FIXED, _SOLID_FIXED, _DOUBTFUL_FIXED = 0.1, 1e-4, 0.1


@dataclass(frozen=True, eq=False)
class Segments:
    """What was found in one frame: rows [0, M) carry a mask, rows [M, N) are point sources without one.

    Attributes:
        masks: `(M, H, W)` bool tensor, on the device that made it.
        boxes_xywh_px: `(N, 4)` float64.
        centroids_px: `(N, 2)` float64, of masks weighted by the log of the contrast: it shifts little as single pixels
            come and go at the edge.
        offsets_px: `(N, 2)` float64 from there to the centroid of the mask's pixels; zero for point sources.
        covariances_px2: `(N, 2, 2)` float64 error of the centroids.
        mobilities: `(N, 2, 2)` float64 d centroid / d place of the body: less than the identity where the image's
            border cuts the mask, as what enters or leaves there moves the centroid the other way.
        areas_px: `(N,)` float64.
        scores: `(N,)` float64 in [0, 1]: predicted IoU of a mask, detection confidence of a point source.
        stability: `(N,)` float64 in [0, 1]; 1 for point sources.
        reasons: `(N,)` int64 of `PromptReason`.
        fluxes: `(N,)` float64 summed brightness above the background [grey levels]; NaN for masks.
        moving_shares: `(N,)` float64 in [0, 1]: of the pixels whose motion would show, the share that no layer of the
            background explains; NaN where too few would, and for point sources.
        fixed_priors: `(N,)` float64 chance, before its motion is known, that it is fixed on the detector: a hot pixel
            or a ghost of the optics.
        faint: `(N,)` bool, point sources that are looked at only because an object is tracked there.

    """

    masks: Tensor
    boxes_xywh_px: FloatArray
    centroids_px: FloatArray
    offsets_px: FloatArray
    covariances_px2: FloatArray
    mobilities: FloatArray
    areas_px: FloatArray
    scores: FloatArray
    stability: FloatArray
    reasons: IntArray
    fluxes: FloatArray
    moving_shares: FloatArray
    fixed_priors: FloatArray
    faint: BoolArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.centroids_px)
        check_shape("masks", self.masks, None, None, None)
        if self.masks.shape[0] > count:
            raise ValueError(f"{self.masks.shape[0]} masks for {count} segments")
        check_shape("boxes_xywh_px", self.boxes_xywh_px, count, 4)
        check_shape("centroids_px", self.centroids_px, count, 2)
        check_shape("offsets_px", self.offsets_px, count, 2)
        for name in ("covariances_px2", "mobilities"):
            check_shape(name, getattr(self, name), count, 2, 2)
        for name in ("areas_px", "scores", "stability", "reasons", "fluxes", "moving_shares", "fixed_priors", "faint"):
            check_shape(name, getattr(self, name), count)

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.centroids_px)

    @property
    def mask_count(self) -> int:
        """Count the segments that carry a mask."""
        return int(self.masks.shape[0])


@dataclass(frozen=True, eq=False)
class MaskRows:
    """The masks of a frame with SAM's figures, on the device.

    Attributes:
        masks: `(M, H, W)` bool.
        scores: `(M,)` predicted IoU.
        stability: `(M,)` stability score.
        reasons: `(M,)` float of `PromptReason`.
        owners: `(M,)` int64, the encoded part of the frame that each comes from.
        prompts: `(M,)` int64, the prompt that each answers, -1 for none.

    """

    masks: Tensor
    scores: Tensor
    stability: Tensor
    reasons: Tensor
    owners: Tensor
    prompts: Tensor

    @classmethod
    def empty(cls, size: tuple[int, int], device: torch.device) -> MaskRows:
        """Make the masks of a frame of `size` (height, width) in which nothing was asked."""
        none = torch.zeros(0, device=device)
        masks = torch.zeros((0, *size), dtype=torch.bool, device=device)
        return cls(masks, none, none, none, none.long(), none.long())

    @classmethod
    def join(cls, parts: Sequence[MaskRows]) -> MaskRows:
        """Put several parts one after another."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))

    def take(self, rows: Tensor) -> MaskRows:
        """Select some rows, by number or by a mask."""
        return MaskRows(*(getattr(self, name)[rows] for name in _COLUMNS))


_COLUMNS = ("masks", "scores", "stability", "reasons", "owners", "prompts")


def assemble(rows: MaskRows, sources: Sources, regions: Regions, least_snr: float) -> tuple[Segments, IntArray]:
    """Join masks and point sources; the masks' figures come to the host in one copy.

    Returns:
        The segments, without masks that are empty, and the owners `(M,)` int64 of the masks.

    """
    masks, table, contacts = _mask_table(rows, regions)
    joined = np.concatenate([table[:, :11], _point_table(sources)])
    centroids = _contrast_centroids(masks, regions, table[:, 4:6])
    covariances, mobilities = _mask_errors(table, contacts, _sharp_shares(masks, regions), masks.shape[1:])
    round_errors = sources.sigmas_px[:, None, None] ** 2 * np.eye(2)
    segments = Segments(
        masks=masks,
        boxes_xywh_px=joined[:, :4],
        centroids_px=np.concatenate([centroids, sources.points_px]),
        offsets_px=np.concatenate([table[:, 4:6] - centroids, np.zeros((len(sources), 2))]),
        covariances_px2=np.concatenate([covariances, round_errors]),
        mobilities=np.concatenate([mobilities, np.broadcast_to(np.eye(2), (len(sources), 2, 2))]),
        areas_px=joined[:, 6],
        scores=joined[:, 7],
        stability=joined[:, 8],
        reasons=joined[:, 9].astype(np.int64),
        fluxes=np.concatenate([np.full(len(table), np.nan), sources.fluxes]),
        moving_shares=joined[:, 10],
        fixed_priors=np.concatenate([_fixed_priors(masks, regions), np.full(len(sources), _POINT_FIXED)]),
        faint=np.concatenate([np.zeros(len(table), dtype=bool), sources.snr < least_snr]),
    )
    return segments, table[:, 11].astype(np.int64)


def _mask_table(rows: MaskRows, regions: Regions) -> tuple[Tensor, FloatArray, FloatArray]:
    """Measure the masks that are not empty: a row of figures for each, and their contacts with the border."""
    boxes, centroids, areas = mask_geometry(rows.masks)
    shares = torch.full_like(areas, float("nan"))
    if regions.evidence is not None and len(rows.masks):
        evident, shown = (
            (rows.masks & torch.from_numpy(each).to(rows.masks.device)).flatten(1).sum(dim=1)
            for each in (regions.evidence > EVIDENT, np.isfinite(regions.evidence))
        )
        shares = torch.where(shown >= _LEAST_SHOWN_PX, evident / shown.clamp(min=1), shares)
    columns = (rows.scores, rows.stability, rows.reasons, shares, rows.owners)
    figures = torch.stack([areas, *(column.double() for column in columns)], dim=1)
    contacts = border_contacts(rows.masks)
    everything = torch.cat([boxes, centroids, figures, contacts.flatten(1)], dim=1).cpu().numpy()
    full = everything[:, 6] > 0
    masks = rows.masks if full.all() else rows.masks[torch.as_tensor(full, device=rows.masks.device)]
    return masks, everything[full, :12], everything[full, 12:].reshape(-1, 4, 2)


def _contrast_centroids(masks: Tensor, regions: Regions, plain: FloatArray) -> FloatArray:
    """Compute centroids `(M, 2)` of masks weighted by the log of the contrast, the masks' own, `plain`, without any.

    A little beyond the edge counts too, with the little contrast that it has.
    """
    if regions.contrast is None or len(masks) == 0:
        return plain
    contrast = torch.from_numpy(regions.contrast).to(masks.device)
    weights = grown(masks, _SKIRT_PX) * torch.log1p(contrast.clamp(min=0) / THRESHOLD)
    total = weights.sum(dim=(1, 2), dtype=torch.float64)
    x = torch.arange(masks.shape[2], dtype=torch.float32, device=masks.device)
    y = torch.arange(masks.shape[1], dtype=torch.float32, device=masks.device)
    moments = torch.stack([(weights.sum(dim=1) @ x).double(), (weights.sum(dim=2) @ y).double()], dim=1)
    measured = (moments / total.clamp(min=1e-9)[:, None]).cpu().numpy()
    return np.where(total.cpu().numpy()[:, None] > 0, measured, plain)


def _sharp_shares(masks: Tensor, regions: Regions) -> FloatArray:
    """Compute the share `(M,)` of what surrounds each mask that is sky: there brightness marks the edge."""
    ring = grown(masks) & ~masks
    sky = ring & torch.from_numpy(regions.sky).to(masks.device)
    return np.asarray((sky.flatten(1).sum(dim=1) / ring.flatten(1).sum(dim=1).clamp(min=1)).cpu().numpy())


def _mask_errors(
    table: FloatArray, contacts: FloatArray, sharp: FloatArray, size: tuple[int, ...]
) -> tuple[FloatArray, FloatArray]:
    """Compute covariances and mobilities `(M, 2, 2)` of the masks' centroids.

    A body that moves by d pushes the area l (d n) over a border that it meets along a length l, n being the normal to
    the outside. With it goes its moment about the centroid:
    d centroid / d place = 1 - sum l / A (contact - centroid) n.

    Args:
        table: rows of `_mask_table`.
        contacts: `(M, 4, 2)` length of the contact with the left, right, top and bottom border, and the place of its
            middle along it [px].
        sharp: `(M,)` share of their edges that lie against the sky.
        size: height and width of the image [px].

    """
    height, width = size[-2:]
    centroids, areas = table[:, 4:6], table[:, 6]
    sides = np.sqrt(areas)
    sigma = np.hypot(_BOUNDARY_SIGMA_PX, np.hypot(_SIZE_SHARE, _VAGUE_SHARE * (1 - sharp)) * sides)
    mobilities = np.broadcast_to(np.eye(2), (len(table), 2, 2)).copy()
    edges = ((0, -0.5, -1.0), (0, width - 0.5, 1.0), (1, -0.5, -1.0), (1, height - 0.5, 1.0))
    for side, (axis, edge, outward) in enumerate(edges):
        middle = np.zeros((len(table), 2))
        middle[:, axis], middle[:, 1 - axis] = edge, contacts[:, side, 1]
        mobilities[:, :, axis] -= outward * (contacts[:, side, 0] / areas)[:, None] * (middle - centroids)
    return sigma[:, None, None] ** 2 * np.eye(2), mobilities


def _fixed_priors(masks: Tensor, regions: Regions) -> FloatArray:
    """Look up the chance `(M,)` that each mask is a ghost, by the region that it holds most of."""
    count = len(regions) + 1
    labels = torch.from_numpy(regions.labels).to(masks.device).long()
    owner, y, x = masks.nonzero(as_tuple=True)
    held = torch.bincount(owner * count + labels[y, x], minlength=len(masks) * count).view(len(masks), count)
    if count == 1 or len(masks) == 0:
        return np.full(len(masks), _DOUBTFUL_FIXED)
    most, best = (each.cpu().numpy() for each in held[:, 1:].max(dim=1))
    solid = regions.solid[best] & (most > 0)
    return np.where(solid, _SOLID_FIXED, _DOUBTFUL_FIXED)


def _point_table(sources: Sources) -> FloatArray:
    """Lay point sources out as masks are: box, centroid, area, score, stability, reason, moving share."""
    count = len(sources)
    extent = np.full((count, 2), 3.0) + np.abs(sources.smear_px)
    score = (1 - np.exp(-sources.snr / 5.0))[:, None]
    column = np.ones((count, 1))
    area = np.pi / 4 * extent.prod(axis=1)[:, None]
    corner = sources.points_px - (extent - 1) / 2
    reason = column * float(PromptReason.POINT_SOURCE)
    return np.concatenate([corner, extent, sources.points_px, area, score, column, reason, column * np.nan], axis=1)
