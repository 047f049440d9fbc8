"""Bodies and regions before the sky, against drawn scenes in which every pixel's owner is known."""

import cv2
import numpy as np
import pytest

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.detection.bodies import Bodies, find_bodies, joined_labels
from sparsematch_ros.detection.detector import Detections, Detector
from sparsematch_ros.detection.radiance import measure_radiance
from sparsematch_ros.detection.sources import detect_sources

SIZE = (240, 320)
SPREAD_PX = 1.1
Y, X = np.indices(SIZE)
CROSS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1.0]])


def photographed(light: np.ndarray, seed: int = 0, index: int = 0, level: float = 12.0, noise: float = 2.0) -> Frame:
    """Blur what is drawn by the point spread, and expose it on a sky."""
    levels = cv2.GaussianBlur(light, (0, 0), SPREAD_PX) + level
    return frame_of(levels + np.random.default_rng((seed, index)).normal(0, noise, light.shape), index)


def frame_of(levels: np.ndarray, index: int = 0) -> Frame:
    image = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    return Frame(index, index * 10**8, np.repeat(image[..., None], 3, axis=2))


def bodies_of(frame: Frame) -> Bodies:
    radiance = measure_radiance(frame)
    return find_bodies(radiance, detect_sources(radiance, frame.levels, 5.0, 500)[1])


# Bodies


def test_a_body_before_the_sky_is_no_surroundings() -> None:
    """A disc of 24 px that is 150 levels bright stands above 2.5 levels until two blurs end it, 4 px outside."""
    radius = np.hypot(X - 200.3, Y - 110.7)
    star = (X == 60) & (Y == 60)
    bodies = bodies_of(photographed(150.0 * (radius <= 24) + 600.0 * star))
    assert bodies.foreground[radius < 24].all() and not bodies.foreground[radius > 29].any()
    assert bodies.lit[60, 60] and not bodies.foreground[60, 60] and not bodies.lit[radius < 20].any()
    assert not bodies.surroundings.any()
    assert bodies.off(np.array([[60.0, 60.0], [200.0, 110.0]])).all()


@pytest.mark.parametrize(
    "ground",
    [Y > 150, X < 100, Y + 0.5 * X > 260, np.hypot(X - 160, Y - 500) < 380],
    ids=["half plane", "left", "inclined", "limb"],
)
def test_what_the_border_frames_is_surroundings(ground: np.ndarray) -> None:
    """A planet with clouds: it and 32 px of haze above it; the sky farther off, with its stars, is left."""
    clouds = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, SIZE), (0, 0), 4)
    light = ground * np.clip(120 + 40 * clouds / clouds.std(), 40, 255)
    bodies = bodies_of(photographed(light))
    distance = cv2.distanceTransform((~ground).astype(np.uint8), cv2.DIST_L2, 5)
    assert bodies.surroundings[ground].mean() > 0.99
    assert bodies.surroundings[(distance > 0) & (distance < 20)].mean() > 0.95
    assert not bodies.surroundings[distance > 56].any()  # Three cells of 8 px beyond the haze.
    assert bodies.foreground.mean() < 1e-3
    sky = np.argwhere(distance > 60)[:1, ::-1].astype(float)
    inside = np.argwhere(ground)[:1, ::-1].astype(float)
    assert bodies.off(np.concatenate([sky, inside])).tolist() == [True, False]


def test_a_body_that_the_border_cuts_is_no_surroundings() -> None:
    """Three quarters of a disc of 50 px: less than 42 % of its outline lies on the border."""
    disc = np.hypot(X - 25, Y - 120) < 50
    bodies = bodies_of(photographed(100.0 * disc))
    assert not bodies.surroundings.any() and bodies.foreground[disc].mean() > 0.99


@pytest.mark.parametrize("falls", [1.0, 2.0])
def test_a_glare_is_surroundings_and_no_body(falls: float) -> None:
    """Light that fades with some power of the distance ends only at the threshold; a disc beside it is a body."""
    away = np.hypot(X - 90, Y - 120)
    glare = 4000.0 / (1 + away / 2) ** (1 + falls) * (away < 200) + 235.0 * (np.abs(X - 90) < 2)
    disc = np.hypot(X - 270, Y - 60) < 14
    bodies = bodies_of(photographed(np.minimum(glare, 243) + 60.0 * disc))
    assert bodies.surroundings[away < 20].all() and not bodies.foreground[away < 40].any()
    assert bodies.foreground[disc].mean() > 0.95 and not bodies.surroundings[disc].any()


