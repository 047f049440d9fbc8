"""The one association: which segment is which object, what a miss says, and which segments are parts of objects."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from sparsematch_ros.data import TrackPredictions
from sparsematch_ros.matching.association import Association, associate, place_errors
from sparsematch_ros.segmentation.segments import Segments

Maker = Callable[..., Segments]
SIZE = (120, 200)
CLUTTER = 1e-6  # False segments of each kind [1/px^2].
UNKNOWN = float("nan")


def predicted(
    places: object, sides: object = 11.0, sigma_px: float = 1.0, resolved: object = True, believed: object = True
) -> TrackPredictions:
    """Predict objects that fill squares around their places."""
    centres = np.asarray(places, dtype=np.float64).reshape(-1, 2)
    count = len(centres)
    extents = np.broadcast_to(np.asarray(sides, dtype=np.float64), (count,))
    return TrackPredictions(
        states=np.concatenate([centres, np.zeros((count, 2))], axis=1),
        covariances=np.tile(sigma_px**2 * np.eye(4), (count, 1, 1)),
        boxes_xywh_px=np.concatenate([centres - (extents[:, None] - 1) / 2, np.stack([extents] * 2, axis=1)], axis=1),
        areas_px=extents**2,
        segment_rows=np.arange(count),
        priorities=np.ones(count),
        believed=np.broadcast_to(np.asarray(believed, dtype=bool), (count,)),
        resolved=np.broadcast_to(np.asarray(resolved, dtype=bool), (count,)),
        bodies=np.arange(count),
    )


def joined(*parts: Segments) -> Segments:
    """Put the masks of several segments of one frame together."""
    columns = {item.name: [getattr(part, item.name) for part in parts] for item in fields(Segments)}
    masks = torch.cat(columns.pop("masks"))
    return Segments(masks=masks, **{name: np.concatenate(values) for name, values in columns.items()})


def run(
    predictions: TrackPredictions, segments: Segments, cosines: object = UNKNOWN, fluxes: object = UNKNOWN,
    clutter: float = CLUTTER,
) -> Association:  # fmt: skip
    """Associate with Gaussian densities of the predicted places."""
    shape = (len(predictions), len(segments))
    spreads = place_errors(predictions, segments) + predictions.covariances[:, None, :2, :2]
    apart = segments.centroids_px[None] - predictions.states[:, None, :2]
    densities = np.array(
        [[multivariate_normal.logpdf(apart[i, j], cov=spreads[i, j]) for j in range(shape[1])] for i in range(shape[0])]
    ).reshape(shape)
    return associate(
        predictions, segments, densities, np.broadcast_to(np.asarray(cosines, dtype=np.float64), shape),
        np.broadcast_to(np.asarray(fluxes, dtype=np.float64), (shape[0],)), np.full(shape[1], np.log(clutter)),
    )  # fmt: skip


def star(places: object, points: Maker, **options: object) -> Segments:
    return points(places, SIZE, **options)


def two_points(places: object) -> TrackPredictions:
    return predicted(places, 3.0, resolved=False)


# Who is who


def test_the_likeliest_whole_is_chosen(points: Maker) -> None:
    """One segment lies 1 px from the first object and 2 px from the second, which has another one 9 px off.

    To each its nearest would give both the same; the whole is likeliest with the second segment for the second.
    """
    predictions = predicted([[100, 60], [103, 60]], 3.0, sigma_px=3.0, resolved=False)
    found = run(predictions, star([[101, 60], [112, 60]], points))
    assert found.segment_rows.tolist() == [0, 1]


def test_crossing_masks_are_told_apart_by_appearance(squares: Maker) -> None:
    predictions = predicted([[90, 60], [94, 60]], sigma_px=3.0)
    segments = squares([[91, 60], [93, 60]], size=SIZE)
    crossed = np.array([[0.4, 0.99], [0.99, 0.4]])
    assert run(predictions, segments).segment_rows.tolist() == [0, 1]
    assert run(predictions, segments, crossed).segment_rows.tolist() == [1, 0]


def test_crossing_points_are_told_apart_by_brightness(points: Maker) -> None:
    predictions = predicted([[90, 60], [94, 60]], 3.0, sigma_px=3.0, resolved=False)
    segments = star([[91, 60], [93, 60]], points, fluxes=[4000.0, 500.0])
    assert run(predictions, segments, fluxes=[4000.0, 500.0]).segment_rows.tolist() == [0, 1]
    assert run(predictions, segments, fluxes=[500.0, 4000.0]).segment_rows.tolist() == [1, 0]


def test_crossing_masks_are_told_apart_by_size(squares: Maker) -> None:
    predictions = predicted([[90, 60], [96, 60]], [11.0, 21.0], sigma_px=3.0)
    segments = joined(squares([[92, 60]], 21, SIZE), squares([[94, 60]], 11, SIZE))
    assert run(predictions, segments).segment_rows.tolist() == [1, 0]


def test_a_point_does_not_become_a_body(points: Maker, squares: Maker) -> None:
    predictions = two_points([[100, 60]])
    assert run(predictions, star([[100, 60]], points)).segment_rows.tolist() == [0]
    near = joined(squares([[100, 60]], 31, SIZE), star([[103, 60]], points))
    assert run(predictions, near).segment_rows.tolist() == [1]


@pytest.mark.parametrize(("off_px", "row"), [(0.0, 0), (2.0, 0), (20.0, -1)])
def test_what_lies_far_off_is_another(points: Maker, off_px: float, row: int) -> None:
    """The place is known to 1 px; 20 px off a false segment is likelier, whatever the clutter."""
    for clutter in (1e-4, 1e-7):
        found = run(two_points([[100, 60]]), star([[100 + off_px, 60]], points), clutter=clutter)
        assert found.segment_rows.tolist() == [row]


def test_where_no_density_is_known_nothing_is_assigned(squares: Maker) -> None:
    """As across a gap, even for a mask inside the predicted box."""
    predictions, segments = predicted([[100, 60]]), squares([[100, 60]], size=SIZE)
    none = np.full((1, 1), -np.inf)
    found = associate(predictions, segments, none, np.full((1, 1), UNKNOWN), np.full(1, UNKNOWN), np.full(1, -14.0))
    assert found.segment_rows.tolist() == [-1]


def test_a_centroid_may_leap_inside_a_body_and_no_further(squares: Maker) -> None:
    """Of 61 px, half goes dark: what shows lies 15 px off, 15 standard deviations, and is still the body."""
    predictions = predicted([[100, 60]], 61.0)
    assert run(predictions, squares([[85, 60]], 31, SIZE)).segment_rows.tolist() == [0]
    assert run(predicted([[40, 60]], 31.0), squares([[80, 60]], 31, SIZE)).segment_rows.tolist() == [-1]


@pytest.mark.parametrize(("objects", "found"), [(0, 0), (0, 3), (2, 0)])
def test_empty_sides_are_ordinary(points: Maker, objects: int, found: int) -> None:
    places = [[40, 40], [80, 80], [120, 40]]
    result = run(two_points(places[:objects]), star(places[:found], points))
    assert result.segment_rows.tolist() == [-1] * objects
    assert result.fragments.tolist() == [False] * found
    assert (result.log_ratios < 0).all() and not result.hidden.any()


# What it says


def test_evidence_is_a_ratio_to_clutter(points: Maker) -> None:
    """Ten times less clutter makes a sighting ten times as telling; a miss does not depend on it."""
    predictions, segments = two_points([[100, 60], [40, 40]]), star([[100.5, 60]], points)
    dense, sparse = (run(predictions, segments, clutter=clutter).log_ratios for clutter in (1e-5, 1e-6))
    assert sparse[0] - dense[0] == pytest.approx(np.log(10))
    assert sparse[1] == dense[1] < 0 < dense[0]


def test_evidence_and_chance_fall_with_distance(points: Maker) -> None:
    found = [run(two_points([[100, 60]]), star([[100 + off, 60]], points)) for off in (0.0, 1.0, 2.0, 3.0)]
    ratios, chances = (np.array([getattr(each, name)[0] for each in found]) for name in ("log_ratios", "chances"))
    # The place is known to 1 px and measured to 0.1 px: a Gaussian.
    np.testing.assert_allclose(ratios - ratios[0], -(np.arange(4) ** 2) / 2 / 1.01, atol=1e-9)
    assert (np.diff(chances) < 0).all() and chances[0] > 0.99 and (chances > 0.5).all()


def test_likeness_is_evidence_for_and_against(squares: Maker) -> None:
    predictions, segments = predicted([[100, 60]], 21.0), squares([[100, 60]], 21, SIZE)
    alike, unknown, unlike = (run(predictions, segments, cosine).log_ratios[0] for cosine in (0.99, UNKNOWN, 0.2))
    assert unlike < unknown < alike
    # One measurement of likeness is never proof by itself.
    assert alike - unlike < 6.0


def test_an_area_that_changes_is_evidence_against_but_not_where_the_border_cuts(squares: Maker) -> None:
    """31 px become 15 px, inside the image and at its left border."""
    losses = []
    for x in (100, 15):
        kept = run(predicted([[x, 60]], 31.0), squares([[x, 60]], 31, SIZE)).log_ratios[0]
        changed = run(predicted([[x, 60]], 31.0), squares([[x, 60]], 15, SIZE)).log_ratios[0]
        losses.append(kept - changed)
    assert losses[0] > losses[1] + 1 and losses[0] > 2


# Errors of places


def test_a_mask_that_changes_its_size_has_moved_its_centroid(squares: Maker, points: Maker) -> None:
    """The error is the segment's own where the size stays, and grows with the change; for points it never does."""
    predictions = predicted([[100, 60], [100, 60]], [21.0, 3.0], resolved=[True, False])
    segments = joined(
        *(squares([[100, 60]], side, SIZE) for side in (21, 25, 31)), star([[100, 60]], points, sigma_px=0.2)
    )
    errors = place_errors(predictions, segments)
    assert errors.shape == (2, 4, 2, 2)
    np.testing.assert_allclose(errors[0, 0], 0.09 * np.eye(2))
    np.testing.assert_allclose(errors[0, :, 0, 1], 0)
    excess = errors[0, 1:3, 0, 0] - 0.09
    # 4 px and 10 px more: standard deviations in that ratio, and less than the change itself.
    assert excess[1] / excess[0] == pytest.approx(10**2 / 4**2) and 0 < excess[1] < 10**2
    np.testing.assert_allclose(errors[:, 3], np.tile(0.04 * np.eye(2), (2, 1, 1)))
    np.testing.assert_allclose(errors[1], segments.covariances_px2)


