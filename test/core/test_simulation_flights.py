"""What seeds make of scenarios, and what the named scenarios promise."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.motion import camera_state, object_states
from sparsematch_ros.simulation.object_specs import CloudSpec, MotionSpec, ObjectSpec, PointSpec, WaypointSpec
from sparsematch_ros.simulation.scenario import Scenario, VariationSpec, find_scenario, load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.strict_yaml import build
from sparsematch_ros.simulation.truth import TruthRecorder
from sparsematch_ros.simulation.variation import realise

EMPTY = Scenario("test", "for a test", frames=10, rate_hz=2.0)
POINT = PointSpec(3.0, 20.0)
TWO = replace(
    EMPTY,
    objects=(
        ObjectSpec("one", MotionSpec((3.0, 1.0, 40.0), (1.0, 2.0, 0.5)), point=POINT),
        ObjectSpec("two", MotionSpec((-5.0, 2.0, 60.0), (-2.0, 0.0, 0.1)), point=POINT),
    ),
)


def angle_deg(a, b):
    return np.degrees(np.arccos(np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def test_seed_0_flies_as_written_and_others_within_the_ranges():
    variation = VariationSpec(offset_deg=2.0, heading_deg=10.0, speed_share=0.1, attitude_deg=20.0)
    scenario = replace(TWO, variation=variation)
    assert realise(scenario, 0).objects == TWO.objects
    assert realise(realise(scenario, 3), 3) == realise(scenario, 3)
    changes = []
    for seed in range(1, 40):
        for before, after in zip(TWO.objects, realise(scenario, seed).objects):
            speeds = [np.linalg.norm(spec.motion.velocity_m_s) for spec in (before, after)]
            attitudes = [Rotation.from_quat(spec.attitude.q_NB_xyzw) for spec in (before, after)]
            changes.append(
                (
                    angle_deg(before.motion.position_m, after.motion.position_m) / 2.0,
                    angle_deg(before.motion.velocity_m_s, after.motion.velocity_m_s) / 10.0,
                    abs(speeds[1] / speeds[0] - 1) / 0.1,
                    np.degrees((attitudes[0].inv() * attitudes[1]).magnitude()) / 20.0,
                )
            )
            ranges = [np.linalg.norm(spec.motion.position_m) for spec in (before, after)]
            assert ranges[1] == pytest.approx(ranges[0])
    # 78 uniform numbers: the greatest is below 0.85 in one of 300,000 cases.
    assert (np.max(changes, axis=0) <= 1 + 1e-6).all()
    assert (np.max(changes, axis=0) > 0.85).all()


def test_turning_all_as_one_keeps_who_hides_whom():
    scenario = replace(TWO, variation=VariationSpec(tilt_deg=5.0, roll_deg=90.0))
    apart = []
    for seed in (0, 4):
        flight = realise(scenario, seed)
        apart.append([angle_deg(*(s.position_N_m for s in object_states(flight, t))) for t in (0.0, 3.0, 6.0)])
    assert apart[1] == pytest.approx(apart[0], rel=1e-9)
    assert angle_deg(TWO.objects[0].motion.position_m, realise(scenario, 4).objects[0].motion.position_m) > 0.1


def test_a_cloud_is_what_was_asked_for():
    spec = CloudSpec((1.0, 2.0, 50.0), 300, (5.0, 4.0, 3.0), (2.0, 0.0, -1.0), 0.5, ("box", "cubesat"), (0.2, 2.0),
                     points=60, diameter_px=(2.0, 4.0), signal_to_noise=(5.0, 50.0))  # fmt: skip
    pieces = realise(replace(EMPTY, cloud=spec), 5).objects
    places = np.array([piece.motion.position_m for piece in pieces]) - spec.centre_m
    assert (np.abs(places) <= spec.half_size_m).all()
    assert places.std(axis=0) == pytest.approx(np.array(spec.half_size_m) / np.sqrt(3), rel=0.15)
    velocities = np.array([piece.motion.velocity_m_s for piece in pieces])
    assert velocities.mean(axis=0) == pytest.approx(spec.velocity_m_s, abs=0.12)
    assert velocities.std(axis=0) == pytest.approx([0.5] * 3, rel=0.15)
    sizes = [piece.mesh.size_m for piece in pieces if piece.mesh]
    assert (len(pieces), len(sizes)) == (300, 240)
    assert (min(sizes) >= 0.2, max(sizes) <= 2.0) == (True, True)
    assert np.median(sizes) == pytest.approx(np.sqrt(0.4), rel=0.25)
    assert {piece.mesh.model for piece in pieces if piece.mesh} == {"box", "cubesat"}
    assert all(2 <= piece.point.diameter_px <= 4 for piece in pieces if piece.point)
    assert pieces == realise(replace(EMPTY, cloud=spec), 5).objects
    assert pieces != realise(replace(EMPTY, cloud=spec), 6).objects


def test_a_path_goes_through_its_waypoints_and_straight_on():
    waypoints = (WaypointSpec(2.0, (3.0, 1.0, 8.0)), WaypointSpec(5.0, (0.0, 2.0, 4.0)))
    motion = MotionSpec((1.0, 0.0, 10.0), (0.5, 0.2, -1.0), "path", waypoints)
    scenario = replace(EMPTY, objects=(ObjectSpec("thing", motion, point=POINT),))

    def at(time_s):
        return object_states(scenario, time_s)[0]

    assert at(0.0).position_N_m == pytest.approx([1, 0, 10])
    assert at(0.0).velocity_N_m_s == pytest.approx([0.5, 0.2, -1])
    for waypoint in waypoints:
        assert at(waypoint.time_s).position_N_m == pytest.approx(waypoint.position_m)
    for time_s in (1.0, 2.0, 3.7, 5.0, 7.0):
        slope = (at(time_s + 1e-5).position_N_m - at(time_s - 1e-5).position_N_m) / 2e-5
        assert at(time_s).velocity_N_m_s == pytest.approx(slope, abs=1e-4)
    assert at(9.0).velocity_N_m_s == pytest.approx(at(5.0).velocity_N_m_s)


THING = {"name": "x", "motion": {"position_m": [0, 0, 9]}, "point": {"signal_to_noise": 9}}
CLOUD = {"centre_m": [0, 0, 9], "half_size_m": [1, 1, 1], "count": 3}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"timing": {"late": 1.0}}, r"timing.late: 1.0 must be at least 0.0 and at most 0.9"),
        ({"timing": {"drop": 0.1}}, r"timing: unknown key 'drop'; known keys are late, dropped"),
        ({"faults": {"hot_pixels": 1.5}}, r"faults.hot_pixels: 1.5 must be a whole number"),
        ({"faults": {"flashes": -1}}, r"faults.flashes: -1.0 must be at least 0"),
        ({"sensor": {"flicker": 3}}, r"sensor.flicker: 3.0 must be"),
        ({"sensor": {"smear": 1}}, r"sensor.smear: 1 must be true or false"),
        ({"camera": {"attitude": {"shake": {"rms_deg": 1, "low_hz": 5}}}}, r"high_hz: 3.0 must be above low_hz, 5.0"),
        (
            {"camera": {"attitude": {"turns": [{"start_s": t, "rate_deg_s": [0, 0, 0]} for t in (2, 1)]}}},
            r"camera.attitude.turns: start_s \[2.0, 1.0\] must grow",
        ),
        (
            {"objects": [{**THING, "attitude": {"shake": {"rms_deg": 1}}}]},
            r"attitude.shake: object 'x' cannot jitter",
        ),
        ({"objects": [{**THING, "motion": {"position_m": [0, 0, 9], "kind": "path"}}]}, r"waypoints: 0 given for path"),
        ({"cloud": {**CLOUD, "points": 4}}, r"cloud.points: 4 must be at most count, 3"),
        ({"cloud": {**CLOUD, "models": []}}, r"cloud.models: an empty list"),
        ({"cloud": {**CLOUD, "models": ["ufo"]}}, r"cloud.models: 'ufo' is not one of satellite"),
        ({"cloud": {**CLOUD, "size_m": [2, 1]}}, r"cloud.size_m: \[2.0, 1.0\] must be the least and the largest"),
        ({"variation": {"roll_deg": 200}}, r"variation.roll_deg: 200.0 must be"),
    ],
)
def test_a_wrong_section_is_refused_by_name(section, message):
    with pytest.raises(SparsematchError, match=message):
        build(Scenario, {"name": "n", "description": "d", "frames": 2, "rate_hz": 1, **section}, "")


def pixel_tracks(scene):
    """Where the centres of all objects are, `(frames, objects, 2)`, and their ranges, without a look at the images."""
    flight = scene.scenario
    tracks, ranges = [], []
    for frame in range(flight.frames):
        time_s = flight.time_s(frame)
        camera_N = camera_state(flight, time_s).position_N_m
        relative = np.array([state.position_N_m - camera_N for state in object_states(flight, time_s)])
        tracks.append(scene.camera.project(Rotation.from_quat(scene.programme(time_s)).inv().apply(relative)))
        ranges.append(np.linalg.norm(relative, axis=1))
    return np.array(tracks), np.array(ranges)


def inside(tracks):
    return ((tracks > 0) & (tracks < np.array([639, 479]))).all(axis=2)


def line_of_sight_speeds_px(scene):
    """Speed of every object against the stars in pixels a frame interval, `(objects,)`, the least of the flight."""
    flight = scene.scenario
    speeds = []
    for frame in range(1, flight.frames):
        ends = [object_states(flight, flight.time_s(frame - back)) for back in (1, 0)]
        angles = [angle_deg(a.position_N_m, b.position_N_m) for a, b in zip(*ends)]
        interval_s = flight.time_s(frame) - flight.time_s(frame - 1)
        speeds.append(np.radians(angles) * scene.camera.matrix[0, 0] / interval_s / flight.rate_hz)
    return np.min(speeds, axis=0)


STAYING = ("crossing", "occlusion", "slew_jitter", "irregular_frames", "exposure_flicker", "faint_points", "approach")


@pytest.mark.parametrize("seed", [0, 6])
@pytest.mark.parametrize("name", STAYING)
def test_objects_stay_in_view_and_move(name, seed):
    scene = Scene(load_scenario(name), seed)
    tracks, _ = pixel_tracks(scene)
    assert scene.scenario.frames == (100 if name == "faint_points" else 60)
    assert inside(tracks).mean() > 0.97
    assert line_of_sight_speeds_px(scene).min() > 1.0


def test_seeds_are_different_flights():
    for name in (*STAYING, "enter_leave", "debris_cloud"):
        starts = [pixel_tracks(Scene(replace(load_scenario(name), frames=1), seed))[0][0] for seed in (1, 2)]
        assert np.median(np.linalg.norm(starts[0] - starts[1], axis=1)) > 3


def test_crossing_objects_cross():
    tracks, _ = pixel_tracks(Scene(load_scenario("crossing"), 0))
    nearest = [np.linalg.norm(tracks[:, a] - tracks[:, b], axis=1).min() for a, b in combinations(range(4), 2)]
    assert np.sum(np.array(nearest) < 10) >= 3


@pytest.mark.parametrize("seed", [0, 6])
def test_occlusion_hides_the_satellite_for_8_frames(seed):
    scene = Scene(load_scenario("occlusion"), seed)
    shows = []
    for frame in range(26, 50):
        time_s = scene.scenario.time_s(frame)
        shows.append(2 in scene.render(time_s, scene.programme(time_s)).centroids_px)
    assert (shows[0], shows[-1]) == (True, True)
    hidden = np.flatnonzero(~np.array(shows))
    assert 7 <= len(hidden) <= 9
    assert np.ptp(hidden) == len(hidden) - 1


def test_objects_enter_and_leave_through_all_edges():
    tracks, _ = pixel_tracks(Scene(load_scenario("enter_leave"), 0))
    seen = inside(tracks)
    changes = np.diff(seen.astype(int), axis=0)
    assert ((changes == 1).sum() >= 4, (changes == -1).sum() >= 3) == (True, True)
    outside = tracks[:-1][changes != 0], tracks[1:][changes != 0]
    places = np.concatenate(outside)
    edges = ((places[:, 0] < 0).any(), (places[:, 0] > 639).any(), (places[:, 1] < 0).any(), (places[:, 1] > 479).any())
    assert edges == (True, True, True, True)


@pytest.mark.parametrize("seed", [0, 6])
def test_approach_grows_from_10_to_300_px(seed):
    scene = Scene(load_scenario("approach"), seed)
    recorder, sizes = TruthRecorder(scene), []
    for frame in (0, 59):
        time_s = scene.scenario.time_s(frame)
        attitude_NC = scene.programme(time_s)
        line = recorder.record(frame, time_s, attitude_NC, scene.render(time_s, attitude_NC))[0]
        sizes.append(max(line["bbox_xywh_px"][2:]))
    assert sizes[0] == pytest.approx(10, abs=2.5)
    assert sizes[1] == pytest.approx(300, rel=0.2)
    _, ranges = pixel_tracks(scene)
    growth = ranges[:-1] / ranges[1:]
    assert (growth.min() > 1.03, growth.max() < 1.1) == (True, True)


def test_stars_only_has_nothing_to_find():
    scenario = load_scenario("stars_only")
    assert (scenario.frames, scenario.objects, scenario.cloud) == (500, (), None)
    assert scenario.faults is not None
    assert min(scenario.faults.hot_pixels, scenario.faults.cosmic_rays, scenario.faults.flashes) > 0


def test_debris_cloud_shows_50_that_move():
    scene = Scene(load_scenario("debris_cloud"), 2)
    assert len(scene.scenario.objects) == 50
    tracks, _ = pixel_tracks(scene)
    assert np.median(inside(tracks).sum(axis=1)) >= 40
    assert line_of_sight_speeds_px(scene).min() > 1.0


def test_faint_points_are_2_to_6_px_at_signal_to_noise_5():
    points = [spec.point for spec in load_scenario("faint_points").objects]
    assert {point.signal_to_noise for point in points} == {5.0}
    assert (min(point.diameter_px for point in points), max(point.diameter_px for point in points)) == (2, 6)


def test_every_scenario_loads():
    names = {path.stem for path in find_scenario("crossing").parent.glob("*.yaml")}
    assert names >= {*STAYING, "enter_leave", "stars_only", "debris_cloud", "limb_pass", "fly_by"}
    assert all(load_scenario(name).name == name for name in names)
