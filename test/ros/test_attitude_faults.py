"""What goes wrong while the spacecraft slews: over DDS, with every request that is sent watched.

A body that follows exactly stands in for the spacecraft: while a request holds it flies the slew onto it, as a consumer
plans it, and comes to rest after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pytest
from rclpy.action import ActionClient
from scipy.spatial.transform import Rotation
from sparsematch_ros.action import PointAt
from sparsematch_ros.msg import AttitudeRequestStatus

from sparsematch_ros.data import NANOSECONDS, AttitudeRequest, ObjectState, SpaceObject
from sparsematch_ros.nodes.conversions import (
    quaternion_array,
    request_from_message,
    uuid_message,
    uuid_of,
    vector_array,
)
from sparsematch_ros.pointing.following import plan_slew
from sparsematch_ros.pointing.legs import match_rate
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude, Slew

Status = AttitudeRequestStatus
Make = Callable[..., Any]
STEP_S = 0.5
LIMITS = Limits(float(np.radians(2.0)), float(np.radians(1.0)))
A, B = UUID(int=7), UUID(int=8)


class Flight:
    """A body that follows what is asked, and objects at rest in inertial space."""

    def __init__(self, probe: Any, make: Make) -> None:
        self.probe, self._make, self._omega, self.telemetry = probe, make, np.zeros(3), True

    def see(self, direction_N: np.ndarray, identity: UUID = A, **changes: Any) -> SpaceObject:
        """The object in an inertial direction, as the camera on the body sees it now."""
        bearing = self.probe.q_NB.inv().apply(direction_N / np.linalg.norm(direction_N))
        return self._make(**{"id": identity, "bearing": bearing, "bearing_rate_rad_s": np.zeros(3), **changes})

    @property
    def holding(self) -> AttitudeRequest | None:
        """The last request, while it holds."""
        if not self.probe.requests:
            return None
        request = request_from_message(self.probe.requests[-1])
        age_s = (self.probe.time_ns - request.stamp_ns) / NANOSECONDS
        return request if 0 <= age_s <= request.validity_s else None

    def fly(self) -> None:
        """Let time pass, and the body turn."""
        request, here = self.holding, self.probe.q_NB.as_quat()
        if request is None:
            slew = Slew((match_rate(Attitude(here, self._omega), np.zeros(3), LIMITS),))
        else:
            slew = plan_slew(request, self.probe.time_ns, here, self._omega)
        path = slew.reference([STEP_S - 0.05, STEP_S])
        self._omega = path.omega_RN_N_rad_s[1]
        for share_s, q_NB in zip((STEP_S - 0.05, 0.05), path.q_NR_xyzw):
            self.probe.pass_time(share_s)
            self.probe.q_NB = Rotation.from_quat(q_NB)
            if self.telemetry:
                self.probe.tell_attitude()

    def step(self, *objects: SpaceObject, **how: Any) -> Status:
        """Send one array, take its status, and fly on."""
        status = self.probe.ask(*objects, **how)
        self.fly()
        return status

    def off_deg(self, direction_N: np.ndarray) -> float:
        """Angle between the boresight and a direction."""
        ahead = self.probe.q_NB.apply([0.0, 0.0, 1.0])
        return float(np.degrees(np.arccos(np.clip(ahead @ direction_N / np.linalg.norm(direction_N), -1, 1))))


@pytest.fixture
def take_off(start: Make, good_object: Make) -> Make:
    """Start a node on simulated time with a body at it, at rest along inertial z."""

    def begin(name: str, **parameters: Any) -> Flight:
        probe = start(name, simulated=True, **{"enabled": True, **parameters})
        probe.q_NB = Rotation.identity()
        return Flight(probe, good_object)

    return begin


def toward(off_deg: float, around_deg: float = 0.0) -> np.ndarray:
    """An inertial direction so far off the boresight at take-off."""
    off, around = np.radians([off_deg, around_deg])
    return np.array([np.sin(off) * np.cos(around), np.sin(off) * np.sin(around), np.cos(off)])


WRONG = [{"state": ObjectState.TENTATIVE}, {"moving": False}, {"existence_probability": 0.5}, {"id": B}]


def test_the_watch_sees_what_it_is_for(take_off: Make) -> None:
    """Had the array shown something else, or been older, the check that all tests end with would fail."""
    flight = take_off("watch")
    flight.step(flight.see(toward(10.0)))
    probe = flight.probe
    probe.assert_safe()
    ((stamp, (seen,)),) = probe._arrays.items()
    for changes in WRONG:
        probe._arrays = {stamp: (replace(seen, **changes),)}
        with pytest.raises((AssertionError, ValueError)):
            probe.assert_safe()
    probe._arrays = {stamp: (seen,)}
    probe.requests[0].attitude_stamp.sec += 3
    with pytest.raises(AssertionError, match="s old"):
        probe.assert_safe()
    probe.requests.clear()


@pytest.mark.parametrize("when_lost", ["hold", "stop", "return"])
def test_track_lost_mid_slew(take_off: Make, when_lost: str) -> None:
    """Coasting asks nothing; lost asks what is set, and no request names the object any more."""
    flight, target = take_off(f"lost_{when_lost}", when_lost=when_lost), toward(30.0)
    for _ in range(6):
        assert flight.step(flight.see(target)).decision == Status.SENT
    assert 20.0 < flight.off_deg(target) < 28.0
    sent = len(flight.probe.requests)
    for _ in range(3):
        assert flight.step(flight.see(target, state=ObjectState.COASTING)).code == Status.CODE_NO_TARGET
    assert len(flight.probe.requests) == sent
    flight.step(flight.see(target, state=ObjectState.LOST))
    for _ in range(40):
        flight.step()
    after = flight.probe.requests[sent:]
    assert bool(after) == (when_lost != "hold")
    assert all(uuid_of(request.target_id) == UUID(int=0) for request in after)
    if when_lost == "return":
        assert flight.probe.q_NB.magnitude() < np.radians(0.1)
    if when_lost == "hold":
        assert flight.holding is None and flight.off_deg(target) > 1.0


def test_attitude_telemetry_lost_mid_slew(take_off: Make) -> None:
    """Up to max_attitude_age_s the last attitudes tell; after that nothing is sent, until they come again."""
    flight, target = take_off("blind", max_attitude_age_s=0.4), toward(30.0)
    for flight.telemetry in (True, True, True, False):
        assert flight.step(flight.see(target)).decision == Status.SENT
    sent = len(flight.probe.requests)
    for _ in range(12):
        assert flight.step(flight.see(target), attitude=False).code == Status.CODE_UNCHECKED
    assert len(flight.probe.requests) == sent and flight.holding is None
    flight.telemetry = True
    assert flight.step(flight.see(target)).decision == Status.SENT


def test_the_clock_jumps_forward_and_back(take_off: Make) -> None:
    """What was valid is over after the jump; what comes from before it is refused; new images are answered again."""
    flight, target = take_off("jumps"), toward(40.0)
    for _ in range(3):
        assert flight.step(flight.see(target)).decision == Status.SENT
    flight.probe.pass_time(100.0)
    assert flight.holding is None
    assert flight.probe.ask(flight.see(target), age_s=100.0).code in (Status.CODE_STALE, Status.CODE_BAD_INPUT)
    assert flight.step(flight.see(target)).decision == Status.SENT
    flight.probe.pass_time(-500.0)
    assert flight.holding is None
    assert flight.probe.ask(flight.see(target), age_s=-500.0).code == Status.CODE_BAD_INPUT
    for _ in range(3):
        assert flight.step(flight.see(target)).decision == Status.SENT
    # Back by less than an array: the stamps go back, and time takes up again where it was.
    flight.probe.pass_time(-0.6)
    statuses = [flight.step(flight.see(target)) for _ in range(4)]
    assert statuses[0].code == Status.CODE_BAD_INPUT and statuses[-1].decision == Status.SENT


def test_two_targets_alternating_in_priority(take_off: Make) -> None:
    """Which one is better changes with every array for 60 s: the dwell of 10 s allows 6 switches, the margin none."""
    flight = take_off("alternating")
    places = {A: toward(25.0), B: toward(25.0, 180.0)}
    targets = []
    for index in range(120):
        better = (A, B)[index % 2]
        objects = [
            flight.see(place, identity, existence_probability=0.99 if identity == better else 0.85)
            for identity, place in places.items()
        ]
        targets.append(uuid_of(flight.step(*objects).target_id))
    assert sum(first != second for first, second in pairwise(targets)) == 0
    assert flight.off_deg(places[targets[0]]) < 0.1


def test_a_slow_alternation_is_bounded_by_the_dwell(take_off: Make) -> None:
    """Each is far better for 5 s in turn: at most a switch every 10 s."""
    flight = take_off("slowly", switch_margin=0.02)
    places = {A: toward(10.0), B: toward(10.0, 180.0)}
    targets = []
    for index in range(120):
        better = (A, B)[index // 10 % 2]
        objects = [
            flight.see(place, identity, existence_probability=1.0 if identity == better else 0.8)
            for identity, place in places.items()
        ]
        targets.append(uuid_of(flight.step(*objects).target_id))
    assert 1 <= sum(first != second for first, second in pairwise(targets)) <= 6


NAN3 = np.array([np.nan, 0.0, 1.0])
BROKEN = {
    "bearing": {"bearing": NAN3},
    "bearing_rate": {"bearing_rate_rad_s": NAN3},
    "covariance": {"bearing_covariance": np.full((3, 3), np.inf)},
    "existence": {"existence_probability": float("nan")},
    "velocity": {"velocity_px_s": NAN3[:2]},
}


def test_nan_in_objects_mid_slew(take_off: Make) -> None:
    """Beside a good object it is passed over; alone it is refused, and the slew goes on with the next good array."""
    flight, target = take_off("nan"), toward(60.0)
    for changes in BROKEN.values():
        assert flight.step(flight.see(target)).decision == Status.SENT
        sent = len(flight.probe.requests)
        assert flight.step(flight.see(target, **changes)).decision != Status.SENT
        assert len(flight.probe.requests) == sent
        status = flight.step(flight.see(target), flight.see(target, B, **changes))
        assert status.decision == Status.SENT and uuid_of(status.target_id) == A


def test_a_target_on_the_far_side(take_off: Make) -> None:
    """At 180 degrees any axis does, but it stays the same one: the way there is half a turn and no more."""
    flight, target = take_off("far_side"), toward(180.0)
    way_deg, axes = 0.0, []
    for _ in range(200):
        status = flight.step(flight.see(target))
        if status.decision != Status.SENT:
            break
        before = flight.probe.q_NB
        way_deg = max(way_deg, flight.off_deg(target))
        axes.append(before.as_rotvec() / before.magnitude())
    assert status.code == Status.CODE_DEAD_BAND and flight.off_deg(target) < 0.05
    assert len(axes) >= 180 and min(float(axis @ axes[5]) for axis in axes[:-2]) > 0.999
    signs = [quaternion_array(request.attitude) for request in flight.probe.requests]
    assert all(abs(first @ second) > 0.999 for first, second in pairwise(signs))


def test_perception_is_killed_and_restarted_mid_slew(take_off: Make, wait_for: Make) -> None:
    """Without arrays nothing is sent, the last request runs out, and a goal ends; new identities are new objects."""
    flight, target = take_off("restart"), toward(60.0)
    flight.step(flight.see(target))
    client = ActionClient(flight.probe, PointAt, "attitude_request_node/point_at")
    wait_for(client.server_is_ready, "action server")
    accepted = client.send_goal_async(PointAt.Goal(target_id=uuid_message(A)))
    wait_for(accepted.done, "answer to the goal")
    result = accepted.result().get_result_async()
    for _ in range(4):
        assert flight.step(flight.see(target)).decision == Status.SENT
    sent, statuses = len(flight.probe.requests), len(flight.probe.statuses)
    for _ in range(16):
        flight.fly()
    wait_for(result.done, "result")
    assert result.result().result.code == Status.CODE_STALE
    assert (len(flight.probe.requests), len(flight.probe.statuses)) == (sent, statuses) and flight.holding is None
    stood = flight.off_deg(target)
    # The tracker begins again: the object is tentative first, and has another identity.
    new = uuid5(A, "again")
    for _ in range(3):
        assert flight.step(flight.see(target, new, state=ObjectState.TENTATIVE)).decision == Status.HELD
    assert flight.off_deg(target) == stood and len(flight.probe.requests) == sent
    for _ in range(4):
        assert flight.step(flight.see(target, new)).decision == Status.SENT
    assert {uuid_of(request.target_id) for request in flight.probe.requests[sent:]} == {new}
    assert flight.off_deg(target) < stood


def test_a_keep_out_cone_in_the_way(take_off: Make) -> None:
    """The direct way to a target 100 deg off leads through the Sun's 30 deg: it is flown around."""
    sun = toward(50.0)
    flight = take_off("sun", keep_out_half_angles_deg=[30.0], keep_out_directions=sun.tolist())
    target, nearest_deg, waypoints = toward(100.0), 180.0, 0
    for _ in range(400):
        status = flight.step(flight.see(target))
        nearest_deg = min(nearest_deg, flight.off_deg(sun))
        if status.decision != Status.SENT:
            break
        waypoints = max(waypoints, flight.probe.requests[-1].waypoints)
    assert status.code == Status.CODE_DEAD_BAND and flight.off_deg(target) < 0.05
    assert waypoints > 0 and nearest_deg > 30.0


def test_a_target_that_moves_behind_a_cone_is_not_followed_into_it(take_off: Make) -> None:
    """It crosses the cone in 1 deg steps: asked for outside, refused inside, asked for again behind."""
    sun = toward(20.0)
    flight = take_off("crossing", keep_out_half_angles_deg=[8.0], keep_out_directions=sun.tolist())
    codes = {}
    for off_deg in np.arange(5.5, 35.0, 1.0):
        for _ in range(2):
            codes[off_deg] = flight.step(flight.see(toward(off_deg))).code
        assert flight.off_deg(sun) > 8.0
    inside = {off for off, code in codes.items() if code == Status.CODE_KEEP_OUT}
    assert inside >= set(np.arange(12.5, 28.0, 1.0)) and inside <= set(np.arange(10.5, 30.0, 1.0))
    assert vector_array(flight.probe.requests[-1].target_bearing) @ toward(34.5) == pytest.approx(1.0, abs=1e-9)
