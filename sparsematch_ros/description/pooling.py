"""Mean patch feature under each mask, for all masks as one matrix product."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import Descriptors, FloatArray, Segments


@torch.inference_mode()
def pool_features(features: Tensor, segments: Segments) -> Descriptors:
    """Average patch features under each mask, weighted by the area of the mask in each patch.

    Args:
        features: `(D, h, w)` patch features that cover the whole image.
        segments: N segments, of which the first M carry masks.

    Returns:
        `(N, D)` unit rows; zero rows for point sources, of which a patch says nothing.

    """
    vectors = features.new_zeros((len(segments), features.shape[0]))
    count = segments.mask_count
    if count:
        shares = functional.interpolate(
            segments.masks[:, None].to(features.dtype), size=features.shape[1:], mode="area"
        )
        sums = shares.flatten(1) @ features.flatten(1).T
        vectors[:count] = functional.normalize(sums, dim=1)
    return Descriptors(vectors)


def cosine_matrix(first: Descriptors, second: Descriptors) -> FloatArray:
    """Give the cosines `(N, M)` float64 of two frames' descriptors; NaN where either is unknown (zero)."""
    if first.vectors.shape[1] == 0 or first.vectors.shape[1] != second.vectors.shape[1]:
        return np.full((len(first.vectors), len(second.vectors)), np.nan)
    cosines = (first.vectors @ second.vectors.T).double().cpu().numpy()
    known = [vectors.abs().sum(dim=1).gt(0).cpu().numpy() for vectors in (first.vectors, second.vectors)]
    return np.where(known[0][:, None] & known[1][None], cosines, np.nan)
