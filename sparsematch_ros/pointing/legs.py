"""Planning of a slew's legs: from an attitude and rate onto a target that turns, within limits of both.

What `Leg` moves is chosen here: the axis, how fast about it, and what becomes of a rate across.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.pointing.profile import Limits, to_rest
from sparsematch_ros.pointing.quaternions import from_rotation_vector, inverse, product, rotation_vector
from sparsematch_ros.pointing.slew import Attitude, Leg
from sparsematch_ros.pointing.vectors import cross, length, turned

FloatArray = NDArray[np.float64]

# Angles [rad] and rates [rad/s] under this are nothing.
NOTHING = 1e-12
# Half a turn up to this [rad] has two axes that are as good; the one whose largest component is positive is taken.
HALF_TURN_TOLERANCE_RAD = 1e-9
# Share of the acceleration that at most goes into turning the slew's axis along with the target.
TURNING_SHARE = 0.3
# Share of the acceleration that at most goes into a rate across the slew's axis.
ACROSS_SHARE = 0.5
# Share of the acceleration up to which a rate is matched in the turning frame of the target.
MATCHING_SHARE = 0.8


def plan_legs(start: Attitude, target: Attitude, limits: Limits) -> tuple[Leg, ...]:
    """Turn from an attitude and rate onto a target that turns, the shorter way in time, within the limits.

    The rate toward the target is used, not braked, and a small rate across is taken out beside the slew. A large one is
    taken out first. Planned anew on the way, the slew goes on as it was.

    Args:
        start: attitude and rate now.
        target: the one to meet; its rate must leave something of the limit.
        limits: of rate and acceleration.

    """
    legs: list[Leg] = []
    motion = _motion(start, target)
    if _unruly(motion, target, limits):
        relative_N = start.omega_BN_N_rad_s - target.omega_BN_N_rad_s
        turning = length(cross(target.omega_BN_N_rad_s, relative_N))
        if turning > MATCHING_SHARE * limits.max_acceleration_rad_s2:
            legs.append(match_rate(start, np.zeros(3), limits))
            start = legs[-1].end
        legs.append(match_rate(start, target.omega_BN_N_rad_s, limits))
        target = target.at(sum(leg.duration_s for leg in legs))
        motion = _motion(legs[-1].end, target)
    return (*legs, _slew_leg(motion, target, limits))


def match_rate(start: Attitude, omega_N_rad_s: FloatArray, limits: Limits) -> Leg:
    """Change the rate to another one, wherever that leads: about one axis as seen from the attitude that is reached.

    Args:
        start: attitude and rate now.
        omega_N_rad_s: `(3,)` wanted rate in N; zeros to come to rest.
        limits: of rate and acceleration.

    """
    relative_N = start.omega_BN_N_rad_s - omega_N_rad_s
    rate, turning = length(relative_N), length(cross(omega_N_rad_s, relative_N))
    acceleration = limits.max_acceleration_rad_s2
    braking = sqrt(max(acceleration**2 - turning**2, (0.1 * acceleration) ** 2))
    axis_B = (relative_N / rate) @ start.matrix if rate > NOTHING else np.array([0.0, 0.0, 1.0])
    angle = rate**2 / (2 * braking)
    target = Attitude(product(start.q_NB_xyzw, from_rotation_vector(angle * axis_B)), omega_N_rad_s)
    return Leg(target, axis_B, to_rest(-angle, rate, (np.inf, np.inf), braking), axis_B, None)


@dataclass(frozen=True, eq=False)
class _Motion:
    """How the body turns as seen from T.

    Attributes:
        axis_T: `(3,)` eigenaxis from T to the body.
        angle: about it [rad].
        rate: about it [rad/s].
        across_T: `(3,)` the rest of the rate.
        across_rate: its length.
        omega_TN_T: `(3,)` rate of T itself.

    """

    axis_T: FloatArray
    angle: float
    rate: float
    across_T: FloatArray
    across_rate: float
    omega_TN_T: FloatArray


def _motion(start: Attitude, target: Attitude) -> _Motion:
    omega_TN_T = target.omega_BN_N_rad_s @ target.matrix
    relative_T = start.omega_BN_N_rad_s @ target.matrix - omega_TN_T
    axis_T, angle = _eigenaxis(rotation_vector(product(inverse(target.q_NB_xyzw), start.q_NB_xyzw)), relative_T)
    rate = float(axis_T @ relative_T)
    across_T = relative_T - rate * axis_T
    across_rate = length(across_T)
    return _Motion(axis_T, angle, rate, across_T, across_rate if across_rate > NOTHING else 0.0, omega_TN_T)


def _unruly(motion: _Motion, target: Attitude, limits: Limits) -> bool:
    """Tell whether the rate is too far from the way to the target's to be corrected beside the slew."""
    across, rate, target_rate = motion.across_rate, abs(motion.rate), length(target.omega_BN_N_rad_s)
    spare = limits.max_rate_rad_s - target_rate
    turning = max(across * rate, target_rate * across, target_rate * rate)
    return across > 0.25 * spare or turning > 0.2 * limits.max_acceleration_rad_s2


