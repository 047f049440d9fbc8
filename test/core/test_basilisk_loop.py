"""The loop closed on true bearings with Basilisk's spacecraft, and the figures that are made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.loop.closed_loop import score_flight
from sparsematch_ros.evaluation.loop.figures import judge
from sparsematch_ros.evaluation.loop.pointing import Track, minimum_slew_s, settling_s
from sparsematch_ros.evaluation.loop.report import Flown, table, write_loop
from sparsematch_ros.media.records import read_records
from sparsematch_ros.pointing.conventions import quaternion
from sparsematch_ros.pointing.guidance import following_rate_rad_s, pointing_rotation
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.simulation.basilisk.telemetry import Telemetry
from sparsematch_ros.simulation.demo_options import DemoOptions
from sparsematch_ros.simulation.flight import Command
from sparsematch_ros.simulation.fly import open_flight
from sparsematch_ros.simulation.scenario import load_scenario

pytest.importorskip("Basilisk", reason="Basilisk is an optional extra")

SCENARIO = """
name: crossing
description: a sphere on a neighbouring orbit crosses the view
frames: 60
rate_hz: 2.0
camera: {width_px: 256, height_px: 192, horizontal_fov_deg: 30.0, q_BC_xyzw: [0.5, -0.5, 0.5, 0.5]}
earth: {nadir: [0.0, 1.0, 0.0]}
spacecraft: {orbit_normal: [1.0, 0.0, 0.0]}
objects:
  - name: ball
    motion: {position_m: [-16.0, 6.0, 100.0], velocity_m_s: [1.0, -0.3, 0.0]}
    mesh: {model: sphere, size_m: 4.0}
"""
BORESIGHT_C = np.array([0.0, 0.0, 1.0])


def fly(folder: Path, latency_s: float) -> Flown:
    """Ask for the true bearing and its rate of every image after the second; write what a demo leaves."""
    path = folder / "crossing.yaml"
    path.write_text(SCENARIO)
    scenario = load_scenario(str(path))
    boresight_B = Rotation.from_quat(scenario.camera.q_BC_xyzw).apply(BORESIGHT_C)
    dynamics: list = []
    flight = open_flight(scenario, 0, "basilisk", dynamics.append)
    truth, requested, stamps = [], [], []
    for index in range(scenario.frames):
        shot = flight.shoot(index)
        stamps.append(shot.stamp_ns)
        truth += shot.truth
        if index < 2:
            continue
        R_NB, R_NC = Rotation.from_quat(shot.q_NB_xyzw), Rotation.from_quat(shot.q_NC_xyzw)
        bearing_N = R_NC.apply(shot.truth[0]["bearing"])
        rate_N = following_rate_rad_s(bearing_N, R_NC.apply(shot.truth[0]["bearing_rate_rad_s"]))
        q_NB = quaternion(pointing_rotation(R_NB, boresight_B, bearing_N))
        times = (shot.stamp_ns + round(delay_s * NANOSECONDS) for delay_s in (latency_s, 5.0))
        effective_ns, expires_ns = times
        flight.command(Command(effective_ns, shot.stamp_ns, expires_ns, q_NB, rate_N))
        requested.append(shot.stamp_ns)
    for name, records in (("truth.jsonl", truth), ("dynamics.jsonl", dynamics)):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    reported = [{**record, "id": "a", "moving": True} for record in truth if record["frame"] >= 2]
    loop = score_flight(stamps, truth, reported, flight.camera, BORESIGHT_C)
    config = PointingConfig(boresight=boresight_B.tolist())
    return Flown(scenario, 0, latency_s, config, reported, loop, requested, frozenset("a"), {"requests_sent": 58})


@pytest.mark.parametrize("latency_s", [0.0, 2.0])
def test_true_bearings_are_pointed_at_within_the_figures(tmp_path: Path, latency_s: float):
    """A pixel is 0.12 deg, so what is left is the centroid of a sphere; opNavPoint lags by its feedback."""
    flown = fly(tmp_path, latency_s)
    figures = write_loop(flown, tmp_path)
    assert figures is not None
    ours, peer = figures["ours"], figures["op_nav_point"]
    assert ours["pointing_error_deg_median"] < 0.05 and ours["pointing_error_deg_p95"] < 0.2
    assert peer["pointing_error_deg_median"] > 0.5
    assert figures["settle_ratio"] < 1.2
    assert figures["in_view_fraction"] == 1.0
    assert ours["body_rate_deg_s_max"] < 2.0 and ours["wheel_torque_nm_max"] < 0.2
    assert figures["request_took_effect_s"] == pytest.approx(1.0 + latency_s)
    # The sphere moves by 1.04 m/s, 100 m away.
    assert figures["bearing_rate_deg_s"][1] == pytest.approx(np.degrees(1.04 / 100), rel=0.1)
    assert all(row["met"] for row in judge(figures)), table(figures)
    printed = [line for line in table(figures) if "to the center of mass" in line]
    to_mass = [figures["ours"][f"pointing_error_to_center_of_mass_deg_{key}"] for key in ("median", "p95")]
    assert [line.split()[-1] for line in printed] == [f"{value:.3g}" for value in to_mass]
    written = json.loads((tmp_path / "loop.json").read_text())
    assert len(written["history"]["time_s"]) == 296
    assert (tmp_path / "pointing.png").stat().st_size > 10_000


def test_errors_between_images_are_those_of_the_spacecraft(tmp_path: Path):
    """The sphere's visible centroid is its centre: both tracks agree to a hundredth of a degree."""
    flown = fly(tmp_path, 0.0)
    telemetry = Telemetry.from_records(read_records(tmp_path / "dynamics.jsonl"))
    track = Track.of_target(telemetry, read_records(tmp_path / "truth.jsonl"), 1, 10.0, flown.scenario.camera.q_BC_xyzw)
    off_deg = np.degrees(np.arccos(np.clip((track.visible_N * track.mass_N).sum(axis=1), -1, 1)))
    assert np.nanmax(off_deg[20:]) < 0.06
    assert np.isfinite(off_deg[:-5]).all()


