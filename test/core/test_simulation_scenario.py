"""Scenario files, what they promise, and the files that `simulate` writes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
import yaml
from pycocotools import mask as coco
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.attitude import CameraBody
from sparsematch_ros.simulation.command import simulate
from sparsematch_ros.simulation.motion import object_states
from sparsematch_ros.simulation.scenario import load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.truth import TruthRecorder

KEYS = {
    "frame", "stamp_s", "id", "state", "moving", "bbox_xywh_px", "centroid_px", "velocity_px_s",
    "apparent_velocity_px_s", "velocity_covariance", "bearing", "bearing_rate_rad_s", "bearing_rate_covariance",
    "confidence", "mask", "visible_px", "center_of_mass_px",
}  # fmt: skip
SMALL = """
name: small
description: two things
frames: 4
rate_hz: 4
camera: {width_px: 160, height_px: 120}
stars: {}
objects:
  - {name: ball, motion: {position_m: [0, 0, 50], velocity_m_s: [1, 0, 0]}, mesh: {model: sphere, size_m: 6}}
  - {name: dot, motion: {position_m: [8, 5, 50]}, point: {signal_to_noise: 30}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frames: 4", "frames: 4\nrate: 3", r"unknown key 'rate'; known keys are name, description, frames, rate_hz"),
        ("rate_hz: 4", "", r"key 'rate_hz' is missing; known keys are name"),
        ("rate_hz: 4", "rate_hz: fast", r"rate_hz: 'fast' must be a finite number"),
        ("rate_hz: 4", "rate_hz: .nan", r"rate_hz: nan must be a finite number"),
        ("rate_hz: 4", "rate_hz: -1", r"rate_hz: -1.0 must be above 0"),
        ("frames: 4", "frames: 2.5", r"frames: 2.5 must be a whole number"),
        ("width_px: 160", "wide_px: 160", r"camera: unknown key 'wide_px'; known keys are width_px"),
        ("[8, 5, 50]", "[8, 5]", r"objects\[1\].motion.position_m: \[8, 5\] must be a list of 3"),
        ("model: sphere", "model: ufo", r"objects\[0\].mesh.model: 'ufo' is not one of satellite"),
        ("signal_to_noise: 30", "diameter_px: 3", r"objects\[1\].point.signal_to_noise: exactly one of"),
        ("stars: {}", "stars: 3", r"stars: 3 must be a mapping"),
        ("stars: {}", "folder: there", r"unknown key 'folder'"),
        ("stars: {}", "sun: [0, 0, 0]", r"sun: \[0.0, 0.0, 0.0\] has no direction"),
        ("rate_hz: 4", "rate_hz: [", r"cannot be read"),
    ],
)
def test_a_wrong_scenario_is_refused_by_name(small, old, new, message):
    assert old in SMALL
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(SparsematchError, match=message) as caught:
        load_scenario(str(small))
    assert str(small) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SparsematchError, match=r"'fly' is unknown.*fly_by.*small_objects.*tumbling_rendezvous"):
        load_scenario("fly")


def test_a_mesh_file_beside_the_scenario_is_used(small):
    trimesh.creation.icosphere(radius=2.0).export(small.parent / "ball.stl")
    small.write_text(SMALL.replace("model: sphere", "file: ball.stl"))
    rendered = Scene(load_scenario(str(small)), 0).render(0.0, np.array([0, 0, 0, 1.0]))
    # A sphere of 3 m radius at 50 m, 220 px focal length: 548 px; the polyhedron of 642 vertices is a little smaller.
    assert (rendered.labels == 1).sum() == pytest.approx(548, rel=0.05)
    (small.parent / "ball.stl").unlink()
    with pytest.raises(SparsematchError, match=r"ball\.stl"):
        Scene(load_scenario(str(small)), 0)


def read_lines(path):
    return [json.loads(line, parse_constant=pytest.fail) for line in Path(path).read_text().splitlines()]


