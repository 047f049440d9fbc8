"""A whole slew that keeps out of every cone: the direct one, one by way of waypoints, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.pointing.guidance import angle_between_rad, smallest_turn
from sparsematch_ros.pointing.keep_out import FINEST_RAD, Guard, first_entered, spacing_rad
from sparsematch_ros.pointing.legs import match_rate, plan_legs
from sparsematch_ros.pointing.path import Roadmap, way_out
from sparsematch_ros.pointing.profile import Limits, minimum_time_s
from sparsematch_ros.pointing.quaternions import product
from sparsematch_ros.pointing.slew import Attitude, Leg, Slew
from sparsematch_ros.pointing.vectors import cross, length

FloatArray = NDArray[np.float64]

# How far outside of the cones waypoints lie, tried in order, in spacings of the checked directions.
LIFTS = (1.0, 4.0, 12.0)
# A rate under this [rad/s] is rest.
REST_RAD_S = 1e-6


@dataclass(frozen=True, eq=False)
class Rules:
    """What every slew of a spacecraft has to keep.

    Attributes:
        limits: of rate and acceleration.
        guards: cones to keep out of, the boresight's first.
        spacing_rad: how far apart checked directions may lie.
        roadmaps: ways around the boresight's cones, near ones first; none where only direct slews may be flown.
        longest_s: a slew that takes longer is refused [s].

    """

    limits: Limits
    guards: tuple[Guard, ...]
    spacing_rad: float
    roadmaps: tuple[Roadmap, ...]
    longest_s: float

    @property
    def known(self) -> bool:
        """Tell whether there is any cone to keep out of."""
        return any(guard.rows for guard in self.guards)

    @classmethod
    def make(
        cls, limits: Limits, guards: tuple[Guard, ...], margin_rad: float, around: bool, longest_s: float
    ) -> Rules:
        """Prepare the ways around the cones."""
        spacing = spacing_rad(margin_rad)
        lifts = LIFTS if around and guards[0].rows else ()
        roadmaps = tuple(Roadmap(guards[0], lift * spacing, limits).prepare() for lift in lifts)
        return cls(limits, guards, spacing, roadmaps, longest_s)


@dataclass(frozen=True, eq=False)
class Task:
    """A slew to plan; time 0 is when the body begins it.

    Attributes:
        start: attitude and rate of the body.
        target: attitude to meet, and its rate.
        rules: what it has to keep.
        follow_s: how long from time 0 the target is to be followed on [s].
        roll_free: whether the angle about the boresight may be another than the target's.

    """

    start: Attitude
    target: Attitude
    rules: Rules
    follow_s: float = 0.0
    roll_free: bool = True


@dataclass(frozen=True, eq=False)
class Way:
    """A slew that may be flown.

    Attributes:
        slew: all of it.
        next_target: where its first part leads: the target, or a waypoint at rest; at time 0.
        waypoints: how many rests lie before the target.
        clear_s: until when the slew may be flown and the target followed: a body that brakes then stays outside [s].

    """

    slew: Slew
    next_target: Attitude
    waypoints: int
    clear_s: float = np.inf


@dataclass(frozen=True)
class Blocked:
    """Why there is no way: the row of the cone that is met on the direct one, or None where it takes too long."""

    row: int | None
    duration_s: float = float("nan")


def plan_way(task: Task) -> Way | Blocked:
    """Find a slew whose every direction keeps out of the cones, the direct one first.

    A start inside of a cone leaves it straight away from its body before anything else. Where the rate at the start
    would carry the boresight into a cone, the body comes to rest first. One that turns deeper into a cone has no way
    that does not: it is to be left to come to rest.
    """
    held = _held_by(task)
    deeper = None if held is None else _turns_deeper(task)
    if deeper is not None:
        return Blocked(deeper)
    # The way out of a cone is looked at closely: what is asked there is that it never leads back.
    spacing_rad = task.rules.spacing_rad if held is None else FINEST_RAD
    blocked: Blocked | None = None
    for way in _candidates(task, held is not None):
        duration_s = way.slew.duration_s
        if duration_s > task.rules.longest_s:
            blocked = blocked or Blocked(None, duration_s)
            continue
        row = entered_on(way.slew, task.rules, spacing_rad)
        clear_s, entered = (0.0, row) if row is not None else _followed(way.slew, task)
        if clear_s > duration_s or entered is None:
            return replace(way, clear_s=clear_s)
        blocked = blocked or Blocked(entered)
    return blocked or Blocked(held)


def entered_on(slew: Slew, rules: Rules, spacing_rad: float) -> int | None:
    """Give the row of the first cone that a slew enters, or None; it is looked at in steps up to the spacing [rad]."""
    if not rules.known:
        return None
    return first_entered(rules.guards, lambda axis_B: slew.sweep(axis_B, spacing_rad))


def _followed(slew: Slew, task: Task) -> tuple[float, int | None]:
    """Give until when the target may be followed on [s], and the row of the cone that it leads into, or None."""
    rate = length(slew.legs[-1].target.omega_BN_N_rad_s)
    if not task.rules.known or not rate or task.follow_s <= slew.duration_s:
        return np.inf, None
    turn_rad = (task.follow_s - slew.duration_s) * rate
    times_s = np.linspace(slew.duration_s, task.follow_s, 2 + int(turn_rad / task.rules.spacing_rad))
    for guard in task.rules.guards:
        inside = guard.held(slew.directions(times_s, guard.axis_B))
        if inside.any():
            first = int(np.argmax(inside.any(axis=1)))
            braking_s = rate / task.rules.limits.max_acceleration_rad_s2
            return float(times_s[max(first - 1, 0)]) - braking_s, guard.rows[int(np.argmax(inside[first]))]
    return np.inf, None


def _boresight_N(task: Task, attitude: Attitude) -> FloatArray:
    return np.asarray(attitude.matrix @ task.rules.guards[0].axis_B)


def _turns_deeper(task: Task) -> int | None:
    """Give the row of a cone that holds the boresight and whose body it turns toward, or None."""
    guard, here_N = task.rules.guards[0], _boresight_N(task, task.start)
    speed_N = cross(task.start.omega_BN_N_rad_s, here_N)
    deeper = np.flatnonzero(guard.held(here_N) & (guard.directions_N @ speed_N > REST_RAD_S))
    return guard.rows[int(deeper[0])] if len(deeper) else None


def _held_by(task: Task) -> int | None:
    guard = task.rules.guards[0]
    held = np.flatnonzero(guard.held(_boresight_N(task, task.start)))
    return guard.rows[int(held[0])] if len(held) else None


def _candidates(task: Task, inside: bool) -> Iterator[Way]:
    if not inside:
        yield Way(Slew(plan_legs(task.start, task.target, task.rules.limits)), task.target, 0)
    if not task.rules.roadmaps:
        return
    yield from _ways_around(task, task.start, ())
    if length(task.start.omega_BN_N_rad_s) > REST_RAD_S:
        stop = match_rate(task.start, np.zeros(3), task.rules.limits)
        legs = _finish(task, [stop], stop.end)
        if not inside:
            yield Way(Slew(tuple(legs)), stop.end, 1)
        yield from _ways_around(task, stop.end, (stop,))


def _ways_around(task: Task, start: Attitude, before: tuple[Leg, ...]) -> Iterator[Way]:
    """Plan by way of waypoints; for a moving target twice, because where it will be depends on the way's length."""
    turn_rad = angle_between_rad(_boresight_N(task, start), _boresight_N(task, task.target))
    direct_s = float(minimum_time_s(turn_rad, task.rules.limits))
    for roadmap in task.rules.roadmaps:
        arrival_s = direct_s
        for _ in range(2 if task.target.omega_BN_N_rad_s.any() else 1):
            directions = _directions(task, start, _boresight_N(task, task.target.at(arrival_s)), roadmap)
            if directions is not None:
                way = _fly(task, start, before, directions)
                arrival_s = way.slew.duration_s
                yield way


