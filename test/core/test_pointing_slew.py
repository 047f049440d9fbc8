"""Slews as functions of time: against closed forms, against numerical derivatives, and never beyond a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.guidance import predicted_bearing, smallest_rotation
from sparsematch_ros.pointing.legs import match_rate, plan_legs
from sparsematch_ros.pointing.profile import Limits, minimum_time_s, to_rest
from sparsematch_ros.pointing.slew import Attitude, Slew

LIMITS = Limits(np.radians(2.0), np.radians(1.0))
REST = np.zeros(3)
BORESIGHT = np.array([0.0, 0.0, 1.0])

numbers = st.floats(-3.0, 3.0, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)


def slew(start: Attitude, target: Attitude, limits: Limits = LIMITS) -> Slew:
    return Slew(plan_legs(start, target, limits))


@pytest.mark.parametrize(("angle_deg", "seconds"), [(0.0, 0.0), (1.0, 2.0), (4.0, 4.0), (5.0, 4.5), (90.0, 47.0)])
def test_minimum_time_is_that_of_the_closed_form(angle_deg: float, seconds: float) -> None:
    """2 deg/s and 1 deg/s^2: up to 4 deg without a coast, 2 sqrt(angle); beyond it angle / 2 + 2."""
    assert float(minimum_time_s(np.radians(angle_deg), LIMITS)) == pytest.approx(seconds, abs=1e-9)
    turn = Rotation.from_rotvec([0.0, np.radians(angle_deg), 0.0])
    planned = slew(Attitude(Rotation.identity(), REST), Attitude(turn, REST))
    assert planned.duration_s == pytest.approx(seconds, abs=1e-6)


@given(st.floats(-3.0, 3.0), st.floats(-2.0, 2.0), st.floats(0.05, 2.0), st.floats(0.05, 2.0), st.floats(0.05, 3.0))
def test_one_coordinate_comes_to_rest_at_zero(x: float, v: float, low: float, high: float, a: float) -> None:
    """From any place and rate; position is the integral of rate, and no rate is above its limit."""
    profile = to_rest(x, v, (low, high), a)
    times = np.linspace(0.0, profile.duration_s, 2001)
    position, rate, acceleration = profile.at(times)
    assert position[0] == pytest.approx(x) and rate[0] == pytest.approx(v)
    assert abs(position[-1]) < 1e-9 and abs(rate[-1]) < 1e-9
    assert np.abs(acceleration).max() <= a * (1 + 1e-12)
    assert rate.max() <= max(high, v) + 1e-9 and rate.min() >= min(-low, v) - 1e-9
    steps = (rate[1:] + rate[:-1]) / 2 * np.diff(times)
    # The trapezium's error at a change of the acceleration is at most a dt^2 / 8, three times.
    np.testing.assert_allclose(x + np.cumsum(steps), position[1:], atol=a * times[1] ** 2 + 1e-9)


@given(st.floats(0.01, 3.0), st.floats(0.05, 2.0))
def test_nothing_is_faster_than_bang_bang(x: float, a: float) -> None:
    """From rest, without a rate limit in the way, the time is 2 sqrt(x / a)."""
    assert to_rest(x, 0.0, (100.0, 100.0), a).duration_s == pytest.approx(2 * np.sqrt(x / a))


def check_reference(planned: Slew, start: Attitude, target: Attitude, limits: Limits, count: int = 2001) -> None:
    """Ends, continuity, limits, and each derivative against a difference of what it is the derivative of.

    The largest rate and acceleration may be 1e-6 above the limit, for rounding. A difference over dt is an average over
    dt, so it keeps the limit as well, and differs from the value in the middle by the change within dt.
    """
    turned_rad = sum(leg.duration_s * leg.peak_rate_rad_s for leg in planned.legs)
    times = np.linspace(0.0, planned.duration_s, max(count, int(turned_rad / 0.1)))
    reference = planned.reference(times)
    turns = Rotation.from_quat(reference.q_NR_xyzw)
    assert (turns[0] * start.R_NB.inv()).magnitude() < 1e-7
    np.testing.assert_allclose(reference.omega_RN_N_rad_s[0], start.omega_BN_N_rad_s, atol=1e-9)
    assert (turns[-1] * target.at(times[-1]).R_NB.inv()).magnitude() < 1e-7
    np.testing.assert_allclose(reference.omega_RN_N_rad_s[-1], target.omega_BN_N_rad_s, atol=1e-9)
    assert np.einsum("ij,ij->i", reference.q_NR_xyzw[1:], reference.q_NR_xyzw[:-1]).min() > 0.9
    rate, acceleration, dt = limits.max_rate_rad_s, limits.max_acceleration_rad_s2, times[1]
    measured_rate = (turns[1:] * turns[:-1].inv()).as_rotvec() / dt
    measured_acceleration = np.diff(reference.omega_RN_N_rad_s, axis=0) / dt
    rates = (reference.omega_RN_N_rad_s, measured_rate)
    accelerations = (reference.domega_RN_N_rad_s2, measured_acceleration)
    for values, limit in [*((item, rate) for item in rates), *((item, acceleration) for item in accelerations)]:
        assert np.linalg.norm(values, axis=1).max() <= limit * (1 + 1e-6)
    middle = (reference.omega_RN_N_rad_s[1:] + reference.omega_RN_N_rad_s[:-1]) / 2
    assert np.abs(measured_rate - middle).max() <= acceleration * dt + (rate * dt) ** 2 * rate


def test_a_thousand_random_slews_keep_both_limits_and_meet_their_target() -> None:
    """From rest and not, onto targets at rest and not, with limits over two and three decades."""
    random = np.random.default_rng(11)
    for _ in range(1000):
        limits = Limits(np.radians(10 ** random.uniform(-1, 1)), np.radians(10 ** random.uniform(-2, 1)))
        rates = limits.max_rate_rad_s * random.uniform(0, 0.9, 2) * (random.random(2) < 0.6)
        axes = Rotation.random(2, random_state=random).apply(BORESIGHT)
        turns = Rotation.random(2, random_state=random)
        start, target = (Attitude(turns[i], rates[i] * axes[i]) for i in range(2))
        check_reference(slew(start, target, limits), start, target, limits, count=401)


@pytest.mark.parametrize("axis", [*np.eye(3), -np.eye(3)[0], [0.6, 0.0, 0.8], [-0.48, -0.6, 0.64]])
def test_half_a_turn_has_one_axis_and_rounding_does_not_choose_another(axis: Any) -> None:
    """Both signs of the quaternion, and what is a rounding away, are slewed to about the same axis."""
    start, half = Attitude(Rotation.identity(), REST), Rotation.from_rotvec(np.pi * np.array(axis))
    rates = []
    rounding = np.array([0.0, 0.0, 0.0, 1e-17])
    for q in (half.as_quat(), -half.as_quat(), half.as_quat() + rounding, half.as_quat() - rounding):
        target = Attitude(Rotation.from_quat(q), REST)
        planned = slew(start, target)
        check_reference(planned, start, target, LIMITS)
        rates.append(planned.reference([1.0]).omega_RN_N_rad_s[0])
    np.testing.assert_allclose(rates, np.broadcast_to(rates[0], (4, 3)), atol=1e-9)


def test_opposite_boresight_turns_about_an_axis_across() -> None:
    """Half a turn of the boresight: 92 s at 2 deg/s, never about the boresight itself."""
    R_NB = Rotation.from_euler("xyz", [0.4, -1.1, 2.0])
    bearing = -R_NB.apply(BORESIGHT)
    target = Attitude(smallest_rotation(-bearing, bearing) * R_NB, REST)
    planned = slew(Attitude(R_NB, REST), target)
    assert planned.duration_s == pytest.approx(92.0)
    np.testing.assert_allclose(planned.directions(np.array([92.0]), BORESIGHT)[0], bearing, atol=1e-9)
    np.testing.assert_allclose(planned.reference([46.0]).omega_RN_N_rad_s @ bearing, 0.0, atol=1e-9)


def test_near_half_a_turn_a_new_plan_goes_on_the_way_that_was_begun() -> None:
    """The target wavers about 180 deg; planned anew every 0.2 s, the body never turns back."""
    random = np.random.default_rng(3)
    here, done = Attitude(Rotation.identity(), REST), []
    for _ in range(500):
        wavering = Rotation.from_rotvec([np.pi, 0.0, 0.0]) * Rotation.from_rotvec(random.normal(0, 0.002, 3))
        reference = slew(here, Attitude(wavering, REST)).reference([0.2])
        here = Attitude(Rotation.from_quat(reference.q_NR_xyzw[0]), reference.omega_RN_N_rad_s[0])
        done.append(here.omega_BN_N_rad_s[0])
    moving = np.array(done[5:200])
    assert (np.sign(moving) == np.sign(moving[0])).all()
    assert (here.R_NB.inv() * Rotation.from_rotvec([np.pi, 0.0, 0.0])).magnitude() < np.radians(1.0)


def test_planning_anew_on_the_way_costs_no_time() -> None:
    """Every 0.5 s a new plan from where the last one is: the target is met when the first one said, to 2 %."""
    start = Attitude(Rotation.identity(), np.radians([0.1, -0.2, 0.1]))
    target = Attitude(Rotation.from_euler("xyz", [70.0, -40.0, 30.0], degrees=True), np.radians([0.2, 0.1, -0.3]))
    first_s = slew(start, target).duration_s
    here, elapsed_s = start, 0.0
    while (left_s := slew(here, target.at(elapsed_s)).duration_s) > 0.5:
        reference = slew(here, target.at(elapsed_s)).reference([0.5])
        here = Attitude(Rotation.from_quat(reference.q_NR_xyzw[0]), reference.omega_RN_N_rad_s[0])
        elapsed_s += 0.5
    assert elapsed_s + left_s == pytest.approx(first_s, rel=0.02)


def test_the_sign_begins_as_the_attitude_that_was_given() -> None:
    q = Rotation.from_euler("xyz", [0.3, 0.2, 2.9]).as_quat()
    for given_q in (q, -q):
        legs = plan_legs(Attitude(Rotation.from_quat(q), REST), Attitude(Rotation.identity(), REST), LIMITS)
        first = Slew(legs, given_q).reference([0.0]).q_NR_xyzw[0]
        np.testing.assert_allclose(first, given_q, atol=1e-12)


@settings(max_examples=60)
@given(vectors, vectors)
def test_braking_ends_at_rest_and_is_as_short_as_can_be(turn: Any, rate: Any) -> None:
    """From w to rest takes w / a, over w^2 / 2a about the axis of the rate."""
    omega = rate * 0.01
    start = Attitude(Rotation.from_rotvec(turn), omega)
    leg = match_rate(start, REST, LIMITS)
    size = float(np.linalg.norm(omega))
    assert leg.duration_s == pytest.approx(size / LIMITS.max_acceleration_rad_s2, abs=1e-6)
    turn_N = (leg.end.R_NB * start.R_NB.inv()).as_rotvec()
    np.testing.assert_allclose(turn_N, omega * size / (2 * LIMITS.max_acceleration_rad_s2), atol=1e-9)


@pytest.mark.parametrize("latency_s", [0.2, 2.0])
def test_latency_is_predicted_away(latency_s: float) -> None:
    """A fly-by at 100 m, 1 m/s: what is left of the error is the bearing's acceleration times t^2 / 2.

    At the closest approach the bearing turns with 0.57 deg/s and its rate changes least; 3 s before it, the prediction
    over 2 s errs by 0.02 deg, where without it the error is 1.1 deg.
    """

    def bearing(t_s: float) -> Any:
        place = np.array([t_s - 3.0, 0.0, 100.0])
        return place / np.linalg.norm(place)

    rate = (bearing(1e-4) - bearing(-1e-4)) / 2e-4
    ahead = predicted_bearing(bearing(0.0), rate, latency_s)
    error_deg = np.degrees(np.linalg.norm(np.cross(ahead, bearing(latency_s))))
    unpredicted_deg = np.degrees(np.linalg.norm(np.cross(bearing(0.0), bearing(latency_s))))
    assert error_deg < 0.02 and unpredicted_deg > 10 * error_deg
    assert np.linalg.norm(ahead) == pytest.approx(1.0)


@pytest.mark.parametrize("limits", [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_limits_without_sense_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(SparsematchError, match="limits"):
        Limits(*limits)
