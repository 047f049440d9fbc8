"""Deep samples, JPEG, the Sun's flare and telemetry with errors; expected values from geometry and statistics."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.simulation.camera_specs import CameraSpec, FlareSpec, SensorSpec, TelemetrySpec
from sparsematch_ros.simulation.command import simulate
from sparsematch_ros.simulation.flare import SunFlare
from sparsematch_ros.simulation.flight import Flight
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MeshSpec, MotionSpec, ObjectSpec, PointSpec
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.strict_yaml import build

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
QUIET = SensorSpec(read_noise_e=0.0, dark_e_s=0.0, halo_fraction=0.0)
CAMERA = CameraSpec(width_px=160, height_px=120)
EMPTY = Scenario("test", "for a test", frames=10, rate_hz=2.0, sensor=QUIET, camera=CAMERA)
CENTER_PX = np.array([79.5, 59.5])
FOCAL_PX = CAMERA.model().matrix[0, 0]


def test_samples_of_12_bit_are_16_times_finer():
    spec = ObjectSpec("thing", MotionSpec((0.0, 0.0, 100.0)), point=PointSpec(4.0, flux_e=20000.0))
    shallow, deep = (
        Scene(replace(EMPTY, objects=(spec,), sensor=replace(QUIET, bits=bits)), 0).render(0.0, IDENTITY).image
        for bits in (8, 12)
    )
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    assert 255 < deep.max() < 4096
    # Each sample is rounded to its own step; 8 bit steps are 4095 / 255 = 16.06 of 12 bit.
    assert np.abs(deep - shallow.astype(float) * 4095 / 255).max() <= 0.5 * 4095 / 255 + 0.5


def test_deep_images_are_read_with_their_depth(tmp_path):
    file = tmp_path / "deep.yaml"
    file.write_text(
        "name: deep\ndescription: d\nframes: 2\nrate_hz: 1\ncamera: {width_px: 64, height_px: 48}\n"
        "sensor: {bits: 12, mono: true}\nobjects:\n"
        "  - {name: dot, motion: {position_m: [0, 0, 9]}, point: {flux_e: 100000}}\n"
    )
    simulate(str(file), tmp_path / "out")
    stored = cv2.imread(str(tmp_path / "out/frames/000000.png"), cv2.IMREAD_UNCHANGED)
    assert (stored.dtype, stored.max()) == (np.uint16, 4095)
    frame = next(iter(FolderSource(tmp_path / "out")))
    assert frame.bits == 12
    assert np.array_equal(frame.samples, stored[..., 0])


def test_jpeg_spreads_a_hot_pixel_over_its_block_alone():
    """JPEG codes blocks of 8 by 8: what one pixel holds reaches no other block of a grey image."""
    spec = ObjectSpec("hot", MotionSpec((0.0, 0.0, 100.0)), point=PointSpec(0.3, flux_e=2000.0))
    sensor = replace(QUIET, psf_sigma_px=0.2, mono=True)
    images = [
        Scene(replace(EMPTY, objects=(spec,), sensor=replace(sensor, jpeg_quality=quality)), 0).render(0.0, IDENTITY)
        for quality in (0, 60)
    ]
    plain, packed = (image.image[..., 0].astype(int) for image in images)
    empty = np.ones((15, 20), dtype=bool)
    empty[tuple((np.argwhere(plain > 5) // 8).T)] = False
    blocks = packed.reshape(15, 8, 20, 8).swapaxes(1, 2).reshape(15, 20, 64)
    assert 1 <= (~empty).sum() <= 4
    assert (np.ptp(blocks[empty], axis=1) == 0).all()
    assert (np.ptp(plain.reshape(15, 8, 20, 8).swapaxes(1, 2).reshape(15, 20, 64)[~empty], axis=1) > 5).all()
    # Beside the spot its block is no longer flat.
    beyond = (packed != np.median(packed)) & (plain <= 5)
    assert beyond.sum() > 10
    assert packed.max() == pytest.approx(plain.max(), rel=0.3)


def sun_at(offset_px):
    """Direction of a Sun that is imaged at an offset from the image center."""
    return (offset_px[0], offset_px[1], FOCAL_PX)


@pytest.mark.parametrize("offset", [(30.0, -20.0), (-41.0, 12.0)])
def test_ghosts_lie_on_the_line_through_sun_and_center(offset):
    flare = SunFlare(FlareSpec(ghosts=6), CAMERA.model(), 3)
    ghosts = flare.ghosts_px(CENTER_PX + offset) - CENTER_PX
    assert ghosts[:, 0] * offset[1] - ghosts[:, 1] * offset[0] == pytest.approx(0, abs=1e-9)
    # A Sun that moves by d moves each ghost by its own share of d, and not by d.
    shares = ghosts @ np.array(offset) / np.dot(offset, offset)
    moved = flare.ghosts_px(CENTER_PX + offset + np.array([5.0, 2.0])) - CENTER_PX
    assert moved - ghosts == pytest.approx(np.outer(shares, [5.0, 2.0]))
    assert (shares < 0.75).all()
    assert np.ptp(shares) > 0.3


def test_the_column_through_the_sun_bleeds_from_top_to_bottom():
    flare = FlareSpec(glare_e=0.0, ghosts=0, column_e=3000.0, column_px=3.0)
    scene = Scene(replace(EMPTY, sun=sun_at((20.5, -10.5)), flare=flare), 0)
    image = scene.render(0.0, IDENTITY).image[..., 0].astype(int)
    assert image[49, 100] == 255
    assert (image[:, 99:102] > 150).all()
    assert (image[:, :97] <= 5).all()
    assert (image[:, 104:] <= 5).all()


def test_no_flare_without_the_sun():
    """Behind the camera, behind a body, or out of the sensor for the column."""
    flare = FlareSpec(column_e=3000.0)
    away = Scene(replace(EMPTY, sun=(0.0, 0.0, -1.0), flare=flare), 0).render(0.0, IDENTITY)
    wall = ObjectSpec("wall", MotionSpec((0.0, 0.0, 50.0)), mesh=MeshSpec("box", size_m=20.0))
    hidden = Scene(replace(EMPTY, sun=(0.0, 0.0, 1.0), flare=flare, objects=(wall,), ambient=0.0), 0)
    beside = Scene(replace(EMPTY, sun=sun_at((90.0, 0.0)), flare=replace(flare, ghosts=0, glare_e=0.0)), 0)
    assert away.image.max() <= 5
    assert hidden.render(0.0, IDENTITY).image.max() <= 5
    assert np.median(beside.render(0.0, IDENTITY).image) <= 5


TURNING = CameraSpec(width_px=160, height_px=120, attitude=AttitudeSpec(rate_deg_s=(0.0, 2.0, 0.0)))


def test_late_telemetry_lags_by_rate_times_age():
    scene = Scene(replace(EMPTY, camera=TURNING, telemetry=TelemetrySpec(late_s=0.05)), 0)
    for time_s in (0.0, 1.5):
        off = Rotation.from_quat(scene.programme_telemetry(time_s)).inv() * Rotation.from_quat(scene.programme(time_s))
        assert np.degrees(off.as_rotvec()) == pytest.approx([0.0, 0.1, 0.0], abs=1e-9)


def test_noise_of_telemetry_has_its_size_and_no_memory():
    """300 draws of 3 axes: the deviation is known to 2.4%, correlations to 0.06."""
    scene = Scene(replace(EMPTY, camera=TURNING, telemetry=TelemetrySpec(noise_arcsec=20.0)), 4)
    times = np.arange(300) / 2
    errors = np.array(
        [
            (
                Rotation.from_quat(scene.programme(t)).inv() * Rotation.from_quat(scene.programme_telemetry(t))
            ).as_rotvec()
            for t in times
        ]
    )
    assert np.degrees(errors.std()) * 3600 == pytest.approx(20.0, rel=0.08)
    assert abs(np.corrcoef(errors[:-1, 0], errors[1:, 0])[0, 1]) < 0.2


def test_a_flight_reports_the_same_lag_and_keeps_its_true_attitude():
    flight = Flight(replace(EMPTY, camera=TURNING, telemetry=TelemetrySpec(late_s=0.05)), 0)
    shot = [flight.shoot(index) for index in range(3)][-1]
    off = Rotation.from_quat(shot.telemetry_q_NB_xyzw).inv() * Rotation.from_quat(shot.q_NB_xyzw)
    assert np.degrees(off.magnitude()) == pytest.approx(0.1, abs=1e-6)
    plain = Flight(replace(EMPTY, camera=TURNING), 0)
    plain_shot = [plain.shoot(index) for index in range(3)][-1]
    assert plain_shot.telemetry_q_NB_xyzw == pytest.approx(shot.q_NB_xyzw)


def test_frames_carry_the_reported_attitude_and_truth_the_true_one(tmp_path):
    file = tmp_path / "late.yaml"
    file.write_text(
        "name: late\ndescription: d\nframes: 3\nrate_hz: 1\ntelemetry: {late_s: 0.1}\n"
        "camera: {width_px: 64, height_px: 48, attitude: {rate_deg_s: [0, 1, 0]}}\nobjects:\n"
        "  - {name: dot, motion: {position_m: [0, 0, 9]}, point: {flux_e: 100000}}\n"
    )
    simulate(str(file), tmp_path / "out")
    lines, truth = (
        [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]
        for name in ("frames.jsonl", "truth.jsonl")
    )
    assert Rotation.from_quat(lines[2]["q_NC_xyzw"]).magnitude() == pytest.approx(np.radians(1.9))
    # The resting point is truly 2 degrees from the boresight.
    assert np.arccos(truth[2]["bearing"][2]) == pytest.approx(np.radians(2.0), abs=1e-6)
    assert truth[2]["velocity_px_s"] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sensor": {"bits": 7}}, r"sensor.bits: 7 must be at least 8 and at most 16"),
        ({"sensor": {"bits": 12, "jpeg_quality": 80}}, r"sensor.jpeg_quality: 80 given for 12 bit"),
        ({"flare": {"ghosts": -1}}, r"flare.ghosts: -1 must be at least 0"),
        ({"flare": {"sun": 3}}, r"flare: unknown key 'sun'; known keys are sun_e"),
        ({"telemetry": {"late_s": 11}}, r"telemetry.late_s: 11.0 must be at least 0.0 and at most 10"),
    ],
)
def test_a_wrong_section_is_refused_by_name(section, message):
    with pytest.raises(SparsematchError, match=message):
        build(Scenario, {"name": "n", "description": "d", "frames": 2, "rate_hz": 1, **section}, "")


def test_truth_of_what_is_lit_is_the_half_that_faces_the_sun():
    """A sphere lit from the right: half of its disc, and the centroid 4 r / (3 pi) to the right of its center."""
    ball = ObjectSpec(
        "ball", MotionSpec((0.0, 0.0, 50.0)), mesh=MeshSpec("sphere", size_m=10.0, albedo=(1.0, 1.0, 1.0))
    )
    scenario = replace(EMPTY, objects=(ball,), sun=(1.0, 0.0, 0.0), ambient=0.0, sensor=replace(QUIET, white_e_s=1e7))
    whole, lit = (Scene(replace(scenario, truth_of=kind), 0).render(0.0, IDENTITY) for kind in ("silhouette", "lit"))
    radius_px = FOCAL_PX * np.tan(np.arcsin(0.1))
    assert np.array_equal(whole.image, lit.image)
    assert (whole.labels == 1).sum() == pytest.approx(np.pi * radius_px**2, rel=0.02)
    assert (lit.labels == 1).sum() == pytest.approx(np.pi * radius_px**2 / 2, rel=0.05)
    assert whole.centroids_px[1] == pytest.approx(CENTER_PX, abs=0.1)
    assert lit.centroids_px[1] == pytest.approx(CENTER_PX + np.array([4 * radius_px / (3 * np.pi), 0]), abs=0.4)


def test_what_is_not_lit_still_hides_what_lies_behind():
    wall = ObjectSpec("wall", MotionSpec((0.0, 0.0, 50.0)), mesh=MeshSpec("box", size_m=20.0))
    dot = ObjectSpec("dot", MotionSpec((0.0, 0.0, 100.0)), point=PointSpec(4.0, flux_e=20000.0))
    scenario = replace(EMPTY, objects=(wall, dot), sun=(0.0, 0.0, 1.0), ambient=0.0, truth_of="lit")
    rendered = Scene(scenario, 0).render(0.0, IDENTITY)
    assert rendered.centroids_px == {}
    assert rendered.image.max() <= 5