def _directions(task: Task, start: Attitude, end_N: FloatArray, roadmap: Roadmap) -> list[FloatArray] | None:
    """Give the waypoints' directions; None where there is no way."""
    guard, here_N = task.rules.guards[0], _boresight_N(task, start)
    directions = []
    if guard.held(here_N).any():
        out_N = way_out(here_N, end_N, guard, roadmap.lift_rad)
        if out_N is None:
            return None
        directions, here_N = [out_N], out_N
    around = roadmap.way(here_N, end_N)
    return None if around is None else directions + around


def _fly(task: Task, start: Attitude, before: tuple[Leg, ...], directions: list[FloatArray]) -> Way:
    legs, here, stops = list(before), start, [leg.end for leg in before]
    for direction_N in directions:
        turn = smallest_turn(_boresight_N(task, here), direction_N)
        stops.append(Attitude(product(turn, here.q_NB_xyzw), np.zeros(3)))
        legs += plan_legs(here, stops[-1], task.rules.limits)
        here = stops[-1]
    legs = _finish(task, legs, here)
    return Way(Slew(tuple(legs)), stops[0] if stops else task.target, len(stops))


def _finish(task: Task, legs: list[Leg], here: Attitude) -> list[Leg]:
    """Add the way from the last waypoint to the target: along the great circle, and then about the boresight."""
    elapsed_s = sum(leg.duration_s for leg in legs)
    target = task.target.at(elapsed_s)
    turn = smallest_turn(_boresight_N(task, here), _boresight_N(task, target))
    rolled = Attitude(product(turn, here.q_NB_xyzw), target.omega_BN_N_rad_s)
    legs = [*legs, *plan_legs(here, rolled, task.rules.limits)]
    if task.roll_free:
        return legs
    elapsed_s = sum(leg.duration_s for leg in legs)
    return [*legs, *plan_legs(legs[-1].end, task.target.at(elapsed_s), task.rules.limits)]
