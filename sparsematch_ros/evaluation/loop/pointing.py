"""Pointing error over time, and when it settled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import FloatArray
from sparsematch_ros.pointing.profile import Limits, to_rest
from sparsematch_ros.simulation.basilisk.telemetry import Telemetry

Record = dict[str, Any]

# The figures to reach, settled: median and 95th percentile [deg].
MEDIAN_DEG, P95_DEG = 0.1, 0.3
# Settled is who stays under the larger one for this long.
STAYING_S = 2.0


@dataclass(frozen=True, eq=False)
class Track:
    """Where the target truly was, at the N samples of a spacecraft's telemetry.

    Attributes:
        times_s: `(N,)` since the scenario's start.
        visible_N: `(N, 3)` unit vectors to the centroid of its visible part; NaN where it was out of view.
        mass_N: `(N, 3)` unit vectors to its center of mass.

    """

    times_s: FloatArray
    visible_N: FloatArray
    mass_N: FloatArray

    @classmethod
    def of_target(
        cls, telemetry: Telemetry, truth: Iterable[Record], target: int, begin_s: float, q_BC_xyzw: Sequence[float]
    ) -> Track:
        """Take a target's track from the truth about images, and between them.

        Args:
            telemetry: of the spacecraft that took the images.
            truth: records of `truth.jsonl`.
            target: the object's id.
            begin_s: stamp of the scenario's start.
            q_BC_xyzw: rotation from the camera's optical frame to the body's.

        """
        seen = [record for record in truth if record["id"] == target]
        stamps = np.array([record["stamp_s"] for record in seen]) - begin_s
        bearings_N = telemetry.rotation_NC(stamps, q_BC_xyzw).apply([record["bearing"] for record in seen])
        visible = _between(telemetry.times_s, stamps, np.array([record["frame"] for record in seen]), bearings_N)
        return cls(telemetry.times_s, visible, telemetry.bearings_N[:, target - 1])


def _between(times_s: FloatArray, stamps_s: FloatArray, frames: NDArray[np.int64], vectors: FloatArray) -> FloatArray:
    """Interpolate unit vectors between images that follow each other; NaN elsewhere."""
    column = [np.interp(times_s, stamps_s, vectors[:, axis], left=np.nan, right=np.nan) for axis in range(3)]
    between = np.column_stack(column)
    after = np.clip(np.searchsorted(stamps_s, times_s), 1, len(stamps_s) - 1) if len(stamps_s) > 1 else 0
    gap = (frames[after] - frames[after - 1] > 1) & ~np.isin(times_s, stamps_s)
    between[gap] = np.nan
    return np.asarray(between / np.linalg.norm(between, axis=1, keepdims=True))


def angles_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Give the angles between unit vectors `(N, 3)` [deg], accurate near 0."""
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second), axis=1), (first * second).sum(1))))


def settling_s(times_s: FloatArray, errors_deg: FloatArray, begin_s: float) -> float | None:
    """Give the time from `begin_s` until the error stays small, or None where it never does.

    Args:
        times_s: `(N,)` of the samples.
        errors_deg: `(N,)`; NaN counts as large.
        begin_s: since when it was to settle.

    """
    small = np.nan_to_num(errors_deg, nan=np.inf) <= P95_DEG
    for row in np.flatnonzero(small & (times_s >= begin_s)):
        window = (times_s >= times_s[row]) & (times_s <= times_s[row] + STAYING_S)
        if times_s[-1] - times_s[row] >= STAYING_S and small[window].all():
            return float(times_s[row] - begin_s)
    return None


def minimum_slew_s(track: Track, boresights_N: FloatArray, begin_s: float, limits: Limits) -> float:
    """Give the least time from rest until the boresight meets the center of mass and its rate.

    One axis, along the way to the target: its rate across comes free, so the true minimum is no shorter. The target's
    mean rate over the slew counts, hence the repetition.

    Args:
        track: of the target.
        boresights_N: `(N, 3)` where the boresight pointed.
        begin_s: when the slew begins.
        limits: of rate and acceleration.

    """
    begin = int(np.searchsorted(track.times_s, begin_s))
    away = np.radians(angles_deg(np.broadcast_to(boresights_N[begin], track.mass_N.shape), track.mass_N))
    duration_s = 1.0
    for _ in range(20):
        ahead = np.interp(begin_s + duration_s, track.times_s, away)
        rate = float(ahead - away[begin]) / duration_s
        fastest = limits.max_rate_rad_s + rate, max(limits.max_rate_rad_s - rate, 1e-9)
        duration_s = to_rest(-float(away[begin]), -rate, fastest, limits.max_acceleration_rad_s2).duration_s
    return duration_s
