"""Slews past keep-out cones: none enters one, and where there is no way nothing is planned."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.guidance import angle_between_rad, smallest_rotation
from sparsematch_ros.pointing.keep_out import KeepOutCone, cones_from_settings, guards
from sparsematch_ros.pointing.path import CORNERS, Roadmap, corners, free_arcs, way_out
from sparsematch_ros.pointing.profile import Limits, minimum_time_s
from sparsematch_ros.pointing.slew import Attitude, Slew
from sparsematch_ros.pointing.way import Blocked, Rules, Task, Way, plan_way

LIMITS = Limits(np.radians(2.0), np.radians(1.0))
MARGIN_RAD = float(np.radians(0.5))
BORESIGHT = np.array([0.0, 0.0, 1.0])
REST = np.zeros(3)


def direction(longitude_deg: float, latitude_deg: float = 0.0) -> Any:
    longitude, latitude = np.radians([longitude_deg, latitude_deg])
    return np.array([np.cos(longitude) * np.cos(latitude), np.sin(longitude) * np.cos(latitude), np.sin(latitude)])


def cone(half_angle_deg: float, *place: float, axis_B: Any = None) -> KeepOutCone:
    return KeepOutCone(float(np.radians(half_angle_deg)), direction(*place), axis_B)


def rules(*cones: KeepOutCone, around: bool = True, margin_rad: float = MARGIN_RAD, limits: Limits = LIMITS) -> Rules:
    return Rules.make(limits, guards(cones, BORESIGHT, margin_rad), margin_rad, around, 3600.0)


def task(
    start_N: Any, end_N: Any, some_rules: Rules, rate_N: Any = REST, target_rate_N: Any = REST, **more: Any
) -> Task:
    R_NB = smallest_rotation(BORESIGHT, start_N)
    target = Attitude(smallest_rotation(R_NB.apply(BORESIGHT), end_N) * R_NB, np.asarray(target_rate_N))
    return Task(Attitude(R_NB, np.asarray(rate_N)), target, some_rules, **more)


def flown(way: Way | Blocked, until_s: float = 0.0, step_deg: float = 0.05) -> Any:
    """Directions of the boresight, at most 0.05 deg apart at the rate limit of 2 deg/s."""
    assert isinstance(way, Way)
    times = np.arange(0.0, max(way.slew.duration_s, until_s) + 0.02, step_deg / 2.0)
    return way.slew.directions(times, BORESIGHT)


def angles_deg(directions: Any, body: KeepOutCone) -> Any:
    return np.degrees(np.arccos(np.clip(directions @ body.direction_N, -1.0, 1.0)))


def test_a_free_way_is_direct() -> None:
    """90 deg along the equator, the cone at the pole: 47 s, no waypoint."""
    way = plan_way(task(direction(0), direction(90), rules(cone(30.0, 0, 90))))
    assert isinstance(way, Way) and way.waypoints == 0
    assert way.slew.duration_s == pytest.approx(47.0, abs=1e-6)


def test_a_cone_in_between_is_gone_around_on_its_near_side() -> None:
    """A cone of 20 deg around 45 deg along the equator, its body 5 deg north of it: the way leads south past it."""
    sun = cone(20.0, 45, 5)
    way = plan_way(task(direction(0), direction(90), rules(sun)))
    directions = flown(way)
    assert isinstance(way, Way) and way.waypoints >= 1
    assert angles_deg(directions, sun).min() > 20.0
    assert directions[:, 2].min() < -np.sin(np.radians(14.0)) and directions[:, 2].max() < 0.02
    np.testing.assert_allclose(directions[-1], direction(90), atol=1e-9)
    # The shortest path of all: tangents to the cone with its margin, and its edge between them.
    radius, side, half = np.radians(20.5), angle_between_rad(direction(0), direction(45, 5)), np.pi / 4
    tangent, bend = np.arccos(np.cos(side) / np.cos(radius)), np.arccos(np.tan(radius) / np.tan(side))
    south = 2 * np.arctan2(np.sin(half), np.sin(np.radians(5.0)) * np.cos(half))
    shortest = 2 * tangent + np.sin(radius) * (south - 2 * bend)
    length = sum(angle_between_rad(a, b) for a, b in zip(directions[:-1:20], directions[20::20]))
    assert shortest < length + 0.01 and length < 1.05 * shortest


def test_where_ways_around_are_not_wanted_it_is_blocked_by_name() -> None:
    answer = plan_way(task(direction(0), direction(90), rules(cone(5.0, 0, 90), cone(20.0, 45, 5), around=False)))
    assert isinstance(answer, Blocked) and answer.row == 1


def test_a_target_that_is_walled_in_is_refused() -> None:
    """Six cones of 30 deg around the pole's neighbourhood leave no gap: no way, and the first cone met is named."""
    wall = [cone(30.0, 60.0 * i, 45.0) for i in range(6)]
    answer = plan_way(task(direction(0, -60), direction(0, 90), rules(*wall)))
    assert isinstance(answer, Blocked) and answer.row == 0


