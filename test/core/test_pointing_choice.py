"""Which target, and what is asked when: choice, hysteresis, user's choice, loss, latency, limits, ways around."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, AttitudeRequest, ObjectState, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.choice import choose, scores, time_left_s
from sparsematch_ros.pointing.conventions import rotation, unit_vector
from sparsematch_ros.pointing.decision import Answer, Code, Decision, Memory, Policy, Situation, consider, decide
from sparsematch_ros.pointing.guidance import angle_between_rad

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
NOW_NS = 100 * NANOSECONDS
SIZE = (640, 480)
ATTITUDE = Rotation.from_euler("xyz", [0.3, -0.7, 1.9])
BORESIGHT = np.array([0.0, 0.0, 1.0])


def item(identity: UUID = A, **changes: Any) -> SpaceObject:
    """A confirmed object at rest 6 deg off the boresight, followed for 20 s."""
    start = SpaceObject(
        id=identity, state=ObjectState.CONFIRMED, moving=True, existence_probability=0.9,
        bbox_xywh_px=np.array([310.0, 230, 20, 20]), centroid_px=np.array([320.0, 240]), centroid_covariance=np.eye(2),
        area_px=20.0, velocity_px_s=np.array([1.0, 0]), velocity_covariance=np.eye(2),
        apparent_velocity_px_s=np.array([1.0, 0]), first_seen_ns=NOW_NS - 20 * NANOSECONDS, last_seen_ns=NOW_NS,
        bearing=unit_vector([0.1, 0.0, 1.0]), bearing_covariance=np.eye(3) * 1e-6, bearing_rate_rad_s=np.zeros(3),
    )  # fmt: skip
    return replace(start, **changes)


def situation(*objects: SpaceObject, **changes: Any) -> Situation:
    start = Situation(NOW_NS, "camera", objects, NOW_NS, True, ATTITUDE.as_quat(), np.zeros(3), SIZE)
    return replace(start, **changes)


def policy(**config: Any) -> Policy:
    return Policy.from_config(replace(PointingConfig(), **config))


def ask(*objects: SpaceObject, config: dict[str, Any] | None = None, **changes: Any) -> Answer:
    return decide(situation(*objects, **changes), policy(**(config or {})))


def sent(answer: Answer) -> AttitudeRequest:
    assert answer.decision == Decision.SENT and answer.request is not None, answer.reason
    return answer.request


def test_time_left_is_the_first_border_reached() -> None:
    """0.5 px beyond the last pixel's centre is the border; at rest there is no end, outside there is none left."""
    places = np.array([[320.0, 240], [320, 240], [10, 240], [630, 240], [320, 240], [650, 240]])
    speeds = np.array([[10.0, 0], [0, -5], [-2, 1], [1, 0], [0, 0], [3, 0]])
    expected = [31.95, 48.1, 5.25, 9.5, np.inf, 0.0]
    np.testing.assert_allclose(time_left_s(places, speeds, SIZE), expected)


BETTER = [
    {"existence_probability": 0.99},
    {"first_seen_ns": NOW_NS - 5 * NANOSECONDS},
    {"velocity_px_s": np.array([40.0, 0.0])},
    {"velocity_px_s": np.array([200.0, 0.0])},
    {"bearing_covariance": np.eye(3) * 1e-8},
]


@pytest.mark.parametrize(("changes", "wins"), list(zip(BETTER, (True, False, True, True, True))))
def test_each_term_of_the_score_counts(changes: dict[str, Any], wins: bool) -> None:
    """Surer, older, sooner out of the image, about to leave it, better known: each alone decides between equals."""
    values, _ = scores([item(A), item(B, **changes)], NOW_NS, SIZE, PointingConfig())
    assert (values[1] > values[0]) == wins and values[0] != values[1]
    assert (values >= 0).all() and (values <= 1).all()
    assert (ask(item(A), item(B, **changes)).target_id == B) == wins


def test_scores_follow_the_weights() -> None:
    """With one weight alone the score is that term: 0.9; 160/255 of what leaves in 2 s; 5 / (5 + 2)."""
    none = {f"weight_{name}": 0.0 for name in ("priority", "existence", "age", "time_left", "uncertainty")}
    leaving = item(velocity_px_s=np.array([159.75, 0.0]))
    for name, expected in (("existence", 0.9), ("priority", 160 / 255), ("time_left", 5 / 7), ("age", 1.0)):
        config = replace(PointingConfig(), **{**none, f"weight_{name}": 2.0})
        assert scores([leaving], NOW_NS, SIZE, config)[0][0] == pytest.approx(expected)


