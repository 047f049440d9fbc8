"""What the suite found, as it stands in `suite.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.flights import Flight
from sparsematch_ros.evaluation.suite.limits import (
    DAVIS_LIMITS,
    DAVIS_MEAN_LIMITS,
    NEES_BAND,
    RENDER_MEAN_LIMITS,
    SKY_LIMITS,
    Limit,
    judge,
    limits_of,
    limits_of_render,
    mean_of,
    sum_of,
)
from sparsematch_ros.media.figures import rounded

Report = dict[str, Any]

# Counts are summed over a scenario's runs, everything else is the mean of the runs.
COUNTS = (
    "id_switches",
    "false_confirmed",
    "false_requests",
    "never_found",
    "true_objects",
    "frames",
    "refused_frames",
    "background_unknown",
)
# Of these the smallest is the worst; of `nees_in_95` that which passes its band most; of all others the largest.
MORE_IS_BETTER = ("precision", "recall", "hota", "idf1", "j_mean", "ratio")


def scenario_rows(runs: Sequence[tuple[Flight, Scores]]) -> list[Report]:
    """Sum up each scenario's runs, in the order in which they were flown."""
    rows = []
    for scenario in dict.fromkeys(flight.scenario for flight, _ in runs):
        own = [scores for flight, scores in runs if flight.scenario == scenario]
        seeds = [flight.seed for flight, _ in runs if flight.scenario == scenario]
        rows.append({"name": scenario, "seeds": seeds, **summed_up(own), **judged(limits_of(scenario, own), own)})
    return rows


def davis_rows(runs: Sequence[tuple[str, Scores]]) -> list[Report]:
    """Hold each real sequence against its figures, and their means in a last row."""
    rows = [{"name": name, **scores, **judged(DAVIS_LIMITS, [scores])} for name, scores in runs]
    return [*rows, *_mean_row([scores for _, scores in runs], DAVIS_MEAN_LIMITS)]


def render_rows(runs: Sequence[tuple[str, Scores]]) -> list[Report]:
    """Hold each rendered sequence against its figures, and the means of those with an object in a last row."""
    rows = [{"name": name, **scores, **judged(limits_of_render(scores), [scores])} for name, scores in runs]
    return [*rows, *_mean_row([scores for _, scores in runs if scores.get("true_objects")], RENDER_MEAN_LIMITS)]


def sky_row(name: str, seeds: Sequence[int], runs: Sequence[Scores]) -> Report:
    """Hold the turns in front of one image of stars against their figures."""
    return {"name": name, "seeds": list(seeds), **summed_up(runs), **judged(SKY_LIMITS, runs)}


def summed_up(runs: Sequence[Scores]) -> Report:
    """Compute the sums of counts over the runs and the means of everything else; `worst` has the worst of each."""
    names = dict.fromkeys(name for run in runs for name in run)
    figures: Report = {}
    for name in names:
        value = sum_of(name, runs) if name in COUNTS else mean_of(name, runs)
        figures[name] = rounded(value) if isinstance(value, float) else value
    return {**figures, "worst": {name: _worst(name, runs) for name in names}}


def judged(limits: Sequence[Limit], runs: Sequence[Scores]) -> Report:
    """List what is to be reached, whether it is, and what is not."""
    verdict = judge(limits, runs)
    return {"figures": [str(limit) for limit in limits], "holds": verdict.holds, "reasons": list(verdict.reasons)}


def _worst(name: str, runs: Sequence[Scores]) -> float | int | None:
    known = [value for run in runs if (value := run.get(name)) is not None]
    if name == NEES_BAND.figure:
        return max(known, key=NEES_BAND.excess, default=None)
    return min(known, default=None) if name in MORE_IS_BETTER else max(known, default=None)


def _mean_row(runs: Sequence[Scores], limits: Sequence[Limit]) -> list[Report]:
    """Sum up sequences of different names, as one row at most; `ratio` is that of the means."""
    if not runs:
        return []
    row = {name: value for name, value in summed_up(runs).items() if name != "worst"}
    reached, best = row.get("j_mean"), row.get("oracle_j_mean")
    row["ratio"] = rounded(reached / best) if best and reached is not None else None
    return [{"name": "mean", **row, **judged(limits, [row])}]
