"""`loop.json` and `pointing.png` of a flight with Basilisk, and the table that is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.evaluation.loop.closed_loop import ClosedLoop
from sparsematch_ros.evaluation.loop.figures import Course, Figures, LoopRun, judge
from sparsematch_ros.evaluation.loop.pointing import Track, angles_deg
from sparsematch_ros.media.figures import rounded, write_json
from sparsematch_ros.media.pointing_plot import PointingPlot, plot_pointing
from sparsematch_ros.media.records import Record, read_records
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.simulation.basilisk.peer import Heading, fly_op_nav_point
from sparsematch_ros.simulation.basilisk.telemetry import Telemetry
from sparsematch_ros.simulation.flight import START_NS
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.variation import realise


@dataclass(frozen=True, eq=False)
class Flown:
    """What is known after a flight.

    Attributes:
        scenario: that was flown.
        seed: of the flight.
        latency_s: from an image to its request's effect [s].
        config: settings of pointing.
        objects: records of `objects.jsonl`.
        loop: who was looked at, and how long it stayed in view.
        request_stamps_ns: of the images whose requests were sent [ns].
        targets: ids, as in `objects.jsonl`, that requests were about.
        decisions: how often requests were sent, held and refused, by code.

    """

    scenario: Scenario
    seed: int
    latency_s: float
    config: PointingConfig
    objects: Sequence[Record]
    loop: ClosedLoop
    request_stamps_ns: Sequence[int]
    targets: frozenset[str]
    decisions: dict[str, Any]


def write_loop(flown: Flown, out: Path) -> Figures | None:
    """Write `loop.json` and `pointing.png`, from `dynamics.jsonl` and `truth.jsonl` in the folder.

    Returns:
        What was written, or None where no object was ever confirmed: then there is nothing to point at.

    """
    target = flown.loop.target
    if target is None:
        return None
    records = list(read_records(out / "dynamics.jsonl"))
    run = _run(flown, Telemetry.from_records(records), target, out)
    figures = {
        **_head(flown, run, np.array([record["ranges_m"] for record in records])[:, target - 1]),
        **run.figures(),
        **flown.decisions,
    }
    figures["figures"] = judge(figures)
    write_json(out / "loop.json", {**figures, "history": _history(run)})
    plot_pointing(out / "pointing.png", _plot(flown, run))
    return figures


def _run(flown: Flown, telemetry: Telemetry, target: int, out: Path) -> LoopRun:
    scenario, config = realise(flown.scenario, flown.seed), flown.config
    boresight_B = unit_vector(config.boresight)
    truth = read_records(out / "truth.jsonl")
    track = Track.of_target(telemetry, truth, target, START_NS / NANOSECONDS, scenario.camera.q_BC_xyzw)
    last_s = float(telemetry.times_s[-1])
    begin_s = _begin_s(flown, last_s)
    peer = fly_op_nav_point(scenario, _headings(flown, telemetry), boresight_B, last_s)
    slew = scenario.camera.slew
    limits = Limits(float(np.radians(slew.max_rate_deg_s)), float(np.radians(slew.max_acceleration_deg_s2)))
    ours, theirs = (Course.along(each, track, boresight_B) for each in (telemetry, peer))
    return LoopRun(ours, theirs, track, boresight_B, begin_s, limits, flown.loop.in_view_fraction)


def _begin_s(flown: Flown, last_s: float) -> float | None:
    """Give when the first request took effect [s], or None where that was not before the last sample."""
    if not flown.request_stamps_ns:
        return None
    begin_s = (min(flown.request_stamps_ns) - START_NS) / NANOSECONDS + flown.latency_s
    return begin_s if begin_s <= last_s else None


def _headings(flown: Flown, telemetry: Telemetry) -> list[Heading]:
    """Give the bearings that perception measured of what requests were about, seen or not asked for."""
    q_BC = flown.scenario.camera.q_BC_xyzw
    headings = []
    for record in flown.objects:
        if record["id"] in flown.targets and record["state"] == "confirmed" and record["bearing"] is not None:
            stamp_ns = round(record["stamp_s"] * NANOSECONDS) - START_NS
            bearing_N = telemetry.rotation_NC(stamp_ns / NANOSECONDS, q_BC).apply(record["bearing"])
            headings.append(Heading(stamp_ns + round(flown.latency_s * NANOSECONDS), bearing_N))
    return headings


def _head(flown: Flown, run: LoopRun, ranges_m: Any) -> Figures:
    """Describe the flight: what the figures are worth depends on it."""
    track, limits = run.track, run.limits
    begin = int(np.searchsorted(track.times_s, run.begin_s)) if run.begin_s is not None else 0
    rates = angles_deg(track.mass_N[:-1], track.mass_N[1:]) / np.diff(track.times_s)
    return {
        "scenario": flown.scenario.name, "seed": flown.seed, "latency_s": flown.latency_s,
        "duration_s": rounded(track.times_s[-1]), "rate_hz": flown.scenario.rate_hz,
        "slew_angle_deg": rounded(run.ours.mass_deg[begin]),
        "range_m": [rounded(ranges_m.min()), rounded(ranges_m.max())],
        "bearing_rate_deg_s": [rounded(rates.min()), rounded(rates.max())],
        "max_rate_deg_s": rounded(np.degrees(limits.max_rate_rad_s)),
        "max_acceleration_deg_s2": rounded(np.degrees(limits.max_acceleration_rad_s2)),
    }  # fmt: skip


def _history(run: LoopRun) -> dict[str, list[float | None]]:
    """Give both spacecraft's pointing error over time, to the visible centroid and to the center of mass."""
    columns = {
        "time_s": run.track.times_s,
        "pointing_error_deg": run.ours.visible_deg,
        "pointing_error_to_center_of_mass_deg": run.ours.mass_deg,
        "op_nav_point_pointing_error_deg": run.peer.visible_deg,
        "wheel_torque_nm": np.abs(run.ours.telemetry.torques_nm).max(axis=1),
        "body_rate_deg_s": np.degrees(np.linalg.norm(run.ours.telemetry.rates_rad_s, axis=1)),
    }
    return {
        name: [rounded(value) if np.isfinite(value) else None for value in column] for name, column in columns.items()
    }


