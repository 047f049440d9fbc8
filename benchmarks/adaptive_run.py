"""The measuring behind `adaptive.py`: records frame by frame, kept in a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive_summary import summarise

from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame, FrameResult, TrackPredictions
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.bench_device import device_name
from sparsematch_ros.evaluation.evaluate import open_evaluation
from sparsematch_ros.evaluation.segmentation_recall import find_objects, reported_overlap
from sparsematch_ros.evaluation.sightings import Frames, Sighting
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.media.progress import with_progress
from sparsematch_ros.models import Models, load_models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.segmenter import Segmentation, Segmenter
from sparsematch_ros.settings import changed_settings, load_config
from sparsematch_ros.simulation.command import simulate

SCENARIOS = ("fly_by", "tumbling_rendezvous", "small_objects")
SIMULATED_POINTS, DAVIS_POINTS = 32, 16
SIMULATED_FRAMES = 10
DAVIS_STRIDE = 10
Record = dict[str, Any]


class GridBeside:
    """Segments by another segmenter, and by the full grid beside it on the frames that are wanted."""

    def __init__(self, adaptive: Segmenter, grid: Segmenter) -> None:
        """Take both."""
        self._adaptive, self._grid = adaptive, grid
        self.wanted = False
        self.beside: Segmentation | None = None

    def segment(self, frame: Frame, regions: Regions, sources: Sources, predictions: TrackPredictions) -> Segmentation:
        """Find the first one's segments; keep the grid's."""
        found = self._adaptive.segment(frame, regions, sources, predictions)
        self.beside = self._grid.segment(frame, regions, sources, predictions) if self.wanted else None
        return found

    def request_survey(self) -> None:
        """Look at everything in the next frame."""
        self._adaptive.request_survey()

    def reset(self) -> None:
        """Forget all frames."""
        self._adaptive.reset()


class ComparingPipeline(Pipeline):
    """The adaptive line with a full grid beside its segmenter."""

    def __init__(self, config: Config, models: Models) -> None:
        """Build the line, and put the grid beside."""
        super().__init__(config, models)
        grid = replace(config.segmentation, mode="full_grid", points_per_side=SIMULATED_POINTS)
        self.both = GridBeside(self._segmenter, FullGridSegmenter(models.sam, grid))
        self._segmenter = self.both


class Records:
    """What was measured so far, kept in a file line by line."""

    def __init__(self, file: Path, settings: Record) -> None:
        """Read what an earlier run left.

        Raises:
            SparsematchError: where that run had other settings.

        """
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        if not lines:
            lines = [json.dumps({"settings": settings})]
            file.write_text(lines[0] + "\n", encoding="utf-8")
        if json.loads(lines[0])["settings"] != settings:
            raise SparsematchError(f"{file} was measured with other settings, {lines[0]}: remove it, or use those")
        self._rows = {self._key(row): row for row in map(json.loads, lines[1:])}

    def of(self, case: str) -> list[Record]:
        """Give the records of a case in the order of its frames."""
        return sorted((row for (name, _), row in self._rows.items() if name == case), key=lambda row: row["frame"])

    def has_all(self, case: str, frames: Iterable[int]) -> bool:
        """Tell whether all these frames of a case were measured."""
        return all((case, frame) in self._rows for frame in frames)

    def forget_adaptive(self) -> None:
        """Drop what adaptive prompting gave; the grid's records stay."""
        head = self._file.read_text(encoding="utf-8").splitlines()[0]
        self._rows = {key: row for key, row in self._rows.items() if not key[0].endswith(" adaptive")}
        lines = [head, *(json.dumps(row) for row in self._rows.values())]
        self._file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, row: Record) -> None:
        """Keep a frame's record."""
        if self._key(row) in self._rows:
            return
        self._rows[self._key(row)] = row
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    @staticmethod
    def _key(row: Record) -> tuple[str, int]:
        return row["case"], row["frame"]


