"""What `sparsematch bench` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Report = dict[str, Any]


def print_report(report: Report) -> None:
    """Print what was measured: milliseconds, the comparison with the stock generator, the networks."""
    console = Console(highlight=False)
    for line in _headings(report):
        console.print(line)
    console.print(_stages(report))
    for line in _facts(report):
        console.print(line)
    if report["reference"]:
        _print_reference(console, report["reference"])
    if report["models"]:
        _print_models(console, report["models"])


def figure(value: float | None, digits: int = 3) -> str:
    """Write a figure with some significant digits, and a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _headings(report: Report) -> Iterable[str]:
    yield f"{report['device_name']} ({report['device']}): {report['source']}, {report['frames']} frames"
    yield (
        f"{report['repeat']} runs, the first {report['warmup_frames']} frames of each not counted; target over 20 px: "
        f"{report['target_over_20_px']}"
    )


def _stages(report: Report) -> Table:
    table = _table(f"{report['counted_frames']} frames on which the encoder ran", "stage", "median", "p99", "mean")
    for stage, values in report["stages_ms"].items():
        table.add_row(f"{stage} (ms)", *_three(values))
    for name, title in (("skipped", "encoder skipped"), ("without_target", "no target over 20 px")):
        if report[name]["frames"]:
            table.add_row(f"{report[name]['frames']} frames, {title} (ms)", *_three(report[name]["ms"]))
    table.add_row(f"all {report['all_frames']['frames']} frames (ms)", *_three(report["all_frames"]["ms"]))
    return table


def _facts(report: Report) -> Iterable[str]:
    device = report["peak_device_memory_mb"]
    yield (
        f"cold start {figure(report['cold_start_s'])} s, {figure(report['prompts_per_frame'])} prompts a frame, "
        f"peak memory {report['peak_memory_mb']:.0f} MB"
        + ("" if device is None else f" on the host, {device:.0f} MB on the device")
    )


def _print_reference(console: Console, reference: Report) -> None:
    columns = ("stock (s)", "ours (s)", "speedup", "recall", "mean IoU", "stock masks", "our masks")
    settings = reference["settings"]
    table = _table(
        f"stock SamAutomaticMaskGenerator, {settings['points_per_side']}x{settings['points_per_side']} points, "
        f"input {settings['input_size']} px",
        "frame",
        *columns,
    )
    for row in (*reference["per_frame"], {**reference, "frame": "all"}):
        table.add_row(str(row["frame"]), *_comparison(row))
    console.print(table)
    console.print(
        f"recall at IoU {reference['recall_iou']}; count differs by {figure(_percent(reference['count_difference']))}%"
    )
    parts = (f"{part} {figure(seconds)}" for part, seconds in reference["ours_split_s"].items())
    console.print(f"ours, seconds a frame: {', '.join(parts)}")


def _comparison(row: Report) -> Sequence[str]:
    figures = [row[key] for key in ("stock_s", "ours_s", "speedup", "recall_of_reference_masks", "mean_iou")]
    return (*(figure(value) for value in figures), str(row["reference_masks"]), str(row["masks"]))


def _print_models(console: Console, models: Report) -> None:
    sam = _table("SAM, seconds a frame", "network", "weights", "input (px)", "encode", "everything", "points", "masks")
    for row in models["sam"]:
        _add(sam, row, "input_px", "encode_s", "segment_everything_s", "points_per_side", "masks")
    dinov2 = _table("DINOv2, seconds a frame", "network", "weights", "input (px)", "frame", "parameters (1e6)")
    for row in models["dinov2"]:
        _add(dinov2, row, "input_px", "frame_s", "parameters_millions")
    for table in (sam, dinov2):
        if table.row_count:
            console.print(table)
    console.print(f"medians of {models['runs']} runs after 1 on an image of {models['image']} px")


def _add(table: Table, row: Report, *keys: str) -> None:
    if row["failed"]:
        table.add_row(row["name"], f"failed: {row['failed']}")
    else:
        table.add_row(row["name"], row["weights"], *(figure(row[key]) for key in keys))


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _three(values: Report) -> tuple[str, str, str]:
    return figure(values["median"]), figure(values["p99"]), figure(values["mean"])


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
