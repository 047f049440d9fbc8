"""What stands behind `sparsematch evaluate --suite`; returns an exit status."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from sparsematch_ros.config import Config
from sparsematch_ros.evaluation.bench_device import device_name
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite import night_sky, sequences
from sparsematch_ros.evaluation.suite.flights import fly, plan_flights
from sparsematch_ros.evaluation.suite.options import SuiteOptions
from sparsematch_ros.evaluation.suite.pages import write_pages
from sparsematch_ros.evaluation.suite.report import Report, davis_rows, render_rows, scenario_rows, sky_row
from sparsematch_ros.evaluation.suite.tables import print_report
from sparsematch_ros.media.figures import rounded, write_json
from sparsematch_ros.models import Models, choose_device, load_models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.settings import changed_settings


def evaluate_suite(options: SuiteOptions, config: Config) -> int:
    """Run and score what the options name, print the tables and write `suite.json`.

    Returns:
        0, whatever the figures are.

    Raises:
        SparsematchError: where a scenario, a folder or a checkpoint is missing or wrong.

    """
    start = time.perf_counter()
    flights = plan_flights(options) if options.suite else []
    line = Line(config)
    runs = options.out / "runs"
    report: Report = {
        "quick": options.quick,
        "device_name": device_name(line.device),
        "settings": changed_settings(config),
        "scenarios": scenario_rows([(each, fly(each, config, line.device, line.fresh, runs)) for each in flights]),
        "renders": render_rows(_sequences(options.renders, options, line, runs)),
        "davis": davis_rows(_sequences(options.davis, options, line, runs)),
        "sky": _skies(options, line, runs),
    }
    report["seconds"] = rounded(time.perf_counter() - start)
    write_json(options.out / "suite.json", report)
    if options.pages is not None:
        write_pages(options.pages, report, flights, runs)
    print_report(report)
    print(f"look at {options.out / 'suite.json'} and the pictures in the folders of {runs}")
    return 0


class Line:
    """One set of loaded models, and as many pipelines on it as there are runs.

    A new pipeline for each, because a used one remembers frames, stars and objects.

    Attributes:
        config: the pipeline's settings.
        device: torch device.

    """

    def __init__(self, config: Config) -> None:
        """Choose the device; the models are loaded when the first run needs them."""
        self.config = config
        self.device = str(choose_device(config.model.device))
        self._models = lru_cache(maxsize=1)(self._load)

    @property
    def models(self) -> Models:
        """The loaded networks."""
        return self._models()

    def fresh(self) -> Pipeline:
        """Build a pipeline that has seen nothing yet."""
        return Pipeline(self.config, self.models)

    def _load(self) -> Models:
        return load_models(self.config)


def _sequences(folder: Path | None, options: SuiteOptions, line: Line, runs: Path) -> list[tuple[str, Scores]]:
    if folder is None:
        return []
    frames = sequences.QUICK_FRAMES if options.quick else options.frames
    parts = (line.fresh, lambda: line.models.sam)
    return [
        (each.name, sequences.run_sequence(each, line.config, line.device, parts, runs, frames))
        for each in sequences.find_sequences(folder)
    ]


def _skies(options: SuiteOptions, line: Line, runs: Path) -> list[Report]:
    if options.sky is None:
        return []
    frames = night_sky.QUICK_FRAMES if options.quick else options.frames or night_sky.FRAMES
    rows = []
    for file in night_sky.find_skies(options.sky):
        for with_camera in (True, False):
            turns = [night_sky.SkyRun(file, with_camera, seed, frames) for seed in options.flown_seeds]
            scores = [night_sky.run_sky(turn, line.config, line.device, line.fresh, runs) for turn in turns]
            rows.append(sky_row(turns[0].name, options.flown_seeds, scores))
    return rows
