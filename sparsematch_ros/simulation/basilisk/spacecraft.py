"""The camera's spacecraft as Basilisk integrates it: what a flight turns, and where it finds its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS, FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import quaternion, unit_vector
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude
from sparsematch_ros.simulation.basilisk.library import load_basilisk
from sparsematch_ros.simulation.basilisk.reference import SlewReference
from sparsematch_ros.simulation.basilisk.requested import RequestedGuidance
from sparsematch_ros.simulation.basilisk.rig import Rig
from sparsematch_ros.simulation.basilisk.telemetry import Record
from sparsematch_ros.simulation.motion import BodyState
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.world import Snapshot


class BasiliskSpacecraft:
    """Dynamics and world of a flight, from one simulation."""

    def __init__(self, scenario: Scenario, sink: Callable[[Record], None] | None = None) -> None:
        """Start the simulation.

        Args:
            scenario: as its seed makes it.
            sink: gets a record whenever flight software has run; see `Telemetry`.

        Raises:
            SparsematchError: where Basilisk is missing or the scenario cannot be put into orbit.

        """
        self._rotation_BC = Rotation.from_quat(scenario.camera.q_BC_xyzw)
        slew, programme = scenario.camera.slew, scenario.camera.attitude
        limits = Limits(float(np.radians(slew.max_rate_deg_s)), float(np.radians(slew.max_acceleration_deg_s2)))
        rotation_NC = Rotation.from_quat(programme.q_NB_xyzw)
        start = Attitude(
            quaternion(rotation_NC * self._rotation_BC.inv()), rotation_NC.apply(np.radians(programme.rate_deg_s))
        )
        self._reference = SlewReference(start, limits)
        self._period_ns = round(NANOSECONDS / scenario.spacecraft.control.rate_hz)
        self._rig = Rig(load_basilisk(), scenario, RequestedGuidance(self._reference, self._period_ns), sink)

    @property
    def q_NB_xyzw(self) -> FloatArray:
        """Give the body's attitude `(4,)`."""
        return quaternion(self._rig.carrier.state().rotation_NB)

    @property
    def q_NC_xyzw(self) -> FloatArray:
        """Give the camera's attitude `(4,)`."""
        return quaternion(self._rig.carrier.state().rotation_NB * self._rotation_BC)

    @property
    def omega_BN_N_rad_s(self) -> FloatArray:
        """Give the body's angular velocity `(3,)`, in N."""
        carrier = self._rig.carrier
        return np.asarray(carrier.state().rotation_NB.apply(carrier.omega_BN_B_rad_s()))

    def follow(self, q_NB_xyzw: FloatArray, omega_BN_N_rad_s: FloatArray | None = None, age_s: float = 0.0) -> None:
        """Turn toward an attitude from now on, and with it as it turns; see `Dynamics.follow`."""
        begin_ns = self._next_run_ns()
        later_s = (begin_ns - self._rig.now_ns) / NANOSECONDS
        self._reference.follow(begin_ns, q_NB_xyzw, omega_BN_N_rad_s, age_s + later_s)

    def hold(self) -> None:
        """Come to rest, and stay at the attitude where the reference is now."""
        self._reference.hold(self._next_run_ns())

    def _next_run_ns(self) -> int:
        """Give when flight software runs next: a slew that began before would have to be caught up with."""
        return (self._rig.now_ns // self._period_ns + 1) * self._period_ns

    def step(self, dt_s: float) -> None:
        """Let time pass.

        Raises:
            SparsematchError: where the instant is none of the integrator's.

        """
        self._rig.run_to(self._rig.now_ns + round(dt_s * NANOSECONDS))

    def at(self, time_s: float) -> Snapshot:
        """Give where everything is, with the camera as origin.

        Raises:
            SparsematchError: for a time other than the one that is reached.

        """
        if round(time_s * NANOSECONDS) != self._rig.now_ns:
            raise SparsematchError(f"asked for {time_s} s, but Basilisk stands at {self._rig.now_ns / NANOSECONDS} s")
        carrier = self._rig.carrier.state()
        origin = BodyState(np.zeros(3), np.zeros(3), carrier.rotation_NB * self._rotation_BC)
        states = (other.state() for other in self._rig.objects)
        objects = tuple(
            BodyState(
                state.position_N_m - carrier.position_N_m, state.velocity_N_m_s - carrier.velocity_N_m_s,
                state.rotation_NB, state.omega_BN_N_rad_s,
            )
            for state in states
        )  # fmt: skip
        return Snapshot(origin, objects, unit_vector(-carrier.position_N_m))
