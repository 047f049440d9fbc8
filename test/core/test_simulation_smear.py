"""Objects smear with their own motion during the exposure; expected lengths from geometry."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from sparsematch_ros.simulation.camera_specs import CameraSpec, SensorSpec
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MeshSpec, MotionSpec, ObjectSpec, PointSpec
from sparsematch_ros.simulation.pixels import Layer, PixelBox
from sparsematch_ros.simulation.scenario import EarthSpec, Scenario
from sparsematch_ros.simulation.scene import Scene

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
NO_TURN = np.zeros(3)
QUIET = SensorSpec(
    read_noise_e=0.0, dark_e_s=0.0, saturation_e=40000.0, halo_fraction=0.0, white_e_s=1e5, exposure_s=0.5
)
CAMERA = CameraSpec(width_px=160, height_px=120)
EMPTY = Scenario("test", "for a test", frames=10, rate_hz=2.0, sensor=QUIET, camera=CAMERA)
FOCAL_PX = CAMERA.model().matrix[0, 0]
AT_REST = AttitudeSpec()
POINT = PointSpec(3.0, flux_e=2e5)
BALL = MeshSpec("sphere", size_m=3.0, albedo=(1.0, 1.0, 1.0))


def scene_with(velocity_m_s, attitude=AT_REST, **look):
    motion = MotionSpec((0.0, 0.0, 30.0), velocity_m_s)
    return Scene(replace(EMPTY, objects=(ObjectSpec("thing", motion, attitude, **look),)), 0)


def moments(image):
    """Center `(2,)` (column, row) and variances `(2,)` [px^2] of the light of an image."""
    light = np.maximum(image.astype(float).mean(axis=2) - 4, 0)
    row, column = center_of_mass(light)
    grid_y, grid_x = np.mgrid[: light.shape[0], : light.shape[1]]
    spread = [(light * (grid - middle) ** 2).sum() / light.sum() for grid, middle in ((grid_x, column), (grid_y, row))]
    return np.array([column, row]), np.array(spread)


@pytest.mark.parametrize("look", [{"point": POINT}, {"mesh": BALL}], ids=["point", "body"])
def test_an_object_smears_by_its_way_across_the_line_of_sight(look):
    """A uniform path of L px adds L^2 / 12 to the variance along it, and nothing across it."""
    path_px = 10.0
    speed_m_s = path_px * 30.0 / FOCAL_PX / QUIET.exposure_s
    scene = scene_with((speed_m_s, 0.0, 0.0), **look)
    still, moved = scene.render(0.0, IDENTITY), scene.render(0.0, IDENTITY, NO_TURN)
    (center, variance), (smeared_center, smeared_variance) = moments(still.image), moments(moved.image)
    assert smeared_center == pytest.approx(center, abs=0.1)
    assert smeared_variance[0] - variance[0] == pytest.approx(path_px**2 / 12, rel=0.08)
    assert smeared_variance[1] == pytest.approx(variance[1], rel=0.06)
    assert np.array_equal(still.labels, moved.labels)
    assert moved.centroids_px[1] == pytest.approx(still.centroids_px[1])


def test_an_object_that_turns_with_the_camera_stays_sharp():
    """The camera turns after the object, so that its image rests: the smear of both motions is zero."""
    rate_rad_s = 0.1
    scene = scene_with((30.0 * rate_rad_s, 0.0, 0.0), point=POINT)
    turn_rad = np.array([0.0, rate_rad_s * QUIET.exposure_s, 0.0])
    still, followed = scene.render(0.0, IDENTITY), scene.render(0.0, IDENTITY, turn_rad)
    (_, variance), (_, followed_variance) = moments(still.image), moments(followed.image)
    passed = moments(scene.render(0.0, IDENTITY, NO_TURN).image)[1]
    assert followed_variance == pytest.approx(variance, abs=0.1)
    assert passed[0] > variance[0] + (0.05 * FOCAL_PX) ** 2 / 12 * 0.9


def test_a_body_that_rolls_smears_at_its_rim_alone():
    """A turn of a rad moves a point at r px by a r, across its arm: the box's corners are dimmed, its middle is not."""
    spin_deg_s = 60.0
    attitude = AttitudeSpec(rate_deg_s=(0.0, 0.0, spin_deg_s))
    scene = scene_with((0.0, 0.0, 0.0), attitude=attitude, mesh=MeshSpec("box", size_m=6.0, albedo=(1.0, 1.0, 1.0)))
    still, turned = (scene.render(0.0, IDENTITY, turn).image.astype(float) for turn in (None, NO_TURN))
    half_px = 3.0 / 27.0 * FOCAL_PX
    corner = np.rint(np.array([79.5, 59.5]) + half_px - 2).astype(int)
    assert turned[60, 80] == pytest.approx(still[60, 80], abs=1.5)
    assert turned[corner[1], corner[0], 0] < 0.8 * still[corner[1], corner[0], 0]
    # Light is moved, not lost.
    assert (turned - 4).sum() == pytest.approx((still - 4).sum(), rel=0.02)


def test_an_approaching_body_smears_away_from_its_center():
    """A change of range by a share s moves a point at r px by s r, so a pixel beyond the rim is lit in part."""
    scene = scene_with((0.0, 0.0, -12.0), mesh=MeshSpec("sphere", size_m=12.0, albedo=(1.0, 1.0, 1.0)))
    still, grown = (scene.render(0.0, IDENTITY, turn).image.astype(float).mean(axis=2) for turn in (None, NO_TURN))
    rim = int(np.flatnonzero(still[60] > 6)[-1]) + 3
    assert still[60, rim] < 5
    assert grown[60, rim] > 10
    assert grown[60, 80] == pytest.approx(still[60, 80], abs=1.5)


def test_what_rests_before_earth_is_as_sharp_as_without_smear():
    earth = EarthSpec((0.0, 0.0, 1.0), altitude_km=500.0)
    thing = ObjectSpec("thing", MotionSpec((0.0, 0.0, 30.0)), mesh=BALL)
    scene = Scene(replace(EMPTY, earth=earth, objects=(thing,)), 0)
    images = [scene.render(0.0, IDENTITY, turn).image for turn in (None, NO_TURN)]
    assert np.array_equal(*images)


def test_a_layer_grows_only_inside_the_image():
    layer = Layer(PixelBox(1, 2, 5, 6), np.ones((4, 4)), np.ones((4, 4, 3))).grown(3, 7, 20)
    assert layer.box == PixelBox(0, 0, 7, 9)
    assert layer.coverage.shape == layer.light_e.shape[:2] == (9, 7)
    assert (layer.coverage.sum(), layer.coverage[2:6, 1:5].sum()) == (16, 16)
