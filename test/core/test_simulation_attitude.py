"""The spacecraft that carries the camera: it gets there, and never beyond its limits."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.attitude import CameraBody
from sparsematch_ros.simulation.camera_specs import CameraSpec, SlewSpec
from sparsematch_ros.simulation.object_specs import AttitudeSpec

component = st.floats(-1, 1)
vectors = st.tuples(component, component, component).map(np.array)


def body(rate=2.0, acceleration=1.0, **camera):
    return CameraBody(CameraSpec(slew=SlewSpec(rate, acceleration), **camera))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(vectors, vectors), min_size=1, max_size=3), st.sampled_from([0.013, 0.1, 0.5]))
def test_limits_hold_whatever_is_asked(requests, dt_s):
    """Rates from attitude differences cannot exceed the limits; 1e-6 deg is rounding."""
    spacecraft = body()
    attitudes = [Rotation.from_quat(spacecraft.q_NB_xyzw)]
    omegas = [spacecraft.omega_BN_N_rad_s]
    for axis, omega in requests:
        spacecraft.follow(Rotation.from_rotvec(axis).as_quat(), omega * 0.1)
        for _ in range(12):
            spacecraft.step(dt_s)
            attitudes.append(Rotation.from_quat(spacecraft.q_NB_xyzw))
            omegas.append(spacecraft.omega_BN_N_rad_s)
    turned = [np.degrees((b * a.inv()).magnitude()) for a, b in pairwise(attitudes)]
    assert max(turned) <= 2.0 * dt_s + 1e-6
    changes = [np.degrees(np.linalg.norm(b - a)) for a, b in pairwise(omegas)]
    assert max(changes) <= 1.0 * dt_s + 1e-6


@pytest.mark.parametrize("angle_deg", [0.05, 3.0, 20.0, 179.0])
def test_slew_takes_the_time_of_a_trapezoid_and_does_not_overshoot(angle_deg):
    spacecraft = body()
    target = Rotation.from_rotvec(np.radians(angle_deg) * np.array([0.6, -0.8, 0.0]))
    spacecraft.follow(target.as_quat())
    # Trapezoid: speed up and brake at 1 deg/s^2, coast at 2 deg/s; one tenth more for the acceleration kept back.
    ideal_s = angle_deg / 2 + 2 if angle_deg > 4 else 2 * np.sqrt(angle_deg)
    time_s, reached_s, overshoot = 0.0, None, 0.0
    while time_s < 1.1 * ideal_s + 0.5:
        spacecraft.step(0.05)
        time_s += 0.05
        if reached_s is None and np.degrees(spacecraft.off_target_rad) < 0.01:
            reached_s = time_s
        if reached_s is not None:
            overshoot = max(overshoot, np.degrees(spacecraft.off_target_rad))
    assert reached_s is not None
    assert reached_s > 0.85 * ideal_s - 0.1
    assert overshoot < 0.02
    assert np.linalg.norm(spacecraft.omega_BN_N_rad_s) < 1e-4


def test_moving_target_is_followed():
    spacecraft = body()
    omega = np.radians([0.3, 1.2, -0.2])
    start = Rotation.from_euler("y", 8, degrees=True)
    spacecraft.follow(start.as_quat(), omega, age_s=0.5)
    for _ in range(40):
        spacecraft.step(0.5)
    expected = Rotation.from_rotvec(omega * 20.5) * start
    assert np.degrees((expected * Rotation.from_quat(spacecraft.q_NB_xyzw).inv()).magnitude()) < 1e-3
    assert spacecraft.omega_BN_N_rad_s == pytest.approx(omega, abs=1e-6)


def test_without_a_request_it_follows_the_programme():
    mounting = tuple(Rotation.from_euler("xz", [90, 30], degrees=True).as_quat())
    spec = AttitudeSpec((0.1, 0.2, 0.3, 0.9), (0.1, 0.5, -0.2))
    spacecraft = body(attitude=spec, q_BC_xyzw=mounting)
    start = Rotation.from_quat(spec.q_NB_xyzw)
    assert (start * Rotation.from_quat(spacecraft.q_NC_xyzw).inv()).magnitude() < 1e-9
    for _ in range(10):
        spacecraft.step(1.0)
    expected = start * Rotation.from_rotvec(np.radians(spec.rate_deg_s) * 10)
    assert np.degrees((expected * Rotation.from_quat(spacecraft.q_NC_xyzw).inv()).magnitude()) < 1e-3
    # v_N = R(q_NB) R(q_BC) v_C
    chained = Rotation.from_quat(spacecraft.q_NB_xyzw) * Rotation.from_quat(mounting)
    assert (chained * Rotation.from_quat(spacecraft.q_NC_xyzw).inv()).magnitude() < 1e-9


def test_hold_comes_to_rest():
    spacecraft = body(attitude=AttitudeSpec(rate_deg_s=(0.0, 1.0, 0.0)))
    spacecraft.hold()
    for _ in range(20):
        spacecraft.step(0.5)
    assert np.linalg.norm(spacecraft.omega_BN_N_rad_s) < 1e-5


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [0, 0, 0, np.nan]])
def test_nonsense_is_refused(quaternion):
    with pytest.raises(SparsematchError, match="cannot be followed"):
        body().follow(np.array(quaternion))
    with pytest.raises(SparsematchError, match="time step -1"):
        body().step(-1.0)
