#!/usr/bin/env python3
"""Objects in; attitude requests out, where one is safe, and a status for every array."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_srvs.srv import SetBool

from sparsematch_ros.config import check_settings, setting
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray
from sparsematch_ros.nodes.conversions import object_from_message, request_message, status_message
from sparsematch_ros.nodes.pairing import AttitudeTelemetry
from sparsematch_ros.nodes.parameters import declare_config, declare_settings, refuse_unknown
from sparsematch_ros.nodes.qos import ANSWERS, overridable
from sparsematch_ros.nodes.runner import run_node
from sparsematch_ros.pointing.decision import Answer, Code, Decision, Policy, Situation, bad_stamp, decide, no

POLL_S = 0.01


@dataclass(frozen=True)
class AttitudeRequestSettings:
    """What the node itself can be told."""

    reliable: bool = setting(False, "ask for reliable delivery of attitude, as lock-step needs")
    pairing_wait_s: float = setting(
        0.1, "longest wait for the clock and the attitude to reach an array's stamp, where they are published", "s",
        minimum=0.0, maximum=60.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check the values."""
        check_settings(self)


class AttitudeRequestNode(Node):
    """Answers every array of objects with a status, and some with a request."""

    def __init__(self, **options: Any) -> None:
        """Declare the parameters, then listen.

        Raises:
            SparsematchError: for a wrong parameter, by name.

        """
        super().__init__("attitude_request_node", **options)
        self._settings = declare_settings(self, AttitudeRequestSettings)
        config = declare_config(self, ("pointing",)).pointing
        refuse_unknown(self)
        self._policy = Policy.from_config(config)
        self._enabled = config.enabled
        self._previous_ns: int | None = None
        self._target: UUID | None = None
        self._requested_ns: int | None = None
        self._counts: Counter[Decision] = Counter()
        self._attitudes = AttitudeTelemetry(self, config.max_attitude_age_s, self._settings.reliable)
        self._waiting: deque[tuple[float, SpaceObjectArray]] = deque()
        qos = {"qos_profile": ANSWERS, "qos_overriding_options": overridable()}
        self._requests = self.create_publisher(AttitudeRequest, "attitude_request", **qos)
        self._statuses = self.create_publisher(AttitudeRequestStatus, "attitude_request_status", **qos)
        self.create_subscription(SpaceObjectArray, "objects", self._on_objects, **qos)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_timer(POLL_S, self._answer_waiting, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not self._enabled:
            self._target = None
        response.success, response.message = True, "enabled" if self._enabled else "disabled"
        self.get_logger().info(response.message)
        return response

    def _on_objects(self, message: SpaceObjectArray) -> None:
        self._waiting.append((time.monotonic(), message))
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Answer arrays in order, each when all that belongs to it has come or the wait is over."""
        while self._waiting:
            arrived_s, message = self._waiting[0]
            overdue = time.monotonic() - arrived_s >= self._settings.pairing_wait_s
            if not (overdue or self._complete(stamp_ns(message.header.stamp))):
                return
            self._waiting.popleft()
            self._answer(message)

    def _complete(self, stamp: int) -> bool:
        """Tell whether clock and attitude have reached a stamp; topics keep no order among each other."""
        if self.get_clock().now().nanoseconds < stamp:
            return False
        return self._attitudes.covers(stamp) or not self._attitudes.expected()

    def _answer(self, message: SpaceObjectArray) -> None:
        answer = self._decide(message)
        self._counts[answer.decision] += 1
        # The request goes first: when its status comes, it is there.
        if answer.request is not None:
            self._target, self._requested_ns = answer.target_id, answer.request.stamp_ns
            self._requests.publish(request_message(answer.request))
        sent, refused = self._counts[Decision.SENT], self._counts[Decision.REFUSED]
        self._statuses.publish(status_message(message.header, answer, sent, refused))

    def _decide(self, message: SpaceObjectArray) -> Answer:
        stamp = stamp_ns(message.header.stamp)
        try:
            objects = tuple(object_from_message(item, look=False) for item in message.objects)
        except ValueError as error:
            return no(Code.BAD_INPUT, f"an object cannot be read: {error}")
        situation = Situation(
            stamp_ns=stamp, camera_frame=message.header.frame_id, objects=objects,
            now_ns=self.get_clock().now().nanoseconds, enabled=self._enabled,
            q_NB_xyzw=self._attitudes.q_NB_at(stamp), previous_stamp_ns=self._previous_ns, current_target=self._target,
            last_request_ns=self._requested_ns,
        )  # fmt: skip
        if bad_stamp(situation) is None:
            self._previous_ns = stamp
        answer = decide(situation, self._policy)
        if message.problem and answer.code == Code.NO_TARGET:
            return no(Code.NO_TARGET, f"the image could not be used: {message.problem}")
        return answer


def main() -> int:
    """Run the node; gives the exit status."""
    return run_node("attitude_request_node", AttitudeRequestNode)


if __name__ == "__main__":
    sys.exit(main())
