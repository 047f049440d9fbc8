"""The spacecraft that carries the camera: it turns toward what is asked, within limits of rate and acceleration."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.camera_specs import CameraSpec
from sparsematch_ros.simulation.motion import body_rate_rad_s, planned_attitude

# Internal step: short enough that the braking curve is followed to a thousandth of a degree.
STEP_S = 0.01


def _clip_norm(vector: FloatArray, limit: float) -> FloatArray:
    norm = float(np.linalg.norm(vector))
    return vector if norm <= limit else vector * (limit / norm)


class CameraBody:
    """Attitude of the body B in N. Without a request it follows the scenario's programme, but not its small shaking.

    Attributes:
        omega_BN_N_rad_s: `(3,)` angular velocity, in N.

    """

    def __init__(self, spec: CameraSpec) -> None:
        """Start on the programme, at its rate as far as the limits allow."""
        self._max_rate = float(np.radians(spec.slew.max_rate_deg_s))
        self._max_acceleration = float(np.radians(spec.slew.max_acceleration_deg_s2))
        self._rotation_BC = Rotation.from_quat(spec.q_BC_xyzw)
        rotation_NC = Rotation.from_quat(spec.attitude.q_NB_xyzw)
        self._rotation_NB = rotation_NC * self._rotation_BC.inv()
        # Followed until something else is asked; None where the rate is constant and needs no looking up.
        self._programme = spec.attitude if spec.attitude.turns else None
        self._time_s = 0.0
        self._target_NB = self._rotation_NB
        self._target_omega_N: FloatArray = rotation_NC.apply(np.radians(spec.attitude.rate_deg_s))
        self.omega_BN_N_rad_s: FloatArray = _clip_norm(self._target_omega_N, self._max_rate)

    @property
    def q_NB_xyzw(self) -> FloatArray:
        """Give the body's attitude `(4,)`."""
        return self._rotation_NB.as_quat()

    @property
    def q_NC_xyzw(self) -> FloatArray:
        """Give the camera's attitude `(4,)`."""
        return (self._rotation_NB * self._rotation_BC).as_quat()

    @property
    def off_target_rad(self) -> float:
        """Give the angle to the attitude that is asked for [rad]."""
        return float((self._target_NB * self._rotation_NB.inv()).magnitude())

    def follow(self, q_NB_xyzw: FloatArray, omega_BN_N_rad_s: FloatArray | None = None, age_s: float = 0.0) -> None:
        """Turn toward an attitude from now on, and with it as it turns.

        Args:
            q_NB_xyzw: `(4,)` requested attitude.
            omega_BN_N_rad_s: `(3,)` angular velocity of the requested attitude in N; None for at rest.
            age_s: how long ago the attitude held [s]; it is carried forward by its angular velocity.

        Raises:
            SparsematchError: where a number is not finite or the quaternion is zero.

        """
        omega = np.zeros(3) if omega_BN_N_rad_s is None else np.asarray(omega_BN_N_rad_s, dtype=np.float64)
        quaternion = np.asarray(q_NB_xyzw, dtype=np.float64)
        if not (np.isfinite(quaternion).all() and np.isfinite(omega).all() and np.linalg.norm(quaternion) > 1e-6):
            raise SparsematchError(
                f"attitude {quaternion.tolist()} turning with {omega.tolist()} rad/s cannot be followed: "
                "both must be finite and the quaternion not zero"
            )
        self._programme = None
        self._target_NB = Rotation.from_rotvec(omega * age_s) * Rotation.from_quat(quaternion)
        self._target_omega_N = omega

    def hold(self) -> None:
        """Come to rest, and stay at the attitude where the body is now."""
        self.follow(self.q_NB_xyzw)

    def step(self, dt_s: float) -> None:
        """Let time pass.

        Raises:
            SparsematchError: where time would go back.

        """
        if not dt_s >= 0:
            raise SparsematchError(f"time step {dt_s} s: must be at least 0")
        count = int(np.ceil(dt_s / STEP_S))
        for _ in range(count):
            self._small_step(dt_s / count)

    def _small_step(self, dt_s: float) -> None:
        wanted = _clip_norm(self._wanted_omega(dt_s), self._max_rate)
        self._move_target(dt_s)
        before = self.omega_BN_N_rad_s
        after = before + _clip_norm(wanted - before, self._max_acceleration * dt_s)
        self.omega_BN_N_rad_s = after
        self._rotation_NB = Rotation.from_rotvec((before + after) / 2 * dt_s) * self._rotation_NB

    def _move_target(self, dt_s: float) -> None:
        self._time_s += dt_s
        if self._programme is None:
            self._target_NB = Rotation.from_rotvec(self._target_omega_N * dt_s) * self._target_NB
            return
        rotation_NC = planned_attitude(self._programme, self._time_s)
        self._target_NB = rotation_NC * self._rotation_BC.inv()
        self._target_omega_N = rotation_NC.apply(body_rate_rad_s(self._programme, self._time_s))

    def _wanted_omega(self, dt_s: float) -> FloatArray:
        """Give the target's rate, and on top the fastest closing rate about the eigenaxis that can still be braked."""
        error = (self._target_NB * self._rotation_NB.inv()).as_rotvec()
        angle = float(np.linalg.norm(error))
        if angle < 1e-12:
            return self._target_omega_N
        # Distance to a stop from v, in steps: v dt / 2 + v^2 / (2 a) = angle; a tenth of the acceleration is kept back
        # for the turning of the eigenaxis.
        a = 0.9 * self._max_acceleration
        rate = -a * dt_s / 2 + float(np.sqrt((a * dt_s / 2) ** 2 + 2 * a * angle))
        return self._target_omega_N + error / angle * min(rate, angle / dt_s)