def test_what_is_not_known_counts_nothing() -> None:
    """Neither covariance nor image size: no term of theirs, and no NaN."""
    values, _ = scores([item(bearing_covariance=None), item()], NOW_NS, None, PointingConfig())
    assert np.isfinite(values).all() and values[0] < values[1]


def test_equals_are_settled_by_identity_whatever_their_order() -> None:
    for objects in ((item(A), item(B)), (item(B), item(A))):
        assert ask(*objects).target_id == A


def run(arrays: list[tuple[SpaceObject, ...]], step_s: float = 0.5, **config: Any) -> list[UUID | None]:
    """Targets over arrays, with the memory handed on."""
    memory, targets, ours = Memory(), [], policy(dead_band_deg=0.0, **config)
    for index, objects in enumerate(arrays):
        stamp = NOW_NS + round(index * step_s * NANOSECONDS)
        answer = decide(situation(*objects, stamp_ns=stamp, now_ns=stamp, memory=memory), ours)
        memory = answer.memory or memory
        targets.append(answer.target_id)
    return targets


def test_two_targets_that_alternate_do_not_swing_the_spacecraft() -> None:
    """Each leads by far in every other array, or for 1.5 s at a time: the first stays the target for 60 s."""
    high, low = {"existence_probability": 1.0}, {"existence_probability": 0.8}
    for period in (1, 3):
        arrays = []
        for index in range(120):
            first, second = (high, low) if (index // period) % 2 == 0 else (low, high)
            arrays.append((item(A, **first), item(B, **second)))
        assert set(run(arrays, weight_existence=100.0, switch_margin=0.05)) == {A}


def test_a_slow_alternation_switches_no_more_often_than_the_dwell() -> None:
    """Every 4 s the other leads: with a dwell of 10 s there are at most 6 switches in a minute."""
    arrays = []
    for index in range(120):
        surer = 1.0 if (index // 8) % 2 else 0.8
        arrays.append((item(A, existence_probability=1.8 - surer), item(B, existence_probability=surer)))
    targets = run(arrays, weight_existence=100.0, switch_margin=0.05)
    switches = [index for index in range(1, 120) if targets[index] != targets[index - 1]]
    assert 1 <= len(switches) <= 6 and np.diff(switches).min() >= 20


def test_a_rival_takes_over_after_the_time_the_arrays_and_the_dwell() -> None:
    """From 12 s on B leads by more than the margin; 2 s later it is the target, and stays."""
    arrays = [(item(A, existence_probability=0.8), item(B, existence_probability=0.81 if i < 24 else 1.0))
              for i in range(40)]  # fmt: skip
    arrays[0] = (item(A, existence_probability=0.9), arrays[0][1])
    targets = run(arrays, weight_existence=100.0)
    assert targets.index(B) == 28 and set(targets[28:]) == {B}
    few = [(item(A, existence_probability=0.9), item(B, existence_probability=0.8))] * 3
    rival = [(item(A, existence_probability=0.8), item(B, existence_probability=1.0))] * 9
    assert (
        run(few + rival, weight_existence=100.0, dwell_s=0.0, switch_after_s=0.0, switch_after_arrays=5).index(B) == 7
    )


def test_the_same_arrays_give_the_same_targets() -> None:
    random = np.random.default_rng(5)
    arrays = [tuple(item(UUID(int=int(i)), existence_probability=float(random.uniform(0.8, 1.0)))
                    for i in random.permutation(5) + 1) for _ in range(60)]  # fmt: skip
    assert run(arrays) == run(arrays)


def test_the_users_choice_wins_while_it_is_usable() -> None:
    """Over a better one and over the target so far; released objects are not chosen; a lost choice does not block."""
    better, chosen = item(A, existence_probability=1.0), item(B, existence_probability=0.81)
    memory = Memory(target=A, target_since_ns=NOW_NS - NANOSECONDS)
    answer = ask(better, chosen, selected=B, memory=memory)
    assert answer.target_id == B and sent(answer).priority == 255 and "selected" in answer.reason
    assert ask(better, chosen, released=frozenset({A}), memory=memory).target_id == B
    assert ask(better, replace(chosen, bearing=None), selected=B).target_id == A
    assert ask(better, selected=B).target_id == A
    coasting = replace(chosen, state=ObjectState.COASTING)
    assert ask(better, coasting, selected=B).code == Code.NO_TARGET
    assert ask(replace(chosen, state=ObjectState.TENTATIVE), selected=B).code == Code.UNCONFIRMED
    assert ask(better, released=frozenset({A})).code == Code.NO_TARGET


def test_the_reason_says_why_this_one() -> None:
    reason = sent(ask(item(A), item(B, velocity_px_s=np.array([200.0, 0.0])))).reason
    assert "about to leave" in reason and "of 2" in reason and "200.0 px/s" in reason


def test_choose_alone_needs_no_attitude() -> None:
    assert choose([item(A)], NOW_NS, Memory(), PointingConfig()).target.id == A


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 1.9])
def test_attitude_and_target_are_predicted_to_when_the_request_acts(delay_s: float) -> None:
    """Body and bearing turn on at their rates from the image; half of the delay is over, half is latency to come."""
    omega_N, rate_C = np.array([0.004, -0.01, 0.002]), np.array([0.0, 0.01, 0.0])
    answer = ask(item(bearing_rate_rad_s=rate_C), now_ns=NOW_NS + round(delay_s / 2 * NANOSECONDS),
                 omega_BN_N_rad_s=omega_N, config={"latency_s": delay_s / 2})  # fmt: skip
    request = sent(answer)
    assert (request.attitude_stamp_ns - request.stamp_ns) / NANOSECONDS == pytest.approx(delay_s)
    bearing_N = ATTITUDE.apply(item().bearing)
    np.testing.assert_allclose(request.target_bearing_R, bearing_N, atol=1e-12)
    then_N = np.cos(0.01 * delay_s) * bearing_N + np.sin(0.01 * delay_s) * ATTITUDE.apply([0.0, 1.0, 0.0])
    asked = rotation(request.q_RB_xyzw)
    np.testing.assert_allclose(asked.apply(BORESIGHT), then_N, atol=1e-9)
    # The smallest rotation is from where the body will be, not from where it was.
    body = Rotation.from_rotvec(omega_N * delay_s) * ATTITUDE
    expected = angle_between_rad(body.apply(BORESIGHT), then_N)
    assert (asked * body.inv()).magnitude() == pytest.approx(expected, abs=1e-9)
    assert answer.rate_error_rad_s == pytest.approx(np.linalg.norm(omega_N - request.omega_BR_R_rad_s))


