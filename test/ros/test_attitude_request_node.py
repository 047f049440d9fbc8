"""The node answers every array, and sends nothing that would be unsafe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from sparsematch_ros.msg import AttitudeRequestStatus
from sparsematch_ros.srv import ReleaseTarget, SelectTarget
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from sparsematch_ros.data import NANOSECONDS, ObjectState
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.conversions import (
    objects_message,
    quaternion_array,
    stamp_message,
    uuid_message,
    uuid_of,
    vector_array,
)

Status = AttitudeRequestStatus
Make = Callable[..., Any]
ATTITUDE = Rotation.from_euler("xyz", [0.3, -0.7, 1.9])
BEARING = np.array([0.12, -0.05, 1.0]) / np.linalg.norm([0.12, -0.05, 1.0])


@pytest.fixture(scope="module")
def enabled(start: Make) -> Any:
    """A node that may send."""
    return start("enabled", enabled=True)


def test_it_starts_disabled_and_the_service_enables_it(start: Any, wait_for: Any, good_object: Make) -> None:
    probe = start("defaults")
    assert probe.ask(good_object()).code == Status.CODE_DISABLED
    for wanted, code in ((True, Status.CODE_NONE), (False, Status.CODE_DISABLED)):
        assert probe.call(probe.enable, SetBool.Request(data=wanted)).success
        assert probe.ask(good_object()).code == code
    assert len(probe.requests) == 1


def test_a_good_object_is_asked_for_with_the_right_attitude(enabled: Any, wait_for: Any, good_object: Make) -> None:
    before = len(enabled.requests)
    status = enabled.ask(good_object())
    assert (status.decision, status.code, uuid_of(status.target_id)) == (Status.SENT, Status.CODE_NONE, UUID(int=7))
    expected = np.arctan2(np.hypot(BEARING[0], BEARING[1]), BEARING[2])
    assert status.off_boresight == pytest.approx(expected, abs=1e-6)
    wait_for(lambda: len(enabled.requests) > before, "request")
    request = enabled.requests[-1]
    assert request.header.stamp == status.header.stamp
    # The attitude is predicted to when the request is sent; within 0.1 s the bearing turns by 1e-3.
    assert 0 <= stamp_ns(request.attitude_stamp) - stamp_ns(request.header.stamp) < 0.1 * NANOSECONDS
    assert request.header.frame_id == "inertial" and request.keep_out_checked
    asked = Rotation.from_quat(quaternion_array(request.attitude))
    np.testing.assert_allclose(asked.apply([0, 0, 1]), ATTITUDE.apply(BEARING), atol=1e-3)
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
def test_an_unfit_object_is_never_asked_for(
    enabled: Any, changes: dict[str, Any], code: int, good_object: Make
) -> None:
    before = enabled.statuses[-1].sent if enabled.statuses else 0
    status = enabled.ask(good_object(**changes))
    assert status.code == code and status.decision != Status.SENT and status.sent == before
    assert status.reason


def test_an_unknown_state_does_not_kill_the_node(enabled: Any, wait_for: Any, good_object: Make) -> None:
    header = Header(stamp=enabled.get_clock().now().to_msg(), frame_id="camera")
    message = objects_message(header, (good_object(),))
    message.objects[0].state = 77
    before = len(enabled.statuses)
    enabled.objects.publish(message)
    wait_for(lambda: len(enabled.statuses) > before, "status")
    assert enabled.statuses[-1].code == Status.CODE_BAD_INPUT
    assert enabled.ask(good_object()).decision == Status.SENT


def test_no_objects_and_a_bad_image_are_answered_too(enabled: Any) -> None:
    assert enabled.ask().code == Status.CODE_NO_TARGET
    status = enabled.ask(problem="unknown encoding")
    assert status.code == Status.CODE_NO_TARGET and "unknown encoding" in status.reason


def test_old_future_and_backward_stamps_are_refused(start: Any, good_object: Make) -> None:
    probe = start("stamps", enabled=True)
    assert probe.ask(good_object(), age_s=3.0).code == Status.CODE_STALE
    assert probe.ask(good_object()).decision == Status.SENT
    assert probe.ask(good_object(), age_s=1.0).code == Status.CODE_BAD_INPUT
    assert probe.ask(good_object(), age_s=-5.0).code == Status.CODE_BAD_INPUT


def test_without_attitude_nothing_is_sent_unless_allowed(start: Any, wait_for: Any, good_object: Make) -> None:
    careful, bold = start("careful", enabled=True), start("bold", enabled=True, allow_unchecked=True)
    assert careful.ask(good_object(), attitude=False).code == Status.CODE_UNCHECKED
    assert bold.ask(good_object(), attitude=False).decision == Status.SENT
    wait_for(lambda: bold.requests, "request")
    assert bold.requests[0].header.frame_id == "camera" and not bold.requests[0].keep_out_checked


def test_a_target_in_a_keep_out_cone_is_refused(start: Any, good_object: Make) -> None:
    sun = Rotation.from_rotvec([0.0, np.radians(20.0), 0.0]).apply(ATTITUDE.apply(BEARING)).tolist()
    near = start("near_sun", enabled=True, keep_out_half_angles_deg=[30.0], keep_out_directions=sun)
    status = near.ask(good_object())
    assert status.code == Status.CODE_KEEP_OUT and status.decision == Status.REFUSED and status.refused == 1
    far = start("far_sun", enabled=True, keep_out_half_angles_deg=[10.0], keep_out_directions=sun)
    assert far.ask(good_object()).decision == Status.SENT


@pytest.mark.parametrize("latency_s", [0.0, 0.5])
def test_body_and_target_are_predicted_on_the_nodes_clock(start: Make, good_object: Make, latency_s: float) -> None:
    """0.8 s after the image and the latency later, a target at 0.01 rad/s is that much further on."""
    probe = start(f"late_{round(latency_s * 10)}", simulated=True, enabled=True, latency_s=latency_s)
    rate = np.array([0.01, 0.0, 0.0])
    assert probe.ask(good_object(bearing_rate_rad_s=rate), age_s=0.8).decision == Status.SENT
    request = probe.requests[-1]
    assert stamp_ns(request.attitude_stamp) == probe.time_ns + round(latency_s * NANOSECONDS)
    across = rate - BEARING * (rate @ BEARING)
    angle = np.linalg.norm(across) * (0.8 + latency_s)
    expected = np.cos(angle) * BEARING + np.sin(angle) * across / np.linalg.norm(across)
    asked = Rotation.from_quat(quaternion_array(request.attitude)).apply([0, 0, 1])
    np.testing.assert_allclose(asked, ATTITUDE.apply(expected), atol=1e-9)


def test_the_bodys_rate_comes_from_the_attitudes(start: Make, good_object: Make) -> None:
    """Two attitudes 0.01 rad apart in 0.5 s: 0.02 rad/s, which is the rate error against a target at rest."""
    probe = start("turning", simulated=True, enabled=True)
    still = good_object(bearing_rate_rad_s=np.zeros(3))
    assert np.isnan(probe.ask(still).rate_error)
    probe.pass_time(0.5)
    probe.q_NB = Rotation.from_rotvec([0.0, 0.0, 0.01]) * probe.q_NB
    status = probe.ask(still)
    assert status.rate_error == pytest.approx(0.02, rel=1e-6)
    assert status.time_to_go == probe.requests[-1].time_to_go > 0 and probe.requests[-1].waypoints == 0


def test_the_roll_that_is_set_is_asked_for(start: Make, good_object: Make) -> None:
    """Body x comes as near to inertial z as the bearing leaves free: the part of z square to the bearing."""
    probe = start("roll", enabled=True, roll_body_axis=[1.0, 0.0, 0.0], roll_direction=[0.0, 0.0, 1.0])
    assert probe.ask(good_object(bearing_rate_rad_s=np.zeros(3))).decision == Status.SENT
    request, target_N = probe.requests[-1], ATTITUDE.apply(BEARING)
    assert request.roll_constrained
    square = np.array([0.0, 0.0, 1.0]) - target_N * target_N[2]
    x_N = Rotation.from_quat(quaternion_array(request.attitude)).apply([1, 0, 0])
    np.testing.assert_allclose(x_N, square / np.linalg.norm(square), atol=1e-6)


def test_a_lost_target_sends_the_body_home(start: Make, good_object: Make) -> None:
    """Home is the attitude at the first array after enabling, not the one when the target was lost."""
    probe = start("home", simulated=True, enabled=True, when_lost="return")
    assert probe.ask(good_object()).decision == Status.SENT
    probe.pass_time(1.0)
    probe.q_NB = ATTITUDE * Rotation.from_rotvec([0.2, 0.0, 0.0])
    status = probe.ask()
    assert (status.decision, status.code) == (Status.SENT, Status.CODE_TARGET_LOST)
    asked = Rotation.from_quat(quaternion_array(probe.requests[-1].attitude))
    assert (asked.inv() * ATTITUDE).magnitude() < 1e-6


def test_an_object_about_to_leave_the_image_is_chosen(start: Make, good_object: Make, wait_for: Make) -> None:
    """The image's size comes from CameraInfo: without it no time is left over, and equals go by identity."""
    probe = start("leaving", enabled=True)
    infos = probe.create_publisher(CameraInfo, "camera_info", 10)
    wait_for(infos.get_subscription_count, "connection")
    staying = good_object(centroid_px=np.array([320.0, 240.0]), velocity_px_s=np.array([1.0, 0.0]))
    leaving = good_object(id=UUID(int=8), centroid_px=np.array([630.0, 240.0]), velocity_px_s=np.array([8.0, 0.0]))
    assert uuid_of(probe.ask(staying, leaving).target_id) == UUID(int=7)
    probe.call(probe.enable, SetBool.Request(data=False))
    probe.call(probe.enable, SetBool.Request(data=True))
    infos.publish(CameraInfo(header=Header(stamp=stamp_message(1)), width=640, height=480, k=np.eye(3).ravel()))
    wait_for(lambda: probe.node._camera_infos.covers(1), "CameraInfo")
    status = probe.ask(staying, leaving)
    assert uuid_of(status.target_id) == UUID(int=8) and status.choice.startswith("about to leave")


