"""A slew as a function of time: attitude, rate and acceleration that flight software can follow as its reference.

R is the reference that the body shall follow, N the inertial frame, and T the target attitude of one leg, which turns
at a constant rate. A leg runs in T, so that it ends at rest there: on the moving target, with its rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.pointing.profile import AxisProfile
from sparsematch_ros.pointing.quaternions import from_rotation_vector, matrix, product
from sparsematch_ros.pointing.vectors import crosses, length, turned

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Attitude:
    """An attitude that turns at a constant rate.

    Attributes:
        q_NB_xyzw: `(4,)` unit quaternion at time 0, `v_N = q v_B`.
        omega_BN_N_rad_s: `(3,)` its angular velocity, in N.

    """

    q_NB_xyzw: FloatArray
    omega_BN_N_rad_s: FloatArray

    def __post_init__(self) -> None:
        """Take scipy's rotation in the quaternion's place as well."""
        if isinstance(self.q_NB_xyzw, Rotation):
            object.__setattr__(self, "q_NB_xyzw", self.q_NB_xyzw.as_quat())

    @property
    def R_NB(self) -> Rotation:
        """Give scipy's rotation."""
        return Rotation.from_quat(self.q_NB_xyzw)

    @cached_property
    def matrix(self) -> FloatArray:
        """Give the rotation as a matrix `(3, 3)`."""
        return matrix(self.q_NB_xyzw)

    def at(self, time_s: float) -> Attitude:
        """Give the same with another time 0."""
        if time_s == 0.0 or not self.omega_BN_N_rad_s.any():
            return self
        turn = from_rotation_vector(self.omega_BN_N_rad_s * time_s)
        return Attitude(product(turn, self.q_NB_xyzw), self.omega_BN_N_rad_s)


@dataclass(frozen=True, eq=False)
class Reference:
    """What to follow, at N times; the quaternions' signs do not jump.

    Attributes:
        q_NR_xyzw: `(N, 4)`, `v_N = q v_R`.
        omega_RN_N_rad_s: `(N, 3)` angular velocity of R in N, components in N.
        domega_RN_N_rad_s2: `(N, 3)` its inertial derivative, components in N.

    """

    q_NR_xyzw: FloatArray
    omega_RN_N_rad_s: FloatArray
    domega_RN_N_rad_s2: FloatArray


@dataclass(frozen=True, eq=False)
class Leg:
    """One turn onto a target attitude: `R_NR(t) = R_NT(t) exp(along(t) axis) exp(across(t) side)`.

    `side` is square to `axis`, so rates and accelerations of the two parts add as squares.

    Attributes:
        target: T, with the leg's start as time 0.
        axis_T: `(3,)` unit vector of the eigenaxis.
        along: angle about it [rad], to rest at 0.
        side_T: `(3,)` unit vector square to it, about which the rate at the start had a share.
        across: angle about that [rad], from 0 and back; None where there was none.

    """

    target: Attitude
    axis_T: FloatArray
    along: AxisProfile
    side_T: FloatArray
    across: AxisProfile | None

    @property
    def duration_s(self) -> float:
        """Give the time until the target is met at its rate [s]."""
        return max(self.along.duration_s, self.across.duration_s if self.across else 0.0)

    @property
    def end(self) -> Attitude:
        """Give attitude and rate at the end."""
        return self.target.at(self.duration_s)

    @property
    def peak_rate_rad_s(self) -> float:
        """Give a rate [rad/s] that the leg does not exceed."""
        across = self.across.peak_rate if self.across else 0.0
        return self.along.peak_rate + across + length(self.target.omega_BN_N_rad_s)

    def directions(self, times_s: FloatArray, axis_B: FloatArray) -> FloatArray:
        """Give where a body axis `(3,)` points in N, `(N, 3)`, at times `(N,)` from the leg's start."""
        vectors = axis_B
        if self.across is not None:
            vectors = turned(vectors, self.side_T, self.across.positions_at(times_s))
        vectors = turned(vectors, self.axis_T, self.along.positions_at(times_s)) @ self.target.matrix.T
        omega_N_rad_s = self.target.omega_BN_N_rad_s
        rate = length(omega_N_rad_s)
        return turned(vectors, omega_N_rad_s / rate, times_s * rate) if rate else vectors

    def reference(self, times_s: FloatArray) -> Reference:
        """Give the reference at times `(N,)` from the leg's start."""
        omega_TN_N = self.target.omega_BN_N_rad_s
        R_NT = Rotation.from_rotvec(times_s[:, None] * omega_TN_N) * self.target.R_NB
        angle, rate, acceleration = (values[:, None] for values in self.along.at(times_s))
        R_TS = Rotation.from_rotvec(angle * self.axis_T)
        R_TR, omega_T, domega_T = R_TS, rate * self.axis_T, acceleration * self.axis_T
        if self.across is not None:
            turn, turn_rate, turn_acceleration = (values[:, None] for values in self.across.at(times_s))
            side_T = R_TS.apply(self.side_T)
            R_TR = R_TS * Rotation.from_rotvec(turn * self.side_T)
            omega_T = omega_T + turn_rate * side_T
            domega_T = domega_T + turn_acceleration * side_T + rate * turn_rate * crosses(self.axis_T, side_T)
        omega_RT_N = R_NT.apply(omega_T)
        domega_N = R_NT.apply(domega_T) + crosses(np.broadcast_to(omega_TN_N, omega_RT_N.shape), omega_RT_N)
        return Reference((R_NT * R_TR).as_quat(), omega_RT_N + omega_TN_N, domega_N)


