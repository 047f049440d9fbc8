"""Goals to point at an object: they steer the choice, report, and end with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import Vector3
from rclpy.action import ActionClient
from scipy.spatial.transform import Rotation
from sparsematch_ros.action import PointAt
from sparsematch_ros.msg import AttitudeRequestStatus
from sparsematch_ros.srv import ReleaseTarget, SelectTarget
from std_srvs.srv import SetBool

from sparsematch_ros.data import ObjectState
from sparsematch_ros.nodes.conversions import quaternion_array, uuid_message, uuid_of, vector_array

Status = AttitudeRequestStatus
Make = Callable[..., Any]
A, B = UUID(int=7), UUID(int=8)
OFF_RAD = float(np.arctan(np.hypot(0.12, 0.05)))


class Client:
    """Sends one goal, and keeps its feedback."""

    def __init__(self, probe: Any, wait_for: Make, target: UUID | None = A, **goal: Any) -> None:
        self._wait, self.feedback = wait_for, []
        if not hasattr(probe, "point_at"):
            probe.point_at = ActionClient(probe, PointAt, "attitude_request_node/point_at")
        wait_for(probe.point_at.server_is_ready, "action server")
        message = PointAt.Goal(target_id=uuid_message(target), **goal)
        future = probe.point_at.send_goal_async(message, feedback_callback=lambda m: self.feedback.append(m.feedback))
        wait_for(future.done, "answer to the goal")
        self.handle = future.result()
        assert self.handle.accepted
        self._result = self.handle.get_result_async()

    @property
    def going_on(self) -> bool:
        """Whether there is no result yet."""
        return not self._result.done()

    def latest(self, count: int) -> Any:
        """Feedback number `count`, from 1."""
        self._wait(lambda: len(self.feedback) >= count, "feedback")
        return self.feedback[count - 1]

    def cancel(self) -> None:
        self._wait(self.handle.cancel_goal_async().done, "answer to the cancellation")

    def ended(self, status: int = GoalStatus.STATUS_ABORTED) -> PointAt.Result:
        """The result, of a goal that ended so."""
        self._wait(self._result.done, "result")
        assert self._result.result().status == status, self._result.result().result.reason
        return self._result.result().result


@pytest.fixture
def point_at(wait_for: Make) -> Make:
    """Send a goal by way of a probe."""
    return lambda probe, *target, **goal: Client(probe, wait_for, *target, **goal)


def on_target(make: Make, **changes: Any) -> Any:
    """An object on the boresight, at rest."""
    return make(bearing=np.array([0.0, 0.0, 1.0]), bearing_rate_rad_s=np.zeros(3), **changes)


def test_a_goal_reports_and_succeeds_after_the_hold(start: Make, good_object: Make, point_at: Make) -> None:
    probe = start("reach", simulated=True, enabled=True)
    still = good_object(bearing_rate_rad_s=np.zeros(3))
    probe.ask(still)
    goal = point_at(probe, hold_time=1.0)
    probe.pass_time(0.5)
    probe.ask(still)
    told = goal.latest(1)
    assert (told.state, told.code, uuid_of(told.target_id)) == (told.SLEWING, Status.CODE_NONE, A)
    assert told.pointing_error == pytest.approx(OFF_RAD, abs=1e-9) and told.rate_error == pytest.approx(0.0, abs=1e-9)
    assert told.time_to_go == probe.requests[-1].time_to_go > 0
    for index in range(3):
        assert goal.going_on
        probe.pass_time(0.5)
        probe.ask(on_target(good_object))
        assert goal.latest(2 + index).state == told.HOLDING
    result = goal.ended(GoalStatus.STATUS_SUCCEEDED)
    assert (result.code, uuid_of(result.target_id)) == (Status.CODE_NONE, A) and result.pointing_error < 1e-6


def test_a_break_starts_the_hold_anew(start: Make, good_object: Make, point_at: Make) -> None:
    probe = start("break", simulated=True, enabled=True)
    probe.ask(on_target(good_object))
    goal = point_at(probe, hold_time=1.0)
    states = []
    for state in (ObjectState.CONFIRMED, ObjectState.COASTING, *[ObjectState.CONFIRMED] * 3):
        assert goal.going_on
        probe.pass_time(0.5)
        probe.ask(on_target(good_object, state=state))
        states.append(goal.latest(len(states) + 1).state)
    feedback = PointAt.Feedback
    assert states == [feedback.HOLDING, feedback.WAITING, *[feedback.HOLDING] * 3]
    assert goal.ended(GoalStatus.STATUS_SUCCEEDED).code == Status.CODE_NONE


def test_the_rate_counts_where_it_is_asked_for(start: Make, good_object: Make, point_at: Make) -> None:
    """The body turns about the boresight by 0.01 rad in 0.5 s: on the target, but 0.02 rad/s off its rate."""
    probe = start("rate", simulated=True, enabled=True)
    probe.ask(on_target(good_object))
    goal = point_at(probe, rate_tolerance=0.01)
    probe.pass_time(0.5)
    probe.q_NB = probe.q_NB * Rotation.from_rotvec([0.0, 0.0, 0.01])
    probe.ask(on_target(good_object))
    assert goal.latest(1).state == PointAt.Feedback.SLEWING
    assert goal.latest(1).rate_error == pytest.approx(0.02, rel=1e-6)
    probe.pass_time(0.5)
    probe.ask(on_target(good_object))
    assert goal.ended(GoalStatus.STATUS_SUCCEEDED).pointing_error < 1e-6


SUN = Rotation.from_euler("xyz", [0.3, -0.7, 1.9]).apply([0.12, -0.05, 1.0]).tolist()
REFUSALS = [
    ("unconfirmed", {}, {"state": ObjectState.TENTATIVE}, {}, Status.CODE_UNCONFIRMED),
    ("nobody", {}, {"id": B}, {}, Status.CODE_NO_TARGET),
    ("forbidden", {"keep_out_half_angles_deg": [5.0], "keep_out_directions": SUN}, {}, {}, Status.CODE_KEEP_OUT),
    ("fast", {"max_rate_deg_s": 0.5}, {}, {}, Status.CODE_RATE_LIMIT),
    ("unnamed", {"inertial_frame": ""}, {}, {}, Status.CODE_FRAME_UNKNOWN),
    ("no_bearing", {}, {"bearing": None}, {}, Status.CODE_NO_BEARING),
    ("nan", {}, {"centroid_px": np.array([np.nan, 0.0])}, {}, Status.CODE_BAD_INPUT),
    ("tolerance", {}, {}, {"tolerance": float("nan")}, Status.CODE_BAD_INPUT),
    ("hold", {}, {}, {"hold_time": -1.0}, Status.CODE_BAD_INPUT),
    ("roll", {}, {}, {"roll_constrained": True}, Status.CODE_BAD_INPUT),
    ("disabled", {"enabled": False}, {}, {}, Status.CODE_DISABLED),
]


@pytest.mark.parametrize(("name", "config", "changes", "goal", "code"), REFUSALS)
def test_a_goal_that_cannot_be_followed_ends_at_once_with_the_code(
    start: Make, good_object: Make, point_at: Make, name: str, config: dict, changes: dict, goal: dict, code: int
) -> None:
    probe = start(f"refuse_{name}", **{"enabled": True, **config})
    probe.ask(good_object(**changes))
    result = point_at(probe, **goal).ended()
    assert result.code == code and result.reason
    assert probe.node._goals.target is None


def test_without_arrays_or_on_an_old_one_a_goal_is_stale(start: Make, good_object: Make, point_at: Make) -> None:
    probe = start("stale", simulated=True, enabled=True)
    assert point_at(probe).ended().code == Status.CODE_STALE
    probe.ask(good_object())
    probe.pass_time(2.1)
    assert point_at(probe).ended().code == Status.CODE_STALE


def test_a_newer_goal_ends_the_older_one_unless_it_is_refused(start: Make, good_object: Make, point_at: Make) -> None:
    probe = start("newer", enabled=True)
    both = good_object(), good_object(id=B)
    probe.ask(*both)
    first = point_at(probe, A)
    assert point_at(probe, UUID(int=9)).ended().code == Status.CODE_NO_TARGET
    assert uuid_of(probe.ask(*both).target_id) == A and first.going_on
    second = point_at(probe, B)
    assert first.ended().code == Status.CODE_SUPERSEDED
    assert uuid_of(probe.ask(*both).target_id) == B and second.going_on
    client = probe.create_client(SelectTarget, "attitude_request_node/select_target")
    assert probe.call(client, SelectTarget.Request(target_id=uuid_message(B))).accepted and second.going_on
    assert probe.call(client, SelectTarget.Request(target_id=uuid_message(A))).accepted
    assert second.ended().code == Status.CODE_SUPERSEDED
    third = point_at(probe, B)
    client = probe.create_client(ReleaseTarget, "attitude_request_node/release_target")
    assert probe.call(client, ReleaseTarget.Request(target_id=uuid_message(B))).accepted
    assert third.ended().code == Status.CODE_SUPERSEDED
    # The user's choice is back.
    assert uuid_of(probe.ask(*both).target_id) == A


def test_a_goal_for_whatever_is_chosen_keeps_to_it(start: Make, good_object: Make, point_at: Make) -> None:
    """The surer object is chosen; a better one that comes later is not looked at while the goal goes on."""
    quick = {"dwell_s": 0.0, "switch_after_s": 0.0, "switch_after_arrays": 1, "switch_margin": 0.05}
    probe = start("whichever", simulated=True, enabled=True, **quick)
    objects = good_object(existence_probability=0.85), good_object(id=B, existence_probability=0.99)
    probe.ask(*objects)
    goal = point_at(probe, None, hold_time=float("inf"))
    better = good_object(id=UUID(int=9), existence_probability=1.0, bearing_covariance=np.eye(3) * 1e-12)
    for index in range(3):
        probe.pass_time(0.5)
        assert uuid_of(probe.ask(*objects, better).target_id) == B
        assert uuid_of(goal.latest(index + 1).target_id) == B
    goal.cancel()
    result = goal.ended(GoalStatus.STATUS_CANCELED)
    assert (result.code, uuid_of(result.target_id)) == (Status.CODE_CANCELLED, B)
    assert result.pointing_error == pytest.approx(OFF_RAD, abs=1e-9)
    # Then the policy is free again.
    targets = []
    for _ in range(3):
        probe.pass_time(0.5)
        targets.append(uuid_of(probe.ask(*objects, better).target_id))
    assert targets[-1] == better.id


def test_a_goal_ends_with_its_target_and_with_the_switch(start: Make, good_object: Make, point_at: Make) -> None:
    probe = start("ends", enabled=True)
    other = good_object(id=B)
    for ending in (good_object(state=ObjectState.LOST), other):
        probe.ask(good_object(), other)
        goal = point_at(probe, A)
        # An image that could not be used loses nothing.
        probe.ask(problem="unknown encoding")
        assert goal.latest(1).state == PointAt.Feedback.WAITING and goal.going_on
        status = probe.ask(*{ending.id: ending, B: other}.values())
        assert goal.ended().code == Status.CODE_TARGET_LOST
        assert uuid_of(status.target_id) == B
    probe.ask(good_object(), other)
    goal = point_at(probe, A)
    probe.call(probe.enable, SetBool.Request(data=False))
    assert goal.ended().code == Status.CODE_DISABLED


def test_a_goal_waits_as_long_as_its_last_request_holds(start: Make, good_object: Make, point_at: Make) -> None:
    """Coasting, and after that silence: each ends the goal once the 5 s of validity are over, and not before."""
    probe = start("patience", simulated=True, enabled=True)
    probe.ask(good_object())
    goal = point_at(probe)
    for _ in range(5):
        probe.pass_time(1.0)
        probe.ask(good_object(state=ObjectState.COASTING), good_object(id=B))
        assert goal.going_on and probe.statuses[-1].decision == Status.HELD
    probe.pass_time(0.1)
    assert goal.ended().code == Status.CODE_TARGET_LOST
    probe.ask(good_object())
    goal = point_at(probe)
    probe.pass_time(5.0)
    assert goal.going_on
    probe.pass_time(0.1)
    assert goal.ended().code == Status.CODE_STALE


def test_a_goal_brings_its_own_roll(start: Make, good_object: Make, point_at: Make) -> None:
    """Body x comes as near to inertial z as the bearing leaves free; without the goal nothing is asked of it."""
    probe = start("own_roll", enabled=True)
    still = good_object(bearing_rate_rad_s=np.zeros(3))
    assert probe.ask(still).decision == Status.SENT and not probe.requests[-1].roll_constrained
    goal = point_at(probe, roll_constrained=True, roll_body_axis=Vector3(x=1.0), roll_direction=Vector3(z=1.0))
    assert probe.ask(still).decision == Status.SENT
    request = probe.requests[-1]
    target_N = vector_array(request.target_bearing)
    square = np.array([0.0, 0.0, 1.0]) - target_N * target_N[2]
    x_N = Rotation.from_quat(quaternion_array(request.attitude)).apply([1, 0, 0])
    np.testing.assert_allclose(x_N, square / np.linalg.norm(square), atol=1e-6)
    assert request.roll_constrained
    goal.cancel()
    goal.ended(GoalStatus.STATUS_CANCELED)
    assert probe.ask(still).decision == Status.SENT and not probe.requests[-1].roll_constrained
