"""Pointing where something is in the way: out of reach, a dead selection, a clock set back, a barred way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.decision import MOST_TRIES, Answer, Code, Decision, Memory, Policy, Situation, decide

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
NOW_NS = 100 * NANOSECONDS
BEFORE_NS = NOW_NS - NANOSECONDS
TOO_FAST = {"bearing_rate_rad_s": np.array([0.0, 0.5, 0.0])}
HOME = Rotation.from_rotvec([0.0, np.radians(40.0), 0.0])


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


def ask(*objects: SpaceObject, config: dict[str, Any] | None = None, **changes: Any) -> Answer:
    start = Situation(NOW_NS, "camera", objects, NOW_NS, True, np.array([0.0, 0, 0, 1]), np.zeros(3), (640, 480))
    return decide(replace(start, **changes), Policy.from_config(replace(PointingConfig(), **(config or {}))))


def followed(identity: UUID) -> Memory:
    return Memory(stamp_ns=BEFORE_NS, target=identity)


def test_a_target_out_of_reach_does_not_starve_the_others() -> None:
    """Chosen first as the surer one, or followed already: the other is asked for; alone it is refused by name."""
    fast = item(A, existence_probability=1.0, **TOO_FAST)
    for memory in (Memory(), followed(A)):
        answer = ask(fast, item(B), memory=memory)
        assert (answer.decision, answer.target_id) == (Decision.SENT, B)
        assert answer.memory is not None and answer.memory.target == B
    alone = ask(fast, memory=followed(A))
    assert (alone.code, alone.target_id) == (Code.RATE_LIMIT, A)


def test_a_way_that_is_barred_does_not_starve_the_others() -> None:
    """40 deg to the better one, with a cone half way and no ways around: the other lies on this side of it."""
    angle = np.radians(40.0)
    behind = item(A, existence_probability=1.0, bearing=np.array([np.sin(angle), 0.0, np.cos(angle)]))
    sun_N = [np.sin(angle / 2), 0.02, np.cos(angle / 2)]
    cone = {"keep_out_half_angles_deg": [5.0], "keep_out_directions": sun_N, "keep_out_path": "refuse"}
    assert ask(behind, config=cone).code == Code.KEEP_OUT
    assert ask(behind, item(B), config=cone).target_id == B


def test_the_followed_one_comes_first_when_a_rival_is_out_of_reach() -> None:
    """A rival that has led for long enough is too fast: the followed one stays, not the best of the rest."""
    rival = item(B, existence_probability=1.0, velocity_px_s=np.array([200.0, 0.0]), **TOO_FAST)
    memory = replace(followed(C), rival=B, rival_arrays=100)
    answer = ask(item(A, existence_probability=1.0), rival, item(C), memory=memory)
    assert (answer.decision, answer.target_id) == (Decision.SENT, C)


def test_the_users_choice_out_of_reach_is_refused_and_not_replaced() -> None:
    answer = ask(item(A, **TOO_FAST), item(B), selected=A)
    assert (answer.code, answer.target_id) == (Code.RATE_LIMIT, A)


def test_where_none_can_be_reached_the_first_is_refused() -> None:
    """And the search among many ends: one in reach behind more than are tried is left for later."""
    fast = [item(UUID(int=row + 1), existence_probability=0.95, **TOO_FAST) for row in range(MOST_TRIES)]
    for objects in (fast, [*fast, item(UUID(int=99))]):
        answer = ask(*objects)
        assert (answer.code, answer.target_id) == (Code.RATE_LIMIT, UUID(int=1))


def test_a_dead_selection_leaves_the_coasting_target_guarded() -> None:
    """B was selected and is no more: while A coasts nothing swings to C."""
    coasting = item(A, state=ObjectState.COASTING)
    for selected in (None, B):
        assert ask(coasting, item(C), memory=followed(A), selected=selected).code == Code.NO_TARGET
    assert ask(coasting, item(B), memory=followed(A), selected=B).target_id == B


def test_after_the_clock_was_set_back_the_target_alone_is_remembered() -> None:
    """Times of the old clock would hold a request back for ever: 10 s in the future it was asked, and is again."""
    later_ns = NOW_NS + 10 * NANOSECONDS
    old = Memory(later_ns, A, target_since_ns=later_ns, requested_ns=later_ns, rival=B, rival_arrays=9)
    answer = ask(item(A), item(B, existence_probability=1.0), memory=old)
    assert (answer.decision, answer.target_id) == (Decision.SENT, A)
    near = item(A, bearing=unit_vector([0.0, np.tan(np.radians(0.04)), 1.0]))
    held = ask(near, memory=old)
    assert held.code == Code.DEAD_BAND and held.memory == Memory(NOW_NS, A)


@pytest.mark.parametrize("latency_s", [2.0, 2.5])
def test_a_request_that_would_run_out_before_it_acts_is_refused_at_the_start(latency_s: float) -> None:
    with pytest.raises(SparsematchError, match=r"pointing\.latency_s 2"):
        Policy.from_config(replace(PointingConfig(), latency_s=latency_s, validity_s=2.0))
    Policy.from_config(replace(PointingConfig(), latency_s=1.9, validity_s=2.0))


def test_the_rate_error_is_unknown_where_the_bearings_rate_is() -> None:
    """Else it is the body's 0.02 rad/s, across the bearing, for a target at rest."""
    omega_N = np.array([0.0, 0.02, 0.0])
    assert ask(item(), omega_BN_N_rad_s=omega_N).rate_error_rad_s == pytest.approx(0.02)
    assert np.isnan(ask(item(bearing_rate_rad_s=None), omega_BN_N_rad_s=omega_N).rate_error_rad_s)


def go_home(**config: Any) -> Answer:
    """The target is lost, 40 deg from home."""
    return ask(memory=followed(A), home_q_NB_xyzw=HOME.as_quat(), config={"when_lost": "return", **config})


def test_a_way_home_that_takes_too_long_is_refused_as_one_to_a_target() -> None:
    slow = {"max_acceleration_deg_s2": 0.001, "longest_slew_s": 10.0}
    home, target = go_home(**slow), ask(item(), config=slow)
    assert home.code == target.code == Code.RATE_LIMIT
    assert "limit 10" in home.reason and "limit 10" in target.reason


def test_a_way_home_around_a_cone_tells_its_waypoints() -> None:
    """A cone of 10 deg half way: at least one rest before home."""
    middle_N = HOME.apply([0.0, 0.0, 1.0]) + np.array([0.0, 0.02, 1.0])
    cone = {"keep_out_half_angles_deg": [10.0], "keep_out_directions": middle_N.tolist()}
    around, direct = go_home(**cone).request, go_home().request
    assert around is not None and around.waypoints >= 1
    assert direct is not None and direct.waypoints == 0
