"""The whole graph over DDS, closed loop and control run, with the real MobileSAM at a small input size."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

from sparsematch_ros.nodes.children import node_command
from sparsematch_ros.simulation.scenario import find_scenario

FRAMES = 30
SMALL = ["--set", "model.input_size=256"]


def sparsematch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, but from another folder than the source tree's."""
    return subprocess.run(
        [*node_command("sparsematch"), *arguments], capture_output=True, text=True, timeout=280, check=False, cwd="/"
    )


def fly(folder: Path, *options: str) -> tuple[Path, dict[str, Any]]:
    """Fly `fly_by` from nearer the edge, so that the target leaves after 22 frames instead of 42 unless it is followed.

    The spacecraft turns half as fast again, so that it has caught up after 30 frames.

    Returns:
        The demo's folder and summary.

    """
    scenario = yaml.safe_load(find_scenario("fly_by").read_text())
    scenario["objects"][0]["motion"]["position_m"][0] = 16.0
    scenario["camera"]["slew"] = {"max_rate_deg_s": 3.0, "max_acceleration_deg_s2": 1.5}
    (folder / "near_edge.yaml").write_text(yaml.safe_dump(scenario))
    flight = [str(folder / "near_edge.yaml"), "--frames", str(FRAMES), "--out", str(folder)]
    ended = sparsematch("demo", *flight, *SMALL, *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(ended.stdout.strip().splitlines()) == 3
    return folder, json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def closed(tmp_path_factory: Any) -> tuple[Path, dict[str, Any]]:
    """A flight with requests."""
    return fly(tmp_path_factory.mktemp("closed"))


def test_the_loop_keeps_the_target_and_points_at_it(closed: tuple[Path, dict[str, Any]]) -> None:
    """The issue's figures: at least 0.9 in view, under 0.5 deg at the end, here from 10 deg."""
    _, summary = closed
    assert summary["frames"] == FRAMES and summary["lockstep_timeouts"] == 0 and summary["failed_frames"] == 0
    assert summary["pointing_error_deg_first"] >= 10.0
    assert summary["confirmed_objects"] >= 1 and summary["requests_sent"] > 0
    assert summary["in_view_fraction"] >= 0.9
    assert summary["pointing_error_deg_final"] < 0.5
    assert summary["prompts_per_frame"] <= 8


def test_without_requests_the_target_leaves_the_view(tmp_path: Path) -> None:
    _, summary = fly(tmp_path, "--no-requests")
    assert summary["confirmed_objects"] >= 1 and summary["requests_sent"] == 0
    assert set(summary["requests_not_sent"]) == {"disabled"}
    assert summary["in_view_fraction"] < 0.9 and summary["pointing_error_deg_final"] is None


def test_the_demo_leaves_all_it_should(closed: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = closed
    for name in ("overlay.mp4", "tracks.png", "objects.jsonl", "matches.jsonl", "truth.jsonl"):
        assert (folder / name).stat().st_size > 100, name
    frames = ("/camera/image_raw", "/camera/camera_info", "/attitude", "/truth", "/objects", "/matches", "/overlay",
              "/attitude_request_status")  # fmt: skip
    assert {topic: summary["topics"][topic] for topic in frames} == dict.fromkeys(frames, FRAMES)
    assert summary["topics"]["/attitude_request"] == summary["requests_sent"]


def test_the_bag_carries_its_message_definitions(closed: tuple[Path, dict[str, Any]]) -> None:
    """A reader without any definitions of its own reads our messages."""
    folder, summary = closed
    with AnyReader([folder / "bag"]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        ours = [connection for connection in reader.connections if connection.topic == "/objects"]
        problems = [reader.deserialize(data, item.msgtype).problem for item, _, data in reader.messages(ours)]
    assert problems == [""] * FRAMES
    assert counts == {topic: count for topic, count in summary["topics"].items() if topic != "/overlay"}


def test_a_node_that_dies_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    ended = sparsematch("demo", "fly_by", "--out", str(tmp_path), "--set", "model.sam_checkpoint=no_such_file.pt")
    assert ended.returncode == 1
    assert "perception_node ended with status 2" in ended.stderr and "no_such_file.pt" in ended.stderr


def test_an_interrupted_demo_stops_its_nodes_and_leaves_a_bag(tmp_path: Path) -> None:
    """SIGINT while it flies: status 130, nothing goes on writing, and the bag can be read."""
    command = [*node_command("sparsematch"), "demo", "fly_by", "--out", str(tmp_path), *SMALL]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/") as demo:
        truth = tmp_path / "truth.jsonl"
        deadline = time.monotonic() + 120
        while not (truth.exists() and truth.read_text().count("\n") >= 2):
            assert demo.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 130
    size = truth.stat().st_size
    time.sleep(1.0)
    assert truth.stat().st_size == size
    with AnyReader([tmp_path / "bag"]) as reader:
        assert reader.message_count > 0


def reported(folder: Path) -> dict[int, list[list[float]]]:
    """Centroids of reported objects by stamp [ns]."""
    found: dict[int, list[list[float]]] = {}
    for line in (folder / "objects.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["moving"] and record["state"] in ("confirmed", "coasting"):
            found.setdefault(round(record["stamp_s"] * 1e9), []).append(record["centroid_px"])
    return found


def test_run_on_the_bag_finds_the_same_objects_again(closed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Frame by frame the same number of reported objects, centroids within 1 px."""
    folder, _ = closed
    ended = sparsematch("run", str(folder / "bag"), "--out", str(tmp_path), *SMALL)
    assert ended.returncode == 0, ended.stderr
    live, again = reported(folder), reported(tmp_path)
    assert live and live.keys() == again.keys()
    for stamp, centroids in live.items():
        assert len(again[stamp]) == len(centroids)
        distances = np.linalg.norm(np.array(centroids)[:, None] - np.array(again[stamp])[None], axis=2)
        assert distances.min(axis=1).max() <= 1.0
