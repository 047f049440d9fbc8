"""The line, image to tracks, on the clock: stages, prompts, cold start, memory.

Figures of time are of honest frames: the encoder ran and, where truth tells, a target over 20 px was in view. Frames on
which the encoder did not run are a column of their own, and so are those without such a target.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.evaluation.bench_device import Stopwatch, peak_device_memory_mb
from sparsematch_ros.media.figures import peak_memory_mb, rounded

Report = dict[str, Any]


class Line(Protocol):
    """What `Pipeline` is to a benchmark."""

    device: str

    def process(self, frame: Frame) -> FrameResult:
        """Process one frame; raises `BadFrameError` where it cannot be used."""
        ...

    def reset(self) -> None:
        """Forget all frames; the models stay."""
        ...


@dataclass(frozen=True)
class TimedFrame:
    """What one frame cost.

    Attributes:
        frame: its index in the source.
        seconds: of each stage by name, and `total` [s].
        prompts: places that SAM was asked about.
        encoded: SAM's encoder ran.

    """

    frame: int
    seconds: dict[str, float]
    prompts: int
    encoded: bool


def measure_line(
    load: Callable[[], Line],
    frames: Sequence[Frame],
    warmup: int = 1,
    repeat: int = 1,
    with_target: Container[int] | None = None,
) -> Report:
    """Measure the pipeline.

    The cold start is the loading of the models (and of the libraries, where `load` is the first to import them) and
    the first frame.

    Args:
        load: makes the pipeline.
        frames: reading them is not counted.
        warmup: frames that are not counted at the start of each run.
        repeat: runs over the frames; each begins anew.
        with_target: indices of the frames that show a target over 20 px, or None where that is unknown.

    Raises:
        SparsematchError: where no frame is left after those that warm up.

    """
    start = time.perf_counter()
    pipeline = load()
    loading_s = time.perf_counter() - start
    runs, refused = _run_all(pipeline, frames, repeat)
    counted = [timed for run in runs for timed in run[warmup:]]
    if not counted:
        usable = len(runs[0])
        raise SparsematchError(f"bench needs at least {warmup + 1} usable frames (--warmup {warmup}), got {usable}")
    return {
        "frames": len(frames),
        "refused_frames": refused,
        "warmup_frames": warmup,
        "repeat": repeat,
        "device": pipeline.device,
        "cold_start_s": rounded(loading_s + runs[0][0].seconds["total"]),
        "model_loading_s": rounded(loading_s),
        "cold_start_encoded": runs[0][0].encoded,
        **summarise(counted, with_target),
        "peak_memory_mb": rounded(peak_memory_mb()),
        "peak_device_memory_mb": _rounded_or_none(peak_device_memory_mb(pipeline.device)),
    }


def summarise(counted: Sequence[TimedFrame], with_target: Container[int] | None = None) -> Report:
    """Sort frames into honest ones, those that skipped the encoder and those without a target; sum each kind up."""
    encoded = [timed for timed in counted if timed.encoded]
    honest = [timed for timed in encoded if with_target is None or timed.frame in with_target]
    return {
        "counted_frames": len(honest),
        "target_over_20_px": "unknown: no truth" if with_target is None else "in every counted frame",
        "stages_ms": _stages_ms(honest),
        "prompts_per_frame": _mean([timed.prompts for timed in honest]),
        "skipped": _column([timed for timed in counted if not timed.encoded]),
        "without_target": _column([timed for timed in encoded if timed not in honest]),
        "all_frames": {**_column(counted), "prompts_per_frame": _mean([timed.prompts for timed in counted])},
    }


def statistics_ms(seconds: Sequence[float]) -> Report:
    """Give median, 99th percentile and mean of durations, in milliseconds."""
    milliseconds = 1000 * np.array(seconds)
    return {
        "median": rounded(np.median(milliseconds)),
        "p99": rounded(np.percentile(milliseconds, 99)),
        "mean": rounded(milliseconds.mean()),
    }


def _run_all(pipeline: Line, frames: Sequence[Frame], repeat: int) -> tuple[list[list[TimedFrame]], int]:
    runs: list[list[TimedFrame]] = []
    refused = 0
    for number in range(repeat):
        if number:
            pipeline.reset()
        runs.append([])
        for frame in frames:
            try:
                runs[-1].append(_time(pipeline, frame))
            except BadFrameError:
                refused += 1
    return runs, refused


def _time(pipeline: Line, frame: Frame) -> TimedFrame:
    watch = Stopwatch(pipeline.device)
    result = pipeline.process(frame)
    seconds = {**result.seconds, "total": watch.stop()}
    return TimedFrame(frame.index, seconds, len(result.prompts), result.encoded)


def _stages_ms(frames: Sequence[TimedFrame]) -> Report:
    names = dict.fromkeys(name for timed in frames for name in timed.seconds)
    return {name: statistics_ms([timed.seconds[name] for timed in frames if name in timed.seconds]) for name in names}


def _column(frames: Sequence[TimedFrame]) -> Report:
    """Count the frames of a kind, and give what they cost in all."""
    return {
        "frames": len(frames),
        "ms": statistics_ms([timed.seconds["total"] for timed in frames]) if frames else None,
    }


def _mean(values: Sequence[int]) -> float | None:
    return rounded(np.mean(values)) if values else None


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else rounded(value)
