"""The camera node on a spacecraft that Basilisk integrates: telemetry is its truth, and requests turn its reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import QuaternionStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray

from sparsematch_ros.data import AttitudeRequest as Request
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.conversions import quaternion_array, request_message
from sparsematch_ros.nodes.qos import sensor_data
from sparsematch_ros.nodes.simulated_camera_node import SimulatedCameraNode
from sparsematch_ros.simulation.flight import START_NS

pytest.importorskip("Basilisk", reason="Basilisk is an optional extra")

SCENARIO = """
name: pair
description: a bright ball on a neighbouring orbit
frames: 20
rate_hz: 2.0
camera: {width_px: 96, height_px: 72, horizontal_fov_deg: 30.0}
earth: {nadir: [0.0, 1.0, 0.0]}
spacecraft: {orbit_normal: [1.0, 0.0, 0.0]}
objects:
  - name: ball
    motion: {position_m: [-14.0, -6.0, 100.0]}
    mesh: {model: sphere, size_m: 8.0}
"""
WANTED = Rotation.from_rotvec(np.radians([3.0, -6.0, 2.0]))


class Answerer(LifecycleNode):
    """Takes the part of perception and attitude request, and asks for one resting attitude at every image."""

    def __init__(self) -> None:
        super().__init__("perception_node", namespace="basilisk")
        self.attitudes: dict[int, QuaternionStamped] = {}
        self.flight: dict[str, str] = {}
        self.create_subscription(Image, "image_raw", self._answer, sensor_data(True))
        self.create_subscription(CameraInfo, "camera_info", lambda message: None, sensor_data(True))
        self.create_subscription(QuaternionStamped, "attitude", self._on_attitude, sensor_data(True))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._objects = self.create_publisher(SpaceObjectArray, "objects", 10)
        self._statuses = self.create_publisher(AttitudeRequestStatus, "attitude_request_status", 10)
        self._requests = self.create_publisher(AttitudeRequest, "attitude_request", 10)

    def _on_attitude(self, message: QuaternionStamped) -> None:
        self.attitudes[stamp_ns(message.header.stamp)] = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith("basilisk/simulated_camera_node"):
                self.flight = {pair.key: pair.value for pair in status.values}

    def _answer(self, image: Image) -> None:
        self._objects.publish(SpaceObjectArray(header=image.header))
        self._statuses.publish(AttitudeRequestStatus(header=image.header, decision=AttitudeRequestStatus.SENT))
        stamp = stamp_ns(image.header.stamp)
        self._requests.publish(request_message(Request(
            stamp_ns=stamp, reference_frame="inertial", target_id=UUID(int=1),
            target_bearing_R=WANTED.apply([0.0, 0.0, 1.0]), target_bearing_covariance_R=None, attitude_stamp_ns=stamp,
            q_RB_xyzw=WANTED.as_quat(), omega_BR_R_rad_s=None, boresight_B=np.array([0.0, 0.0, 1.0]),
            max_rate_rad_s=0.03, max_acceleration_rad_s2=0.02, priority=1, reason="test", validity_s=5.0,
            keep_out_checked=True,
        )))  # fmt: skip


def camera(scenario: Path, **parameters: Any) -> SimulatedCameraNode:
    """The node with Basilisk's dynamics."""
    values = {"scenario": str(scenario), "dynamics": "basilisk", "truth_folder": str(scenario.parent), **parameters}
    overrides = [Parameter(key, value=value) for key, value in values.items()]
    return SimulatedCameraNode(namespace="basilisk", parameter_overrides=overrides)


def test_requests_turn_basilisks_spacecraft(graph: Any, wait_for: Any, tmp_path: Path) -> None:
    """7 degrees in 10 s and at rest after it; what `/attitude` says at an image is the simulation's own attitude."""
    path = tmp_path / "pair.yaml"
    path.write_text(SCENARIO)
    answerer = Answerer()
    answerer.trigger_configure()
    answerer.trigger_activate()
    graph.add(answerer)
    node = graph.add(camera(path, latency_s=0.2))
    wait_for(lambda: answerer.flight.get("finished") == "True", "flight", 60.0)
    assert answerer.flight["lockstep_timeouts"] == "0" and answerer.flight["requests_taken"] == "20"
    node.close()
    records = [json.loads(line) for line in (tmp_path / "dynamics.jsonl").read_text().splitlines()]
    assert [record["time_s"] for record in records] == pytest.approx(np.arange(0.0, 9.51, 0.1))
    for record in records[::5]:
        told = answerer.attitudes[START_NS + round(record["time_s"] * 1e9)]
        assert quaternion_array(told.quaternion) == pytest.approx(record["q_NB_xyzw"], abs=1e-12)
    last = Rotation.from_quat(records[-1]["q_NB_xyzw"])
    assert np.degrees((last * WANTED.inv()).magnitude()) < 0.02
    assert np.linalg.norm(records[-1]["omega_BN_B_rad_s"]) < 1e-4


def test_a_scenario_without_earth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text(SCENARIO.replace("earth: {nadir: [0.0, 1.0, 0.0]}\n", ""))
    with pytest.raises(SparsematchError, match="earth"):
        camera(path)
