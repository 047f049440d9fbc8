"""The progress bar and the warnings of the command line, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    """Give the items one by one and show how far it is; on a file or pipe only the end is shown.

    Args:
        items: what to go through.
        description: what is done.
        total: how many there are, None where unknown.

    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


def warn(text: str) -> None:
    """Write one line of warning."""
    print(f"sparsematch: warning: {text}", file=sys.stderr)
