"""Descriptors: mean patch features under masks, and their cosines."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsematch_ros.data import Descriptors, PromptReason, Segments
from sparsematch_ros.description.pooling import cosine_matrix, pool_features


def segments_of(masks: torch.Tensor, point_count: int = 0) -> Segments:
    """Make segments whose masks matter and whose figures do not, then point sources."""
    count = len(masks) + point_count
    zeros = np.zeros(count)
    reasons = np.full(count, int(PromptReason.GRID), dtype=np.int64)
    places = np.zeros((count, 2))
    return Segments(masks, np.zeros((count, 4)), places, zeros, zeros, zeros, zeros, reasons, zeros, zeros)


@pytest.fixture
def features() -> torch.Tensor:
    """Features of 6 dimensions for 3 x 4 patches."""
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(3))


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def test_masks_on_whole_patches_give_the_mean_of_those_patches(features: torch.Tensor) -> None:
    masks = torch.zeros((3, 24, 32), dtype=torch.bool)  # A patch has 8 x 8 px.
    masks[0, 8:16, 16:24] = True  # One patch: row 1, column 2.
    masks[1, 0:8, 0:24] = True  # Three of the first row.
    masks[2] = True
    vectors = pool_features(features, segments_of(masks)).vectors
    by_hand = [features[:, 1, 2], features[:, 0, :3].mean(dim=1), features.flatten(1).mean(dim=1)]
    torch.testing.assert_close(vectors, torch.stack([unit(vector) for vector in by_hand]), atol=1e-6, rtol=1e-6)


def test_patches_count_by_the_area_of_the_mask_in_them(features: torch.Tensor) -> None:
    masks = torch.zeros((1, 24, 32), dtype=torch.bool)
    masks[0, 0:8, 4:12] = True  # Half of patch 0 and half of patch 1.
    masks[0, 8:10, 0:8] = True  # A quarter of the patch below.
    by_hand = unit(0.5 * features[:, 0, 0] + 0.5 * features[:, 0, 1] + 0.25 * features[:, 1, 0])
    vectors = pool_features(features, segments_of(masks)).vectors
    torch.testing.assert_close(vectors[0], by_hand, atol=1e-6, rtol=1e-6)


def test_patches_that_are_no_whole_pixels_cover_the_image(features: torch.Tensor) -> None:
    """On 25 x 33 px a patch is 8.33 x 8.25 px: a corner's mask still has the corner's feature."""
    masks = torch.zeros((2, 25, 33), dtype=torch.bool)
    masks[0, :7, :7] = True
    masks[1, -7:, -7:] = True
    vectors = pool_features(features, segments_of(masks)).vectors
    torch.testing.assert_close(vectors[0], unit(features[:, 0, 0]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(vectors[1], unit(features[:, 2, 3]), atol=1e-6, rtol=1e-6)


def test_point_sources_are_unknown(features: torch.Tensor, points: Callable[..., Segments]) -> None:
    masks = torch.ones((1, 24, 32), dtype=torch.bool)
    vectors = pool_features(features, segments_of(masks, point_count=2)).vectors
    assert vectors[0].norm() == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(vectors[1:], torch.zeros(2, 6))
    assert torch.equal(pool_features(features, points([[3.0, 4.0]])).vectors, torch.zeros(1, 6))


def test_no_segments(features: torch.Tensor) -> None:
    nothing = segments_of(torch.zeros((0, 24, 32), dtype=torch.bool))
    assert pool_features(features, nothing).vectors.shape == (0, 6)


def test_scale_of_the_features_does_not_matter(features: torch.Tensor, squares: Callable[..., Segments]) -> None:
    made = squares([[20, 20], [80, 60], [140, 100]])
    once, large = pool_features(features, made), pool_features(1000 * features, made)
    torch.testing.assert_close(once.vectors, large.vectors, atol=1e-6, rtol=1e-6)
    moved = replace(made, centroids_px=made.centroids_px + 5)  # The mask speaks, not the figures beside it.
    assert torch.equal(pool_features(features, moved).vectors, once.vectors)


def test_cosines() -> None:
    """Unit vectors at known angles; NaN where either side is unknown."""
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 180.0]))
    turned = torch.stack([angles.cos(), angles.sin()], dim=1)
    first = Descriptors(torch.cat([turned[:1], torch.zeros(1, 2)]))
    second = Descriptors(torch.cat([turned, torch.zeros(1, 2)]))
    nan = float("nan")
    expected = np.array([[1.0, 0.5, -1.0, nan], [nan] * 4])
    found = cosine_matrix(first, second)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(cosine_matrix(second, first), expected.T, atol=1e-6)


def test_descriptors_of_other_sizes_say_nothing() -> None:
    """A frame without an encoding has descriptors of no dimension."""
    known, none = Descriptors(torch.eye(3)), Descriptors(torch.zeros(2, 0))
    assert np.isnan(cosine_matrix(known, none)).all()
    assert cosine_matrix(known, none).shape == (3, 2)
    assert cosine_matrix(none, none).shape == (2, 2)
    assert np.isnan(cosine_matrix(none, none)).all()
    assert np.isnan(cosine_matrix(known, Descriptors(torch.eye(4)))).all()
    assert cosine_matrix(Descriptors(torch.zeros(0, 3)), known).shape == (0, 3)
