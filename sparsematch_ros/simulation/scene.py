"""A scenario made visible: one image, and the truth about its pixels, for any time and camera attitude."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.canvas import Canvas
from sparsematch_ros.simulation.earth import Earth
from sparsematch_ros.simulation.faults import SensorFaults
from sparsematch_ros.simulation.flare import SunFlare
from sparsematch_ros.simulation.meshes import build_body
from sparsematch_ros.simulation.motion import BodyState, camera_state, turn_within
from sparsematch_ros.simulation.object_specs import PointSpec
from sparsematch_ros.simulation.pixels import Disc, Layer, PixelRays, disc_coverage
from sparsematch_ros.simulation.raycast import BodyCaster, View
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.sensor import (
    Samples,
    add_halo,
    blur_core,
    expose,
    flicker_gain,
    point_flux_e,
    sky_noise_e,
)
from sparsematch_ros.simulation.smear import RigidMotion, Smear
from sparsematch_ros.simulation.stars import add_spots, project_stars, random_sky
from sparsematch_ros.simulation.telemetry import programme_telemetry
from sparsematch_ros.simulation.variation import realise
from sparsematch_ros.simulation.world import ScenarioWorld, Snapshot, World, unit

# Light of an object that counts as seen, over the noise of an empty sky.
LIT_SIGMA = 3.0


@dataclass(frozen=True, eq=False)
class Rendered:
    """One image and the truth about it.

    Attributes:
        image: `(H, W, 3)` RGB, uint8, or uint16 where the sensor has more than 8 bit.
        labels: `(H, W)` uint16: 0 background, else the number of the object that fills at least half the pixel,
            counted from 1 in the scenario's order; before the point-spread function.
        centroids_px: by object number, `(2,)` the centroid of its visible part; only of objects that show.

    """

    image: Samples
    labels: NDArray[np.uint16]
    centroids_px: dict[int, FloatArray]


class Scene:
    """Renders one scenario. The same scenario, seed, time and attitude always give the same image.

    Attributes:
        scenario: as the seed makes it; its times and objects are the flight's.
        seed: of everything that is random.
        camera: intrinsics.
        world: where everything is.
        earth: Earth, or None where the scenario has none.

    """

    def __init__(self, scenario: Scenario, seed: int, world: World | None = None) -> None:
        """Build the meshes, the sky and Earth.

        Args:
            scenario: what is in the sky.
            seed: of everything that is random.
            world: where everything is; None for the scenario's own formulas.

        Raises:
            SparsematchError: where a mesh file cannot be read.

        """
        scenario = realise(scenario, seed)
        self.scenario, self.seed = scenario, seed
        self.camera = scenario.camera.model()
        self.world: World = world or ScenarioWorld(scenario)
        self._rays = PixelRays(self.camera)
        self._sun_N = unit(scenario.sun)
        self._casters = [
            BodyCaster(build_body(spec.mesh, Path(scenario.folder))) if spec.mesh else None for spec in scenario.objects
        ]
        self.earth = Earth(scenario.earth, seed) if scenario.earth else None
        self._faults = (
            SensorFaults(scenario.faults, self.camera.height, self.camera.width, seed) if scenario.faults else None
        )
        self._flare = SunFlare(scenario.flare, self.camera, seed) if scenario.flare else None
        # Always the whole catalogue, so that a scenario's limit does not move the bright stars.
        self._stars = random_sky(seed, 9.0).brighter_than(scenario.stars.limit_magnitude) if scenario.stars else None

    def programme(self, time_s: float) -> FloatArray:
        """Give the camera attitude `(4,)` q_NC, x, y, z, w, that the scenario plans for a time."""
        return camera_state(self.scenario, time_s, self.seed).rotation_NB.as_quat()

    def programme_telemetry(self, time_s: float) -> FloatArray:
        """Compute the attitude `(4,)` q_NC, x, y, z, w, that telemetry reports for a time of the programme."""
        return programme_telemetry(self.scenario, time_s, self.seed)

    def programme_turn(self, time_s: float) -> FloatArray:
        """Give the rotation vector `(3,)` [rad], in camera axes, by which the programme turns during an exposure."""
        return turn_within(self.scenario.camera.attitude, time_s, self.scenario.sensor.exposure_s, self.seed)

    def render(self, time_s: float, q_NC_xyzw: FloatArray, turn_C_rad: FloatArray | None = None) -> Rendered:
        """Take an image.

        Args:
            time_s: of the exposure's middle, since the scenario's start [s].
            q_NC_xyzw: `(4,)` attitude of the camera's optical frame then.
            turn_C_rad: `(3,)` rotation vector of the camera's turn during the exposure, in camera axes, for its smear;
                None for no smear.

        """
        sensor = self.scenario.sensor
        rotation_CN = Rotation.from_quat(q_NC_xyzw).inv()
        smear = None if turn_C_rad is None or not sensor.smear else Smear(self.camera, turn_C_rad)
        least_e = LIT_SIGMA * sky_noise_e(sensor) if self.scenario.truth_of == "lit" else 0.0
        canvas = Canvas(self.camera.height, self.camera.width, least_e)
        snapshot = self.world.at(time_s)
        self._draw_objects(canvas, snapshot, rotation_CN, smear)
        self._draw_earth(canvas, snapshot, rotation_CN, smear)
        core = blur_core(canvas.light_e, sensor)
        self._draw_stars(core, canvas, rotation_CN, smear)
        self._draw_flare(core, canvas, rotation_CN)
        return Rendered(self._expose(core, time_s), canvas.labels, canvas.centroids_px)

    def _expose(self, core: NDArray[np.float32], time_s: float) -> Samples:
        """Give the image that the sensor makes of light."""
        sensor, nanoseconds = self.scenario.sensor, round(time_s * 1e9)
        if self._faults is not None:
            self._faults.add_flashes(core, time_s)
        light = add_halo(core, sensor)
        if sensor.flicker > 0:
            light = light * flicker_gain(sensor, np.random.default_rng([self.seed, 5, nanoseconds]))
        if self._faults is not None:
            light = light + self._faults.electrons(time_s)[..., None]
        return expose(light, sensor, np.random.default_rng([self.seed, 4, nanoseconds]))

    def _draw_objects(self, canvas: Canvas, snapshot: Snapshot, rotation_CN: Rotation, smear: Smear | None) -> None:
        """Draw every object, the nearest first, each over what the nearer ones leave free."""
        camera_N, states = snapshot.camera.position_N_m, snapshot.objects
        ranges = [float(np.linalg.norm(state.position_N_m - camera_N)) for state in states]
        for row in np.argsort(ranges, kind="stable"):
            relative_C = rotation_CN.apply(states[row].position_N_m - camera_N)
            drawn = self._draw_object(int(row), states[row], relative_C, rotation_CN)
            if drawn is None:
                continue
            sharp, disc = drawn
            motion = self._motion_within(states[row], snapshot.camera, rotation_CN)
            canvas.add(int(row) + 1, sharp, sharp if smear is None else smear.layer(sharp, motion), disc)

    def _motion_within(self, state: BodyState, camera: BodyState, rotation_CN: Rotation) -> RigidMotion:
        """Compute the motion of an object during the exposure."""
        exposure_s = self.scenario.sensor.exposure_s
        return RigidMotion(
            rotation_CN.apply(state.position_N_m - camera.position_N_m),
            rotation_CN.apply(state.velocity_N_m_s - camera.velocity_N_m_s) * exposure_s,
            rotation_CN.apply(state.omega_BN_N_rad_s) * exposure_s,
        )

    def _draw_object(
        self, row: int, state: BodyState, relative_C: FloatArray, rotation_CN: Rotation
    ) -> tuple[Layer, Disc | None] | None:
        """Draw one object as at the exposure's middle; None where it is outside the image."""
        caster, point = self._casters[row], self.scenario.objects[row].point
        if caster is not None:
            layer = self._draw_body(caster, state, relative_C, rotation_CN)
            return None if layer is None else (layer, None)
        return None if point is None else self._draw_point(point, relative_C)

    def _draw_body(
        self, caster: BodyCaster, state: BodyState, relative_C: FloatArray, rotation_CN: Rotation
    ) -> Layer | None:
        rotation_BC = state.rotation_NB.inv() * rotation_CN.inv()
        box = self._rays.box(rotation_BC.inv().apply(caster.corners_B_m) + relative_C)
        if box is None:
            return None
        rays_C, samples = self._rays.sampled(box)
        sun_B = state.rotation_NB.inv().apply(self._sun_N)
        hit, brightness = caster.cast(
            rotation_BC.apply(rays_C), View(rotation_BC.apply(-relative_C), sun_B, self.scenario.ambient)
        )
        shape = (box.height, box.width, samples**2)
        sensor = self.scenario.sensor
        light_e = brightness.reshape(*shape, 3).mean(axis=2) * sensor.white_e_s * sensor.exposure_s
        return Layer(box, hit.reshape(shape).mean(axis=2), light_e)

    def _draw_point(self, point: PointSpec, relative_C: FloatArray) -> tuple[Layer, Disc] | None:
        if not self._rays.in_cone(relative_C):
            return None
        centre_px = self.camera.project(relative_C)[0]
        disc = disc_coverage(centre_px, point.diameter_px, self.camera.width, self.camera.height)
        if disc is None:
            return None
        area = np.pi * point.diameter_px**2 / 4
        flux = point_flux_e(point, self.scenario.sensor)
        light_e = np.repeat((disc.coverage / area * flux)[..., None], 3, axis=2)
        return Layer(disc.box, disc.coverage, light_e), disc

    def _draw_earth(self, canvas: Canvas, snapshot: Snapshot, rotation_CN: Rotation, smear: Smear | None) -> None:
        if self.earth is None:
            return
        view = self.earth.look(rotation_CN.inv().apply(self._rays.units), snapshot.nadir_N, self._sun_N)
        sensor = self.scenario.sensor
        light_e = (view.brightness * sensor.white_e_s * sensor.exposure_s).astype(np.float32)
        light_e = light_e.reshape(self.camera.height, self.camera.width, 3)
        canvas.add_background(light_e if smear is None else smear.image(light_e, self._rays.units), view.transmission)

    def _draw_stars(
        self, core: NDArray[np.float32], canvas: Canvas, rotation_CN: Rotation, smear: Smear | None
    ) -> None:
        """Add the stars that nothing hides, already blurred, because a spot's place is finer than a pixel."""
        if self._stars is None:
            return
        pixels, rows = project_stars(self._stars, self.camera, rotation_CN, self._rays.half_angle_rad)
        flux = 10 ** (-0.4 * self._stars.magnitudes[rows]) * canvas.free_at(pixels)
        sensor = self.scenario.sensor
        fluxes = flux[:, None] * self._stars.colours[rows] * sensor.magnitude_zero_e_s * sensor.exposure_s
        if smear is not None and len(pixels):
            pixels, fluxes = smear.spots(pixels, fluxes, rotation_CN.apply(self._stars.directions_N[rows]))
        add_spots(core, pixels, fluxes, sensor.psf_sigma_px)

    def _draw_flare(self, core: NDArray[np.float32], canvas: Canvas, rotation_CN: Rotation) -> None:
        """Add what the Sun makes of the image, where it is in the field."""
        sun_C = rotation_CN.apply(self._sun_N)
        if self._flare is None or not self._rays.in_cone(sun_C):
            return
        sun_px = self.camera.project(sun_C[None])
        self._flare.add(core, sun_px[0], float(canvas.free_at(sun_px)[0]))