def test_time_to_go_is_the_slews() -> None:
    """6 deg to the target at 2 deg/s and 1 deg/s^2 from rest: 5.71 / 2 + 2 s."""
    answer = ask(item())
    assert answer.time_to_go_s == pytest.approx(np.degrees(np.arctan(0.1)) / 2 + 2, abs=1e-6)
    assert sent(answer).time_to_go_s == answer.time_to_go_s


def test_a_target_that_is_too_fast_is_refused() -> None:
    """Following 1.95 deg/s with a limit of 2 leaves too little to catch up; 1.8 is sent."""
    for rate_deg_s, code in ((1.95, Code.RATE_LIMIT), (1.8, Code.NONE)):
        moving = item(bearing_rate_rad_s=np.radians([0.0, rate_deg_s, 0.0]))
        assert ask(moving, omega_BN_N_rad_s=np.zeros(3)).code == code
    slow = ask(item(), config={"max_acceleration_deg_s2": 0.001, "longest_slew_s": 10.0})
    assert slow.code == Code.RATE_LIMIT and "limit 10" in slow.reason


def test_a_frame_without_a_name_is_refused() -> None:
    loose = {"allow_unchecked": True}
    assert ask(item(), camera_frame="", q_NB_xyzw=None, config=loose).code == Code.FRAME_UNKNOWN
    assert ask(item(), config={"inertial_frame": ""}).code == Code.FRAME_UNKNOWN
    assert ask(item(), camera_frame="").decision == Decision.SENT


def test_a_goal_is_accepted_or_rejected_by_name() -> None:
    """Nothing is remembered, whatever the answer."""
    ours = policy()
    answers = {
        Code.NONE: (A, situation(item())),
        Code.NO_TARGET: (B, situation(item())),
        Code.UNCONFIRMED: (A, situation(item(state=ObjectState.COASTING))),
        Code.STALE: (A, situation(item(), now_ns=NOW_NS + 3 * NANOSECONDS)),
        Code.NO_BEARING: (A, situation(item(bearing=None))),
        Code.RATE_LIMIT: (A, situation(item(bearing_rate_rad_s=np.array([0.0, 0.5, 0.0])))),
        Code.UNCHECKED: (A, situation(item(), q_NB_xyzw=None)),
        Code.BAD_INPUT: (A, situation(item(), memory=Memory(NOW_NS))),
    }
    for code, (target, known) in answers.items():
        answer = consider(target, known, ours)
        assert (answer.code, answer.memory) == (code, None)


