"""The suite from the command line with the real MobileSAM: three frames, a rectangle under the oracle, real marks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsematch_ros import cli
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.weights.store import locate

TINY = """
name: tiny
description: one point passes
frames: 3
rate_hz: 5
camera: {width_px: 160, height_px: 120}
stars: {}
objects:
  - {name: dot, motion: {position_m: [0, 0, 50], velocity_m_s: [3, 0, 0]}, point: {signal_to_noise: 50}}
"""


@pytest.fixture(autouse=True)
def _weights() -> None:
    try:
        locate("mobile_sam")
    except SparsematchError as missing:
        pytest.skip(f"real weights are needed: {missing}")


def write_sequence(folder: Path) -> None:
    """A bright rectangle moves by 6 px a frame over a textured ground."""
    ground = cv2.GaussianBlur(np.random.default_rng(4).integers(0, 256, (240, 320), dtype=np.uint8), (0, 0), 3)
    ground = np.clip(60.0 + 2 * (ground.astype(float) - ground.mean()), 0, 120).astype(np.uint8)
    (folder / "frames").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(3):
        mask = np.zeros((240, 320), np.uint8)
        mask[80:140, 100 + 6 * number : 190 + 6 * number] = 255
        cv2.imwrite(str(folder / "frames" / f"{number:05d}.png"), np.where(mask > 0, 230, ground).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{number:05d}.png"), mask)


def test_scenarios_and_sequences_from_the_command_line(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    write_sequence(tmp_path / "real" / "rectangle")
    argv = ["evaluate", "--suite", "--scenarios", str(tmp_path / "tiny.yaml"), "--seeds", "101,102"]
    argv += ["--davis", str(tmp_path / "real"), "--out", str(tmp_path / "out"), "--set", "model.device=cpu"]
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "suite.json").read_text())
    (flights,), (sequence, mean) = report["scenarios"], report["davis"]
    assert (flights["name"], flights["seeds"], flights["frames"]) == ("tiny", [101, 102], 6)
    # True objects count from 3 frames after they came into view: not one of these three.
    assert flights["recall"] is None and flights["true_objects"] == 0 and flights["holds"] == "yes"
    # SAM's mask of a plain bright rectangle, asked at its centre, misses but its rim.
    assert sequence["oracle_j_mean"] > 0.9 and sequence["frames"] == 3
    assert sequence["ratio"] == pytest.approx(sequence["j_mean"] / sequence["oracle_j_mean"], rel=2e-3)
    assert (mean["name"], mean["j_mean"], mean["ratio"]) == ("mean", sequence["j_mean"], sequence["ratio"])
    assert "oracle's J" in printed and "tiny" in printed and "rectangle" in printed
    before = (tmp_path / "out" / "runs" / "rectangle_frames_3" / "overlay.mp4").stat().st_mtime_ns
    assert cli.main(argv) == 0
    assert (tmp_path / "out" / "runs" / "rectangle_frames_3" / "overlay.mp4").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["davis"] == report["davis"]