def test_a_smeared_body_is_no_glare() -> None:
    """A disc of 40 px that moved by 16 px while it was exposed."""
    light = sum(4.0 * (np.hypot(X - 140 - step, Y - 110) < 40) for step in range(17))
    bodies = bodies_of(photographed(light))
    assert not bodies.surroundings.any() and bodies.foreground[110, 130:170].all()


def test_without_sky_everything_is_surroundings() -> None:
    nothing = np.zeros((32, 32), dtype=bool)
    radiance = measure_radiance(frame_of(np.random.default_rng(0).normal(100, 30, (32, 32))))
    assert not radiance.has_sky, "the image of the test shows a sky"
    bodies = find_bodies(radiance, nothing)
    assert bodies.surroundings.all() and not bodies.foreground.any()


def test_parts_across_a_gap_are_one() -> None:
    """Gaps of 5 px close, of 9 px do not, and a part at the border keeps its number."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[50:80, 20:40] = mask[50:80, 45:60] = mask[50:80, 69:90] = mask[0:10, 300:320] = True
    labels, count = joined_labels(mask)
    assert count == 4 and labels[60, 30] == labels[60, 50] != labels[60, 80]
    assert labels[0, 319] not in (0, labels[60, 30], labels[60, 80]) and labels[150, 150] == 0


# Regions before the sky


def found_in(light: np.ndarray) -> Detections:
    detector = Detector(SegmentationConfig())
    return detector.detect(detector.measure(photographed(light)), Background(), None)


@pytest.mark.parametrize("level", [30.0, 150.0, 600.0])
def test_the_outline_of_a_region_does_not_depend_on_its_brightness(level: float) -> None:
    """An edge counts where the blurred brightness has halved or, faint, at the threshold: within a pixel of the disc.

    The last disc is saturated, and its wings end at a share of 255 levels.
    """
    radius = np.hypot(X - 200.3, Y - 110.7)
    regions = found_in(level * (radius <= 24)).regions
    assert len(regions) == 1 and regions.labels.max() == 1
    assert np.sqrt(regions.areas_px[0] / np.pi) == pytest.approx(24, abs=1.5)
    wrong = regions.foreground != (radius <= 24)
    assert np.abs(radius[wrong] - 24).max() < 2.0
    np.testing.assert_allclose(regions.boxes_xyxy_px[0], [177, 87, 224, 134], atol=2)
    np.testing.assert_allclose(regions.seeds_px[0], [200.3, 110.7], atol=3)
    assert regions.solid.all() and regions.sky[radius > 30].all() and not regions.sky[radius < 22].any()
    near, far = [200.0, 110.7 + 26], [200.0, 110.7 + 40]
    points = np.array([[200.0, 110.0], near, far, [2.0, 100.0], [5.0, 100.0]])
    assert regions.off(points).tolist() == [False, False, True, False, True]


def test_the_thick_part_of_a_region_has_no_boom() -> None:
    """A bus of 40 x 30 px with a boom of 60 x 3 px: the core's box is that of the bus."""
    light = np.zeros(SIZE)
    light[100:130, 50:90] = light[113:116, 90:150] = 120.0
    regions = found_in(light).regions
    np.testing.assert_allclose(regions.boxes_xyxy_px, [[50, 100, 149, 129]], atol=2)
    # What is as near to the thick part as a third of its depth is counted with it.
    np.testing.assert_allclose(regions.cores_xyxy_px, [[50, 100, 89, 129]], atol=6)
    assert 50 <= regions.seeds_px[0, 0] < 90 and 100 <= regions.seeds_px[0, 1] < 130


def test_parts_of_one_thing_are_one_region() -> None:
    """Two panels 6 px apart, with the bus between them in shadow; another thing 40 px away, which is larger."""
    light = np.zeros(SIZE)
    light[100:130, 50:80] = light[100:130, 86:116] = 120.0
    light[90:150, 160:210] = 120.0
    regions = found_in(light).regions
    # A pixel of noise at the threshold beside a body lengthens its box by up to 4 px.
    np.testing.assert_allclose(regions.boxes_xyxy_px, [[160, 90, 209, 149], [50, 100, 115, 129]], atol=4)
    assert regions.labels[115, 60] == regions.labels[115, 100] == 2 and regions.labels[120, 180] == 1


