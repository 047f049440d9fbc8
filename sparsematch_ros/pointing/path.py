"""Ways over the sphere around keep-out cones: great circles between waypoints that lie just outside of them.

A visibility graph, as for obstacles in the plane (Lozano-Perez and Wesley 1979), with the sphere's great circles for
lines and polygons around the cones for obstacles; the fastest ways between all waypoints by Floyd and Warshall, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import floyd_warshall

from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.keep_out import Guard
from sparsematch_ros.pointing.profile import Limits, minimum_time_s
from sparsematch_ros.pointing.vectors import cross, length

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Waypoints around one cone: the polygon lies at most 4 % further out than the cone.
CORNERS = 12
# Wider polygons would reach around the sphere.
WIDEST_RAD = float(np.radians(89.0))
# Squared sine under which the plane of an arc is not known well enough: a short arc is then its ends, from which no
# point of it is further than 1e-4 rad; one between opposite directions may lead anywhere.
SHORT = 1e-8


def square_to(direction: FloatArray) -> FloatArray:
    """Give a unit vector square to a direction `(3,)`: across it and the axis nearest to its least component."""
    return unit_vector(cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))]))


def corners(direction_N: FloatArray, radius_rad: float) -> FloatArray:
    """Give the corners `(12, 3)` of a polygon of great circles that touch a cone from outside; none where too wide."""
    reach_rad = float(np.arctan(np.tan(radius_rad) / np.cos(np.pi / CORNERS))) if radius_rad < WIDEST_RAD else np.pi
    if reach_rad > WIDEST_RAD:
        return np.zeros((0, 3))
    first = square_to(direction_N)
    turns = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    around = np.outer(np.cos(turns), first) + np.outer(np.sin(turns), cross(direction_N, first))
    return np.cos(reach_rad) * direction_N + np.sin(reach_rad) * around


def free_arcs(a_N: FloatArray, b_N: FloatArray, guard: Guard) -> BoolArray:
    """Tell for pairs of points `(P, 3)` whether the great circle's shorter arc keeps out of every cone, `(P,)`."""
    ends_a, ends_b = a_N @ guard.directions_N.T, b_N @ guard.directions_N.T
    cosines = np.einsum("ij,ij->i", a_N, b_N)[:, None]
    squares = 1.0 - cosines**2
    # From either end toward the other, the arc may come nearer to the body: then the nearest point lies between them.
    between = (ends_b >= cosines * ends_a) & (ends_a >= cosines * ends_b) & (squares > SHORT)
    heights = (ends_a**2 + ends_b**2 - 2 * cosines * ends_a * ends_b) / np.maximum(squares, SHORT)
    nearest = np.where(between, np.sqrt(np.maximum(heights, 0.0)), np.maximum(ends_a, ends_b))
    opposite = (squares[:, 0] <= SHORT) & (cosines[:, 0] < 0)
    return np.asarray((nearest < guard.cosines).all(axis=-1) & ~opposite)