def measure(davis: Path | None, records_file: Path, overrides: Sequence[str], again: bool) -> Record:
    """Measure what is missing and give the result.

    Args:
        davis: folder of sequences, or None to leave them out.
        records_file: what was measured so far.
        overrides: settings, `stage.key=value`.
        again: measure adaptive prompting anew.

    """
    config = load_config(None, overrides)
    records = Records(records_file, changed_settings(config))
    if again:
        records.forget_adaptive()
    models = load_models(config)
    for scenario in SCENARIOS:
        measure_scenario(scenario, config, models, records)
    sequences = sorted(folder.parent for folder in davis.glob("*/frames")) if davis else []
    for folder in sequences:
        measure_sequence(folder, config, models, records)
    return {
        "hardware": device_name(str(models.sam.device)),
        "input_px": models.sam.input_size,
        "settings": changed_settings(config),
        "simulated": {"grid": SIMULATED_POINTS, **summarise(SCENARIOS, records.of)},
        "davis": {"grid": DAVIS_POINTS, **summarise([folder.name for folder in sequences], records.of)},
    }


def measure_scenario(scenario: str, config: Config, models: Models, records: Records) -> None:
    """Fly a scenario and measure those of its chosen frames that are missing."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(scenario, Path(folder))
        source, truth = open_evaluation(Path(folder))
        count = len(source.entries)
        chosen = {int((part + 0.5) * count / SIMULATED_FRAMES) for part in range(SIMULATED_FRAMES)}
        if records.has_all(f"{scenario} adaptive", range(count)) and records.has_all(f"{scenario} grid", chosen):
            return
        pipeline = ComparingPipeline(config, models)
        for frame in with_progress(usable(source), scenario, count):
            true = truth.get(frame.index, []) if frame.index in chosen else None
            pipeline.both.wanted = true is not None and not records.has_all(f"{scenario} grid", [frame.index])
            result = pipeline.process(frame)
            records.add(record(f"{scenario} adaptive", frame.index, result, true))
            if pipeline.both.beside is not None:
                records.add(record(f"{scenario} grid", frame.index, pipeline.both.beside, true))


def record(case: str, frame: int, found: FrameResult | Segmentation, true: Sequence[Sighting] | None) -> Record:
    """Write down a frame's prompts and, where its truth is given, which objects its segments show."""
    row: Record = {"case": case, "frame": frame, "prompts": len(found.prompts), "chosen": true is not None}
    if true is None:
        return row
    objects = find_objects(true, found.segments)
    return {**row, "counted": objects.counted, "found": objects.found}


def measure_sequence(folder: Path, config: Config, models: Models, records: Records) -> None:
    """Run a sequence by both ways of prompting, as far as one is not finished."""
    source, truth = open_evaluation(folder)
    grid = replace(config, segmentation=replace(config.segmentation, mode="full_grid", points_per_side=DAVIS_POINTS))
    for mode, settings in (("adaptive", config), ("grid", grid)):
        case = f"{folder.name} {mode}"
        if not records.has_all(case, [entry.index for entry in source.entries]):
            run_sequence(case, source, truth, Pipeline(settings, models), records)


def run_sequence(case: str, source: FolderSource, truth: Frames, pipeline: Pipeline, records: Records) -> None:
    """Run all frames of a sequence; every frame's prompts and every 10th frame's quality are kept."""
    for frame in with_progress(usable(source), case, source.length):
        result = pipeline.process(frame)
        true = truth.get(frame.index, []) if frame.index % DAVIS_STRIDE == 0 else None
        overlap = None if true is None else reported_overlap(true, result)
        records.add({**record(case, frame.index, result, true), "overlap": overlap})


def usable(source: FolderSource) -> Iterable[Frame]:
    """Give a source's frames.

    Raises:
        SparsematchError: where one cannot be read: figures over fewer frames would be others.

    """
    for item in source:
        if not isinstance(item, Frame):
            raise SparsematchError(f"{source.name}: {item.name} cannot be used: {item.reason}")
        yield item
