"""`sparsematch demo`: the ROS graph in a closed loop with a simulated camera, recorded and summed up."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.loop.report import table
from sparsematch_ros.nodes.children import ChildDied
from sparsematch_ros.nodes.demo_report import write_report
from sparsematch_ros.nodes.domain import isolated_domain
from sparsematch_ros.nodes.graph import Plan, fly
from sparsematch_ros.pointing.conventions import quaternion, unit_vector
from sparsematch_ros.process import program
from sparsematch_ros.settings import load_config
from sparsematch_ros.simulation.basilisk.library import load_basilisk
from sparsematch_ros.simulation.demo_options import BASILISK, DemoOptions
from sparsematch_ros.simulation.scenario import Scenario, load_scenario

OUTPUTS = (
    "objects.jsonl", "matches.jsonl", "truth.jsonl", "overlay.mp4", "tracks.png", "summary.json",
    "dynamics.jsonl", "loop.json", "pointing.png",
)  # fmt: skip


def run_demo(options: DemoOptions, config_file: Path | None = None, overrides: Iterable[str] = ()) -> int:
    """Fly a scenario through the ROS graph: camera, perception and attitude request, each a process.

    Writes `bag/`, `overlay.mp4`, `objects.jsonl`, `matches.jsonl`, `truth.jsonl`, `tracks.png`, `summary.json` and
    `logs/`; with Basilisk also `dynamics.jsonl`, `loop.json` and `pointing.png`.

    Args:
        options: what to fly.
        config_file: settings file, or None.
        overrides: `stage.key=value`.

    Returns:
        The exit status: 0, or 1 where a node died, an image was not answered in time, or perception broke on one.

    Raises:
        SparsematchError: for a wrong scenario, setting or folder.

    """
    if options.dynamics == BASILISK:
        load_basilisk()
    flight, out = load_scenario(options.scenario), options.out
    config = fit_pointing(load_config(config_file, overrides), flight, options.requests)
    prepare_folder(out)
    try:
        with isolated_domain():
            recording = fly(Plan(flight, config, options))
    except ChildDied as error:
        print(f"sparsematch: error: {error}", file=sys.stderr)
        return 1
    summary, loop = write_report(recording, flight, config, options)
    for line in table(loop) if loop is not None else ():
        print(line)
    return tell(summary, out)


def fit_pointing(config: Config, scenario: Scenario, requests: bool) -> Config:
    """Tell pointing about the scenario's spacecraft: where the camera sits, and how fast it turns."""
    R_BC = Rotation.from_quat(np.array(scenario.camera.q_BC_xyzw))
    slew = scenario.camera.slew
    pointing = replace(
        config.pointing,
        camera_to_body_xyzw=quaternion(R_BC).tolist(),
        boresight=unit_vector(R_BC.apply([0.0, 0.0, 1.0])).tolist(),
        max_rate_deg_s=slew.max_rate_deg_s,
        max_acceleration_deg_s2=slew.max_acceleration_deg_s2,
        enabled=requests,
    )
    return replace(config, pointing=pointing)


def prepare_folder(out: Path) -> None:
    """Make the folder, and remove what an earlier demo left there, nothing else.

    Raises:
        SparsematchError: where `bag/` is something else than a bag.

    """
    bag = out / "bag"
    if bag.exists():
        if not any(bag.glob("*.mcap")):
            raise SparsematchError(f"{bag} is not an earlier demo's bag: give another folder with --out")
        shutil.rmtree(bag)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)


def final_error(summary: dict[str, Any]) -> str:
    """Describe the last pointing error, to the centroid of the visible part and to the center of mass where known."""
    visible, mass = (summary[f"pointing_error{to}_deg_final"] for to in ("", "_to_center_of_mass"))
    if visible is None:
        return "the target is out of view at the end"
    beside = "" if mass is None else f" ({mass:.2f} deg to the center of mass)"
    return f"final pointing error {visible:.2f} deg{beside}"


def tell(summary: dict[str, Any], out: Path) -> int:
    """Print in three lines what happened and what to look at, and return the exit status."""
    final = final_error(summary)
    print(
        f"{summary['frames']} frames of {summary['scenario']}: {summary['confirmed_objects']} objects confirmed, in "
        f"view in {100 * summary['in_view_fraction']:.0f}% of the frames after that, {final}"
    )
    print(
        f"{summary['requests_sent']} requests sent; {summary['seconds_per_frame']} s and "
        f"{summary['prompts_per_frame']} prompts a frame on {summary['device']}; "
        f"{summary['lockstep_timeouts']} images unanswered, {summary['failed_frames']} failed"
    )
    print(f"look at {out / 'overlay.mp4'} and {out / 'tracks.png'}; go through it again: {program()} run {out / 'bag'}")
    return 1 if summary["lockstep_timeouts"] or summary["failed_frames"] else 0