def test_simulate_writes_what_the_definitions_say(small, tmp_path):
    out = tmp_path / "out"
    simulate(str(small), out, 0, None)
    frames, truth = read_lines(out / "frames.jsonl"), read_lines(out / "truth.jsonl")
    assert frames[3] == {"frame": 3, "file": "000003.png", "stamp_s": 0.75, "q_NC_xyzw": [0, 0, 0, 1]}
    assert [(line["frame"], line["id"]) for line in truth] == [(f, i) for f in range(4) for i in (1, 2)]
    for line in truth:
        assert set(line) == KEYS
        labels = cv2.imread(str(out / "masks" / f"{line['frame']:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint16
        assert line["visible_px"] == (labels == line["id"]).sum()
    assert truth[1]["mask"] is None
    assert np.array_equal(coco.decode(truth[0]["mask"]), cv2.imread(str(out / "masks/000000.png"), -1) == 1)
    assert cv2.imread(str(out / "frames/000003.png")).shape == (120, 160, 3)
    camera = yaml.safe_load((out / "camera.yaml").read_text())
    assert (camera["image_width"], camera["image_height"], camera["distortion_model"]) == (160, 120, "plumb_bob")
    assert camera["camera_matrix"]["data"][0] == pytest.approx(80 / np.tan(np.radians(20)))


def test_simulate_replaces_a_flight_but_nothing_else(small, tmp_path):
    out = tmp_path / "out"
    simulate(str(small), out, 0, 3)
    simulate(str(small), out, 0, 2)
    assert len(list((out / "frames").iterdir())) == len(list((out / "masks").iterdir())) == 2
    other = tmp_path / "other"
    (other / "frames").mkdir(parents=True)
    (other / "frames" / "holiday.png").write_bytes(b"x")
    with pytest.raises(SparsematchError, match=r"holiday\.png"):
        simulate(str(small), other, 0, 2)
    with pytest.raises(SparsematchError, match="frames 0"):
        simulate(str(small), out, 0, 0)


def flight(name, every=1):
    """Truth of a named scenario by frame, without a look at the images."""
    scenario = load_scenario(name)
    scene = Scene(scenario, 0)
    recorder = TruthRecorder(scene)
    for index in range(0, scenario.frames, every):
        time_s = scenario.time_s(index)
        attitude = scene.programme(time_s)
        yield recorder.record(index, time_s, attitude, scene.render(time_s, attitude))


def test_fly_by_starts_off_the_boresight_and_leaves():
    lines = list(flight("fly_by", every=2))
    assert np.degrees(np.arccos(lines[0][0]["bearing"][2])) > 5
    seen = [index for index, line in enumerate(lines) if line]
    assert 15 <= max(seen) <= 20  # of every second frame
    assert seen == list(range(max(seen) + 1))
    assert min(max(line[0]["bbox_xywh_px"][2:]) for line in lines[:15]) >= 40
    assert max(max(line[0]["bbox_xywh_px"][2:]) for line in lines[:15]) <= 120


def test_rendezvous_grows_and_drifts():
    lines = list(flight("tumbling_rendezvous", every=3))
    sizes = [np.hypot(*line[0]["bbox_xywh_px"][2:]) for line in lines]
    assert sizes[0] < 50
    assert 140 < max(sizes) < 200
    # At 2 frames a second 2 px/s are a pixel a frame; tumbling moves the visible centroid a little on top.
    speeds = [np.linalg.norm(line[0]["velocity_px_s"]) for line in lines[1:]]
    assert np.mean(np.array(speeds) >= 2) > 0.9
    assert all(line[0]["moving"] for line in lines)


def test_small_objects_stay_small_and_in_view():
    for lines in flight("small_objects", every=10):
        assert [line["id"] for line in lines] == [1, 2, 3, 4]
        assert all(3 <= max(line["bbox_xywh_px"][2:]) <= 26 for line in lines)
        assert all(line["visible_px"] >= 4 and line["moving"] for line in lines)


def test_fly_by_stays_in_view_when_the_camera_is_asked_to_turn():
    """Requests from true bearings, one frame late, within the scenario's 2 deg/s and 1 deg/s^2."""
    scenario = load_scenario("fly_by")
    spacecraft, camera = CameraBody(scenario.camera), scenario.camera.model()
    offs, pixels = [], []
    for index in range(scenario.frames):
        ahead, later = (object_states(scenario, scenario.time_s(index + step))[0].position_N_m for step in (0, 1))
        attitude_NC = Rotation.from_quat(spacecraft.q_NC_xyzw)
        seen_C = attitude_NC.inv().apply(ahead)
        pixels.append(camera.project(seen_C)[0])
        offs.append(np.degrees(np.arctan2(np.linalg.norm(seen_C[:2]), seen_C[2])))
        turn, _ = Rotation.align_vectors([ahead], [attitude_NC.apply([0, 0, 1])])
        rate = np.cross(ahead, later - ahead) / (ahead @ ahead) * scenario.rate_hz
        spacecraft.step(1 / scenario.rate_hz)
        spacecraft.follow((turn * attitude_NC).as_quat(), rate, age_s=1 / scenario.rate_hz)
    assert offs[0] > 5
    assert np.max(offs[15:]) < 0.5
    assert ((np.array(pixels) > 0) & (np.array(pixels) < [639, 479])).all()
