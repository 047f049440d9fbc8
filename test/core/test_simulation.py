"""The simulated camera against geometry: where things land, what hides what, and what the truth says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label
from scipy.spatial.transform import Rotation

from sparsematch_ros.simulation.camera_specs import CameraSpec, SensorSpec
from sparsematch_ros.simulation.motion import object_states
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MeshSpec, MotionSpec, ObjectSpec, PointSpec
from sparsematch_ros.simulation.scenario import EarthSpec, Scenario, StarsSpec, load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.stars import random_sky
from sparsematch_ros.simulation.truth import TruthRecorder

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
# Almost no noise, so that what is left is geometry.
QUIET = SensorSpec(read_noise_e=0.0, dark_e_s=0.0, saturation_e=40000.0, halo_fraction=0.0, white_e_s=2e6)
EMPTY = Scenario("test", "for a test", frames=10, rate_hz=2.0, sensor=QUIET)
WIDE = CameraSpec(horizontal_fov_deg=90.0, distortion=(-0.20, 0.05, 0.001, -0.001, 0.0))


def with_object(scenario=EMPTY, position=(0.0, 0.0, 100.0), velocity=(0.0, 0.0, 0.0), **look):
    """Add one object to a scenario."""
    spec = ObjectSpec("thing", MotionSpec(position, velocity), **look)
    return replace(scenario, objects=(*scenario.objects, spec))


def brightness_centroid(image, around_px, reach=8):
    """Centroid of the light near a pixel, `(2,)`."""
    x, y = np.rint(around_px).astype(int)
    cut = image[y - reach : y + reach + 1, x - reach : x + reach + 1].astype(float).sum(axis=2)
    # A rounded black level of 4 in three channels.
    cut = np.where(cut > 14, cut - 12, 0)
    row, column = center_of_mass(cut)
    return np.array([x - reach + column, y - reach + row])


@pytest.mark.parametrize("camera", [CameraSpec(), WIDE], ids=["ideal", "distorted"])
@pytest.mark.parametrize("position", [(0.0, 0.0, 100.0), (22.31, -12.77, 90.0), (-25.2, 17.1, 101.3)])
def test_point_lands_at_its_projection(camera, position):
    scenario = with_object(replace(EMPTY, camera=camera), position, point=PointSpec(3.0, flux_e=2e5))
    scene = Scene(scenario, 0)
    rendered = scene.render(0.0, IDENTITY)
    expected = scene.camera.project(np.array([position]))[0]
    assert np.abs(brightness_centroid(rendered.image, expected) - expected).max() < 0.1
    assert rendered.centroids_px[1] == pytest.approx(expected, abs=1e-6)
    # A disc of 3 px across covers 7.07 px^2; between four pixels only those four are filled by half.
    assert 4 <= (rendered.labels == 1).sum() <= 9


def test_sphere_fills_the_disc_that_geometry_says():
    position, radius = np.array([6.0, -4.0, 60.0]), 3.0
    scene = Scene(with_object(position=tuple(position), mesh=MeshSpec("sphere", size_m=2 * radius)), 0)
    rendered = scene.render(0.0, IDENTITY)
    rays = scene.camera.bearings(np.stack(np.meshgrid(np.arange(640), np.arange(480)), -1).reshape(-1, 2).astype(float))
    half_angle = np.arcsin(radius / np.linalg.norm(position))
    disc = (rays @ position > np.cos(half_angle) * np.linalg.norm(position)).reshape(480, 640)
    mask = rendered.labels == 1
    # The sphere is a polyhedron of 5120 faces: it lies up to 0.3 % inside.
    assert (mask & disc).sum() / (mask | disc).sum() > 0.98
    rows, columns = np.nonzero(disc)
    assert rendered.centroids_px[1] == pytest.approx([columns.mean(), rows.mean()], abs=0.1)


def test_side_away_from_the_sun_is_dark():
    scenario = with_object(replace(EMPTY, sun=(-1.0, 0.0, 0.0), ambient=0.0), mesh=MeshSpec("sphere", size_m=10.0))
    image = Scene(scenario, 0).render(0.0, IDENTITY).image.astype(int).sum(axis=2)
    assert image[240, 295] > 60
    assert image[240, 345] == 12  # the black level of 4 in three channels


def test_a_part_casts_a_shadow_on_another():
    """With the Sun behind the dish, the bus behind it gets less light than a lone surface would."""
    attitude = AttitudeSpec(tuple(Rotation.from_euler("x", 180, degrees=True).as_quat()))
    scenario = replace(EMPTY, sun=(0.35, 0.0, -1.0), ambient=0.0)
    scenario = with_object(scenario, (0.0, 0.0, 20.0), mesh=MeshSpec("satellite"), attitude=attitude)
    rendered = Scene(scenario, 0).render(0.0, IDENTITY)
    owned = rendered.labels == 1
    dark = owned & (rendered.image.sum(axis=2) <= 12)
    # All seen faces look at the Sun here, so what is black is shadow.
    assert 0.005 < dark.sum() / owned.sum() < 0.3


def star_spots(image, threshold=60):
    """Centroids `(n, 2)` of the bright spots of an image, and their light."""
    light = np.maximum(image.astype(float).sum(axis=2) - 12, 0)
    labels, count = label(light > 3, structure=np.ones((3, 3)))
    sums = np.bincount(labels.ravel(), light.ravel(), minlength=count + 1)
    rows = np.flatnonzero(sums > threshold)
    rows = rows[rows > 0]
    centres = np.array(center_of_mass(light, labels, rows)).reshape(-1, 2)[:, ::-1]
    inside = ((centres > 6) & (centres < np.array([633, 473]))).all(axis=1)
    return centres[inside]


@pytest.mark.parametrize("camera", [CameraSpec(), WIDE], ids=["ideal", "distorted"])
def test_turning_moves_the_stars_by_the_exact_rotation(camera):
    scenario = replace(EMPTY, camera=camera, stars=StarsSpec(4.0), sensor=replace(QUIET, magnitude_zero_e_s=1e8))
    scene = Scene(scenario, 5)
    turn = Rotation.from_rotvec(np.radians([0.7, -1.1, 2.0]))
    before = star_spots(scene.render(0.0, IDENTITY).image)
    after = star_spots(scene.render(0.0, turn.as_quat()).image)
    expected = scene.camera.project(turn.inv().apply(scene.camera.bearings(before)))
    expected = expected[((expected > 20) & (expected < np.array([619, 459]))).all(axis=1)]
    distances = np.linalg.norm(expected[:, None] - after[None], axis=2).min(axis=1)
    assert len(expected) >= 10
    # Two stars that melt into one spot, or rounding to whole grey levels, may spoil one in ten.
    assert np.quantile(distances, 0.9) < 0.1


def test_magnitudes_follow_the_sky():
    sky = random_sky(1, 8.0)
    counts = [(sky.magnitudes < limit).sum() for limit in (4.0, 6.0, 8.0)]
    assert counts == pytest.approx([500, 5000, 50000], rel=0.15)
    assert np.abs(sky.directions_N.mean(axis=0)).max() < 0.02


def test_earth_hides_stars_and_shows_its_limb_where_it_lies():
    nadir = np.array([0.0, 1.0, 0.6])
    scenario = replace(EMPTY, sun=(0.0, -1.0, -0.5), stars=StarsSpec(7.0), earth=EarthSpec(tuple(nadir)))
    scene, dark = Scene(scenario, 0), Scene(replace(scenario, sun=(0.0, 1.0, 0.5)), 0)
    disc_angle = np.arcsin(6371 / 6871)
    nadir /= np.linalg.norm(nadir)
    rays = scene.camera.bearings(np.array([[320.0, float(y)] for y in range(480)]))
    limb_row = int(np.flatnonzero(rays @ nadir > np.cos(disc_angle))[0])
    column = scene.render(0.0, IDENTITY).image[:, 320, 2].astype(int)
    assert column[: limb_row - 100].max() < 20
    assert column[limb_row + 2 : limb_row + 40].min() > 30
    # By night the disc is black: nothing but the black level, so no star shines through.
    assert dark.render(0.0, IDENTITY).image[limb_row + 30 :, 320].max() <= 5


def test_near_object_hides_the_far_one():
    scenario = with_object(EMPTY, (0.0, 0.0, 100.0), mesh=MeshSpec("sphere", size_m=10.0))
    scenario = with_object(scenario, (0.0, 0.0, 50.0), mesh=MeshSpec("box", size_m=2.0))
    rendered = Scene(scenario, 0).render(0.0, IDENTITY)
    assert rendered.labels[240, 320] == 2
    assert rendered.labels[240, 280] == 1
    hidden = with_object(EMPTY, (0.0, 0.0, 50.0), mesh=MeshSpec("box", size_m=2.0))
    hidden = with_object(hidden, point=PointSpec(3.0, 50.0))
    assert list(Scene(hidden, 0).render(0.0, IDENTITY).centroids_px) == [1]


def test_same_seed_same_image():
    scenario = load_scenario("limb_pass")
    scene, again = Scene(scenario, 3), Scene(scenario, 3)
    scene.render(0.0, scene.programme(0.0))
    attitude = scene.programme(1.5)
    first = scene.render(1.5, attitude)
    assert np.array_equal(attitude, again.programme(1.5))
    assert np.array_equal(first.image, again.render(1.5, attitude).image)
    assert not np.array_equal(first.image, Scene(scenario, 4).render(1.5, attitude).image)


def test_nothing_in_view_is_ordinary():
    for scenario in (
        EMPTY,
        with_object(position=(0.0, 0.0, -50.0), mesh=MeshSpec()),
        with_object(position=(900.0, 0.0, 50.0), point=PointSpec(3.0, 20.0)),
    ):
        scene = Scene(scenario, 0)
        rendered = scene.render(0.0, IDENTITY)
        assert rendered.labels.max() == 0
        assert rendered.image.max() == 4
        assert TruthRecorder(scene).record(0, 0.0, IDENTITY, rendered) == []


def test_signal_to_noise_is_what_was_asked():
    """Measured over 60 frames in the matched aperture, within 4 standard deviations of a measured deviation (9 %)."""
    scene = Scene(with_object(replace(EMPTY, sensor=SensorSpec(halo_fraction=0.0)), point=PointSpec(3.0, 20.0)), 0)
    centre = scene.camera.project(np.array([[0.0, 0.0, 1.0]]))[0]
    grid = np.stack(np.meshgrid(np.arange(640), np.arange(480)), -1)
    aperture = np.linalg.norm(grid - centre, axis=2) <= 1.585 * np.hypot(0.8, 0.75)
    sums = [scene.render(float(t), IDENTITY).image[aperture].astype(float).sum(axis=0) for t in range(60)]
    signal = np.array(sums) - 4 * aperture.sum()
    assert signal.mean() / signal.std() == pytest.approx(20, rel=0.36)


def fly(scenario, frames, rates=(0.0, 0.0, 0.0)):
    """Render frames while the camera turns at a rate [deg/s], and give the truth lines of each."""
    scene = Scene(scenario, 0)
    recorder = TruthRecorder(scene)
    lines = []
    for index in range(frames):
        time_s = scenario.time_s(index)
        attitude = Rotation.from_rotvec(np.radians(rates) * time_s).as_quat()
        lines.append(recorder.record(index, time_s, attitude, scene.render(time_s, attitude)))
    return scene, lines


@pytest.mark.parametrize("camera", [CameraSpec(), WIDE], ids=["ideal", "distorted"])
def test_truth_velocity_is_the_analytic_one(camera):
    position, velocity, rates = np.array([-12.0, 5.0, 80.0]), np.array([1.5, -0.6, 0.8]), np.array([0.2, 0.9, 0.5])
    scenario = replace(EMPTY, camera=camera, rate_hz=20.0)
    scenario = with_object(scenario, tuple(position), tuple(velocity), point=PointSpec(3.0, 50.0))
    scene, lines = fly(scenario, 5, rates)
    assert lines[0][0]["velocity_px_s"] is None
    line, time_s = lines[4][0], 4 / 20
    turned = Rotation.from_rotvec(np.radians(rates) * time_s)
    relative, moving_C = turned.inv().apply(position + velocity * time_s), turned.inv().apply(velocity)
    step = 1e-4
    ends = [scene.camera.project(relative + sign * step * moving_C)[0] for sign in (-1, 1)]
    analytic = ends[1] - ends[0]
    # The truth is the mean over 1/20 s, the analytic value that of its end.
    assert line["velocity_px_s"] == pytest.approx(analytic / (2 * step), rel=0.02, abs=0.2)
    distance = np.linalg.norm(relative)
    bearing = relative / distance
    rate = (moving_C - bearing * (bearing @ moving_C)) / distance
    assert line["bearing"] == pytest.approx(bearing, abs=1e-6)
    assert line["bearing_rate_rad_s"] == pytest.approx(rate, rel=0.02, abs=2e-4)
    apparent = np.array(line["centroid_px"]) - np.array(lines[3][0]["centroid_px"])
    assert line["apparent_velocity_px_s"] == pytest.approx(apparent * 20)
    assert line["moving"] is True


def test_resting_object_has_no_velocity_while_the_camera_turns():
    _, lines = fly(with_object(point=PointSpec(4.0, 50.0)), 3, (0.5, 1.0, 0.0))
    assert lines[2][0]["velocity_px_s"] == pytest.approx([0, 0], abs=1e-6)
    assert np.linalg.norm(lines[2][0]["apparent_velocity_px_s"]) > 10
    assert lines[2][0]["moving"] is False
    assert lines[2][0]["mask"] is None


def test_velocity_is_null_where_the_object_comes_back():
    scene = Scene(with_object(mesh=MeshSpec("sphere", size_m=5.0)), 0)
    recorder = TruthRecorder(scene)
    away = Rotation.from_euler("y", 90, degrees=True).as_quat()
    lines = [
        recorder.record(index, index / 2, attitude, scene.render(index / 2, attitude))
        for index, attitude in enumerate([IDENTITY, away, IDENTITY, IDENTITY])
    ]
    assert [len(line) for line in lines] == [1, 0, 1, 1]
    assert lines[2][0]["velocity_px_s"] is None
    assert lines[3][0]["velocity_px_s"] == pytest.approx([0, 0], abs=1e-9)


def test_clohessy_wiltshire_keeps_a_closed_ellipse_closed():
    """With along-track rate -2 n x the relative orbit closes, 2 to 1, after one revolution (Clohessy, Wiltshire)."""
    n, x = 0.0011, 100.0
    motion = MotionSpec((x, 0.0, 30.0), (0.0, -2 * n * x, 0.0), "clohessy_wiltshire")
    scenario = replace(EMPTY, orbit_rate_rad_s=n, objects=(ObjectSpec("thing", motion, point=PointSpec(3.0, 9.0)),))
    period = 2 * np.pi / n
    assert object_states(scenario, period)[0].position_N_m == pytest.approx([x, 0, 30], abs=1e-6)
    # A quarter later: 2 x ahead or behind along track, which by then is -x of N, and no cross track.
    quarter = object_states(scenario, period / 4)[0]
    assert np.abs(quarter.position_N_m) == pytest.approx([2 * x, 0, 0], abs=1e-6)
    step = 0.01
    ends = [object_states(scenario, period / 4 + sign * step)[0].position_N_m for sign in (-1, 1)]
    assert quarter.velocity_N_m_s == pytest.approx((ends[1] - ends[0]) / (2 * step), abs=1e-6)