def test_a_forbidden_object_does_not_block_the_others() -> None:
    """The better one lies in a cone: the other is asked for; alone it is refused by name."""
    forbidden = item(A, bearing=unit_vector([-0.3, 0.0, 1.0]), existence_probability=1.0)
    cone = {"keep_out_half_angles_deg": [5.0], "keep_out_directions": ATTITUDE.apply(forbidden.bearing).tolist()}
    assert ask(forbidden, item(B), config=cone).target_id == B
    assert ask(forbidden, config=cone).code == Code.KEEP_OUT


def test_a_cone_on_the_way_is_gone_around_by_requests() -> None:
    """40 deg to the target with a cone of 10 deg half way: each request is met at rest, and then the next comes.

    The boresight goes on the planned slew until the next array, 1 s at a time; it meets the target and enters nothing.
    """
    target_C = np.array([np.sin(np.radians(40.0)), 0.0, np.cos(np.radians(40.0))])
    sun_N = ATTITUDE.apply([np.sin(np.radians(20.0)), 0.02, np.cos(np.radians(20.0))])
    config = {"keep_out_half_angles_deg": [10.0], "keep_out_directions": sun_N.tolist()}
    target_N, body, memory, waypoints, nearest = ATTITUDE.apply(target_C), ATTITUDE, Memory(), [], np.pi
    for index in range(60):
        stamp = NOW_NS + index * NANOSECONDS
        seen = item(bearing=body.inv().apply(target_N))
        answer = ask(seen, q_NB_xyzw=body.as_quat(), stamp_ns=stamp, now_ns=stamp, memory=memory, config=config)
        memory = answer.memory or memory
        if answer.code == Code.DEAD_BAND:
            break
        request = sent(answer)
        waypoints.append(request.waypoints)
        np.testing.assert_allclose(request.target_bearing_R, target_N, atol=1e-9)
        step = rotation(request.q_RB_xyzw) * body.inv()
        body = Rotation.from_rotvec(step.as_rotvec() * min(1.0, np.radians(2.0) / max(step.magnitude(), 1e-9))) * body
        nearest = min(nearest, angle_between_rad(body.apply(BORESIGHT), sun_N))
    assert answer.code == Code.DEAD_BAND and waypoints[0] >= 1 and waypoints[-1] == 0
    assert np.degrees(nearest) > 10.0
    assert ask(item(bearing=target_C), config={**config, "keep_out_path": "refuse"}).code == Code.KEEP_OUT


def lose(when_lost: str, **changes: Any) -> Answer:
    memory = Memory(stamp_ns=NOW_NS - NANOSECONDS, target=A, requested_ns=NOW_NS - NANOSECONDS)
    return ask(memory=memory, config={"when_lost": when_lost, **changes.pop("config", {})}, **changes)


def test_lost_hold_asks_nothing() -> None:
    answer = lose("hold")
    assert (answer.decision, answer.code) == (Decision.HELD, Code.NO_TARGET) and "lost" in answer.reason
    assert answer.memory is not None and answer.memory.target is None and not answer.memory.recovering


def test_lost_stop_asks_for_rest_where_braking_ends() -> None:
    """1 deg/s at 1 deg/s^2: half a degree on, at rest, once."""
    omega_N = np.radians([0.0, 1.0, 0.0])
    answer = lose("stop", omega_BN_N_rad_s=omega_N)
    request = sent(answer)
    assert answer.code == Code.TARGET_LOST and answer.target_id is None and request.target_id == UUID(int=0)
    turn = rotation(request.q_RB_xyzw) * ATTITUDE.inv()
    np.testing.assert_allclose(turn.as_rotvec(), np.radians([0.0, 0.5, 0.0]), atol=1e-9)
    np.testing.assert_array_equal(request.omega_BR_R_rad_s, 0.0)
    assert ask(memory=replace(answer.memory, stamp_ns=NOW_NS - 1), config={"when_lost": "stop"}).code == Code.NO_TARGET


