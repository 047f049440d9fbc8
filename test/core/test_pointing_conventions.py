"""Other systems' words for a rotation: golden numbers, Basilisk's own code where it is installed, and properties."""

from __future__ import annotations

import struct
import sys
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS, AttitudeRequest
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.adapters.basilisk import att_ref_of_request, att_refs_of_slew
from sparsematch_ros.pointing.adapters.fortytwo import command_line, script, slew_lines
from sparsematch_ros.pointing.adapters.nos3 import inertial_mode_command, inertial_quaternion_command
from sparsematch_ros.pointing.conventions import (
    quaternion,
    quaternion_from_sigma_BN,
    rotation,
    sigma_BN_from_quaternion,
    sigma_rate,
    switched_sigma,
)
from sparsematch_ros.pointing.following import plan_slew, requested_attitude
from sparsematch_ros.pointing.quaternions import from_rotation_vector, inverse, matrix, product, rotation_vector

# The first golden vector of test_pointing.py: 3-2-1 angles (30, -50, 70) deg, by Basilisk 2.12.1.
Q_NB = (0.591723987874397, -0.199848860335863, 0.426292427107551, 0.654368338007907)
SIGMA_BN = (0.357673665700660, -0.120800704259433, 0.257676853040398)

angles = st.floats(-3.1, 3.1)
rotations = st.tuples(angles, angles, angles).map(lambda euler: Rotation.from_euler("xyz", euler))
small = st.floats(-2.0, 2.0)
triples = st.tuples(small, small, small).map(np.array)


def request(**changes: Any) -> AttitudeRequest:
    """Turn to the golden attitude, which itself turns at 0.6 deg/s."""
    values: dict[str, Any] = {
        "stamp_ns": 10 * NANOSECONDS, "reference_frame": "inertial", "target_id": UUID(int=7),
        "target_bearing_R": rotation(Q_NB).apply([0.0, 0.0, 1.0]), "target_bearing_covariance_R": None,
        "attitude_stamp_ns": 11 * NANOSECONDS, "q_RB_xyzw": np.array(Q_NB),
        "omega_BR_R_rad_s": np.radians([0.0, 0.0, 0.6]), "boresight_B": np.array([0.0, 0.0, 1.0]),
        "max_rate_rad_s": float(np.radians(2.0)), "max_acceleration_rad_s2": float(np.radians(1.0)), "priority": 100,
        "reason": "", "validity_s": 5.0, "keep_out_checked": True,
    }  # fmt: skip
    return AttitudeRequest(**{**values, **changes})


@given(rotations)
def test_quaternion_and_both_sets_of_parameters_are_one_rotation(turn: Rotation) -> None:
    """There and back, from either sign and either set; the set that is given has length up to 1."""
    q = quaternion(turn)
    assert q[3] >= 0 and np.linalg.norm(q) == pytest.approx(1.0)
    sigma = sigma_BN_from_quaternion(-q)
    assert np.linalg.norm(sigma) <= 1 + 1e-9
    for one in (sigma, -sigma / (sigma @ sigma) if sigma @ sigma > 1e-6 else sigma):
        assert (rotation(quaternion_from_sigma_BN(one)).inv() * turn).magnitude() < 1e-6


@given(rotations, rotations)
def test_products_are_turns_one_after_another(first: Rotation, second: Rotation) -> None:
    """q_NA q_AB takes a vector from B through A to N, whatever the signs of the numbers."""
    v_B = np.array([0.3, -0.5, 0.8])
    through = rotation(-quaternion(first)).apply(rotation(quaternion(second)).apply(v_B))
    np.testing.assert_allclose(rotation(quaternion(first * second)).apply(v_B), through, atol=1e-12)