@dataclass(frozen=True, eq=False)
class Slew:
    """Legs one after another; after the last the reference stays on its target.

    Attributes:
        legs: each begins where the one before ends.
        q_near_xyzw: `(4,)` the first quaternion has the sign that is nearer to this one; None: the one with w >= 0.

    """

    legs: tuple[Leg, ...]
    q_near_xyzw: FloatArray | None = None

    @cached_property
    def starts_s(self) -> FloatArray:
        """Give when each leg begins, and when the last one ends, `(L + 1,)` [s]."""
        return np.concatenate([[0.0], np.cumsum([leg.duration_s for leg in self.legs])])

    @property
    def duration_s(self) -> float:
        """Give the time until the last target is met at its rate [s]."""
        return float(self.starts_s[-1])

    @cached_property
    def _signs(self) -> FloatArray:
        """Give a sign for each leg's quaternions, so that they go on from where the last leg ended."""
        last = np.array([0.0, 0.0, 0.0, 1.0]) if self.q_near_xyzw is None else self.q_near_xyzw
        signs = []
        for leg in self.legs:
            ends = leg.reference(np.array([0.0, leg.duration_s])).q_NR_xyzw
            signs.append(-1.0 if ends[0] @ last < 0 else 1.0)
            last = signs[-1] * ends[1]
        return np.array(signs)

    def _split(self, times_s: FloatArray) -> Iterator[tuple[int, NDArray[np.bool_], FloatArray]]:
        rows = np.clip(np.searchsorted(self.starts_s, times_s, side="right") - 1, 0, len(self.legs) - 1)
        for row in range(len(self.legs)):
            inside = rows == row
            if inside.any():
                yield row, inside, times_s[inside] - self.starts_s[row]

    def directions(self, times_s: FloatArray, axis_B: FloatArray) -> FloatArray:
        """Give where a body axis `(3,)` points in N, `(N, 3)`, at times `(N,)` from 0 on."""
        directions = np.empty((len(times_s), 3))
        for row, inside, leg_times_s in self._split(times_s):
            directions[inside] = self.legs[row].directions(leg_times_s, axis_B)
        return directions

    def sweep(self, axis_B: FloatArray, spacing_rad: float) -> FloatArray:
        """Give where a body axis `(3,)` points along the whole slew, `(N, 3)`, a spacing [rad] apart at most."""
        parts = []
        for leg in self.legs:
            duration_s = leg.duration_s
            steps = 1 + int(duration_s * leg.peak_rate_rad_s / spacing_rad)
            parts.append(leg.directions(np.arange(steps + 1, dtype=np.float64) * (duration_s / steps), axis_B))
        return np.concatenate(parts)

    def reference(self, times_s: ArrayLike) -> Reference:
        """Give what to follow at times `(N,)` from 0 on [s]."""
        times = np.atleast_1d(np.asarray(times_s, dtype=np.float64))
        q, omega, domega = np.empty((len(times), 4)), np.empty((len(times), 3)), np.empty((len(times), 3))
        for row, inside, leg_times_s in self._split(times):
            part = self.legs[row].reference(leg_times_s)
            q[inside] = self._signs[row] * part.q_NR_xyzw
            omega[inside], domega[inside] = part.omega_RN_N_rad_s, part.domega_RN_N_rad_s2
        return Reference(q, omega, domega)
