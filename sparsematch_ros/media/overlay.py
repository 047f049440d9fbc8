"""One frame's result drawn on its image: masks, boxes, names, velocities, and where segments were asked for."""

from __future__ import annotations

import colorsys
from typing import Any, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import FrameResult, ObjectState, PromptReason, SpaceObject
from sparsematch_ros.media.canvas import FARTHEST_PX, Canvas, Colour

MASK_TINT = 0.35
RESTING: Colour = (150, 150, 150)
FAINT: Colour = (110, 110, 110)
TENTATIVE_LINE = 1
SMALLEST_BOX_PX = 14.0
PROMPT_COLOURS: dict[PromptReason, Colour] = {
    PromptReason.EXPECTED: (90, 230, 120),
    PromptReason.MOTION: (255, 140, 40),
    PromptReason.BRIGHT: (255, 225, 70),
    PromptReason.GRID: (190, 190, 190),
    PromptReason.POINT_SOURCE: (70, 230, 240),
}
# An arrow shows the motion of one second, cut to these lengths [share of the image's width].
SHORTEST_ARROW, LONGEST_ARROW = 0.025, 0.2


def draw_overlay(result: FrameResult) -> NDArray[np.uint8]:
    """Draw a frame's result.

    Reported objects have a colour that stays with their id; those that rest are thin and grey; tentative ones, most of
    them stars that have just come into view, are left out.

    Returns:
        `(H, W, 3)` uint8 RGB, of the image's size.

    """
    canvas = Canvas(result.frame.image)
    believed = [item for item in result.objects if item.state in (ObjectState.CONFIRMED, ObjectState.COASTING)]
    for item in sorted(believed, key=lambda entry: entry.reported):
        _draw_object(canvas, item)
    _draw_regions(canvas, result)
    _draw_prompts(canvas, result)
    _draw_status(canvas, result)
    _draw_legend(canvas, result)
    return canvas.image


def object_colour(identity: UUID) -> Colour:
    """Choose a bright colour that stays with an id."""
    # Bits of a random UUID spread evenly, so neighbouring hues are as rare as they can be.
    hue = (identity.int % 1009) / 1009
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_object(canvas: Canvas, item: SpaceObject) -> None:
    box = _corners(item)
    if not item.reported:
        _draw_resting(canvas, item, box)
        return
    colour = object_colour(item.id)
    if item.mask is not None:
        canvas.tint(_to_array(item.mask), colour, MASK_TINT)
    if item.state is ObjectState.COASTING:
        canvas.dashed_rectangle(box, colour)
    else:
        canvas.rectangle(box, colour, canvas.line)
    _draw_velocity(canvas, item, colour)
    speed = float(np.hypot(*item.velocity_px_s))
    text = f"{str(item.id)[:4]}  {speed:.1f} px/s" + ("  coasting" if item.state is ObjectState.COASTING else "")
    canvas.label(box, text, colour)


def _draw_resting(canvas: Canvas, item: SpaceObject, box: tuple[int, int, int, int]) -> None:
    if max(item.bbox_xywh_px[2:]) < SMALLEST_BOX_PX:
        # Stars are many: a faint dot each, or the sky would be all boxes.
        canvas.dot(item.centroid_px, FAINT)
    else:
        canvas.rectangle(box, RESTING, TENTATIVE_LINE)


def _draw_velocity(canvas: Canvas, item: SpaceObject, colour: Colour) -> None:
    speed = float(np.hypot(*item.velocity_px_s))
    if not np.isfinite(speed) or speed == 0:
        return
    width = canvas.image.shape[1]
    length = float(np.clip(speed, SHORTEST_ARROW * width, LONGEST_ARROW * width))
    start = np.asarray(item.centroid_px, dtype=np.float64)
    canvas.arrow(start, start + np.asarray(item.velocity_px_s) / speed * length, colour)


def _draw_regions(canvas: Canvas, result: FrameResult) -> None:
    """Frame the parts that SAM's encoder saw, where that was not the whole image."""
    height, width = result.frame.size
    for left, top, right, bottom in result.regions_xyxy_px:
        if right - left < width or bottom - top < height:
            canvas.dashed_rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), FAINT)


def _draw_prompts(canvas: Canvas, result: FrameResult) -> None:
    for point, reason in zip(result.prompts.points_px, result.prompts.reasons):
        canvas.ring(point, PROMPT_COLOURS[PromptReason(int(reason))])


def _draw_status(canvas: Canvas, result: FrameResult) -> None:
    reported = sum(item.reported for item in result.objects)
    method = result.background.method if result.background.valid else "unknown"
    canvas.panel_top(
        f"frame {result.frame.index}   {_clock(result)}   reported {reported}   "
        f"prompts {len(result.prompts)}   background {method}"
    )


def _clock(result: FrameResult) -> str:
    stamp_s = result.frame.stamp_s
    # Seconds since 1970 say nothing to a reader; the last minutes of them do.
    return f"{stamp_s:.2f} s" if stamp_s < 1e6 else f"...{stamp_s % 1000:06.2f} s"


def _draw_legend(canvas: Canvas, result: FrameResult) -> None:
    present = [PromptReason(int(reason)) for reason in np.unique(result.prompts.reasons)]
    entries = [(reason.name.lower().replace("_", " "), PROMPT_COLOURS[reason]) for reason in present]
    canvas.panel_bottom("asked at:" if entries else "nothing asked", entries, "dashed: seen by SAM, arrow: about 1 s")


def _corners(item: SpaceObject) -> tuple[int, int, int, int]:
    """Give left, top, right, bottom of the box, wide enough to be seen around an object of a few pixels."""
    finite = np.clip(np.nan_to_num(item.bbox_xywh_px), -FARTHEST_PX / 2, FARTHEST_PX / 2)
    x, y, width, height = (float(value) for value in finite)
    margin_x, margin_y = (max(SMALLEST_BOX_PX - side, 0.0) / 2 for side in (width, height))
    return round(x - margin_x), round(y - margin_y), round(x + width + margin_x), round(y + height + margin_y)


def _to_array(mask: Any) -> NDArray[np.uint8]:
    return cast("NDArray[np.uint8]", np.ascontiguousarray(mask.cpu().numpy(), dtype=np.uint8))
