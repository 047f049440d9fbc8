"""The attitude reference of flight software: from one request to the next, within the limits; needs no Basilisk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS, FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import quaternion, rotation
from sparsematch_ros.pointing.legs import plan_legs
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude, Reference, Slew

# Share of the limit of rate that a slew uses, and of acceleration: the rest is left to feedback and to corrections.
RATE_SHARE, ACCELERATION_SHARE = 0.98, 0.88
# Nothing can be met that turns as fast as the body can: of the rate limit, this much is followed at most.
FOLLOWED_SHARE = 0.9
# A mere correction takes this long, so that wheels are not asked for the noise of each request.
CORRECTION_S = 1.5
# A correction is what turns by at most this angle [rad], and needs at most this share of the acceleration, or that one
# while a slew ends; else it is a slew.
CORRECTED_RAD, CORRECTING_SHARE, ENDING_SHARE = 0.02, 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Correction:
    """A small turn c(t) on top of a slew that is done: a cubic, which is the least effort, and then as the target goes.

    Attributes:
        coefficients: `(4, 3)` of the rotation vector's cubic in N, from the constant on [rad, s].
        duration_s: how long the cubic holds.
        end: `(3,)` rotation vector then.
        end_rate: `(3,)` and its rate from then on.

    """

    coefficients: FloatArray
    duration_s: float
    end: FloatArray
    end_rate: FloatArray

    @classmethod
    def between(
        cls, begin: tuple[FloatArray, FloatArray], end: tuple[FloatArray, FloatArray], duration_s: float
    ) -> Correction:
        """Join two rotation vectors `(3,)`, each with its rate, in a time [s]."""
        (place, rate), (end_place, end_rate), span = begin, end, duration_s
        gap = end_place - place
        square = (3 * gap - (2 * rate + end_rate) * span) / span**2
        cube = ((rate + end_rate) * span - 2 * gap) / span**3
        return cls(np.stack([place, rate, square, cube]), span, end_place, end_rate)

    @property
    def peak_acceleration(self) -> float:
        """Give the largest acceleration [rad/s^2]: a cubic has it at one of its ends."""
        square, cube = self.coefficients[2:]
        return float(max(np.linalg.norm(2 * square), np.linalg.norm(2 * square + 6 * cube * self.duration_s)))

    def at(self, times_s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give rotation vectors, rates and accelerations, `(N, 3)` each, at times `(N,)`."""
        t = np.minimum(times_s, self.duration_s)[:, None]
        after = np.maximum(times_s - self.duration_s, 0.0)[:, None]
        place, rate, square, cube = self.coefficients
        turning = after == 0.0
        places = place + (rate + (square + cube * t) * t) * t + self.end_rate * after
        rates = rate + (2 * square + 3 * cube * t) * t
        return places, rates, np.where(turning, 2 * square + 6 * cube * t, 0.0)


