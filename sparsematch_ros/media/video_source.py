"""A video file, read by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import NANOSECONDS, Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.sources import DEFAULT_RATE_HZ, RefusedFrame


class VideoSource:
    """Frames of a video; stamps count from 0 at its frame rate.

    Attributes:
        name: the file.
        length: number of frames that the file claims, or None.
        notes: where the stamps come from, and whether frames are missing.

    """

    def __init__(self, path: Path, rate_hz: float | None = None) -> None:
        """Open the video; `rate_hz` [Hz] replaces its own rate.

        Raises:
            SparsematchError: where OpenCV cannot read it.

        """
        capture = cv2.VideoCapture(str(path))
        try:
            if not capture.isOpened():
                raise SparsematchError(f"{path} is not a video that OpenCV can read")
            own_rate = capture.get(cv2.CAP_PROP_FPS)
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        self._path = path
        self.name = str(path)
        self.length: int | None = count if count > 0 else None
        self._rate_hz, origin = _rate(own_rate, rate_hz)
        self.notes = [f"stamps from {origin} {self._rate_hz:g} Hz"]

    def __iter__(self) -> Iterator[Frame | RefusedFrame]:
        """Decode the frames one by one."""
        capture = cv2.VideoCapture(str(self._path))
        try:
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        index = 0
        while True:
            found, image = capture.read()
            if not found:
                break
            rgb = cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            yield Frame(index, round(index * NANOSECONDS / self._rate_hz), rgb)
            index += 1
        if self.length is not None and index < self.length:
            self.notes.append(f"the video claims {self.length} frames, {index} could be decoded")


def _rate(own_rate: float, rate_hz: float | None) -> tuple[float, str]:
    if rate_hz is not None:
        return rate_hz, "--rate-hz"
    if np.isfinite(own_rate) and 0 < own_rate <= 1000:
        return own_rate, "the video's rate of"
    return DEFAULT_RATE_HZ, "the default rate (the video names none) of"
