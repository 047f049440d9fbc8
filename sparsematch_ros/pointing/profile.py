"""Motion along one coordinate to rest at zero, as fast as limits of rate and acceleration allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsematch_ros.errors import SparsematchError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What the spacecraft can follow.

    Attributes:
        max_rate_rad_s: of the body in the inertial frame [rad/s].
        max_acceleration_rad_s2: [rad/s^2].

    """

    max_rate_rad_s: float
    max_acceleration_rad_s2: float

    def __post_init__(self) -> None:
        """Check that both are numbers above zero.

        Raises:
            SparsematchError: with the values.

        """
        if not (0 < self.max_rate_rad_s < np.inf and 0 < self.max_acceleration_rad_s2 < np.inf):
            raise SparsematchError(
                f"limits {self.max_rate_rad_s} rad/s and {self.max_acceleration_rad_s2} rad/s^2: must be above 0"
            )


def minimum_time_s(angle_rad: ArrayLike, limits: Limits) -> FloatArray:
    """Give the least time of a slew from rest to rest about one axis [s]: bang-bang, or bang-coast-bang.

    Args:
        angle_rad: to turn by, any shape.
        limits: of rate and acceleration.

    """
    angle, rate, acceleration = np.asarray(angle_rad), limits.max_rate_rad_s, limits.max_acceleration_rad_s2
    short = 2 * np.sqrt(angle / acceleration)
    return np.asarray(np.where(angle * acceleration <= rate**2, short, angle / rate + rate / acceleration))


@dataclass(frozen=True, eq=False)
class AxisProfile:
    """Pieces of constant acceleration, and rest at zero after the last.

    Attributes:
        starts_s: `(K,)` when each piece begins; the last one is the rest.
        positions: `(K,)` at these times.
        rates: `(K,)` at these times.
        accelerations: `(K,)` from these times on.
        peak_rate: largest rate without sign.

    """

    starts_s: FloatArray
    positions: FloatArray
    rates: FloatArray
    accelerations: FloatArray
    peak_rate: float

    @property
    def duration_s(self) -> float:
        """Give the time until rest [s]."""
        return float(self.starts_s[-1])

    def positions_at(self, times_s: FloatArray) -> FloatArray:
        """Give the position alone, `(N,)`, at times `(N,)` from 0 on."""
        piece = self.starts_s.searchsorted(times_s, side="right") - 1
        dt_s = times_s - self.starts_s[piece]
        return np.asarray(self.positions[piece] + (self.rates[piece] + self.accelerations[piece] * dt_s / 2) * dt_s)

    def at(self, times_s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give position, rate and acceleration, `(N,)` each, at times `(N,)` from 0 on."""
        piece = np.searchsorted(self.starts_s, times_s, side="right") - 1
        dt_s = times_s - self.starts_s[piece]
        rate, acceleration = self.rates[piece], self.accelerations[piece]
        position = self.positions[piece] + (rate + acceleration * dt_s / 2) * dt_s
        return position, rate + acceleration * dt_s, acceleration


def to_rest(position: float, rate: float, rate_limits: tuple[float, float], acceleration: float) -> AxisProfile:
    """Plan the fastest motion to rest at zero: the double integrator with a limited rate.

    Away from the limit this is time-optimal bang-bang control (Bryson and Ho, Applied Optimal Control, section 3.9). A
    rate beyond its limit is braked to it first.

    Args:
        position: now.
        rate: now.
        rate_limits: fastest rate in the negative and in the positive direction, both above 0.
        acceleration: limit in both directions, above 0.

    """
    stopping_at = position + rate * abs(rate) / (2 * acceleration)
    side = -copysign(1.0, stopping_at)
    limit = rate_limits[0] if side < 0 else rate_limits[1]
    distance, speed = -side * position, side * rate
    peak = sqrt(max(acceleration * distance + speed**2 / 2, 0.0))
    top = min(peak, limit)
    first = copysign(acceleration, top - speed)
    run_up = (top - speed) / first
    coast = 0.0
    if peak > limit:
        coast = max(distance - (top**2 - speed**2) / (2 * first) - top**2 / (2 * acceleration), 0.0) / top
    durations = (run_up, coast, top / acceleration)
    return _pieces(position, rate, durations, (side * first, 0.0, -side * acceleration), max(abs(rate), top))


def _pieces(
    position: float, rate: float, durations_s: Sequence[float], accelerations: Sequence[float], peak_rate: float
) -> AxisProfile:
    """Join pieces; what rounding leaves at their end is no motion: from there on there is rest at zero."""
    starts, positions, rates = [0.0], [position], [rate]
    for duration_s, acceleration in zip(durations_s, accelerations):
        starts.append(starts[-1] + duration_s)
        positions.append(positions[-1] + (rates[-1] + acceleration * duration_s / 2) * duration_s)
        rates.append(rates[-1] + acceleration * duration_s)
    positions[-1] = rates[-1] = 0.0
    columns = np.array([starts, positions, rates, [*accelerations, 0.0]])
    return AxisProfile(columns[0], columns[1], columns[2], columns[3], peak_rate)
