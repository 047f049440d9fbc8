"""Level and noise of the background: drawn skies, glows, bodies and ground, of which both are known."""

import cv2
import numpy as np
import pytest

from sparsematch_ros.data import Frame
from sparsematch_ros.detection.radiance import Radiance, lower_deviation, measure_radiance

SIZE = (240, 320)
# A Gaussian filter of 1 px leaves 1 / (2 sqrt(pi)) of the standard deviation of white noise.
SMOOTHED = 1 / (2 * np.sqrt(np.pi))


def measured(levels: np.ndarray) -> Radiance:
    """Round levels to 8 bits and measure them."""
    image = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    return measure_radiance(Frame(0, 0, np.repeat(image[..., None], 3, axis=2)))


def noise(deviation: float, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, size)


def texture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw ground with detail of every size from 2 px up, standard deviation 35 around 140."""
    rng, total = np.random.default_rng(seed), np.zeros(size)
    for sigma in (2, 5, 12, 30):
        layer = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), sigma)
        total += layer / layer.std()
    return 140 + 35 * total / total.std()


@pytest.mark.parametrize("level", [12.0, 90.0, 200.0])
@pytest.mark.parametrize("deviation", [1.0, 2.0, 6.0])
def test_level_and_noise_of_a_plain_sky(level: float, deviation: float) -> None:
    """Rounding adds 1/12 to the variance. The calmest quarter of the cells counts, hence the 15 % of the pixels."""
    if level < 3 * deviation:
        level = 3 * deviation + 10  # Black must not cut the noise.
    radiance = measured(level + noise(deviation))
    pixel = np.hypot(deviation, np.sqrt(1 / 12))
    assert radiance.has_sky and radiance.sky.mean() > 0.95
    assert radiance.noise == pytest.approx(pixel * SMOOTHED, rel=0.1)
    assert radiance.pixel_noise == pytest.approx(pixel, rel=0.15)
    assert radiance.roughness == pytest.approx(1.0, abs=0.2)
    # Medians of 64 samples of which a dozen are independent scatter by about a third of the smoothed noise.
    assert np.sqrt(np.mean((radiance.level - level) ** 2)) < 0.5 * pixel * SMOOTHED
    assert radiance.significance.std() == pytest.approx(1.0, abs=0.12)
    assert abs(radiance.significance.mean()) < 0.1


def test_depth_beyond_eight_bits_is_used() -> None:
    """Noise of 20 steps of 16 bits is a thirteenth of a step of 8 bits, where it would vanish."""
    samples = np.round(2000 + noise(20.0)).astype(np.uint16)
    image = np.repeat((samples >> 8).astype(np.uint8)[..., None], 3, axis=2)
    radiance = measure_radiance(Frame(0, 0, image, samples=samples, bits=16))
    step = 255 / 65535
    assert radiance.noise == pytest.approx(20 * step * SMOOTHED, rel=0.1)
    assert np.median(radiance.level) == pytest.approx(2000 * step, rel=0.01)
    np.testing.assert_allclose(radiance.significance.std(), 1.0, atol=0.12)


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_noise_after_jpeg_reaches_farther_than_its_calm_part_tells(quality: int) -> None:
    """Where most blocks are even and a few are not, the calm ones alone would make bodies of the others' noise.

    Of a Gaussian, 7e-6 of the pixels stand 4.5 standard deviations from the level on both sides; here ten times that.
    """
    levels = 30 + np.round(noise(0.9))
    coded = cv2.imencode(".jpg", levels.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    radiance = measured(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
    assert radiance.sky.mean() > 0.85
    assert (np.abs(radiance.significance) > 4.5).mean() < 7e-5
    # Stars and bodies lift no noise: only what lies below the level counts.
    spoilt = levels.copy()
    spoilt[::40, ::40] = 255
    assert measured(spoilt).noise == pytest.approx(measured(levels).noise, rel=0.15)


def test_a_glow_is_part_of_the_level() -> None:
    """A slope of 20 levels across the image: nothing stands out from it, and the level follows it."""
    slope = np.linspace(20, 40, SIZE[1])[None] + np.zeros(SIZE)
    radiance = measured(slope + noise(2.0))
    inner = np.s_[16:-16, 16:-16]  # Half a cell at the border has one neighbour only.
    assert radiance.sky.mean() > 0.95
    assert np.abs(radiance.level - slope)[inner].max() < 1.0
    assert np.abs(radiance.significance[inner]).max() < 6.0


def test_a_body_over_many_cells_is_not_its_own_background() -> None:
    """A disc of 40 px covers 20 whole cells: below it is the level of the sky around it, to a grey level."""
    y, x = np.indices(SIZE)
    disc = np.hypot(x - 160, y - 120) < 40
    radiance = measured(15 + 100 * disc + noise(2.0))
    assert np.abs(radiance.level[disc] - 15).max() < 1.0
    assert not radiance.sky[np.hypot(x - 160, y - 120) < 16].any()
    assert radiance.sky[np.hypot(x - 160, y - 120) > 80].mean() > 0.95
    inside = np.hypot(x - 160, y - 120) < 36
    np.testing.assert_allclose(radiance.significance[inside].mean(), 100 / radiance.noise, rtol=0.02)


def test_stars_do_not_lift_level_and_noise() -> None:
    """Spots on 4 % of the pixels, in a quarter of the cells: noise within 15 % of what it is without them."""
    rng = np.random.default_rng(1)
    lone = np.zeros(SIZE, np.float32)
    lone[rng.integers(0, SIZE[0], 75), rng.integers(0, SIZE[1], 75)] = 2500
    light = cv2.GaussianBlur(lone, (0, 0), 1.1)
    assert 0.03 < (light > 2).mean() < 0.05, "the spots of the test light too much or too little"
    plain, starry = measured(15 + noise(2.0)), measured(15 + light + noise(2.0))
    assert starry.noise == pytest.approx(plain.noise, rel=0.15)
    assert np.median(starry.level) == pytest.approx(15, abs=0.3)
    assert starry.sky.mean() > 0.9


def test_ground_is_no_calm_sky() -> None:
    """Texture of 35 levels, 1 of noise: either no sky is seen, or one that is told to be rough."""
    for seed in range(3):
        radiance = measured(texture(seed) + noise(1.0, seed))
        assert not radiance.has_sky or radiance.roughness > 4


def test_sky_beside_ground_is_told_from_it() -> None:
    """The left half is ground: sky is on the right, but for cells that both share, with its own level and noise."""
    levels = 15 + noise(2.0)
    levels[:, :160] = texture(0)[:, :160]
    radiance = measured(levels)
    assert radiance.sky[:, 192:].mean() > 0.95
    assert radiance.sky[:, :144].mean() < 0.02
    assert radiance.noise == pytest.approx(np.hypot(2, np.sqrt(1 / 12)) * SMOOTHED, rel=0.15)
    assert np.abs(radiance.level[:, 192:] - 15).mean() < 0.5


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (61, 47), (240, 320)])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_even_images_have_nothing_above_the_sky(size: tuple[int, int], level: int) -> None:
    """Black, dim, gray and saturated."""
    radiance = measured(np.full(size, float(level)))
    assert radiance.significance.shape == radiance.level.shape == radiance.sky.shape == size
    np.testing.assert_allclose(radiance.significance, 0.0, atol=1e-3)
    assert np.isfinite(radiance.pixel_noise) and radiance.pixel_noise > 0
    assert not radiance.has_sky or radiance.noise > 0


def test_an_image_of_a_few_cells_has_no_sky() -> None:
    """Four cells are too few to tell a sky from what stands before it: no noise, no significance."""
    radiance = measured(12 + noise(2.0, size=(32, 32)))
    assert not radiance.has_sky and np.isnan(radiance.noise)
    assert not radiance.significance.any() and not radiance.sky.any()


def test_pure_noise_is_even() -> None:
    """Bytes at random deviate by 256 / sqrt(12) = 73.9; 10 % for the calmest cells and the shape of the noise."""
    image = np.random.default_rng(2).integers(0, 256, SIZE)
    radiance = measured(image.astype(float))
    assert radiance.noise == pytest.approx(73.9 * SMOOTHED, rel=0.15)
    assert np.abs(radiance.significance).max() < 6


def test_standard_deviation_from_the_smaller_deviations() -> None:
    """Exact for a Gaussian; with 10 % far out the smallest 70 % are 7/9 of the rest, whose mean is 0.539 sigma."""
    rng = np.random.default_rng(3)
    clean = np.abs(rng.normal(0, 3.0, (4, 20000))).astype(np.float32)
    np.testing.assert_allclose(lower_deviation(clean), 3.0, rtol=0.03)
    spoilt = clean.copy()
    spoilt[:, ::10] = 1e6
    np.testing.assert_allclose(lower_deviation(spoilt), 3.0 * 0.539 / 0.4735, rtol=0.03)
    assert lower_deviation(np.full((2, 1), 4.735, np.float32)).shape == (2,)
