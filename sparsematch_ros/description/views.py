"""Patch features as colours, for people to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import FloatArray

# What lies outside these percentiles of a component is as bright, or as dark, as they are.
_PERCENTILES = (2.0, 98.0)


def principal_colours(first: Tensor, second: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn patch features of two images into colours that mean the same in both.

    Features are made unit vectors, so that colours speak of what the cosine compares. The first three principal
    components of all patches together become red, green and blue; each is stretched over [0, 1] between its 2nd and
    98th percentile. The sign of a component is the one that makes its largest entry positive.

    Args:
        first: `(N, D)` features of A, D at least 3.
        second: `(M, D)` features of B.

    Returns:
        `(N, 3)` and `(M, 3)` float32 in [0, 1]; a component without any spread is 0.5 throughout.

    """
    rows = np.concatenate([functional.normalize(part.float(), dim=1).cpu().numpy() for part in (first, second)])
    projected = _components(rows.astype(np.float64))
    low, high = np.percentile(projected, _PERCENTILES, axis=0)
    spread = high - low
    flat = spread < 1e-9
    colours = np.where(flat, 0.5, np.clip((projected - low) / np.where(flat, 1.0, spread), 0, 1)).astype(np.float32)
    return colours[: len(first)], colours[len(first) :]


def _components(rows: FloatArray) -> FloatArray:
    """Project `(N, D)` rows on their first three principal axes, from the eigenvectors of their covariance."""
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, :-4:-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.asarray(centred @ (axes * np.sign(largest)), dtype=np.float64)
