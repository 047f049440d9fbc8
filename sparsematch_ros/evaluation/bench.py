"""`sparsematch bench`: how long each stage takes on this machine, and what it needs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.outputs import peak_memory_mb, rounded, write_json
from sparsematch_ros.media.run import Perception
from sparsematch_ros.settings import changed_settings


def run_bench(
    load: Callable[[], Perception], frames: Iterable[Frame], config: Config, source: str, out: Path
) -> dict[str, Any]:
    """Measure the pipeline on some frames and write `bench.json`.

    The cold start is the loading of the models (and of the libraries, where `load` is the first to import them) and
    the first frame; the milliseconds a stage are of the frames after it.

    Args:
        load: makes the pipeline.
        frames: at least two; reading them is not counted.
        config: the pipeline's settings.
        source: where the frames come from, for the file.
        out: folder to write to.

    Raises:
        SparsematchError: with fewer than two frames.

    """
    start = time.perf_counter()
    pipeline = load()
    loading_s = time.perf_counter() - start
    seconds, prompts = _measure(pipeline, frames)
    if len(prompts) < 2:
        raise SparsematchError(f"bench needs at least 2 frames, {source} gave {len(prompts)}")
    report = {
        "source": source,
        "frames": len(prompts),
        "device": pipeline.device,
        "device_name": device_name(pipeline.device),
        "cold_start_s": rounded(loading_s + seconds[0]["total"]),
        "model_loading_s": rounded(loading_s),
        "stages_ms": _stages_ms(seconds[1:]),
        "prompts_per_frame": rounded(np.mean(prompts[1:])),
        "peak_memory_mb": rounded(peak_memory_mb()),
        "settings": changed_settings(config),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", report)
    return report


def print_report(report: dict[str, Any]) -> None:
    """Print the milliseconds as a table, and the rest on one line."""
    table = Table(title=f"{report['frames'] - 1} frames after the first, {report['device_name']}")
    table.add_column("stage")
    for column in ("median (ms)", "p99 (ms)"):
        table.add_column(column, justify="right")
    for stage, figures in report["stages_ms"].items():
        table.add_row(stage, f"{figures['median']:.1f}", f"{figures['p99']:.1f}")
    Console().print(table)
    print(
        f"cold start {report['cold_start_s']:.1f} s, {report['prompts_per_frame']:.1f} prompts a frame, "
        f"peak memory {report['peak_memory_mb']:.0f} MB"
    )


def device_name(device: str) -> str:
    """Name the processor behind a torch device."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _measure(pipeline: Perception, frames: Iterable[Frame]) -> tuple[list[dict[str, float]], list[int]]:
    """Process the frames; gives the seconds of each stage and of all, and the prompts, frame by frame."""
    seconds = []
    prompts = []
    for frame in frames:
        start = time.perf_counter()
        result = pipeline.process(frame)
        seconds.append({**result.seconds, "total": time.perf_counter() - start})
        prompts.append(len(result.prompts))
    return seconds, prompts


def _stages_ms(seconds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for frame in seconds for name in frame)
    return {name: _statistics([frame[name] for frame in seconds if name in frame]) for name in names}


def _statistics(seconds: list[float]) -> dict[str, float]:
    milliseconds = 1000 * np.array(seconds)
    return {"median": rounded(np.median(milliseconds)), "p99": rounded(np.percentile(milliseconds, 99))}
