"""Where everything is at a time: positions and attitudes in the inertial frame N."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MotionSpec, ShakeSpec
from sparsematch_ros.simulation.scenario import Scenario

# Enough sinusoids that their sum is close to Gaussian.
SHAKE_TONES = 12


@dataclass(frozen=True, eq=False)
class BodyState:
    """State of a body B at a time.

    Attributes:
        position_N_m: `(3,)`.
        velocity_N_m_s: `(3,)`, as seen in N.
        rotation_NB: turns body vectors into N.
        omega_BN_N_rad_s: `(3,)` angular velocity, in N.

    """

    position_N_m: FloatArray
    velocity_N_m_s: FloatArray
    rotation_NB: Rotation
    omega_BN_N_rad_s: FloatArray = field(default_factory=lambda: np.zeros(3))


def orbit_rotation(orbit_rate_rad_s: float, time_s: float) -> Rotation:
    """Give R_NH, which turns vectors of the Hill frame H into N."""
    return Rotation.from_rotvec([0.0, 0.0, orbit_rate_rad_s * time_s])


def position_velocity(spec: MotionSpec, orbit_rate_rad_s: float, time_s: float) -> tuple[FloatArray, FloatArray]:
    """Give position [m] and velocity [m/s] in N, each `(3,)`."""
    position, velocity = np.array(spec.position_m), np.array(spec.velocity_m_s)
    if spec.kind == "path":
        return _path(spec, time_s)
    if spec.kind == "constant_velocity":
        return position + velocity * time_s, velocity
    position_H, velocity_H = _clohessy_wiltshire(position, velocity, orbit_rate_rad_s, time_s)
    rotation = orbit_rotation(orbit_rate_rad_s, time_s)
    omega_H = np.array([0.0, 0.0, orbit_rate_rad_s])
    return rotation.apply(position_H), rotation.apply(velocity_H + np.cross(omega_H, position_H))


def _path(spec: MotionSpec, time_s: float) -> tuple[FloatArray, FloatArray]:
    """Follow the spline: it starts with the given velocity and ends without acceleration."""
    times_s = [0.0, *(waypoint.time_s for waypoint in spec.waypoints)]
    places = np.array([spec.position_m, *(waypoint.position_m for waypoint in spec.waypoints)])
    spline = CubicSpline(times_s, places, bc_type=((1, np.array(spec.velocity_m_s)), (2, np.zeros(3))))
    inside_s = min(time_s, times_s[-1])
    velocity = spline(inside_s, 1)
    return spline(inside_s) + velocity * (time_s - inside_s), velocity


def _clohessy_wiltshire(r: FloatArray, v: FloatArray, n: float, t: float) -> tuple[FloatArray, FloatArray]:
    """Solve the Clohessy-Wiltshire (1960) equations; x radial, y along track, z cross track."""
    s, c = np.sin(n * t), np.cos(n * t)
    position = np.array(
        [
            (4 - 3 * c) * r[0] + s / n * v[0] + 2 / n * (1 - c) * v[1],
            6 * (s - n * t) * r[0] + r[1] - 2 / n * (1 - c) * v[0] + (4 * s / n - 3 * t) * v[1],
            c * r[2] + s / n * v[2],
        ]
    )
    velocity = np.array(
        [
            3 * n * s * r[0] + c * v[0] + 2 * s * v[1],
            -6 * n * (1 - c) * r[0] - 2 * s * v[0] + (4 * c - 3) * v[1],
            -n * s * r[2] + c * v[2],
        ]
    )
    return position, velocity


def attitude(spec: AttitudeSpec, time_s: float, seed: int = 0) -> Rotation:
    """Give R_NB at a time: the plan, with the shake and the jitter of that time where the programme has any."""
    turned = _shaken_attitude(spec, time_s, seed)
    if spec.jitter_deg == 0:
        return turned
    rng = np.random.default_rng([seed, 1, round(time_s * 1e9)])
    return turned * Rotation.from_rotvec(np.radians(rng.normal(0, spec.jitter_deg, 3)))


def planned_attitude(spec: AttitudeSpec, time_s: float) -> Rotation:
    """Give R_NB at a time without anything random: one constant body rate after the other."""
    rotation = Rotation.from_quat(spec.q_NB_xyzw)
    starts = [0.0, *(turn.start_s for turn in spec.turns)]
    rates = [spec.rate_deg_s, *(turn.rate_deg_s for turn in spec.turns)]
    for start_s, end_s, rate_deg_s in zip(starts, [*starts[1:], np.inf], rates):
        # Before time 0 the first rate counts too: an exposure may begin there.
        duration_s = min(time_s, end_s) - start_s
        rotation = rotation * Rotation.from_rotvec(np.radians(rate_deg_s) * duration_s)
        if time_s <= end_s:
            break
    return rotation


def body_rate_rad_s(spec: AttitudeSpec, time_s: float) -> FloatArray:
    """Give the planned rate `(3,)` at a time, in the body's own axes."""
    begun = [turn.rate_deg_s for turn in spec.turns if turn.start_s <= time_s]
    return np.radians(begun[-1] if begun else spec.rate_deg_s)


def turn_within(spec: AttitudeSpec, time_s: float, duration_s: float, seed: int = 0) -> FloatArray:
    """Give the rotation vector `(3,)` [rad] of the turn during an exposure about `time_s`, in the body's own axes.

    Plan and shake make it; jitter has no course within an exposure.
    """
    begin, end = (_shaken_attitude(spec, time_s + sign * duration_s / 2, seed) for sign in (-1, 1))
    return (begin.inv() * end).as_rotvec()


def _shaken_attitude(spec: AttitudeSpec, time_s: float, seed: int) -> Rotation:
    planned = planned_attitude(spec, time_s)
    return planned if spec.shake is None else planned * Rotation.from_rotvec(_shake_rad(spec.shake, time_s, seed))


def _shake_rad(spec: ShakeSpec, time_s: float, seed: int) -> FloatArray:
    """Give the shake's rotation vector `(3,)`: sinusoids of random frequencies in the band and random phases."""
    rng = np.random.default_rng([seed, 8])
    frequencies_hz = rng.uniform(spec.low_hz, spec.high_hz, (SHAKE_TONES, 3))
    phases = rng.uniform(0, 2 * np.pi, (SHAKE_TONES, 3))
    tones = np.sin(2 * np.pi * frequencies_hz * time_s + phases)
    return np.asarray(np.radians(spec.rms_deg) * np.sqrt(2 / SHAKE_TONES) * tones.sum(axis=0))


def object_states(scenario: Scenario, time_s: float) -> tuple[BodyState, ...]:
    """List the states of all objects, in the scenario's order."""
    states = []
    for spec in scenario.objects:
        moved = position_velocity(spec.motion, scenario.orbit_rate_rad_s, time_s)
        turned = attitude(spec.attitude, time_s)
        states.append(BodyState(*moved, turned, turned.apply(body_rate_rad_s(spec.attitude, time_s))))
    return tuple(states)


def camera_state(scenario: Scenario, time_s: float, seed: int = 0) -> BodyState:
    """Give the camera's position, and its optical frame's attitude by the scenario's programme."""
    spec = scenario.camera
    moved = position_velocity(spec.motion, scenario.orbit_rate_rad_s, time_s)
    return BodyState(*moved, attitude(spec.attitude, time_s, seed))
