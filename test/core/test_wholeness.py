"""One known object alone: parts that SAM gives are joined to what is bright there; everything else stays as it is."""

import numpy as np
import pytest
import torch
from sparsematch_ros.segmentation.assembly import MaskRows
from sparsematch_ros.segmentation.wholeness import lone_objects, regions_of, with_whole_objects
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Expectations

SIZE = (120, 200)
# A bus and two panels, with gaps of 12 px that lie in shadow: columns and rows of each [px].
BUS, LEFT, RIGHT = ((60, 80), (40, 70)), ((20, 48), (48, 62)), ((92, 120), (48, 62))
WHOLE_BOX = (20.0, 40.0, 100.0, 30.0)


def lit(*parts: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """Say where parts are, `(H, W)` bool; the ends do not count."""
    mask = np.zeros(SIZE, dtype=bool)
    for (left, right), (top, bottom) in parts:
        mask[top:bottom, left:right] = True
    return mask


def sky_of(*parts: tuple[tuple[int, int], tuple[int, int]]) -> Sky:
    """Survey a picture of sharp bright parts."""
    return survey_sky(np.where(lit(*parts), 150, 8).astype(np.uint8), SegmentationConfig(), 100)


def expected(*boxes: tuple[float, ...], worth: object = 1.0, resolved: object = True) -> Expectations:
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    return Expectations(
        states=np.concatenate([corners[:, :2] + corners[:, 2:] / 2, np.zeros((count, 2))], axis=1),
        covariances=np.repeat(np.eye(4)[None], count, axis=0),
        boxes_xywh_px=corners,
        areas_px=corners[:, 2:].prod(axis=1),
        segment_rows=np.full(count, -1),
        worth=np.broadcast_to(np.asarray(worth, dtype=np.float64), (count,)),
        resolved=np.broadcast_to(np.asarray(resolved, dtype=bool), (count,)),
    )


def rows_of(*masks: np.ndarray) -> MaskRows:
    """Give masks that SAM scores 0.9, 0.8 and so on."""
    if not masks:
        return MaskRows.empty(SIZE, torch.device("cpu"))
    count = len(masks)
    scores = 0.9 - 0.1 * torch.arange(count)
    return MaskRows(torch.from_numpy(np.stack(masks)), scores, torch.ones(count), torch.ones(count),
                    torch.arange(count))  # fmt: skip


def regions(sky: Sky) -> list[tuple[float, ...]]:
    return [tuple(box) for box in sky.boxes_xyxy_px]


# Who is alone, and which regions are whose


def test_the_test_has_three_regions() -> None:
    assert len(regions(sky_of(BUS, LEFT, RIGHT))) == 3


def test_all_regions_in_a_box_are_its() -> None:
    sky = sky_of(BUS, LEFT, RIGHT, ((150, 190), (20, 100)))
    members = regions_of(sky, np.array([WHOLE_BOX, (145.0, 15.0, 50.0, 90.0)]))
    in_first = [box[0] < 130 for box in regions(sky)]
    assert members[:, 0].tolist() == in_first and sum(in_first) == 3
    assert members[:, 1].tolist() == [not each for each in in_first]


@pytest.mark.parametrize(("shift", "belongs"), [(0.0, True), (4.0, True), (10.0, True), (16.0, False)])
def test_a_region_that_reaches_out_belongs_to_another(shift: float, belongs: bool) -> None:
    """The left panel of 28 px and its blur, where the object is expected `shift` px narrower on that side.

    4 px outside of the box are granted, and of the region 70 % must be inside: 10 px leave 23 of 29, 16 px leave 17.
    SAM gives the bus.
    """
    left, top, width, height = WHOLE_BOX
    known = expected((left + shift, top, width - shift, height))
    (mask,) = with_whole_objects(rows_of(lit(BUS)), sky_of(BUS, LEFT, RIGHT), known).masks.numpy()
    assert mask[lit(LEFT)].all() if belongs else not mask[lit(LEFT)].any()
    assert mask[lit(RIGHT)].all()


@pytest.mark.parametrize(
    ("boxes", "worth", "resolved", "alone"),
    [
        ((WHOLE_BOX, (115.0, 50.0, 40.0, 40.0)), 1.0, True, []),  # Another one reaches into it.
        ((WHOLE_BOX, (115.0, 50.0, 40.0, 40.0)), [1.0, 0.1], True, []),  # However little that is believed in.
        ((WHOLE_BOX, (115.0, 50.0, 40.0, 40.0)), 1.0, [True, False], [0]),  # A point source does not count.
        ((WHOLE_BOX, (150.0, 20.0, 40.0, 80.0)), 1.0, True, [0, 1]),  # Each for itself.
        ((WHOLE_BOX,), 0.3, True, []),  # Not believed in.
        ((WHOLE_BOX,), 1.0, False, []),  # A point source has no parts.
        ((), 1.0, True, []),
    ],
)
def test_believed_resolved_objects_that_nobody_meets_are_alone(
    boxes: tuple[tuple[float, ...], ...], worth: object, resolved: object, alone: list[int]
) -> None:
    assert lone_objects(expected(*boxes, worth=worth, resolved=resolved)).tolist() == alone


def test_a_sky_without_regions_is_ordinary() -> None:
    assert regions_of(Sky(dark=True), np.array([WHOLE_BOX])).shape == (0, 1)


# Joined masks


def test_parts_of_a_lone_object_become_the_whole() -> None:
    """SAM gives bus and left panel as two masks and misses the right panel: one mask of all three comes out."""
    rows = with_whole_objects(rows_of(lit(BUS), lit(LEFT)), sky_of(BUS, LEFT, RIGHT), expected(WHOLE_BOX))
    assert len(rows.masks) == 1 and rows.masks.dtype == torch.bool
    truth, found = lit(BUS, LEFT, RIGHT), rows.masks[0].numpy()
    assert (truth & found).sum() / (truth | found).sum() > 0.85  # The silhouettes are up to a pixel wider.
    assert (truth & ~found).sum() == 0
    assert rows.owners.tolist() == [0] and rows.scores.tolist() == pytest.approx([0.9])  # As the bus, the larger part.


def test_what_belongs_to_nobody_stays_as_it_is() -> None:
    """A planet's limb elsewhere, and a mask mostly outside of the object, are neither joined nor dropped."""
    limb, across = lit(((150, 190), (20, 100))), lit(((40, 200), (30, 118)))
    rows = with_whole_objects(rows_of(limb, lit(BUS), across, lit(LEFT)), sky_of(BUS, LEFT, RIGHT), expected(WHOLE_BOX))
    assert rows.owners.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(rows.masks[0], limb)
    np.testing.assert_array_equal(rows.masks[2], across)
    assert (rows.masks[1].numpy() & lit(RIGHT)).sum() == lit(RIGHT).sum()


def test_what_a_mask_holds_beyond_the_bright_is_kept() -> None:
    """A dark boom from the bus down, of which SAM knows: it stays part of the whole."""
    boom = lit(((66, 72), (70, 82)))
    rows = with_whole_objects(rows_of(lit(BUS) | boom), sky_of(BUS, LEFT, RIGHT), expected(WHOLE_BOX))
    assert rows.masks[0].numpy()[boom].all()


def test_a_mask_of_the_whole_needs_nothing() -> None:
    given = rows_of(lit(BUS, LEFT, RIGHT), lit(LEFT))
    assert with_whole_objects(given, sky_of(BUS, LEFT, RIGHT), expected(WHOLE_BOX)) is given


@pytest.mark.parametrize(
    "known",
    [
        expected(),
        expected(WHOLE_BOX, worth=0.2),
        expected(WHOLE_BOX, (70.0, 50.0, 60.0, 40.0)),
        expected((150.0, 20.0, 40.0, 80.0)),
    ],
    ids=["nobody", "not believed", "two together", "elsewhere"],
)
def test_without_a_lone_object_the_masks_stay(known: Expectations) -> None:
    given = rows_of(lit(BUS), lit(LEFT))
    assert with_whole_objects(given, sky_of(BUS, LEFT, RIGHT), known) is given


def test_no_masks_and_no_regions_are_ordinary() -> None:
    none, given = rows_of(), rows_of(lit(BUS))
    assert with_whole_objects(none, sky_of(BUS, LEFT, RIGHT), expected(WHOLE_BOX)) is none
    assert with_whole_objects(given, Sky(dark=True), expected(WHOLE_BOX)) is given


def test_two_objects_apart_are_each_made_whole() -> None:
    """Two bodies of two parts each; SAM gives one part of each: two masks, each of its own two."""
    first = (((20, 50), (20, 40)), ((20, 50), (52, 72)))
    second = (((120, 150), (20, 40)), ((120, 150), (52, 72)))
    given = rows_of(lit(first[0]), lit(second[1]))
    rows = with_whole_objects(given, sky_of(*first, *second), expected((20, 20, 30, 52), (120, 20, 30, 52)))
    assert rows.owners.tolist() == [0, 1]
    for mask, parts in zip(rows.masks.numpy(), (first, second), strict=True):
        truth = lit(*parts)
        assert (truth & ~mask).sum() == 0 and (mask & ~truth).sum() < 0.2 * truth.sum()
    assert not given.masks[0].numpy()[55:70].any()  # What was given is as it was.


# Objects that the border cuts

# Of the panel the last columns show, with a bit of the boom 20 px off that is too small for a region.
STUMP, BIT = ((0, 12), (40, 70)), ((30, 34), (54, 57))
CUT_BOX = (-20.0, 40.0, 58.0, 30.0)


def test_of_what_the_border_cuts_every_bright_bit_counts() -> None:
    sky = sky_of(STUMP, BIT)
    assert len(regions(sky)) == 1 and sky.silhouettes is not None and sky.silhouettes[lit(BIT)].any()
    (cut,) = with_whole_objects(rows_of(lit(STUMP)), sky, expected(CUT_BOX)).masks.numpy()
    np.testing.assert_array_equal(cut, sky.silhouettes | lit(STUMP))


def test_of_what_is_inside_the_image_bits_do_not_count() -> None:
    """The same, 20 px farther right: the stump is a region and whole; the bit may be anything."""
    stump, bit = (tuple((low + 20 * (axis == 0), high + 20 * (axis == 0)) for axis, (low, high) in enumerate(part))
                  for part in (STUMP, BIT))  # fmt: skip
    given = rows_of(lit(stump))
    assert with_whole_objects(given, sky_of(stump, bit), expected((18.0, 40.0, 40.0, 30.0))) is given


def test_beyond_its_box_nothing_is_of_what_the_border_cuts() -> None:
    far = ((120, 150), (40, 70))
    sky = sky_of(STUMP, BIT, far)
    rows = with_whole_objects(rows_of(lit(STUMP), lit(far)), sky, expected(CUT_BOX))
    assert rows.owners.tolist() == [0, 1]
    assert not rows.masks[0].numpy()[:, 100:].any()
    np.testing.assert_array_equal(rows.masks[1], lit(far))
