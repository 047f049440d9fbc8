"""What is written down of a controlled spacecraft every time its flight software runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation, Slerp

from sparsematch_ros.data import FloatArray

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Telemetry:
    """The spacecraft over time: N samples, W wheels, K objects.

    Attributes:
        times_s: `(N,)` since the scenario's start [s].
        q_NB_xyzw: `(N, 4)` attitude.
        rates_rad_s: `(N, 3)` angular velocity, in B.
        torques_nm: `(N, W)` of the wheels' motors.
        speeds_rad_s: `(N, W)` of the wheels.
        bearings_N: `(N, K, 3)` unit vectors to the objects' centers of mass.

    """

    times_s: FloatArray
    q_NB_xyzw: FloatArray
    rates_rad_s: FloatArray
    torques_nm: FloatArray
    speeds_rad_s: FloatArray
    bearings_N: FloatArray

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> Telemetry:
        """Gather the lines of `dynamics.jsonl`."""
        rows = list(records)
        return cls(*(np.array([row[key] for row in rows], dtype=np.float64) for key in KEYS))

    def boresights_N(self, boresight_B: FloatArray) -> FloatArray:
        """Give where a body axis `(3,)` points at every sample, `(N, 3)`."""
        return np.asarray(Rotation.from_quat(self.q_NB_xyzw).apply(boresight_B))

    def rotation_NC(self, times_s: ArrayLike, q_BC_xyzw: Sequence[float]) -> Rotation:
        """Give the camera's attitude at times within the flight, between samples by the shortest turn."""
        clipped = np.clip(times_s, self.times_s[0], self.times_s[-1])
        turns_NB: Rotation = Slerp(self.times_s, Rotation.from_quat(self.q_NB_xyzw))(clipped)
        return turns_NB * Rotation.from_quat(q_BC_xyzw)


KEYS = ("time_s", "q_NB_xyzw", "omega_BN_B_rad_s", "wheel_torques_nm", "wheel_speeds_rad_s", "bearings_N")
