"""Scenarios of what cameras see outside our first ones: what each promises, from geometry and from single frames."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from sparsematch_ros.simulation.motion import camera_state, object_states
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MeshSpec, MotionSpec
from sparsematch_ros.simulation.scenario import EarthSpec, load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.smear import Smear
from sparsematch_ros.simulation.stars import project_stars, random_sky
from sparsematch_ros.simulation.truth import TruthRecorder

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
SEEDS = [0, 101]
OCCUPIED = (
    "earth_bright", "earth_dim", "limb_turning", "own_slew", "dense_stars", "hot_pixels", "sun_flare", "self_shadow",
    "spinning_panel", "manoeuvre", "bad_telemetry", "mono16", "slow_rate",
)  # fmt: skip


def scene_of(name, seed=0):
    return Scene(load_scenario(name), seed)


def shoot(scene, frame):
    time_s = scene.scenario.time_s(frame)
    return scene.render(time_s, scene.programme(time_s), scene.programme_turn(time_s))


def tracks_px(scene):
    """Places of the centers of all objects in the image, `(frames, objects, 2)`."""
    flight, tracks = scene.scenario, []
    for frame in range(flight.frames):
        time_s = flight.time_s(frame)
        relative_N = np.array([state.position_N_m for state in object_states(flight, time_s)])
        relative_N = relative_N - camera_state(flight, time_s).position_N_m
        tracks.append(scene.camera.project(Rotation.from_quat(scene.programme(time_s)).inv().apply(relative_N)))
    return np.array(tracks)


def speeds_px_frame(scene):
    """Speed of every object against the stars [px/frame], `(frames - 1, objects)`, small angles."""
    flight, directions = scene.scenario, []
    for frame in range(flight.frames):
        places = np.array([state.position_N_m for state in object_states(flight, flight.time_s(frame))])
        directions.append(places / np.linalg.norm(places, axis=1, keepdims=True))
    return np.linalg.norm(np.diff(directions, axis=0), axis=2) * scene.camera.matrix[0, 0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", OCCUPIED)
def test_objects_stay_in_view_and_move(name, seed):
    scene = scene_of(name, seed)
    places = tracks_px(scene)
    assert ((places > 0) & (places < np.array([639, 479]))).all(axis=2).mean() > 0.95
    assert speeds_px_frame(scene).min() > 1.5
    assert 24 <= scene.scenario.frames <= 60


def test_seeds_are_different_flights():
    for name in (*OCCUPIED, "fills_frame"):
        starts = [tracks_px(scene_of(name, seed))[0] for seed in (1, 2)]
        assert np.median(np.linalg.norm(starts[0] - starts[1], axis=1)) > 3


@pytest.mark.parametrize(("name", "low", "high"), [("earth_bright", 40, 256), ("earth_dim", 7, 60)])
def test_earth_fills_the_frame_and_drifts(name, low, high):
    scene = scene_of(name, 1)
    rays_N = Rotation.from_quat(scene.programme(20.0)).apply(scene._rays.units[::97])
    nadir_N = scene.world.at(20.0).nadir_N
    assert np.degrees(np.arccos(rays_N @ nadir_N)).max() < np.degrees(np.arcsin(6371 / 6871))
    # A camera on an orbit at 500 km that does not turn: 0.0011069 rad/s * 6871 km / 500 km, in pixels a frame.
    drift_px = 0.0011069 * 6871 / 500 * scene.camera.matrix[0, 0] / scene.scenario.rate_hz
    assert drift_px == pytest.approx(6.7, abs=0.1)
    first, second = (shoot(scene, frame) for frame in (20, 21))
    ground = (first.labels == 0) & (second.labels == 0)
    levels = first.image[..., 2].astype(float)
    assert low <= np.percentile(levels[ground], 1)
    assert np.percentile(levels[ground], 99) < high
    assert levels[ground].std() > 2
    # Looking along +x with the image's right at -y: the orbit turns the nadir to +y, so the camera goes to -y, and the
    # ground comes to the left.
    later = cv2.GaussianBlur(shoot(scene, 26).image[..., 2].astype(float), (0, 0), 3.0)
    earlier = cv2.GaussianBlur(levels, (0, 0), 3.0)
    part = np.s_[20:460, 20:580]
    moved = np.roll(earlier, -round(6 * drift_px), axis=1)[part] - later[part]
    rested = earlier[part] - later[part]
    assert np.median(np.abs(moved)) < 0.7 * np.median(np.abs(rested))


@pytest.mark.parametrize("name", ["limb_turning", "limb_turning_empty"])
def test_the_limb_stays_in_the_frame_of_a_turning_camera(name):
    scene = scene_of(name, 1)
    radius_rad = np.arcsin(6371 / 6871)
    for frame in (0, 47):
        time_s = scene.scenario.time_s(frame)
        rays_N = Rotation.from_quat(scene.programme(time_s)).apply(scene._rays.units[::53])
        share = (np.arccos(rays_N @ scene.world.at(time_s).nadir_N) < radius_rad).mean()
        assert 0.1 < share < 0.7
    turn = Rotation.from_quat(scene.programme(0.0)).inv() * Rotation.from_quat(scene.programme(0.5))
    assert turn.magnitude() * scene.camera.matrix[0, 0] > 3
    assert (len(shoot(scene, 5).centroids_px) > 0) == (name == "limb_turning")


def test_own_slew_smears_stars_over_more_than_8_px():
    scene = scene_of("own_slew")
    lengths, turned = [], []
    for frame in range(scene.scenario.frames):
        smear = Smear(scene.camera, scene.programme_turn(scene.scenario.time_s(frame)))
        lengths.append(np.linalg.norm(smear.path_px(np.array([[0.0, 0.0, 1.0]]))))
    for before, after in pairwise(tracks_px(scene)):
        turned.append(after - before)
    assert np.mean(np.array(lengths) > 8) > 0.9
    # The objects' own streaks: 4 / 5 of the frame interval, and never the stars' vector.
    assert (speeds_px_frame(scene) * 0.8 > 2.5).all()


def test_dense_stars_are_2500():
    scene = scene_of("dense_stars", 7)
    sky = random_sky(7, 9.0).brighter_than(scene.scenario.stars.limit_magnitude)
    counts = []
    for time_s in (0.0, 19.5):
        rotation_CN = Rotation.from_quat(scene.programme(time_s)).inv()
        counts.append(len(project_stars(sky, scene.camera, rotation_CN, np.radians(27))[0]))
    # The margin of 8 px around the image adds 6 %; chance 2 % more.
    assert np.mean(counts) == pytest.approx(2500 * 1.06, rel=0.08)


def test_hot_pixels_are_250_and_survive_jpeg():
    scene = scene_of("hot_pixels", 3)
    assert (scene.scenario.faults.hot_pixels, scene.scenario.sensor.jpeg_quality) == (250, 80)
    lowest = np.min([shoot(scene, frame).image.max(axis=2) for frame in (0, 9, 18, 27)], axis=0)
    spots = label(lowest > 45, structure=np.ones((3, 3)))[1]
    assert 215 < spots < 262


def test_sun_flare_shows_the_sun_ghosts_and_the_column():
    scene = scene_of("sun_flare", 2)
    for frame in (0, 39):
        rotation_CN = Rotation.from_quat(scene.programme(scene.scenario.time_s(frame))).inv()
        sun_C = rotation_CN.apply(scene._sun_N)
        sun = np.rint(scene.camera.project(sun_C[None])[0]).astype(int)
        image = shoot(scene, frame).image
        assert (image[sun[1] - 3 : sun[1] + 4, sun[0] - 3 : sun[0] + 4] == 255).all()
        assert np.median(image[:, sun[0]]) > 150
        assert np.median(image[:, sun[0] + 60]) < 60
        assert scene.scenario.flare.ghosts == 5


@pytest.mark.parametrize("seed", [0, 102])
def test_self_shadow_leaves_large_parts(seed):
    """The parts are apart by more than a pixel, and each is large enough to be taken for a craft."""
    scene = scene_of("self_shadow", seed)
    counts = []
    for frame in range(0, 40, 5):
        parts, count = label(shoot(scene, frame).labels == 1, structure=np.ones((3, 3)))
        counts.append((np.bincount(parts.ravel(), minlength=count + 1)[1:] >= 100).sum())
    assert np.mean(np.array(counts) >= 2) > 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_fills_frame_is_cut_by_the_border_and_moves(seed):
    scene = scene_of("fills_frame", seed)
    for frame in (0, 39):
        mask = shoot(scene, frame).labels == 1
        sides = (mask[0].any(), mask[-1].any(), mask[:, 0].any(), mask[:, -1].any())
        assert sum(sides) >= 3
        assert mask.mean() > 0.4
    assert speeds_px_frame(scene).min() > 2


def test_spinning_panel_turns_by_9_degrees_a_frame():
    scene = scene_of("spinning_panel")
    turns = []
    for frame in range(scene.scenario.frames - 1):
        ends = [object_states(scene.scenario, scene.scenario.time_s(frame + k))[0].rotation_NB for k in (0, 1)]
        turns.append(np.degrees((ends[0].inv() * ends[1]).magnitude()))
    assert turns == pytest.approx([9.0] * len(turns), abs=0.1)
    areas = [(shoot(scene, frame).labels == 1).sum() for frame in range(0, 20, 2)]
    assert max(areas) > 2.5 * min(areas)


def test_manoeuvre_turns_by_90_degrees_and_brakes():
    scene = scene_of("manoeuvre")
    velocity = np.diff([object_states(scene.scenario, t)[0].position_N_m for t in np.arange(0, 24, 0.5)], axis=0)
    px_frame = velocity[:, :2] / 122 * scene.camera.matrix[0, 0]
    assert px_frame[2] == pytest.approx([7, 0], abs=0.6)
    assert px_frame[28] == pytest.approx([0, 7], abs=1.0)
    assert np.linalg.norm(px_frame[-2:], axis=1) == pytest.approx([2, 2], abs=1.0)
    assert 1.0 < np.linalg.norm(np.diff(px_frame, axis=0), axis=1).max() < 4.0


def test_bad_telemetry_is_wrong_by_a_pixel_from_frame_to_frame():
    scene = scene_of("bad_telemetry", 1)
    focal_px = scene.camera.matrix[0, 0]
    assert focal_px == pytest.approx(320 / np.tan(np.radians(2.5)))
    wrong = []
    for frame in range(scene.scenario.frames):
        time_s = scene.scenario.time_s(frame)
        true, told = (Rotation.from_quat(q) for q in (scene.programme(time_s), scene.programme_telemetry(time_s)))
        wrong.append((true.inv() * told).as_rotvec()[:2] * focal_px)
    steps = np.diff(wrong, axis=0)
    assert 0.5 < steps.std() < 2.0


def test_mono16_holds_12_bits():
    image = shoot(scene_of("mono16", 1), 10).image
    assert image.dtype == np.uint16
    assert 2048 < image.max() <= 4095
    assert (image[..., :1] == image).all()
    assert np.median(image) == pytest.approx(4 / 255 * 4095, abs=3)


def test_slow_rate_takes_an_image_every_10_s():
    scenario = load_scenario("slow_rate")
    assert [scenario.time_s(frame) for frame in range(3)] == [0.0, 10.0, 20.0]
    assert speeds_px_frame(scene_of("slow_rate")).min() > 10


def test_clouds_cover_as_much_as_they_are_told():
    """No cloud where none is asked for, nothing but cloud at 1; half lies between."""
    shares = []
    for clouds in (0.0, 0.5, 0.75, 1.0):
        scenario = load_scenario("earth_bright")
        earth = EarthSpec(scenario.earth.nadir, 500.0, brightness=0.7, clouds=clouds)
        image = shoot(Scene(replace(scenario, earth=earth, objects=()), 1), 0).image
        shares.append((image[..., 0] > 90).mean())
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


def test_velocity_is_against_the_ground_where_earth_fills_the_frame():
    """An object that rests in N has the ground's drift for velocity, reversed, and no bearing rate."""
    scenario = load_scenario("earth_bright")
    rests = replace(scenario.objects[0], motion=MotionSpec((100.0, 0.0, 0.0)), attitude=AttitudeSpec())
    ball = replace(rests, mesh=MeshSpec("sphere", size_m=5.0))
    scene = Scene(replace(scenario, objects=(ball,), variation=None), 0)
    recorder = TruthRecorder(scene)
    lines = [recorder.record(k, k / 2, scene.programme(k / 2), shoot(scene, k))[0] for k in range(3)]
    # 0.0011069 rad/s * 6871 km / 500 km, times the focal length: the ground goes to the left.
    drift_px_s = 0.0011069 * 6871 / 500 * scene.camera.matrix[0, 0]
    assert lines[2]["velocity_px_s"] == pytest.approx([drift_px_s, 0.0], abs=0.1)
    assert lines[2]["apparent_velocity_px_s"] == pytest.approx([0, 0], abs=0.01)
    assert lines[2]["bearing_rate_rad_s"] == pytest.approx([0, 0, 0], abs=1e-5)


def test_velocity_is_against_the_stars_where_the_limb_is_in_the_frame():
    scenario = load_scenario("limb_pass")
    ball = replace(scenario.objects[0], motion=MotionSpec((0.0, 12.0, 85.0)), mesh=MeshSpec("sphere", size_m=5.0))
    scene = Scene(replace(scenario, objects=(ball,)), 0)
    recorder = TruthRecorder(scene)
    lines = [recorder.record(k, k / 2, IDENTITY, scene.render(k / 2, IDENTITY))[0] for k in range(2)]
    assert lines[1]["velocity_px_s"] == pytest.approx([0, 0], abs=0.01)
