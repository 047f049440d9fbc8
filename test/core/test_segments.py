"""A frame's segments: masks and point sources in one form, with centroids, their errors, and what the border cuts."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sparsematch_ros.data import Frame, PromptReason
from sparsematch_ros.detection.bodies import find_bodies
from sparsematch_ros.detection.radiance import measure_radiance
from sparsematch_ros.detection.regions import Regions, find_regions
from sparsematch_ros.detection.sources import Sources, detect_sources
from sparsematch_ros.segmentation.segments import MaskRows, Segments, assemble

SIZE = (96, 128)


def rectangle(left: int, top: int, width: int, height: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return mask


def regions_of(size: tuple[int, int] = SIZE, **known: object) -> Regions:
    nothing = np.zeros(size, dtype=bool)
    return Regions(nothing.astype(np.int32), nothing, nothing, **known)


def rows_of(*masks: torch.Tensor) -> MaskRows:
    count = len(masks)
    figures = torch.linspace(0.9, 0.5, count)
    return MaskRows(torch.stack(masks), figures, figures + 0.05, torch.full((count,), float(PromptReason.BRIGHT)),
                    10 + torch.arange(count), torch.arange(count))  # fmt: skip


def assembled(*masks: torch.Tensor, regions: Regions | None = None, sources: Sources | None = None) -> Segments:
    size = (masks[0].shape[0], masks[0].shape[1])
    known = regions_of(size) if regions is None else regions
    return assemble(rows_of(*masks), Sources() if sources is None else sources, known, 5.0)[0]


# Figures


def test_figures_of_masks_and_points() -> None:
    """Two masks, an empty one that is left out, and two points of which one is faint; owners are of what is left."""
    points = Sources(
        np.array([[5.0, 6.0], [70.0, 80.0]]), np.array([0.2, 0.1]), np.array([99.0, 30.0]), np.array([10.0, 4.0])
    )
    rows = rows_of(rectangle(60, 40, 20, 10), rectangle(0, 0, 0, 0), rectangle(10, 10, 4, 6))
    found, owners = assemble(rows, points, regions_of(), 5.0)
    assert (len(found), found.mask_count, owners.tolist()) == (4, 2, [10, 12])
    assert found.boxes_xywh_px.tolist() == [[60, 40, 20, 10], [10, 10, 4, 6], [4, 5, 3, 3], [69, 79, 3, 3]]
    assert found.centroids_px.tolist() == [[69.5, 44.5], [11.5, 12.5], [5, 6], [70, 80]]
    np.testing.assert_allclose(found.areas_px, [200, 24, np.pi * 9 / 4, np.pi * 9 / 4])
    np.testing.assert_allclose(found.scores[:2], [0.9, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.stability, [0.95, 0.55, 1, 1], atol=1e-6)
    assert found.reasons.tolist() == [PromptReason.BRIGHT] * 2 + [PromptReason.POINT_SOURCE] * 2
    np.testing.assert_array_equal(found.fluxes, [np.nan, np.nan, 99, 30])
    assert found.faint.tolist() == [False, False, False, True]
    assert np.isnan(found.moving_shares).all() and (found.offsets_px == 0).all()
    np.testing.assert_allclose(found.covariances_px2[2:], [0.04 * np.eye(2), 0.01 * np.eye(2)])
    np.testing.assert_array_equal(found.mobilities, np.tile(np.eye(2), (4, 1, 1)))
    # The stronger a point, the surer, and never quite.
    assert 0 < found.scores[3] < found.scores[2] < 1


def test_a_smeared_point_has_the_box_of_its_streak() -> None:
    streak = Sources(np.array([[50.0, 40.0]]), np.ones(1), np.ones(1), np.ones(1), np.array([8.0, -4.0]))
    found = assembled(rectangle(0, 0, 0, 0), sources=streak)
    assert found.boxes_xywh_px.tolist() == [[45.0, 37.0, 11.0, 7.0]]
    np.testing.assert_allclose(found.boxes_xywh_px[0, :2] + (found.boxes_xywh_px[0, 2:] - 1) / 2, [50, 40])


def test_nothing_to_assemble() -> None:
    rows = MaskRows.empty(SIZE, torch.device("cpu"))
    found, owners = assemble(MaskRows.join([rows, rows]), Sources(), regions_of(), 5.0)
    assert (len(found), found.masks.shape, owners.shape) == (0, (0, *SIZE), (0,))


def test_moving_shares_are_those_of_the_pixels_that_no_layer_explains() -> None:
    evidence = np.zeros(SIZE, dtype=np.float32)
    evidence[:, 64:] = 50.0
    regions = regions_of(evidence=evidence)
    masks = [rectangle(70, 10, 10, 10), rectangle(54, 30, 20, 10), rectangle(10, 10, 10, 10)]
    point = Sources(np.array([[80.0, 80.0]]), np.ones(1), np.ones(1), np.full(1, 9.0))
    np.testing.assert_allclose(assembled(*masks, regions=regions, sources=point).moving_shares, [1, 0.5, 0, np.nan])


def test_what_may_be_a_ghost_is_more_likely_fixed_on_the_detector() -> None:
    """By the region that a mask holds most of; without any it may be one; a point may be a hot pixel."""
    labels = np.zeros(SIZE, dtype=np.int32)
    labels[10:30, 10:30], labels[10:30, 30:40], labels[60:80, 60:80] = 1, 2, 2
    boxes = np.array([[10.0, 10, 29, 29], [30, 10, 79, 79]])
    regions = regions_of(boxes_xyxy_px=boxes, cores_xyxy_px=boxes, seeds_px=np.zeros((2, 2)), areas_px=np.ones(2),
                         solid=np.array([True, False]))  # fmt: skip
    regions = replace(regions, labels=labels)
    point = Sources(np.array([[50.0, 80.0]]), np.ones(1), np.ones(1), np.full(1, 9.0))
    masks = [rectangle(10, 10, 25, 20), rectangle(60, 60, 20, 20)]
    solid, ghost, hot = assembled(*masks, regions=regions, sources=point).fixed_priors
    assert solid < 0.01 < ghost < 0.5 and 0 < hot < 0.5
    assert assembled(*masks).fixed_priors.tolist() == [ghost, ghost]


def test_rows_are_joined_and_taken_together() -> None:
    first, second = rows_of(rectangle(1, 1, 2, 2), rectangle(3, 3, 2, 2)), rows_of(rectangle(5, 5, 2, 2))
    both = MaskRows.join([first, second]).take(torch.tensor([2, 0]))
    assert both.owners.tolist() == [10, 10] and both.prompts.tolist() == [0, 0]
    assert torch.equal(both.masks, torch.stack([rectangle(5, 5, 2, 2), rectangle(1, 1, 2, 2)]))
    assert first.take(torch.tensor([False, True])).owners.tolist() == [11]


@pytest.mark.parametrize(
    "change",
    [{"masks": torch.zeros((4, *SIZE), dtype=torch.bool)}, {"boxes_xywh_px": np.zeros((1, 4))},
     {"covariances_px2": np.zeros((3, 2))}, {"fluxes": np.zeros(4)}, {"faint": np.zeros((3, 1), dtype=bool)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_columns_that_do_not_agree_are_refused(change: dict[str, object]) -> None:
    three = assembled(rectangle(1, 1, 5, 5), rectangle(20, 20, 5, 5), rectangle(40, 40, 5, 5))
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(three, **change)


# Centroids against truth


def disc_image(centre: tuple[float, float], radius: float, level: float, rng: np.random.Generator) -> Frame:
    """Render a disc, each pixel from 8 x 8 samples, blurred by 1 px, over a noisy sky."""
    y, x = (np.indices((8 * SIZE[0], 8 * SIZE[1])) + 0.5) / 8 - 0.5
    fine = (np.hypot(x - centre[0], y - centre[1]) <= radius).astype(np.float32)
    light = cv2.GaussianBlur(level * cv2.resize(fine, SIZE[::-1], interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    image = np.clip(np.rint(8 + light + rng.normal(0, 1.2, SIZE)), 0, 255).astype(np.uint8)
    return Frame(0, 0, np.repeat(image[..., None], 3, axis=2))


def test_centroids_are_as_good_as_stated() -> None:
    """24 discs at places between pixels, detected by their brightness: mean squared error under that stated.

    The largest of 24 normalised squared errors of two axes stays under 15, which one in 80 sets of true Gaussians
    exceeds; weights by contrast are better than the mask's pixels alone.
    """
    rng, errors, plain, normalised = np.random.default_rng(0), [], [], []
    for _ in range(24):
        centre = np.array([rng.uniform(35, 92), rng.uniform(35, 60)])
        frame = disc_image((centre[0], centre[1]), rng.uniform(7, 20), rng.uniform(60, 200), rng)
        radiance = measure_radiance(frame)
        sources, lit = detect_sources(radiance, frame.levels, 5.0, 100)
        bodies = find_bodies(radiance, lit)
        regions = find_regions(radiance, frame.levels, bodies, sources, None, True, 16)
        found = assembled(torch.from_numpy((regions.labels == 1) & regions.foreground), regions=regions)
        error = found.centroids_px[0] - centre
        errors.append(error)
        plain.append(error + found.offsets_px[0])
        normalised.append(error @ np.linalg.solve(found.covariances_px2[0], error))
    assert np.sqrt(np.mean(np.square(errors))) < 0.1
    assert np.mean(normalised) < 2.0 and np.max(normalised) < 15.0
    assert np.square(errors).mean() < np.square(plain).mean()


def test_centroids_lean_to_where_the_contrast_is() -> None:
    """The right half stands out a hundred times more; the offset leads back to the mask's own centroid."""
    contrast = np.full(SIZE, 5.0, dtype=np.float32)
    contrast[:, 50:] = 500.0
    found = assembled(rectangle(40, 40, 20, 10), regions=regions_of(contrast=contrast))
    assert found.centroids_px[0, 0] > 50.5
    np.testing.assert_allclose(found.centroids_px[0, 1], 44.5, atol=1e-6)
    np.testing.assert_allclose(found.centroids_px + found.offsets_px, [[49.5, 44.5]])
    even = assembled(rectangle(40, 40, 20, 10), regions=regions_of(contrast=np.full(SIZE, 9.0, dtype=np.float32)))
    np.testing.assert_allclose(even.centroids_px, [[49.5, 44.5]], atol=1e-5)
    dark = assembled(rectangle(40, 40, 20, 10), regions=regions_of(contrast=np.zeros(SIZE, dtype=np.float32)))
    np.testing.assert_allclose(dark.centroids_px, [[49.5, 44.5]])


