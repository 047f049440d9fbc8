"""Pointing: conventions against other simulators, attitudes from geometry, and when nothing may be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import (
    quaternion_from_sigma_BN,
    rotation,
    sigma_BN_from_quaternion,
    unit_vector,
)
from sparsematch_ros.pointing.decision import Answer, Code, Decision, Memory, Policy, Situation, decide
from sparsematch_ros.pointing.guidance import (
    angle_between_rad,
    following_rate_rad_s,
    pointing_rotation,
    smallest_rotation,
)
from sparsematch_ros.pointing.telemetry import attitude_at, rate_at

# q_NB, sigma_BN and v_B for v_N = (1, 2, 3). The numbers are Basilisk 2.12.1's: RigidBodyKinematics.euler3212MRP,
# MRP2EP and MRP2C for 3-2-1 angles (30, -50, 70), (-160, 35, 110) and (170, 80, -100) deg. 42's own QxV (mathkit.c)
# gives the same v_B for the same four numbers as `qbn`, so its quaternion is ours, not the conjugate.
GOLDEN = [
    (
        (0.591723987874397, -0.199848860335863, 0.426292427107551, 0.654368338007907),
        (0.357673665700660, -0.120800704259433, 0.257676853040398),
        (3.497591338269893, 0.890203012440624, -0.987113684993303),
    ),
    (
        (-0.305518197771105, 0.739419962286192, 0.581492635407117, 0.147590870892029),
        (-0.266225712943868, 0.644323670605219, 0.506707268379644),
        (-3.050813439559667, 1.959894659650712, 0.922686447323650),
    ),
    (
        (0.462748741407826, 0.548580392585258, -0.533445956683919, 0.447614305506488),
        (0.319663006677681, 0.378954802048134, -0.368500058789678),
        (-3.065125951485368, 0.477431694816012, -2.092142891467032),
    ),
]
V_N = np.array([1.0, 2.0, 3.0])
TARGET = UUID(int=7)
OTHER = UUID(int=9)
NOW_NS = 100 * NANOSECONDS

angles = st.floats(-3.1, 3.1)
rotations = st.tuples(angles, angles, angles).map(lambda euler: Rotation.from_euler("xyz", euler))
directions = st.tuples(angles, st.floats(-1, 1)).map(
    lambda a: np.array([np.cos(a[0]) * np.sqrt(1 - a[1] ** 2), np.sin(a[0]) * np.sqrt(1 - a[1] ** 2), a[1]])
)


@pytest.mark.parametrize(("q_NB", "sigma_BN", "v_B"), GOLDEN)
def test_conventions_agree_with_basilisk_and_42(q_NB: Any, sigma_BN: Any, v_B: Any) -> None:
    """The golden vectors hold to rounding, in both directions, for both sets of parameters and both signs."""
    np.testing.assert_allclose(rotation(q_NB).apply(v_B), V_N, atol=1e-12)
    np.testing.assert_allclose(sigma_BN_from_quaternion(q_NB), sigma_BN, atol=1e-12)
    np.testing.assert_allclose(sigma_BN_from_quaternion(-np.array(q_NB)), sigma_BN, atol=1e-12)
    shadow = -np.array(sigma_BN) / np.dot(sigma_BN, sigma_BN)
    for sigma in (sigma_BN, shadow):
        np.testing.assert_allclose(quaternion_from_sigma_BN(sigma), q_NB, atol=1e-12)


@pytest.mark.parametrize("q", [(0, 0, 0, 0), (0, 0, 0, float("nan")), (0, 0, 1), (0, 0, 0.5, 0.5)])
def test_a_quaternion_that_is_none_is_refused(q: Any) -> None:
    """An unset or half-set quaternion is named, not normalised."""
    with pytest.raises(SparsematchError, match="quaternion"):
        rotation(q)


@given(directions, directions)
def test_smallest_rotation_is_smallest(a: Any, b: Any) -> None:
    """It brings a on b and turns by exactly the angle between them."""
    turn = smallest_rotation(a, b)
    np.testing.assert_allclose(turn.apply(a), b, atol=1e-7)
    assert turn.magnitude() == pytest.approx(angle_between_rad(a, b), abs=1e-9)


@pytest.mark.parametrize("axis", np.eye(3))
def test_smallest_rotation_between_opposites(axis: Any) -> None:
    """Half a turn, about any axis across."""
    np.testing.assert_allclose(smallest_rotation(axis, -axis).apply(axis), -axis, atol=1e-12)


@settings(max_examples=50)
@given(rotations, directions, directions)
def test_roll_constraint_leaves_the_boresight_exact(R_RB: Rotation, bearing: Any, roll: Any) -> None:
    """The boresight meets the bearing; the roll axis lies in the plane of bearing and roll direction, on its side."""
    if np.linalg.norm(np.cross(bearing, roll)) < 0.05:
        return
    boresight, roll_axis = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
    turn = pointing_rotation(R_RB, boresight, bearing, roll_axis, roll)
    np.testing.assert_allclose(turn.apply(boresight), bearing, atol=1e-6)
    assert abs(np.dot(turn.apply(roll_axis), unit_vector(np.cross(bearing, roll)))) < 1e-6
    assert np.dot(turn.apply(roll_axis), roll) > 0


@given(directions, directions)
def test_following_rate_follows(bearing: Any, other: Any) -> None:
    """A boresight turned with the rate changes as the bearing does, and nothing turns about the bearing."""
    rate = 0.01 * np.cross(bearing, other)
    omega = following_rate_rad_s(bearing, rate)
    np.testing.assert_allclose(np.cross(omega, bearing), rate, atol=1e-12)
    assert abs(np.dot(omega, bearing)) < 1e-12


def test_attitude_between_and_beyond_samples() -> None:
    """A body that turns at a constant rate is found at any time within the limit, and nowhere else."""
    omega = np.array([0.02, -0.03, 0.05])
    start = Rotation.from_euler("xyz", [0.4, -1.0, 2.0])
    stamps = [0, 200_000_000, 400_000_000]
    samples = [(start * Rotation.from_rotvec(omega * stamp / 1e9)).as_quat() for stamp in stamps]
    for stamp_ns in (0, 50_000_000, 200_000_000, 399_000_000, 600_000_000):
        q = attitude_at(stamp_ns, stamps[::-1], samples[::-1], 0.5)
        assert q is not None
        expected = start * Rotation.from_rotvec(omega * stamp_ns / 1e9)
        assert (expected.inv() * rotation(q)).magnitude() < 1e-9
    assert attitude_at(-1, stamps, samples, 0.5) is None
    assert attitude_at(1_000_000_000, stamps, samples, 0.5) is None
    assert attitude_at(0, [], [], 0.5) is None


def test_rate_between_and_beyond_samples() -> None:
    """The body's constant rate, in N, at any time within the limit; one sample tells none."""
    omega_N = np.array([0.02, -0.03, 0.05])
    start = Rotation.from_euler("xyz", [0.4, -1.0, 2.0])
    stamps = [0, 200_000_000, 400_000_000]
    samples = [(Rotation.from_rotvec(omega_N * stamp / 1e9) * start).as_quat() for stamp in stamps]
    for stamp_ns in (0, 50_000_000, 200_000_000, 399_000_000, 600_000_000):
        rate = rate_at(stamp_ns, stamps[::-1], samples[::-1], 0.5)
        np.testing.assert_allclose(rate, omega_N, atol=1e-9)
    assert rate_at(-1, stamps, samples, 0.5) is None
    assert rate_at(800_000_000, stamps, samples, 0.5) is None
    assert rate_at(0, [0], samples[:1], 0.5) is None


