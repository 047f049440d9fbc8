"""What the spacecraft reports of its attitude: late and noisy, where the scenario asks for it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.camera_specs import TelemetrySpec
from sparsematch_ros.simulation.motion import camera_state
from sparsematch_ros.simulation.scenario import Scenario


def programme_telemetry(scenario: Scenario, time_s: float, seed: int) -> FloatArray:
    """Compute the camera attitude `(4,)` q_NC, x, y, z, w, reported for a time while the programme is flown."""
    spec = scenario.telemetry or TelemetrySpec()
    rotation_NC = camera_state(scenario, time_s - spec.late_s, seed).rotation_NB
    return _with_noise(spec, rotation_NC, time_s, seed).as_quat()


def flight_telemetry(
    spec: TelemetrySpec | None, q_NB_xyzw: FloatArray, omega_BN_N_rad_s: FloatArray, time_s: float, seed: int
) -> FloatArray:
    """Compute the body attitude `(4,)` reported while a spacecraft turns at a rate that is taken as constant.

    Args:
        spec: errors of the telemetry; None for none.
        q_NB_xyzw: `(4,)` true attitude.
        omega_BN_N_rad_s: `(3,)` true angular velocity, in N.
        time_s: since the scenario's start [s].
        seed: of the noise.

    """
    if spec is None:
        return q_NB_xyzw
    earlier_NB = Rotation.from_rotvec(-omega_BN_N_rad_s * spec.late_s) * Rotation.from_quat(q_NB_xyzw)
    return _with_noise(spec, earlier_NB, time_s, seed).as_quat()


def _with_noise(spec: TelemetrySpec, rotation_NB: Rotation, time_s: float, seed: int) -> Rotation:
    """Turn an attitude by the noise of one report, about its own axes."""
    if spec.noise_arcsec == 0:
        return rotation_NB
    rng = np.random.default_rng([seed, 15, round(time_s * 1e9)])
    return rotation_NB * Rotation.from_rotvec(np.radians(rng.normal(0, spec.noise_arcsec / 3600, 3)))