def test_a_target_in_a_cone_is_refused() -> None:
    assert isinstance(plan_way(task(direction(0), direction(90), rules(cone(10.0, 95)))), Blocked)


def test_a_start_in_a_cone_leaves_it_straight_away_from_the_body() -> None:
    """10 deg from a body with a cone of 25 deg: the first 15.5 deg lead outward along the circle of both."""
    sun = cone(25.0, 0)
    way = plan_way(task(direction(10), direction(-120, 30), rules(sun)))
    directions = flown(way)
    angles = angles_deg(directions, sun)
    out = int(np.argmax(angles > 25.5))
    assert (np.diff(angles[: out + 1]) > -1e-7).all() and (angles[out:] > 25.0).all()
    np.testing.assert_allclose(directions[: out + 1, 2], 0.0, atol=1e-9)
    # Direct to the target it would have crossed the body's own direction within 4 deg.
    assert angles.min() == pytest.approx(10.0, abs=1e-6)


def test_a_start_on_the_body_itself_leaves_toward_the_target() -> None:
    way = plan_way(task(direction(0), direction(0, 80), rules(cone(25.0, 0))))
    assert (angles_deg(flown(way), cone(25.0, 0)) >= -1e-9).all()
    np.testing.assert_allclose(flown(way)[:, 1], 0.0, atol=1e-9)


def test_a_start_in_two_cones_leaves_where_neither_is_crossed() -> None:
    """Between two bodies 20 deg apart, cones of 15 deg: away from one is into the other; else the way ends outside."""
    both = (cone(15.0, -10), cone(15.0, 10))
    guard = guards(both, BORESIGHT, MARGIN_RAD)[0]
    assert way_out(direction(0), direction(0, 60), guard, MARGIN_RAD) is None
    end = way_out(direction(0, 9), direction(0, 60), guard, MARGIN_RAD)
    assert end is None or not guard.held(end).any()


def test_a_rate_toward_a_cone_is_braked_before_it() -> None:
    """2 deg/s toward a cone 4 deg away: braking takes 2 deg. What would swing on into the cone is not flown."""
    sun = cone(20.0, 24.0)
    rate_N = np.radians(2.0) * np.array([0.0, 0.0, 1.0])
    way = plan_way(task(direction(0), direction(-40, 20), rules(sun), rate_N))
    assert angles_deg(flown(way), sun).min() > 20.0
    near = plan_way(task(direction(3.0), direction(-40, 20), rules(sun), rate_N))
    assert isinstance(near, Blocked) and near.row == 0


def test_a_target_that_will_be_in_the_cone_on_arrival_is_refused() -> None:
    """0.5 deg/s toward a cone 10 deg away, 90 deg from the boresight: there in 20 s, the slew takes longer."""
    rate_N = np.radians(0.5) * np.array([0.0, 0.0, 1.0])
    sun = cone(15.0, 115)
    assert isinstance(plan_way(task(direction(0), direction(90), rules(sun), target_rate_N=rate_N)), Blocked)
    away = plan_way(task(direction(0), direction(90), rules(sun), target_rate_N=-rate_N))
    assert angles_deg(flown(away), sun).min() > 15.0


