"""The simulated spacecraft closes the loop on true bearings, with delay and without; figures of a flight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.evaluation.loop.closed_loop import score_flight
from sparsematch_ros.pointing.conventions import quaternion
from sparsematch_ros.pointing.guidance import angle_between_rad, following_rate_rad_s, pointing_rotation
from sparsematch_ros.simulation.flight import START_NS, Command, Flight, Shot
from sparsematch_ros.simulation.scenario import load_scenario

SCENARIO = """
name: crossing
description: a sphere crosses the view
frames: 40
rate_hz: 2.0
camera: {width_px: 256, height_px: 192, horizontal_fov_deg: 30.0}
objects:
  - name: ball
    motion: {position_m: [-14.0, 6.0, 100.0], velocity_m_s: [1.0, -0.3, 0.0]}
    mesh: {model: sphere, size_m: 4.0}
"""
BORESIGHT = np.array([0.0, 0.0, 1.0])


@pytest.fixture
def flight(tmp_path: Path) -> Flight:
    path = tmp_path / "crossing.yaml"
    path.write_text(SCENARIO)
    return Flight(load_scenario(str(path)), seed=0)


def off_boresight_deg(shot: Shot) -> float:
    """Angle to the visible centroid."""
    return float(np.degrees(angle_between_rad(np.array(shot.truth[0]["bearing"]), BORESIGHT)))


def command(shot: Shot, latency_s: float = 0.0, validity_s: float = 5.0) -> Command:
    """Ask for the true bearing and its rate, as pointing does for a measured one."""
    R_NB, truth = Rotation.from_quat(shot.q_NB_xyzw), shot.truth[0]
    bearing_N = R_NB.apply(truth["bearing"])
    q_NB = quaternion(pointing_rotation(R_NB, BORESIGHT, bearing_N))
    omega_N = following_rate_rad_s(bearing_N, R_NB.apply(truth["bearing_rate_rad_s"]))
    effective, expires = (shot.stamp_ns + round(delay * NANOSECONDS) for delay in (latency_s, validity_s))
    return Command(effective, shot.stamp_ns, expires, q_NB, omega_N)


@pytest.mark.parametrize("latency_s", [0.0, 0.3, 1.2])
def test_the_loop_closes_whatever_the_delay(flight: Flight, latency_s: float) -> None:
    """The request holds at the image's stamp and carries its rate, so a delay costs time and no accuracy.

    0.1 deg is a pixel: what the centroid of a ball that is lit and seen in pixels is good for.
    """
    errors = []
    for index in range(30):
        shot = flight.shoot(index)
        errors.append(off_boresight_deg(shot))
        if index:
            flight.command(command(shot, latency_s))
    assert errors[0] > 7.0
    assert max(errors[-5:]) < 0.1


def test_without_commands_the_attitude_stays(flight: Flight) -> None:
    first, last = flight.shoot(0), flight.shoot(20)
    np.testing.assert_allclose(first.q_NB_xyzw, last.q_NB_xyzw, atol=1e-12)


def test_an_expired_command_is_followed_no_longer(flight: Flight) -> None:
    """Two seconds after it ran out the body is at rest: 2 deg/s are braked with 1 deg/s^2."""
    flight.shoot(0)
    flight.command(command(flight.shoot(1), validity_s=1.0))
    moving = [flight.shoot(index).q_NB_xyzw for index in (2, 3)]
    resting = [flight.shoot(index).q_NB_xyzw for index in (9, 14)]
    assert not np.allclose(moving[0], moving[1], atol=1e-6)
    # At rest to the simulation's step: a hundredth of a degree.
    assert (Rotation.from_quat(resting[0]).inv() * Rotation.from_quat(resting[1])).magnitude() < np.radians(0.01)


def test_stamps_begin_after_zero_and_fit_the_truth(flight: Flight) -> None:
    shot = flight.shoot(3)
    assert shot.stamp_ns == START_NS + 1_500_000_000
    assert shot.truth[0]["stamp_s"] == pytest.approx(shot.stamp_ns / NANOSECONDS)


def record(stamp_s: float, x_px: float, identity: Any = 1) -> dict[str, Any]:
    """A record with the keys that are read."""
    place = [x_px, 50.0]
    return {"stamp_s": stamp_s, "id": identity, "centroid_px": place, "center_of_mass_px": place, "state": "confirmed",
            "moving": True}  # fmt: skip


def test_figures_of_a_flight() -> None:
    """Four frames: confirmed at 1 s, in view at 2 s, gone at 3 s. A second object does not matter."""
    camera = CameraModel.from_fov(101, 101, 10.0)
    focal = camera.matrix[0, 0]
    truth = [record(float(t), 50.0 + 10 * t) for t in range(3)] + [record(float(t), 5.0, 2) for t in range(4)]
    reported = [record(1.0, 61.0, "a"), record(2.0, 70.0, "a")]
    loop = score_flight([t * NANOSECONDS for t in range(4)], truth, reported, camera, BORESIGHT)
    assert loop.target == 1
    assert loop.in_view_fraction == pytest.approx(0.5)
    expected = np.degrees(np.arctan([0.0, 10 / focal, 20 / focal]))
    np.testing.assert_allclose(loop.errors_deg[:3], expected, atol=1e-9)
    assert np.isnan(loop.errors_deg[3])


def test_nothing_confirmed_is_nothing_in_view() -> None:
    camera = CameraModel.from_fov(101, 101, 10.0)
    loop = score_flight([0], [record(0.0, 50.0)], [], camera, BORESIGHT)
    assert loop.target is None and loop.in_view_fraction == 0.0 and np.isnan(loop.errors_deg).all()
