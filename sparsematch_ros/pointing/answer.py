"""What is said about one array of objects, and what is remembered for the next."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from uuid import UUID

from sparsematch_ros.data import AttitudeRequest, SpaceObject
from sparsematch_ros.pointing.way import Blocked


class Decision(enum.IntEnum):
    """What was done with an array; the values are those of `AttitudeRequestStatus.msg`."""

    SENT = 0
    HELD = 1
    REFUSED = 2


class Code(enum.IntEnum):
    """Why; the values are those of `AttitudeRequestStatus.msg`."""

    NONE = 0
    DISABLED = 1
    NO_TARGET = 2
    DEAD_BAND = 3
    STALE = 4
    KEEP_OUT = 5
    UNCHECKED = 6
    NO_BEARING = 7
    BAD_INPUT = 8
    RATE_LIMIT = 9
    FRAME_UNKNOWN = 10
    UNCONFIRMED = 11
    SUPERSEDED = 12
    TARGET_LOST = 13
    CANCELLED = 14


HELD_CODES = (Code.DISABLED, Code.NO_TARGET, Code.DEAD_BAND, Code.TARGET_LOST)


@dataclass(frozen=True)
class Memory:
    """All that one decision takes over from the one before.

    Attributes:
        stamp_ns: of the last array [ns], or None.
        target: object of the last request, or None.
        target_since_ns: stamp at which it was first chosen [ns].
        requested_ns: stamp of the last request [ns], or None.
        rival: object that beats the target, or None.
        rival_since_ns: stamp from which on it has done so without a break [ns].
        rival_arrays: in how many arrays it has.
        recovering: whether the target was lost and what `when_lost` asks for is not reached yet.

    """

    stamp_ns: int | None = None
    target: UUID | None = None
    target_since_ns: int = 0
    requested_ns: int | None = None
    rival: UUID | None = None
    rival_since_ns: int = 0
    rival_arrays: int = 0
    recovering: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What is done with one array, in the terms of `AttitudeRequestStatus.msg`.

    Attributes:
        decision: sent, held or refused.
        code: why.
        reason: the same in words.
        target_id: the object it is about, or None.
        choice: why this object, in words; empty without one.
        off_boresight_rad: angle between boresight and target at the image [rad]; NaN without a target.
        rate_error_rad_s: between the body's rate and the one to follow the target [rad/s]; NaN where unknown.
        time_to_go_s: until the target is met, from the time that the request's attitude holds at [s]; NaN where none.
        request: where one is sent.
        memory: what to hand to the next decision; None: what there was.

    """

    decision: Decision
    code: Code
    reason: str
    target_id: UUID | None = None
    off_boresight_rad: float = float("nan")
    rate_error_rad_s: float = float("nan")
    time_to_go_s: float = float("nan")
    request: AttitudeRequest | None = None
    memory: Memory | None = None
    choice: str = ""


def no(code: Code, reason: str, target: SpaceObject | None = None) -> Answer:
    """Hold or refuse, as the code has it."""
    decision = Decision.HELD if code in HELD_CODES else Decision.REFUSED
    return Answer(decision, code, reason, target.id if target else None)


def no_way(way: Blocked, longest_slew_s: float, target: SpaceObject | None = None) -> Answer:
    """Refuse a slew that was not found, to an object or back: it takes too long, or a cone bars every way."""
    if way.row is None:
        reason = f"the slew would take {way.duration_s:.1f} s, limit {longest_slew_s} s"
        return no(Code.RATE_LIMIT, reason, target)
    return no(Code.KEEP_OUT, f"every way found passes keep-out body {way.row}", target)
