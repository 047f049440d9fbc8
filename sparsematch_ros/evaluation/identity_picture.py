"""`identity.png`: who was taken for whom over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.picture_style import Rgb, identity_colours, new_figure

NOT_COUNTED: Rgb = (0.87, 0.87, 0.87)
MISSED: Rgb = (0.25, 0.25, 0.25)
# Further false identities are only counted.
MAX_FALSE = 12


@dataclass(frozen=True, eq=False)
class IdentityChart:
    """Rows of the picture.

    Attributes:
        labels: `(R,)` name of each row: true objects first, then false identities.
        colours: `(R, F, 3)` float colour of each row in each frame.
        switches: `(S, 2)` frame position and row where another identity took over.
        left_out: false identities without a row.

    """

    labels: list[str]
    colours: NDArray[np.float64]
    switches: NDArray[np.int64]
    left_out: int


def chart_identities(matches: Sequence[FrameMatches]) -> IdentityChart:
    """Lay the matching out row by row: colours of identities, gaps where an object was missed."""
    true_ids = list(dict.fromkeys(item.id for frame in matches for item in frame.visible))
    matched = {item.id for frame in matches for _, item in frame.pairs}
    false_ids = list(dict.fromkeys(item.id for frame in matches for item in frame.false if item.id not in matched))
    shown = false_ids[:MAX_FALSE]
    rows = {("true", name): row for row, name in enumerate(true_ids)}
    rows |= {("false", name): len(true_ids) + row for row, name in enumerate(shown)}
    colours, palette = np.ones((len(rows), len(matches), 3)), identity_colours(matches)
    for column, frame in enumerate(matches):
        _fill(colours[:, column], frame, rows, palette)
    labels = [*(f"true {name}" for name in true_ids), *(f"false {name[:4]}" for name in shown)]
    return IdentityChart(labels, colours, _switches(matches, true_ids), len(false_ids) - len(shown))


def plot_identity(path: Path, title: str, matches: Sequence[FrameMatches]) -> None:
    """Write `identity.png` from the matching of all frames."""
    chart = chart_identities(matches)
    figure = new_figure(12.8, float(np.clip(1.8 + 0.22 * len(chart.labels), 3.0, 14.0)))
    draw_identities(figure.subplots(), matches, chart)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def draw_identities(axes: Axes, matches: Sequence[FrameMatches], chart: IdentityChart | None = None) -> None:
    """Draw the chart of the matching's identities."""
    chart = chart or chart_identities(matches)
    axes.set_title(
        "colour: reported identity; black bar: it changed; dark: missed; grey: not counted yet"
        + (f"; {chart.left_out} more false identities" if chart.left_out else ""),
        fontsize=9,
    )
    axes.set(xlabel="frame")
    if not chart.labels:
        axes.text(0.5, 0.5, "nothing in view, nothing reported", transform=axes.transAxes, ha="center")
        return
    first, last = matches[0].frame, matches[-1].frame
    extent = (first - 0.5, last + 0.5, len(chart.labels) - 0.5, -0.5)
    axes.imshow(chart.colours, aspect="auto", interpolation="nearest", extent=extent)
    axes.plot(chart.switches[:, 0] + first - 0.5, chart.switches[:, 1], "|", color="black", markersize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yticks(range(len(chart.labels)), chart.labels, fontsize=7 if len(chart.labels) < 30 else 5)
    for row in range(1, len(chart.labels)):
        axes.axhline(row - 0.5, color="white", linewidth=1)


def _fill(
    column: NDArray[np.float64], frame: FrameMatches, rows: dict[tuple[str, str], int], palette: dict[str, Rgb]
) -> None:
    for item in frame.visible:
        column[rows["true", item.id]] = NOT_COUNTED
    for item in frame.missed:
        column[rows["true", item.id]] = MISSED
    for true, item in frame.pairs:
        column[rows["true", true.id]] = palette[item.id]
    for item in frame.false:
        if ("false", item.id) in rows:
            column[rows["false", item.id]] = palette[item.id]


def _switches(matches: Sequence[FrameMatches], true_ids: Sequence[str]) -> NDArray[np.int64]:
    last: dict[str, str] = {}
    found = []
    for column, frame in enumerate(matches):
        for true, item in frame.pairs:
            if last.setdefault(true.id, item.id) != item.id:
                found.append((column, true_ids.index(true.id)))
                last[true.id] = item.id
    return np.array(found, dtype=np.int64).reshape(-1, 2)
