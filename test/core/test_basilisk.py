"""Basilisk's spacecraft: orbits, momentum and conventions against geometry, and requests that it follows."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import quaternion, sigma_BN_from_quaternion
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude
from sparsematch_ros.simulation.basilisk.library import load_basilisk
from sparsematch_ros.simulation.basilisk.peer import Heading, fly_op_nav_point
from sparsematch_ros.simulation.basilisk.reference import SlewReference
from sparsematch_ros.simulation.basilisk.rig import MU_M3_S2
from sparsematch_ros.simulation.basilisk.spacecraft import BasiliskSpacecraft
from sparsematch_ros.simulation.basilisk.telemetry import Telemetry
from sparsematch_ros.simulation.basilisk.vehicle import wheel_axes
from sparsematch_ros.simulation.camera_specs import CameraSpec
from sparsematch_ros.simulation.earth import RADIUS_KM
from sparsematch_ros.simulation.fly import open_flight
from sparsematch_ros.simulation.object_specs import (
    AttitudeSpec,
    MeshSpec,
    MotionSpec,
    ObjectSpec,
    TurnSpec,
    WaypointSpec,
)
from sparsematch_ros.simulation.scenario import EarthSpec, Scenario
from sparsematch_ros.simulation.world import ScenarioWorld

pytest.importorskip("Basilisk", reason="Basilisk is an optional extra")

BORESIGHT = np.array([0.0, 0.0, 1.0])
ORBIT_RATE = float(np.sqrt(MU_M3_S2 / (1e3 * (RADIUS_KM + 500.0)) ** 3))
MOTION = MotionSpec((20.0, -60.0, 90.0), (0.3, 0.5, -0.4), "clohessy_wiltshire")
SCENARIO = Scenario(
    name="pair", description="two on neighbouring orbits", frames=10, rate_hz=2.0, orbit_rate_rad_s=ORBIT_RATE,
    camera=CameraSpec(width_px=64, height_px=48, q_BC_xyzw=(0.5, -0.5, 0.5, 0.5)),
    earth=EarthSpec(nadir=(-1.0, 0.0, 0.0)),
    objects=(ObjectSpec("target", MOTION, AttitudeSpec((0.1, 0.5, -0.3, 0.8), (1.0, 4.0, -2.0)), MeshSpec("box")),),
)  # fmt: skip
# Turns about three axes that do not commute.
TURNED = Rotation.from_euler("xyz", [40.0, -70.0, 110.0], degrees=True)


def flown(spacecraft_of=BasiliskSpacecraft, scenario=SCENARIO) -> tuple[BasiliskSpacecraft, list]:
    records: list = []
    return spacecraft_of(scenario, records.append), records


def test_neighbours_move_as_clohessy_and_wiltshire_say():
    """The linear equations are off by 3 n^2 r^2 t^2 / (2 R): 10 micrometres after a minute 110 m apart."""
    spacecraft, _ = flown()
    spacecraft.step(60.0)
    snapshot, expected = spacecraft.at(60.0), ScenarioWorld(SCENARIO).at(60.0)
    assert snapshot.objects[0].position_N_m == pytest.approx(expected.objects[0].position_N_m, abs=1e-3)
    assert snapshot.objects[0].velocity_N_m_s == pytest.approx(expected.objects[0].velocity_N_m_s, abs=1e-5)
    assert snapshot.nadir_N == pytest.approx(expected.nadir_N, abs=1e-5)
    assert snapshot.camera.position_N_m == pytest.approx(np.zeros(3))


def test_a_tumbling_neighbour_keeps_momentum_and_energy():
    spacecraft, _ = flown()
    inertia = np.array(SCENARIO.spacecraft.objects_inertia_kg_m2)

    def momentum_and_energy() -> tuple[np.ndarray, float]:
        vehicle = spacecraft._rig.objects[0]
        rate_B = vehicle.omega_BN_B_rad_s()
        return vehicle.state().rotation_NB.apply(inertia * rate_B), float(rate_B @ (inertia * rate_B)) / 2

    before, energy_before = momentum_and_energy()
    spacecraft.step(30.0)
    after, energy_after = momentum_and_energy()
    assert after == pytest.approx(before, rel=1e-6)
    assert energy_after == pytest.approx(energy_before, rel=1e-6)
    # The attitude did change, and by another rotation than about the first axis alone.
    assert spacecraft.at(30.0).objects[0].rotation_NB.magnitude() != pytest.approx(0.0, abs=0.1)


def test_wheels_take_what_the_body_gets():
    """No torque from outside: the momentum of body and wheels together stays what it was, zero."""
    spacecraft, records = flown()
    spacecraft.follow(quaternion(TURNED), np.radians([0.3, -0.2, 0.4]))
    spacecraft.step(12.0)
    spec, rig = SCENARIO.spacecraft, spacecraft._rig
    axes = wheel_axes(spec.wheels.elevation_deg)
    largest, total = 0.0, []
    for record in records:
        body = np.array(spec.inertia_kg_m2) * record["omega_BN_B_rad_s"]
        wheels = rig.wheels.inertia_kg_m2 * np.array(record["wheel_speeds_rad_s"]) @ axes
        largest = max(largest, float(np.linalg.norm(body)))
        total.append(body + wheels)
    assert largest > 0.2
    assert np.abs(total).max() < 1e-6 * largest


def test_sigma_and_our_quaternion_are_one_rotation_to_basilisk():
    """Basilisk's own RigidBodyKinematics: [BN] of sigma takes N components to B, the inverse of ours."""
    from Basilisk.utilities import RigidBodyKinematics

    turns = Rotation.from_euler("zyx", [[30.0, 50.0, -20.0], [170.0, -60.0, 95.0], [-120.0, 10.0, 175.0]], degrees=True)
    for turn in turns:
        sigma = sigma_BN_from_quaternion(turn.as_quat())
        assert RigidBodyKinematics.MRP2C(sigma) == pytest.approx(turn.inv().as_matrix(), abs=1e-12)
        scalar_first = np.roll(turn.as_quat(canonical=True), 1)
        assert RigidBodyKinematics.EP2MRP(scalar_first) == pytest.approx(sigma, abs=1e-12)


