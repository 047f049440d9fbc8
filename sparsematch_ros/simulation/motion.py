"""Where everything is at a time: positions and attitudes in the inertial frame N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.scenario import AttitudeSpec, MotionSpec, Scenario


@dataclass(frozen=True, eq=False)
class BodyState:
    """State of a body B at a time.

    Attributes:
        position_N_m: `(3,)`.
        velocity_N_m_s: `(3,)`, as seen in N.
        rotation_NB: turns body vectors into N.

    """

    position_N_m: FloatArray
    velocity_N_m_s: FloatArray
    rotation_NB: Rotation


def orbit_rotation(orbit_rate_rad_s: float, time_s: float) -> Rotation:
    """Give R_NH, which turns vectors of the Hill frame H into N."""
    return Rotation.from_rotvec([0.0, 0.0, orbit_rate_rad_s * time_s])


def position_velocity(spec: MotionSpec, orbit_rate_rad_s: float, time_s: float) -> tuple[FloatArray, FloatArray]:
    """Give position [m] and velocity [m/s] in N, each `(3,)`."""
    position, velocity = np.array(spec.position_m), np.array(spec.velocity_m_s)
    if spec.kind == "constant_velocity":
        return position + velocity * time_s, velocity
    position_H, velocity_H = _clohessy_wiltshire(position, velocity, orbit_rate_rad_s, time_s)
    rotation = orbit_rotation(orbit_rate_rad_s, time_s)
    omega_H = np.array([0.0, 0.0, orbit_rate_rad_s])
    return rotation.apply(position_H), rotation.apply(velocity_H + np.cross(omega_H, position_H))


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
    """Give R_NB at a time: constant body rate, with the jitter of that time where the programme has any."""
    turned = Rotation.from_quat(spec.q_NB_xyzw) * Rotation.from_rotvec(np.radians(spec.rate_deg_s) * time_s)
    if spec.jitter_deg == 0:
        return turned
    rng = np.random.default_rng([seed, 1, round(time_s * 1e9)])
    return turned * Rotation.from_rotvec(np.radians(rng.normal(0, spec.jitter_deg, 3)))


def object_states(scenario: Scenario, time_s: float) -> tuple[BodyState, ...]:
    """Give the state of every object, in the scenario's order."""
    return tuple(
        BodyState(*position_velocity(spec.motion, scenario.orbit_rate_rad_s, time_s), attitude(spec.attitude, time_s))
        for spec in scenario.objects
    )


def camera_state(scenario: Scenario, time_s: float, seed: int = 0) -> BodyState:
    """Give the camera's position, and its optical frame's attitude by the scenario's programme."""
    spec = scenario.camera
    moved = position_velocity(spec.motion, scenario.orbit_rate_rad_s, time_s)
    return BodyState(*moved, attitude(spec.attitude, time_s, seed))
