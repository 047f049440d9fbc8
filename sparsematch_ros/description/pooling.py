"""Mean patch feature under each mask, for all masks as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import Descriptors, FloatArray, IntArray
from sparsematch_ros.segmentation.segments import Segments

# Pixels of masks that are numbers at once: what bounds the memory that large images take.
_PIXELS_AT_ONCE = 32_000_000
# Left, top, right and bottom edge [px]; a pixel reaches from its own number to the next.
Region = tuple[float, float, float, float]


@torch.inference_mode()
def pool_features(features: Tensor, segments: Segments, region_xyxy_px: Region | None = None) -> Descriptors:
    """Average patch features under each mask, weighted by the area of the mask in each patch.

    Args:
        features: `(D, h, w)` patch features.
        segments: N segments, of which the first M carry masks.
        region_xyxy_px: edges of the part of the image that `features` covers, which may reach beyond the image; they
            are rounded to whole pixels. None: the whole image.

    Returns:
        `(N, D)` unit rows; zero rows for point sources, of which a patch says nothing, and for masks outside the
        region.

    """
    vectors = features.new_zeros((len(segments), features.shape[0]))
    count = segments.mask_count
    if count:
        covered = segments.masks if region_xyxy_px is None else window(segments.masks, region_xyxy_px)
        shares = mask_shares(covered, (features.shape[1], features.shape[2])).to(features.dtype)
        sums = shares.flatten(1) @ features.flatten(1).T
        vectors[:count] = functional.normalize(sums, dim=1)
    return Descriptors(vectors)


def pool_parts(parts: Sequence[tuple[Tensor, Region]], owners: IntArray, segments: Segments) -> Descriptors:
    """Pool each mask from the features of the part of the image that it was found in.

    Args:
        parts: one or more pairs of features `(D, h, w)` and the edges of what they cover.
        owners: `(M,)` int64 row of `parts` for each mask.
        segments: N segments, of which the first M carry masks.

    """
    pooled = torch.stack([pool_features(features, segments, region).vectors for features, region in parts])
    chosen = np.zeros(len(segments), dtype=np.int64)
    chosen[: len(owners)] = owners
    return Descriptors(pooled[torch.as_tensor(chosen, device=pooled.device), torch.arange(len(segments))])


def window(masks: Tensor, region_xyxy_px: Region) -> Tensor:
    """Cut a region out of `(N, H, W)` bool masks; False where it reaches beyond them."""
    left, top, right, bottom = (round(edge) for edge in region_xyxy_px)
    height, width = masks.shape[1:]
    return functional.pad(masks, (-left, right - width, -top, bottom - height))


def mask_shares(masks: Tensor, patches: tuple[int, int]) -> Tensor:
    """Give the share of each of `(h, w)` patches that each mask fills: `(N, h, w)` float32 from `(N, H, W)` bool."""
    group = max(1, _PIXELS_AT_ONCE // (masks.shape[1] * masks.shape[2]))
    shares = [functional.interpolate(some[:, None].float(), patches, mode="area") for some in masks.split(group)]
    return torch.cat(shares)[:, 0]


def cosine_matrix(first: Descriptors, second: Descriptors) -> FloatArray:
    """Give the cosines `(N, M)` float64 of two frames' descriptors; NaN where either is unknown (zero)."""
    if first.vectors.shape[1] == 0 or first.vectors.shape[1] != second.vectors.shape[1]:
        return np.full((len(first.vectors), len(second.vectors)), np.nan)
    cosines = (first.vectors @ second.vectors.T).double().cpu().numpy()
    known = [vectors.abs().sum(dim=1).gt(0).cpu().numpy() for vectors in (first.vectors, second.vectors)]
    return np.where(known[0][:, None] & known[1][None], cosines, np.nan)
