"""Whether what looks like sky is sky, from what its sources and its noise do: layers and views made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparsematch_ros.background.estimator import View, _sky_in_view, _starless
from sparsematch_ros.background.layers import Layer, LayerKind
from sparsematch_ros.background.stars import Stars
from sparsematch_ros.data import Frame

SIZE = (120, 160)
STILL = np.eye(3)
EXACT = np.zeros((9, 9))
LARGE_SKY, SMALL_SKY = 0.6, 0.2
SMOOTH, ROUGH = 1.0, 8.0
SOURCES = 40


def shift(x: float, y: float = 0.0) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def stars_of(homography: np.ndarray = STILL, share: float = 1.0) -> Layer:
    """Build the stars' motion, with which a share of the sources agrees."""
    return Layer(LayerKind.STARS, homography, EXACT, inliers=round(share * SOURCES))


def ground_of(homography: np.ndarray, covariance: np.ndarray = EXACT) -> Layer:
    return Layer(LayerKind.GROUND, homography, covariance, inliers=100)


def view(
    sky_share: float, roughness: float = SMOOTH, texture: np.ndarray | None = None, left: float = 5, right: float = 155
) -> View:
    """View 40 sources between two columns before a sky of some roughness."""
    places = np.random.default_rng(0).uniform((left, 5), (right, 115), (SOURCES, 2))
    each = np.ones(SOURCES)
    stars = Stars.of(places, 0.05 * each, 15 * each, 1000)
    frame = Frame(0, 0, np.zeros((*SIZE, 3), dtype=np.uint8))
    noise = np.random.default_rng(1).normal(0, 1, SIZE) if texture is None else texture
    return View(frame, stars, np.zeros(SIZE, dtype=bool), sky_share, 1.0, noise.astype(np.float32), roughness=roughness)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 5, SIZE)


def test_without_stars_there_is_no_sky() -> None:
    views = view(LARGE_SKY), view(LARGE_SKY)
    assert not _sky_in_view(None, ground_of(shift(5)), *views)
    assert _sky_in_view(stars_of(), ground_of(shift(5)), *views)


def test_many_sources_of_which_hardly_one_is_a_star_are_no_sky() -> None:
    """Four of 40 sources agree with the stars' motion by chance; in a dim cloud none has to, however smooth it is."""
    views = view(LARGE_SKY), view(LARGE_SKY)
    assert not _sky_in_view(stars_of(share=0.1), ground_of(shift(5)), *views)
    assert _starless(None, views[0]) and _starless(stars_of(share=0.1), views[0])
    assert not _starless(stars_of(share=0.5), views[0])


# Much of the image looks like sky


@pytest.mark.parametrize(
    ("share", "roughness", "repeats", "sky"),
    [
        (0.9, ROUGH, True, True),  # Nearly all sources are stars, which proves it.
        (0.5, SMOOTH, True, True),  # It is smooth.
        (0.5, ROUGH, False, True),  # It is rough, and new in each frame: noise.
        (0.5, ROUGH, True, False),  # It is rough and moves with the ground: texture.
    ],
)
def test_a_large_sky_is_texture_only_where_that_repeats(
    share: float, roughness: float, repeats: bool, sky: bool
) -> None:
    """The ground moves by 7 px; what repeats moves with it."""
    before = noise(2)
    after = np.roll(before, 7, axis=1) if repeats else noise(3)
    views = view(LARGE_SKY, roughness, before), view(LARGE_SKY, roughness, after)
    assert _sky_in_view(stars_of(share=share), ground_of(shift(7)), *views) == sky


def test_without_a_star_what_moves_with_the_ground_is_cloud_however_smooth() -> None:
    """No source is in view; what looks like the noise of a sky repeats, or is new in each frame."""
    none = Stars.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 1000)
    for after, sky in ((np.roll(noise(2), 7, axis=1), False), (noise(3), True)):
        views = [replace(view(LARGE_SKY, SMOOTH, each), stars=none) for each in (noise(2), after)]
        assert _sky_in_view(stars_of(share=0.0), ground_of(shift(7)), *views) == sky


