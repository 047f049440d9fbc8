"""The slow benchmark of adaptive prompting: its figures from hand-made records, and how it goes on after a stop."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sparsematch_ros.errors import SparsematchError

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    """Import a module of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # adaptive_run imports adaptive_summary by its name.
    spec.loader.exec_module(module)
    return module


SUMMARY = load("adaptive_summary")
RUN = load("adaptive_run")


def row(case: str, frame: int, prompts: int, found: str | None = None, counted: str = "ab", **more: object) -> dict:
    chosen = found is not None
    objects = {"counted": list(counted), "found": list(found or "")} if chosen else {}
    return {"case": case, "frame": frame, "prompts": prompts, "chosen": chosen, **objects, **more}


def test_figures_of_both_ways():
    """Of 4 pairs adaptive prompting finds 3 and the grid 2; the frame that was not chosen counts for prompts alone."""
    adaptive = [row("x", 0, 100, "ab"), row("x", 1, 4), row("x", 10, 10, "a")]
    grid = [row("x", 0, 256, "a"), row("x", 10, 256, "b")]
    figures = SUMMARY.compare(adaptive, grid)
    assert (figures["frames"], figures["pairs"]) == (2, 4)
    assert (figures["recall_adaptive"], figures["recall_grid"], figures["ratio"]) == (0.75, 0.5, 1.5)
    assert figures["recall_is_enough"] and "j_mean_grid" not in figures
    prompts = (figures["prompts_per_frame"], figures["prompts_per_frame_of_all_frames"], figures["most_prompts"])
    assert prompts == (55, 38, 100)
    assert not SUMMARY.compare(grid, adaptive)["recall_is_enough"]
    assert SUMMARY.compare(adaptive, [row("x", 0, 256, ""), row("x", 10, 256, "")])["ratio"] is None


def test_j_mean_leaves_out_first_frames_and_empty_truth():
    rows = [row("x", 0, 1, "", overlap=0.0), row("x", 10, 1, "", overlap=0.5), row("x", 11, 1, overlap=None),
            row("x", 20, 1, "", counted="", overlap=None), row("x", 30, 1, "", overlap=1.0)]  # fmt: skip
    assert SUMMARY.j_mean(rows) == 0.75


def test_all_is_pooled_over_pairs_and_not_over_cases():
    records = {
        "x adaptive": [row("x", 0, 1, "ab")],
        "x grid": [row("x", 0, 1, "ab")],
        "y adaptive": [row("y", 0, 3, "", counted="a")],
        "y grid": [row("y", 0, 3, "a", counted="a")],
    }
    summary = SUMMARY.summarise(["x", "y", "not measured"], lambda case: records.get(case, []))
    assert list(summary) == ["x", "y", "all"]
    assert (summary["all"]["recall_adaptive"], summary["all"]["recall_grid"]) == (pytest.approx(2 / 3, abs=1e-3), 1.0)


def test_records_outlive_a_run(tmp_path):
    file = tmp_path / "deep" / "records.jsonl"
    first = RUN.Records(file, {"a": 1})
    first.add(row("x adaptive", 5, 1))
    first.add(row("x grid", 5, 9))
    first.add(row("x adaptive", 5, 77))  # Measured already.
    again = RUN.Records(file, {"a": 1})
    assert again.of("x adaptive") == [row("x adaptive", 5, 1)]
    assert again.has_all("x grid", [5]) and not again.has_all("x grid", [5, 6])
    again.forget_adaptive()
    third = RUN.Records(file, {"a": 1})
    assert third.of("x adaptive") == [] and third.of("x grid") == [row("x grid", 5, 9)]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"settings": {"a": 1}}, row("x grid", 5, 9)]
    with pytest.raises(SparsematchError, match="measured with other settings"):
        RUN.Records(file, {"a": 2})
