"""Writing `overlay.mp4`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError

# MPEG-4 part 2: 3 ms a 480p frame. The wheel's VP9, which browsers play too, takes 260 ms, and H.264 is not in it.
CODEC = "mp4v"
# The rate is taken from the stamps of the first frames, which are held back until then.
FRAMES_FOR_RATE = 5
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 60.0


class OverlayVideo:
    """Writes pictures of one size as a video that plays at the rate of their stamps; a context manager.

    Without a picture no file is made.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened when the rate is known."""
        self._path = path
        self._held: list[tuple[int, NDArray[np.uint8]]] = []
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> OverlayVideo:
        """Give the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is held back and close the file."""
        if self._writer is None and self._held:
            self._open()
        if self._writer is not None:
            self._writer.release()

    def write(self, stamp_ns: int, picture: NDArray[np.uint8]) -> None:
        """Add an `(H, W, 3)` uint8 RGB picture taken at `stamp_ns`."""
        if self._writer is not None:
            self._put(picture)
            return
        self._held.append((stamp_ns, picture))
        if len(self._held) >= FRAMES_FOR_RATE:
            self._open()

    def _open(self) -> None:
        height, width = self._held[0][1].shape[:2]
        # The codec's chroma needs even sides.
        self._size = (max(width - width % 2, 2), max(height - height % 2, 2))
        rate = _rate_hz([stamp for stamp, _ in self._held])
        writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*CODEC), rate, self._size)
        if not writer.isOpened():
            raise SparsematchError(f"cannot write {self._path}: OpenCV has no {CODEC} encoder, or the folder is closed")
        self._writer = writer
        for _, picture in self._held:
            self._put(picture)
        self._held = []

    def _put(self, picture: NDArray[np.uint8]) -> None:
        width, height = self._size
        if picture.shape[0] < height or picture.shape[1] < width:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        if self._writer is not None:
            self._writer.write(cv2.cvtColor(picture[:height, :width], cv2.COLOR_RGB2BGR))


def _rate_hz(stamps_ns: list[int]) -> float:
    if len(stamps_ns) < 2:
        return 10.0
    interval_s = float(np.median(np.diff(stamps_ns))) / NANOSECONDS
    return float(np.clip(1.0 / max(interval_s, 1e-6), MIN_RATE_HZ, MAX_RATE_HZ))