class SlewReference:
    """An attitude that meets requested ones, each with the rate at which it turns."""

    def __init__(self, start: Attitude, limits: Limits) -> None:
        """Turn on at the start's rate until something is asked, as far as the limit allows."""
        self._limits = Limits(RATE_SHARE * limits.max_rate_rad_s, ACCELERATION_SHARE * limits.max_acceleration_rad_s2)
        self._slew = Slew(plan_legs(start, self._followed(start), self._limits))
        self._slew_ns = 0
        self._correction: Correction | None = None
        self._correction_ns = 0

    def follow(
        self, now_ns: int, q_NB_xyzw: FloatArray, omega_BN_N_rad_s: FloatArray | None = None, age_s: float = 0.0
    ) -> None:
        """Turn toward an attitude from now on, and with it as it turns.

        Args:
            now_ns: time since the start [ns].
            q_NB_xyzw: `(4,)` requested attitude.
            omega_BN_N_rad_s: `(3,)` its angular velocity in N; None for at rest.
            age_s: how long ago the attitude held [s]; it is carried forward by its angular velocity.

        Raises:
            SparsematchError: where the quaternion is not of length 1 or a number is not finite.

        """
        omega = np.zeros(3) if omega_BN_N_rad_s is None else np.asarray(omega_BN_N_rad_s, dtype=np.float64)
        if not np.isfinite(omega).all():
            raise SparsematchError(f"angular velocity {omega.tolist()} rad/s is not finite")
        self._turn_to(now_ns, Attitude(quaternion(rotation(q_NB_xyzw)), omega).at(age_s))

    def hold(self, now_ns: int) -> None:
        """Come to rest at the attitude where the reference is now."""
        self._turn_to(now_ns, Attitude(self._now(now_ns).q_NB_xyzw, np.zeros(3)))

    def at(self, times_ns: Sequence[int]) -> Reference:
        """Give the reference at times from the last request on [ns]."""
        slew = self._slew.reference((np.array(times_ns) - self._slew_ns) / NANOSECONDS)
        if self._correction is None:
            return slew
        turns, rates, accelerations = self._correction.at((np.array(times_ns) - self._correction_ns) / NANOSECONDS)
        turn = Rotation.from_rotvec(turns)
        carried = turn.apply(slew.omega_RN_N_rad_s)
        # The turn is so small that its rate and the rotation vector's are one.
        return Reference(
            (turn * Rotation.from_quat(slew.q_NR_xyzw)).as_quat(),
            carried + rates,
            turn.apply(slew.domega_RN_N_rad_s2) + np.cross(rates, carried) + accelerations,
        )

    def _now(self, now_ns: int) -> Attitude:
        reference = self.at([now_ns])
        return Attitude(reference.q_NR_xyzw[0], reference.omega_RN_N_rad_s[0])

    def _followed(self, target: Attitude) -> Attitude:
        """Give the target, no faster than it can be followed."""
        rate, most = float(np.linalg.norm(target.omega_BN_N_rad_s)), FOLLOWED_SHARE * self._limits.max_rate_rad_s
        return target if rate <= most else Attitude(target.q_NB_xyzw, target.omega_BN_N_rad_s * (most / rate))

    def _turn_to(self, now_ns: int, target: Attitude) -> None:
        """Correct where that is enough, else slew, from where the reference is now."""
        followed = self._followed(target)
        correction = self._correction_to(now_ns, followed)
        if correction is None:
            self._slew = Slew(plan_legs(self._now(now_ns), followed, self._limits))
            self._slew_ns = now_ns
        self._correction, self._correction_ns = correction, now_ns

    def _correction_to(self, now_ns: int, target: Attitude) -> Correction | None:
        """Plan the small turn from where the slew ends to another target; None where it ends late or is far off."""
        end_ns = now_ns + round(CORRECTION_S * NANOSECONDS)
        slewed_ns = self._slew_ns + self._slew.duration_s * NANOSECONDS
        if slewed_ns > end_ns:
            return None
        offsets, rates = np.zeros(3), np.zeros(3)
        if self._correction is not None:
            since_s = np.array([(now_ns - self._correction_ns) / NANOSECONDS])
            offsets, rates, _ = (row[0] for row in self._correction.at(since_s))
        end = self._offset(end_ns, target.at(CORRECTION_S))
        correction = Correction.between((offsets, rates), end, CORRECTION_S)
        share = CORRECTING_SHARE if slewed_ns <= now_ns else ENDING_SHARE
        small = correction.peak_acceleration <= share * self._limits.max_acceleration_rad_s2
        return correction if small and float(np.linalg.norm(end[0])) <= CORRECTED_RAD else None

    def _offset(self, time_ns: int, target: Attitude) -> tuple[FloatArray, FloatArray]:
        """Give the rotation vector from where the slew leads to a target, and its rate, in N."""
        slew = self._slew.reference([(time_ns - self._slew_ns) / NANOSECONDS])
        turn = Rotation.from_quat(target.q_NB_xyzw) * Rotation.from_quat(slew.q_NR_xyzw[0]).inv()
        return turn.as_rotvec(), target.omega_BN_N_rad_s - turn.apply(slew.omega_RN_N_rad_s[0])
