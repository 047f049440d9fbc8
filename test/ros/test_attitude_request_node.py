"""The node answers every array, and sends nothing that would be unsafe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from geometry_msgs.msg import QuaternionStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.attitude_request_node import AttitudeRequestNode
from sparsematch_ros.nodes.conversions import (
    objects_message,
    quaternion_array,
    quaternion_message,
    stamp_message,
    uuid_of,
    vector_array,
)

Status = AttitudeRequestStatus
ATTITUDE = Rotation.from_euler("xyz", [0.3, -0.7, 1.9])
BEARING = np.array([0.12, -0.05, 1.0]) / np.linalg.norm([0.12, -0.05, 1.0])


def good_object(**changes: Any) -> SpaceObject:
    """An object that may be asked for, with changes."""
    start = SpaceObject(
        id=UUID(int=7), state=ObjectState.CONFIRMED, moving=True, existence_probability=0.95,
        bbox_xywh_px=np.ones(4), centroid_px=np.ones(2), centroid_covariance=np.eye(2), area_px=20.0,
        velocity_px_s=np.ones(2), velocity_covariance=np.eye(2), apparent_velocity_px_s=np.ones(2),
        first_seen_ns=1, last_seen_ns=2, bearing=BEARING, bearing_covariance=np.eye(3) * 1e-6,
        bearing_rate_rad_s=np.array([0.01, 0.0, 0.0]), bearing_rate_covariance=np.eye(3) * 1e-8,
    )  # fmt: skip
    return replace(start, **changes)


class Probe(Node):
    """Sends objects and attitude, and keeps the answers."""

    def __init__(self, name: str, wait_for: Callable[..., None]) -> None:
        super().__init__(f"probe_{name}", namespace=name)
        self.statuses: list[Status] = []
        self.requests: list[AttitudeRequest] = []
        self.objects = self.create_publisher(SpaceObjectArray, "objects", 10)
        self.attitude = self.create_publisher(QuaternionStamped, "attitude", 10)
        self.create_subscription(Status, "attitude_request_status", self.statuses.append, 10)
        self.create_subscription(AttitudeRequest, "attitude_request", self.requests.append, 10)
        self.enable = self.create_client(SetBool, "attitude_request_node/enable")
        self._wait = wait_for
        self._last_ns = 0

    def connect(self) -> None:
        """Wait until both sides know each other."""
        publishers = (self.objects, self.attitude)
        self._wait(lambda: all(item.get_subscription_count() for item in publishers), "connection")
        self._wait(lambda: self.count_publishers(self.resolve_topic_name("attitude_request_status")), "connection back")

    def ask(self, *objects: SpaceObject, age_s: float = 0.0, attitude: bool = True, problem: str = "") -> Status:
        """Send one array and give its status."""
        # Stamps must grow, and two arrays may come within the clock's resolution.
        stamp = max(self.get_clock().now().nanoseconds, self._last_ns + 1) - round(age_s * NANOSECONDS)
        self._last_ns = max(stamp, self._last_ns)
        header = Header(stamp=stamp_message(stamp), frame_id="camera")
        if attitude:
            self.attitude.publish(QuaternionStamped(header=header, quaternion=quaternion_message(ATTITUDE.as_quat())))
        before = len(self.statuses)
        self.objects.publish(objects_message(header, objects, problem))
        self._wait(lambda: len(self.statuses) > before, "status")
        assert stamp_ns(self.statuses[-1].header.stamp) == stamp
        return self.statuses[-1]


@pytest.fixture(scope="module")
def start(graph: Any, wait_for: Callable[..., None]) -> Callable[..., Probe]:
    """Start a node with parameters in a namespace of its own, and a probe beside it."""

    def start_node(name: str, **parameters: Any) -> Probe:
        overrides = [Parameter(f"pointing.{key}", value=value) for key, value in parameters.items()]
        graph.add(AttitudeRequestNode(namespace=name, parameter_overrides=overrides))
        probe = graph.add(Probe(name, wait_for))
        probe.connect()
        return probe

    return start_node


@pytest.fixture(scope="module")
def enabled(start: Callable[..., Probe]) -> Probe:
    """A node that may send."""
    return start("enabled", enabled=True)


def test_it_starts_disabled_and_the_service_enables_it(start: Any, wait_for: Any) -> None:
    probe = start("defaults")
    assert probe.ask(good_object()).code == Status.CODE_DISABLED
    for wanted, code in ((True, Status.CODE_NONE), (False, Status.CODE_DISABLED)):
        wait_for(probe.enable.service_is_ready, "service")
        future = probe.enable.call_async(SetBool.Request(data=wanted))
        wait_for(future.done, "answer of the service")
        assert future.result().success
        assert probe.ask(good_object()).code == code
    assert len(probe.requests) == 1


def test_a_good_object_is_asked_for_with_the_right_attitude(enabled: Probe, wait_for: Any) -> None:
    before = len(enabled.requests)
    status = enabled.ask(good_object())
    assert (status.decision, status.code, uuid_of(status.target_id)) == (Status.SENT, Status.CODE_NONE, UUID(int=7))
    expected = np.arctan2(np.hypot(BEARING[0], BEARING[1]), BEARING[2])
    assert status.off_boresight == pytest.approx(expected, abs=1e-6)
    wait_for(lambda: len(enabled.requests) > before, "request")
    request = enabled.requests[-1]
    assert request.header.stamp == status.header.stamp == request.attitude_stamp
    assert request.header.frame_id == "inertial" and request.keep_out_checked
    asked = Rotation.from_quat(quaternion_array(request.attitude))
    np.testing.assert_allclose(asked.apply([0, 0, 1]), ATTITUDE.apply(BEARING), atol=1e-6)
    np.testing.assert_allclose(vector_array(request.target_bearing), ATTITUDE.apply(BEARING), atol=1e-6)
    # Turned with the rate, the boresight follows the bearing's own change.
    rate = np.cross(vector_array(request.angular_velocity), ATTITUDE.apply(BEARING))
    across = np.array([0.01, 0, 0]) - BEARING * BEARING[0] * 0.01
    np.testing.assert_allclose(rate, ATTITUDE.apply(across), atol=1e-6)


UNFIT = [
    ({"state": ObjectState.TENTATIVE}, Status.CODE_NO_TARGET),
    ({"id": UUID(int=70), "state": ObjectState.COASTING}, Status.CODE_NO_TARGET),
    ({"state": ObjectState.LOST}, Status.CODE_NO_TARGET),
    ({"moving": False}, Status.CODE_NO_TARGET),
    ({"existence_probability": 0.3}, Status.CODE_NO_TARGET),
    ({"existence_probability": float("nan")}, Status.CODE_NO_TARGET),
    ({"bearing": None, "bearing_rate_rad_s": None}, Status.CODE_NO_BEARING),
    ({"bearing": np.array([np.nan, 0.0, 1.0])}, Status.CODE_BAD_INPUT),
    ({"bearing_rate_rad_s": np.array([np.nan, 0.0, 0.0])}, Status.CODE_BAD_INPUT),
    ({"centroid_px": np.array([np.inf, 0.0])}, Status.CODE_BAD_INPUT),
]


@pytest.mark.parametrize(("changes", "code"), UNFIT)
def test_an_unfit_object_is_never_asked_for(enabled: Probe, changes: dict[str, Any], code: int) -> None:
    before = enabled.statuses[-1].sent if enabled.statuses else 0
    status = enabled.ask(good_object(**changes))
    assert status.code == code and status.decision != Status.SENT and status.sent == before
    assert status.reason


def test_an_unknown_state_does_not_kill_the_node(enabled: Probe, wait_for: Any) -> None:
    header = Header(stamp=enabled.get_clock().now().to_msg(), frame_id="camera")
    message = objects_message(header, (good_object(),))
    message.objects[0].state = 77
    before = len(enabled.statuses)
    enabled.objects.publish(message)
    wait_for(lambda: len(enabled.statuses) > before, "status")
    assert enabled.statuses[-1].code == Status.CODE_BAD_INPUT
    assert enabled.ask(good_object()).decision == Status.SENT


def test_no_objects_and_a_bad_image_are_answered_too(enabled: Probe) -> None:
    assert enabled.ask().code == Status.CODE_NO_TARGET
    status = enabled.ask(problem="unknown encoding")
    assert status.code == Status.CODE_NO_TARGET and "unknown encoding" in status.reason


def test_old_future_and_backward_stamps_are_refused(start: Any) -> None:
    probe = start("stamps", enabled=True)
    assert probe.ask(good_object(), age_s=3.0).code == Status.CODE_STALE
    assert probe.ask(good_object()).decision == Status.SENT
    assert probe.ask(good_object(), age_s=1.0).code == Status.CODE_BAD_INPUT
    assert probe.ask(good_object(), age_s=-5.0).code == Status.CODE_BAD_INPUT


def test_without_attitude_nothing_is_sent_unless_allowed(start: Any, wait_for: Any) -> None:
    careful, bold = start("careful", enabled=True), start("bold", enabled=True, allow_unchecked=True)
    assert careful.ask(good_object(), attitude=False).code == Status.CODE_UNCHECKED
    assert bold.ask(good_object(), attitude=False).decision == Status.SENT
    wait_for(lambda: bold.requests, "request")
    assert bold.requests[0].header.frame_id == "camera" and not bold.requests[0].keep_out_checked


def test_a_target_in_a_keep_out_cone_is_refused(start: Any) -> None:
    sun = Rotation.from_rotvec([0.0, np.radians(20.0), 0.0]).apply(ATTITUDE.apply(BEARING)).tolist()
    near = start("near_sun", enabled=True, keep_out_half_angles_deg=[30.0], keep_out_directions=sun)
    status = near.ask(good_object())
    assert status.code == Status.CODE_KEEP_OUT and status.decision == Status.REFUSED and status.refused == 1
    far = start("far_sun", enabled=True, keep_out_half_angles_deg=[10.0], keep_out_directions=sun)
    assert far.ask(good_object()).decision == Status.SENT