@pytest.mark.parametrize(("gap", "count"), [(9, 1), (40, 2)])
def test_a_fragment_belongs_to_the_body_beside_it(gap: int, count: int) -> None:
    """A tip of 8 x 20 px behind a shadow, 9 px from a body of 90 px: 10 % of its length; 40 px away it is its own."""
    light = np.zeros(SIZE)
    light[100:130, 50:140] = light[105:125, 140 + gap : 148 + gap] = 120.0
    regions = found_in(light).regions
    assert len(regions) == count
    # An edge may be traced a pixel too far out.
    assert 90 * 30 + 8 * 20 <= regions.areas_px.sum() <= 92 * 32 + 10 * 22 + 40
    assert regions.labels[115, 143 + gap] == count


def test_no_more_regions_than_are_asked_for() -> None:
    """A hundred squares of 7 px; the largest 64 come."""
    light = np.zeros(SIZE)
    for row in range(10):
        for column in range(10):
            light[10 + 22 * row : 17 + 22 * row, 12 + 30 * column : 19 + 30 * column] = 120.0
    light[10:20, 12:24] = 120.0
    regions = found_in(light).regions
    assert len(regions) == 64 and (np.diff(regions.areas_px) <= 0).all()
    np.testing.assert_allclose(regions.boxes_xyxy_px[0], [12, 10, 23, 19], atol=1.5)


# With the background's motion


def turning_sky(own_px: tuple[float, float], side_px: float) -> list[Detections]:
    """Detect a sky that runs by (3, 2) px a frame, with a square of bright stars that moves by more."""
    rng, step, detector, found = np.random.default_rng(3), np.array([3.0, 2.0]), Detector(SegmentationConfig()), []
    field = rng.uniform(20, (280, 200), (25, 2))
    field = field[np.linalg.norm(field - [150, 110], axis=1) > 60]
    layer = Layer(LayerKind.STARS, np.array([[1.0, 0, 3], [0, 1, 2], [0, 0, 1]]), np.zeros((9, 9)), 20, 0.1)
    for index in range(5):
        light = np.zeros(SIZE)
        square = np.array([[150.0, 110.0]]) + side_px / 2 * CROSS + index * (step + own_px)
        for place, height in [(place, 60.0) for place in field + index * step] + [(place, 180.0) for place in square]:
            light += height * np.exp(-((X - place[0]) ** 2 + (Y - place[1]) ** 2) / (2 * SPREAD_PX**2))
        frame = frame_of(light + 12 + rng.normal(0, 2.0, SIZE), index)
        background = Background(0.1, layer, None, layer, "stars") if index else Background()
        found.append(detector.detect(detector.measure(frame), background, None))
    return found


@pytest.mark.parametrize("side_px", [3.0, 5.0])
def test_stars_that_touch_are_a_body_only_where_they_move_against_the_sky(side_px: float) -> None:
    """Four stars: 3 px apart they are one blob, 5 px apart four points, of one body where they move as one."""
    middle, step = np.array([150.0, 110.0]), np.array([3.0, 2.0])
    for own_px, count in (((0.0, 0.0), 0), ((6.0, -5.0), 1)):
        found = turning_sky(own_px, side_px)
        near = (np.abs(found[0].sources.points_px - middle) < 5).all(axis=1).sum()
        assert near == (0 if side_px < 4 else 4), "the stars of the test are seen otherwise"
        assert (found[0].bodies.foreground.sum() > 50) == (side_px < 4)
        for index, each in enumerate(found[3:], 3):
            place = middle + index * (step + own_px)
            np.testing.assert_allclose(each.regions.seeds_px, place[None].repeat(count, axis=0), atol=4)


def test_what_looks_like_sky_but_moves_as_ground_has_no_stars() -> None:
    """Before the motion is known the image is sky by its looks; a dark ocean is ground by its motion."""
    light = np.zeros(SIZE)
    light[40, 40] = light[120, 200] = 600.0
    light[100:130, 50:80] = 120.0
    ground = Layer(LayerKind.GROUND, np.eye(3), np.zeros((9, 9)), 50, 0.1)
    for background, points, regions in ((Background(), 2, 1), (Background(0.1, ground, ground, None, "ground"), 0, 0)):
        detector = Detector(SegmentationConfig())
        found = detector.detect(detector.measure(photographed(light)), background, None)
        assert (found.sources.snr >= 5).sum() == points and len(found.regions) == regions
