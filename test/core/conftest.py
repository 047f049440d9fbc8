"""Segments made by hand, for the tests of the stages behind segmentation."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sparsematch_ros.data import PromptReason, Segments


def _points(
    centroids_px: object,
    size: tuple[int, int] = (480, 640),
    sigma_px: float = 0.1,
    fluxes: float | list[float] = 500.0,
) -> Segments:
    """Make point sources of 3 px across in a frame of `size` (height, width)."""
    centroids = np.asarray(centroids_px, dtype=np.float64).reshape(-1, 2)
    count = len(centroids)
    return Segments(
        masks=torch.zeros((0, *size), dtype=torch.bool),
        boxes_xywh_px=np.concatenate([centroids - 1, np.full((count, 2), 3.0)], axis=1),
        centroids_px=centroids,
        areas_px=np.full(count, np.pi / 4 * 9),
        centroid_sigma_px=np.full(count, sigma_px),
        scores=np.full(count, 0.9),
        stability=np.ones(count),
        reasons=np.full(count, int(PromptReason.POINT_SOURCE), dtype=np.int64),
        fluxes=np.broadcast_to(np.asarray(fluxes, dtype=np.float64), (count,)).copy(),
        moving_shares=np.full(count, np.nan),
    )


def _squares(
    centres_px: object,
    side_px: int = 11,
    size: tuple[int, int] = (120, 160),
    sigma_px: float = 0.3,
    moving_share: float = float("nan"),
) -> Segments:
    """Make square masks of an odd side around whole pixels, wholly inside a frame of `size` (height, width)."""
    centres = np.asarray(centres_px, dtype=np.int64).reshape(-1, 2)
    count, half = len(centres), side_px // 2
    masks = torch.zeros((count, *size), dtype=torch.bool)
    for mask, (x, y) in zip(masks, centres, strict=True):
        mask[y - half : y + half + 1, x - half : x + half + 1] = True
    assert (masks.flatten(1).sum(dim=1) == side_px**2).all(), "a square of the test leaves its frame"
    return Segments(
        masks=masks,
        boxes_xywh_px=np.concatenate([centres - half, np.full((count, 2), side_px)], axis=1).astype(np.float64),
        centroids_px=centres.astype(np.float64),
        areas_px=np.full(count, float(side_px**2)),
        centroid_sigma_px=np.full(count, sigma_px),
        scores=np.full(count, 0.9),
        stability=np.ones(count),
        reasons=np.full(count, int(PromptReason.EXPECTED), dtype=np.int64),
        fluxes=np.full(count, np.nan),
        moving_shares=np.full(count, moving_share),
    )


@pytest.fixture
def points() -> Callable[..., Segments]:
    """Give the maker of point sources."""
    return _points


@pytest.fixture
def squares() -> Callable[..., Segments]:
    """Give the maker of square masks."""
    return _squares