def make_object(**changes: Any) -> SpaceObject:
    """A confirmed, moving object that may be asked for, with changes."""
    start = SpaceObject(
        id=TARGET,
        state=ObjectState.CONFIRMED,
        moving=True,
        existence_probability=0.95,
        bbox_xywh_px=np.array([10.0, 10, 5, 5]),
        centroid_px=np.array([12.0, 12]),
        centroid_covariance=np.eye(2),
        area_px=20.0,
        velocity_px_s=np.array([5.0, 0]),
        velocity_covariance=np.eye(2),
        apparent_velocity_px_s=np.array([5.0, 0]),
        first_seen_ns=0,
        last_seen_ns=NOW_NS,
        bearing=unit_vector([0.1, -0.05, 1.0]),
        bearing_covariance=np.diag([1e-6, 2e-6, 0]),
        bearing_rate_rad_s=np.array([0.01, 0.0, -0.001]),
        bearing_rate_covariance=np.eye(3) * 1e-8,
    )
    return replace(start, **changes)


def ask(*objects: SpaceObject, config: dict[str, Any] | None = None, **changes: Any) -> Answer:
    """Decide about objects seen just now, with a known attitude, enabled."""
    policy = Policy.from_config(replace(PointingConfig(), **(config or {})))
    start = Situation(NOW_NS, "camera", objects, NOW_NS, True, np.array(GOLDEN[0][0]))
    return decide(replace(start, **changes), policy)


