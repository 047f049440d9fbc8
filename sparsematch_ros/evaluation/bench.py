"""`sparsematch bench`: how long each stage takes on this machine and what it needs; no ROS, no scoring libraries."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.bench_device import device_name
from sparsematch_ros.evaluation.bench_options import BenchOptions
from sparsematch_ros.evaluation.bench_pipeline import Line, measure_line
from sparsematch_ros.evaluation.bench_tables import print_report
from sparsematch_ros.media.figures import write_json
from sparsematch_ros.media.progress import with_progress
from sparsematch_ros.media.sources import open_source
from sparsematch_ros.settings import changed_settings

if TYPE_CHECKING:
    from sparsematch_ros.models import Models

Report = dict[str, Any]
# A target that is larger than this is one that SAM is needed for.
TARGET_PX = 20.0


def bench(options: BenchOptions, config: Config) -> int:
    """Measure, print the tables, and write `bench.json` and `bench.png`.

    Returns:
        0.

    Raises:
        SparsematchError: where the source gives too few frames, a checkpoint is missing or a name is none.

    """
    with ExitStack() as stack:
        folder = options.source
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _simulate(options, folder)
        frames, unread = _read(options, folder, config)
        with_target = frames_with_target(folder)
    report = run_bench(options, config, frames, with_target, unread)
    print_report(report)
    print(f"look at {options.out / 'bench.json'} and {options.out / 'bench.png'}")
    return 0


def run_bench(
    options: BenchOptions,
    config: Config,
    frames: Sequence[Frame],
    with_target: set[int] | None = None,
    unread: int = 0,
) -> Report:
    """Measure what the options ask for on frames in memory, and write `bench.json` and `bench.png`.

    Args:
        options: `source` and what chooses the frames only names them here.
        config: the pipeline's settings.
        frames: as many as warm up, and one.
        with_target: indices of those that show a target over 20 px, or None where that is unknown.
        unread: places in the source that held no usable image.

    """
    loaded: list[Models] = []

    def load() -> Line:
        from sparsematch_ros.models import load_models
        from sparsematch_ros.pipeline import Pipeline

        loaded.append(load_models(config))
        return Pipeline(config, loaded[0], wait_for_device=True)

    line = measure_line(load, frames, options.warmup, options.repeat, with_target)
    line["refused_frames"] += unread
    report = {"source": options.source_name, "device_name": device_name(line["device"]), **line}
    # What needs the loaded models comes before what wants their memory.
    models, sample = loaded.pop(), _spread(_honest(frames, with_target), options.reference_frames)
    report["reference"] = _reference(options, config, sample, models) if options.reference else None
    del models
    report["models"] = _models(options, config, sample[0]) if options.networks else None
    report["settings"] = changed_settings(config)
    _write(options.out, report)
    return report


def frames_with_target(folder: Path) -> set[int] | None:
    """List the frames in which `truth.jsonl` has an object over 20 px across; None without such a file.

    Raises:
        SparsematchError: where a line of the file cannot be read.

    """
    # It lies beside the folder of the images, which may be given itself.
    file = (folder.parent if folder.name == "frames" else folder) / "truth.jsonl"
    if not file.is_file():
        return None
    found = set()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if max(record["bbox_xywh_px"][2:]) > TARGET_PX and record.get("visible_px", 1):
                found.add(int(record["frame"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SparsematchError(f"{file} line {number}: {error!r}; needed are frame and bbox_xywh_px") from error
    return found


def _simulate(options: BenchOptions, folder: Path) -> None:
    from sparsematch_ros.simulation.command import simulate

    simulate(options.scenario, folder, options.seed, options.frames * options.stride)


def _read(options: BenchOptions, folder: Path, config: Config) -> tuple[list[Frame], int]:
    """Read the frames into memory; gives how many places of the source held none, too."""
    q_BC = np.array(config.pointing.camera_to_body_xyzw, dtype=float)
    source = open_source(folder, options.topic, None, q_BC, config.camera.bits)
    items = islice(iter(source), 0, options.frames * options.stride, options.stride)
    read = list(with_progress(items, "read", options.frames))
    frames = [item for item in read if isinstance(item, Frame)]
    return frames, len(read) - len(frames)


def _honest(frames: Sequence[Frame], with_target: set[int] | None) -> Sequence[Frame]:
    """Leave out the frames without a target, where there are others."""
    return [frame for frame in frames if with_target is None or frame.index in with_target] or frames


def _spread(frames: Sequence[Frame], count: int | None) -> Sequence[Frame]:
    """Take some frames, evenly spread over all."""
    if count is None or count >= len(frames):
        return frames
    return [frames[row] for row in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _reference(options: BenchOptions, config: Config, frames: Sequence[Frame], models: Models) -> Report:
    from sparsematch_ros.evaluation.bench_reference import measure_reference

    shown = with_progress(frames, "reference", len(frames))
    return measure_reference(models.sam, config.segmentation, shown, repeat=options.repeat)


def _models(options: BenchOptions, config: Config, frame: Frame) -> Report:
    from sparsematch_ros.evaluation.bench_models import measure_models, plan

    task = plan(frame.image, config, options.models_points, options.repeat)
    return measure_models(with_progress(options.networks, "models", len(options.networks)), task)


def _write(out: Path, report: Report) -> None:
    from sparsematch_ros.media.bench_plot import plot_bench

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", report)
    plot_bench(out / "bench.png", report)
