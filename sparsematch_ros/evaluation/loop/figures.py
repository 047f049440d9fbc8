"""The figures of a loop: ours beside those of a peer on an identical spacecraft, and beside what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsematch_ros.data import FloatArray
from sparsematch_ros.evaluation.loop.pointing import (
    MEDIAN_DEG,
    P95_DEG,
    STAYING_S,
    Track,
    angles_deg,
    minimum_slew_s,
    settling_s,
)
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.simulation.basilisk.telemetry import Telemetry

# The least share of frames in view, and how much longer than the fastest slew settling may take.
IN_VIEW, SLOWER = 0.98, 1.2

Figures = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Course:
    """One spacecraft's pointing.

    Attributes:
        telemetry: what it did.
        visible_deg: `(N,)` angle between boresight and the target's visible centroid; NaN out of view.
        mass_deg: `(N,)` the same to its center of mass.

    """

    telemetry: Telemetry
    visible_deg: FloatArray
    mass_deg: FloatArray

    @classmethod
    def along(cls, telemetry: Telemetry, track: Track, boresight_B: FloatArray) -> Course:
        """Compare where a body axis pointed with where the target was."""
        boresights_N = telemetry.boresights_N(boresight_B)
        return cls(telemetry, angles_deg(boresights_N, track.visible_N), angles_deg(boresights_N, track.mass_N))

    def figures(self, since_s: float) -> Figures:
        """Give pointing error from a time on, and what wheels and body did over the whole flight.

        The wheels' settled torque counts a little later: the error is small before the slew's braking ends.
        """
        told = self.telemetry
        later, at_rest = told.times_s >= since_s, told.times_s >= since_s + STAYING_S
        return {
            **_spread("pointing_error_deg", self.visible_deg[later]),
            **_spread("pointing_error_to_center_of_mass_deg", self.mass_deg[later]),
            "wheel_torque_nm_max": rounded(np.abs(told.torques_nm).max()),
            "wheel_torque_nm_rms": rounded(np.sqrt(np.mean(told.torques_nm**2))),
            "wheel_torque_nm_rms_settled": _rms(told.torques_nm[at_rest]),
            "wheel_speed_rpm_max": rounded(np.abs(told.speeds_rad_s).max() * 60 / (2 * np.pi)),
            "body_rate_deg_s_max": rounded(np.degrees(np.linalg.norm(told.rates_rad_s, axis=1)).max()),
        }


@dataclass(frozen=True, eq=False)
class LoopRun:
    """What one flight gave.

    Attributes:
        ours: the spacecraft that followed the requests.
        peer: the one that followed the same headings.
        track: the target.
        boresight_B: `(3,)` body axis.
        begin_s: when the first request took effect, None where there was none.
        limits: of the slew.
        in_view_fraction: share of the frames after confirmation.

    """

    ours: Course
    peer: Course
    track: Track
    boresight_B: FloatArray
    begin_s: float | None
    limits: Limits
    in_view_fraction: float

    @property
    def settling_s(self) -> float | None:
        """Time from the first request's effect until the error stays small [s]."""
        if self.begin_s is None:
            return None
        return settling_s(self.track.times_s, self.ours.visible_deg, self.begin_s)

    @property
    def minimum_s(self) -> float | None:
        """The least time for that slew [s]."""
        if self.begin_s is None:
            return None
        boresights_N = self.ours.telemetry.boresights_N(self.boresight_B)
        return minimum_slew_s(self.track, boresights_N, self.begin_s, self.limits)

    @property
    def settled_at_s(self) -> float:
        """When it had settled [s]; the middle of the flight where it never did, so that there are figures at all."""
        settled_s = self.settling_s
        if settled_s is None or self.begin_s is None:
            return float(np.median(self.track.times_s))
        return self.begin_s + settled_s

    def figures(self) -> Figures:
        """Give everything that `loop.json` says of pointing."""
        settled_s, least_s = self.settling_s, self.minimum_s
        ratio = None if settled_s is None or least_s is None else settled_s / least_s
        return {
            "request_took_effect_s": self.begin_s,
            "settle_time_s": None if settled_s is None else rounded(settled_s),
            "minimum_time_s": None if least_s is None else rounded(least_s),
            "settle_ratio": None if ratio is None else rounded(ratio),
            "in_view_fraction": rounded(self.in_view_fraction),
            "ours": self.ours.figures(self.settled_at_s),
            "op_nav_point": self.peer.figures(self.settled_at_s),
        }


def judge(figures: Figures) -> list[Figures]:
    """Put each figure beside its limit: `figure`, `value`, `limit`, `met`."""
    ours, peer = figures["ours"], figures["op_nav_point"]
    rows = [
        ("settled pointing error, median [deg]", ours["pointing_error_deg_median"], MEDIAN_DEG),
        ("settled pointing error, 95th percentile [deg]", ours["pointing_error_deg_p95"], P95_DEG),
        ("time to settle over the minimum-time slew", figures["settle_ratio"], SLOWER),
        ("out of view after confirmation", rounded(1 - figures["in_view_fraction"]), rounded(1 - IN_VIEW)),
    ]
    for name, key in (
        ("pointing error, median [deg]", "pointing_error_deg_median"),
        ("pointing error, 95th percentile [deg]", "pointing_error_deg_p95"),
        ("largest wheel torque [Nm]", "wheel_torque_nm_max"),
        ("wheel torque, root mean square [Nm]", "wheel_torque_nm_rms"),
        ("the same, settled [Nm]", "wheel_torque_nm_rms_settled"),
    ):
        rows.append((f"{name} against opNavPoint's", ours[key], peer[key]))
    return [{"figure": name, "value": value, "limit": limit, "met": _met(value, limit)} for name, value, limit in rows]


def _met(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value <= limit


def _spread(name: str, errors_deg: FloatArray) -> Figures:
    known = errors_deg[np.isfinite(errors_deg)]
    median, p95 = (rounded(np.percentile(known, share)) if known.size else None for share in (50, 95))
    return {f"{name}_median": median, f"{name}_p95": p95}


def _rms(values: FloatArray) -> float | None:
    return rounded(np.sqrt(np.mean(values**2))) if values.size else None
