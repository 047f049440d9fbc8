"""What a scenario says of the spacecraft as bodies with mass, for simulators that integrate their motion."""

from __future__ import annotations

from dataclasses import dataclass

from sparsematch_ros.simulation.object_specs import Vector3
from sparsematch_ros.simulation.strict_yaml import Checked, within


@dataclass(frozen=True)
class WheelsSpec(Checked):
    """Four equal reaction wheels, their spin axes on the edges of a pyramid about the body's z axis.

    Attributes:
        torque_nm: the most that a wheel's motor gives.
        momentum_nms: what a wheel stores at its highest speed.
        speed_rpm: that speed.
        elevation_deg: angle of the spin axes above the x-y plane; 35.26 gives all three body axes the same torque.

    """

    torque_nm: float = within(above=0.0, maximum=1e3, default=0.2)
    momentum_nms: float = within(above=0.0, maximum=1e5, default=12.0)
    speed_rpm: float = within(above=0.0, maximum=1e5, default=6000.0)
    elevation_deg: float = within(minimum=5.0, maximum=85.0, default=35.26)


@dataclass(frozen=True)
class ControlSpec(Checked):
    """Attitude control of the spacecraft that carries the camera: Basilisk's mrpFeedback, without integral.

    Attributes:
        rate_hz: how often flight software runs.
        bandwidth_rad_s: natural frequency of the closed attitude loop.
        damping: its damping ratio.

    """

    rate_hz: float = within(minimum=1.0, maximum=100.0, default=10.0)
    bandwidth_rad_s: float = within(above=0.0, maximum=20.0, default=1.0)
    damping: float = within(above=0.0, maximum=5.0, default=1.0)


@dataclass(frozen=True)
class SpacecraftSpec(Checked):
    """The spacecraft that carries the camera, and what its neighbours weigh. It starts on a circular orbit.

    Attributes:
        mass_kg: of the spacecraft that carries the camera.
        inertia_kg_m2: its principal moments, about the body's axes.
        orbit_normal: of the orbit at time 0, in N; what is not perpendicular to the nadir is left out.
        objects_inertia_kg_m2: principal moments of every object, which tumbles without torque.
        wheels: what turns it.
        control: what drives the wheels.

    """

    mass_kg: float = within(above=0.0, maximum=1e6, default=120.0)
    inertia_kg_m2: Vector3 = within(above=0.0, maximum=1e7, default=(10.0, 9.0, 8.0))
    orbit_normal: Vector3 = (0.0, 0.0, 1.0)
    objects_inertia_kg_m2: Vector3 = within(above=0.0, maximum=1e9, default=(60.0, 90.0, 100.0))
    wheels: WheelsSpec = WheelsSpec()
    control: ControlSpec = ControlSpec()