@dataclass(frozen=True, eq=False)
class Roadmap:
    """Waypoints around the cones, and the fastest ways between them, found once.

    Attributes:
        guard: the cones.
        lift_rad: how far outside of them the waypoints' polygons lie [rad].
        limits: tell what a way costs, with a rest at each waypoint.

    """

    guard: Guard
    lift_rad: float
    limits: Limits

    @cached_property
    def points_N(self) -> FloatArray:
        """Give the waypoints `(P, 3)`: corners that no cone holds."""
        guard = self.guard
        rings = [corners(body, radius + self.lift_rad) for body, radius in zip(guard.directions_N, guard.radii_rad)]
        points = np.concatenate([np.zeros((0, 3)), *rings])
        return points[~guard.held(points).any(axis=1)]

    def prepare(self) -> Roadmap:
        """Find the ways between the waypoints now, and not at the first request that needs one."""
        _ = self._ways
        return self

    @cached_property
    def _ways(self) -> tuple[FloatArray, NDArray[np.int32]]:
        """Give the seconds between any two waypoints `(P, P)`, and the one before the last on the way."""
        count = len(self.points_N)
        rows, columns = (side.ravel() for side in np.indices((count, count)))
        seconds = self._seconds(self.points_N[rows], self.points_N[columns]).reshape(count, count)
        return floyd_warshall(seconds, return_predecessors=True)

    def _seconds(self, a_N: FloatArray, b_N: FloatArray) -> FloatArray:
        """Give the time of a turn along the arc between points `(P, 3)`, infinite through a cone."""
        chords = np.sqrt(((a_N - b_N) ** 2).sum(axis=1))
        seconds = minimum_time_s(2 * np.arcsin(np.minimum(chords / 2, 1.0)), self.limits)
        return np.where(free_arcs(a_N, b_N, self.guard), seconds, np.inf)

    def way(self, start_N: FloatArray, end_N: FloatArray) -> list[FloatArray] | None:
        """Find the fastest way from one direction to another that keeps out of every cone.

        Args:
            start_N: `(3,)` outside of all cones.
            end_N: `(3,)` where to.

        Returns:
            The waypoints `(3,)` between them, in order; None where there is no way.

        """
        points = self.points_N
        count = len(points)
        ours = np.concatenate([points, points, start_N[None]])
        theirs = np.concatenate([np.broadcast_to(start_N, (count, 3)), np.broadcast_to(end_N, (count + 1, 3))])
        seconds = self._seconds(ours, theirs)
        if np.isfinite(seconds[-1]):
            return []
        if count == 0:
            return None
        between, before = self._ways
        through = seconds[:count, None] + between + seconds[None, count:-1]
        first, last = np.unravel_index(int(np.argmin(through)), through.shape)
        return self._trace(int(first), int(last), before) if np.isfinite(through[first, last]) else None

    def _trace(self, first: int, last: int, before: NDArray[np.int32]) -> list[FloatArray]:
        rows = [last]
        while rows[-1] != first:
            rows.append(int(before[first, rows[-1]]))
        return [self.points_N[row] for row in reversed(rows)]


def way_out(start_N: FloatArray, toward_N: FloatArray, guard: Guard, lift_rad: float) -> FloatArray | None:
    """Give the nearest direction outside of all cones straight away from the body of one that holds the start.

    Args:
        start_N: `(3,)` inside of at least one cone.
        toward_N: `(3,)` chooses the side where the start is the body's own direction.
        guard: the cones.
        lift_rad: how far outside the way ends [rad].

    Returns:
        `(3,)`, or None where every such way meets another cone.

    """
    best: tuple[float, FloatArray] | None = None
    for row in np.flatnonzero(guard.held(start_N)).tolist():
        end = _straight_out(start_N, toward_N, guard.directions_N[row], float(guard.radii_rad[row]) + lift_rad)
        if end is None or guard.held(end).any():
            continue
        turn_rad = float(np.arccos(np.clip(start_N @ end, -1.0, 1.0)))
        shares = np.linspace(0.0, 1.0, max(2, int(turn_rad / np.radians(0.25))))[:, None]
        arc = np.cos(shares * turn_rad) * start_N + np.sin(shares * turn_rad) * unit_vector(
            end - (start_N @ end) * start_N
        )
        if guard.entered(arc) is None and (best is None or turn_rad < best[0]):
            best = turn_rad, end
    return None if best is None else best[1]


def _straight_out(
    start_N: FloatArray, toward_N: FloatArray, body_N: FloatArray, radius_rad: float
) -> FloatArray | None:
    if radius_rad >= np.pi:
        return None
    away = start_N - (start_N @ body_N) * body_N
    if length(away) < 1e-6:
        away = toward_N - (toward_N @ body_N) * body_N
    if length(away) < 1e-6:
        away = square_to(body_N)
    return np.cos(radius_rad) * body_N + np.sin(radius_rad) * unit_vector(away)
