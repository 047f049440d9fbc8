"""The suite's results in the documentation: tables between marks in `accuracy.md`, one picture a scenario."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.suite.flights import Flight
from sparsematch_ros.evaluation.suite.report import Report
from sparsematch_ros.evaluation.suite.tables import markdown_report

PAGE = "accuracy.md"


def write_pages(pages: Path, report: Report, flights: Iterable[Flight], runs: Path) -> None:
    """Put the tables into `accuracy.md` and the pictures into `images/`.

    Args:
        pages: folder of the documentation.
        report: content of `suite.json`.
        flights: those of the report; the first of each scenario gives the picture.
        runs: folder with the runs' folders.

    Raises:
        SparsematchError: where the page or a mark in it is missing.

    """
    page = pages / PAGE
    if not page.is_file():
        raise SparsematchError(f"{page} is missing: --pages needs the folder that holds {PAGE}")
    text = page.read_text(encoding="utf-8")
    for part, table in {**markdown_report(report), "machine": _machine(report)}.items():
        text = put_between(text, part, table)
    pictures = _copy_pictures(pages / "images", flights, runs)
    if pictures:
        text = put_between(text, "pictures", pictures)
    page.write_text(text, encoding="utf-8")


def put_between(text: str, part: str, content: str) -> str:
    """Replace what stands between `<!-- PART -->` and `<!-- end of PART -->`.

    Raises:
        SparsematchError: where the marks are not there.

    """
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SparsematchError(f"{PAGE} has no '{begin}' ... '{end}' to put the results between")
    return pattern.sub(lambda _: f"{begin}\n{content}{end}", text, count=1)


def _machine(report: Report) -> str:
    changed = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    length = "quick flights" if report["quick"] else "whole flights"
    return f"Measured on {report['device_name']}; {length}; settings: {changed or 'the defaults'}.\n"


def _copy_pictures(images: Path, flights: Iterable[Flight], runs: Path) -> str:
    images.mkdir(exist_ok=True)
    lines = []
    first = {flight.scenario: flight for flight in reversed(list(flights))}
    for scenario in sorted(first):
        picture = f"accuracy_{scenario}.jpg"
        shutil.copyfile(runs / first[scenario].folder / "overview.jpg", images / picture)
        lines.append(f"![{first[scenario].title}](images/{picture})\n")
    return "\n".join(lines)
