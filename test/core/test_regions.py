"""Which parts of a frame are encoded: what must hold for any prompts, and a few plain cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparsematch_ros.segmentation.regions import plan_regions

from sparsematch_ros.data import PromptReason, Prompts

WIDE = (480, 640)


def asking(boxes: object) -> Prompts:
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    reasons = np.full(count, int(PromptReason.EXPECTED), dtype=np.int64)
    return Prompts((corners[:, :2] + corners[:, 2:]) / 2, corners, reasons, np.full(count, np.nan))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Prompts, tuple[int, int], int]:
    """Draw a frame's size, an input size, and boxes of which at least a corner lies in the frame."""
    height, width = draw(st.integers(16, 1200)), draw(st.integers(16, 1200))
    boxes = []
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1))
        to_x, to_y = draw(st.floats(-30, 300)), draw(st.floats(-30, 300))
        boxes.append([min(x, x + to_x), min(y, y + to_y), max(x, x + to_x), max(y, y + to_y)])
    return asking(boxes), (height, width), draw(st.sampled_from([64, 128, 256, 512, 1024]))


@settings(max_examples=150, deadline=None)
@given(scenes(), st.booleans())
def test_what_holds_for_any_prompts(scene: tuple[Prompts, tuple[int, int], int], resizable: bool) -> None:
    prompts, (height, width), input_size = scene
    regions = plan_regions(prompts, (height, width), input_size, resizable)
    assert sorted(np.concatenate([region.rows for region in regions]).tolist()) == list(range(len(prompts)))
    assert sum(region.side**2 for region in regions) <= input_size**2
    assert resizable or (len(regions) == 1 and regions[0].side == input_size)
    for region in regions:
        left, top, right, bottom = region.bounds
        assert all(isinstance(edge, int) for edge in region.bounds)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert region.side % 64 == 0 and region.side <= input_size
        # Pixel x reaches from x - 0.5 to x + 0.5; a part that begins at column `left` shows it whole.
        boxes = prompts.boxes_xyxy_px[region.rows]
        assert (np.maximum(boxes[:, :2], 0) >= np.array([left, top]) - 0.5).all()
        assert (np.minimum(boxes[:, 2:], [width - 1, height - 1]) <= np.array([right, bottom]) - 0.5).all()


@settings(max_examples=100, deadline=None)
@given(scenes(), st.booleans())
def test_a_part_shows_more_than_the_whole_would(scene: tuple[Prompts, tuple[int, int], int], resizable: bool) -> None:
    """A part that costs less than the whole frame, or is one of several, shows at least a quarter more detail."""
    prompts, (height, width), input_size = scene
    for region in plan_regions(prompts, (height, width), input_size, resizable):
        length = max(region.bounds[2] - region.bounds[0], region.bounds[3] - region.bounds[1])
        if region.side < input_size:
            # A part is rounded outwards to whole pixels, by up to 2.
            assert region.side / max(length - 2, 1) >= 1.25 * input_size / max(height, width)


def test_no_prompts_need_no_encoding() -> None:
    assert plan_regions(asking([]), WIDE, 512, True) == []


def test_small_boxes_far_apart_are_seen_one_by_one() -> None:
    """Two of 20 px in opposite corners: two inputs of half the side cost half of the whole frame."""
    first, second = plan_regions(asking([[30, 30, 49, 49], [580, 430, 599, 449]]), WIDE, 512, True)
    assert (first.side, second.side) == (256, 256)
    assert (first.rows.tolist(), second.rows.tolist()) == ([0], [1])
    assert first.bounds == (8, 8, 72, 72)  # 64 px around the middle of the box at 40, 40.
    assert second.bounds == (558, 408, 622, 472)


def test_small_boxes_close_together_are_seen_at_once() -> None:
    (region,) = plan_regions(asking([[300, 200, 319, 219], [330, 205, 349, 224]]), WIDE, 512, True)
    assert sorted(region.rows.tolist()) == [0, 1]
    assert region.side == 256


def test_many_prompts_everywhere_are_asked_in_the_whole_frame() -> None:
    x, y = np.meshgrid(np.arange(20, 620, 90), np.arange(20, 460, 90))
    corners = np.stack([x.ravel(), y.ravel()], axis=1)
    (region,) = plan_regions(asking(np.concatenate([corners, corners + 30], axis=1)), WIDE, 512, True)
    assert (region.bounds, region.side) == ((0, 0, 640, 480), 512)
    assert region.rows.tolist() == list(range(len(corners)))


def test_a_box_as_large_as_the_frame_needs_the_whole_of_it() -> None:
    (region,) = plan_regions(asking([[2, 3, 630, 470]]), WIDE, 512, True)
    assert (region.bounds, region.side) == ((0, 0, 640, 480), 512)


def test_a_bare_point_asks_for_the_whole_frame() -> None:
    (region,) = plan_regions(asking([[30, 30, 49, 49], [np.nan] * 4]), WIDE, 512, True)
    assert (region.bounds, region.side, region.rows.tolist()) == ((0, 0, 640, 480), 512, [0, 1])


@pytest.mark.parametrize("corner", [(0, 0), (620, 0), (0, 460), (620, 460)])
def test_a_part_at_the_border_is_shifted_into_the_frame(corner: tuple[int, int]) -> None:
    """An object in a corner of the frame is seen with as much around it as one in the middle."""
    (region,) = plan_regions(asking([[*corner, corner[0] + 19, corner[1] + 19]]), WIDE, 512, True)
    left, top, right, bottom = region.bounds
    assert (right - left, bottom - top) == (64, 64)
    assert (left, top) == (min(corner[0], 640 - 64), min(corner[1], 480 - 64))


def test_one_size_of_input_is_still_used_on_a_part() -> None:
    """A model of one input size sees a small object larger, at the price of the whole; two far apart it does not."""
    (region,) = plan_regions(asking([[300, 200, 329, 229]]), WIDE, 1024, False)
    assert region.side == 1024
    assert region.bounds == (283, 183, 347, 247)
    (region,) = plan_regions(asking([[30, 30, 49, 49], [580, 430, 599, 449]]), WIDE, 1024, False)
    assert (region.bounds, region.side) == ((0, 0, 640, 480), 1024)