def test_the_body_starts_where_the_programme_has_the_camera():
    programme = AttitudeSpec(tuple(TURNED.as_quat()), (0.5, -0.3, 0.2))
    scenario = replace(SCENARIO, camera=replace(SCENARIO.camera, attitude=programme))
    spacecraft, _ = flown(scenario=scenario)
    camera = Rotation.from_quat(spacecraft.q_NC_xyzw)
    assert (camera * TURNED.inv()).magnitude() == pytest.approx(0.0, abs=1e-9)
    rate_C = camera.inv().apply(spacecraft.omega_BN_N_rad_s)
    assert np.degrees(rate_C) == pytest.approx([0.5, -0.3, 0.2], abs=1e-6)
    body = Rotation.from_quat(spacecraft.q_NB_xyzw)
    assert (body * Rotation.from_quat(SCENARIO.camera.q_BC_xyzw) * camera.inv()).magnitude() < 1e-9


@pytest.mark.parametrize("age_s", [0.0, 0.2, 2.0])
def test_a_request_is_met_at_its_rate_whatever_its_age(age_s: float):
    """25 degrees away and turning: met to 0.02 deg, within the limits of rate, acceleration and torque."""
    spacecraft, records = flown()
    omega_N = np.radians([0.3, -0.5, 0.4])
    wanted = Rotation.from_rotvec(np.radians([15.0, 10.0, -17.0])) * Rotation.from_quat(spacecraft.q_NB_xyzw)
    spacecraft.step(age_s)
    spacecraft.follow(quaternion(wanted), omega_N, age_s)
    spacecraft.step(25.0)
    now_s = 25.0 + age_s
    truth = Rotation.from_rotvec(omega_N * now_s) * wanted
    error_deg = np.degrees((Rotation.from_quat(spacecraft.q_NB_xyzw) * truth.inv()).magnitude())
    assert error_deg < 0.02
    assert spacecraft.omega_BN_N_rad_s == pytest.approx(omega_N, abs=np.radians(0.01))
    told, slew = Telemetry.from_records(records), SCENARIO.camera.slew
    rates_deg_s = np.degrees(told.rates_rad_s)
    assert np.linalg.norm(rates_deg_s, axis=1).max() < 1.01 * slew.max_rate_deg_s
    accelerations = np.linalg.norm(np.diff(rates_deg_s, axis=0), axis=1) / np.diff(told.times_s)
    assert accelerations.max() < 1.05 * slew.max_acceleration_deg_s2
    assert np.abs(told.torques_nm).max() < SCENARIO.spacecraft.wheels.torque_nm


def test_without_a_request_and_after_hold_the_spacecraft_rests():
    spacecraft, _ = flown()
    start = spacecraft.q_NB_xyzw
    spacecraft.step(5.0)
    assert spacecraft.q_NB_xyzw == pytest.approx(start, abs=1e-9)
    spacecraft.follow(quaternion(TURNED * Rotation.from_quat(start)))
    spacecraft.step(6.0)
    assert np.degrees(np.linalg.norm(spacecraft.omega_BN_N_rad_s)) > 1.5
    spacecraft.hold()
    spacecraft.step(15.0)
    assert np.degrees(np.linalg.norm(spacecraft.omega_BN_N_rad_s)) < 0.01


