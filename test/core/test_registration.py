"""Displacements from pixels: polygons drawn with known motion, and pictures that must not be taken for motion."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.matching.registration import Registration, outlined, register, with_registration
from sparsematch_ros.matching.segments import no_matches
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.sky import Sky

from sparsematch_ros.data import EgoMotion, Matches, Segments

Maker = Callable[..., Segments]
SIZE, SKY, FINE = (96, 128), 10.0, 8
# A slab with a nose, about its middle [px].
SHAPE = np.array([[-12.0, -6], [9, -8], [14, 1], [6, 8], [-11, 7]])
NO_POINTS = np.zeros(0, dtype=np.int64)
# The background rolls by 1.1 deg about the image's corner, comes 0.2 % nearer, and runs.
ROLLED = np.array([[1.0018, -0.02, 2.3], [0.02, 1.0018, -1.7], [2e-6, -1e-6, 1.0]])


def drawn(*polygons: np.ndarray, level: float = 120.0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Light convex polygons `(N, 2)` before a sky, sampled 8 x 8 times a pixel and blurred by 0.8 px; float levels."""
    lit = np.zeros((FINE * size[0], FINE * size[1]), dtype=bool)
    for polygon in polygons:
        first = np.maximum(FINE * (np.floor(polygon.min(axis=0)).astype(int) - 1), 0)
        last = np.minimum(FINE * (np.ceil(polygon.max(axis=0)).astype(int) + 2), lit.shape[::-1])
        x, y = ((np.arange(*ends) + 0.5) / FINE - 0.5 for ends in zip(first, last, strict=True))
        inside = np.ones((len(y), len(x)), dtype=bool)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            inside &= (x1 - x0) * (y - y0)[:, None] - (y1 - y0) * (x - x0)[None] > 0
        lit[first[1] : last[1], first[0] : last[0]] |= inside
    share = lit.reshape(size[0], FINE, size[1], FINE).mean(axis=(1, 3))
    return SKY + cv2.GaussianBlur(level * share, (0, 0), 0.8)


def taken(light: np.ndarray, rng: np.random.Generator | None = None, noise: float = 0.0) -> np.ndarray:
    """Expose a picture: noise, rounding to 8 bits, and what registration makes of it."""
    levels = light if rng is None else light + rng.normal(0, noise, light.shape)
    return outlined(np.rint(levels).clip(0, 255).astype(np.uint8), SKY)


def segments_of(*masks: np.ndarray) -> Segments:
    count = len(masks)
    ones = torch.ones(count)
    stack = torch.from_numpy(np.stack(masks)) if count else torch.zeros((0, *SIZE), dtype=torch.bool)
    return assemble(MaskRows(stack, ones, ones, ones, ones.long()), Sky(dark=True), NO_POINTS, EgoMotion())[0]


def bright(light: np.ndarray) -> np.ndarray:
    return light > SKY + 60


def shape_at(place: object, growth: float = 1.0) -> np.ndarray:
    return np.asarray(place) + growth * SHAPE


def carried(polygon: np.ndarray, step: object, growth: float, homography: np.ndarray) -> np.ndarray:
    """Grow a polygon about its middle, carry it with the background, and move it by its own step."""
    middle = polygon.mean(axis=0)
    return apply_homography(homography, middle + growth * (polygon - middle)) + np.asarray(step)


def matched(before: Segments, after: Segments, motion: EgoMotion) -> Matches:
    """Pair segments in their order, with the displacements of the centroids."""
    rows, none = np.arange(len(before)), no_matches()
    moved = after.centroids_px - apply_homography(motion.homography, before.centroids_px)
    ones, wide = np.ones(len(rows)), np.repeat(np.eye(2)[None], len(rows), axis=0)
    return replace(
        none, previous=rows, current=rows, cosine=ones, bidirectional=ones, displacement_px=moved,
        velocity_px_s=moved / motion.dt_s, velocity_covariance=wide, registered=np.zeros(len(rows), dtype=bool),
    )  # fmt: skip


# What is measured


