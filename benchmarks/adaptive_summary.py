"""Figures from the records of `adaptive.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparsematch_ros.media.figures import rounded

Record = dict[str, Any]
# What adaptive prompting must keep of the full grid's recall.
ENOUGH = 0.98


def summarise(names: Sequence[str], records_of: Callable[[str], list[Record]]) -> Record:
    """Give the figures of each scenario or sequence, and of all together.

    Args:
        names: of scenarios or sequences; those without records are left out.
        records_of: gives the records of `NAME adaptive` and of `NAME grid` in the order of frames.

    """
    pairs = {name: (records_of(f"{name} adaptive"), records_of(f"{name} grid")) for name in names}
    summary = {name: compare(*pair) for name, pair in pairs.items() if all(pair)}
    if not summary:
        return {}
    everything = [[row for name in summary for row in pairs[name][which]] for which in (0, 1)]
    return {**summary, "all": compare(*everything)}


def compare(adaptive: Sequence[Record], grid: Sequence[Record]) -> Record:
    """Lay both ways of prompting side by side, over the chosen frames."""
    ours, theirs = recall(adaptive), recall(grid)
    figures = {"recall_adaptive": ours, "recall_grid": theirs, "ratio": ours / theirs if ours and theirs else None}
    overlaps = {"j_mean_adaptive": j_mean(adaptive), "j_mean_grid": j_mean(grid)}
    known = {name: value for name, value in overlaps.items() if value is not None}
    chosen = [row for row in adaptive if row["chosen"]]
    return {
        "frames": len(chosen),
        "pairs": sum(len(row["counted"]) for row in chosen),
        **{name: None if value is None else rounded(value) for name, value in figures.items()},
        "recall_is_enough": None if ours is None or theirs is None else ours >= ENOUGH * theirs,
        **{name: rounded(value) for name, value in known.items()},
        "prompts_per_frame": rounded(np.mean([row["prompts"] for row in chosen])),
        "prompts_per_frame_of_all_frames": rounded(np.mean([row["prompts"] for row in adaptive])),
        "most_prompts": max(row["prompts"] for row in adaptive),
    }


def recall(rows: Sequence[Record]) -> float | None:
    """Give the share of pairs (frame, visible true object) for which a segment matched; None without a pair."""
    chosen = [row for row in rows if row["chosen"]]
    pairs = sum(len(row["counted"]) for row in chosen)
    return sum(len(row["found"]) for row in chosen) / pairs if pairs else None


def j_mean(rows: Sequence[Record]) -> float | None:
    """Give the mean overlap of the chosen frames, each sequence's first left out; None where it was not measured."""
    overlaps = [row["overlap"] for row in rows if row.get("overlap") is not None and row["frame"] > 0]
    return float(np.mean(overlaps)) if overlaps else None