def test_errors_grow_with_size() -> None:
    """SAM's masks of large bodies change from frame to frame by a share of their size."""
    found = assembled(rectangle(400, 400, 9, 9, (900, 900)), rectangle(100, 100, 700, 700, (900, 900)))
    small, large = found.covariances_px2
    assert 0 < small[0, 0] < large[0, 0] and (small[0, 1], large[0, 1]) == (0, 0)


def test_errors_before_the_ground_are_larger_than_before_the_sky() -> None:
    """SAM alone marks an edge over the ground, to some percent of a mask's size; the sky marks it to a pixel.

    Beside the sky on one of four equal sides, a mask is between both.
    """
    mask, sky, quarter = rectangle(40, 30, 31, 31), np.ones(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    quarter[:, :40] = True
    spreads = []
    for each in (sky, quarter, ~sky):
        found = assembled(mask, regions=replace(regions_of(), sky=each)).covariances_px2[0]
        np.testing.assert_array_equal(found, found[0, 0] * np.eye(2))
        spreads.append(np.sqrt(found[0, 0]))
    assert spreads[0] < spreads[1] < spreads[2]
    assert spreads[0] < 0.1 and 0.01 * 31 < spreads[2] < 0.1 * 31


@pytest.mark.parametrize(("shown", "share"), [(0, np.nan), (10, np.nan), (100, 0.6), (200, 0.6)])
def test_the_motion_of_few_pixels_tells_nothing_of_a_mask(shown: int, share: float) -> None:
    """Of 200 px so many would show a motion, of which three in five do."""
    values = np.full(200, np.nan, dtype=np.float32)
    values[:shown] = 0.0
    values[: shown * 3 // 5] = 50.0
    evidence = np.full(SIZE, 50.0, dtype=np.float32)
    evidence[30:40, 20:40] = values.reshape(10, 20)
    found = assembled(rectangle(20, 30, 20, 10), regions=regions_of(evidence=evidence)).moving_shares
    np.testing.assert_allclose(found, [share])


# What the border cuts


def shape(name: str, place: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    y, x = np.indices(size)
    x, y = x - place[0], y - place[1]
    drawn = {
        "rectangle": (np.abs(x) <= 30) & (np.abs(y) <= 20),
        "disc": np.hypot(x, y) <= 40,
        "triangle": (np.abs(x) <= 40) & (np.abs(y) <= (x + 40) / 2),
    }[name]
    return torch.from_numpy(drawn)


@pytest.mark.parametrize("name", ["rectangle", "disc", "triangle"])
@pytest.mark.parametrize(
    "place",
    [(160, 120), (10, 120), (310, 120), (160, 10), (160, 230), (8, 12), (312, 228), (20, 225)],
    ids=["inside", "left", "right", "top", "bottom", "top left", "bottom right", "bottom left"],
)
def test_mobility_is_how_far_a_cut_mask_moves_with_its_body(name: str, place: tuple[int, int]) -> None:
    """Bodies of 60 to 80 px, cut or whole, moved by 2 px there and back along each axis: the centroid of what is left.

    Masks are of whole pixels, hence 0.12.
    """
    size, middle = (240, 320), np.array(place, dtype=np.float64)
    measured = np.zeros((2, 2))
    for axis in range(2):
        step = 2.0 * np.eye(2)[axis]
        ahead, behind = (assembled(shape(name, middle + sign * step, size)).centroids_px[0] for sign in (1, -1))
        measured[:, axis] = (ahead - behind) / 4
    found = assembled(shape(name, middle, size)).mobilities[0]
    np.testing.assert_allclose(found, measured, atol=0.12)
    if place == (160, 120):
        np.testing.assert_array_equal(found, np.eye(2))
    else:
        assert np.abs(found - np.eye(2)).max() > 0.2


def test_a_mask_that_fills_the_image_does_not_move_at_all() -> None:
    found = assembled(rectangle(0, 0, 128, 96))
    np.testing.assert_allclose(found.mobilities[0], np.zeros((2, 2)), atol=1e-9)