@pytest.mark.parametrize("homography", [np.eye(3), ROLLED], ids=["still", "rolled"])
@pytest.mark.parametrize(("level", "gain"), [(120, 1.0), (120, 0.7), (120, 1.4), (28, 0.7), (28, 1.4)])
@pytest.mark.parametrize("step", [(0.0, 0.0), (0.37, -0.81), (-1.62, 0.55)])
def test_displacement_to_a_twentieth_of_a_pixel(
    homography: np.ndarray, level: float, gain: float, step: tuple[float, float]
) -> None:
    """The centroids' displacement, where it starts, is 1 px off. Of 44 levels and more the outline counts alone."""
    before = shape_at((60.3, 47.8))
    after = carried(before, step, 1.0, homography)
    old, new = drawn(before, level=level), drawn(after, level=level * gain)
    segments = segments_of(bright(drawn(before)))
    guess = np.array([step]) + np.array([0.7, -0.7])
    found = register((taken(old), taken(new)), segments, np.array([0]), guess, homography)
    assert found.known.tolist() == [True]
    np.testing.assert_allclose(found.displacements_px[0], step, atol=0.05)
    error = found.displacements_px[0] - step
    assert error @ np.linalg.solve(found.covariances_px2[0], error) < chi2.ppf(0.95, 2)


@pytest.mark.parametrize("growth", [0.97, 1.03, 1.06])
def test_growth_moves_no_middle(growth: float) -> None:
    """Of an object that comes nearer the middle's displacement counts, not the edges', which run 0.8 px."""
    before, step = shape_at((60.3, 47.8)), np.array([0.6, 0.25])
    old, new = drawn(before), drawn(carried(before, step, growth, np.eye(3)))
    segments = segments_of(bright(old))
    middle = before.mean(axis=0)
    # The displacement is that of the point of the object that is the mask's centroid.
    truth = step + (growth - 1) * (segments.centroids_px[0] - middle)
    found = register((taken(old), taken(new)), segments, np.array([0]), truth[None] + 0.5, np.eye(3))
    np.testing.assert_allclose(found.displacements_px[0], truth, atol=0.05)


@pytest.mark.parametrize("breath", [-1, 1])
def test_a_mask_that_breathes_says_the_same(breath: int) -> None:
    """SAM's mask of one frame is a pixel wider or narrower on one side: the picture is the same, so is its motion."""
    before, step = shape_at((60.3, 47.8)), np.array([0.6, -0.35])
    old, new = drawn(before), drawn(before + step)
    mask = bright(old)
    shifted = np.roll(mask, 1, axis=1)
    breathing = mask | shifted if breath > 0 else mask & shifted
    first, second = segments_of(breathing), segments_of(bright(new))
    motion = EgoMotion(np.eye(3), "telemetry", True, 0.1)
    by_centroid = matched(first, second, motion)
    assert abs(by_centroid.displacement_px[0, 0] - step[0]) > 0.3, "the test's mask does not breathe"
    by_picture = with_registration(by_centroid, (first, second), (taken(old), taken(new)), motion)
    assert by_picture.registered.tolist() == [True]
    np.testing.assert_allclose(by_picture.displacement_px[0], step, atol=0.05)
    np.testing.assert_allclose(by_picture.velocity_px_s, by_picture.displacement_px / 0.1)


