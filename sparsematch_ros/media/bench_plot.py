"""`bench.png`: what a frame costs by stage, ours beside the stock generator, and the networks one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Report = dict[str, Any]


def plot_bench(path: Path, report: Report) -> None:
    """Write `bench.png`.

    Args:
        path: the file to write.
        report: content of `bench.json`.

    """
    panels: list[Callable[[Axes, Report], None]] = [_draw_stages]
    panels += [_draw_reference] if report["reference"] else []
    panels += [_draw_models] if report["models"] else []
    figure = Figure(figsize=(5.2 * len(panels), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, draw in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        draw(axes, report)
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
    figure.suptitle(f"{report['source']}\n{report['device_name']}", fontsize=10)
    figure.savefig(path, dpi=100)


def _draw_stages(axes: Axes, report: Report) -> None:
    """Stack the stages' medians; the other kinds of frames stand beside them as one bar each."""
    stages = {name: values["median"] for name, values in report["stages_ms"].items() if name != "total"}
    bottom = 0.0
    for number, (name, milliseconds) in enumerate(stages.items()):
        axes.bar(0, milliseconds, bottom=bottom, color=f"C{number}", label=f"{name} {milliseconds:.3g} ms")
        bottom += milliseconds
    labels = [f"encoder ran\n{report['counted_frames']} frames"]
    for key, title in (("skipped", "encoder\nskipped"), ("without_target", "no target\nover 20 px")):
        if report[key]["frames"]:
            axes.bar(len(labels), report[key]["ms"]["median"], color="0.6")
            labels.append(f"{title}\n{report[key]['frames']} frames")
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(ylabel="median [ms a frame]", xlim=(-0.6, max(len(labels), 2) - 0.4))
    axes.set_title("image to tracks", fontsize=10)
    if stages:
        axes.legend(fontsize=8)


def _draw_reference(axes: Axes, report: Report) -> None:
    reference = report["reference"]
    rows = reference["per_frame"]
    places = np.arange(len(rows))
    axes.bar(places - 0.2, [row["stock_s"] for row in rows], 0.4, color="0.6", label="stock generator")
    axes.bar(places + 0.2, [row["ours_s"] for row in rows], 0.4, color="C0", label="ours")
    axes.set_xticks(places, [str(row["frame"]) for row in rows], fontsize=8)
    axes.set(xlabel="frame", ylabel="[s a frame]")
    axes.margins(y=0.25)
    recall, overlap = reference["recall_of_reference_masks"], reference["mean_iou"]
    quality = "no masks" if recall is None else f"recall {recall:.3f}, mean IoU {overlap:.3f}"
    axes.set_title(f"full grid: {reference['speedup']:.3g} times faster, {quality}", fontsize=10)
    axes.legend(fontsize=8)


def _draw_models(axes: Axes, report: Report) -> None:
    """Draw a bar each; networks that failed are left to the table."""
    models = report["models"]
    bars = [
        (f"{row['name']}\n{what} ({row['weights']})", row[key])
        for table, parts in (("sam", (("encode", "encode_s"), ("everything", "segment_everything_s"))),
                             ("dinov2", (("frame", "frame_s"),)))
        for row in models[table]
        for what, key in parts
        if not row["failed"]
    ]  # fmt: skip
    places = np.arange(len(bars))
    axes.barh(places, [seconds for _, seconds in bars], color="C2")
    axes.set_yticks(places, [name for name, _ in bars], fontsize=7)
    for place, (_, seconds) in zip(places, bars):
        axes.text(seconds, float(place), f" {seconds:.3g}", va="center", fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="[s a frame]")
    axes.margins(x=0.15)
    axes.set_title("network by network", fontsize=10)