def test_lost_return_asks_for_the_way_home_until_it_is_there() -> None:
    """To the attitude at enabling, or the one in the settings; renewed at half of the validity; then it is over."""
    home = Rotation.from_rotvec([0.0, 0.3, 0.0]) * ATTITUDE
    answer = lose("return", home_q_NB_xyzw=home.as_quat())
    assert (rotation(sent(answer).q_RB_xyzw).inv() * home).magnitude() < 1e-9
    config = {"when_lost": "return"}
    for after_s, code, decision in ((1, Code.TARGET_LOST, Decision.HELD), (3, Code.TARGET_LOST, Decision.SENT)):
        stamp = NOW_NS + after_s * NANOSECONDS
        again = ask(memory=answer.memory, stamp_ns=stamp, now_ns=stamp, home_q_NB_xyzw=home.as_quat(), config=config)
        assert (again.code, again.decision) == (code, decision)
    there = {"q_NB_xyzw": home.as_quat(), "home_q_NB_xyzw": home.as_quat(), "config": config}
    arrived = ask(memory=replace(answer.memory, stamp_ns=NOW_NS - 1), **there)
    assert arrived.code == Code.DEAD_BAND and not arrived.memory.recovering
    set_home = lose("return", config={"return_attitude_xyzw": [0.0, 0.0, 0.0, 1.0]})
    np.testing.assert_allclose(sent(set_home).q_RB_xyzw, [0, 0, 0, 1], atol=1e-12)
    assert lose("return").code == Code.NO_TARGET


def test_lost_without_attitude_or_on_an_old_image_asks_nothing_yet() -> None:
    for changes, code in (({"q_NB_xyzw": None}, Code.UNCHECKED), ({"now_ns": NOW_NS + 3 * NANOSECONDS}, Code.STALE)):
        answer = lose("stop", **changes)
        assert answer.code == code and answer.memory.recovering


def test_the_way_home_keeps_out_of_cones_and_another_object_ends_it() -> None:
    home = Rotation.from_rotvec([0.0, 0.6, 0.0]) * ATTITUDE
    body_N = (Rotation.from_rotvec([0.0, 0.6, 0.0]) * ATTITUDE).apply(BORESIGHT)
    cone = {"keep_out_half_angles_deg": [5.0], "keep_out_directions": body_N.tolist()}
    assert lose("return", home_q_NB_xyzw=home.as_quat(), config=cone).code == Code.KEEP_OUT
    lost = lose("return", home_q_NB_xyzw=home.as_quat())
    found = ask(item(B), memory=replace(lost.memory, stamp_ns=NOW_NS - 1), config={"when_lost": "return"})
    assert found.target_id == B and not found.memory.recovering


def test_an_image_that_could_not_be_used_loses_no_target() -> None:
    answer = lose("stop", problem="unknown encoding")
    assert answer.code == Code.NO_TARGET and "unknown encoding" in answer.reason
    assert answer.memory.target == A and not answer.memory.recovering


def test_roll_is_constrained_in_the_inertial_frame_alone() -> None:
    """The roll axis lies in the plane of bearing and roll direction; without attitude no roll is asked."""
    config = {"roll_body_axis": [1.0, 0.0, 0.0], "roll_direction": [0.0, 0.0, 2.0]}
    request = sent(ask(item(), config=config))
    asked = rotation(request.q_RB_xyzw)
    np.testing.assert_allclose(asked.apply(BORESIGHT), request.target_bearing_R, atol=1e-9)
    assert abs(asked.apply([1.0, 0, 0]) @ np.cross(request.target_bearing_R, [0, 0, 1])) < 1e-9
    np.testing.assert_allclose(request.roll_direction_R, [0, 0, 1])
    loose = sent(ask(item(), q_NB_xyzw=None, config={**config, "allow_unchecked": True}))
    assert loose.roll_direction_R is None


@pytest.mark.parametrize(
    "config",
    [
        {"roll_body_axis": [1.0, 0.0, 0.0]},
        {"roll_body_axis": [0.0, 0.0, 1.0], "roll_direction": [1.0, 0.0, 0.0]},
        {"roll_body_axis": [0.0, 0.0, 0.0], "roll_direction": [1.0, 0.0, 0.0]},
        {"return_attitude_xyzw": [0.0, 0.0, 0.0]},
        {"keep_out_half_angles_deg": [5.0], "keep_out_axes": [1.0]},
    ],
)
def test_settings_without_sense_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SparsematchError, match=r"pointing\."):
        policy(**config)
