#!/usr/bin/env python3
"""Objects in; attitude requests out, where one is safe, and a status for every array."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_srvs.srv import SetBool

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray
from sparsematch_ros.nodes.conversions import object_from_message, request_message, status_message
from sparsematch_ros.nodes.pairing import AttitudeTelemetry, CameraInfos
from sparsematch_ros.nodes.parameters import declare_config, declare_settings, refuse_unknown
from sparsematch_ros.nodes.point_at import PointAtServer
from sparsematch_ros.nodes.qos import ANSWERS, overridable
from sparsematch_ros.nodes.runner import run_node
from sparsematch_ros.nodes.target_choice import TargetChoice
from sparsematch_ros.pointing.decision import Answer, Code, Decision, Memory, Policy, Situation, consider, decide, no
from sparsematch_ros.pointing.goal import Outcome, is_lost
from sparsematch_ros.pointing.situation import bad_stamp
from sparsematch_ros.setting_fields import check_settings, setting

FloatArray = NDArray[np.float64]

POLL_S = 0.01
DISABLED = "the node is not enabled"


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
        self._memory = Memory()
        self._home_q_NB: FloatArray | None = None
        self._latest: Situation | None = None
        self._counts: Counter[Decision] = Counter()
        self._attitudes = AttitudeTelemetry(self, config.max_attitude_age_s, self._settings.reliable)
        self._camera_infos = CameraInfos(self, self._settings.reliable)
        self._waiting: deque[tuple[float, SpaceObjectArray]] = deque()
        self._goals = PointAtServer(self, self._policy, self._judge_goal)
        self._choice = TargetChoice(self, lambda target: self._judge(target, self._policy), self._goals)
        qos = {"qos_profile": ANSWERS, "qos_overriding_options": overridable()}
        self._requests = self.create_publisher(AttitudeRequest, "attitude_request", **qos)
        self._statuses = self.create_publisher(AttitudeRequestStatus, "attitude_request_status", **qos)
        self.create_subscription(SpaceObjectArray, "objects", self._on_objects, **qos)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_timer(POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data != self._enabled:
            self._home_q_NB = None
        self._enabled = request.data
        if not self._enabled:
            self._memory = Memory(stamp_ns=self._memory.stamp_ns)
            self._goals.end(Outcome(Code.DISABLED, DISABLED))
        response.success, response.message = True, "enabled" if self._enabled else "disabled"
        self.get_logger().info(response.message)
        return response

    def _judge_goal(self, target: UUID | None, policy: Policy) -> tuple[Answer, int]:
        """Say what a goal would be answered now, and on the array of which stamp that rests."""
        answered_ns = 0 if self._latest is None else self._latest.stamp_ns
        return (self._judge(target, policy) if self._enabled else no(Code.DISABLED, DISABLED)), answered_ns

    def _judge(self, target: UUID | None, policy: Policy) -> Answer:
        """Say what would be answered now on the last array, for one object or for the one that is chosen."""
        if self._latest is None:
            return no(Code.STALE, "no array of objects has come yet")
        situation = replace(
            self._latest, now_ns=self.get_clock().now().nanoseconds, enabled=True, **self._wishes(),
            memory=replace(self._memory, stamp_ns=None),
        )  # fmt: skip
        return decide(situation, policy) if target is None else consider(target, situation, policy)

    def _wishes(self) -> dict[str, Any]:
        choice = self._choice
        return {"selected": choice.selected, "selected_why": choice.why, "released": choice.released}

    def _on_objects(self, message: SpaceObjectArray) -> None:
        self._waiting.append((time.monotonic(), message))
        self._answer_waiting()

    def _poll(self) -> None:
        self._answer_waiting()
        self._goals.check()

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
            self._requests.publish(request_message(answer.request))
        sent, refused = self._counts[Decision.SENT], self._counts[Decision.REFUSED]
        self._statuses.publish(status_message(message.header, answer, sent, refused))
        self._goals.on_answer(message.header, answer)

    def _decide(self, message: SpaceObjectArray) -> Answer:
        try:
            situation = self._situation(message)
        except ValueError as error:
            return no(Code.BAD_INPUT, f"an object cannot be read: {error}")
        if bad_stamp(situation) is None:
            # An array that could not be made says nothing about the objects: goals are judged by the last that could.
            if not situation.problem:
                self._latest = situation
            situation = self._for_goal(situation)
        answer = decide(situation, self._goals.policy)
        self._memory = answer.memory or self._memory
        return answer

    def _situation(self, message: SpaceObjectArray) -> Situation:
        """Gather all that is known about an array.

        Raises:
            ValueError: where an object cannot be read.

        """
        stamp = stamp_ns(message.header.stamp)
        q_NB = self._attitudes.q_NB_at(stamp)
        # The first attitude since then: nothing has been asked yet.
        if self._enabled and self._home_q_NB is None:
            self._home_q_NB = q_NB
        return Situation(
            stamp_ns=stamp, camera_frame=message.header.frame_id,
            objects=tuple(object_from_message(item, look=False) for item in message.objects),
            now_ns=self.get_clock().now().nanoseconds, enabled=self._enabled, q_NB_xyzw=q_NB,
            omega_BN_N_rad_s=self._attitudes.omega_BN_N_at(stamp), image_size_wh_px=self._image_size(stamp),
            home_q_NB_xyzw=self._home_q_NB, problem=message.problem, memory=self._memory, **self._wishes(),
        )  # fmt: skip

    def _image_size(self, stamp: int) -> tuple[int, int] | None:
        try:
            camera = self._camera_infos.at(stamp)
        except SparsematchError as error:
            self.get_logger().warning(f"CameraInfo passed over: {error}", throttle_duration_sec=10.0)
            return None
        return None if camera is None else (camera.width, camera.height)

    def _for_goal(self, situation: Situation) -> Situation:
        """Leave a goal's target alone to be chosen; where it is lost the goal ends, and the choice is free again."""
        target = self._goals.target
        if target is None:
            return situation
        if not situation.problem and is_lost(target, situation.objects):
            self._goals.end(Outcome(Code.TARGET_LOST, f"object {target} is given up, or is no more"))
            return situation
        return replace(
            situation, objects=tuple(item for item in situation.objects if item.id == target),
            selected=target, selected_why="the goal", released=situation.released - {target},
        )  # fmt: skip


def main() -> int:
    """Run the node; gives the exit status."""
    return run_node("attitude_request_node", AttitudeRequestNode)


if __name__ == "__main__":
    sys.exit(main())
