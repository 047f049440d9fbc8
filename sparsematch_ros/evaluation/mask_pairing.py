"""How well one generator's masks repeat another's: paired one to one, and pooled over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sparsematch_ros.data import FloatArray

# From this IoU on a mask counts as found again.
SAME_IOU = 0.9
# Pixels that are compared at a time: what bounds the memory that the comparison takes.
_CHUNK_PX = 1 << 18


@dataclass(frozen=True, eq=False)
class MaskPairing:
    """One frame's comparison.

    Attributes:
        reference_iou: `(R,)` IoU of each reference mask with the mask that is assigned to it, 0 where none is.
        masks: number of masks on the other side.

    """

    reference_iou: FloatArray
    masks: int


def pair_masks(reference: Tensor, masks: Tensor) -> MaskPairing:
    """Assign masks one to one so that the sum of the IoU is largest.

    Args:
        reference: `(R, H, W)` bool, the masks to be found again.
        masks: `(M, H, W)` bool.

    """
    iou = iou_between(reference, masks).cpu().numpy().astype(np.float64)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    assigned = np.zeros(len(reference))
    assigned[rows] = iou[rows, columns]
    return MaskPairing(assigned, len(masks))


def iou_between(first: Tensor, second: Tensor) -> Tensor:
    """Give the IoU `(A, B)` of masks `(A, H, W)` and `(B, H, W)` bool; 0 for two empty ones.

    Raises:
        ValueError: where the masks are of different sizes.

    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"masks of {tuple(first.shape[1:])} and {tuple(second.shape[1:])} px cannot be compared")
    common = torch.zeros((len(first), len(second)), dtype=torch.float64, device=first.device)
    a, b = first.flatten(1), second.to(first.device).flatten(1)
    for part_a, part_b in zip(a.split(_CHUNK_PX, dim=1), b.split(_CHUNK_PX, dim=1)):
        common += (part_a.float() @ part_b.float().T).double()
    union = a.sum(dim=1)[:, None] + b.sum(dim=1)[None] - common
    return common / union.clamp(min=1)


def recall_of_reference_masks(pairings: Sequence[MaskPairing]) -> float | None:
    """Give the share of all frames' reference masks that were found again; None where there is none."""
    iou = _pooled(pairings)
    return float((iou >= SAME_IOU).mean()) if len(iou) else None


def mean_iou(pairings: Sequence[MaskPairing]) -> float | None:
    """Give the mean IoU over all frames' reference masks, 0 for one without a partner; None where there is none."""
    iou = _pooled(pairings)
    return float(iou.mean()) if len(iou) else None


def _pooled(pairings: Sequence[MaskPairing]) -> FloatArray:
    return np.concatenate([np.zeros(0), *(pairing.reference_iou for pairing in pairings)])