@pytest.mark.parametrize(
    ("level", "noise", "change"),
    [(120, 1.0, 0.0), (120, 12.0, 0.0), (120, 2.0, 0.01), (120, 2.0, 0.03), (25, 4.0, 0.0)],
)
def test_errors_are_as_large_as_stated(level: float, noise: float, change: float) -> None:
    """100 draws of step, noise and change of shape: from 85 % to all errors in the 95 % ellipse."""
    rng, inside, errors = np.random.default_rng(7), [], []
    places = np.stack(np.meshgrid([30.0, 98], [24.0, 72]), axis=-1).reshape(-1, 2)
    for _ in range(25):
        before = [shape_at(place + rng.uniform(-0.5, 0.5, 2)) for place in places]
        old = drawn(*before, level=level)
        segments = segments_of(*(bright(drawn(polygon)) for polygon in before))
        maps = np.eye(2) + rng.normal(0, change, (4, 2, 2))
        steps = rng.uniform(-1.5, 1.5, (4, 2))
        after = [
            centre + (polygon - centre) @ matrix.T + step
            for polygon, centre, matrix, step in zip(before, segments.centroids_px, maps, steps, strict=True)
        ]
        pictures = taken(old, rng, noise), taken(drawn(*after, level=level), rng, noise)
        guesses = steps + rng.normal(0, 0.4, steps.shape)
        found = register(pictures, segments, np.arange(4), guesses, np.eye(3))
        assert found.known.all()
        error = found.displacements_px - steps
        errors.append(error)
        solved = np.linalg.solve(found.covariances_px2, error[..., None])[..., 0]
        inside.extend((error * solved).sum(axis=1) < chi2.ppf(0.95, 2))
    assert 0.85 <= np.mean(inside) <= 1.0
    assert np.abs(np.concatenate(errors).mean(axis=0)).max() < 0.03  # No bias.


def test_along_a_bar_less_is_known_than_across() -> None:
    """60 x 6 px, faint: ten times as much edge says how far it went across; the covariance knows, and covers both."""
    rng, bar = np.random.default_rng(11), np.array([[34.2, 45.4], [94.2, 45.4], [94.2, 51.4], [34.2, 51.4]])
    segments, step, errors, stated = segments_of(bright(drawn(bar))), np.array([0.3, -0.4]), [], []
    old, new = drawn(bar, level=25), drawn(bar + step, level=25)
    for _ in range(60):
        pictures = taken(old, rng, 4.0), taken(new, rng, 4.0)
        found = register(pictures, segments, np.array([0]), step[None], np.eye(3))
        assert found.known.all()
        errors.append(found.displacements_px[0] - step)
        stated.append(found.covariances_px2[0])
    variance, said = np.mean(np.square(errors), axis=0), np.mean(stated, axis=0)
    assert variance[0] > 3 * variance[1]
    assert said[0, 0] > 1.15 * said[1, 1]  # The floor for objects that turn, equal on both axes, is most of it.
    solved = np.linalg.solve(np.stack(stated), np.stack(errors)[..., None])[..., 0]
    assert np.mean((np.stack(errors) * solved).sum(axis=1) < chi2.ppf(0.95, 2)) >= 0.85


def test_the_backgrounds_error_is_part_of_the_covariance() -> None:
    """Ten points that agree to 0.5 px fix the background to 0.5 px x sqrt(4 / 10)."""
    before = shape_at((60.3, 47.8))
    old, new = drawn(before), drawn(before + np.array([0.5, 0.2]))
    parts, pictures = (segments_of(bright(old)), segments_of(bright(new))), (taken(old), taken(new))
    known = EgoMotion(np.eye(3), "telemetry", True, 0.1)
    unsure = EgoMotion(np.eye(3), "features", True, 0.1, inliers=10, residual_px=0.5)
    surer, wider = (with_registration(matched(*parts, motion), parts, pictures, motion) for motion in (known, unsure))
    added = (wider.velocity_covariance - surer.velocity_covariance)[0] * 0.1**2
    np.testing.assert_allclose(added, 0.25 * 0.4 * np.eye(2), rtol=1e-6, atol=1e-9)


# What is refused


def test_something_bright_at_the_rim_is_refused() -> None:
    """A second body 2 px beside it, even one that moves alike: the segment is not alone. Without it, it is measured."""
    body, step = shape_at((50.0, 48.0)), np.array([0.4, 0.4])
    other = np.array([[66.0, 30], [100, 30], [100, 66], [66, 66]])
    segments = segments_of(bright(drawn(body)))
    for bodies, known in (([body], True), ([body, other], False)):
        pictures = taken(drawn(*bodies)), taken(drawn(*(each + step for each in bodies)))
        found = register(pictures, segments, np.array([0]), step[None], np.eye(3))
        assert found.known.tolist() == [known]
        assert np.isfinite(found.displacements_px).all() == known


