"""The action `~/point_at`: goals steer which object attitude_request_node asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from std_msgs.msg import Header

from sparsematch_ros.action import PointAt
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.conversions import uuid_message, uuid_of, vector_array
from sparsematch_ros.pointing.decision import Answer, Code, Policy
from sparsematch_ros.pointing.goal import Goal, Outcome, Progress, advance, at_time, is_pursued, outcome
from sparsematch_ros.pointing.request import NOBODY

# What is to be pointed at (None: what the policy chooses), and with which roll.
Judge = Callable[[UUID | None, Policy], tuple[Answer, int]]


class PointAtServer:
    """Holds at most one goal, and moves it on with every array; nothing here waits."""

    def __init__(self, node: Node, policy: Policy, judge: Judge) -> None:
        """Serve.

        Args:
            node: to serve with.
            policy: the node's settings, with which goals without a roll of their own are followed.
            judge: gives what would be answered now, and the stamp of the array that this rests on [ns].

        """
        self._clock, self._logger = node.get_clock(), node.get_logger()
        self._settings, self._judge = policy, judge
        self._active: _Active | None = None
        self._server = _Server(
            node, PointAt, "~/point_at", execute_callback=_no_task, handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )  # fmt: skip

    @property
    def target(self) -> UUID | None:
        """Give the object of the goal that is followed, or None."""
        return self._active.goal.target if self._active else None

    @property
    def policy(self) -> Policy:
        """Give the settings to answer with: the node's, with the goal's roll."""
        return self._active.policy if self._active else self._settings

    def supersede(self, why: str) -> None:
        """End the goal: something else is asked for."""
        self.end(Outcome(Code.SUPERSEDED, why))

    def end(self, ending: Outcome) -> None:
        """End the goal, if there is one."""
        active, self._active = self._active, None
        if active is not None:
            self._send_result(active.handle, ending, active.goal.target, active.progress.error_rad)

    def on_answer(self, header: Header, answer: Answer) -> None:
        """Move the goal on with an array's answer, and tell its client."""
        active = self._active
        if active is None:
            return
        active.progress = advance(active.goal, active.progress, answer, stamp_ns(header.stamp))
        if not active.handle.is_cancel_requested:
            active.handle.publish_feedback(_feedback(header, active.goal.target, active.progress))
        self.check()

    def check(self) -> None:
        """End the goal where it is met, cancelled, or nothing could be asked for too long."""
        active = self._active
        if active is None:
            return
        now_ns = self._clock.now().nanoseconds
        active.progress = at_time(active.progress, now_ns)
        ending = outcome(active.goal, active.progress, now_ns, active.policy.config.validity_s)
        if active.handle.is_cancel_requested:
            ending = Outcome(Code.CANCELLED, "cancelled by its client")
        if ending is not None:
            self.end(ending)

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        """Follow a goal in place of the last one, or end it at once with the reason."""
        handle.execute()
        wanted = uuid_of(handle.request.target_id)
        try:
            policy = self._policy_for(handle.request)
            answer, answered_ns = self._judge(None if wanted == NOBODY else wanted, policy)
            goal = _goal(handle.request, answer.target_id or wanted)
        except SparsematchError as error:
            self._send_result(handle, Outcome(Code.BAD_INPUT, str(error)), wanted, float("nan"))
            return
        if not is_pursued(answer):
            ending = Outcome(answer.code, answer.reason)
            self._send_result(handle, ending, goal.target, answer.off_boresight_rad)
            return
        self.supersede("a newer goal is followed")
        self._logger.info(f"goal: point at {goal.target}")
        self._active = _Active(handle, goal, policy, Progress(answer, answered_ns, answered_ns))

    def _policy_for(self, request: PointAt.Goal) -> Policy:
        if not request.roll_constrained:
            return self._settings
        return self._settings.with_roll(vector_array(request.roll_body_axis), vector_array(request.roll_direction))

    def _send_result(self, handle: ServerGoalHandle, ending: Outcome, target: UUID, error_rad: float) -> None:
        self._logger.info(f"goal for {target} ends, {ending.code.name}: {ending.reason}")
        result = PointAt.Result(
            code=int(ending.code), reason=ending.reason, target_id=uuid_message(target), pointing_error=error_rad
        )
        self._server.finish(handle, ending.code, result)


@dataclass(eq=False)
class _Active:
    """The goal that is followed, and how far it is."""

    handle: ServerGoalHandle
    goal: Goal
    policy: Policy
    progress: Progress


class _Server(ActionServer):
    """An action server whose goals run without a task: rclpy polls one that awaits without a pause."""

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Callable[..., Any] | None) -> None:
        """Start a task for a goal that ends, and none for one that begins."""
        if execute_callback is not None:
            super().notify_execute(goal_handle, execute_callback)

    def finish(self, handle: ServerGoalHandle, code: Code, result: PointAt.Result) -> None:
        """End a goal and hand out its result."""
        self.notify_execute(handle, partial(_conclude, code=code, result=result))


def _no_task(_: ServerGoalHandle) -> PointAt.Result:
    """Stand in for the callback that rclpy insists on: goals end in `finish`."""
    return PointAt.Result()


def _conclude(handle: ServerGoalHandle, code: Code, result: PointAt.Result) -> PointAt.Result:
    if handle.is_cancel_requested:
        handle.canceled()
    elif code == Code.NONE:
        handle.succeed()
    else:
        handle.abort()
    return result


def _goal(request: PointAt.Goal, target: UUID) -> Goal:
    return Goal(target, request.tolerance, request.rate_tolerance, request.hold_time)


def _feedback(header: Header, target: UUID, progress: Progress) -> PointAt.Feedback:
    answer = progress.answer
    return PointAt.Feedback(
        header=header, target_id=uuid_message(target), state=int(progress.state), code=int(answer.code),
        reason=answer.reason, pointing_error=float(answer.off_boresight_rad),
        rate_error=float(answer.rate_error_rad_s), time_to_go=float(answer.time_to_go_s),
    )  # fmt: skip
