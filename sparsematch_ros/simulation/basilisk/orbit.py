"""Where a scenario's spacecraft start on their orbit around Earth; needs no Basilisk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.simulation.earth import RADIUS_KM
from sparsematch_ros.simulation.motion import BodyState, camera_state, object_states
from sparsematch_ros.simulation.scenario import Scenario

# Sine of the angle to the nadir under which an orbit's normal says nothing.
PARALLEL = 1e-3


@dataclass(frozen=True, eq=False)
class OrbitStart:
    """States at time 0, with Earth's centre as the origin of N.

    Attributes:
        camera: of the camera; its attitude is the optical frame's.
        objects: in the scenario's order.

    """

    camera: BodyState
    objects: tuple[BodyState, ...]


def orbit_start(scenario: Scenario, mu_m3_s2: float) -> OrbitStart:
    """Put the scenario's origin on a circular orbit, and everything where the scenario has it around that.

    Args:
        scenario: with `earth`, whose nadir and altitude say where the orbit is.
        mu_m3_s2: Earth's gravitational parameter.

    Raises:
        SparsematchError: where the scenario has no Earth, or an object that does not fall freely.

    """
    _check(scenario)
    if scenario.earth is None:
        raise SparsematchError(f"scenario {scenario.name} has no `earth`: an orbit needs its nadir and altitude_km")
    up = -unit_vector(scenario.earth.nadir)
    radius_m = 1e3 * (RADIUS_KM + scenario.earth.altitude_km)
    along = np.cross(unit_vector(scenario.spacecraft.orbit_normal), up)
    if float(np.linalg.norm(along)) < PARALLEL:
        raise SparsematchError(
            f"spacecraft.orbit_normal: {list(scenario.spacecraft.orbit_normal)} is parallel to the nadir"
        )
    origin = radius_m * up, np.sqrt(mu_m3_s2 / radius_m) * unit_vector(along)
    objects = tuple(_moved(state, *origin) for state in object_states(scenario, 0.0))
    return OrbitStart(_moved(camera_state(scenario, 0.0), *origin), objects)


def _moved(state: BodyState, position_N_m: FloatArray, velocity_N_m_s: FloatArray) -> BodyState:
    return BodyState(state.position_N_m + position_N_m, state.velocity_N_m_s + velocity_N_m_s, state.rotation_NB)


def _check(scenario: Scenario) -> None:
    """Refuse what only a motor could make: paths, and tumbling that changes at once."""
    if scenario.camera.attitude.turns or scenario.camera.attitude.shake or scenario.camera.attitude.jitter_deg:
        raise SparsematchError("camera.attitude: Basilisk flies after requests, so give no turns, shake or jitter_deg")
    for spec in scenario.objects:
        if spec.motion.kind == "path" or spec.attitude.turns:
            what = "motion.kind path" if spec.motion.kind == "path" else "attitude.turns"
            raise SparsematchError(f"object '{spec.name}' has {what}: Basilisk integrates free bodies only")