# Crowds and parts


def test_a_small_object_before_a_large_body_stays_its_own(squares: Maker) -> None:
    """11 px before 61 px, both seen: each is itself, and neither a part."""
    predictions = predicted([[100, 60], [110, 60]], [61.0, 11.0])
    found = run(predictions, joined(squares([[100, 60]], 61, SIZE), squares([[111, 60]], 11, SIZE)))
    assert found.segment_rows.tolist() == [0, 1]
    assert not found.fragments[1] and not found.hidden.any()


def test_a_small_object_behind_a_large_body_is_hidden(squares: Maker) -> None:
    """The body alone is seen: the small one is not the body, and its absence says nothing."""
    predictions = predicted([[100, 60], [110, 60]], [61.0, 11.0])
    found = run(predictions, squares([[100, 60]], 61, SIZE))
    assert found.segment_rows.tolist() == [0, -1]
    assert found.hidden.tolist() == [False, True]
    assert found.log_ratios[1] == 0.0
    open_sky = run(predicted([[30, 60]]), squares([[100, 60]], 61, SIZE))
    assert not open_sky.hidden[0] and open_sky.log_ratios[0] < 0


def merged_mask(squares: Maker) -> Segments:
    """Build one mask of 61 x 31 px over two squares of 31 px that touch at (85, 60) and (115, 60)."""
    both = squares([[85, 60]], 31, SIZE).masks | squares([[115, 60]], 31, SIZE).masks
    return replace(
        squares([[100, 60]], 31, SIZE), masks=both, areas_px=np.array([61.0 * 31]),
        boxes_xywh_px=np.array([[70.0, 45, 61, 31]]),
    )  # fmt: skip


