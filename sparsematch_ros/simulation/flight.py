"""A scenario flown frame by frame with a spacecraft that turns after requests; knows no ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.simulation.attitude import CameraBody
from sparsematch_ros.simulation.dynamics import Dynamics
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.scene import Rendered, Scene
from sparsematch_ros.simulation.telemetry import flight_telemetry
from sparsematch_ros.simulation.truth import TruthRecorder
from sparsematch_ros.simulation.world import World

FloatArray = NDArray[np.float64]

# Stamps start here, because a stamp of zero means "none" in messages and "no time yet" to ROS clocks.
START_NS = 10 * NANOSECONDS


@dataclass(frozen=True, eq=False)
class Shot:
    """One image of a flight.

    Attributes:
        index: counts from 0.
        stamp_ns: of the image [ns].
        q_NB_xyzw: `(4,)` the body's attitude.
        q_NC_xyzw: `(4,)` the camera's attitude.
        telemetry_q_NB_xyzw: `(4,)` the body's attitude as it is reported.
        rendered: the image and the truth about its pixels.
        truth: records of `truth.jsonl`.

    """

    index: int
    stamp_ns: int
    q_NB_xyzw: FloatArray
    q_NC_xyzw: FloatArray
    telemetry_q_NB_xyzw: FloatArray
    rendered: Rendered
    truth: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Command:
    """An inertial attitude to turn to.

    Attributes:
        effective_ns: when the spacecraft takes it up [ns].
        attitude_ns: when `q_NB_xyzw` holds [ns].
        expires_ns: when it is to be ignored [ns].
        q_NB_xyzw: `(4,)` requested attitude.
        omega_BN_N_rad_s: `(3,)` its angular velocity, or None for at rest.

    """

    effective_ns: int
    attitude_ns: int
    expires_ns: int
    q_NB_xyzw: FloatArray
    omega_BN_N_rad_s: FloatArray | None


class Flight:
    """Moves the spacecraft from frame to frame and takes the images."""

    def __init__(
        self, scenario: Scenario, seed: int, dynamics: Dynamics | None = None, world: World | None = None
    ) -> None:
        """Build the scene.

        Args:
            scenario: what is flown.
            seed: of everything that is random.
            dynamics: the spacecraft that carries the camera; None for one that turns within limits, without mass.
            world: where everything is; None for the scenario's own formulas.

        Raises:
            SparsematchError: where a mesh file cannot be read.

        """
        self._scene = Scene(scenario, seed, world)
        self._scenario = self._scene.scenario
        self._recorder = TruthRecorder(self._scene)
        self._body: Dynamics = dynamics or CameraBody(scenario.camera)
        self._waiting: deque[Command] = deque()
        self._expires_ns: int | None = None
        self._now_ns = START_NS

    @property
    def camera(self) -> CameraModel:
        """Give the intrinsics."""
        return self._scene.camera

    def stamp_ns(self, index: int) -> int:
        """Give the stamp of a frame [ns]."""
        return START_NS + round(self._scenario.time_s(index) * NANOSECONDS)

    def command(self, command: Command) -> None:
        """Take up a command when its time comes."""
        self._waiting.append(command)

    def shoot(self, index: int) -> Shot:
        """Let time pass until a frame, and take it."""
        stamp = self.stamp_ns(index)
        self._pass_time(stamp)
        time_s = (stamp - START_NS) / NANOSECONDS
        q_NC = self._body.q_NC_xyzw
        turn_N_rad = self._body.omega_BN_N_rad_s * self._scenario.sensor.exposure_s
        rendered = self._scene.render(time_s, q_NC, Rotation.from_quat(q_NC).inv().apply(turn_N_rad))
        truth = self._recorder.record(index, time_s, q_NC, rendered)
        stamped = [{**line, "stamp_s": stamp / NANOSECONDS} for line in truth]
        q_NB, seed = self._body.q_NB_xyzw, self._scene.seed
        reported = flight_telemetry(self._scenario.telemetry, q_NB, self._body.omega_BN_N_rad_s, time_s, seed)
        return Shot(index, stamp, q_NB, q_NC, reported, rendered, stamped)

    def _pass_time(self, until_ns: int) -> None:
        """Step from one event to the next: a command that takes effect, one that expires, the frame."""
        while self._now_ns < until_ns:
            self._take_up()
            events = [until_ns, *(command.effective_ns for command in self._waiting)]
            if self._expires_ns is not None:
                events.append(self._expires_ns)
            event_ns = min(event for event in events if event > self._now_ns)
            self._body.step((event_ns - self._now_ns) / NANOSECONDS)
            self._now_ns = event_ns
        self._take_up()

    def _take_up(self) -> None:
        while self._waiting and self._waiting[0].effective_ns <= self._now_ns:
            command = self._waiting.popleft()
            age_s = (self._now_ns - command.attitude_ns) / NANOSECONDS
            self._body.follow(command.q_NB_xyzw, command.omega_BN_N_rad_s, age_s)
            self._expires_ns = command.expires_ns
        if self._expires_ns is not None and self._expires_ns <= self._now_ns:
            self._body.hold()
            self._expires_ns = None
