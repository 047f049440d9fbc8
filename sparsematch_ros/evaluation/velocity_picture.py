"""`velocity.png`: velocities over time with their 95 % band against truth, and their errors in units of the ellipse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from sparsematch_ros.data import FloatArray
from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.picture_style import new_figure
from sparsematch_ros.evaluation.scores import NEES_95
from sparsematch_ros.evaluation.sightings import Sighting

# Of one component; its ellipse in the plane reaches farther.
BAND_95 = 1.96
# More lines than this cannot be told apart.
MAX_OBJECTS = 8
# Errors farther out are drawn at the edge [standard deviations].
FARTHEST_SIGMA = 6.0


@dataclass(frozen=True, eq=False)
class VelocityHistory:
    """One true object's velocity over all frames, NaN where it was not matched or is unknown.

    Attributes:
        id: of the true object.
        true_px_s: `(F, 2)`.
        own_px_s: `(F, 2)` as reported.
        sigmas_px_s: `(F, 2)` standard deviations as reported.

    """

    id: str
    true_px_s: FloatArray
    own_px_s: FloatArray
    sigmas_px_s: FloatArray

    @property
    def known(self) -> int:
        """Count the frames with a reported velocity."""
        return int(np.isfinite(self.own_px_s[:, 0]).sum())


def gather_histories(matches: Sequence[FrameMatches]) -> list[VelocityHistory]:
    """Gather the velocities of the pairs that count, the objects with most of them first."""
    histories: dict[str, VelocityHistory] = {}
    for row, frame in enumerate(matches):
        for item in frame.visible:
            blank = (np.full((len(matches), 2), np.nan) for _ in range(3))
            history = histories.setdefault(item.id, VelocityHistory(item.id, *blank))
            if item.velocity_px_s is not None:
                history.true_px_s[row] = item.velocity_px_s
        for true, item in frame.hits:
            _note(histories[true.id], row, item)
    return sorted(histories.values(), key=lambda history: -history.known)


def whitened_errors(matches: Sequence[FrameMatches]) -> FloatArray:
    """Give the velocity errors of the pairs that count `(N, 2)`, in units of their own covariance.

    Errors whose covariance is right have the unit covariance; `nees_in_95` is the share within sqrt(5.99).
    """
    errors = []
    for frame in matches:
        for true, item in frame.hits:
            covariance = item.velocity_covariance
            if covariance is None or item.velocity_px_s is None or true.velocity_px_s is None:
                continue
            if covariance[0, 0] > 0 and np.linalg.det(covariance) > 0:
                root = np.linalg.cholesky(covariance)
                errors.append(np.linalg.solve(root, item.velocity_px_s - true.velocity_px_s))
    return np.array(errors).reshape(-1, 2)


def plot_velocity(path: Path, title: str, matches: Sequence[FrameMatches], times_s: Mapping[int, float]) -> None:
    """Write `velocity.png`.

    Args:
        path: the file to write.
        title: heading.
        matches: of all frames.
        times_s: time of each frame by its number [s].

    """
    figure = new_figure(12.8, 6.0)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1))
    histories = [history for history in gather_histories(matches) if history.known][:MAX_OBJECTS]
    times = np.array([times_s.get(frame.frame, np.nan) for frame in matches])
    for component, name in enumerate("xy"):
        axes = figure.add_subplot(grid[component, 0])
        _draw_component(axes, histories, times, component)
        axes.set(ylabel=f"{name} velocity [px/s]")
    axes.set(xlabel="time [s]")
    figure.axes[0].set_title("against the background, with its 95 % band; dashed: truth", fontsize=10)
    if histories:
        figure.axes[0].legend(fontsize=8, title="true object", ncols=2)
    draw_errors(figure.add_subplot(grid[:, 1]), matches)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def draw_errors(axes: Axes, matches: Sequence[FrameMatches]) -> None:
    """Draw the velocity errors in units of their standard deviations, with the ellipse of 95 %, a circle here."""
    errors = whitened_errors(matches)
    sizes = np.linalg.norm(errors, axis=1)
    shown = errors * np.minimum(1.0, FARTHEST_SIGMA / np.maximum(sizes, 1e-12))[:, None]
    inside = sizes**2 <= NEES_95
    axes.plot(*shown[inside].T, ".", color="tab:blue", markersize=3, alpha=0.6)
    axes.plot(*shown[~inside].T, ".", color="tab:red", markersize=4, alpha=0.8)
    axes.add_patch(Circle((0, 0), float(np.sqrt(NEES_95)), fill=False, color="black", linewidth=1.2))
    limit = FARTHEST_SIGMA + 0.4
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set(xlabel="error along the first axis [sigma]", ylabel="second axis [sigma]")
    share = f"{inside.mean():.1%} of {len(inside)} errors inside" if len(inside) else "no velocity error known"
    axes.set_title(f"{share}; circle: 95 %", fontsize=10)
    axes.grid(alpha=0.3)


def _note(history: VelocityHistory, row: int, item: Sighting) -> None:
    if item.velocity_px_s is not None:
        history.own_px_s[row] = item.velocity_px_s
    if item.velocity_covariance is not None:
        history.sigmas_px_s[row] = np.sqrt(np.maximum(np.diag(item.velocity_covariance), 0.0))


def _draw_component(axes: Axes, histories: Sequence[VelocityHistory], times: FloatArray, component: int) -> None:
    for number, history in enumerate(histories):
        own, sigma = history.own_px_s[:, component], BAND_95 * history.sigmas_px_s[:, component]
        axes.fill_between(times, own - sigma, own + sigma, color=f"C{number}", alpha=0.2, linewidth=0)
        axes.plot(times, own, "-", marker=".", markersize=3, linewidth=1, color=f"C{number}", label=history.id)
        axes.plot(times, history.true_px_s[:, component], "--", color="black", linewidth=0.8)
    axes.grid(alpha=0.3)
    if histories:
        axes.set_ylim(*_limits(histories, component))
    else:
        axes.text(0.5, 0.5, "no velocity to compare", transform=axes.transAxes, ha="center")


def _limits(histories: Sequence[VelocityHistory], component: int) -> tuple[float, float]:
    """Show all of the truth and nearly all of the bands: one wild value must not flatten the rest."""
    true = np.concatenate([history.true_px_s[:, component] for history in histories])
    own = np.concatenate([history.own_px_s[:, component] for history in histories])
    sigma = np.nan_to_num(np.concatenate([history.sigmas_px_s[:, component] for history in histories]))
    low, high = (np.nanpercentile(own + sign * BAND_95 * sigma, at) for sign, at in ((-1, 5), (1, 95)))
    both = np.array([low, high, *true[np.isfinite(true)]])
    margin = 0.1 * float(np.ptp(both)) + 0.5
    return float(both.min()) - margin, float(both.max()) + margin
