"""Where the time of the mask generator goes: encoder, decoder, drawing, enlarging, and the filters around them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.evaluation.bench_device import Stopwatch
from sparsematch_ros.segmentation.decoder import Answers
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam


class TimedSam(PromptedSam):
    """The same model with a clock at each of its calls; waiting for a GPU at each makes the whole a little slower.

    Attributes:
        seconds: time spent in each kind of call.

    """

    def __init__(self, sam: PromptedSam) -> None:
        """Share another one's model."""
        self.__dict__.update(vars(sam))
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def encode(self, *args: Any, **kwargs: Any) -> Embedding:
        """Encode an image, on the clock."""
        with self._timed("encode"):
            return super().encode(*args, **kwargs)

    def ask(self, *args: Any, **kwargs: Any) -> Answers:
        """Ask for masks, on the clock."""
        with self._timed("decode"):
            return super().ask(*args, **kwargs)

    def draw(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw masks, on the clock."""
        with self._timed("draw"):
            return super().draw(*args, **kwargs)

    def upsample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Enlarge masks, on the clock."""
        with self._timed("enlarge"):
            return super().upsample(*args, **kwargs)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        watch = Stopwatch(str(self.device))
        yield
        self.seconds[part] += watch.stop()


def split_time(sam: PromptedSam, config: SegmentationConfig, image: NDArray[np.uint8]) -> dict[str, float]:
    """Generate the masks of an image once more and give the seconds of each part; `filter` is all the rest."""
    timed = TimedSam(sam)
    watch = Stopwatch(str(sam.device))
    MaskGenerator(timed, config).generate(image)
    total_s = watch.stop()
    return {**timed.seconds, "filter": total_s - sum(timed.seconds.values())}
