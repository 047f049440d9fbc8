"""Scenarios: what is in the sky, how it moves, and which camera looks at it, read strictly from YAML.

The inertial frame N has fixed axes and its origin moves with the reference orbit, so that positions are relative.
Vectors are metres in N unless a name says otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.strict_yaml import Checked, load_strict, one_of, within

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

MODELS = ("satellite", "cubesat", "rocket_body", "box", "sphere")
SHARE_FOLDER = Path("share") / "sparsematch_ros"


@dataclass(frozen=True)
class MotionSpec(Checked):
    """How an object's centre moves.

    Attributes:
        kind: constant_velocity in N, or clohessy_wiltshire in the Hill frame of the scenario's orbit, whose axes are
            x radial, y along track, z cross track, and which coincides with N at time 0.
        position_m: at time 0, in N or Hill axes.
        velocity_m_s: at time 0, in N, or relative to the turning Hill frame.

    """

    position_m: Vector3
    velocity_m_s: Vector3 = (0.0, 0.0, 0.0)
    kind: str = one_of("constant_velocity", "clohessy_wiltshire", default="constant_velocity")


@dataclass(frozen=True)
class AttitudeSpec(Checked):
    """Attitude of a body B (an object, or the camera's optical frame) that turns at a constant rate in its own axes.

    Attributes:
        q_NB_xyzw: at time 0; need not be normalised.
        rate_deg_s: constant body rate, in B.
        jitter_deg: standard deviation an axis of a random attitude error, new in every frame.

    """

    q_NB_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)
    rate_deg_s: Vector3 = (0.0, 0.0, 0.0)
    jitter_deg: float = within(minimum=0.0, maximum=10.0, default=0.0)

    def __post_init__(self) -> None:
        """Check that the quaternion is one."""
        super().__post_init__()
        if not np.linalg.norm(self.q_NB_xyzw) > 1e-6:
            raise SparsematchError(f"q_NB_xyzw: {list(self.q_NB_xyzw)} has no direction, expected a quaternion")


@dataclass(frozen=True)
class MeshSpec(Checked):
    """A body with a surface.

    Attributes:
        model: a built-in model; ignored where `file` is given.
        file: a mesh file that trimesh reads, relative to the scenario's folder; empty for none.
        size_m: the longest side of the bounding box; 0 keeps the model's own size.
        albedo: of a file without colours, and of the box and sphere, red, green, blue.

    """

    model: str = one_of(*MODELS, default="satellite")
    file: str = ""
    size_m: float = within(minimum=0.0, maximum=1e5, default=0.0)
    albedo: Vector3 = within(minimum=0.0, maximum=1.0, default=(0.6, 0.6, 0.6))


@dataclass(frozen=True)
class PointSpec(Checked):
    """A body too small to show a shape: a uniform disc of a given brightness, blurred by the optics.

    Attributes:
        diameter_px: of the disc before the point-spread function.
        signal_to_noise: flux over its noise in a matched aperture; 0 where `flux_e` is given.
        flux_e: electrons in one exposure and channel; 0 where `signal_to_noise` is given.

    """

    diameter_px: float = within(above=0.0, maximum=30.0, default=3.0)
    signal_to_noise: float = within(minimum=0.0, maximum=1e4, default=0.0)
    flux_e: float = within(minimum=0.0, maximum=1e9, default=0.0)

    def __post_init__(self) -> None:
        """Check that there is one brightness."""
        super().__post_init__()
        if (self.signal_to_noise > 0) == (self.flux_e > 0):
            raise SparsematchError("signal_to_noise: exactly one of signal_to_noise and flux_e must be above 0")


@dataclass(frozen=True)
class ObjectSpec(Checked):
    """One object: exactly one of `mesh` and `point`."""

    name: str
    motion: MotionSpec
    attitude: AttitudeSpec = AttitudeSpec()
    mesh: MeshSpec | None = None
    point: PointSpec | None = None

    def __post_init__(self) -> None:
        """Check that there is one look."""
        super().__post_init__()
        if (self.mesh is None) == (self.point is None):
            raise SparsematchError(f"mesh: object '{self.name}' must have exactly one of mesh and point")
        if self.attitude.jitter_deg:
            raise SparsematchError(f"attitude.jitter_deg: object '{self.name}' cannot jitter, only the camera can")


@dataclass(frozen=True)
class SensorSpec(Checked):
    """From light to numbers.

    Attributes:
        exposure_s: integration time; motion within it is not drawn.
        psf_sigma_px: width of the point-spread function's Gaussian core.
        halo_fraction: share of the light in a wide halo around the core.
        halo_sigma_px: width of the halo.
        read_noise_e: standard deviation of a pixel's read noise.
        dark_e_s: dark current and sky background a pixel.
        saturation_e: electrons that give 255.
        black_level: grey level of no light.
        gamma: grey = 255 * (light / saturation)^(1 / gamma); 1 is a linear sensor.
        white_e_s: from a pixel filled by a white diffuse surface that faces the Sun.
        magnitude_zero_e_s: from a star of magnitude 0, all its pixels together. Real cameras see sunlit surfaces far
            brighter beside the stars than 8 bits can hold; scenarios choose both figures so that both show.

    """

    exposure_s: float = within(above=0.0, maximum=100.0, default=0.02)
    psf_sigma_px: float = within(minimum=0.2, maximum=10.0, default=0.8)
    halo_fraction: float = within(minimum=0.0, maximum=0.5, default=0.03)
    halo_sigma_px: float = within(minimum=0.2, maximum=50.0, default=5.0)
    read_noise_e: float = within(minimum=0.0, maximum=1e5, default=15.0)
    dark_e_s: float = within(minimum=0.0, maximum=1e7, default=500.0)
    saturation_e: float = within(above=0.0, maximum=1e7, default=4000.0)
    black_level: float = within(minimum=0.0, maximum=100.0, default=4.0)
    gamma: float = within(minimum=0.5, maximum=4.0, default=1.0)
    white_e_s: float = within(minimum=0.0, maximum=1e9, default=250000.0)
    magnitude_zero_e_s: float = within(minimum=0.0, maximum=1e12, default=4e6)


@dataclass(frozen=True)
class StarsSpec(Checked):
    """Stars over the whole sky, random but seeded.

    Attributes:
        limit_magnitude: the faintest that are drawn.

    """

    limit_magnitude: float = within(minimum=-2.0, maximum=9.0, default=7.0)


@dataclass(frozen=True)
class EarthSpec(Checked):
    """Earth as a lit sphere with an atmosphere.

    Attributes:
        nadir: direction from the camera to Earth's centre, in N at time 0; turns with the orbit where there is one.
        altitude_km: of the camera.
        atmosphere_km: scale height of the glow at the limb.
        brightness: of clouds facing the Sun, in units of a white surface.

    """

    nadir: Vector3
    altitude_km: float = within(above=0.0, maximum=1e6, default=500.0)
    atmosphere_km: float = within(above=0.0, maximum=500.0, default=14.0)
    brightness: float = within(minimum=0.0, maximum=10.0, default=0.7)


@dataclass(frozen=True)
class SlewSpec(Checked):
    """What the spacecraft that carries the camera can do in a closed loop."""

    max_rate_deg_s: float = within(above=0.0, maximum=180.0, default=2.0)
    max_acceleration_deg_s2: float = within(above=0.0, maximum=1000.0, default=1.0)


@dataclass(frozen=True)
class CameraSpec(Checked):
    """The camera and the spacecraft that carries it.

    Attributes:
        attitude: programme of the optical frame C in N (its `q_NB_xyzw` is q_NC) when nothing else commands it.
        q_BC_xyzw: rotation from the optical frame to the spacecraft's body frame.
        motion: of the camera's centre of projection.
        distortion: coefficients in OpenCV's order; empty for none.

    """

    width_px: int = within(minimum=16, maximum=8192, default=640)
    height_px: int = within(minimum=16, maximum=8192, default=480)
    horizontal_fov_deg: float = within(above=0.0, maximum=150.0, default=40.0)
    distortion_model: str = one_of("plumb_bob", "rational_polynomial", "equidistant", default="plumb_bob")
    distortion: tuple[float, ...] = ()
    motion: MotionSpec = MotionSpec(position_m=(0.0, 0.0, 0.0))
    attitude: AttitudeSpec = AttitudeSpec()
    q_BC_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)
    slew: SlewSpec = SlewSpec()

    def __post_init__(self) -> None:
        """Check that the coefficients fit their model."""
        super().__post_init__()
        counts = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "equidistant": (4,)}[self.distortion_model]
        if len(self.distortion) not in counts:
            wanted = " or ".join(str(count) for count in counts)
            raise SparsematchError(
                f"distortion: {len(self.distortion)} coefficients, {self.distortion_model} has {wanted}"
            )

    def model(self) -> CameraModel:
        """Build the intrinsics."""
        ideal = CameraModel.from_fov(self.width_px, self.height_px, self.horizontal_fov_deg)
        return CameraModel(
            self.width_px,
            self.height_px,
            ideal.matrix,
            np.array(self.distortion, dtype=np.float64),
            self.distortion_model,
        )


@dataclass(frozen=True)
class Scenario(Checked):
    """Everything that a flight is made of.

    Attributes:
        sun: direction to the Sun in N; need not be normalised.
        ambient: light on faces turned from the Sun, in units of sunlight.
        orbit_rate_rad_s: mean motion of the reference orbit, about +z of N; 0 for none.
        folder: where the scenario file lies; mesh files are relative to it.

    """

    name: str
    description: str
    frames: int = within(minimum=1, maximum=10**6)
    rate_hz: float = within(above=0.0, maximum=1000.0)
    sun: Vector3 = (0.0, 0.0, -1.0)
    ambient: float = within(minimum=0.0, maximum=1.0, default=0.02)
    orbit_rate_rad_s: float = within(minimum=0.0, maximum=0.01, default=0.0)
    camera: CameraSpec = CameraSpec()
    sensor: SensorSpec = SensorSpec()
    stars: StarsSpec | None = None
    earth: EarthSpec | None = None
    objects: tuple[ObjectSpec, ...] = ()
    folder: str = field(default=".", metadata={"internal": True})

    def __post_init__(self) -> None:
        """Check what belongs together."""
        super().__post_init__()
        moving = [spec.motion for spec in self.objects] + [self.camera.motion]
        if self.orbit_rate_rad_s == 0 and any(motion.kind == "clohessy_wiltshire" for motion in moving):
            raise SparsematchError("orbit_rate_rad_s: 0.0 must be above 0 for clohessy_wiltshire motion")
        for name, vector in (("sun", self.sun), ("earth.nadir", self.earth.nadir if self.earth else (1, 0, 0))):
            if not np.linalg.norm(vector) > 1e-6:
                raise SparsematchError(f"{name}: {list(vector)} has no direction, expected a vector that is not zero")

    def time_s(self, frame: int) -> float:
        """Give the time of a frame [s], a whole number of nanoseconds."""
        return round(frame / self.rate_hz * 1e9) / 1e9


def scenario_folders() -> list[Path]:
    """List the folders with named scenarios: the source tree's, and the installed share folders'."""
    parents = [*Path(__file__).parents, *Path(__file__).resolve().parents]
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    bases = [Path(__file__).resolve().parents[2], *(base / SHARE_FOLDER for base in [*parents, *prefixes])]
    folders = [base / "config" / "scenarios" for base in bases]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def find_scenario(name: str) -> Path:
    """Find a scenario by name or path.

    Raises:
        SparsematchError: where there is none; the message lists the named ones.

    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        if Path(name).is_file():
            return Path(name)
        raise SparsematchError(f"scenario file {name} does not exist")
    for folder in scenario_folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in scenario_folders() for path in folder.glob("*.yaml")})
    raise SparsematchError(f"scenario '{name}' is unknown; give a YAML file or one of: {', '.join(known) or '(none)'}")


def load_scenario(name: str) -> Scenario:
    """Load a scenario by name or path.

    Raises:
        SparsematchError: where it does not exist or a key is unknown, missing or wrong.

    """
    path = find_scenario(name)
    return replace(load_strict(Scenario, path), folder=str(path.resolve().parent))
