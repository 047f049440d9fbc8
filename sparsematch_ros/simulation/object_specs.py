"""What a scenario says of its objects: how they move and turn, and what they look like."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.strict_yaml import Checked, one_of, within

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Range = tuple[float, float]

MODELS = ("satellite", "cubesat", "rocket_body", "panel", "box", "sphere")


@dataclass(frozen=True)
class WaypointSpec(Checked):
    """Where an object under thrust is at a later time: `position_m` in N."""

    time_s: float = within(above=0.0, maximum=1e6)
    position_m: Vector3 = within(minimum=-1e9, maximum=1e9)


@dataclass(frozen=True)
class MotionSpec(Checked):
    """How an object's centre moves.

    Attributes:
        kind: constant_velocity in N; or clohessy_wiltshire in the Hill frame of the scenario's orbit, whose axes are
            x radial, y along track, z cross track, and which coincides with N at time 0; or path, a cubic spline in N
            from the start through the waypoints, straight on after the last.
        position_m: at time 0, in N or Hill axes.
        velocity_m_s: at time 0, in N, or relative to the turning Hill frame.
        waypoints: of a path, in the order of their times.

    """

    position_m: Vector3
    velocity_m_s: Vector3 = (0.0, 0.0, 0.0)
    kind: str = one_of("constant_velocity", "clohessy_wiltshire", "path", default="constant_velocity")
    waypoints: tuple[WaypointSpec, ...] = ()

    def __post_init__(self) -> None:
        """Check that a path, and nothing else, has waypoints, and that they follow each other."""
        super().__post_init__()
        if (self.kind == "path") != bool(self.waypoints):
            raise SparsematchError(f"waypoints: {len(self.waypoints)} given for {self.kind}; a path alone has some")
        times = [waypoint.time_s for waypoint in self.waypoints]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise SparsematchError(f"waypoints: time_s {times} must grow from one to the next")


@dataclass(frozen=True)
class TurnSpec(Checked):
    """From a time on, another rate.

    Attributes:
        start_s: when the rate changes, at once [s].
        rate_deg_s: constant body rate from then on, in the body's own axes.

    """

    start_s: float = within(above=0.0, maximum=1e6)
    rate_deg_s: Vector3 = within(minimum=-180.0, maximum=180.0)


@dataclass(frozen=True)
class ShakeSpec(Checked):
    """Small random rotations in a band of frequencies, as wheels and panels make them; smooth in time.

    Attributes:
        rms_deg: standard deviation over time of the rotation about each axis.
        low_hz: lower end of the band.
        high_hz: upper end of the band.

    """

    rms_deg: float = within(above=0.0, maximum=5.0)
    low_hz: float = within(above=0.0, maximum=1000.0, default=0.3)
    high_hz: float = within(above=0.0, maximum=1000.0, default=3.0)

    def __post_init__(self) -> None:
        """Check that the band is one."""
        super().__post_init__()
        if not self.high_hz > self.low_hz:
            raise SparsematchError(f"high_hz: {self.high_hz} must be above low_hz, {self.low_hz}")


@dataclass(frozen=True)
class AttitudeSpec(Checked):
    """Attitude of a body B (an object, or the camera's optical frame) that turns at a constant rate in its own axes.

    Attributes:
        q_NB_xyzw: at time 0; need not be normalised.
        rate_deg_s: constant body rate, in B.
        turns: other rates from later times on, in their order: a programme of slews.
        shake: small rotations on top; only the camera's.
        jitter_deg: standard deviation an axis of a random attitude error, new in every frame.

    """

    q_NB_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)
    rate_deg_s: Vector3 = (0.0, 0.0, 0.0)
    turns: tuple[TurnSpec, ...] = ()
    shake: ShakeSpec | None = None
    jitter_deg: float = within(minimum=0.0, maximum=10.0, default=0.0)

    def __post_init__(self) -> None:
        """Check that the quaternion is one, and that the turns follow each other."""
        super().__post_init__()
        if not np.linalg.norm(self.q_NB_xyzw) > 1e-6:
            raise SparsematchError(f"q_NB_xyzw: {list(self.q_NB_xyzw)} has no direction, expected a quaternion")
        starts = [turn.start_s for turn in self.turns]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise SparsematchError(f"turns: start_s {starts} must grow from turn to turn")


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
        if self.attitude.jitter_deg or self.attitude.shake:
            key = "jitter_deg" if self.attitude.jitter_deg else "shake"
            raise SparsematchError(f"attitude.{key}: object '{self.name}' cannot jitter, only the camera can")


@dataclass(frozen=True)
class CloudSpec(Checked):
    """A cloud of many small objects, drawn anew by every seed: bodies first, then points, named `cloud_1` and on.

    Attributes:
        count: of objects.
        centre_m: of the box in which they start, in N.
        half_size_m: of that box along each axis; places are uniform in it.
        velocity_m_s: mean velocity.
        velocity_spread_m_s: standard deviation of each one's own velocity an axis.
        models: built-in models, which the bodies take in turn.
        size_m: least and largest longest side; sizes are uniform on a logarithmic scale.
        rate_deg_s: standard deviation of each body's rate an axis; attitudes are random.
        points: how many of the objects are points.
        diameter_px: least and largest diameter of a point, uniform.
        signal_to_noise: least and largest signal to noise of a point, uniform on a logarithmic scale.

    """

    centre_m: Vector3
    count: int = within(minimum=1, maximum=5000)
    half_size_m: Vector3 = within(minimum=0.0, maximum=1e7)
    velocity_m_s: Vector3 = (0.0, 0.0, 0.0)
    velocity_spread_m_s: float = within(minimum=0.0, maximum=1e5, default=0.0)
    models: tuple[str, ...] = one_of(*MODELS, default=("box",))
    size_m: Range = within(above=0.0, maximum=1e5, default=(0.5, 2.0))
    rate_deg_s: float = within(minimum=0.0, maximum=180.0, default=5.0)
    points: int = within(minimum=0, maximum=5000, default=0)
    diameter_px: Range = within(above=0.0, maximum=30.0, default=(2.0, 4.0))
    signal_to_noise: Range = within(above=0.0, maximum=1e4, default=(10.0, 50.0))

    def __post_init__(self) -> None:
        """Check what belongs together."""
        super().__post_init__()
        if self.points > self.count:
            raise SparsematchError(f"points: {self.points} must be at most count, {self.count}")
        if not self.models:
            raise SparsematchError(f"models: an empty list, give at least one of {', '.join(MODELS)}")
        for name in ("size_m", "diameter_px", "signal_to_noise"):
            low, high = getattr(self, name)
            if low > high:
                raise SparsematchError(f"{name}: [{low}, {high}] must be the least and the largest, in that order")
