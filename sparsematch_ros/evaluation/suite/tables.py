"""The suite's tables, on the screen and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from sparsematch_ros.evaluation.suite.report import Report

Cell = Callable[[Report], str]
# What the widest table takes, which a file or a pipe can have.
LEAST_WIDTH = 250


def _number(key: str, form: str = ".3f", scale: float = 1.0) -> Cell:
    def cell(row: Report) -> str:
        value = row.get(key)
        return "-" if value is None else format(value * scale, form)

    return cell


def _beside_worst(key: str, form: str = ".3f", scale: float = 1.0) -> Cell:
    """Write a figure, and in brackets that of the worst run where there are several."""

    def cell(row: Report) -> str:
        text, worst = _number(key, form, scale)(row), row.get("worst", {}).get(key)
        return text if worst is None or len(row["seeds"]) < 2 else f"{text} ({format(worst * scale, form)})"

    return cell


def _text(key: str) -> Cell:
    return lambda row: str(row[key])


FLIGHTS: dict[str, Cell] = {
    "scenario": _text("name"),
    "runs": lambda row: str(len(row["seeds"])),
    "frames": _number("frames", ".0f"),
    "precision": _beside_worst("precision"),
    "recall": _beside_worst("recall"),
    "HOTA": _beside_worst("hota"),
    "IDF1": _beside_worst("idf1"),
    "switches": _beside_worst("id_switches", ".0f"),
    "false": _beside_worst("false_confirmed", ".0f"),
    "requests": _beside_worst("false_requests", ".0f"),
    "confirm": _beside_worst("frames_to_confirm", ".1f"),
    "never": _number("never_found", ".0f"),
    "J": _number("j_mean"),
    "v %": _beside_worst("velocity_relative_error", ".1f", 100),
    "v px": _number("velocity_rmse_px_frame", ".2f"),
    "w %": _number("bearing_rate_relative_error", ".1f", 100),
    "in 95": _beside_worst("nees_in_95"),
    "track ms": _number("motion_matching_tracking_ms", ".1f"),
    "s": _number("seconds_per_frame", ".2f"),
    "prompts": _number("prompts_per_frame", ".1f"),
    "holds": _text("holds"),
}
SEQUENCES: dict[str, Cell] = {
    "sequence": _text("name"),
    "frames": _number("frames", ".0f"),
    "J": _number("j_mean"),
    "oracle's J": _number("oracle_j_mean"),
    "ratio": _number("ratio"),
    "precision": _number("precision"),
    "recall": _number("recall"),
    "s": _number("seconds_per_frame", ".2f"),
    "prompts": _number("prompts_per_frame", ".1f"),
    "holds": _text("holds"),
}
RENDERS: dict[str, Cell] = {
    "sequence": _text("name"),
    "frames": _number("frames", ".0f"),
    "precision": _number("precision"),
    "recall": _number("recall"),
    "HOTA": _number("hota"),
    "IDF1": _number("idf1"),
    "switches": _number("id_switches", ".0f"),
    "false": _number("false_confirmed", ".0f"),
    "requests": _number("false_requests", ".0f"),
    "J": _number("j_mean"),
    "oracle's J": _number("oracle_j_mean"),
    "ratio": _number("ratio"),
    "v %": _number("velocity_relative_error", ".1f", 100),
    "in 95": _number("nees_in_95"),
    "s": _number("seconds_per_frame", ".2f"),
    "prompts": _number("prompts_per_frame", ".1f"),
    "holds": _text("holds"),
}
SKIES: dict[str, Cell] = {
    "image": _text("name"),
    "runs": lambda row: str(len(row["seeds"])),
    "frames": _number("frames", ".0f"),
    "reported": _beside_worst("false_confirmed", ".0f"),
    "background px": _beside_worst("background_error_px"),
    "unknown": _beside_worst("background_unknown", ".0f"),
    "s": _number("seconds_per_frame", ".2f"),
    "holds": _text("holds"),
}
TABLES = {"scenarios": FLIGHTS, "renders": RENDERS, "davis": SEQUENCES, "sky": SKIES}
TITLES = {
    "scenarios": "scenarios: mean of the runs, sum of counts (in brackets: the worst run)",
    "renders": "rendered sequences, beside an oracle",
    "davis": "real sequences, beside an oracle",
    "sky": "real stars, a camera that turns (in brackets: the worst run)",
}


def print_report(report: Report) -> None:
    """Print a table of each part that was evaluated, and below it what does not hold."""
    screen = Console()
    console = screen if screen.width >= LEAST_WIDTH else Console(width=LEAST_WIDTH)
    for part, columns in TABLES.items():
        if report[part]:
            console.print(_table(TITLES[part], columns, report[part]))
            for reason in _reasons(report[part]):
                console.print(reason, highlight=False, markup=False)


def markdown(columns: dict[str, Cell], rows: Sequence[Report]) -> str:
    """Write rows as a table in Markdown, and below it what does not hold."""
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 2), "---"]]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    table = [f"| {' | '.join(line)} |" for line in lines]
    reasons = [f"- {reason}" for reason in _reasons(rows)]
    return "\n".join([*table, "", "Not reached:", "", *reasons] if reasons else table) + "\n"


def markdown_report(report: Report) -> dict[str, str]:
    """Write each part that was evaluated as a table in Markdown, by the part's name."""
    return {part: markdown(columns, report[part]) for part, columns in TABLES.items() if report[part]}


def _reasons(rows: Sequence[Report]) -> list[str]:
    return [f"{row['name']}: {'; '.join(row['reasons'])}" for row in rows if row["reasons"]]


def _table(title: str, columns: dict[str, Cell], rows: Sequence[Report]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, header in enumerate(columns):
        table.add_column(header, justify="left" if number in (0, len(columns) - 1) else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()), style=_style(row))
    return table


def _style(row: Report) -> str | None:
    return "red" if row["holds"] == "no" else None
