"""Tensor operations on masks: geometry, stability, and which of many to keep."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import BoolArray, FloatArray

# How far SAM's edge may be off in the image.
_EDGE_PX = 4


def mask_geometry(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute boxes, centroids and areas of masks `(M, H, W)` bool.

    Returns:
        Boxes `(M, 4)` left, top, width, height; centroids `(M, 2)`; areas `(M,)`; all float64 [px]. Empty masks give
        zeros.

    """
    columns, rows = masks.sum(dim=1).double(), masks.sum(dim=2).double()
    areas = columns.sum(dim=1)
    safe = areas.clamp(min=1)
    x = torch.arange(masks.shape[2], dtype=torch.float64, device=masks.device)
    y = torch.arange(masks.shape[1], dtype=torch.float64, device=masks.device)
    centroids = torch.stack([columns @ x / safe, rows @ y / safe], dim=1)
    left, width = _span(columns > 0)
    top, height = _span(rows > 0)
    return torch.stack([left, top, width, height], dim=1), centroids, areas


def border_contacts(masks: Tensor) -> Tensor:
    """Measure where masks `(M, H, W)` meet the image's border.

    Returns:
        `(M, 4, 2)` float64: for the left, right, top and bottom border the length of the contact and the place of its
        middle along the border [px], zeros where there is none.

    """
    lines = (masks[:, :, 0], masks[:, :, -1], masks[:, 0], masks[:, -1])
    contacts = []
    for line in lines:
        length = line.double().sum(dim=1)
        place = line.double() @ torch.arange(line.shape[1], dtype=torch.float64, device=masks.device)
        contacts.append(torch.stack([length, place / length.clamp(min=1)], dim=1))
    return torch.stack(contacts, dim=1)


def _span(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Compute first index and extent of the occupied cells of each row `(M, L)`; zeros where none is."""
    filled = occupied.to(torch.uint8)
    any_cell = occupied.any(dim=1)
    first = filled.argmax(dim=1)
    last = occupied.shape[1] - 1 - filled.flip(1).argmax(dim=1)
    extent = torch.where(any_cell, last - first + 1, torch.zeros_like(first))
    return first.double() * any_cell, extent.double()


def masks_at(masks: Tensor, points_px: FloatArray) -> BoolArray:
    """Test which masks `(M, H, W)` hold which points `(P, 2)`, `(P, M)` on the host; none holds a point outside."""
    held = np.zeros((len(points_px), len(masks)), dtype=bool)
    x, y = np.rint(points_px).astype(np.int64).T
    inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < masks.shape[2]) & (y < masks.shape[1]))
    if len(masks) and len(inside):
        rows, columns = (torch.as_tensor(axis[inside], device=masks.device) for axis in (y, x))
        held[inside] = masks[:, rows, columns].T.cpu().numpy()
    return held


def stability(logits: Tensor, offset: float) -> Tensor:
    """Compute the IoU `(K,)` of the masks at a raised and at a lowered threshold (as SAM's automatic generator)."""
    high = (logits > offset).flatten(1).sum(dim=1).float()
    low = (logits > -offset).flatten(1).sum(dim=1).float()
    return high / low.clamp(min=1)


def pairwise_overlap(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the IoU `(M, M)` of masks `(M, h, w)` and the share `(M, M)` of the row's mask inside the column's."""
    flat = masks.flatten(1).float()
    common = flat @ flat.T
    areas = flat.sum(dim=1)
    union = areas[:, None] + areas[None] - common
    return common / union.clamp(min=1), common / areas[:, None].clamp(min=1)


def keep_strongest(
    masks: Tensor, ranks: Tensor, same_iou: float, part_share: float, whole: Tensor | None = None,
    rivals: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Choose masks so that one thing gives one segment.

    Greedy in the order of `ranks` (highest first): a mask is dropped where it repeats a kept one, is a part of it, or
    holds it as a part.

    Args:
        masks: `(M, h, w)` bool, any resolution.
        ranks: `(M,)` what goes first.
        same_iou: IoU from which two masks are the same.
        part_share: share of a mask inside another from which it is its part.
        whole: `(M,)` bool, masks that are no parts wherever they lie, such as an object before a larger one.
        rivals: `(M,)` int64, masks of one number from 0 on are of one thing, of which one is kept.

    Returns:
        `(K,)` int64 rows in the order of `ranks`.

    """
    if len(masks) == 0:
        return torch.zeros(0, dtype=torch.int64, device=masks.device)
    iou, share = pairwise_overlap(masks)
    order = torch.argsort(ranks, descending=True, stable=True)
    part = (share > part_share) | (share > part_share).T
    if whole is not None:
        part &= ~whole[:, None]
    if rivals is not None:
        part |= (rivals[:, None] == rivals[None]) & (rivals >= 0)
    conflict = ((iou > same_iou) | part)[order][:, order].cpu()
    kept: list[int] = []
    for row in range(len(order)):  # Over a frame's few candidates, on one small matrix already on the host.
        if not conflict[row, kept].any():
            kept.append(row)
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def box_agreement(masks: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Compute the IoU `(P, C)` of each candidate mask's box `(P, C, h, w)` with its prompt's box `(P, 4)`."""
    boxes, _, _ = mask_geometry(masks.flatten(0, 1))
    low = boxes[:, :2].reshape(*masks.shape[:2], 2)
    high = (boxes[:, :2] + boxes[:, 2:]).reshape(*masks.shape[:2], 2)
    wanted = boxes_xyxy.double()[:, None]
    common = (torch.minimum(high, wanted[..., 2:]) - torch.maximum(low, wanted[..., :2])).clamp(min=0).prod(dim=-1)
    union = (high - low).prod(dim=-1) + (wanted[..., 2:] - wanted[..., :2]).prod(dim=-1) - common
    return common / union.clamp(min=1e-6)


def grown(masks: Tensor, reach_px: int = _EDGE_PX) -> Tensor:
    """Dilate masks `(M, H, W)` by so many pixels in every direction."""
    wide = functional.max_pool2d(masks[:, None].float(), 2 * reach_px + 1, stride=1, padding=reach_px)
    return wide[:, 0] > 0
