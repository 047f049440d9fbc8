"""Where everything is while a flight goes on: as the scenario's formulas say, or as a simulator integrates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.motion import BodyState, camera_state, object_states, orbit_rotation
from sparsematch_ros.simulation.object_specs import Vector3
from sparsematch_ros.simulation.scenario import Scenario


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All positions at one time, in N.

    Attributes:
        camera: the camera; its attitude is the programme's, where the world has one, and not what was rendered.
        objects: in the scenario's order.
        nadir_N: `(3,)` unit vector to Earth's centre.

    """

    camera: BodyState
    objects: tuple[BodyState, ...]
    nadir_N: FloatArray


class World(Protocol):
    """What a scene and its truth ask for places."""

    def at(self, time_s: float) -> Snapshot:
        """Give the state at a time since the scenario's start [s].

        Raises:
            SparsematchError: where the world cannot tell, such as a time that an integrated one has not reached.

        """
        ...


class ScenarioWorld:
    """The scenario's own formulas: any time can be asked for."""

    def __init__(self, scenario: Scenario) -> None:
        """Take a scenario that its seed has been put into."""
        self._scenario = scenario
        self._nadir_N = unit(scenario.earth.nadir) if scenario.earth else np.array([0.0, 0.0, 1.0])

    def at(self, time_s: float) -> Snapshot:
        """Give the state at a time [s]."""
        return Snapshot(
            camera=camera_state(self._scenario, time_s),
            objects=object_states(self._scenario, time_s),
            nadir_N=orbit_rotation(self._scenario.orbit_rate_rad_s, time_s).apply(self._nadir_N),
        )


def unit(vector: Vector3) -> FloatArray:
    """Normalise a vector that is not zero."""
    return np.asarray(np.array(vector) / np.linalg.norm(vector))
