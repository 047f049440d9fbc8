"""The survey of a dark sky against drawn spots, noise and discs; and which of its sources become segments."""

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Expectations

CONFIG = SegmentationConfig()
SIZE = (240, 320)
NOISE = 2.0
SPREAD_PX = 1.1


def spots(places: np.ndarray, snr: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw Gaussian spots; a matched filter of a spot of amplitude A gives A sqrt(pi) s / noise as signal to noise."""
    amplitude = snr * NOISE / (np.sqrt(np.pi) * SPREAD_PX)
    y, x = np.indices(size)
    light = np.zeros(size)
    for place in places:
        light += amplitude * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * SPREAD_PX**2))
    return light


def photograph(light: np.ndarray, seed: int, level: float = 12.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, NOISE, light.shape)
    return np.clip(np.round(light + level + noise), 0, 255).astype(np.uint8)


def lattice(seed: int, step: int = 40) -> np.ndarray:
    """Spread places over the image, each at its own part of a pixel."""
    y, x = np.mgrid[step // 2 : SIZE[0] : step, step // 2 : SIZE[1] : step]
    places = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    return places + np.random.default_rng(seed).uniform(-3, 3, places.shape)


def distances(sky: Sky, places: np.ndarray) -> np.ndarray:
    """Give the distance of each place to its own source, one to one."""
    costs = cdist(places, sky.points_px)
    return costs[linear_sum_assignment(np.minimum(costs, 50.0))]


@pytest.mark.parametrize("seed", [0, 1])
def test_centroids_of_bright_spots(seed: int) -> None:
    """The bound of the centroid at a signal to noise of 50 is 1.1 / 50 = 0.022 px an axis; twice that is allowed."""
    places = lattice(seed)
    sky = survey_sky(photograph(spots(places, 50.0), seed), CONFIG, 500)
    sure = sky.snr >= CONFIG.point_source_snr
    assert sky.dark
    assert sure.sum() == len(places)
    errors = distances(sky, places)
    assert np.sqrt(np.mean(errors**2) / 2) < 0.044
    assert np.quantile(errors, 0.95) < 0.1
    # A peak between pixels loses 3 % on average, and rounding of the local background up to a fifth.
    assert 38 < np.median(sky.snr[sure]) < 52
    assert sky.noise == pytest.approx(NOISE, rel=0.15)
    assert (sky.fluxes[sure] > 0).all()
    assert sky.fluxes[sure].mean() == pytest.approx(spots(places[:1], 50.0).sum(), rel=0.15)
    assert len(sky.boxes_xyxy_px) == 0


def test_stated_sigma_of_the_centroid_is_honest() -> None:
    """Over 96 spots at a signal to noise of 15 the errors are within a factor of 1.6 of what the survey says."""
    errors, sigmas = [], []
    for seed in range(2):
        places = lattice(seed)
        sky = survey_sky(photograph(spots(places, 15.0), seed), CONFIG, 500)
        costs = cdist(places, sky.points_px)
        nearest = costs.argmin(axis=1)
        errors.append(places - sky.points_px[nearest])
        sigmas.append(sky.sigmas_px[nearest])
    actual, stated = np.concatenate(errors).std(), np.concatenate(sigmas).mean()
    assert stated / 1.6 < actual < stated * 1.6


def test_faint_spots_are_found() -> None:
    """Spots of a signal to noise of 8 measure 6.5 to 8, at least 1.5 deviations above the threshold of 5: 93 %."""
    found = []
    for seed in range(3):
        places = lattice(seed)
        sky = survey_sky(photograph(spots(places, 8.0), seed), CONFIG, 500)
        sure = sky.points_px[sky.snr >= CONFIG.point_source_snr]
        found.append(cdist(places, sure).min(axis=1) < 1.0)
    assert np.mean(found) >= 0.93


@pytest.mark.parametrize("level", [8.0, 12.0, 40.0])
def test_noise_alone_gives_no_source(level: float) -> None:
    """Five deviations over some 10^5 independent places give 0.03 a frame. The sky lies four deviations above black."""
    for seed in range(5):
        sky = survey_sky(photograph(np.zeros((480, 640)), seed, level), CONFIG, 500)
        assert (sky.snr >= CONFIG.point_source_snr).sum() <= 1
        assert len(sky.boxes_xyxy_px) == 0


def test_a_large_thing_is_a_region_and_no_point() -> None:
    y, x = np.indices(SIZE)
    truth = np.hypot(x - 200.3, y - 110.7) <= 24
    star = np.array([[60.0, 60.0]])
    light = cv2.GaussianBlur(truth * 150.0, (0, 0), SPREAD_PX) + spots(star, 40.0)
    sky = survey_sky(photograph(light, 0), CONFIG, 500)
    np.testing.assert_allclose(sky.boxes_xyxy_px, [[176.3, 86.7, 224.3, 134.7]], atol=3.0)
    np.testing.assert_allclose(sky.region_points_px, [[200.3, 110.7]], atol=3.0)
    # The threshold of 13 levels lies 2 px outside the edge of 150 levels, behind both blurs.
    assert np.sqrt(sky.region_areas_px[0] / np.pi) == pytest.approx(26.0, abs=0.7)
    sure = sky.points_px[sky.snr >= CONFIG.point_source_snr]
    np.testing.assert_allclose(sure, star, atol=0.1)
    assert sky.silhouettes is not None
    wrong_y, wrong_x = np.nonzero((sky.silhouettes != truth) & (np.hypot(x - 200.3, y - 110.7) < 60))
    assert np.abs(np.hypot(wrong_x - 200.3, wrong_y - 110.7) - 24).max(initial=0.0) <= 1.5


def test_parts_of_one_thing_are_one_region() -> None:
    """Two panels 6 px apart, with the bus between them in shadow; another thing 40 px away."""
    light = np.zeros(SIZE)
    light[100:130, 50:80] = light[100:130, 86:116] = light[100:130, 156:190] = 120.0
    sky = survey_sky(photograph(light, 0), CONFIG, 500)
    assert len(sky.boxes_xyxy_px) == 2
    np.testing.assert_allclose(sky.boxes_xyxy_px[0], [50, 100, 115, 129], atol=2.0)
    np.testing.assert_allclose(sky.boxes_xyxy_px[1], [156, 100, 189, 129], atol=2.0)


def test_the_brightest_come_first_and_the_rest_is_left() -> None:
    places = lattice(3)
    light = sum(spots(places[[row]], 20.0 + row) for row in range(len(places)))
    sky = survey_sky(photograph(light, 3), CONFIG, 10)
    assert len(sky.points_px) == 10
    assert (np.diff(sky.snr) <= 0).all()
    assert cdist(sky.points_px, places[-16:]).min(axis=1).max() < 0.3


def test_daylight_has_no_stars() -> None:
    sky = survey_sky(photograph(spots(lattice(0), 60.0), 0, level=120.0), CONFIG, 500)
    assert not sky.dark
    assert (len(sky.points_px), len(sky.boxes_xyxy_px), sky.silhouettes) == (0, 0, None)


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (61, 47)])
@pytest.mark.parametrize("level", [0, 1, 30, 255])
def test_even_images(size: tuple[int, int], level: int) -> None:
    sky = survey_sky(np.full(size, level, dtype=np.uint8), CONFIG, 500)
    assert sky.dark == (level < 64)
    assert (len(sky.points_px), len(sky.boxes_xyxy_px), sky.silhouettes) == (0, 0, None)


def test_a_source_in_the_smallest_image() -> None:
    sky = survey_sky(photograph(spots(np.array([[8.0, 7.0]]), 50.0, (16, 16)), 0), CONFIG, 500)
    np.testing.assert_allclose(sky.points_px[0], [8.0, 7.0], atol=0.15)


def test_a_pixel_that_no_optics_could_light_is_no_source() -> None:
    """A hot pixel as bright as a star beside it: the star alone is found, even one as sharp as half a pixel."""
    y, x = np.indices((80, 120))
    for sigma_px, shift in ((0.5, 0.0), (0.5, 0.5), (0.8, 0.25), (1.1, 0.5)):
        image = 10 + 150 * np.exp(-((x - 30 - shift) ** 2 + (y - 40) ** 2) / (2 * sigma_px**2))
        image[20, 90] = 160
        sky = survey_sky(image.round().astype(np.uint8), CONFIG, 500)
        np.testing.assert_allclose(sky.points_px, [[30 + shift, 40]], atol=0.2)


# Which sources become segments ----------------------------------------------------------------------------------------


def surveyed(places: list[list[float]], snr: float = 20.0, extent: float = 3.0) -> Sky:
    points, each = np.array(places), np.ones(len(places))
    return Sky(True, 1.0, points, 100 * each, 0.1 * each, snr * each, extent * each)


def expecting(place: list[float], sigma_px: float, resting: list[list[float]], hits: int) -> Expectations:
    """Expect one object at a place, and sources at rest that were seen so often."""
    return Expectations(
        states=np.array([[*place, 0.0, 0.0]]),
        covariances=np.eye(4)[None] * sigma_px**2,
        boxes_xywh_px=np.array([[*place, 3.0, 3.0]]),
        areas_px=np.array([7.0]),
        segment_rows=np.array([0]),
        worth=np.ones(1),
        resolved=np.zeros(1, dtype=bool),
        resting_px=np.array(resting).reshape(-1, 2),
        resting_hits=np.full(len(resting), hits),
    )


PLACES = [[50.0, 50.0], [100.0, 60.0], [150.0, 70.0]]


def test_what_rests_is_no_segment() -> None:
    sky = surveyed(PLACES)
    nothing_known = Expectations(resting_px=None)
    assert select_point_sources(sky, nothing_known, SIZE, CONFIG).tolist() == []
    assert select_point_sources(sky, Expectations(resting_px=np.zeros((0, 2))), SIZE, CONFIG).tolist() == [0, 1, 2]
    known = Expectations(resting_px=np.array([[100.5, 60.3]]), resting_hits=np.array([9]))
    assert select_point_sources(sky, known, SIZE, CONFIG).tolist() == [0, 2]
    off = SegmentationConfig(point_sources=False)
    assert select_point_sources(sky, known, SIZE, off).tolist() == []
    assert select_point_sources(Sky(), known, SIZE, CONFIG).tolist() == []


def test_a_known_object_may_pass_a_new_star_but_not_a_fixed_one() -> None:
    sky = surveyed(PLACES[:1])
    claimed = [50.5, 50.0]
    assert select_point_sources(sky, expecting(claimed, 0.5, PLACES[:1], 1), SIZE, CONFIG).tolist() == [0]
    assert select_point_sources(sky, expecting(claimed, 0.5, PLACES[:1], 5), SIZE, CONFIG).tolist() == []
    assert select_point_sources(sky, expecting([80.0, 50.0], 0.5, PLACES[:1], 1), SIZE, CONFIG).tolist() == []


def test_limits_of_a_point_source() -> None:
    """Faint ones only where an object is expected; none that is wide, nor at the border, where its spread is cut."""
    faint, wide = surveyed(PLACES[:1], snr=4.0), surveyed(PLACES[:1], extent=16.0)
    near, far = expecting([50.0, 51.0], 0.5, [], 0), expecting([90.0, 51.0], 0.5, [], 0)
    assert select_point_sources(faint, near, SIZE, CONFIG).tolist() == [0]
    assert select_point_sources(faint, far, SIZE, CONFIG).tolist() == []
    # Four deviations of 0.5 px and a pixel reach 3 px, no more.
    assert select_point_sources(faint, expecting([50.0, 53.5], 0.5, [], 0), SIZE, CONFIG).tolist() == []
    assert select_point_sources(wide, near, SIZE, CONFIG).tolist() == []
    border = surveyed([[2.0, 50.0], [4.0, 50.0], [315.0, 50.0], [317.0, 50.0], [50.0, 238.0]])
    assert select_point_sources(border, far, SIZE, CONFIG).tolist() == [1, 2]
