"""The figures that each scenario is to reach, in one place, and whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsematch_ros.evaluation.scores import Scores


@dataclass(frozen=True)
class Limit:
    """One figure that is to be reached.

    Attributes:
        figure: key of `metrics.json`.
        least: smallest value that is good, or None.
        most: largest value that is good, or None.
        per_frames: for counts: the figure is the sum over all runs for this many frames.
        strict: whether `most` itself is too much already.

    """

    figure: str
    least: float | None = None
    most: float | None = None
    per_frames: int | None = None
    strict: bool = False

    def holds(self, value: float | None) -> bool:
        """Tell whether a value is good; an unknown one is not."""
        if value is None:
            return False
        under = self.most is None or (value < self.most if self.strict else value <= self.most)
        return under and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        """Write it as people do, such as `recall >= 0.98`."""
        name = self.figure + (f" in {self.per_frames} frames" if self.per_frames else "")
        if self.least is not None and self.most is not None:
            return f"{self.least:g} <= {name} <= {self.most:g}"
        if self.least is not None:
            return f"{name} >= {self.least:g}"
        return f"{name} {'<' if self.strict else '<='} {self.most:g}"


@dataclass(frozen=True)
class Verdict:
    """Whether the figures of a scenario hold.

    Attributes:
        holds: `yes` where each does in every run, `on average` where all do in the mean of the runs, else `no`; `-`
            where there is none.
        reasons: what does not hold in every run, with its mean and worst value.

    """

    holds: str
    reasons: tuple[str, ...]


_WHOLE_FLIGHT = (
    Limit("recall", least=0.98),
    Limit("precision", least=0.98),
    Limit("id_switches", most=0),
    Limit("velocity_relative_error", most=0.03),
    Limit("velocity_rmse_px_frame", most=0.3),
    Limit("frames_to_confirm", most=3),
)
_KEPT_APART = (Limit("idf1", least=0.95),)
# Of scenarios in which there is something to find.
EVERYWHERE = (Limit("nees_in_95", least=0.90, most=0.99),)
SCENARIO_LIMITS: dict[str, tuple[Limit, ...]] = {
    "fly_by": _WHOLE_FLIGHT,
    "tumbling_rendezvous": _WHOLE_FLIGHT,
    "small_objects": (
        Limit("recall", least=0.95),
        Limit("precision", least=0.98),
        Limit("id_switches", most=1, per_frames=300),
        Limit("bearing_rate_relative_error", most=0.05),
    ),
    "crossing": _KEPT_APART,
    "occlusion": _KEPT_APART,
    "stars_only": (Limit("false_confirmed", most=0),),
    "faint_points": (Limit("recall", least=0.9), Limit("false_confirmed", most=1, per_frames=100, strict=True)),
    "debris_cloud": (Limit("motion_matching_tracking_ms", most=10),),
}
DAVIS_LIMITS = (Limit("ratio", least=0.85),)
SKY_LIMITS = (
    Limit("false_confirmed", most=0),
    Limit("background_unknown", most=0),
    Limit("background_error_px", most=0.1),
)
# More flights where a figure counts events in 300 frames.
EXTRA_SEEDS: dict[str, tuple[int, ...]] = {"small_objects": (104, 105)}


def limits_of(scenario: str, runs: Sequence[Scores]) -> tuple[Limit, ...]:
    """List the figures that a scenario is to reach, those that hold everywhere last."""
    anything = any(run.get("recall") is not None for run in runs)
    return (*SCENARIO_LIMITS.get(scenario, ()), *(EVERYWHERE if anything else ()))


def judge(limits: Sequence[Limit], runs: Sequence[Scores]) -> Verdict:
    """Hold the runs of one scenario against its figures."""
    if not limits:
        return Verdict("-", ())
    judged = [_judge_one(limit, runs) for limit in limits]
    on_average = all(mean_holds for mean_holds, _ in judged)
    reasons = tuple(reason for _, reason in judged if reason)
    return Verdict("yes" if not reasons else "on average" if on_average else "no", reasons)


def mean_of(figure: str, runs: Sequence[Scores]) -> float | None:
    """Give the mean of a figure over the runs that know it; None where none does."""
    known = [value for run in runs if (value := run.get(figure)) is not None]
    return float(np.mean(known)) if known else None


def sum_of(figure: str, runs: Sequence[Scores]) -> int | None:
    """Give the sum of a count over the runs that know it; None where none does."""
    known = [value for run in runs if (value := run.get(figure)) is not None]
    return int(sum(known)) if known else None


def _judge_one(limit: Limit, runs: Sequence[Scores]) -> tuple[bool, str]:
    """Tell whether the mean holds, and what is wrong, if only in one run."""
    if limit.per_frames:
        count, frames = sum_of(limit.figure, runs), sum_of("frames", runs)
        rate = None if count is None or not frames else count * limit.per_frames / frames
        return limit.holds(rate), "" if limit.holds(rate) else f"{limit}, is {_text(rate)}"
    values = [run.get(limit.figure) for run in runs]
    mean = mean_of(limit.figure, runs)
    bad = [value for value in values if not limit.holds(value)]
    if not bad:
        return True, ""
    known = [value for value in bad if value is not None]
    worst = max(known, key=lambda value: _distance(limit, value)) if len(known) == len(bad) else None
    return limit.holds(mean), f"{limit}, is {_text(mean)}" + (f" (worst {_text(worst)})" if len(runs) > 1 else "")


def _distance(limit: Limit, value: float) -> float:
    over = value - limit.most if limit.most is not None else 0.0
    return max(over, limit.least - value if limit.least is not None else 0.0)


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
