"""What belongs to an image: its CameraInfo, and the attitude at its stamp."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from geometry_msgs.msg import QuaternionStamped
from numpy.typing import NDArray
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.images import camera_from_info, stamp_ns
from sparsematch_ros.nodes.compat import Cache, Subscriber
from sparsematch_ros.nodes.conversions import quaternion_array
from sparsematch_ros.nodes.qos import overridable, sensor_data
from sparsematch_ros.pointing.conventions import rotation
from sparsematch_ros.pointing.telemetry import attitude_at, rate_at

FloatArray = NDArray[np.float64]
Found = TypeVar("Found")

KEPT_ATTITUDES = 500
KEPT_CAMERA_INFOS = 100
POLL_S = 0.002


class Checked:
    """Passes on the messages of a filter that can be used; counts and tells the others.

    Attributes:
        refused: how many could not be used.

    """

    def __init__(self, source: Subscriber, check: Callable[[Any], None], node: Node, what: str) -> None:
        """Listen to `source`; `check` raises `SparsematchError` for a message that cannot be used."""
        self.refused = 0
        self._check, self._node, self._what = check, node, what
        self._callbacks: list[Callable[..., Any]] = []
        source.registerCallback(self._receive)

    def registerCallback(self, callback: Callable[..., Any], *_: Any) -> int:
        """Have `callback` called with every message that can be used, as `message_filters` does; give its number."""
        self._callbacks.append(callback)
        return len(self._callbacks) - 1

    def _receive(self, message: Any) -> None:
        try:
            # rclpy knows no time before 0, and raises where nobody listens.
            if stamp_ns(message.header.stamp) < 0:
                raise SparsematchError(f"stamp {stamp_ns(message.header.stamp) / NANOSECONDS:.3f} s lies before 0")
            self._check(message)
        except SparsematchError as error:
            self.refused += 1
            self._node.get_logger().warning(f"{self._what} passed over: {error}", throttle_duration_sec=10.0)
            return
        for callback in self._callbacks:
            callback(message)


class AttitudeTelemetry:
    """Listens to `attitude` and gives the body's attitude at any recent stamp."""

    def __init__(self, node: Node, max_age_s: float, reliable: bool) -> None:
        """Subscribe.

        Args:
            node: to subscribe with.
            max_age_s: how far a sample that is used may lie from the stamp asked for [s].
            reliable: whether to ask for reliable delivery.

        """
        self._node, self._max_age_s = node, max_age_s
        self._subscriber = Subscriber(
            node, QuaternionStamped, "attitude", qos_profile=sensor_data(reliable, depth=50),
            qos_overriding_options=overridable(),
        )  # fmt: skip
        self._checked = Checked(self._subscriber, _check_attitude, node, "attitude")
        self._cache = Cache(self._checked, KEPT_ATTITUDES)
        self.subscription = self._subscriber.sub

    def q_NB_at(self, wanted_ns: int) -> FloatArray | None:
        """Give `(4,)` x, y, z, w with `v_N = R(q_NB) v_B`, or None where it is not known at that time."""
        return attitude_at(wanted_ns, *self._samples(wanted_ns), self._max_age_s)

    def omega_BN_N_at(self, wanted_ns: int) -> FloatArray | None:
        """Give the body's angular velocity `(3,)` [rad/s] in N, or None where two samples do not tell."""
        return rate_at(wanted_ns, *self._samples(wanted_ns), self._max_age_s)

    def _samples(self, wanted_ns: int) -> tuple[list[int], list[FloatArray]]:
        reach_ns = round(self._max_age_s * NANOSECONDS)
        messages = self._cache.getInterval(_time(wanted_ns - reach_ns), _time(wanted_ns + reach_ns))
        stamps = [stamp_ns(message.header.stamp) for message in messages]
        return stamps, [quaternion_array(message.quaternion) for message in messages]

    def overdue_s(self, wanted_ns: int) -> float | None:
        """Say how old the newest attitude before a time is where that is too old to be used [s]; else None."""
        earlier = self._cache.getInterval(_time(0), _time(wanted_ns))
        if not earlier:
            return None
        age_s = (wanted_ns - max(stamp_ns(message.header.stamp) for message in earlier)) / NANOSECONDS
        return age_s if age_s > self._max_age_s else None

    @property
    def refused(self) -> int:
        """Count the messages that held no attitude: NaN, no unit quaternion, a stamp before 0."""
        return self._checked.refused

    def covers(self, wanted_ns: int) -> bool:
        """Tell whether a sample at or after this time has come, so that nothing better is on its way."""
        reach_ns = round(self._max_age_s * NANOSECONDS)
        return bool(self._cache.getInterval(_time(wanted_ns), _time(wanted_ns + reach_ns)))

    def expected(self) -> bool:
        """Tell whether anybody publishes attitudes."""
        return self._node.count_publishers(self._node.resolve_topic_name("attitude")) > 0


class CameraInfos:
    """Listens to `camera_info` and gives the intrinsics of an image."""

    def __init__(self, node: Node, reliable: bool) -> None:
        """Subscribe, reliably or not."""
        self._node = node
        self._subscriber = Subscriber(
            node, CameraInfo, "camera_info", qos_profile=sensor_data(reliable, depth=50),
            qos_overriding_options=overridable(),
        )  # fmt: skip
        self._cache = Cache(Checked(self._subscriber, _take_any, node, "CameraInfo"), KEPT_CAMERA_INFOS)
        self.subscription = self._subscriber.sub

    def at(self, image_ns: int) -> CameraModel | None:
        """Give the intrinsics from the message of this stamp, else of the newest earlier one, else None.

        Raises:
            BadFrameError: where that message's values cannot belong to a camera.

        """
        earlier = self._cache.getInterval(_time(0), _time(image_ns))
        if not earlier:
            return None
        return camera_from_info(max(earlier, key=lambda message: stamp_ns(message.header.stamp)))

    def covers(self, image_ns: int) -> bool:
        """Tell whether the message of this very stamp has come."""
        return bool(self._cache.getInterval(_time(image_ns), _time(image_ns)))

    def expected(self) -> bool:
        """Tell whether anybody publishes intrinsics."""
        return self._node.count_publishers(self._node.resolve_topic_name("camera_info")) > 0


def wait_for_pairs(image_ns: int, parts: list[Any], limit_s: float) -> None:
    """Give what belongs to an image a moment to arrive: topics keep no order among each other.

    Only what somebody publishes is waited for.
    """
    deadline = time.monotonic() + limit_s
    late = [part for part in parts if not part.covers(image_ns) and part.expected()]
    while late and time.monotonic() < deadline:
        time.sleep(POLL_S)
        late = [part for part in late if not part.covers(image_ns)]


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait in steady time until something holds; tell whether it does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _check_attitude(message: QuaternionStamped) -> None:
    rotation(quaternion_array(message.quaternion))


def _take_any(message: CameraInfo) -> None:
    """Judge no values: an image whose CameraInfo is wrong is refused with the reason."""


def _time(nanoseconds: int) -> Time:
    return Time(nanoseconds=max(nanoseconds, 0), clock_type=ClockType.ROS_TIME)
