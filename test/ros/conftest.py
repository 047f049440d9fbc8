"""Nodes and messages as they are installed, in a ROS domain that nobody else uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import QuaternionStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
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
from sparsematch_ros.nodes.domain import isolated_domain

ATTITUDE = Rotation.from_euler("xyz", [0.3, -0.7, 1.9])
BEARING = np.array([0.12, -0.05, 1.0]) / np.linalg.norm([0.12, -0.05, 1.0])


@pytest.fixture(scope="session", autouse=True)
def ros() -> Iterator[None]:
    """ROS in a domain of its own, for the whole session."""
    with isolated_domain():
        rclpy.init()
        yield
        rclpy.try_shutdown()


class Graph:
    """Nodes that run on a thread in the background."""

    def __init__(self) -> None:
        self._executor = SingleThreadedExecutor()
        self._nodes: list[Node] = []
        self._thread: threading.Thread | None = None

    def add(self, node: Any) -> Any:
        """Run a node."""
        self._nodes.append(node)
        self._executor.add_node(node)
        if self._thread is None:
            self._thread = threading.Thread(target=self._executor.spin, daemon=True)
            self._thread.start()
        return node

    def close(self) -> None:
        """Stop all of them."""
        self._executor.shutdown()
        if self._thread is not None:
            self._thread.join(5)
        for node in self._nodes:
            getattr(node, "close", lambda: None)()
            node.destroy_node()


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    """Nodes that live as long as the module's tests."""
    running = Graph()
    yield running
    running.close()


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Wait until a condition holds, or fail with what was waited for."""

    def wait(condition: Callable[[], Any], what: str, limit_s: float = 20.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {limit_s} s"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def good_object() -> Callable[..., SpaceObject]:
    """Make an object that may be asked for, with changes."""

    def make(**changes: Any) -> SpaceObject:
        start = SpaceObject(
            id=UUID(int=7), state=ObjectState.CONFIRMED, moving=True, existence_probability=0.95,
            bbox_xywh_px=np.ones(4), centroid_px=np.ones(2), centroid_covariance=np.eye(2), area_px=20.0,
            velocity_px_s=np.ones(2), velocity_covariance=np.eye(2), apparent_velocity_px_s=np.ones(2),
            first_seen_ns=1, last_seen_ns=2, bearing=BEARING, bearing_covariance=np.eye(3) * 1e-6,
            bearing_rate_rad_s=np.array([0.01, 0.0, 0.0]), bearing_rate_covariance=np.eye(3) * 1e-8,
        )  # fmt: skip
        return replace(start, **changes)

    return make


class Probe(Node):
    """Sends objects and attitude to an attitude_request_node beside it, and keeps the answers.

    Attributes:
        node: the node itself.
        q_NB: attitude that is sent.
        time_ns: time on the clock that the probe publishes, or None for the machine's.

    """

    def __init__(self, name: str, node: Any, wait_for: Callable[..., None], simulated: bool) -> None:
        super().__init__(f"probe_{name}", namespace=name)
        self.node, self.q_NB = node, ATTITUDE
        self.time_ns = 1000 * NANOSECONDS if simulated else None
        self.statuses: list[AttitudeRequestStatus] = []
        self.requests: list[AttitudeRequest] = []
        self.objects = self.create_publisher(SpaceObjectArray, "objects", 10)
        self.attitude = self.create_publisher(QuaternionStamped, "attitude", 10)
        self.clock = self.create_publisher(Clock, "clock", 10)
        self.create_subscription(AttitudeRequestStatus, "attitude_request_status", self.statuses.append, 10)
        self.create_subscription(AttitudeRequest, "attitude_request", self.requests.append, 10)
        self.enable = self.create_client(SetBool, "attitude_request_node/enable")
        self._wait = wait_for
        self._last_ns = 0
        self._arrays: dict[int, tuple[SpaceObject, ...]] = {}

    def connect(self) -> None:
        """Wait until both sides know each other."""
        publishers = [self.objects, self.attitude, *([] if self.time_ns is None else [self.clock])]
        self._wait(lambda: all(item.get_subscription_count() for item in publishers), "connection")
        self._wait(lambda: self.count_publishers(self.resolve_topic_name("attitude_request_status")), "connection back")
        if self.time_ns is not None:
            self.set_time(self.time_ns)

    def set_time(self, time_ns: int) -> None:
        """Set the node's clock, forward or back."""
        self.time_ns = time_ns
        self.clock.publish(Clock(clock=stamp_message(time_ns)))
        self._wait(lambda: self.node.get_clock().now().nanoseconds == time_ns, "clock")

    def pass_time(self, seconds: float) -> None:
        """Let the simulated clock go on."""
        assert self.time_ns is not None
        self.set_time(self.time_ns + round(seconds * NANOSECONDS))

    def tell_attitude(self, stamp: int | None = None) -> None:
        """Send the attitude, as of now or of a stamp."""
        header = Header(stamp=stamp_message(self.time_ns if stamp is None else stamp))
        self.attitude.publish(QuaternionStamped(header=header, quaternion=quaternion_message(self.q_NB.as_quat())))

    def call(self, client: Any, request: Any) -> Any:
        """Call a service and give its answer."""
        self._wait(client.service_is_ready, "service")
        future = client.call_async(request)
        self._wait(future.done, "answer of the service")
        return future.result()

    def ask(
        self, *objects: SpaceObject, age_s: float = 0.0, attitude: bool = True, problem: str = ""
    ) -> AttitudeRequestStatus:
        """Send one array and give its status."""
        # Stamps must grow, and two arrays may come within the clock's resolution.
        now_ns = max(self.get_clock().now().nanoseconds, self._last_ns + 1) if self.time_ns is None else self.time_ns
        stamp = now_ns - round(age_s * NANOSECONDS)
        self._last_ns = max(stamp, self._last_ns)
        self._arrays[stamp] = objects
        header = Header(stamp=stamp_message(stamp), frame_id="camera")
        if attitude:
            self.tell_attitude(stamp)
        before, sent = len(self.statuses), len(self.requests)
        self.objects.publish(objects_message(header, objects, problem))
        self._wait(lambda: len(self.statuses) > before, "status")
        status = self.statuses[-1]
        assert stamp_ns(status.header.stamp) == stamp
        self._wait(lambda: len(self.requests) > sent or status.decision != status.SENT, "request")
        return status

    def assert_safe(self) -> None:
        """Of all requests seen: none on a stale, unconfirmed or forbidden target, none for another array's object."""
        policy = self.node._policy
        for request in self.requests:
            stamp, acts_ns = stamp_ns(request.header.stamp), stamp_ns(request.attitude_stamp)
            age_s = (acts_ns - stamp) / NANOSECONDS - policy.config.latency_s
            assert -0.1 <= age_s <= policy.config.max_age_s, f"asked on an array {age_s} s old"
            numbers = [*quaternion_array(request.attitude), *vector_array(request.target_bearing)]
            assert np.isfinite(numbers).all() and request.header.frame_id
            if uuid_of(request.target_id) == UUID(int=0):
                assert policy.config.when_lost in ("stop", "return")
                continue
            (target,) = [item for item in self._arrays[stamp] if item.id == uuid_of(request.target_id)]
            assert target.state == ObjectState.CONFIRMED and target.moving and target.existence_probability >= 0.8
            assert request.keep_out_checked or policy.config.allow_unchecked
            for cone in policy.cones:
                asked = Rotation.from_quat(quaternion_array(request.attitude)).apply(policy.boresight_B)
                for direction in (asked, vector_array(request.target_bearing)):
                    assert direction @ cone.direction_N < np.cos(cone.half_angle_rad), "asked into a keep-out cone"


@pytest.fixture(scope="module")
def start(graph: Any, wait_for: Callable[..., None]) -> Iterator[Callable[..., Probe]]:
    """Start a node with parameters in a namespace of its own, and a probe that watches what it sends to the end."""
    probes: list[Probe] = []

    def start_node(name: str, simulated: bool = False, **parameters: Any) -> Probe:
        overrides = [Parameter(f"pointing.{key}", value=value) for key, value in parameters.items()]
        overrides.append(Parameter("use_sim_time", value=simulated))
        own_clock = ["--ros-args", "-r", "/clock:=clock"]
        node = AttitudeRequestNode(namespace=name, parameter_overrides=overrides, cli_args=own_clock)
        probes.append(Probe(name, graph.add(node), wait_for, simulated))
        graph.add(probes[-1]).connect()
        return probes[-1]

    yield start_node
    for probe in probes:
        probe.assert_safe()
