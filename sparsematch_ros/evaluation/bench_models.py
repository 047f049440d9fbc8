"""One network after the other on the clock: the source report's tables 1 (SAM) and 2 (DINOv2), in seconds a frame."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsematch_ros.config import Config
from sparsematch_ros.description.dinov2 import Dinov2Features, build_dinov2
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.bench_device import Stopwatch, forget_device_peak, peak_device_memory_mb
from sparsematch_ros.evaluation.bench_options import DINOV2_MODELS, SAM_MODELS
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.models import choose_device, encoder_input_px
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.weights.registry import checkpoint_named
from sparsematch_ros.weights.store import load_state_dict, weights_folder

Report = dict[str, Any]
# Masks a frame that survive the filters with random weights, so that what comes after them has its work.
SURVIVORS = 100
_MASKS_A_POINT = 3
_CPU_POINTS_PER_SIDE = 8
_CPU_RUNS, _GPU_RUNS = 1, 10


@dataclass(frozen=True)
class ModelTask:
    """What every network is asked to do.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        config: settings: device, precision, checkpoints, the generator's thresholds.
        device: torch device.
        input_size: side of SAM's square input [px].
        points_per_side: of the grid for segment everything.
        runs: timed runs, after one that is not.

    """

    image: NDArray[np.uint8]
    config: Config
    device: torch.device
    input_size: int
    points_per_side: int
    runs: int


def plan(image: NDArray[np.uint8], config: Config, points_per_side: int | None, repeat: int) -> ModelTask:
    """Choose what the device can do in reasonable time; a CPU gets a smaller input, fewer points and runs."""
    device = choose_device(config.model.device)
    cpu = device.type == "cpu"
    points = points_per_side or (_CPU_POINTS_PER_SIDE if cpu else config.segmentation.points_per_side)
    size = encoder_input_px(config.model, device)
    return ModelTask(image, config, device, size, points, repeat * (_CPU_RUNS if cpu else _GPU_RUNS))


def measure_models(names: Iterable[str], task: ModelTask) -> Report:
    """Time the networks one at a time; each is freed before the next, and a row that failed says why."""
    rows = [_row(name, task) for name in names]
    return {
        "image": f"{task.image.shape[1]}x{task.image.shape[0]}",
        "runs": task.runs,
        "warmup_runs": 1,
        "sam": [row for row in rows if row["name"] in SAM_MODELS],
        "dinov2": [row for row in rows if row["name"] in DINOV2_MODELS],
    }


def _row(name: str, task: ModelTask) -> Report:
    device = str(task.device)
    forget_device_peak(device)
    measure = _measure_sam if name in SAM_MODELS else _measure_dinov2
    try:
        row = {**measure(name, task), "failed": None}
    except (RuntimeError, MemoryError, SparsematchError) as error:  # Out of memory is a RuntimeError of torch.
        row = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    peak = peak_device_memory_mb(device)
    gc.collect()
    if task.device.type == "cuda":
        torch.cuda.empty_cache()
    return {"name": name, "peak_device_memory_mb": None if peak is None else rounded(peak), **row}


def _measure_sam(name: str, task: ModelTask) -> Report:
    state = _state(name, task.config)
    sam = PromptedSam(build_sam(name, state, task.input_size), task.device, task.config.model.half_precision)
    settings = replace(task.config.segmentation, points_per_side=task.points_per_side)
    generator = MaskGenerator(sam, settings)
    survivors = 0 if state is not None else min(SURVIVORS, _MASKS_A_POINT * task.points_per_side**2)
    encode_s, _ = _median_s(lambda: sam.encode(task.image), task)
    everything_s, found = _median_s(lambda: generator.generate(task.image, survivors=survivors), task)
    return {
        **_facts(sam.sam, state is not None),
        "input_px": task.input_size,
        "points_per_side": task.points_per_side,
        "encode_s": encode_s,
        "segment_everything_s": everything_s,
        "masks": len(found),
    }


def _measure_dinov2(name: str, task: ModelTask) -> Report:
    state = _state(name, task.config)
    size = task.config.description.dinov2_input_size
    half = task.config.model.half_precision
    features = Dinov2Features(build_dinov2(name, state), task.device, size, half)
    return {
        **_facts(features.model, state is not None),
        "input_px": size,
        "frame_s": _median_s(lambda: features(task.image), task)[0],
    }


def _state(name: str, config: Config) -> dict[str, torch.Tensor] | None:
    """Read a checkpoint where its file is there; None stands for random weights."""
    given = {
        config.model.sam: config.model.sam_checkpoint,
        config.description.dinov2: config.description.dinov2_checkpoint,
    }.get(name)
    checkpoint = checkpoint_named(name)
    file = Path(given).expanduser() if given else weights_folder(config.model.weights_folder) / checkpoint.file_name
    return load_state_dict(file, checkpoint) if given or file.is_file() else None


def _facts(model: torch.nn.Module, real: bool) -> Report:
    parameters = sum(tensor.numel() for tensor in model.parameters())
    return {"weights": "real" if real else "random", "parameters_millions": rounded(parameters / 1e6)}


def _median_s(work: Callable[[], Any], task: ModelTask) -> tuple[float, Any]:
    """Give the median seconds of the timed runs, and what the last of them gave."""
    result = work()
    seconds = []
    for _ in range(task.runs):
        watch = Stopwatch(str(task.device))
        result = work()
        seconds.append(watch.stop())
    return rounded(np.median(seconds)), result
