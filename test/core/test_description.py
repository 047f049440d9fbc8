"""Descriptors: mean patch features under masks, and their cosines."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
import torch

from sparsematch_ros.data import Descriptors, ObjectState, SpaceObject
from sparsematch_ros.description.pooling import cosine_matrix, pool_features, pool_parts
from sparsematch_ros.description.publishing import projection, reduce_descriptors, reduce_vectors
from sparsematch_ros.segmentation.segments import Segments


@pytest.fixture
def segments_of(points: Callable[..., Segments]) -> Callable[..., Segments]:
    """Segments whose masks matter and whose figures do not, then point sources."""

    def make(masks: torch.Tensor, point_count: int = 0) -> Segments:
        return replace(points(np.zeros((len(masks) + point_count, 2))), masks=masks)

    return make


@pytest.fixture
def features() -> torch.Tensor:
    """Features of 6 dimensions for 3 x 4 patches."""
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(3))


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def test_masks_on_whole_patches_give_the_mean_of_those_patches(
    features: torch.Tensor, segments_of: Callable[..., Segments]
) -> None:
    masks = torch.zeros((3, 24, 32), dtype=torch.bool)  # A patch has 8 x 8 px.
    masks[0, 8:16, 16:24] = True  # One patch: row 1, column 2.
    masks[1, 0:8, 0:24] = True  # Three of the first row.
    masks[2] = True
    vectors = pool_features(features, segments_of(masks)).vectors
    by_hand = [features[:, 1, 2], features[:, 0, :3].mean(dim=1), features.flatten(1).mean(dim=1)]
    torch.testing.assert_close(vectors, torch.stack([unit(vector) for vector in by_hand]), atol=1e-6, rtol=1e-6)


def test_patches_count_by_the_area_of_the_mask_in_them(
    features: torch.Tensor, segments_of: Callable[..., Segments]
) -> None:
    masks = torch.zeros((1, 24, 32), dtype=torch.bool)
    masks[0, 0:8, 4:12] = True  # Half of patch 0 and half of patch 1.
    masks[0, 8:10, 0:8] = True  # A quarter of the patch below.
    by_hand = unit(0.5 * features[:, 0, 0] + 0.5 * features[:, 0, 1] + 0.25 * features[:, 1, 0])
    vectors = pool_features(features, segments_of(masks)).vectors
    torch.testing.assert_close(vectors[0], by_hand, atol=1e-6, rtol=1e-6)


def test_patches_that_are_no_whole_pixels_cover_the_image(
    features: torch.Tensor, segments_of: Callable[..., Segments]
) -> None:
    """On 25 x 33 px a patch is 8.33 x 8.25 px: a corner's mask still has the corner's feature."""
    masks = torch.zeros((2, 25, 33), dtype=torch.bool)
    masks[0, :7, :7] = True
    masks[1, -7:, -7:] = True
    vectors = pool_features(features, segments_of(masks)).vectors
    torch.testing.assert_close(vectors[0], unit(features[:, 0, 0]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(vectors[1], unit(features[:, 2, 3]), atol=1e-6, rtol=1e-6)


def test_point_sources_are_unknown(
    features: torch.Tensor, points: Callable[..., Segments], segments_of: Callable[..., Segments]
) -> None:
    masks = torch.ones((1, 24, 32), dtype=torch.bool)
    vectors = pool_features(features, segments_of(masks, point_count=2)).vectors
    assert vectors[0].norm() == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(vectors[1:], torch.zeros(2, 6))
    assert torch.equal(pool_features(features, points([[3.0, 4.0]])).vectors, torch.zeros(1, 6))


@pytest.mark.parametrize("region", [(8, 16, 40, 40), (8.4, 15.6, 40.3, 39.9)])
def test_features_of_a_region_meet_the_masks_there(
    features: torch.Tensor, region: tuple[float, ...], segments_of: Callable[..., Segments]
) -> None:
    """A region of 32 x 24 px whose patches have 8 x 8 px; edges are rounded to whole pixels."""
    masks = torch.zeros((4, 48, 64), dtype=torch.bool)
    masks[0, 24:32, 24:32] = True  # One patch: row 1, column 2.
    masks[1, 32:48, 0:16] = True  # Partly outside: inside, the lower left patch.
    masks[2, 16:20, 8:16] = True  # Half of the upper left patch,
    masks[2, 16:24, 16:24] = True  # and all of its neighbour.
    masks[3, :16, :] = True  # Nothing of it inside.
    vectors = pool_features(features, segments_of(masks), region).vectors
    by_hand = [features[:, 1, 2], features[:, 2, 0], 0.5 * features[:, 0, 0] + features[:, 0, 1]]
    torch.testing.assert_close(vectors[:3], torch.stack([unit(v) for v in by_hand]), atol=1e-6, rtol=1e-6)
    assert torch.equal(vectors[3], torch.zeros(6))


def test_a_region_may_reach_beyond_the_image(features: torch.Tensor, segments_of: Callable[..., Segments]) -> None:
    masks = torch.zeros((2, 24, 32), dtype=torch.bool)
    masks[0, :8, :8] = True
    masks[1] = True
    vectors = pool_features(features, segments_of(masks), (-8, -8, 24, 16)).vectors
    inside = features[:, 1:, 1:].flatten(1).mean(dim=1)  # Patches of the first row and column show no image.
    by_hand = torch.stack([unit(features[:, 1, 1]), unit(inside)])
    torch.testing.assert_close(vectors, by_hand, atol=1e-6, rtol=1e-6)


def test_the_whole_image_as_a_region_changes_nothing(features: torch.Tensor, squares: Callable[..., Segments]) -> None:
    made = squares([[20, 20], [80, 60], [140, 100]])
    assert torch.equal(pool_features(features, made).vectors, pool_features(features, made, (0, 0, 160, 120)).vectors)


def test_each_mask_is_described_by_the_part_it_was_found_in(
    features: torch.Tensor, segments_of: Callable[..., Segments]
) -> None:
    """Two parts of 32 x 24 px side by side, with patches of 8 px and of 4 px, and features of their own."""
    fine = torch.randn(6, 6, 8, generator=torch.Generator().manual_seed(4))
    masks = torch.zeros((4, 24, 64), dtype=torch.bool)
    masks[0, 8:16, 16:24] = True  # Row 1, column 2 of the left part.
    masks[1, 8:12, 40:44] = True  # Row 2, column 2 of the right part, whose patches are half as wide.
    masks[2, 8:16, 24:40] = True  # Half of it in each part, but found in the left one.
    masks[3, 8:16, 24:40] = True  # The same, found in the right one.
    parts = [(features, (0, 0, 32, 24)), (fine, (32, 0, 64, 24))]
    made = segments_of(masks, point_count=1)
    vectors = pool_parts(parts, np.array([0, 1, 0, 1]), made).vectors
    right = fine[:, 2:4, 0:2].flatten(1).mean(dim=1)
    by_hand = torch.stack([unit(each) for each in (features[:, 1, 2], fine[:, 2, 2], features[:, 1, 3], right)])
    torch.testing.assert_close(vectors[:4], by_hand, atol=1e-6, rtol=1e-6)
    assert torch.equal(vectors[4], torch.zeros(6))
    alone = pool_parts([(features, (0, 0, 64, 24))], np.zeros(4, dtype=np.int64), made)
    assert torch.equal(alone.vectors, pool_features(features, made).vectors)


def test_parts_without_masks(
    features: torch.Tensor, points: Callable[..., Segments], segments_of: Callable[..., Segments]
) -> None:
    parts, nothing = [(features, (0, 0, 32, 24))], np.zeros(0, dtype=np.int64)
    assert torch.equal(pool_parts(parts, nothing, points([[3.0, 4.0]])).vectors, torch.zeros(1, 6))
    empty = segments_of(torch.zeros((0, 24, 32), dtype=torch.bool))
    assert pool_parts(parts * 2, nothing, empty).vectors.shape == (0, 6)


def test_no_segments(features: torch.Tensor, segments_of: Callable[..., Segments]) -> None:
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


def pairs_at(cosine: float, count: int, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make pairs of random unit rows with exactly this cosine."""
    chance = torch.Generator().manual_seed(7)
    first, other = (torch.randn(count, dimensions, generator=chance, dtype=torch.float64) for _ in range(2))
    first = first / first.norm(dim=1, keepdim=True)
    other = other - (other * first).sum(dim=1, keepdim=True) * first
    other = other / other.norm(dim=1, keepdim=True)
    return first.float(), (cosine * first + (1 - cosine**2) ** 0.5 * other).float()


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("source", [256, 384, 1536])
def test_reduced_descriptors_keep_their_cosines(cosine: float, source: int) -> None:
    """At 64 numbers: a standard deviation of (1 - c^2) / 8 as for independent ones, less what orthogonality saves.

    2,000 pairs know a standard deviation to 1.6 %, and the formula leaves out terms of some 1/64 (a cosine's errors
    are skewed near 1): 12 % covers both, and eight deviations the worst of 2,000 pairs.
    """
    first, second = (reduce_vectors(rows, 64) for rows in pairs_at(cosine, 2000, source))
    errors = (first * second).sum(dim=1) - cosine
    deviation = (1 - cosine**2) / 8 * (1 - 64 / source) ** 0.5
    assert errors.std() == pytest.approx(deviation, rel=0.12)
    assert abs(errors.mean()) < 5 * deviation / 2000**0.5 + (1 - cosine**2) / 64
    assert errors.abs().max() < 8 * deviation


