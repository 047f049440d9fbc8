"""`pointing.png`: pointing error over time with its limits, and below it the torque of the wheels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsematch_ros.data import FloatArray

COLOURS = ("tab:blue", "tab:cyan", "tab:gray")
# Zero has no place on a logarithmic axis.
LEAST_DEG = 1e-3
LIMITS_DEG = (0.1, 0.3)


@dataclass(frozen=True, eq=False)
class PointingPlot:
    """What is drawn.

    Attributes:
        title: heading.
        times_s: `(N,)`.
        errors_deg: by name, `(N,)` pointing errors; NaN where unknown.
        torques_nm: by name, `(N, W)` of the wheels' motors.
        torque_limit_nm: of a motor.
        moments_s: by name, what happened when; None for never.

    """

    title: str
    times_s: FloatArray
    errors_deg: Mapping[str, FloatArray]
    torques_nm: Mapping[str, FloatArray]
    torque_limit_nm: float
    moments_s: Mapping[str, float | None]


def plot_pointing(path: Path, plot: PointingPlot) -> None:
    """Write the picture."""
    figure = Figure(figsize=(10.0, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    _draw_errors(top, plot)
    _draw_torques(bottom, plot)
    for axes in (top, bottom):
        _draw_moments(axes, plot)
        axes.grid(alpha=0.3)
    top.legend(fontsize=8, loc="upper right")
    bottom.legend(fontsize=8, loc="upper right")
    figure.suptitle(plot.title)
    figure.savefig(path, dpi=100)


def _draw_errors(axes: Axes, plot: PointingPlot) -> None:
    for (name, errors_deg), colour in zip(plot.errors_deg.items(), COLOURS):
        axes.semilogy(plot.times_s, np.maximum(errors_deg, LEAST_DEG), "-", color=colour, label=name)
    for limit_deg, style in zip(LIMITS_DEG, ("--", ":")):
        axes.axhline(limit_deg, color="tab:red", linestyle=style, linewidth=1)
        axes.text(plot.times_s[0], limit_deg * 1.05, f" {limit_deg} deg", color="tab:red", fontsize=8)
    axes.set(ylabel="pointing error [deg]", xlim=(plot.times_s[0], plot.times_s[-1]))


def _draw_torques(axes: Axes, plot: PointingPlot) -> None:
    for (name, torques_nm), colour in zip(plot.torques_nm.items(), (COLOURS[0], COLOURS[-1])):
        axes.plot(plot.times_s, np.abs(torques_nm).max(axis=1), "-", color=colour, linewidth=1, label=name)
    axes.axhline(plot.torque_limit_nm, color="tab:red", linestyle="--", linewidth=1)
    axes.set(xlabel="time [s]", ylabel="largest wheel torque [Nm]", ylim=(0, None))


def _draw_moments(axes: Axes, plot: PointingPlot) -> None:
    for (name, time_s), style in zip(plot.moments_s.items(), (":", "--", "-")):
        if time_s is not None:
            axes.axvline(time_s, color="black", linestyle=style, linewidth=1, label=f"{name}, {time_s:.1f} s")
