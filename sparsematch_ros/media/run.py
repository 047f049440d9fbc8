"""A source through the pipeline, with everything that `sparsematch run` writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.outputs import RunOutputs, Summary
from sparsematch_ros.media.progress import with_progress
from sparsematch_ros.media.sources import RefusedFrame, Source
from sparsematch_ros.settings import changed_settings


class Perception(Protocol):
    """What `Pipeline` is to a run."""

    device: str

    def process(self, frame: Frame) -> FrameResult:
        """Process one frame; raises `BadFrameError` where it cannot be used, and goes on with the next."""
        ...


def run_source(
    source: Source, pipeline: Perception, config: Config, out: Path, limit: int | None = None, label: str = "frames"
) -> Summary:
    """Run a source through the pipeline and write records, overlay, tracks and summary.

    Args:
        source: the images.
        pipeline: the stages.
        config: the pipeline's settings, for the summary.
        out: folder to write to; made where missing.
        limit: most items of the source to look at, None for all.
        label: word on the progress bar.

    Returns:
        What was written to `summary.json`.

    Raises:
        SparsematchError: where no frame at all could be used; everything is written before.

    """
    out.mkdir(parents=True, exist_ok=True)
    total = source.length if limit is None else min(limit, source.length or limit)
    with RunOutputs(out) as outputs:
        for item in with_progress(islice(iter(source), limit), label, total):
            _process(item, pipeline, outputs)
    summary = {
        "source": source.name,
        "notes": list(source.notes),
        **outputs.summary(),
        "device": pipeline.device,
        "settings": changed_settings(config),
    }
    outputs.finish(f"{source.name}", summary)
    if not summary["frames"]:
        raise SparsematchError(_nothing_usable(source, outputs.refusals))
    return summary


def _process(item: Frame | RefusedFrame, pipeline: Perception, outputs: RunOutputs) -> None:
    if isinstance(item, RefusedFrame):
        outputs.refuse(item)
        return
    start = time.perf_counter()
    try:
        result = pipeline.process(item)
    except BadFrameError as error:
        outputs.refuse(RefusedFrame(item.index, f"stamp {item.stamp_s:.9f} s", str(error)))
        return
    outputs.accept(result, time.perf_counter() - start)


def _nothing_usable(source: Source, refusals: list[RefusedFrame]) -> str:
    if not refusals:
        return f"{source.name} holds no frame"
    return f"no frame of {source.name} could be used, {len(refusals)} refused; the first: {refusals[0].reason}"


def iterate_frames(source: Source, limit: int | None = None) -> Iterator[Frame]:
    """Give the usable frames of a source."""
    return (item for item in islice(iter(source), limit) if isinstance(item, Frame))
