"""What goes wrong in a simulated flight: times, turns, smear, flicker, faults, hidden objects; against geometry."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label
from scipy.spatial.transform import Rotation

from sparsematch_ros.simulation.attitude import CameraBody
from sparsematch_ros.simulation.camera_specs import CameraSpec, FaultsSpec, SensorSpec, SlewSpec, TimingSpec
from sparsematch_ros.simulation.motion import attitude, body_rate_rad_s, planned_attitude, turn_within
from sparsematch_ros.simulation.object_specs import (
    AttitudeSpec,
    MeshSpec,
    MotionSpec,
    ObjectSpec,
    PointSpec,
    ShakeSpec,
    TurnSpec,
)
from sparsematch_ros.simulation.scenario import Scenario, StarsSpec, VariationSpec, load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.truth import TruthRecorder

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
QUIET = SensorSpec(read_noise_e=0.0, dark_e_s=0.0, saturation_e=40000.0, halo_fraction=0.0, white_e_s=2e6)
SMALL_CAMERA = CameraSpec(width_px=160, height_px=120)
EMPTY = Scenario("test", "for a test", frames=10, rate_hz=2.0, sensor=QUIET, camera=SMALL_CAMERA)
WIDE = (-0.20, 0.05, 0.001, -0.001, 0.0)


def with_object(scenario=EMPTY, position=(0.0, 0.0, 100.0), velocity=(0.0, 0.0, 0.0), **look):
    """Add one object to a scenario."""
    spec = ObjectSpec("thing", MotionSpec(position, velocity), **look)
    return replace(scenario, objects=(*scenario.objects, spec))


def light_of(image):
    """Grey levels above the black level of 4, `(H, W)`."""
    return np.maximum(image.astype(float).mean(axis=2) - 4, 0)


def test_times_are_late_and_lossy_as_asked():
    """Gaps are geometric with mean 1 / (1 - p); 4000 of them have a standard error of 1.1 %."""
    timing = TimingSpec(late=0.6, dropped=0.25)
    scene = Scene(replace(EMPTY, timing=timing), 3)
    times = [scene.scenario.time_s(frame) for frame in range(400)]
    ticks = np.array(times) * EMPTY.rate_hz
    assert (np.diff(ticks) > 0).all()
    assert ((ticks % 1) <= timing.late + 1e-6).all()
    assert (ticks % 1).std() == pytest.approx(timing.late / np.sqrt(12), rel=0.1)
    assert int(ticks[0]) == 0
    last = int(Scene(replace(EMPTY, timing=timing), 4).scenario.time_s(4000) * EMPTY.rate_hz)
    assert last / 4000 == pytest.approx(1 / 0.75, rel=0.04)
    assert times != [Scene(replace(EMPTY, timing=timing), 4).scenario.time_s(frame) for frame in range(400)]


def test_velocity_truth_is_per_second_whatever_the_times():
    focal_px = EMPTY.camera.model().matrix[0, 0]
    scenario = replace(EMPTY, timing=TimingSpec(late=0.8, dropped=0.5), rate_hz=5.0)
    scene = Scene(with_object(scenario, (-5.0, 0.0, 100.0), (2.0, 1.0, 0.0), point=PointSpec(3.0, 50.0)), 1)
    recorder = TruthRecorder(scene)
    lines = []
    for frame in range(12):
        time_s = scene.scenario.time_s(frame)
        lines += recorder.record(frame, time_s, IDENTITY, scene.render(time_s, IDENTITY))
    gaps = np.diff([line["stamp_s"] for line in lines])
    assert gaps.max() > 3 * gaps.min()
    for line in lines[1:]:
        assert line["velocity_px_s"] == pytest.approx([2 * focal_px / 100, focal_px / 100], rel=1e-6)


SLEWS = AttitudeSpec(
    (0.1, 0.2, 0.3, 0.9), (0.1, 0.5, -0.2), (TurnSpec(2.0, (0.0, -1.0, 0.0)), TurnSpec(3.5, (0.4, 0.0, 1.5)))
)


def test_slews_are_the_integral_of_their_rates():
    """Steps of 1 ms from rate to rate; only the steps in which the rate changes are inexact."""
    rotation = Rotation.from_quat(SLEWS.q_NB_xyzw)
    for step in range(5000):
        rotation = rotation * Rotation.from_rotvec(body_rate_rad_s(SLEWS, (step + 0.5) * 1e-3) * 1e-3)
    assert (planned_attitude(SLEWS, 5.0).inv() * rotation).magnitude() < 1e-9
    assert np.degrees(body_rate_rad_s(SLEWS, 2.7)) == pytest.approx([0, -1, 0])


def test_a_spacecraft_without_requests_slews_with_the_programme():
    spacecraft = CameraBody(CameraSpec(attitude=SLEWS, slew=SlewSpec(20.0, 200.0)))
    for time_s, step_s in ((1.0, 1.0), (2.5, 1.5), (5.0, 2.5)):
        spacecraft.step(step_s)
        off = planned_attitude(SLEWS, time_s).inv() * Rotation.from_quat(spacecraft.q_NC_xyzw)
        assert np.degrees(off.magnitude()) < 0.01


def test_shake_has_its_size_and_its_band():
    spec = AttitudeSpec(shake=ShakeSpec(0.1, low_hz=1.0, high_hz=3.0))
    times = np.arange(0, 200, 0.05)
    angles = np.degrees([attitude(spec, time_s, seed=2).as_rotvec() for time_s in times])
    assert angles.std(axis=0) == pytest.approx([0.1] * 3, rel=0.1)
    power = np.abs(np.fft.rfft(angles * np.hanning(len(times))[:, None], axis=0)) ** 2
    frequencies = np.fft.rfftfreq(len(times), 0.05)
    band = (frequencies > 0.95) & (frequencies < 3.05)
    assert power[band].sum() / power.sum() > 0.999
    assert not np.allclose(angles[0], np.degrees(attitude(spec, 0.0, seed=3).as_rotvec()))


def spread_along(image, direction):
    """Centre `(2,)` and variance along a direction [px^2] of the light of a spot."""
    light = light_of(image)
    row, column = center_of_mass(light)
    grid_y, grid_x = np.mgrid[: light.shape[0], : light.shape[1]]
    along = (grid_x - column) * direction[0] + (grid_y - row) * direction[1]
    return np.array([column, row]), (light * along**2).sum() / light.sum()


@pytest.mark.parametrize("distortion", [(), WIDE], ids=["ideal", "distorted"])
def test_smear_is_as_long_as_the_turn(distortion):
    """A uniform path of length L adds L^2 / 12 to the variance along it; rounding takes some per cent."""
    camera = replace(SMALL_CAMERA, distortion=distortion, horizontal_fov_deg=60.0)
    sensor = replace(QUIET, smear=True, exposure_s=0.5)
    scenario = with_object(
        replace(EMPTY, camera=camera, sensor=sensor), (8.0, -6.0, 30.0), point=PointSpec(3.0, 0, 1e6)
    )
    scene = Scene(scenario, 0)
    turn = np.radians([1.2, 2.4, 0.9])
    place = np.array([[8.0, -6.0, 30.0]])
    ends = [scene.camera.project(Rotation.from_rotvec(-s * turn).apply(place))[0] for s in (-0.5, 0.5)]
    path = ends[1] - ends[0]
    still, moved = scene.render(0.0, IDENTITY), scene.render(0.0, IDENTITY, turn)
    direction = path / np.linalg.norm(path)
    centre, variance = spread_along(still.image, direction)
    smeared_centre, smeared_variance = spread_along(moved.image, direction)
    assert np.linalg.norm(path) > 5
    assert smeared_centre == pytest.approx(centre, abs=0.1)
    assert smeared_variance - variance == pytest.approx(path @ path / 12, rel=0.08)
    assert np.array_equal(still.labels, moved.labels)


def test_stars_smear_like_everything_at_rest():
    scenario = replace(EMPTY, stars=StarsSpec(5.0), sensor=replace(QUIET, smear=True, magnitude_zero_e_s=1e9))
    scene = Scene(scenario, 5)
    focal_px = scene.camera.matrix[0, 0]
    turn = np.array([0.0, 6.0 / focal_px, 0.0])
    still, moved = (light_of(scene.render(0.0, IDENTITY, vector).image) for vector in (np.zeros(3), turn))
    spots, count = label(moved > 2, structure=np.ones((3, 3)))
    widths = [np.ptp(np.nonzero(spots == number)[1]) for number in range(1, count + 1)]
    before, count_before = label(still > 2, structure=np.ones((3, 3)))
    widths_before = [np.ptp(np.nonzero(before == number)[1]) for number in range(1, count_before + 1)]
    assert count >= 5
    # Stars of one brightness rank: the paths are 6 px long, whole pixels are counted.
    assert np.median(widths) - np.median(widths_before) == pytest.approx(6, abs=2)


def test_the_turn_within_an_exposure_is_that_of_the_programme():
    assert np.degrees(turn_within(SLEWS, 1.0, 0.1)) == pytest.approx([0.01, 0.05, -0.02], abs=1e-9)
    # Half of the exposure before the change of rate, half after it.
    both = np.degrees(turn_within(SLEWS, 2.0, 0.2))
    assert both == pytest.approx([0.01, -0.05, -0.02], abs=1e-4)
    assert turn_within(AttitudeSpec(jitter_deg=1.0), 1.0, 0.1) == pytest.approx([0, 0, 0])


def test_flicker_scales_all_light():
    """80 frames: the deviation of their logarithms is known to 8 %; 3 standard errors and rounding are allowed."""
    scenario = replace(EMPTY, sensor=replace(QUIET, flicker=0.2))
    scene = Scene(with_object(scenario, (0.0, 0.0, 50.0), mesh=MeshSpec("sphere", size_m=8.0)), 0)
    frames = [scene.render(frame / 2, IDENTITY) for frame in range(80)]
    sums = np.array([light_of(frame.image).sum() for frame in frames])
    assert np.log(sums).std() == pytest.approx(0.2, rel=0.27)
    assert all(np.array_equal(frame.labels, frames[0].labels) for frame in frames)


def test_signal_to_noise_of_a_sensor_of_one_channel():
    """Over 200 frames a measured ratio of 5 has a standard error of 0.26."""
    sensor = SensorSpec(halo_fraction=0.0, mono=True)
    scene = Scene(with_object(replace(EMPTY, sensor=sensor), point=PointSpec(4.0, 5.0)), 0)
    centre = scene.camera.project(np.array([[0.0, 0.0, 1.0]]))[0]
    grid = np.stack(np.meshgrid(np.arange(160), np.arange(120)), -1)
    aperture = np.linalg.norm(grid - centre, axis=2) <= 1.585 * np.hypot(0.8, 1.0)
    images = [scene.render(float(t), IDENTITY).image for t in range(200)]
    assert all((image[..., :1] == image).all() for image in images)
    signal = np.array([image[aperture, 0].astype(float).sum() - 4 * aperture.sum() for image in images])
    assert signal.mean() / signal.std() == pytest.approx(5, abs=0.8)


def test_hot_pixels_stay_and_hits_and_flashes_go():
    """Means of Poisson counts over 150 frames, within 4 standard errors; spots that melt into one are rare here."""
    faults = FaultsSpec(hot_pixels=12, hot_pixel_e=20000, cosmic_rays=1.0, cosmic_ray_e=30000, flashes=0.5, flash_e=4e5)
    scene = Scene(replace(EMPTY, faults=faults), 1)
    images = [light_of(scene.render(float(t), IDENTITY).image) for t in range(150)]
    hot = np.min(images, axis=0) > 20
    assert hot.sum() == 12
    assert np.array_equal(hot, np.min(images[:5], axis=0) > 20)
    counts = [label((image > 20) & ~hot, structure=np.ones((3, 3)))[1] for image in images]
    assert np.mean(counts) == pytest.approx(1.5, abs=4 * np.sqrt(1.5 / 150))
    # None stays: what shines in two frames running, at the same place, is chance.
    shining = [(image > 20) & ~hot for image in images]
    assert np.mean([(a & b).any() for a, b in pairwise(shining)]) < 0.05
    other = Scene(replace(EMPTY, faults=faults), 2)
    elsewhere = np.min([light_of(other.render(float(t), IDENTITY).image) for t in range(5)], axis=0) > 20
    assert not np.array_equal(hot, elsewhere)


def test_faults_are_no_objects():
    faults = FaultsSpec(hot_pixels=50, cosmic_rays=20.0, flashes=10.0)
    scene = Scene(replace(EMPTY, faults=faults), 1)
    rendered = scene.render(0.0, IDENTITY)
    assert rendered.image.max() > 5
    assert rendered.labels.max() == 0
    assert TruthRecorder(scene).record(0, 0.0, IDENTITY, rendered) == []


def test_empty_sections_change_nothing():
    scenario = load_scenario("small_objects")
    filled = replace(scenario, timing=TimingSpec(), faults=FaultsSpec(), variation=VariationSpec())
    for seed in (0, 7):
        plain, same = Scene(scenario, seed), Scene(filled, seed)
        time_s = scenario.time_s(1)
        assert same.scenario.time_s(1) == time_s
        attitude_NC = plain.programme(time_s)
        images = [scene.render(time_s, attitude_NC, scene.programme_turn(time_s)).image for scene in (plain, same)]
        assert np.array_equal(*images)


def test_what_shows_of_a_point_gives_its_centroid():
    """The right half of a disc of radius r shows: its centroid lies 4 r / (3 pi) to the right."""
    camera, radius_px = EMPTY.camera.model(), 4.0
    point = PointSpec(2 * radius_px, flux_e=1e5)
    moved = np.array([4 * radius_px / (3 * np.pi), 0])
    # The wall's right side lies in the plane x = 0, which is seen on the boundary of two pixels.
    wall = with_object(position=(-10.0, 0.0, 100.0), mesh=MeshSpec("box", size_m=20.0))
    behind = Scene(with_object(wall, (0.0, 5.0, 200.0), point=point), 0).render(0.0, IDENTITY)
    centre = camera.project(np.array([[0.0, 5.0, 200.0]]))[0]
    assert behind.centroids_px[2] == pytest.approx(centre + moved, abs=0.05)
    edge = np.array([-0.5, 50.0])
    place = np.append((edge - camera.matrix[:2, 2]) / camera.matrix[0, 0], 1.0) * 200
    leaving = Scene(with_object(position=tuple(place), point=point), 0).render(0.0, IDENTITY)
    assert leaving.centroids_px[1] == pytest.approx(edge + moved, abs=0.05)
    hidden = Scene(with_object(wall, (-5.0, 5.0, 200.0), point=point), 0).render(0.0, IDENTITY)
    assert list(hidden.centroids_px) == [1]
