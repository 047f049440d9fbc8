"""Point sources against drawn spots and streaks, whose places, brightness and number are known."""

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sparsematch_ros.data import Frame
from sparsematch_ros.detection.radiance import measure_radiance
from sparsematch_ros.detection.sources import FAINT_SHARE, Sources, detect_sources

SIZE = (240, 320)
NOISE = 2.0
SPREAD_PX = 1.1
LEAST_SNR = 5.0


def amplitude(snr: float) -> float:
    """Compute the peak of a spot: a matched filter of a spot of amplitude A has A sqrt(pi) s / noise as its answer."""
    return float(snr * NOISE / (np.sqrt(np.pi) * SPREAD_PX))


def spots(
    places: np.ndarray, snr: float, smear_px: tuple[float, float] = (0.0, 0.0), size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Draw Gaussian spots, moving evenly along a vector while the shutter is open."""
    steps = np.linspace(-0.5, 0.5, 33)[:, None] * smear_px if any(smear_px) else np.zeros((1, 2))
    light, reach, height = np.zeros(size), 8 + int(np.abs(smear_px).max()), amplitude(snr) / len(steps)
    for place in places:
        left, top = np.maximum(np.floor(place).astype(int) - reach, 0)
        part = np.s_[top : top + 2 * reach, left : left + 2 * reach]
        y, x = (axis[part] for axis in np.indices(size))
        for dx, dy in place + steps:
            light[part] += height * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * SPREAD_PX**2))
    return light


def photographed(light: np.ndarray, seed: int = 0, level: float = 12.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, NOISE, light.shape)
    return np.clip(np.round(light + level + noise), 0, 255).astype(np.uint8)


def detected(image: np.ndarray, most: int = 500) -> tuple[Sources, np.ndarray]:
    frame = Frame(0, 0, np.repeat(image[..., None], 3, axis=2))
    return detect_sources(measure_radiance(frame), frame.levels, LEAST_SNR, most)


def sure(sources: Sources) -> Sources:
    return sources.take(sources.snr >= LEAST_SNR)


def lattice(seed: int, step: int = 40) -> np.ndarray:
    """Spread places over the image, each at its own part of a pixel."""
    y, x = np.mgrid[step // 2 : SIZE[0] : step, step // 2 : SIZE[1] : step]
    places = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    return places + np.random.default_rng(seed).uniform(-3, 3, places.shape)


def offsets(sources: Sources, places: np.ndarray) -> np.ndarray:
    """Compute the error of each place's own source `(N, 2)`, one to one."""
    costs = cdist(places, sources.points_px)
    rows, columns = linear_sum_assignment(np.minimum(costs, 50.0))
    return sources.points_px[columns] - places[rows]


@pytest.mark.parametrize("seed", [0, 1])
def test_centroids_and_brightness_of_bright_spots(seed: int) -> None:
    """The bound of the centroid at a signal to noise of 50 is 1.1 / 50 = 0.022 px an axis; twice that is allowed."""
    places = lattice(seed)
    sources = sure(detected(photographed(spots(places, 50.0), seed))[0])
    assert len(sources) == len(places)
    errors = offsets(sources, places)
    assert np.sqrt(np.mean(errors**2)) < 0.044
    assert np.linalg.norm(errors, axis=1).max() < 0.12
    # A peak between pixels loses 3 % on average.
    assert np.median(sources.snr) == pytest.approx(50, rel=0.1)
    # A spot of amplitude A holds 2 pi s^2 A.
    assert sources.fluxes.mean() == pytest.approx(2 * np.pi * SPREAD_PX**2 * amplitude(50.0), rel=0.1)
    assert not sources.smear_px.any()


@pytest.mark.parametrize("snr", [8.0, 15.0, 30.0])
def test_stated_sigma_of_the_centroid_is_honest(snr: float) -> None:
    """Over 144 spots the errors are within a factor of 1.4 of what is stated."""
    shares = []
    for seed in range(3):
        places = lattice(seed)
        sources = detected(photographed(spots(places, snr), seed))[0]
        nearest = cdist(places, sources.points_px).argmin(axis=1)
        errors = sources.points_px[nearest] - places
        assert np.linalg.norm(errors, axis=1).max() < 2, "a spot of the test is not found"
        shares.append(errors / sources.sigmas_px[nearest, None])
    assert 1 / 1.4 < np.concatenate(shares).std() < 1.4


def test_faint_spots_are_found() -> None:
    """Spots of a signal to noise of 8 measure 8 +- 1, three deviations above the threshold of 5: 97 % at least."""
    found = []
    for seed in range(3):
        places = lattice(seed)
        points = sure(detected(photographed(spots(places, 8.0), seed))[0]).points_px
        found.append(cdist(places, points).min(axis=1) < 1.0)
    assert np.mean(found) >= 0.97


@pytest.mark.parametrize("level", [10.0, 40.0, 200.0])
def test_noise_alone_gives_hardly_a_source(level: float) -> None:
    """Five deviations over some 10^5 independent places give 0.03 a frame, 3.25 of them 60; filtered noise has tails.

    The sky lies five deviations above black.
    """
    for seed in range(5):
        sources = detected(photographed(np.zeros((480, 640)), seed, level))[0]
        assert len(sure(sources)) <= 1
        assert len(sources) < 250
        assert (sources.snr > FAINT_SHARE * LEAST_SNR).all()


@pytest.mark.parametrize("smear_px", [(0.0, 3.0), (4.0, 3.0), (0.0, 8.0), (6.0, 6.0), (-9.0, 4.0), (13.0, -4.0)])
def test_streaks_of_a_slew_are_sources_at_their_middles(smear_px: tuple[float, float]) -> None:
    """The middle of a streak of length l and n counts is known to sqrt(l^2 / 12 / n); 0.3 px allows for its ends."""
    places, length = lattice(1), float(np.hypot(*smear_px))
    sources = sure(detected(photographed(spots(places, 60.0, smear_px), 1))[0])
    assert len(sources) == len(places)
    errors = offsets(sources, places)
    direction = np.array(smear_px) / length
    assert np.sqrt(np.mean((errors @ direction) ** 2)) < 0.3
    assert np.sqrt(np.mean((errors @ [-direction[1], direction[0]]) ** 2)) < 0.15
    assert np.sqrt(np.mean((errors / sources.sigmas_px.mean()) ** 2)) < 1.5
    if length > 4:
        # The ends of a streak are too faint to count: a quarter is missing at most. The sign is not known.
        assert abs(sources.smear_px @ direction) == pytest.approx(length, rel=0.25)
        assert abs(sources.smear_px @ [-direction[1], direction[0]]) < 0.5
    else:
        assert not sources.smear_px.any()


@pytest.mark.parametrize("snr", [30.0, 60.0, 120.0])
@pytest.mark.parametrize("length", [5.0, 5.5, 6.0, 6.5])
def test_streaks_as_long_as_the_shortest_bodies_are_sources(length: float, snr: float) -> None:
    """Where a spot becomes a streak hardly any falls between both: nine in ten are within a pixel of their middle."""
    places = lattice(1)
    sources = sure(detected(photographed(spots(places, snr, (0.8 * length, 0.6 * length)), 1))[0])
    assert (cdist(places, sources.points_px).min(axis=1) < 1).mean() > 0.9


def test_a_peak_of_two_equal_pixels_is_one_source() -> None:
    """A spot midway between two columns, without noise, at the place where it was drawn."""
    y, x = np.indices((80, 120))
    image = 10 + 150 * np.exp(-((x - 30.5) ** 2 + (y - 40) ** 2) / (2 * 1.1**2))
    found = detected(image.round().astype(np.uint8))[0]
    np.testing.assert_allclose(found.points_px, [[30.5, 40]], atol=0.05)


@pytest.mark.parametrize("seed", [2, 3])
def test_streaks_are_filtered_along_their_length(seed: int) -> None:
    """A bright dozen tells the smear of 10 px.

    A matched filter along it has sqrt(2 sqrt(pi) s / 10) = 0.62 of a spot's answer: 8.7 of 14, where the pixels of the
    streak have 5.2 each. A line of pixels is no perfect filter, hence 20 %; a quarter may look uneven by noise.
    """
    places = lattice(seed)
    bright, faint = places[::4], np.delete(places, np.s_[::4], axis=0)
    light = spots(bright, 80.0, (10.0, 0.0)) + spots(faint, 14.0, (10.0, 0.0))
    sources = sure(detected(photographed(light, seed))[0])
    distances = cdist(faint, sources.points_px)
    found = distances.min(axis=1) < 2.0
    assert found.mean() >= 0.75
    assert np.median(sources.snr[distances.argmin(axis=1)[found]]) == pytest.approx(8.7, rel=0.2)
    assert len(sources) <= len(places) + 1


def test_the_spread_of_a_streak_is_that_of_its_image_filtered() -> None:
    """Variances add up: spread, smoothing, and the streak's l^2 / 12 twice along it."""
    nothing = Sources(smear_px=np.array([6.0, 0.0]))
    expected = np.diag([SPREAD_PX**2 + 1 + 2 * 36 / 12, SPREAD_PX**2 + 1])
    np.testing.assert_allclose(nothing.spread_root_px @ nothing.spread_root_px, expected, atol=1e-9)
    np.testing.assert_allclose(nothing.spread_root_px, nothing.spread_root_px.T, atol=1e-12)


def test_bodies_and_glints_on_them_are_no_point_sources() -> None:
    """A disc of 24 px, a dim one with a glint on it, a bar; the star beside them is one."""
    y, x = np.indices(SIZE)
    star = np.array([[60.0, 200.0]])
    sharp = 150.0 * (np.hypot(x - 230, y - 80) <= 24) + 40.0 * (np.hypot(x - 90, y - 90) <= 20)
    sharp[180:186, 150:260] = 100.0
    light = cv2.GaussianBlur(sharp, (0, 0), SPREAD_PX) + spots(np.array([[92.0, 88.0]]), 60.0) + spots(star, 40.0)
    sources, lit = detected(photographed(light))
    np.testing.assert_allclose(sure(sources).points_px, star, atol=0.15)
    assert not lit[60:100, 210:250].any() and not lit[80:100, 80:100].any()


def test_two_stars_side_by_side_are_two() -> None:
    """8 px apart, three times the width of a smoothed spot."""
    places = np.array([[100.0, 100.0], [108.0, 100.0], [200.3, 60.2], [200.3, 68.2]])
    sources = sure(detected(photographed(spots(places, 40.0)))[0])
    assert len(sources) == 4
    assert np.abs(offsets(sources, places)).max() < 0.3


def test_a_saturated_star_is_one_source() -> None:
    """Cut off at a sixth of its height, a spot is a plateau of 4 px: one centroid in its middle."""
    sources, lit = detected(photographed(spots(np.array([[150.4, 100.7]]), 1400.0)))
    assert len(sure(sources)) == 1
    np.testing.assert_allclose(sources.points_px[0], [150.4, 100.7], atol=0.2)
    y, x = np.indices(SIZE)
    assert lit[np.hypot(x - 150.4, y - 100.7) < 4].all()


def test_lit_pixels_are_those_of_the_sources() -> None:
    places = lattice(4)
    light = spots(places, 40.0)
    _, lit = detected(photographed(light, 4))
    assert lit[light > 3 * NOISE].all()
    # Smoothed, a spot of 40 deviations sinks to 3.25 of them within 3.3 px; a pixel around, half one for drawing.
    y, x = np.indices(SIZE)
    away = np.min([np.hypot(x - place[0], y - place[1]) for place in places], axis=0)
    assert lit[(away > 5.5) & (away < 15)].mean() < 0.01


def test_the_brightest_come_first_and_the_rest_is_left() -> None:
    places = lattice(3)
    light = sum(spots(places[[row]], 20.0 + 2 * row) for row in range(len(places)))
    sources = detected(photographed(np.asarray(light), 3), 10)[0]
    assert len(sources) == 10
    assert (np.diff(sources.snr) <= 0).all()
    assert cdist(sources.points_px, places[-14:]).min(axis=1).max() < 0.3


def test_some_of_the_sources_keep_all_that_is_theirs() -> None:
    sources = detected(photographed(spots(lattice(5), 40.0), 5))[0]
    two = sources.take(np.array([3, 1]))
    for name in ("points_px", "sigmas_px", "fluxes", "snr"):
        np.testing.assert_array_equal(getattr(two, name), getattr(sources, name)[[3, 1]])
    assert len(sources.take(np.zeros(len(sources), dtype=bool))) == 0
    with pytest.raises(ValueError, match="snr"):
        Sources(np.zeros((2, 2)), np.ones(2), np.ones(2), np.ones(3))


@pytest.mark.parametrize(("sigma_px", "shift"), [(0.8, 0.0), (0.8, 0.25), (1.1, 0.0), (1.1, 0.4)])
def test_a_pixel_that_no_optics_could_light_is_no_source(sigma_px: float, shift: float) -> None:
    """A hot pixel as bright as a star beside it: the star alone is found."""
    y, x = np.indices((80, 120))
    image = 10 + 150 * np.exp(-((x - 30 - shift) ** 2 + (y - 40) ** 2) / (2 * sigma_px**2))
    image[20, 90] = 160
    sources = detected(image.round().astype(np.uint8))[0]
    np.testing.assert_allclose(sources.points_px, [[30 + shift, 40]], atol=0.2)


def test_three_quarters_of_the_peaks_may_be_hot_pixels() -> None:
    stars = lattice(6)[:16]
    image = photographed(spots(stars, 50.0), 6)
    places = np.random.default_rng(6).integers((8, 8), (SIZE[1] - 8, SIZE[0] - 8), (200, 2))
    places = places[cdist(places, stars).min(axis=1) > 12][:40]
    image[places[:, 1], places[:, 0]] = 255
    sources = sure(detected(image)[0])
    assert len(places) == 40 and len(sources) == 16
    assert np.abs(offsets(sources, stars)).max() < 0.3


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (61, 47), SIZE])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_even_images_have_no_sources(size: tuple[int, int], level: int) -> None:
    """Black, dim, gray and all saturated."""
    sources, lit = detected(np.full(size, level, dtype=np.uint8))
    assert len(sources) == 0 and lit.shape == size and not lit.any()


def test_random_bytes_are_no_sky_full_of_stars() -> None:
    """Even noise has no tails: smoothed over some ten pixels it hardly reaches five deviations."""
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 256, SIZE).astype(np.uint8)
        assert len(sure(detected(image)[0])) <= 1


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_hot_pixels_everywhere_are_no_more_than_was_asked_for(share: float) -> None:
    """No optics: what is found lies on hot pixels, and is limited."""
    image = photographed(np.zeros(SIZE))
    hot = np.random.default_rng(7).random(SIZE) < share
    image[hot] = 255
    sources, lit = detected(image, 300)
    assert len(sources) <= 300 and lit.shape == SIZE
    assert np.isfinite(sources.points_px).all() and (sources.sigmas_px > 0).all()
    x, y = np.rint(sources.points_px).astype(int).T
    assert ((x >= 0) & (y >= 0) & (x < SIZE[1]) & (y < SIZE[0])).all()
    assert cv2.dilate(hot.astype(np.uint8), np.ones((5, 5), np.uint8))[y, x].all()
