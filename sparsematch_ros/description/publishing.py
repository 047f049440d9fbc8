"""Descriptors made shorter for those who receive them: a fixed projection that both ends can make for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import FloatArray, SpaceObject

# Part of the interface: descriptors made with another seed cannot be compared.
SEED = 64


@lru_cache(maxsize=4)
def projection(source: int, target: int) -> FloatArray:
    """Give the `(source, target)` float64 matrix with orthonormal columns that descriptors are reduced by.

    A random subspace keeps angles (Johnson and Lindenstrauss, 1984): the cosine c of two descriptors is kept with a
    standard deviation of about `(1 - c**2) / sqrt(target)`, times `sqrt(1 - target / source)` for orthonormal columns.

    The numbers are the same everywhere: `numpy.random.RandomState(64).standard_normal((source, target))`, whose stream
    numpy has frozen, then the one QR decomposition whose R has a positive diagonal.
    """
    gaussian = np.random.RandomState(SEED).standard_normal((source, target))
    orthogonal, triangular = np.linalg.qr(gaussian)
    return np.asarray(orthogonal * np.sign(np.diagonal(triangular)), dtype=np.float64)


def reduce_vectors(vectors: Tensor, dimensions: int) -> Tensor:
    """Project `(N, D)` rows to `(N, dimensions)` and make them unit rows again; zero rows stay zero.

    Rows are given back as they are where `dimensions` is 0 or not under D.
    """
    source = vectors.shape[1]
    if not 0 < dimensions < source:
        return vectors
    matrix = torch.as_tensor(projection(source, dimensions), dtype=torch.float32, device=vectors.device)
    return functional.normalize(vectors.float() @ matrix, dim=1)


def reduce_descriptors(objects: Sequence[SpaceObject], dimensions: int) -> tuple[SpaceObject, ...]:
    """Reduce the objects' descriptors by `reduce_vectors`, all as one matrix product; objects without stay."""
    vectors = [item.descriptor for item in objects if item.descriptor is not None]
    if not vectors or not 0 < dimensions < len(vectors[0]):
        return tuple(objects)
    reduced = iter(reduce_vectors(torch.stack(vectors), dimensions))
    return tuple(item if item.descriptor is None else replace(item, descriptor=next(reduced)) for item in objects)