def test_a_good_target_is_sent_and_its_geometry_is_right() -> None:
    """The requested attitude puts the boresight on the target as the camera saw it."""
    q_BC = Rotation.from_euler("xyz", [0.3, -0.2, 0.9]).as_quat().tolist()
    boresight = [0.0, 0.6, 0.8]
    answer = ask(make_object(), config={"camera_to_body_xyzw": q_BC, "boresight": boresight})
    assert (answer.decision, answer.code, answer.target_id) == (Decision.SENT, Code.NONE, TARGET)
    request = answer.request
    assert request is not None and request.keep_out_checked and request.reference_frame == "inertial"
    R_NB = rotation(GOLDEN[0][0])
    bearing_N = R_NB.apply(Rotation.from_quat(q_BC).apply(make_object().bearing))
    np.testing.assert_allclose(request.target_bearing_R, bearing_N, atol=1e-12)
    np.testing.assert_allclose(rotation(request.q_RB_xyzw).apply(boresight), bearing_N, atol=1e-9)
    turn = rotation(request.q_RB_xyzw) * R_NB.inv()
    assert turn.magnitude() == pytest.approx(answer.off_boresight_rad, abs=1e-9)
    assert request.stamp_ns == request.attitude_stamp_ns == NOW_NS


def test_without_attitude_only_if_allowed_and_then_in_the_camera_frame() -> None:
    """Nothing is sent unchecked by default; if allowed, the request says so and is relative to the camera."""
    assert ask(make_object(), q_NB_xyzw=None).code == Code.UNCHECKED
    answer = ask(make_object(), q_NB_xyzw=None, config={"allow_unchecked": True})
    request = answer.request
    assert request is not None and not request.keep_out_checked and request.reference_frame == "camera"
    np.testing.assert_allclose(request.target_bearing_R, make_object().bearing, atol=1e-12)
    np.testing.assert_allclose(rotation(request.q_RB_xyzw).apply([0, 0, 1]), make_object().bearing, atol=1e-9)


NAN3 = np.full(3, np.nan)
REFUSED_OBJECTS = [
    ({"state": ObjectState.TENTATIVE}, Code.NO_TARGET),
    ({"state": ObjectState.COASTING}, Code.NO_TARGET),
    ({"state": ObjectState.LOST}, Code.NO_TARGET),
    ({"moving": False}, Code.NO_TARGET),
    ({"existence_probability": 0.5}, Code.NO_TARGET),
    ({"existence_probability": float("nan")}, Code.NO_TARGET),
    ({"bearing": None}, Code.NO_BEARING),
    ({"bearing": NAN3}, Code.BAD_INPUT),
    ({"bearing": np.array([0.0, 0, 2])}, Code.BAD_INPUT),
    ({"bearing_rate_rad_s": NAN3}, Code.BAD_INPUT),
    ({"centroid_px": np.array([np.inf, 0])}, Code.BAD_INPUT),
]


@pytest.mark.parametrize(("changes", "code"), REFUSED_OBJECTS)
def test_an_unfit_object_is_never_sent(changes: dict[str, Any], code: Code) -> None:
    """And the answer says which way it is unfit."""
    answer = ask(make_object(**changes))
    assert answer.code == code and answer.decision != Decision.SENT and answer.request is None


@pytest.mark.parametrize(
    ("changes", "code", "decision"),
    [
        ({"enabled": False}, Code.DISABLED, Decision.HELD),
        ({"now_ns": NOW_NS + 3 * NANOSECONDS}, Code.STALE, Decision.REFUSED),
        ({"now_ns": NOW_NS - NANOSECONDS}, Code.BAD_INPUT, Decision.REFUSED),
        ({"memory": Memory(NOW_NS)}, Code.BAD_INPUT, Decision.REFUSED),
        ({"memory": Memory(NOW_NS + 1)}, Code.BAD_INPUT, Decision.REFUSED),
        ({"objects": ()}, Code.NO_TARGET, Decision.HELD),
    ],
)
def test_an_unfit_situation_is_never_sent(changes: dict[str, Any], code: Code, decision: Decision) -> None:
    """Disabled, stale, from the future, going back or empty."""
    answer = ask(*changes.pop("objects", (make_object(),)), **changes)
    assert (answer.code, answer.decision, answer.request) == (code, decision, None)