def test_following_ends_before_the_cone_with_room_to_brake() -> None:
    """0.5 deg/s, 2 deg before the margin: clear for 4 s less 0.5 s of braking, to the spacing of what is checked."""
    rate_N = np.radians(0.5) * np.array([0.0, 0.0, 1.0])
    way = plan_way(task(direction(0), direction(0), rules(cone(15.0, 17.5)), rate_N, rate_N, follow_s=10.0))
    assert isinstance(way, Way) and 2.3 < way.clear_s <= 3.5


def test_another_body_axis_keeps_out_of_its_own_cone() -> None:
    """The boresight turns 90 deg; a star tracker on +x would be swept over the Sun, which is then named."""
    R_NB = smallest_rotation(BORESIGHT, direction(0))
    tracker = np.array([1.0, 0.0, 0.0])
    middle = (smallest_rotation(direction(0), direction(45)) * R_NB).apply(tracker)
    sun = KeepOutCone(float(np.radians(10.0)), middle, tracker)
    answer = plan_way(task(direction(0), direction(90), rules(cone(5.0, 0, -90), sun)))
    assert isinstance(answer, Blocked) and answer.row == 1
    assert isinstance(plan_way(task(direction(0), direction(90), rules(KeepOutCone(0.1, -middle, tracker)))), Way)


def test_a_roll_is_taken_up_on_the_target_where_the_direct_way_is_blocked() -> None:
    """The boresight goes around; attitude and roll at the end are the ones that were asked for."""
    sun, R_NB = cone(20.0, 45, 5), smallest_rotation(BORESIGHT, direction(0))
    target = Attitude(smallest_rotation(direction(0), direction(90)) * R_NB * Rotation.from_rotvec([0, 0, 2.0]), REST)
    way = plan_way(Task(Attitude(R_NB, REST), target, rules(sun), roll_free=False))
    assert angles_deg(flown(way), sun).min() > 20.0
    end = Rotation.from_quat(way.slew.reference([way.slew.duration_s]).q_NR_xyzw[0])
    assert (end.inv() * target.R_NB).magnitude() < 1e-9


def random_case(random: np.random.Generator) -> Task:
    """Up to four cones, start and target anywhere, at rest or turning, limits over a decade."""
    limits = Limits(np.radians(10 ** random.uniform(-0.5, 0.7)), np.radians(10 ** random.uniform(-1, 0.5)))
    places = Rotation.random(7, random_state=random).apply(BORESIGHT)
    cones = [KeepOutCone(np.radians(random.uniform(2.0, 45.0)), places[i]) for i in range(random.integers(1, 5))]
    rates = limits.max_rate_rad_s * random.uniform(0.0, [0.9, 0.4]) * (random.random(2) < 0.5)
    some_rules = rules(*cones, limits=limits)
    target_rate_N = rates[1] * np.cross(places[6], places[4])
    case = task(places[5], places[6], some_rules, rates[0] * places[4], target_rate_N, follow_s=5.0)
    turned = case.start.R_NB * Rotation.from_rotvec(BORESIGHT * random.uniform(0, 3.0))
    return Task(
        Attitude(turned, case.start.omega_BN_N_rad_s), case.target, some_rules, 5.0, bool(random.random() < 0.7)
    )


def enters(directions: Any, guard: Any, margin_rad: float) -> bool:
    """Whether a way enters a true cone; one that begins in it may only lead out, once."""
    cosines = directions @ guard.directions_N.T
    inside = cosines > np.cos(guard.radii_rad - margin_rad)
    first_out = np.where(inside.any(axis=0), np.argmin(inside, axis=0), 0)
    for column, row in enumerate(first_out):
        outward = (np.diff(cosines[: row + 1, column]) <= 1e-12).all()
        if inside[row:, column].any() or not outward:
            return True
    return False


