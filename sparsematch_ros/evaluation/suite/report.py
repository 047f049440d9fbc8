"""What the suite found, as it stands in `suite.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.flights import Flight
from sparsematch_ros.evaluation.suite.limits import DAVIS_LIMITS, SKY_LIMITS, Limit, judge, limits_of, mean_of, sum_of
from sparsematch_ros.media.figures import rounded

Report = dict[str, Any]

# Counts are summed over a scenario's runs, everything else is the mean of the runs.
COUNTS = ("id_switches", "false_confirmed", "frames", "refused_frames", "background_unknown")


def scenario_rows(runs: Sequence[tuple[Flight, Scores]]) -> list[Report]:
    """Sum up each scenario's runs, in the order in which they were flown."""
    rows = []
    for scenario in dict.fromkeys(flight.scenario for flight, _ in runs):
        own = [scores for flight, scores in runs if flight.scenario == scenario]
        seeds = [flight.seed for flight, _ in runs if flight.scenario == scenario]
        rows.append({"name": scenario, "seeds": seeds, **summed_up(own), **judged(limits_of(scenario, own), own)})
    return rows


def sequence_row(name: str, scores: Scores) -> Report:
    """Hold one real sequence against its figure."""
    return {"name": name, **scores, **judged(DAVIS_LIMITS, [scores])}


def sky_row(name: str, scores: Scores) -> Report:
    """Hold one image of stars against its figures."""
    return {"name": name, **scores, **judged(SKY_LIMITS, [scores])}


def summed_up(runs: Sequence[Scores]) -> Scores:
    """Sum counts up over the runs and give the mean of everything else."""
    names = dict.fromkeys(name for run in runs for name in run)
    figures: Scores = {}
    for name in names:
        value = sum_of(name, runs) if name in COUNTS else mean_of(name, runs)
        figures[name] = rounded(value) if isinstance(value, float) else value
    return figures


def judged(limits: Sequence[Limit], runs: Sequence[Scores]) -> Report:
    """Give what is to be reached, whether it is, and what is not."""
    verdict = judge(limits, runs)
    return {"figures": [str(limit) for limit in limits], "holds": verdict.holds, "reasons": list(verdict.reasons)}