def select(probe: Any, target: UUID, why: str = "") -> Any:
    client = probe.create_client(SelectTarget, "attitude_request_node/select_target")
    return probe.call(client, SelectTarget.Request(target_id=uuid_message(target), why=why))


def release(probe: Any, target: UUID | None = None) -> Any:
    client = probe.create_client(ReleaseTarget, "attitude_request_node/release_target")
    return probe.call(client, ReleaseTarget.Request(target_id=uuid_message(target)))


def test_the_users_choice_is_followed_until_it_is_released(start: Make, good_object: Make) -> None:
    probe = start("choice", enabled=True)
    first, second = good_object(), good_object(id=UUID(int=8))
    assert uuid_of(probe.ask(first, second).target_id) == first.id
    assert select(probe, second.id, "looks like debris").accepted
    status = probe.ask(first, second)
    assert uuid_of(status.target_id) == second.id and probe.requests[-1].priority == 255
    assert status.choice == "selected by the user: looks like debris" and status.choice in probe.requests[-1].reason
    assert release(probe).accepted
    # Nothing swings back: the hysteresis keeps the target; released by name it is not chosen any more.
    assert uuid_of(probe.ask(first, second).target_id) == second.id
    assert release(probe, second.id).accepted
    assert uuid_of(probe.ask(first, second).target_id) == first.id
    assert probe.ask(second).code == Status.CODE_NO_TARGET
    assert select(probe, second.id).accepted and uuid_of(probe.ask(first, second).target_id) == second.id


def test_a_choice_that_cannot_be_asked_for_is_refused_by_name(start: Make, good_object: Make) -> None:
    probe = start("refused_choice")
    assert select(probe, UUID(int=7)).code == Status.CODE_STALE
    probe.ask(good_object(), good_object(id=UUID(int=8), state=ObjectState.TENTATIVE))
    for target, code in ((UUID(int=8), Status.CODE_UNCONFIRMED), (UUID(int=9), Status.CODE_NO_TARGET)):
        answer = select(probe, target)
        assert (answer.accepted, answer.code) == (False, code) and answer.reason
    assert release(probe).code == Status.CODE_NO_TARGET
    # Selected while disabled it is not asked for; that needs the other service.
    assert select(probe, UUID(int=7)).accepted
    assert probe.ask(good_object()).code == Status.CODE_DISABLED and not probe.requests