def test_one_mask_over_two_objects_is_neither(squares: Maker) -> None:
    """Two of 31 px touch and come as one mask of 61 x 31 px: both are hidden in it, and it is no new object."""
    found = run(predicted([[85, 60], [115, 60]], 31.0), merged_mask(squares))
    assert found.segment_rows.tolist() == [-1, -1] and found.hidden.all() and found.fragments.tolist() == [True]
    np.testing.assert_array_equal(found.log_ratios, 0)


def test_one_mask_over_two_parts_of_one_body_is_one_of_them(squares: Maker) -> None:
    """The same mask over two objects that move as one: one of them takes it, the other is hidden in it."""
    predictions = replace(predicted([[85, 60], [115, 60]], 31.0), bodies=np.zeros(2, dtype=np.int64))
    found = run(predictions, merged_mask(squares))
    assert sorted(found.segment_rows.tolist()) == [-1, 0]
    assert found.hidden.tolist() == (found.segment_rows < 0).tolist()


def test_fragments_of_a_known_body_are_no_objects(squares: Maker, points: Maker) -> None:
    """The body, a panel inside its box, a glint on it, and something beside it: only the last is free to be new."""
    body = predicted([[80, 60]], 61.0)
    segments = joined(
        squares([[80, 60]], 61, SIZE), squares([[95, 70]], 15, SIZE), squares([[140, 60]], 15, SIZE),
        star([[90, 50]], points),
    )  # fmt: skip
    found = run(body, segments)
    assert found.segment_rows.tolist() == [0]
    assert found.fragments.tolist() == [False, True, False, True]


def test_what_is_not_believed_in_claims_no_fragments(squares: Maker) -> None:
    doubtful = predicted([[80, 60]], 61.0, believed=False)
    found = run(doubtful, joined(squares([[80, 60]], 61, SIZE), squares([[95, 70]], 15, SIZE)))
    assert found.fragments.tolist() == [False, False]
    point = predicted([[80, 60], [83, 60]], 3.0, resolved=False)
    assert run(point, squares([[80, 60]], 31, SIZE)).fragments.tolist() == [False]
