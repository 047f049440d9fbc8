"""Drawing on an image with line widths and letters that fit its size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

INK: Colour = (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
# How much of the picture shows through under writing.
PLATE_SHARE = 0.4
FARTHEST_PX = 30000.0
# Height of the image at which letters have their basic size [px].
BASIC_HEIGHT = 480


class Canvas:
    """A copy of an `(H, W, 3)` uint8 RGB image to draw on.

    Attributes:
        image: what was drawn so far.
        line: width of a bold line [px].

    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        """Copy the image and choose sizes for it."""
        self.image = np.ascontiguousarray(image).copy()
        scale = float(np.clip(image.shape[0] / BASIC_HEIGHT, 0.6, 4.0))
        self.line = max(1, round(2 * scale))
        self._thin = max(1, round(scale))
        self._font_scale = 0.45 * scale
        self._pad = max(2, round(4 * scale))
        self._radius = max(2, round(4 * scale))

    def rectangle(self, box: Box, colour: Colour, width: int) -> None:
        """Draw a box given as left, top, right, bottom [px]."""
        cv2.rectangle(self.image, box[:2], box[2:], colour, width, cv2.LINE_AA)

    def dashed_rectangle(self, box: Box, colour: Colour) -> None:
        """Draw a box of dashes."""
        left, top, right, bottom = box
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], dtype=float)
        for start, end in pairwise(corners):
            count = max(1, int(np.hypot(*(end - start)) / (4 * self._pad)))
            for step in range(count):
                first, last = start + (end - start) * step / count, start + (end - start) * (step + 0.5) / count
                cv2.line(self.image, _pixel(first), _pixel(last), colour, self.line, cv2.LINE_AA)

    def tint(self, mask: NDArray[np.uint8], colour: Colour, share: float) -> None:
        """Colour an `(H, W)` mask and trace its border."""
        inside = mask > 0
        blended = self.image[inside] * (1 - share) + np.array(colour) * share
        self.image[inside] = np.rint(blended).astype(np.uint8)
        borders = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        cv2.drawContours(self.image, list(borders), -1, colour, self._thin, cv2.LINE_AA)

    def arrow(self, start: NDArray[np.float64], end: NDArray[np.float64], colour: Colour) -> None:
        """Draw an arrow with a dark rim, so that it shows on its own mask."""
        length = float(np.hypot(*(end - start)))
        tip = float(np.clip(3 * self._radius / max(length, 1.0), 0.05, 0.5))
        for shade, width in (((0, 0, 0), self.line + 2), (colour, self.line)):
            cv2.arrowedLine(self.image, _pixel(start), _pixel(end), shade, width, cv2.LINE_AA, tipLength=tip)

    def ring(self, point: NDArray[np.float64], colour: Colour) -> None:
        """Draw a small ring around a point [px]."""
        cv2.circle(self.image, _pixel(point), self._radius, (0, 0, 0), self._thin + 1, cv2.LINE_AA)
        cv2.circle(self.image, _pixel(point), self._radius, colour, self._thin, cv2.LINE_AA)

    def dot(self, point: NDArray[np.float64], colour: Colour) -> None:
        """Draw a thin ring without a rim around a point [px]."""
        cv2.circle(self.image, _pixel(point), self._radius, colour, 1, cv2.LINE_AA)

    def label(self, box: Box, text: str, colour: Colour) -> None:
        """Write on a dark plate above a box, or below it where there is no room; always inside the image."""
        width, height = self._measure(text)
        bar = self.line + 1
        image_height, image_width = self.image.shape[:2]
        top_panel = height + 2 * self._pad
        y = box[1] - height - 2 * self._pad
        if y < top_panel:
            y = min(max(box[3], top_panel), image_height - height - 2 * self._pad)
        x = int(np.clip(box[0], 0, max(image_width - width - 2 * self._pad - bar, 0)))
        self._plate(x, y, bar + width + 2 * self._pad, height + 2 * self._pad)
        self.image[y : y + height + 2 * self._pad, x : x + bar] = colour
        self._write(x + bar + self._pad, y + self._pad + height, text, INK)

    def panel_top(self, text: str) -> None:
        """Write a line along the upper edge."""
        height = self._measure(text)[1]
        self._plate(0, 0, self.image.shape[1], height + 2 * self._pad)
        self._write(self._pad, height + self._pad, text, INK)

    def panel_bottom(self, title: str, entries: list[tuple[str, Colour]], ending: str) -> None:
        """Write a legend of rings and words along the lower edge."""
        height = self._measure(title)[1]
        image_height, image_width = self.image.shape[:2]
        self._plate(0, image_height - height - 2 * self._pad, image_width, height + 2 * self._pad)
        baseline = image_height - self._pad
        x = self._pad + self._write(self._pad, baseline, title, INK)
        for text, colour in entries:
            x += 2 * self._pad + self._radius
            self.ring(np.array([x, baseline - height / 2]), colour)
            x += self._radius + self._pad
            x += self._write(x, baseline, text, INK)
        self._write(image_width - self._measure(ending)[0] - self._pad, baseline, ending, INK)

    def _measure(self, text: str) -> tuple[int, int]:
        (width, _), _ = cv2.getTextSize(text, FONT, self._font_scale, self._thin)
        # One height for all words, so that plates and panels line up.
        (_, height), descent = cv2.getTextSize("Ag", FONT, self._font_scale, self._thin)
        return width, height + descent // 2

    def _write(self, x: int, y: int, text: str, colour: Colour) -> int:
        cv2.putText(self.image, text, (x, y), FONT, self._font_scale, colour, self._thin, cv2.LINE_AA)
        return self._measure(text)[0]

    def _plate(self, x: int, y: int, width: int, height: int) -> None:
        region = self.image[max(y, 0) : y + height, max(x, 0) : x + width]
        region[:] = np.rint(region * PLATE_SHARE).astype(np.uint8)


def _pixel(point: Any) -> tuple[int, int]:
    """Round to whole pixels; OpenCV takes 16 bit at most, and what is further out is not seen anyway."""
    x, y = np.clip(np.nan_to_num(np.asarray(point, dtype=np.float64)), -FARTHEST_PX, FARTHEST_PX)
    return round(float(x)), round(float(y))