def _plot(flown: Flown, run: LoopRun) -> PointingPlot:
    begin_s, least_s = run.begin_s, run.minimum_s
    return PointingPlot(
        title=f"{flown.scenario.name}: {flown.latency_s:g} s from image to request",
        times_s=run.track.times_s,
        errors_deg={
            "to the visible centroid": run.ours.visible_deg,
            "to the center of mass": run.ours.mass_deg,
            "opNavPoint, to the visible centroid": run.peer.visible_deg,
        },
        torques_nm={"ours": run.ours.telemetry.torques_nm, "opNavPoint": run.peer.telemetry.torques_nm},
        torque_limit_nm=flown.scenario.spacecraft.wheels.torque_nm,
        moments_s={
            "first request": begin_s,
            "minimum-time slew": None if begin_s is None or least_s is None else begin_s + least_s,
            "settled": None if run.settling_s is None else run.settled_at_s,
        },
    )


def table(figures: Figures) -> list[str]:
    """Write the lines that are printed: figures with their limits, and the error to the center of mass, without one."""
    lines = [
        f"{figures['scenario']}: slew of {figures['slew_angle_deg']:g} deg to a target at "
        f"{figures['range_m'][0]:g} to {figures['range_m'][1]:g} m that turns by {figures['bearing_rate_deg_s'][0]:g} "
        f"to {figures['bearing_rate_deg_s'][1]:g} deg/s; {figures['latency_s']:g} s from image to request"
    ]
    for row in figures["figures"]:
        value, limit = (_number(row[key]) for key in ("value", "limit"))
        lines.append(f"  {row['figure']:<62} {value:>9} {'<=' if row['met'] else '> '} {limit}")
    for name, key in (("median", "median"), ("95th percentile", "p95")):
        value = _number(figures["ours"][f"pointing_error_to_center_of_mass_deg_{key}"])
        lines.append(f"  {f'settled pointing error to the center of mass, {name} [deg]':<62} {value:>9}")
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
