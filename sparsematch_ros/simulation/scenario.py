"""Scenarios: what is in the sky, how it moves, and which camera looks at it, read strictly from YAML.

The inertial frame N has fixed axes and its origin moves with the reference orbit, so that positions are relative.
Vectors are metres in N unless a name says otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.camera_specs import (
    CameraSpec,
    FaultsSpec,
    FlareSpec,
    SensorSpec,
    TelemetrySpec,
    TimingSpec,
)
from sparsematch_ros.simulation.object_specs import CloudSpec, ObjectSpec, Vector3
from sparsematch_ros.simulation.spacecraft_specs import SpacecraftSpec
from sparsematch_ros.simulation.strict_yaml import Checked, load_strict, one_of, within
from sparsematch_ros.simulation.timing import frame_tick

SHARE_FOLDER = Path("share") / "sparsematch_ros"


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
        clouds: how much of the ground clouds cover: they lie where noise in [0, 1] exceeds 1 - `clouds`.
        cloud_octaves: octaves of that noise, the finest of 160 km / 2^(octaves - 1).

    """

    nadir: Vector3
    altitude_km: float = within(above=0.0, maximum=1e6, default=500.0)
    atmosphere_km: float = within(above=0.0, maximum=500.0, default=14.0)
    brightness: float = within(minimum=0.0, maximum=10.0, default=0.7)
    clouds: float = within(minimum=0.0, maximum=1.0, default=0.5)
    cloud_octaves: int = within(minimum=1, maximum=9, default=5)


@dataclass(frozen=True)
class VariationSpec(Checked):
    """How far seeds other than 0 depart from the scenario as it is written, which is seed 0's flight.

    Angles are uniform up to the one given, either way; axes are random. The first two turn all objects as one about the
    camera, with their velocities and attitudes, so that who hides whom stays as it is. The others are drawn for each
    object by itself. Objects of the cloud are random anyway, and only turn with the rest.

    Attributes:
        tilt_deg: turn about an axis across the boresight.
        roll_deg: turn about the boresight.
        offset_deg: change of an object's direction as seen from the camera.
        heading_deg: change of the direction of its velocity; paths keep theirs.
        speed_share: change of its speed, as a share of it; paths keep theirs.
        attitude_deg: change of its attitude.

    """

    tilt_deg: float = within(minimum=0.0, maximum=90.0, default=0.0)
    roll_deg: float = within(minimum=0.0, maximum=180.0, default=0.0)
    offset_deg: float = within(minimum=0.0, maximum=90.0, default=0.0)
    heading_deg: float = within(minimum=0.0, maximum=180.0, default=0.0)
    speed_share: float = within(minimum=0.0, maximum=0.9, default=0.0)
    attitude_deg: float = within(minimum=0.0, maximum=180.0, default=0.0)


@dataclass(frozen=True)
class Scenario(Checked):
    """Everything that a flight is made of.

    Attributes:
        sun: direction to the Sun in N; need not be normalised.
        ambient: light on faces turned from the Sun, in units of sunlight.
        orbit_rate_rad_s: mean motion of the reference orbit, about +z of N; 0 for none.
        spacecraft: masses, wheels and control, for a simulator that integrates the motion.
        timing: irregular times of the images; None for every tick of the clock.
        faults: what the sensor makes up; None for nothing.
        flare: what the Sun makes of the image when it is in the field; None for nothing.
        telemetry: errors of the reported attitudes; None for none.
        cloud: many small objects beside the others.
        truth_of: what masks and centroids of the truth count: "silhouette", all that an object covers; "lit", only what
            stands 3 sigma above the noise of an empty sky.
        variation: how seeds differ; None: in noise, stars and the cloud alone.
        seed: of the times of the images.
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
    spacecraft: SpacecraftSpec = SpacecraftSpec()
    timing: TimingSpec | None = None
    faults: FaultsSpec | None = None
    flare: FlareSpec | None = None
    telemetry: TelemetrySpec | None = None
    stars: StarsSpec | None = None
    earth: EarthSpec | None = None
    truth_of: str = one_of("silhouette", "lit", default="silhouette")
    objects: tuple[ObjectSpec, ...] = ()
    cloud: CloudSpec | None = None
    variation: VariationSpec | None = None
    seed: int = field(default=0, metadata={"internal": True})
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
        tick = frame if self.timing is None else frame_tick(self.timing, frame, self.seed)
        return round(tick / self.rate_hz * 1e9) / 1e9


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