@pytest.mark.parametrize("what", ["nothing", "another shape", "far off"])
def test_another_picture_is_no_motion(what: str) -> None:
    body = shape_at((60.0, 48.0))
    pictures = {
        "nothing": np.full(SIZE, SKY),
        "another shape": drawn(np.array([[58.0, 20], [62, 20], [62, 76], [58, 76]])),
        "far off": drawn(body + np.array([14.0, 9])),
    }
    segments = segments_of(bright(drawn(body)))
    found = register((taken(drawn(body)), taken(pictures[what])), segments, np.array([0]), np.zeros((1, 2)), np.eye(3))
    assert found.known.tolist() == [False]


def test_what_lies_far_from_where_it_started_is_refused() -> None:
    """Where the two disagree by more than 2 px and 0.15 of the size, 18 px, it may be another of the same shape."""
    body = shape_at((60.0, 48.0))
    segments, size = segments_of(bright(drawn(body))), np.sqrt(bright(drawn(body)).sum())
    for off, known in ((0.8, True), (1.1, False)):
        step = off * (2.0 + 0.15 * size) * np.array([0.6, 0.8])
        found = register(
            (taken(drawn(body)), taken(drawn(body + step))), segments, np.array([0]), np.zeros((1, 2)), np.eye(3)
        )
        assert found.known.tolist() == [known]


def test_masks_that_the_border_cuts_are_left_alone() -> None:
    """One body leaves through the left border, one is whole: only that one is registered, the other keeps its match."""
    bodies, step = [shape_at((8.0, 30.0)), shape_at((80.0, 60.0))], np.array([-0.5, 0.3])
    old, new = drawn(*bodies), drawn(*(body + step for body in bodies))
    first = segments_of(*(bright(drawn(body)) for body in bodies))
    second = segments_of(*(bright(drawn(body + step)) for body in bodies))
    motion = EgoMotion(np.eye(3), "telemetry", True, 0.1)
    given = matched(first, second, motion)
    found = with_registration(given, (first, second), (taken(old), taken(new)), motion)
    assert found.registered.tolist() == [False, True]
    np.testing.assert_array_equal(found.displacement_px[0], given.displacement_px[0])
    np.testing.assert_array_equal(found.velocity_covariance[0], given.velocity_covariance[0])
    np.testing.assert_allclose(found.displacement_px[1], step, atol=0.05)
    assert not given.registered.any()  # What was given is as it was.


def test_a_point_source_is_left_alone(points: Maker) -> None:
    sources = points([[40, 40]], SIZE), points([[41, 40]], SIZE)
    motion = EgoMotion(np.eye(3), "telemetry", True, 0.1)
    picture = taken(drawn(np.array([[39.0, 39], [42, 39], [42, 42], [39, 42]])))
    found = with_registration(matched(*sources, motion), sources, (picture, picture), motion)
    assert found.registered.tolist() == [False]
    np.testing.assert_allclose(found.displacement_px, [[1, 0]])


def test_no_rows_are_ordinary() -> None:
    picture, none = taken(np.full(SIZE, SKY)), segments_of()
    found = register((picture, picture), none, NO_POINTS, np.zeros((0, 2)), np.eye(3))
    assert found.displacements_px.shape == (0, 2) and found.covariances_px2.shape == (0, 2, 2)
    assert isinstance(found, Registration) and found.known.shape == (0,)
    motion = EgoMotion(np.eye(3), "telemetry", True, 0.1)
    assert len(with_registration(no_matches(), (none, none), (picture, picture), motion).previous) == 0


def test_the_outline_is_cut_to_a_level_and_the_sky_to_nothing() -> None:
    """What is within 4 levels of the sky is black, what is 44 above it or more is as bright as it gets."""
    gray = np.array([10, 14, 34, 54, 250], dtype=np.uint8).repeat(40)[None].repeat(40, axis=0)
    levels = outlined(gray, 10.0)[20, 20::40]
    assert levels[0] == levels[1] == 0 and levels[3] == levels[4]
    assert levels[2] == pytest.approx(levels[4] / 2, abs=1)
