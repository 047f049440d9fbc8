#!/usr/bin/env python3
"""The loop with Basilisk at several latencies, each beside opNavPoint: `benchmarks/results/basilisk.json`.

    .venv/bin/python benchmarks/basilisk.py [--latencies 0,0.2,2] [--scenario NAME] [--frames N] [--out DIR]

Each flight is a `sparsematch demo`, so the ROS graph itself. Exit status 1 where a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "basilisk.json"
# How much larger the pointing error may be with latency [deg].
MARGIN_DEG = 0.05
KEYS = ("pointing_error_deg_median", "pointing_error_deg_p95")

Figures = dict[str, Any]


def main() -> int:
    """Fly every latency, print the tables and write the result."""
    args = arguments()
    loops = {latency: fly(args, latency) for latency in args.latencies}
    reference = loops[args.latencies[0]]
    result = {
        "scenario": args.scenario,
        "frames": args.frames,
        "loops": [loops[latency] for latency in args.latencies],
        "latency": [compare(reference, loops[latency], latency) for latency in args.latencies[1:]],
    }
    for row in result["latency"]:
        print(f"{row['latency_s']:g} s of latency: {row['larger_deg']} deg larger, limit {MARGIN_DEG}")
    args.results.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    met = [row["met"] for loop in loops.values() for row in loop["figures"]] + [row["met"] for row in result["latency"]]
    print(f"{sum(met)} of {len(met)} figures met; {args.results}")
    return 0 if all(met) else 1


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    text = "seconds from image to request, the first is what the others are compared with"
    parser.add_argument("--latencies", type=lambda text: [float(part) for part in text.split(",")], help=text,
                        default=[0.0, 0.2, 2.0])  # fmt: skip
    parser.add_argument("--scenario", default="basilisk_fly_by", help="scenario with `earth`")
    parser.add_argument("--frames", type=int, default=60, help="images a flight")
    parser.add_argument("--out", type=Path, default=Path("basilisk_bench_output"), help="folder of the flights")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    return parser.parse_args()


def fly(args: argparse.Namespace, latency_s: float) -> Figures:
    """Fly once; give `loop.json` without its history."""
    out = args.out / f"latency_{latency_s:g}"
    command = [
        str(Path(sys.executable).with_name("sparsematch")), "demo", args.scenario, "--dynamics", "basilisk",
        "--frames", str(args.frames), "--latency-s", str(latency_s), "--out", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    loop: Figures = json.loads((out / "loop.json").read_text(encoding="utf-8"))
    loop.pop("history")
    return loop


def compare(reference: Figures, delayed: Figures, latency_s: float) -> Figures:
    """Tell by how much the error grew with latency [deg], median and 95th percentile."""
    larger = [round(delayed["ours"][key] - reference["ours"][key], 4) for key in KEYS]
    return {"latency_s": latency_s, "larger_deg": larger, "met": all(value <= MARGIN_DEG for value in larger)}


if __name__ == "__main__":
    sys.exit(main())
