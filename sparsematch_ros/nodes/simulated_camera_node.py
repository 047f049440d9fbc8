#!/usr/bin/env python3
"""A simulated camera on a spacecraft that turns after attitude requests; the only node that knows the truth."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import Header

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray
from sparsematch_ros.nodes.camera_output import CameraOutput
from sparsematch_ros.nodes.commands import command_from_request
from sparsematch_ros.nodes.conversions import stamp_message
from sparsematch_ros.nodes.listening import PerceptionWatch
from sparsematch_ros.nodes.lockstep import Answers
from sparsematch_ros.nodes.parameters import declare_settings, refuse_unknown
from sparsematch_ros.nodes.qos import ANSWERS
from sparsematch_ros.nodes.runner import run_node
from sparsematch_ros.nodes.status import Diagnostics
from sparsematch_ros.nodes.truth_message import truth_message
from sparsematch_ros.setting_fields import check_settings, setting
from sparsematch_ros.simulation.demo_options import BASILISK, DYNAMICS, KINEMATIC
from sparsematch_ros.simulation.flight import START_NS, Command, Shot
from sparsematch_ros.simulation.fly import open_flight
from sparsematch_ros.simulation.scenario import load_scenario

CLOCK_PERIOD_S = 0.05


@dataclass(frozen=True)
class SimulatedCameraSettings:
    """What the node can be told."""

    scenario: str = setting("fly_by", "scenario, by name or as a YAML file")
    seed: int = setting(0, "seed of stars, noise and clouds", minimum=0, maximum=2**31 - 1)
    frames: int = setting(0, "images to take; 0: the scenario's number", minimum=0, maximum=10**6)
    lockstep: bool = setting(
        True, "let time pass only when perception and attitude_request have answered an image; otherwise in real time"
    )
    answer_limit_s: float = setting(
        60.0, "longest wait for the answers to one image, in steady time", "s", minimum=0.1, maximum=3600.0
    )
    start_limit_s: float = setting(
        120.0, "longest wait for perception to be active, in steady time", "s", minimum=1.0, maximum=3600.0
    )
    dynamics: str = setting(
        KINEMATIC, "what turns the spacecraft: limits alone, or Basilisk's rigid body in orbit", choices=DYNAMICS
    )
    latency_s: float = setting(0.0, "time from an image until its request takes effect", "s", minimum=0.0, maximum=60.0)
    perception: str = setting("perception_node", "name of the node to wait for")
    camera_frame: str = setting("camera_optical_frame", "frame_id of images and intrinsics")
    inertial_frame: str = setting("inertial", "frame_id of attitudes and of requests that are taken")
    truth_folder: str = setting("", "folder to write truth.jsonl (and Basilisk's dynamics.jsonl) into; empty: none")

    def __post_init__(self) -> None:
        """Check the values."""
        check_settings(self)


@dataclass
class FlightStatus:
    """Counts of a flight, as `/diagnostics` tells them.

    Attributes:
        frames: images taken.
        of: images planned.
        lockstep_timeouts: images whose answers did not come in time.
        late: images that were taken after their time, in real time.
        requests_taken: requests that the spacecraft turned after.
        requests_refused: requests that it could not understand.
        finished: whether all images are taken.

    """

    frames: int = 0
    of: int = 0
    lockstep_timeouts: int = 0
    late: int = 0
    requests_taken: int = 0
    requests_refused: int = 0
    finished: bool = False


class SimulatedCameraNode(Node):
    """Flies a scenario on a thread of its own, while callbacks take answers and requests."""

    def __init__(self, **options: Any) -> None:
        """Build the scene; the flight starts when perception is active.

        Raises:
            SparsematchError: for a wrong parameter, by name, or a wrong scenario.

        """
        super().__init__("simulated_camera_node", **options)
        self._settings = declare_settings(self, SimulatedCameraSettings)
        refuse_unknown(self)
        scenario = load_scenario(self._settings.scenario)
        self._truth_file = _open_lines(self._settings.truth_folder, "truth.jsonl")
        integrated = self._settings.dynamics == BASILISK
        self._dynamics_file = _open_lines(self._settings.truth_folder if integrated else "", "dynamics.jsonl")
        self._flight = open_flight(scenario, self._settings.seed, self._settings.dynamics, self._keep_dynamics)
        self._status = FlightStatus(of=self._settings.frames or scenario.frames)
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._q_NC_by_stamp: dict[int, Any] = {}
        self._answers = Answers()
        self._failure: str | None = None
        self._make_topics()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._fly, name="flight", daemon=True)
        self._thread.start()

    def _make_topics(self) -> None:
        settings = self._settings
        self._output = CameraOutput(
            self, settings.camera_frame, settings.inertial_frame, reliable=settings.lockstep, clock=True
        )
        self._truth = self.create_publisher(SpaceObjectArray, "truth", ANSWERS)
        self._diagnostics = Diagnostics(self, "flight")
        self._objects = self.create_subscription(SpaceObjectArray, "objects", self._answers.add_objects, ANSWERS)
        self._statuses = self.create_subscription(
            AttitudeRequestStatus, "attitude_request_status", self._answers.add_status, ANSWERS
        )
        self.create_subscription(AttitudeRequest, "attitude_request", self._on_request, ANSWERS)
        self._watch = PerceptionWatch(self, settings.perception)
        # A failed flight has to end the process, and only a callback can.
        self.create_timer(0.1, self._raise_failure)

    def _on_request(self, message: AttitudeRequest) -> None:
        settings = self._settings
        try:
            command = command_from_request(
                message, settings.inertial_frame, settings.camera_frame, self._q_NC_by_stamp, settings.latency_s
            )
        except SparsematchError as error:
            self._status.requests_refused += 1
            self.get_logger().warning(f"request not taken: {error}")
        else:
            self._status.requests_taken += 1
            self._commands.put(command)
        # After the command, so that the flight finds it when it goes on.
        self._answers.add_request(message)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SparsematchError(self._failure)

    def _fly(self) -> None:
        """Take all images, then tell that it is done."""
        try:
            if not self._wait_for_listeners():
                return
            start_s = time.monotonic()
            for index in range(self._status.of):
                if not self._settings.lockstep:
                    self._wait_for_real_time(self._flight.stamp_ns(index), start_s)
                if self._stopping.is_set():
                    return
                self._take(index)
            self._status.finished = True
            self._tell()
        except SparsematchError as error:
            self._failure = str(error)

    def _wait_for_listeners(self) -> bool:
        def ticking() -> bool:
            self._output.publish_clock(START_NS)
            return not self._stopping.is_set()

        ready = self._watch.wait_active(self._listened, self._settings.start_limit_s, ticking)
        if not ready and not self._stopping.is_set():
            raise SparsematchError(
                f"'{self._settings.perception}' was not active and listening within {self._settings.start_limit_s} s"
            )
        return ready

    def _listened(self) -> bool:
        """Tell whether the image's and the answers' connections stand."""
        publishers = (self._output.images, self._output.infos, self._output.attitudes)
        topics = ("objects", "attitude_request_status") if self._settings.lockstep else ("objects",)
        return all(publisher.get_subscription_count() for publisher in publishers) and all(
            self.count_publishers(self.resolve_topic_name(topic)) for topic in topics
        )

    def _wait_for_real_time(self, image_ns: int, start_s: float) -> None:
        due_s = start_s + (image_ns - START_NS) / NANOSECONDS
        self._status.late += time.monotonic() > due_s + CLOCK_PERIOD_S
        while not self._stopping.is_set() and (left_s := due_s - time.monotonic()) > 0:
            self._output.publish_clock(image_ns - round(left_s * NANOSECONDS))
            time.sleep(min(left_s, CLOCK_PERIOD_S))

    def _take(self, index: int) -> None:
        while not self._commands.empty():
            self._flight.command(self._commands.get())
        shot = self._flight.shoot(index)
        self._q_NC_by_stamp[shot.stamp_ns] = shot.q_NC_xyzw
        self._output.publish_clock(shot.stamp_ns)
        self._publish_truth(shot)
        self._output.publish(shot.stamp_ns, shot.rendered.image, self._flight.camera, shot.telemetry_q_NB_xyzw)
        self._status.frames += 1
        if self._settings.lockstep and not self._answers.wait(shot.stamp_ns, self._settings.answer_limit_s):
            self._status.lockstep_timeouts += 1
            self.get_logger().error(f"image {index}: no answer within {self._settings.answer_limit_s} s")
        self._tell()

    def _publish_truth(self, shot: Shot) -> None:
        header = Header(stamp=stamp_message(shot.stamp_ns), frame_id=self._settings.camera_frame)
        self._truth.publish(truth_message(header, shot.truth))
        if self._truth_file is not None:
            self._truth_file.writelines(json.dumps(line) + "\n" for line in shot.truth)
            self._truth_file.flush()

    def _keep_dynamics(self, record: dict[str, Any]) -> None:
        if self._dynamics_file is not None:
            self._dynamics_file.write(json.dumps(record) + "\n")

    def _tell(self) -> None:
        status = self._status
        level, line = DiagnosticStatus.OK, f"image {status.frames} of {status.of}"
        if status.lockstep_timeouts:
            level, line = DiagnosticStatus.ERROR, f"{status.lockstep_timeouts} images were not answered in time"
        self._diagnostics.publish(level, line, vars(status))

    def close(self) -> None:
        """End the flight."""
        self._stopping.set()
        self._thread.join(timeout=2.0)
        for file in (self._truth_file, self._dynamics_file):
            if file is not None:
                file.close()


def _open_lines(folder: str, name: str) -> IO[str] | None:
    if not folder:
        return None
    path = Path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise SparsematchError(f"truth_folder: {path} cannot be written: {error.strerror}") from error


def main() -> int:
    """Run the node; gives the exit status."""
    return run_node("simulated_camera_node", SimulatedCameraNode)


if __name__ == "__main__":
    sys.exit(main())