def test_a_clock_that_was_set_back_does_not_block_for_ever() -> None:
    """A previous stamp far in the future belongs to another run of the clock."""
    assert ask(make_object(), memory=Memory(NOW_NS + 10 * NANOSECONDS)).decision == Decision.SENT


def test_keep_out_is_inertial_and_unknown_bodies_block() -> None:
    """A cone around the target's inertial direction forbids it, one beside it does not, an unknown one blocks."""
    bearing_N = rotation(GOLDEN[0][0]).apply(make_object().bearing)
    beside = smallest_rotation(bearing_N, np.array([0.0, 0, 1])).apply(bearing_N)
    off_deg = np.degrees(angle_between_rad(bearing_N, beside))
    inside = {"keep_out_half_angles_deg": [20.0], "keep_out_directions": bearing_N.tolist()}
    assert ask(make_object(), config=inside).code == Code.KEEP_OUT
    assert ask(make_object(), config={**inside, "allow_unchecked": True}).code == Code.KEEP_OUT
    outside = {"keep_out_half_angles_deg": [off_deg - 1.0], "keep_out_directions": beside.tolist()}
    # Moving, it would be in the cone when the slew ends.
    assert ask(make_object(bearing_rate_rad_s=None), config=outside).decision == Decision.SENT
    assert ask(make_object(), config=outside).code == Code.KEEP_OUT
    unknown = {"keep_out_half_angles_deg": [20.0]}
    assert ask(make_object(), config=unknown).code == Code.UNCHECKED
    allowed = ask(make_object(), config={**unknown, "allow_unchecked": True})
    assert allowed.request is not None and not allowed.request.keep_out_checked


def test_dead_band_holds() -> None:
    """Closer than the dead band nothing is asked; the angle is told all the same."""
    bearing = unit_vector([0.0, np.tan(np.radians(0.04)), 1.0])
    answer = ask(make_object(bearing=bearing))
    assert (answer.code, answer.decision) == (Code.DEAD_BAND, Decision.HELD)
    assert np.degrees(answer.off_boresight_rad) == pytest.approx(0.04, abs=1e-9)


def test_a_request_is_renewed_in_the_dead_band_before_it_runs_out() -> None:
    """The spacecraft follows a moving target only as long as its last request is valid (5 s)."""
    near = make_object(bearing=unit_vector([0.0, np.tan(np.radians(0.04)), 1.0]))
    for age_s, code in ((2, Code.DEAD_BAND), (3, Code.NONE)):
        memory = Memory(target=TARGET, requested_ns=NOW_NS - age_s * NANOSECONDS)
        assert ask(near, memory=memory).code == code


def test_the_current_target_is_kept() -> None:
    """A surer newcomer does not take over, and a coasting target is waited for."""
    newcomer = make_object(id=OTHER, existence_probability=0.99)
    assert ask(make_object(), newcomer).target_id == OTHER
    assert ask(make_object(), newcomer, memory=Memory(target=TARGET)).target_id == TARGET
    coasting = make_object(state=ObjectState.COASTING)
    assert ask(coasting, newcomer, memory=Memory(target=TARGET)).code == Code.NO_TARGET
    assert ask(make_object(bearing=NAN3), newcomer, memory=Memory(target=TARGET)).target_id == OTHER


@pytest.mark.parametrize(
    "config",
    [
        {"boresight": [0.0, 0.0, 0.0]},
        {"boresight": [1.0, 0.0]},
        {"camera_to_body_xyzw": [0.0, 0.0, 0.0, 0.0]},
        {"keep_out_half_angles_deg": [200.0]},
        {"keep_out_directions": [1.0, 0.0, 0.0]},
    ],
)
def test_settings_without_sense_are_refused(config: dict[str, Any]) -> None:
    """At the start, not at the first object."""
    with pytest.raises(SparsematchError):
        Policy.from_config(replace(PointingConfig(), **config))
