"""Depth of a camera's samples: 8 bit as they are, deeper ones both in full and scaled to 8 bit for the networks."""

from __future__ import annotations

from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import SAMPLE_BITS
from sparsematch_ros.errors import BadFrameError

_CONTAINER_BITS = 16


class Pixels(TypedDict):
    """The fields of `Frame` that hold brightness."""

    image: NDArray[np.uint8]
    samples: NDArray[np.uint16] | None
    bits: int


class SampleDepth:
    """Depth of the samples that a camera stores in 16 bit, set or found from its images.

    Found is the smallest common depth that holds the largest sample so far; where the lowest bits were zero in all
    samples, those are padding (`mono16` is often filled from the top) and are shifted out. What is found only grows.
    A camera whose images are all much darker than its range looks shallower than it is: set the depth then.

    Attributes:
        told: one line for the user, or "" as long as no image had more than 8 bit.

    """

    def __init__(self, bits: int = 0) -> None:
        """Take the depth [bits], or 0: it is found."""
        self._set = bits
        self._used = 0

    def add(self, raw: NDArray[Any]) -> None:
        """Learn from the samples of an image, `(H, W)` or `(H, W, 3)`; only uint16 tells anything."""
        if raw.dtype == np.uint16:
            self._used |= int(np.bitwise_or.reduce(raw, axis=None))

    @property
    def bits(self) -> int:
        """Depth of the samples, padding not counted [bits]; 8 before any was seen."""
        return self._set or _common(self._used.bit_length() - self._padding)

    @property
    def _padding(self) -> int:
        """Zero bits below the samples; only samples that reach the container's top can be padded."""
        if self._used.bit_length() < _CONTAINER_BITS:
            return 0
        used = (self._used & -self._used).bit_length() - 1
        return _CONTAINER_BITS - (self._set or _common(_CONTAINER_BITS - used))

    @property
    def told(self) -> str:
        """Which depth is used, and why."""
        if not self._used:
            return ""
        padding = f", above {self._padding} bits of padding" if self._padding else ""
        return f"16 bit images hold samples of {self.bits} bit ({'set' if self._set else 'found'}{padding})"

    def pixels(self, raw: NDArray[Any]) -> Pixels:
        """Turn `(H, W, 3)` RGB of uint8 or uint16 into the fields of a frame; larger samples than the depth are white.

        Raises:
            BadFrameError: for samples of another kind.

        """
        if raw.dtype == np.uint8:
            return {"image": raw, "samples": None, "bits": 8}
        if raw.dtype != np.uint16:
            raise BadFrameError(f"image holds {raw.dtype} samples, expected 8 or 16 bit")
        self.add(raw)
        shifted = np.minimum(raw >> self._padding, 2**self.bits - 1).astype(np.uint16)
        samples = np.asarray(cv2.cvtColor(shifted, cv2.COLOR_RGB2GRAY), dtype=np.uint16)
        return {"image": scale_to_8_bit(shifted, self.bits), "samples": samples, "bits": self.bits}


def scale_to_8_bit(image: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Scale samples of the given depth [bits] to 8 bit, rounded; larger values become white."""
    return np.clip(np.rint(image * (255.0 / (2**bits - 1))), 0, 255).astype(np.uint8)


def _common(bits: int) -> int:
    """Round a depth up to one that sensors have [bits]."""
    return next(depth for depth in SAMPLE_BITS if bits <= depth)