def test_reduced_descriptors_are_unit_rows_and_zero_stays_unknown() -> None:
    rows = torch.cat([pairs_at(0.0, 5, 256)[0], torch.zeros(1, 256)])
    reduced = reduce_vectors(rows, 32)
    torch.testing.assert_close(reduced.norm(dim=1), torch.tensor([1.0] * 5 + [0.0]), atol=1e-6, rtol=0)
    for dimensions in (0, 256, 300):
        assert reduce_vectors(rows, dimensions) is rows
    assert reduce_vectors(torch.zeros(2, 0), 64).shape == (2, 0)


def test_both_ends_make_the_same_projection() -> None:
    """Orthonormal columns, and numbers that the documented recipe gives by Gram-Schmidt, which is another algorithm."""
    matrix = projection(48, 6)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-12)
    columns: list[np.ndarray] = []
    for column in np.random.RandomState(64).standard_normal((48, 6)).T:
        rest = column - sum((column @ earlier) * earlier for earlier in columns)
        columns.append(rest / np.linalg.norm(rest))
    np.testing.assert_allclose(matrix, np.stack(columns, axis=1), atol=1e-12)


def space_object(descriptor: torch.Tensor | None) -> SpaceObject:
    two, square = np.zeros(2), np.eye(2)
    return SpaceObject(
        UUID(int=1), ObjectState.CONFIRMED, True, 0.9, np.zeros(4), two, square, 5.0, two, square, two, 0, 1,
        descriptor=descriptor,
    )  # fmt: skip


def test_objects_are_published_with_reduced_descriptors() -> None:
    rows = pairs_at(0.5, 2, 256)[0]
    objects = [space_object(rows[0]), space_object(None), space_object(rows[1])]
    reduced = reduce_descriptors(objects, 64)
    assert reduced[1] is objects[1]
    expected = reduce_vectors(rows, 64)
    assert torch.equal(torch.stack([reduced[0].descriptor, reduced[2].descriptor]), expected)
    assert reduce_descriptors(objects, 0) == tuple(objects)
    assert reduce_descriptors([], 64) == ()
