"""One spacecraft in Basilisk: a rigid body in Earth's gravity, with reaction wheels where it has any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.pointing.conventions import sigma_BN_from_quaternion
from sparsematch_ros.simulation.basilisk.library import Library
from sparsematch_ros.simulation.motion import BodyState
from sparsematch_ros.simulation.spacecraft_specs import WheelsSpec


@dataclass(frozen=True, eq=False)
class VehicleStart:
    """How a body starts.

    Attributes:
        state: position and velocity from Earth's centre, and attitude of the body.
        omega_BN_B_rad_s: `(3,)` its angular velocity.
        mass_kg: its mass.
        inertia_kg_m2: `(3,)` its principal moments, about the body's axes.

    """

    state: BodyState
    omega_BN_B_rad_s: FloatArray
    mass_kg: float
    inertia_kg_m2: tuple[float, float, float]


class Vehicle:
    """A body that Basilisk integrates.

    Attributes:
        model: Basilisk's `spacecraft` module.
        inertia_kg_m2: `(3,)` principal moments.

    """

    def __init__(self, basilisk: Library, start: VehicleStart, tag: str) -> None:
        """Set the body up; `add_to` puts it into a task."""
        self._basilisk = basilisk
        self.inertia_kg_m2 = np.array(start.inertia_kg_m2)
        self.model = basilisk.spacecraft.Spacecraft()
        self.model.ModelTag = tag
        hub, state = self.model.hub, start.state
        hub.mHub = start.mass_kg
        hub.r_BcB_B = [[0.0], [0.0], [0.0]]
        hub.IHubPntBc_B = np.diag(self.inertia_kg_m2).tolist()
        hub.r_CN_NInit = _column(state.position_N_m)
        hub.v_CN_NInit = _column(state.velocity_N_m_s)
        hub.sigma_BNInit = _column(sigma_BN_from_quaternion(state.rotation_NB.as_quat()))
        hub.omega_BN_BInit = _column(start.omega_BN_B_rad_s)
        # The factory owns the gravity model's memory, so it has to live as long as the body.
        self._gravity = basilisk.simIncludeGravBody.gravBodyFactory()
        self._gravity.createEarth().isCentralBody = True
        self._gravity.addBodiesTo(self.model)

    def add_to(self, simulation: Any, task: str) -> None:
        """Have a task integrate it."""
        simulation.AddModelToTask(task, self.model, 10)

    def state(self) -> BodyState:
        """Read position [m] and velocity [m/s] from Earth's centre, attitude and rate, as last integrated."""
        message = self.model.scStateOutMsg.read()
        rotation_NB = Rotation.from_mrp(message.sigma_BN)
        omega_BN_N = rotation_NB.apply(message.omega_BN_B)
        return BodyState(np.array(message.r_BN_N), np.array(message.v_BN_N), rotation_NB, omega_BN_N)

    def omega_BN_B_rad_s(self) -> FloatArray:
        """Give the angular velocity `(3,)`, in B."""
        return np.array(self.model.scStateOutMsg.read().omega_BN_B)


class Wheels:
    """Four reaction wheels on a vehicle.

    Attributes:
        effector: Basilisk's `reactionWheelStateEffector` module.
        configuration: message with the wheels' axes and inertias, for flight software.
        axes_B: `(4, 3)` unit vectors of the spin axes.
        inertia_kg_m2: of a wheel about its axis.

    """

    def __init__(self, basilisk: Library, spec: WheelsSpec, vehicle: Vehicle) -> None:
        """Mount the wheels, all at rest."""
        self.axes_B = wheel_axes(spec.elevation_deg)
        self._factory = basilisk.simIncludeRW.rwFactory()
        for axis in self.axes_B:
            self._factory.create(
                "custom", axis.tolist(), Omega_max=spec.speed_rpm, maxMomentum=spec.momentum_nms, u_max=spec.torque_nm,
                Omega=0.0, RWModel=basilisk.messaging.BalancedWheels,
            )  # fmt: skip
        self.inertia_kg_m2 = spec.momentum_nms / (spec.speed_rpm * basilisk.macros.RPM)
        self.effector = basilisk.reactionWheelStateEffector.ReactionWheelStateEffector()
        self._factory.addToSpacecraft("wheels", self.effector, vehicle.model)
        self.configuration = self._factory.getConfigMessage()

    def add_to(self, simulation: Any, task: str) -> None:
        """Have a task serve the wheels, after their body is integrated."""
        simulation.AddModelToTask(task, self.effector, 5)

    def torques_nm(self) -> FloatArray:
        """Give the motors' torques `(4,)`, as limited."""
        return np.array([message.read().u_current for message in self.effector.rwOutMsgs])

    def speeds_rad_s(self) -> FloatArray:
        """Give the wheels' speeds `(4,)` relative to the body."""
        return np.array(self.effector.rwSpeedOutMsg.read().wheelSpeeds[: len(self.axes_B)])


def wheel_axes(elevation_deg: float) -> FloatArray:
    """Give the spin axes `(4, 3)`: on the edges of a pyramid about z, between the x and y axes."""
    azimuth, elevation = np.radians([45.0, 135.0, 225.0, 315.0]), np.radians(elevation_deg)
    flat = np.cos(elevation)
    return np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.full(4, np.sin(elevation))])


def _column(vector: FloatArray) -> list[list[float]]:
    return [[float(value)] for value in vector]