@given(rotations, triples)
def test_single_quaternions_are_scipys(turn: Rotation, vector: Any) -> None:
    """Product, inverse, matrix and rotation vector, there and back."""
    q, other = turn.as_quat(), from_rotation_vector(vector)
    np.testing.assert_allclose(other, Rotation.from_rotvec(vector).as_quat(), atol=1e-12)
    np.testing.assert_allclose(product(q, other), (turn * Rotation.from_rotvec(vector)).as_quat(), atol=1e-12)
    np.testing.assert_allclose(product(q, inverse(q)), [0.0, 0.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(matrix(q), turn.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(from_rotation_vector(rotation_vector(-q)), quaternion(turn), atol=1e-12)


@given(triples)
def test_the_shadow_set_is_the_same_attitude_and_no_longer_than_one(sigma: Any) -> None:
    """Switching twice changes nothing more."""
    switched = switched_sigma(sigma)
    assert np.linalg.norm(switched) <= 1 + 1e-12
    np.testing.assert_allclose(switched_sigma(switched), switched, atol=1e-12)
    turn = rotation(quaternion_from_sigma_BN(sigma)).inv() * rotation(quaternion_from_sigma_BN(switched))
    assert turn.magnitude() < 1e-6


@given(triples, triples)
def test_the_rate_of_sigma_is_its_difference_over_time(sigma: Any, omega_B: Any) -> None:
    """A body that turns with omega in its own axes for 1 us, forward and back."""
    sigma = switched_sigma(sigma) * 0.95
    turn, dt = rotation(quaternion_from_sigma_BN(sigma)), 1e-6
    ends = [(turn * Rotation.from_rotvec(side * omega_B * dt)).as_mrp() for side in (1, -1)]
    np.testing.assert_allclose(sigma_rate(sigma, omega_B), (ends[0] - ends[1]) / (2 * dt), atol=1e-6)


def test_golden_numbers_of_switch_and_rate() -> None:
    """RigidBodyKinematics.MRPswitch and dMRP of Basilisk 2.12.1."""
    switched = [-0.5369127516778524, -0.4697986577181208, 0.40268456375838924]
    np.testing.assert_allclose(switched_sigma([0.8, 0.7, -0.6]), switched, atol=1e-15)
    rate = [0.0051966443435103775, -0.008860995045751014, 0.004728419185248859]
    np.testing.assert_allclose(sigma_rate(SIGMA_BN, [0.01, -0.02, 0.03]), rate, atol=1e-15)


@pytest.mark.parametrize("euler_deg", [(30, -50, 70), (-160, 35, 110), (170, 80, -100), (5, 179, -3)])
def test_basilisk_itself_says_the_same(euler_deg: Any) -> None:
    """Attitude, switch, rate and axes, by Basilisk's code."""
    kinematics = pytest.importorskip("Basilisk.utilities.RigidBodyKinematics")
    sigma = switched_sigma(kinematics.euler3212MRP(np.radians(euler_deg)))
    q = quaternion_from_sigma_BN(sigma)
    scalar_first = kinematics.MRP2EP(sigma)
    np.testing.assert_allclose(q, np.array([*scalar_first[1:], scalar_first[0]]), atol=1e-12)
    # Basilisk's matrix [BN] takes vectors from N to B.
    np.testing.assert_allclose(rotation(q).as_matrix().T, kinematics.MRP2C(sigma), atol=1e-12)
    omega_B = np.array([0.02, -0.01, 0.04])
    np.testing.assert_allclose(sigma_rate(sigma, omega_B), kinematics.dMRP(sigma, omega_B), atol=1e-12)
    shadow = -sigma / (sigma @ sigma)
    np.testing.assert_allclose(switched_sigma(shadow), kinematics.MRPswitch(shadow, 1.0), atol=1e-12)


def test_a_reference_stream_is_consistent_in_basilisks_terms() -> None:
    """Along a slew d sigma/dt is dMRP of omega in body axes, d omega/dt is domega; omega is given in N, not in R."""
    slew = plan_slew(request(), 12 * NANOSECONDS, np.array([0.0, 0.0, 0.0, 1.0]), np.radians([0.1, 0.0, -0.2]))
    times = np.linspace(1.0, slew.duration_s - 1.0, 9)
    before, at, after = (att_refs_of_slew(slew.reference(times + dt)) for dt in (-1e-4, 0.0, 1e-4))
    for low, here, high in zip(before, at, after):
        omega_R = rotation(quaternion_from_sigma_BN(here.sigma_RN)).inv().apply(here.omega_RN_N)
        numeric = (high.sigma_RN - low.sigma_RN) / 2e-4
        np.testing.assert_allclose(sigma_rate(here.sigma_RN, omega_R), numeric, atol=1e-7)
        np.testing.assert_allclose(here.domega_RN_N, (high.omega_RN_N - low.omega_RN_N) / 2e-4, atol=1e-7)


def test_a_request_as_basilisks_reference_turns_on_from_its_attitude_stamp() -> None:
    """Golden attitude at 11 s; at 12.5 s it has turned by 0.9 deg about N's z."""
    reference = att_ref_of_request(request(), 11 * NANOSECONDS)
    np.testing.assert_allclose(reference.sigma_RN, SIGMA_BN, atol=1e-12)
    np.testing.assert_allclose(reference.omega_RN_N, np.radians([0.0, 0.0, 0.6]))
    later = att_ref_of_request(request(), round(12.5 * NANOSECONDS)).sigma_RN
    turn = rotation(quaternion_from_sigma_BN(later)) * rotation(Q_NB).inv()
    np.testing.assert_allclose(turn.as_rotvec(), np.radians([0.0, 0.0, 0.9]), atol=1e-12)
    with pytest.raises(SparsematchError, match="5"):
        requested_attitude(request(), 16 * NANOSECONDS)


def test_basilisks_payload_holds_the_numbers() -> None:
    pytest.importorskip("Basilisk.architecture.messaging")
    payload = att_ref_of_request(request(), 11 * NANOSECONDS).payload()
    np.testing.assert_allclose(payload.sigma_RN, SIGMA_BN, atol=1e-12)
    np.testing.assert_allclose(payload.omega_RN_N, np.radians([0.0, 0.0, 0.6]), atol=1e-12)
    np.testing.assert_allclose(payload.domega_RN_N, [0.0, 0.0, 0.0])


def test_the_adapter_is_there_without_basilisk() -> None:
    """Importing it imports nothing of Basilisk: a flight computer has none."""
    import subprocess

    code = "import sys, sparsematch_ros.pointing.adapters.basilisk; print('Basilisk' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_slew_of_a_request_ends_on_its_turning_attitude() -> None:
    slew = plan_slew(request(), 12 * NANOSECONDS, np.array([0.0, 0.0, 0.0, -1.0]), np.zeros(3))
    end_ns = round((12 + slew.duration_s) * NANOSECONDS)
    reference = slew.reference([0.0, slew.duration_s])
    np.testing.assert_allclose(reference.q_NR_xyzw[0], [0.0, 0.0, 0.0, -1.0], atol=1e-12)
    turned = Rotation.from_rotvec(np.radians([0.0, 0.0, 0.6]) * (end_ns / NANOSECONDS - 11))
    assert (rotation(reference.q_NR_xyzw[1]).inv() * turned * rotation(Q_NB)).magnitude() < 1e-7


def test_the_line_of_42_is_the_one_it_reads() -> None:
    """`%lf SC[%ld] qrn = [%lf %lf %lf %lf]`; the file has a first line that is skipped, and ends with EOF."""
    line = command_line(12.5, Q_NB, 0)
    assert line == "12.500000 SC[0] qrn = [0.591723987874 -0.199848860336 0.426292427108 0.654368338008]"
    lines = script([line, command_line(13.0, Q_NB, 1)]).splitlines()
    assert lines[0].startswith("<") and lines[1] == line and lines[2].startswith("13.000000 SC[1]")
    assert lines[-1] == "EOF" and all(len(text) < 512 for text in lines)
    for time_s, q in ((-1.0, Q_NB), (float("nan"), Q_NB), (0.0, (0, 0, 0, 0))):
        with pytest.raises(SparsematchError):
            command_line(time_s, q)


def test_lines_of_42_along_a_slew_begin_and_end_where_it_does() -> None:
    slew = plan_slew(request(omega_BR_R_rad_s=None), 12 * NANOSECONDS, np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3))
    lines = slew_lines(slew, 100.0, 0.5)
    assert lines[0] == "100.000000 SC[0] qrn = [0.000000000000 0.000000000000 0.000000000000 1.000000000000]"
    assert len(lines) == int(np.ceil(slew.duration_s / 0.5)) + 1
    last = np.array(lines[-1].split("[")[-1].rstrip("]").split(), dtype=float)
    np.testing.assert_allclose(last, Q_NB, atol=1e-11)
    with pytest.raises(SparsematchError, match="step"):
        slew_lines(slew, 0.0, 0.0)


def test_the_packet_of_nos3_is_the_one_its_ground_system_sends() -> None:
    """GENERIC_ADCS_CMD.txt: 0x1940, 0xC000, length 33, function code 9, checksum 0, four little-endian doubles."""
    packet = inertial_quaternion_command(Q_NB)
    assert packet[:8] == bytes.fromhex("1940 c000 0021 09 00") and len(packet) == 40
    assert struct.unpack("<4d", packet[8:]) == Q_NB
    assert packet[8:16] == bytes.fromhex("4cbc052567efe23f")
    assert inertial_quaternion_command(Q_NB, 5)[2:4] == bytes.fromhex("c005")
    assert inertial_mode_command() == bytes.fromhex("1940 c000 0002 02 00 03")
    for q, count in (((0, 0, 0, 0), 0), (Q_NB, -1), (Q_NB, 1 << 14)):
        with pytest.raises(SparsematchError):
            inertial_quaternion_command(q, count)
