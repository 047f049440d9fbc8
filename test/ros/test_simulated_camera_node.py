"""The camera waits for its answers, turns after requests, and writes the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import QuaternionStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray

from sparsematch_ros.data import AttitudeRequest as Request
from sparsematch_ros.media.images import camera_from_info, image_to_rgb, stamp_ns
from sparsematch_ros.nodes.conversions import quaternion_array, request_message, vector_array
from sparsematch_ros.nodes.qos import sensor_data
from sparsematch_ros.nodes.simulated_camera_node import SimulatedCameraNode

SCENARIO = """
name: small
description: a bright ball stands at the upper left
frames: 6
rate_hz: 2.0
camera: {width_px: 96, height_px: 72, horizontal_fov_deg: 30.0}
objects:
  - name: ball
    motion: {position_m: [-14.0, -6.0, 100.0]}
    mesh: {model: sphere, size_m: 8.0}
"""


class Answerer(LifecycleNode):
    """Takes the part of perception and attitude request: answers by hand, or by itself where `automatic` is set."""

    def __init__(self, name: str, reliable: bool) -> None:
        super().__init__("perception_node", namespace=name)
        self.images: list[Image] = []
        self.truth: list[SpaceObjectArray] = []
        self.infos: list[CameraInfo] = []
        self.attitudes: list[QuaternionStamped] = []
        self.clocks: list[int] = []
        self.flight: dict[str, str] = {}
        self.automatic = False
        self.asked: Callable[[Image], Request | None] = lambda image: None
        self.create_subscription(Image, "image_raw", self.images.append, sensor_data(reliable))
        self.create_subscription(CameraInfo, "camera_info", self.infos.append, sensor_data(reliable))
        self.create_subscription(QuaternionStamped, "attitude", self.attitudes.append, sensor_data(reliable))
        self.answered = 0
        self.create_timer(0.01, self._answer_next)
        self.create_subscription(SpaceObjectArray, "truth", self.truth.append, 10)
        self.create_subscription(Clock, "/clock", lambda message: self.clocks.append(stamp_ns(message.clock)), 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._objects = self.create_publisher(SpaceObjectArray, "objects", 10)
        self._statuses = self.create_publisher(AttitudeRequestStatus, "attitude_request_status", 10)
        self._requests = self.create_publisher(AttitudeRequest, "attitude_request", 10)

    def _answer_next(self) -> None:
        """Answer an image when its telemetry and truth have come too; topics keep no order among each other."""
        parts = (self.images, self.attitudes, self.truth)
        if self.automatic and all(len(part) > self.answered for part in parts):
            self.answered += 1
            self.answer(self.images[self.answered - 1])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self.get_namespace().lstrip('/')}/simulated_camera_node"):
                self.flight = {pair.key: pair.value for pair in status.values}

    def answer_objects(self, image: Image) -> None:
        """Say what perception would."""
        self._objects.publish(SpaceObjectArray(header=image.header))

    def answer_status(self, image: Image) -> None:
        """Say what attitude request would."""
        request = self.asked(image)
        decision = AttitudeRequestStatus.HELD if request is None else AttitudeRequestStatus.SENT
        self._statuses.publish(AttitudeRequestStatus(header=image.header, decision=decision))
        if request is not None:
            # After its status: the camera has to wait for the request itself.
            self._requests.publish(request_message(request))

    def answer(self, image: Image) -> None:
        """Say both."""
        self.answer_objects(image)
        self.answer_status(image)


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.fixture
def start(graph: Any, scenario: str, tmp_path: Path) -> Callable[..., Answerer]:
    """Start a camera and its answerer, which becomes active."""

    def start_both(name: str, *, active: bool = True, automatic: bool = True, **parameters: Any) -> Answerer:
        values = {"scenario": scenario, "truth_folder": str(tmp_path), **parameters}
        overrides = [Parameter(key, value=value) for key, value in values.items()]
        answerer = Answerer(name, reliable=parameters.get("lockstep", True))
        answerer.automatic = automatic
        if active:
            answerer.trigger_configure()
            answerer.trigger_activate()
        graph.add(answerer)
        graph.add(SimulatedCameraNode(namespace=name, parameter_overrides=overrides))
        return answerer

    return start_both


def finished(answerer: Answerer) -> Callable[[], bool]:
    """Whether the flight has told that it is done."""
    return lambda: answerer.flight.get("finished") == "True"


def test_nothing_is_taken_before_perception_is_active(start: Any, wait_for: Any) -> None:
    answerer = start("inactive", active=False)
    time.sleep(2.0)
    assert not answerer.images
    answerer.trigger_configure()
    answerer.trigger_activate()
    wait_for(finished(answerer), "flight")
    assert len(answerer.images) == 6 and answerer.flight["lockstep_timeouts"] == "0"


def test_time_stands_still_until_both_answers_came(start: Any, wait_for: Any) -> None:
    answerer = start("by_hand", automatic=False)
    for count in (1, 2):
        wait_for(lambda n=count: len(answerer.images) == n, "image")
        answerer.answer_objects(answerer.images[-1])
        time.sleep(0.5)
        assert len(answerer.images) == count
        answerer.answer_status(answerer.images[-1])
    wait_for(lambda: len(answerer.images) == 3, "third image")
    stamps = [stamp_ns(image.header.stamp) for image in answerer.images]
    assert np.diff(stamps).tolist() == [500_000_000] * 2
    # In a process of tests /clock is shared with other cameras, but none of them runs now.
    assert answerer.clocks[-1] == stamps[-1]


def test_an_image_without_answer_is_counted_and_the_flight_goes_on(start: Any, wait_for: Any) -> None:
    answerer = start("silent", automatic=False, answer_limit_s=0.2, frames=3)
    wait_for(finished(answerer), "flight")
    assert answerer.flight["lockstep_timeouts"] == "3" and len(answerer.images) == 3


def test_what_is_published_fits_together(start: Any, wait_for: Any, tmp_path: Path) -> None:
    """Image, intrinsics, attitude and truth have one stamp; the brightest pixels lie where truth says."""
    answerer = start("together")
    wait_for(finished(answerer), "flight")
    wait_for(lambda: len(answerer.truth) == len(answerer.infos) == len(answerer.attitudes) == 6, "telemetry")
    for parts in zip(answerer.images, answerer.infos, answerer.attitudes, answerer.truth):
        assert len({stamp_ns(part.header.stamp) for part in parts}) == 1
    image, truth = image_to_rgb(answerer.images[-1]).mean(axis=2), answerer.truth[-1].objects[0]
    rows, columns = np.nonzero(image > image.max() / 2)
    # The Sun stands behind the camera, so the whole disc is lit: its bright half-maximum is centred within 1 px.
    np.testing.assert_allclose([columns.mean(), rows.mean()], truth.centroid, atol=1.0)
    camera = camera_from_info(answerer.infos[-1])
    assert camera is not None
    np.testing.assert_allclose(camera.project(vector_array(truth.bearing)[None])[0], truth.centroid, atol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [round(line["stamp_s"] * 1e9) for line in lines] == [stamp_ns(m.header.stamp) for m in answerer.images]


@pytest.mark.parametrize("frame", ["inertial", "camera_optical_frame"])
def test_requests_in_both_frames_turn_the_camera_to_the_same_place(start: Any, wait_for: Any, frame: str) -> None:
    """Asked to look at the ball, the spacecraft ends with it in the middle: within a quarter of a pixel."""
    answerer = start(f"asked_in_{frame}", frames=30)

    def ask(image: Image) -> Request | None:
        truth, attitude = answerer.truth[answerer.answered - 1], answerer.attitudes[answerer.answered - 1]
        assert truth.header.stamp == attitude.header.stamp == image.header.stamp
        bearing = vector_array(truth.objects[0].bearing)
        inertial = Rotation.from_quat(quaternion_array(attitude.quaternion))
        R_RB = inertial if frame == "inertial" else Rotation.identity()
        bearing_R = R_RB.apply(bearing)
        turn, _ = Rotation.align_vectors(bearing_R[None], R_RB.apply([[0.0, 0.0, 1.0]]))
        return Request(
            stamp_ns=stamp_ns(image.header.stamp), reference_frame=frame, target_id=UUID(int=1),
            target_bearing_R=bearing_R, target_bearing_covariance_R=None,
            attitude_stamp_ns=stamp_ns(image.header.stamp), q_RB_xyzw=(turn * R_RB).as_quat(), omega_BR_R_rad_s=None,
            boresight_B=np.array([0.0, 0.0, 1.0]), max_rate_rad_s=0.03, max_acceleration_rad_s2=0.02, priority=1,
            reason="test", validity_s=5.0, keep_out_checked=True,
        )  # fmt: skip

    answerer.asked = ask
    wait_for(finished(answerer), "flight", 60.0)
    assert answerer.flight["requests_taken"] == "30" and answerer.flight["requests_refused"] == "0"
    np.testing.assert_allclose(answerer.truth[-1].objects[0].centroid, [47.5, 35.5], atol=0.25)
    assert answerer.flight["lockstep_timeouts"] == "0"


def test_a_request_in_an_unknown_frame_is_refused(start: Any, wait_for: Any) -> None:
    answerer = start("unknown_frame", frames=2)
    answerer.asked = lambda image: Request(
        stamp_ns=stamp_ns(image.header.stamp), reference_frame="mars", target_id=UUID(int=1),
        target_bearing_R=np.array([0.0, 0.0, 1.0]), target_bearing_covariance_R=None, attitude_stamp_ns=0,
        q_RB_xyzw=np.array([0.0, 0.0, 0.0, 1.0]), omega_BR_R_rad_s=None, boresight_B=np.array([0.0, 0.0, 1.0]),
        max_rate_rad_s=1.0, max_acceleration_rad_s2=1.0, priority=1, reason="", validity_s=1.0, keep_out_checked=True,
    )  # fmt: skip
    wait_for(finished(answerer), "flight")
    assert answerer.flight["requests_refused"] == "2" and answerer.flight["requests_taken"] == "0"


def test_real_time_runs_at_the_scenarios_rate(start: Any, wait_for: Any) -> None:
    """Six images at 2 Hz take 2.5 s, answered or not."""
    answerer = start("real_time", automatic=False, lockstep=False)
    wait_for(lambda: answerer.images, "first image")
    begin = time.monotonic()
    wait_for(finished(answerer), "flight")
    assert time.monotonic() - begin == pytest.approx(2.5, abs=0.6)
