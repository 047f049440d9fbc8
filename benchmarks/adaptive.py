"""Adaptive prompting against the full grid: recall of segmentation, `j_mean` and prompts a frame.

    .venv/bin/python benchmarks/adaptive.py [--davis FOLDER]

Takes an hour or two on 2 cores. It can be stopped at any time: what each frame gave is appended to
`adaptive_output/records.jsonl`, and the next run goes on from there. After a change to adaptive prompting, `--again`
measures that anew and keeps what the grid gave; remove the folder to measure all anew. The figures go to
`benchmarks/results/adaptive.json`, with the hardware.

- Simulated: on 10 frames of each scenario, evenly spread, the share of pairs (frame, visible true object) for which a
  segment matches, by adaptive prompting and by a full grid of 32x32. The line runs over all frames, so that adaptive
  prompting has its history. On the 10 frames the grid gets the same image, regions, point sources and predictions;
  both add point sources in the same way.
- DAVIS (a folder of sequences, each with `frames/` and `masks/`): the line runs over all frames twice, with adaptive
  prompting and with a full grid of 16x16. Recall and `j_mean` are those of every 10th frame; `j_mean` leaves out the
  first. A full grid's run needs its own history, so an unfinished one begins anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sparsematch_ros.media.figures import write_json
from sparsematch_ros.process import wait_passively

RESULT = Path(__file__).parent / "results" / "adaptive.json"
RECORDS = Path("adaptive_output") / "records.jsonl"


def main() -> int:
    """Measure what is missing and write the result."""
    options = parse()
    wait_passively()
    from adaptive_run import measure  # Imports torch, which reads at once how its threads shall wait.

    if options.davis is None:
        print("DAVIS left out: give --davis FOLDER with sequences that hold frames/ and masks/", file=sys.stderr)
    result = measure(options.davis, options.records, options.overrides, options.again)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    print(json.dumps(result, indent=2))
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Adaptive prompting against the full grid; resumable.")
    parser.add_argument("--davis", type=Path, metavar="FOLDER", help="sequences with frames/ and masks/ (left out)")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help="result")
    parser.add_argument("--records", type=Path, default=RECORDS, metavar="FILE", help=f"what was measured ({RECORDS})")
    parser.add_argument("--again", action="store_true", help="measure adaptive prompting anew, keep the grid's records")
    parser.add_argument(
        "--set", action="append", default=[], metavar="STAGE.KEY=VALUE", dest="overrides", help="one setting"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
