#!/usr/bin/env python3
"""Seconds a frame of this version and of an earlier one, frame by frame in turn, in one run.

    .venv/bin/python benchmarks/first_version.py --out benchmarks/results/first_version.json

Both versions process the same simulated frames, each in a process of its own that waits while the other works. Frames
on which SAM's encoder ran are counted apart from those that needed none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# The whole line's first working state: one prompt at a time on the whole frame.
FIRST = "05a5cfe"
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure both versions and print the medians and means."""
    options = _options()
    if options.worker:
        return _work(options.frames_folder)
    with tempfile.TemporaryDirectory() as scratch:
        old, frames = Path(scratch, "old"), Path(scratch, "frames")
        _git("worktree", "add", "--detach", str(old), options.commit)
        try:
            subprocess.run([ROOT / ".venv/bin/sparsematch", "simulate", options.scenario, "--seed", "7",
                            "--out", frames], check=True)  # fmt: skip
            seconds = _measure({"earlier": old, "this": ROOT}, frames)
        finally:
            _git("worktree", "remove", "--force", str(old))
    report = {"scenario": options.scenario, "earlier": options.commit, "cores": os.cpu_count(), **_summary(seconds)}
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="fly_by", help="scenario to simulate (fly_by)")
    parser.add_argument("--commit", default=FIRST, help=f"the earlier version ({FIRST})")
    parser.add_argument("--out", type=Path, help="file to write the figures to")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--frames-folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _git(*words: str) -> None:
    subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True)


def _measure(versions: dict[str, Path], frames: Path) -> dict[str, list[dict[str, float]]]:
    """Let the versions take turns, frame by frame."""
    workers = {name: _start(tree, frames) for name, tree in versions.items()}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    while True:
        for name, worker in workers.items():
            line = _answer(worker)
            if not line:
                return seconds
            seconds[name].append(json.loads(line))


def _start(tree: Path, frames: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "PASSIVE",
                   "SPARSEMATCH_WEIGHTS": str(ROOT / "weights")}  # fmt: skip
    command = [sys.executable, __file__, "--worker", "--frames-folder", str(frames)]
    return subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _answer(worker: subprocess.Popen[str]) -> str:
    """Ask a worker for its next frame; gives its line, empty at the end."""
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("a worker has no pipes")
    try:
        worker.stdin.write("\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return ""
    return worker.stdout.readline()


def _work(folder: Path) -> int:
    """Process one frame for each line of input, with whichever version is on the path."""
    from sparsematch_ros.config import Config
    from sparsematch_ros.media.run import iterate_frames
    from sparsematch_ros.media.sources import open_source
    from sparsematch_ros.pipeline import Pipeline

    pipeline = Pipeline(Config())
    source = open_source(folder, None, None, np.array([0.0, 0.0, 0.0, 1.0]))
    for frame, _ in zip(iterate_frames(source), sys.stdin):
        start = time.perf_counter()
        result = pipeline.process(frame)
        figures = {"seconds": time.perf_counter() - start, "prompts": len(result.prompts)}
        print(json.dumps(figures), flush=True)
    return 0


def _summary(seconds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    def of(name: str, key: str) -> np.ndarray:
        return np.array([frame[key] for frame in seconds[name]][1:])

    earlier, this = of("earlier", "seconds"), of("this", "seconds")
    encoded = (of("earlier", "prompts") > 0) & (of("this", "prompts") > 0)
    return {
        "frames": len(this),
        "frames_encoded_by_both": int(encoded.sum()),
        "mean_s": {"earlier": float(earlier.mean()), "this": float(this.mean())},
        "median_s_encoded": {"earlier": float(np.median(earlier[encoded])), "this": float(np.median(this[encoded]))},
        "speedup_encoded": float(np.median(earlier[encoded] / this[encoded])),
        "speedup_mean": float(earlier.mean() / this.mean()),
        "prompts_per_frame": {name: float(of(name, "prompts").mean()) for name in seconds},
    }


if __name__ == "__main__":
    raise SystemExit(main())
