"""A controlled spacecraft and its free neighbours in one Basilisk simulation, run from one instant to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import quaternion
from sparsematch_ros.simulation.basilisk.library import Library
from sparsematch_ros.simulation.basilisk.orbit import orbit_start
from sparsematch_ros.simulation.basilisk.telemetry import Record
from sparsematch_ros.simulation.basilisk.vehicle import Vehicle, VehicleStart, Wheels
from sparsematch_ros.simulation.motion import BodyState
from sparsematch_ros.simulation.scenario import Scenario

# Earth's gravitational parameter [m^3/s^2], as in Basilisk's Earth.
MU_M3_S2 = 3.986004415e14
# The integrator's step: the wheels' torque is constant for ten of them.
STEP_NS = 10_000_000
OBJECT_MASS_KG = 500.0
DYNAMICS, SOFTWARE = "dynamics", "software"


class Guidance(Protocol):
    """What says where the spacecraft shall point: Basilisk modules that end in an AttGuidMsg."""

    def connect(self, basilisk: Library, navigation: Any) -> tuple[Sequence[Any], Any]:
        """Make the modules, in the order in which they run, and give them with the message that control reads."""
        ...


class Rig:
    """The simulation.

    Attributes:
        carrier: the spacecraft with the camera.
        wheels: its wheels.
        objects: the free ones, in the scenario's order.
        now_ns: how far it has run [ns].

    """

    def __init__(
        self, basilisk: Library, scenario: Scenario, guidance: Guidance, sink: Callable[[Record], None] | None = None
    ) -> None:
        """Build everything and run it at time 0.

        Args:
            basilisk: from `load_basilisk`.
            scenario: as its seed makes it.
            guidance: what control shall follow.
            sink: gets a record whenever flight software has run; see `Telemetry`.

        Raises:
            SparsematchError: where the scenario cannot be put into orbit.

        """
        self._spec = scenario.spacecraft
        self._period_ns = round(NANOSECONDS / self._spec.control.rate_hz)
        if self._period_ns % STEP_NS:
            raise SparsematchError(f"spacecraft.control.rate_hz: {self._spec.control.rate_hz} must divide 100")
        self._simulation = basilisk.SimulationBaseClass.SimBaseClass()
        process = self._simulation.CreateNewProcess("flight")
        process.addTask(self._simulation.CreateNewTask(DYNAMICS, STEP_NS), 10)
        process.addTask(self._simulation.CreateNewTask(SOFTWARE, self._period_ns), 1)
        self._add_bodies(basilisk, scenario)
        self._add_software(basilisk, guidance)
        self._sink = sink
        self.now_ns = -1
        self._simulation.InitializeSimulation()
        self.run_to(0)

    def _add_bodies(self, basilisk: Library, scenario: Scenario) -> None:
        start = orbit_start(scenario, MU_M3_S2)
        programme, turn_BC = scenario.camera.attitude, Rotation.from_quat(scenario.camera.q_BC_xyzw)
        body = BodyState(
            start.camera.position_N_m, start.camera.velocity_N_m_s, start.camera.rotation_NB * turn_BC.inv()
        )
        rate_B = turn_BC.apply(np.radians(programme.rate_deg_s))
        carrier = VehicleStart(body, rate_B, self._spec.mass_kg, self._spec.inertia_kg_m2)
        self.carrier = Vehicle(basilisk, carrier, "carrier")
        self.wheels = Wheels(basilisk, self._spec.wheels, self.carrier)
        self.objects = [
            Vehicle(basilisk, VehicleStart(
                state, np.radians(spec.attitude.rate_deg_s), OBJECT_MASS_KG, self._spec.objects_inertia_kg_m2
            ), spec.name)
            for spec, state in zip(scenario.objects, start.objects)
        ]  # fmt: skip
        for vehicle in (self.carrier, *self.objects):
            vehicle.add_to(self._simulation, DYNAMICS)
        self.wheels.add_to(self._simulation, DYNAMICS)

    def _add_software(self, basilisk: Library, guidance: Guidance) -> None:
        """Put the modules into the task in the order of the data: navigation, guidance, control, wheels."""
        navigation = basilisk.simpleNav.SimpleNav()
        navigation.scStateInMsg.subscribeTo(self.carrier.model.scStateOutMsg)
        modules, command = guidance.connect(basilisk, navigation.attOutMsg)
        control, motors = self._control(basilisk, command)
        self._modules = [navigation, *modules, control, motors]
        for number, module in enumerate(self._modules):
            module.ModelTag = f"software {number}"
            self._simulation.AddModelToTask(SOFTWARE, module, 100 - number)

    def _control(self, basilisk: Library, command: Any) -> tuple[Any, Any]:
        """Make feedback on modified Rodrigues parameters, and its share for each wheel.

        For small angles sigma is a quarter of the angle, so K / 4 and P are inertia * bandwidth^2 and
        2 * inertia * damping * bandwidth (Schaub and Junkins, section 8.4).
        """
        spec, inertia = self._spec.control, float(self.carrier.inertia_kg_m2.max())
        self._vehicle_message = basilisk.messaging.VehicleConfigMsg().write(
            basilisk.messaging.VehicleConfigMsgPayload(ISCPntB_B=np.diag(self.carrier.inertia_kg_m2).ravel().tolist())
        )
        control = basilisk.mrpFeedback.mrpFeedback()
        control.K = 4 * inertia * spec.bandwidth_rad_s**2
        control.P = 2 * inertia * spec.damping * spec.bandwidth_rad_s
        # A negative gain turns the integral off.
        control.Ki = -1.0
        control.guidInMsg.subscribeTo(command)
        control.vehConfigInMsg.subscribeTo(self._vehicle_message)
        control.rwParamsInMsg.subscribeTo(self.wheels.configuration)
        control.rwSpeedsInMsg.subscribeTo(self.wheels.effector.rwSpeedOutMsg)
        motors = basilisk.rwMotorTorque.rwMotorTorque()
        motors.controlAxes_B = np.eye(3).ravel().tolist()
        motors.vehControlInMsg.subscribeTo(control.cmdTorqueOutMsg)
        motors.rwParamsInMsg.subscribeTo(self.wheels.configuration)
        self.wheels.effector.rwMotorCmdInMsg.subscribeTo(motors.rwMotorTorqueOutMsg)
        return control, motors

    def run_to(self, until_ns: int) -> None:
        """Let time pass, and hand the sink a record for every run of flight software.

        Raises:
            SparsematchError: where the instant is none of the integrator's.

        """
        if until_ns % STEP_NS:
            raise SparsematchError(
                f"{until_ns / NANOSECONDS} s is no multiple of Basilisk's step, {STEP_NS / NANOSECONDS} s: "
                "choose rate_hz and latency_s so that images and requests fall on it"
            )
        while self.now_ns < until_ns:
            tick_ns = (self.now_ns // self._period_ns + 1) * self._period_ns
            self.now_ns = min(tick_ns, until_ns)
            self._simulation.ConfigureStopTime(self.now_ns)
            self._simulation.ExecuteSimulation()
            if self.now_ns == tick_ns and self._sink is not None:
                self._sink(self._record())

    def _record(self) -> Record:
        """Write down the present: the keys of `Telemetry`."""
        state = self.carrier.state()
        away = np.array([other.state().position_N_m - state.position_N_m for other in self.objects]).reshape(-1, 3)
        return {
            "time_s": self.now_ns / NANOSECONDS,
            "q_NB_xyzw": quaternion(state.rotation_NB).tolist(),
            "omega_BN_B_rad_s": self.carrier.omega_BN_B_rad_s().tolist(),
            "wheel_torques_nm": self.wheels.torques_nm().tolist(),
            "wheel_speeds_rad_s": self.wheels.speeds_rad_s().tolist(),
            "bearings_N": (away / np.linalg.norm(away, axis=1, keepdims=True)).tolist(),
            "ranges_m": np.linalg.norm(away, axis=1).tolist(),
        }
