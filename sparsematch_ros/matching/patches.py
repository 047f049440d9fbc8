"""Patch to patch between two images: nearest neighbours by cosine, in both directions from one matrix product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import BoolArray, FloatArray, IntArray, check_shape
from sparsematch_ros.description.pooling import mask_shares
from sparsematch_ros.errors import SparsematchError

# A patch belongs to a mask that covers this much of it.
_LEAST_SHARE = 0.5
# Steps of the R2 sequence (Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018): patches in the
# order of these keys are spread evenly at every count.
_R2 = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True, eq=False)
class PatchMatches:
    """The nearest patch of B for each of N patches of A.

    Attributes:
        nearest: `(N,)` int64 row of the patch of B.
        cosine: `(N,)` float tensor in [-1, 1].
        mutual: `(N,)` bool, whether the patch of A is in turn the nearest to that of B.

    """

    nearest: Tensor
    cosine: Tensor
    mutual: Tensor

    def __post_init__(self) -> None:
        """Check shapes."""
        for name in ("cosine", "mutual"):
            check_shape(name, getattr(self, name), len(self.nearest))

    def __len__(self) -> int:
        """Count the patches of A."""
        return len(self.nearest)


@torch.inference_mode()
def nearest_patches(first: Tensor, second: Tensor) -> PatchMatches:
    """Find nearest neighbours by cosine; among equals the first one counts.

    Args:
        first: `(N, D)` features of patches of A.
        second: `(M, D)` features of patches of B.

    Raises:
        SparsematchError: where a side has no patch, or the features are of different lengths.

    """
    for side, features in (("A", first), ("B", second)):
        if len(features) == 0:
            raise SparsematchError(f"no patch of image {side} to match: give a mask that covers one")
    if first.shape[1] != second.shape[1]:
        raise SparsematchError(f"features of {first.shape[1]} and {second.shape[1]} numbers cannot be compared")
    cosines = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T
    best, nearest = cosines.max(dim=1)
    back = cosines.argmax(dim=0)
    rows = torch.arange(len(first), device=first.device)
    return PatchMatches(nearest, best.clamp(-1, 1), back[nearest] == rows)


def patches_inside(mask: BoolArray | None, patches: tuple[int, int]) -> BoolArray:
    """Tell which of `(h, w)` patches a mask `(H, W)` covers by at least half; all of them where there is no mask.

    Raises:
        SparsematchError: where the mask is empty or covers no patch.

    """
    if mask is None:
        return np.ones(patches, dtype=bool)
    if not mask.any():
        raise SparsematchError("the mask is empty: at least one patch must lie in it")
    inside: BoolArray = (mask_shares(torch.from_numpy(mask)[None], patches)[0] >= _LEAST_SHARE).numpy()
    if not inside.any():
        width, height = mask.shape[1] / patches[1], mask.shape[0] / patches[0]
        raise SparsematchError(
            f"the mask of {int(mask.sum())} px covers no patch by half (one has {width:.0f}x{height:.0f} px): give a "
            "larger mask, or finer patches (--zoom)"
        )
    return inside


def patch_centres_px(inside: BoolArray, image_size: tuple[int, int]) -> FloatArray:
    """Give the centres `(N, 2)` x, y [px] of the patches in `(h, w)` that are True, row by row.

    Args:
        inside: which patches.
        image_size: height and width of the image that all `h * w` patches cover [px].

    """
    rows, columns = np.nonzero(inside)
    pitch = np.array([image_size[1] / inside.shape[1], image_size[0] / inside.shape[0]])
    return (np.stack([columns, rows], axis=1) + 0.5) * pitch - 0.5


def choose_sparse(matches: PatchMatches, inside: BoolArray, fraction: float) -> IntArray:
    """Choose the matches to show: evenly spread over A, mutual ones alone where there are any.

    Args:
        matches: for the N patches of A that are True in `inside`.
        inside: `(h, w)` patches of A.
        fraction: share of the N patches to show, in (0, 1], rounded up; fewer where fewer are mutual.

    Returns:
        `(K,)` rows of `matches`, ascending. The same input gives the same choice.

    Raises:
        SparsematchError: where the fraction is not in (0, 1].

    """
    if not 0 < fraction <= 1:
        raise SparsematchError(f"fraction {fraction}: must be over 0 and at most 1")
    mutual = matches.mutual.cpu().numpy()
    candidates = np.flatnonzero(mutual) if mutual.any() else np.arange(len(matches))
    places = np.argwhere(inside)[candidates]
    order = np.argsort(np.modf(places @ np.array(_R2))[0], kind="stable")
    return np.sort(candidates[order[: math.ceil(fraction * len(matches))]])
