"""When a goal is met, when it waits, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.answer import Answer, Code, Decision
from sparsematch_ros.pointing.goal import Goal, GoalState, Outcome, Progress, advance, at_time, is_pursued, outcome

A = UUID(int=1)
SENT = Answer(Decision.SENT, Code.NONE, "moving", A, off_boresight_rad=0.1, rate_error_rad_s=0.02)
ON = replace(SENT, decision=Decision.HELD, code=Code.DEAD_BAND, off_boresight_rad=0.0005)
REFUSED = Answer(Decision.REFUSED, Code.KEEP_OUT, "in the Sun", A)
COASTING = Answer(Decision.HELD, Code.NO_TARGET, "not seen")
PATIENCE_S = 5.0


def run(answers: list[Answer], step_s: float = 1.0, **goal: Any) -> tuple[list[GoalState], Outcome | None]:
    """States after each array, and how the goal stands after the last."""
    ours = Goal(**{"target": A, "tolerance_rad": 0.001, **goal})
    progress, states, stamp = Progress(SENT, 0, 0), [], 0
    for index, answer in enumerate(answers, start=1):
        stamp = round(index * step_s * NANOSECONDS)
        progress = advance(ours, progress, answer, stamp)
        states.append(progress.state)
    return states, outcome(ours, progress, stamp, PATIENCE_S)


def test_it_is_met_within_the_tolerance_at_once_without_a_hold() -> None:
    states, ending = run([SENT, ON])
    assert states == [GoalState.SLEWING, GoalState.HOLDING] and ending is not None and ending.code == Code.NONE
    assert run([SENT, SENT])[1] is None


@pytest.mark.parametrize(("hold_s", "arrays", "ends"), [(2.0, 2, False), (2.0, 3, True), (float("inf"), 50, False)])
def test_the_hold_counts_from_the_first_array_on_the_target(hold_s: float, arrays: int, ends: bool) -> None:
    """Three arrays 1 s apart span 2 s."""
    assert (run([SENT, *[ON] * arrays], hold_s=hold_s)[1] is not None) == ends


@pytest.mark.parametrize("gap", [SENT, COASTING, REFUSED])
def test_a_break_starts_it_anew(gap: Answer) -> None:
    assert run([ON, ON, gap, ON, ON], hold_s=2.0)[1] is None
    assert run([ON, ON, gap, ON, ON, ON], hold_s=2.0)[1] is not None


def test_the_rate_counts_where_it_is_asked_for_and_unknown_is_not_met() -> None:
    assert run([ON])[1] is not None
    assert run([ON], rate_tolerance_rad_s=0.01)[1] is None
    assert run([replace(ON, rate_error_rad_s=0.009)], rate_tolerance_rad_s=0.01)[1] is not None
    unknown = replace(ON, rate_error_rad_s=float("nan"))
    assert run([unknown], rate_tolerance_rad_s=0.01)[1] is None and run([unknown])[1] is not None
    assert run([replace(ON, off_boresight_rad=float("nan"))])[1] is None


@pytest.mark.parametrize(("answer", "code"), [(REFUSED, Code.KEEP_OUT), (COASTING, Code.TARGET_LOST)])
def test_it_waits_as_long_as_the_last_request_holds_and_ends_with_the_reason(answer: Answer, code: Code) -> None:
    """The last request was for the array at 1 s: 5 s later it still holds, at 7 s it does not."""
    states, ending = run([SENT, *[answer] * 5])
    assert states[1:] == [GoalState.WAITING] * 5 and ending is None
    ending = run([SENT, *[answer] * 6])[1]
    assert ending is not None and ending.code == code and answer.reason in ending.reason


def test_silence_is_stale_and_a_clock_that_was_set_back_starts_the_wait_anew() -> None:
    goal = Goal(A, 0.001)
    progress = Progress(SENT, 100 * NANOSECONDS, 100 * NANOSECONDS)
    assert outcome(goal, progress, 105 * NANOSECONDS, PATIENCE_S) is None
    ending = outcome(goal, progress, 106 * NANOSECONDS, PATIENCE_S)
    assert ending is not None and ending.code == Code.STALE
    back = at_time(progress, 40 * NANOSECONDS)
    assert outcome(goal, back, 45 * NANOSECONDS, PATIENCE_S) is None
    assert outcome(goal, back, 46 * NANOSECONDS, PATIENCE_S) is not None
    assert at_time(progress, 101 * NANOSECONDS) is progress


def test_what_is_pursued_has_a_target_and_a_request_or_needs_none() -> None:
    assert is_pursued(SENT) and is_pursued(ON)
    assert not any(map(is_pursued, (REFUSED, COASTING, replace(SENT, target_id=None))))


BAD = [{"tolerance_rad": 0.0}, {"tolerance_rad": float("nan")}, {"tolerance_rad": 4.0}, {"hold_s": -1.0},
       {"hold_s": float("nan")}, {"rate_tolerance_rad_s": -0.1}, {"rate_tolerance_rad_s": float("inf")}]  # fmt: skip


@pytest.mark.parametrize("values", BAD)
def test_goals_without_sense_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(SparsematchError, match=next(iter(values)).split("_")[0]):
        Goal(**{"target": A, "tolerance_rad": 0.001, **values})