def test_a_thousand_random_slews_past_random_cones() -> None:
    """None enters a true cone at any of its directions, 0.1 deg apart; none exceeds a limit by more than rounding.

    Rate and acceleration are taken from differences over the time step, which are averages over it: the tolerance of
    1e-6 is for rounding. What has no way is refused; most have one.
    """
    random = np.random.default_rng(2024)
    done = 0
    for _ in range(1000):
        case = random_case(random)
        way = plan_way(case)
        if isinstance(way, Blocked):
            continue
        done += 1
        limits, until_s = case.rules.limits, max(way.slew.duration_s, min(way.clear_s, 5.0))
        times = np.linspace(0.0, until_s, 2 + int(until_s * limits.max_rate_rad_s / np.radians(0.1)))
        assert not enters(way.slew.directions(times, BORESIGHT), case.rules.guards[0], MARGIN_RAD)
        check_limits(way.slew, times[:: max(1, len(times) // 300)], limits)
    assert done > 600


def check_limits(slew: Slew, times: Any, limits: Limits) -> None:
    reference = slew.reference(times)
    turns, dt = Rotation.from_quat(reference.q_NR_xyzw), np.diff(times)[:, None]
    rates = (turns[1:] * turns[:-1].inv()).as_rotvec() / dt
    accelerations = np.diff(reference.omega_RN_N_rad_s, axis=0) / dt
    assert np.linalg.norm(rates, axis=1).max() <= limits.max_rate_rad_s * (1 + 1e-6)
    assert np.linalg.norm(reference.omega_RN_N_rad_s, axis=1).max() <= limits.max_rate_rad_s * (1 + 1e-6)
    assert np.linalg.norm(accelerations, axis=1).max() <= limits.max_acceleration_rad_s2 * (1 + 1e-6)


def test_polygons_touch_their_cone_from_outside() -> None:
    """The middle of each side lies on the cone, the corners outside of it; too wide a cone has none."""
    points = corners(direction(30, 40), np.radians(25.0))
    middles = points + np.roll(points, 1, axis=0)
    angles = [np.degrees(angle_between_rad(middle, direction(30, 40))) for middle in middles]
    np.testing.assert_allclose(angles, 25.0, atol=1e-9)
    assert len(points) == CORNERS and len(corners(direction(0), np.radians(89.5))) == 0


def test_arcs_are_checked_between_their_ends() -> None:
    """Ends outside on both sides of a body, and the arc over it; the same ends past a cone that does not reach it."""
    a, b = direction(-30)[None], direction(30)[None]
    for half_angle_deg, latitude_deg, free in ((5.0, 0.0, False), (5.0, 8.0, True), (9.0, 8.0, False)):
        guard = guards((cone(half_angle_deg, 0, latitude_deg),), BORESIGHT, 0.0)[0]
        assert free_arcs(a, b, guard).tolist() == [free]
    behind = guards((cone(60.0, 180),), BORESIGHT, 0.0)[0]
    assert free_arcs(a, b, behind).all() and not free_arcs(a, -a, behind).any()


def test_the_fastest_way_counts_the_rests() -> None:
    """The way's own time is the sum of its turns from rest to rest, and no single corner gives a faster one."""
    guard = guards((cone(20.0, 45, 5),), BORESIGHT, MARGIN_RAD)[0]
    roadmap = Roadmap(guard, MARGIN_RAD, LIMITS)
    stops = roadmap.way(direction(0), direction(90))
    assert stops is not None

    def seconds(points: list[Any]) -> float:
        return sum(float(minimum_time_s(angle_between_rad(a, b), LIMITS)) for a, b in pairwise(points))

    best = seconds([direction(0), *stops, direction(90)])
    for point in roadmap.points_N:
        arcs = np.array([direction(0), point]), np.array([point, direction(90)])
        if free_arcs(*arcs, guard).all():
            assert best <= seconds([direction(0), point, direction(90)]) + 1e-9


def test_cones_for_other_axes_are_read_and_wrong_ones_refused() -> None:
    sun, moon = cones_from_settings([10.0, 5.0], [1, 0, 0, 0, 1, 0], [float("nan")] * 3 + [0, 2, 0])
    assert sun.axis_B is None
    np.testing.assert_allclose(moon.axis_B, [0, 1, 0])
    with pytest.raises(SparsematchError, match="keep_out_axes"):
        cones_from_settings([10.0], [1.0, 0, 0], [1.0, 0.0])
