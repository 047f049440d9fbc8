"""Nearest patches against brute force and known truth, the places of patches, and the sparse choice among matches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.matching.patches import (
    PatchMatches,
    choose_sparse,
    nearest_patches,
    patch_centres_px,
    patches_inside,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(2, 6))
def test_nearest_patches_are_those_of_brute_force(seed: int, count: int, other: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(count, width)), rng.normal(size=(other, width))
    found = nearest_patches(torch.from_numpy(first), torch.from_numpy(second))
    for row in range(count):
        cosines = second @ first[row] / np.linalg.norm(second, axis=1) / np.linalg.norm(first[row])
        assert found.nearest[row] == cosines.argmax()
        assert float(found.cosine[row]) == pytest.approx(cosines.max(), abs=1e-9)
        back = first @ second[cosines.argmax()] / np.linalg.norm(first, axis=1)
        assert bool(found.mutual[row]) == (back.argmax() == row)
    assert len(found) == count and found.mutual.any()


def test_a_permutation_is_found_through_noise() -> None:
    """200 random directions in 64 dimensions differ by far more than a tenth of noise: all are found, all mutual."""
    rng = np.random.default_rng(0)
    features, order = rng.normal(size=(200, 64)), rng.permutation(200)
    found = nearest_patches(
        torch.from_numpy(features), torch.from_numpy(features[order] + 0.1 * rng.normal(size=(200, 64)))
    )
    np.testing.assert_array_equal(order[found.nearest.numpy()], np.arange(200))
    assert found.mutual.all() and (found.cosine > 0.98).all() and (found.cosine <= 1).all()


def test_among_equals_the_first_counts() -> None:
    same = torch.ones(3, 4)
    found = nearest_patches(same, same)
    assert found.nearest.tolist() == [0, 0, 0] and found.mutual.tolist() == [True, False, False]
    np.testing.assert_allclose(found.cosine, 1.0, atol=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    for first, second, reason in (
        (torch.zeros(0, 3), torch.eye(3), "no patch of image A"),
        (torch.eye(3), torch.zeros(0, 3), "no patch of image B"),
        (torch.eye(3), torch.eye(4), "3 and 4 numbers"),
    ):
        with pytest.raises(SparsematchError, match=reason):
            nearest_patches(first, second)


def test_centres_of_patches_are_those_of_their_pixels() -> None:
    """3 x 4 patches of 8 px: the first covers the pixels 0 to 7, whose middle is 3.5; row by row."""
    centres = patch_centres_px(np.ones((3, 4), dtype=bool), (24, 32))
    pixels = np.arange(8).mean()
    expected = [(column * 8 + pixels, row * 8 + pixels) for row in range(3) for column in range(4)]
    np.testing.assert_allclose(centres, expected)
    assert patch_centres_px(np.zeros((3, 4), dtype=bool), (24, 32)).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_a_mask_holds_the_patches_of_which_it_covers_half(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((24, 32)) < share
    mask[:8, :8] = True
    covered = mask.reshape(3, 8, 4, 8).mean(axis=(1, 3))
    np.testing.assert_array_equal(patches_inside(mask, (3, 4)), covered >= 0.5)


def test_a_mask_without_a_patch_is_refused() -> None:
    mask = np.zeros((24, 32), dtype=bool)
    with pytest.raises(SparsematchError, match="empty"):
        patches_inside(mask, (3, 4))
    mask[3:6, 3:6] = True
    with pytest.raises(SparsematchError, match="9 px covers no patch"):
        patches_inside(mask, (3, 4))
    assert patches_inside(None, (3, 4)).all()


def test_the_sparse_choice_takes_mutual_matches_alone_and_evenly() -> None:
    """A tenth of 30 x 30 patches, of which every third is not mutual: each ninth of the area has its share, +- 4."""
    mutual = torch.ones(900, dtype=torch.bool)
    mutual[::3] = False
    matches = PatchMatches(torch.arange(900), torch.ones(900), mutual)
    inside = np.ones((30, 30), dtype=bool)
    chosen = choose_sparse(matches, inside, 0.1)
    assert len(chosen) == 90 and mutual[chosen].all() and (np.diff(chosen) > 0).all()
    counts = np.bincount((chosen // 30 // 10) * 3 + chosen % 30 // 10, minlength=9)
    assert (np.abs(counts - 10) <= 4).all()
    assert len(choose_sparse(matches, inside, 1.0)) == 600
    # A larger share holds the smaller one.
    assert set(chosen) <= set(choose_sparse(matches, inside, 0.3))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    matches = PatchMatches(torch.arange(1), torch.ones(1), torch.ones(1, dtype=torch.bool))
    with pytest.raises(SparsematchError, match="fraction"):
        choose_sparse(matches, np.ones((1, 1), dtype=bool), fraction)


def test_matches_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="mutual"):
        PatchMatches(torch.arange(2), torch.ones(2), torch.ones(3, dtype=torch.bool))