def _slew_leg(motion: _Motion, target: Attitude, limits: Limits) -> Leg:
    axis_T, angle, rate, across_rate = motion.axis_T, motion.angle, motion.rate, motion.across_rate
    rates = _rate_limits(motion.omega_TN_T, axis_T, across_rate, limits)
    fastest = max(*rates, abs(rate))
    turning = length(cross(motion.omega_TN_T, axis_T)) * fastest + length(motion.omega_TN_T) * across_rate
    room = max(limits.max_acceleration_rad_s2 - turning, 0.1 * limits.max_acceleration_rad_s2)
    for_side = _side_acceleration(angle, across_rate, min(rates), room)
    for_axis = sqrt(max(room**2 - for_side**2 - (fastest * across_rate) ** 2, (0.1 * room) ** 2))
    along = to_rest(angle, rate, rates, for_axis)
    if rate > 0 or motion.omega_TN_T.any():
        # The long way round is the faster one where the body already turns that way, or the target comes along it.
        along = min(along, to_rest(angle - 2 * pi, rate, rates, for_axis), key=lambda profile: profile.duration_s)
    if not across_rate:
        return Leg(target, axis_T, along, axis_T, None)
    side_T = turned(motion.across_T / across_rate, axis_T, -along.positions[:1])[0]
    return Leg(target, axis_T, along, side_T, to_rest(0.0, across_rate, (across_rate, across_rate), for_side))


def _eigenaxis(offset: FloatArray, relative_T: FloatArray) -> tuple[FloatArray, float]:
    """Give unit axis and angle of a rotation vector; on the target the axis of the rate; at half a turn always one."""
    angle = length(offset)
    if angle > NOTHING:
        axis = offset / angle
    else:
        rate = length(relative_T)
        axis, angle = (relative_T / rate if rate > NOTHING else np.array([0.0, 0.0, 1.0])), 0.0
    if angle > pi - HALF_TURN_TOLERANCE_RAD and axis[int(np.argmax(np.abs(axis)))] < 0:
        axis, angle = -axis, 2 * pi - angle
    return axis, angle


def _rate_limits(omega_TN_T: FloatArray, axis_T: FloatArray, across_rate: float, limits: Limits) -> tuple[float, float]:
    """Give the fastest relative rates both ways about the axis at which the inertial rate keeps its limit.

    They solve |omega_TN + v axis| = limit - across; and they bound what turning the axis with T takes of the
    acceleration.
    """
    along = float(omega_TN_T @ axis_T)
    limit = max(limits.max_rate_rad_s - across_rate, 0.0)
    reach = sqrt(max(along**2 + limit**2 - float(omega_TN_T @ omega_TN_T), 0.0))
    turning = max(length(cross(omega_TN_T, axis_T)), across_rate)
    most = TURNING_SHARE * limits.max_acceleration_rad_s2 / turning if turning else np.inf
    least = 1e-3 * limits.max_rate_rad_s
    return max(min(reach + along, most), least), max(min(reach - along, most), least)


def _side_acceleration(angle: float, across_rate: float, top_rate: float, room: float) -> float:
    """Give the acceleration across that is as slow about its return to 0 as the slew itself is, at most its share."""
    if not across_rate:
        return 0.0
    slew_s = 2 * sqrt(angle / room) + angle / top_rate
    needed = (1 + sqrt(2.0)) * across_rate / slew_s if slew_s > 0 else np.inf
    return float(min(max(needed, 1e-3 * room), ACROSS_SHARE * room))
