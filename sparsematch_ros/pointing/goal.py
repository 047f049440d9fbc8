"""A goal to point at one object: what counts as met, how far it is, and when it ends.

Pure: the node hands in answers and times. All times are on the clock of the images' stamps.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.answer import Answer, Code, Decision


class GoalState(enum.IntEnum):
    """How far a goal is; the values are those of `PointAt.action`."""

    SLEWING = 0
    HOLDING = 1
    WAITING = 2


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        target: object to point at.
        tolerance_rad: angle between boresight and target that counts as on it [rad].
        rate_tolerance_rad_s: difference to the rate that follows it [rad/s]; 0: any, even where it is not known.
        hold_s: how long without a break [s]; infinite: until it is cancelled.

    """

    target: UUID
    tolerance_rad: float
    rate_tolerance_rad_s: float = 0.0
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SparsematchError: with the value and what would be right.

        """
        if not 0 < self.tolerance_rad <= np.pi:
            raise SparsematchError(f"tolerance {self.tolerance_rad} rad: must be above 0 and at most pi")
        if not 0 <= self.rate_tolerance_rad_s < np.inf:
            raise SparsematchError(f"rate_tolerance {self.rate_tolerance_rad_s} rad/s: must be 0 or more, and finite")
        if not self.hold_s >= 0:
            raise SparsematchError(f"hold_time {self.hold_s} s: must be 0 or more")

    def met_by(self, answer: Answer) -> bool:
        """Tell whether the body is on the target, as an answer about it has it. NaN is not."""
        steady = not self.rate_tolerance_rad_s or answer.rate_error_rad_s <= self.rate_tolerance_rad_s
        return bool(answer.off_boresight_rad <= self.tolerance_rad and steady)


@dataclass(frozen=True)
class Progress:
    """How far a goal is.

    Attributes:
        answer: the last one.
        stamp_ns: of its array [ns].
        asked_ns: stamp of the last array in which the target could be asked for, or was met [ns].
        state: slewing, holding or waiting.
        met_since_ns: stamp of the first array of those without a break that show it met [ns], or None.
        error_rad: angle between boresight and target when it was seen last [rad]; NaN before.

    """

    answer: Answer
    stamp_ns: int
    asked_ns: int
    state: GoalState = GoalState.SLEWING
    met_since_ns: int | None = None
    error_rad: float = float("nan")


@dataclass(frozen=True)
class Outcome:
    """How a goal ended; `Code.NONE` where it was held as long as wanted."""

    code: Code
    reason: str


def is_pursued(answer: Answer) -> bool:
    """Tell whether an answer asks for its target, or need not because the body is on it."""
    return answer.target_id is not None and (answer.decision == Decision.SENT or answer.code == Code.DEAD_BAND)


def is_lost(target: UUID, objects: Sequence[SpaceObject]) -> bool:
    """Tell whether an object is given up or not among those of a usable image: its identity is no more."""
    return not any(item.id == target and item.state != ObjectState.LOST for item in objects)


def advance(goal: Goal, progress: Progress, answer: Answer, stamp_ns: int) -> Progress:
    """Take one array's answer into account.

    Args:
        goal: what is wanted.
        progress: after the last array.
        answer: to the array, with no other target than the goal's.
        stamp_ns: of the array [ns].

    """
    progress = replace(at_time(progress, stamp_ns), answer=answer, stamp_ns=stamp_ns)
    if not is_pursued(answer):
        return replace(progress, state=GoalState.WAITING, met_since_ns=None)
    progress = replace(progress, asked_ns=stamp_ns, error_rad=answer.off_boresight_rad)
    if not goal.met_by(answer):
        return replace(progress, state=GoalState.SLEWING, met_since_ns=None)
    since_ns = stamp_ns if progress.met_since_ns is None else progress.met_since_ns
    return replace(progress, state=GoalState.HOLDING, met_since_ns=since_ns)


def at_time(progress: Progress, now_ns: int) -> Progress:
    """Count from now what lies in the future: the clock was set back."""
    if progress.asked_ns <= now_ns:
        return progress
    return replace(progress, asked_ns=now_ns, met_since_ns=None)


def outcome(goal: Goal, progress: Progress, now_ns: int, patience_s: float) -> Outcome | None:
    """Say how a goal ends now, or None where it goes on.

    Args:
        goal: what is wanted.
        progress: up to now.
        now_ns: time now [ns].
        patience_s: how long nothing need be asked; as long as a request holds, the spacecraft still follows the last.

    """
    since_ns = progress.met_since_ns
    if since_ns is not None and (progress.stamp_ns - since_ns) / NANOSECONDS >= goal.hold_s:
        return Outcome(Code.NONE, f"{np.degrees(progress.error_rad):.3f} deg off, held for {goal.hold_s} s")
    silent_s = (now_ns - progress.asked_ns) / NANOSECONDS
    if silent_s <= patience_s:
        return None
    if progress.state != GoalState.WAITING:
        return Outcome(Code.STALE, f"no array of objects for {silent_s:.1f} s, limit {patience_s} s")
    answer = progress.answer
    code = Code.TARGET_LOST if answer.code == Code.NO_TARGET else answer.code
    return Outcome(code, f"nothing could be asked for {silent_s:.1f} s, limit {patience_s} s: {answer.reason}")