def test_nothing_to_point_at_leaves_no_loop(tmp_path: Path):
    flown = fly(tmp_path, 0.0)
    nothing = Flown(**{**vars(flown), "loop": score_flight([], [], [], flown.scenario.camera.model(), BORESIGHT_C)})
    assert write_loop(nothing, tmp_path) is None


def test_a_request_that_took_effect_after_the_flight_took_none(tmp_path: Path):
    """100 s from image to request in a flight of 30 s: nothing settled, and the figures are written all the same."""
    figures = write_loop(replace(fly(tmp_path, 0.0), latency_s=100.0), tmp_path)
    assert figures is not None and figures["request_took_effect_s"] is None
    assert figures["settle_time_s"] is None and figures["minimum_time_s"] is None


def track_of(times_s: np.ndarray, angles_deg: np.ndarray) -> Track:
    angles = np.radians(angles_deg)
    vectors = np.column_stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)])
    return Track(times_s, vectors, vectors)


@pytest.mark.parametrize(("angle_deg", "rate_deg_s", "expected_s"), [
    (10.0, 0.0, 10.0 / 2 + 2.0 / 1),         # run up, coast, brake
    (1.0, 0.0, 2.0),                          # no coast: 2 sqrt(angle / acceleration)
    (12.0, 1.0, 14.5),                        # 2 s from 1 deg/s slower to as much faster, 11.5 s coasting, 1 s down
])  # fmt: skip
def test_the_minimum_time_is_that_of_the_limits(angle_deg: float, rate_deg_s: float, expected_s: float):
    times_s = np.arange(0.0, 40.0, 0.1)
    track = track_of(times_s, angle_deg + rate_deg_s * times_s)
    limits = Limits(float(np.radians(2.0)), float(np.radians(1.0)))
    resting = np.tile([0.0, 0.0, 1.0], (len(times_s), 1))
    assert minimum_slew_s(track, resting, 0.0, limits) == pytest.approx(expected_s, rel=1e-3)


def test_settled_is_who_stays_small():
    times_s = np.arange(0.0, 10.0, 0.1)
    errors = np.where(times_s < 3.0, 1.0, 0.1)
    assert settling_s(times_s, errors, 1.0) == pytest.approx(2.0)
    errors[40] = 0.5
    assert settling_s(times_s, errors, 1.0) == pytest.approx(3.1)
    assert settling_s(times_s, np.full(100, np.nan), 1.0) is None
    assert settling_s(times_s, np.where(times_s < 9.0, 1.0, 0.1), 1.0) is None


def test_a_latency_that_is_none_is_refused():
    with pytest.raises(SparsematchError, match="--latency-s -1"):
        DemoOptions("fly_by", Path("."), latency_s=-1.0)
