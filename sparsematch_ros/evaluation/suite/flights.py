"""The scenarios' flights: simulated, run and scored one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparsematch_ros.config import Config
from sparsematch_ros.evaluation.evaluate import evaluate_source, open_evaluation
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.keeping import file_digest, kept_or_made, run_key
from sparsematch_ros.evaluation.suite.limits import SCENARIO_LIMITS
from sparsematch_ros.evaluation.suite.options import SuiteOptions
from sparsematch_ros.media.run import Perception
from sparsematch_ros.simulation.command import simulate
from sparsematch_ros.simulation.scenario import find_scenario, load_scenario, scenario_folders

# Lengths of quick flights: where SAM runs, and where there are but points.
QUICK_RESOLVED, QUICK_POINTS = 24, 100


@dataclass(frozen=True)
class Flight:
    """One flight of a scenario.

    Attributes:
        scenario: its name.
        file: the YAML file.
        seed: of all that is random.
        frames: how many.

    """

    scenario: str
    file: Path
    seed: int
    frames: int

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.scenario}_seed_{self.seed}_frames_{self.frames}"

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.scenario}, seed {self.seed}"


def plan_flights(options: SuiteOptions) -> list[Flight]:
    """List the flights, scenario by scenario, those with figures to reach first.

    Raises:
        SparsematchError: where a scenario does not exist or is wrong.

    """
    names = [name.strip() for name in options.scenarios.split(",")] if options.scenarios else _all_scenarios()
    flights = []
    for file in map(find_scenario, names):
        frames = _frames(file, options)
        flights += [Flight(file.stem, file, seed, frames) for seed in options.flown_seeds]
    return flights


def fly(flight: Flight, config: Config, device: str, pipeline: Callable[[], Perception], out: Path) -> Scores:
    """Simulate a flight, run and score it, unless that was done; the flight itself is not kept.

    Args:
        flight: from `plan_flights`.
        config: the pipeline's settings.
        device: torch device that it runs on.
        pipeline: makes one that has seen nothing yet.
        out: folder of all runs.

    Returns:
        The figures of `metrics.json`.

    """
    folder = out / flight.folder

    def make() -> Scores:
        with tempfile.TemporaryDirectory() as scratch:
            simulate(str(flight.file), Path(scratch), flight.seed, flight.frames)
            source, truth = open_evaluation(Path(scratch))
            source.name = flight.title
            return evaluate_source(source, truth, pipeline(), config, folder)

    place = {"scenario_sha256": file_digest(flight.file), "seed": flight.seed, "frames": flight.frames}
    return kept_or_made(folder, run_key(config, device, **place), make)


def _all_scenarios() -> list[str]:
    found = {path.stem for folder in scenario_folders() for path in folder.glob("*.yaml")}
    first = [name for name in SCENARIO_LIMITS if name in found]
    return [*first, *sorted(found - set(first))]


def _frames(file: Path, options: SuiteOptions) -> int:
    scenario = load_scenario(str(file))
    most = [scenario.frames] + ([options.frames] if options.frames else [])
    if options.quick:
        resolved = scenario.cloud is not None or any(item.mesh is not None for item in scenario.objects)
        most.append(QUICK_RESOLVED if resolved else QUICK_POINTS)
    return min(most)