def test_the_reference_goes_on_without_a_jump_when_requests_follow_each_other():
    """New requests every half second, each a little elsewhere: rate and acceleration keep their limits between all."""
    limits = Limits(float(np.radians(2.0)), float(np.radians(1.0)))
    reference = SlewReference(Attitude(np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3)), limits)
    rng, step_ns = np.random.default_rng(3), 10_000_000
    omegas, angles = [], []
    last = Rotation.identity()
    for number in range(40):
        now_ns = number * 50 * step_ns
        wanted = Rotation.from_rotvec(np.radians(np.array([8.0, 0.4 * number, 0.0]) + rng.normal(0, 0.1, 3)))
        reference.follow(now_ns, quaternion(wanted), np.radians(np.array([0.0, 0.8, 0.0]) + rng.normal(0, 0.05, 3)))
        steps = reference.at([now_ns + step * step_ns for step in range(50)])
        for q, omega in zip(steps.q_NR_xyzw, steps.omega_RN_N_rad_s):
            angles.append(np.degrees((Rotation.from_quat(q) * last.inv()).magnitude()))
            last = Rotation.from_quat(q)
            omegas.append(np.degrees(omega))
    assert np.linalg.norm(omegas, axis=1).max() <= 2.0 + 1e-9
    assert np.linalg.norm(np.diff(omegas, axis=0), axis=1).max() / 0.01 <= 1.0 + 1e-2
    assert max(angles) <= 2.0 * 0.01 + 1e-9


def bearings(times_s: np.ndarray, rate_deg_s: float) -> np.ndarray:
    """Directions that start 10 degrees off the body's z axis and go on at a constant rate."""
    angles = np.radians(10.0 + rate_deg_s * times_s)
    return np.column_stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)])


@pytest.mark.parametrize("rate_deg_s", [0.0, 0.4])
def test_op_nav_point_lags_behind_a_moving_target_as_its_feedback_says(rate_deg_s: float):
    """Its reference rate is zero, so it lags by 2 damping / bandwidth times the rate; a heading's age adds to it.

    Headings come every 0.5 s and hold until the next, so on average they are 0.25 s old. A target at rest is met.
    """
    aligned = CameraSpec(width_px=64, height_px=48)
    scenario = replace(SCENARIO, camera=aligned)
    times_s = np.arange(0.5, 40.0, 0.5)
    headings = [Heading(round(t * 1e9), v) for t, v in zip(times_s, bearings(times_s, rate_deg_s))]
    told = fly_op_nav_point(scenario, headings, BORESIGHT, 40.0)
    true = bearings(told.times_s, rate_deg_s)
    errors = np.degrees(np.arccos(np.clip((told.boresights_N(BORESIGHT) * true).sum(axis=1), -1, 1)))
    control = scenario.spacecraft.control
    lag_deg = rate_deg_s * (2 * control.damping / control.bandwidth_rad_s + 0.25)
    assert np.mean(errors[-100:]) == pytest.approx(lag_deg, rel=0.1, abs=0.02)


def test_wheel_axes_are_units_that_share_all_torque():
    axes = wheel_axes(35.26)
    assert np.linalg.norm(axes, axis=1) == pytest.approx(np.ones(4))
    assert axes.T @ axes == pytest.approx(4 / 3 * np.eye(3), abs=1e-3)


@pytest.mark.parametrize(("scenario", "wrong"), [
    (replace(SCENARIO, earth=None), "earth"),
    (replace(SCENARIO, spacecraft=replace(SCENARIO.spacecraft, orbit_normal=(1.0, 0.0, 0.0))), "orbit_normal"),
    (replace(SCENARIO, camera=replace(SCENARIO.camera, attitude=AttitudeSpec(jitter_deg=0.1))), "camera.attitude"),
    (replace(SCENARIO, objects=(replace(SCENARIO.objects[0], motion=MotionSpec(
        (0.0, 0.0, 50.0), kind="path", waypoints=(WaypointSpec(5.0, (1.0, 0.0, 50.0)),))),)), "path"),
    (replace(SCENARIO, objects=(replace(
        SCENARIO.objects[0], attitude=AttitudeSpec(turns=(TurnSpec(1.0, (0.0, 0.0, 1.0)),))),)), "turns"),
    (replace(SCENARIO, spacecraft=replace(
        SCENARIO.spacecraft, control=replace(SCENARIO.spacecraft.control, rate_hz=30.0))), "rate_hz"),
])  # fmt: skip
def test_a_scenario_that_cannot_be_integrated_is_refused(scenario: Scenario, wrong: str):
    with pytest.raises(SparsematchError, match=wrong):
        BasiliskSpacecraft(scenario)


def test_times_that_basilisk_does_not_stand_at_are_refused():
    spacecraft, _ = flown()
    with pytest.raises(SparsematchError, match="no multiple"):
        spacecraft.step(0.0333)
    with pytest.raises(SparsematchError, match="stands at"):
        spacecraft.at(1.0)


def test_without_basilisk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "Basilisk.architecture.messaging", None)
    load_basilisk.cache_clear()
    with pytest.raises(SparsematchError, match="make setup"):
        load_basilisk()


def test_unknown_dynamics_are_refused():
    with pytest.raises(SparsematchError, match="kinematic, basilisk"):
        open_flight(SCENARIO, 0, "rigid")