def test_a_pattern_of_the_detector_before_a_black_sky_is_no_cloud() -> None:
    """No source is in view, and what repeats does not move in the image by a tenth of a pixel."""
    none = Stars.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 1000)
    views = [replace(view(LARGE_SKY, SMOOTH, noise(2)), stars=none) for _ in range(2)]
    assert _sky_in_view(stars_of(shift(3), share=0.0), ground_of(shift(0.1)), *views)


def test_a_sky_does_not_come_from_one_frame_to_the_next() -> None:
    """Only the second frame looks like sky, so nothing of it is known to be new or to repeat."""
    views = view(0.0, ROUGH, np.full(SIZE, np.nan)), view(LARGE_SKY, ROUGH)
    assert not _sky_in_view(stars_of(share=0.5), ground_of(shift(7)), *views)


def test_texture_that_moves_otherwise_than_the_ground_is_no_proof_of_ground() -> None:
    before = noise(2)
    views = view(LARGE_SKY, ROUGH, before), view(LARGE_SKY, ROUGH, np.roll(before, 7, axis=1))
    assert _sky_in_view(stars_of(share=0.5), ground_of(shift(-9)), *views)


def test_where_nothing_of_a_rough_sky_is_known_it_is_sky() -> None:
    """Sources and glow hide all of it, in one frame or in both."""
    hidden = np.full(SIZE, np.nan)
    for before, after in ((hidden, hidden), (noise(2), hidden), (hidden, noise(2))):
        views = view(LARGE_SKY, ROUGH, before), view(LARGE_SKY, ROUGH, after)
        assert _sky_in_view(stars_of(share=0.5), ground_of(STILL), *views)


# Little of the image looks like sky


@pytest.mark.parametrize(
    ("share", "roughness", "apart_px", "sky"),
    [
        (1.0, SMOOTH, 3.0, True),
        (0.6, SMOOTH, 3.0, True),
        (0.4, SMOOTH, 3.0, False),  # Most sources are none of the stars.
        (1.0, ROUGH, 3.0, False),
        (1.0, SMOOTH, 0.3, True),  # One and a half of the 0.2 px by which the same motions may differ.
        (1.0, SMOOTH, 0.1, False),  # Half of them.
        (1.0, SMOOTH, 0.0, False),  # Specks of cloud over a dark ocean move with it.
    ],
)
def test_a_small_sky_is_smooth_and_its_stars_move_otherwise(
    share: float, roughness: float, apart_px: float, sky: bool
) -> None:
    views = view(SMALL_SKY, roughness), view(SMALL_SKY, roughness)
    stars, ground = stars_of(shift(2), share), ground_of(shift(2 + apart_px))
    assert _sky_in_view(stars, ground, *views) == sky


def test_motions_are_compared_where_the_stars_are() -> None:
    """The ground is stretched by 3 % from column 10 on, so it differs from still stars by 0.03 (x - 10) px across.

    Around column 10 that is up to 0.15 px, at the right edge 4 px.
    """
    enlarged = np.array([[1.03, 0, -0.3], [0, 1, 0], [0, 0, 1]])
    near, far = ((view(SMALL_SKY, left=left, right=left + 10),) * 2 for left in (5, 145))
    assert not _sky_in_view(stars_of(), ground_of(enlarged), *near)
    assert _sky_in_view(stars_of(), ground_of(enlarged), *far)


def test_a_difference_within_the_error_of_the_ground_is_none() -> None:
    """5 px apart, of a ground whose place is known to 10 px along that axis, or to 0.1 px."""
    views = view(SMALL_SKY), view(SMALL_SKY)
    for sigma_px, sky in ((10.0, False), (0.1, True)):
        covariance = np.zeros((9, 9))
        covariance[2, 2] = sigma_px**2
        assert _sky_in_view(stars_of(), ground_of(shift(5), covariance), *views) == sky
