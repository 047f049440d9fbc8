"""The benchmark on a tiny SAM with random weights: which frames count, what is compared, what it needs installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparsematch_ros import cli
from sparsematch_ros.config import Config, ModelConfig, SegmentationConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.bench import frames_with_target
from sparsematch_ros.evaluation.bench_models import measure_models, plan
from sparsematch_ros.evaluation.bench_options import BenchOptions
from sparsematch_ros.evaluation.bench_pipeline import TimedFrame, measure_line, summarise
from sparsematch_ros.evaluation.bench_reference import Comparison, measure_reference, stock_settings
from sparsematch_ros.evaluation.bench_reference import summarise as summarise_reference
from sparsematch_ros.evaluation.mask_pairing import MaskPairing
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam

ROOT = Path(__file__).parents[2]
# All that `bench` on a folder of images may import, of what requirements/core.in lists.
ALLOWED = {"torch", "torchvision", "segment_anything", "timm", "numpy", "scipy", "cv2", "yaml", "matplotlib", "rich"}
MODULES = {"segment-anything": "segment_anything", "opencv-python": "cv2", "pyyaml": "yaml", "rosbags-image": "rosbags"}
# Masks of random weights are all alike and unstable: they count here all the same, so that the stages behind have work.
ANYTHING = SegmentationConfig(
    pred_iou_thresh=0.0, targeted_iou_thresh=0.0, stability_score_thresh=0.0, points_per_side=4
)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """Give a tiny model on one thread: several wait for each other on a busy machine, for forty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sam = build_sam("mobile_sam", None, 64)
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(2.0)  # Sure of itself, so that its masks are kept.
    yield Models(PromptedSam(sam, torch.device("cpu")), None)
    torch.set_num_threads(threads)


def picture(bright: bool = True) -> np.ndarray:
    """Draw a bright disc of 40 px under a dark sky, or a black sky."""
    image = np.zeros((96, 128, 3), dtype=np.uint8)
    return cv2.circle(image, (60, 50), 20, (180, 180, 180), -1) if bright else image


def flight(*bright: bool) -> list[Frame]:
    return [Frame(index, index * 10**8, picture(each)) for index, each in enumerate(bright)]


# Which frames count ---------------------------------------------------------------------------------------------------


def test_frames_are_sorted_by_what_they_did():
    """Milliseconds are of frames 2 and 3; 4 had no target, 5 skipped the encoder."""
    timed = [
        TimedFrame(2, {"segmentation": 0.2, "total": 0.3}, 4, True),
        TimedFrame(3, {"segmentation": 0.4, "total": 0.5}, 8, True),
        TimedFrame(4, {"segmentation": 0.9, "total": 1.0}, 1, True),
        TimedFrame(5, {"segmentation": 0.0, "total": 0.01}, 0, False),
    ]
    report = summarise(timed, {2, 3, 5})
    assert report["counted_frames"] == 2
    assert report["stages_ms"]["segmentation"]["median"] == pytest.approx(300)
    # Of two values the 99th percentile lies 99% of the way from the smaller to the larger.
    assert report["stages_ms"]["total"] == pytest.approx({"median": 400, "p99": 498, "mean": 400})
    assert report["prompts_per_frame"] == 6
    assert (report["skipped"]["frames"], report["skipped"]["ms"]["median"]) == (1, pytest.approx(10))
    assert (report["without_target"]["frames"], report["without_target"]["ms"]["median"]) == (1, pytest.approx(1000))
    assert report["all_frames"]["frames"] == 4
    assert summarise(timed)["counted_frames"] == 3  # Where no truth tells what is in view.


def test_targets_are_those_over_20_px(tmp_path):
    rows = [(0, 20), (1, 21), (1, 3), (2, 0)]
    lines = [json.dumps({"frame": frame, "bbox_xywh_px": [5, 5, 2, side], "visible_px": side}) for frame, side in rows]
    assert frames_with_target(tmp_path) is None
    (tmp_path / "truth.jsonl").write_text("\n".join(lines))
    assert frames_with_target(tmp_path) == frames_with_target(tmp_path / "frames") == {1}
    (tmp_path / "truth.jsonl").write_text('{"frame": 0}')
    with pytest.raises(SparsematchError, match=r"truth\.jsonl line 1: .*bbox_xywh_px"):
        frames_with_target(tmp_path)


def test_the_line_on_the_clock(models):
    """Of 6 frames in each of 2 runs the first 2 warm up; of the other 4 one is black, and the encoder is not needed."""
    config = Config(segmentation=ANYTHING)
    frames = flight(True, True, True, False, True, True)
    report = measure_line(lambda: Pipeline(config, models), frames, warmup=2, repeat=2)
    assert (report["frames"], report["warmup_frames"], report["refused_frames"]) == (6, 2, 0)
    assert (report["counted_frames"], report["skipped"]["frames"], report["all_frames"]["frames"]) == (6, 2, 8)
    stages = report["stages_ms"]
    assert stages["total"]["median"] >= stages["segmentation"]["median"] > 0
    assert stages["total"]["median"] > report["skipped"]["ms"]["median"] > 0
    assert report["prompts_per_frame"] >= 1
    assert report["cold_start_s"] > report["model_loading_s"] > 0
    assert report["peak_memory_mb"] > 50 and report["peak_device_memory_mb"] is None


def test_refused_frames_are_counted_and_too_few_are_an_error(models):
    load = lambda: Pipeline(Config(segmentation=ANYTHING), models)  # noqa: E731
    frames = flight(True, True, True)
    report = measure_line(load, [*frames, replace(frames[2], index=3)], warmup=1)
    assert (report["refused_frames"], report["all_frames"]["frames"]) == (1, 2)
    with pytest.raises(SparsematchError, match=r"at least 4 usable frames \(--warmup 3\), got 3"):
        measure_line(load, frames, warmup=3)
    with pytest.raises(SparsematchError, match=r"at least 2 usable frames .* got 0"):
        measure_line(load, [])


# Beside the stock generator -------------------------------------------------------------------------------------------


def test_speedup_is_of_medians_over_frames():
    pairings = [
        MaskPairing(np.array([1.0, 0.95, 0.0]), 2),
        MaskPairing(np.array([0.8]), 3),
        MaskPairing(np.zeros(0), 0),
    ]
    seconds = [([8.0, 6.0, 7.0], [2.0, 1.0, 9.0]), ([30.0], [3.0]), ([5.0], [1.0])]
    parts = [{"encode": 0.5, "filter": 0.1}, {"encode": 0.7}, {"encode": 0.6, "filter": 0.3}]
    comparisons = [Comparison(index, *pair, parts[index], pairings[index]) for index, pair in enumerate(seconds)]
    report = summarise_reference(comparisons)
    assert (report["stock_s"], report["ours_s"], report["speedup"]) == (7.0, 2.0, 3.5)
    assert [row["speedup"] for row in report["per_frame"]] == [3.5, 10.0, 5.0]
    assert (report["reference_masks"], report["masks"], report["count_difference"]) == (4, 5, 0.25)
    assert report["recall_of_reference_masks"] == 0.5
    assert report["ours_split_s"] == {"encode": 0.6, "filter": 0.1}
    assert report["mean_iou"] == pytest.approx(2.75 / 4, abs=1e-3)
    assert (report["frames"], report["frames_without_masks"]) == (3, [2])


def test_both_generators_on_the_same_frames(models):
    """Both see every frame; ours repeats the stock one's three masks of each of 16 points, with the same settings."""
    config = replace(ANYTHING, points_per_batch=5, box_nms_thresh=1.0)
    report = measure_reference(models.sam, config, flight(True, True), warmup=0, repeat=2)
    assert [row["frame"] for row in report["per_frame"]] == [0, 1]
    assert min(report["stock_s"], report["ours_s"]) > 0
    assert report["ours_split_s"].keys() == {"encode", "decode", "draw", "enlarge", "filter"}
    assert min(report["ours_split_s"].values()) > 0
    assert report["reference_masks"] == report["masks"] == 2 * 3 * 16
    assert report["recall_of_reference_masks"] == 1.0
    assert report["mean_iou"] >= 0.99
    assert report["settings"] == {**stock_settings(config), "input_size": 64}
    assert report["settings"]["points_per_batch"] == 64 and report["settings"]["points_per_side"] == 4


def test_a_frame_without_masks_stays_in(models):
    strict = replace(ANYTHING, stability_score_thresh=1.0, stability_score_offset=10.0)
    report = measure_reference(models.sam, strict, flight(False), warmup=0)
    assert (report["frames"], report["frames_without_masks"], report["reference_masks"]) == (1, [0], 0)
    assert report["recall_of_reference_masks"] is None and report["mean_iou"] is None


# Network by network ---------------------------------------------------------------------------------------------------


def test_networks_with_random_weights_are_marked_and_failures_named(tmp_path, models):
    """No checkpoint lies in the folder but a broken one of ViT-B, whose row says so and does not stop the others."""
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"not a checkpoint")
    config = Config(model=ModelConfig(weights_folder=str(tmp_path), input_size=64, device="cpu"))
    task = plan(picture(), config, 6, 1)
    report = measure_models(["sam_vit_b", "mobile_sam", "dinov2_vits14"], task)
    broken, mobile = report["sam"]
    assert "sam_vit_b_01ec64.pth has 16 bytes" in broken["failed"]
    assert (mobile["weights"], mobile["failed"], mobile["points_per_side"]) == ("random", None, 6)
    assert mobile["masks"] == 100  # Made to survive, so that what comes after the decoder has its work.
    assert min(mobile["encode_s"], mobile["segment_everything_s"]) > 0
    (small,) = report["dinov2"]
    assert small["weights"] == "random" and small["frame_s"] > 0
    assert small["parameters_millions"] == pytest.approx(22, abs=1)  # ViT-S has 21 to 22 million.


def test_names_of_networks():
    assert BenchOptions().networks == ()
    assert len(BenchOptions(models="all").networks) == 8
    assert BenchOptions(models="mobile_sam, dinov2_vits14").networks == ("mobile_sam", "dinov2_vits14")
    with pytest.raises(SparsematchError, match="--models 'vit_b': give all, or some of mobile_sam, sam_vit_b"):
        BenchOptions(models="mobile_sam,vit_b")


def test_wrong_names_end_with_one_line_before_anything_runs(tmp_path, capsys):
    assert cli.main(["bench", str(tmp_path), "--models", "huge"]) == 2
    assert "sparsematch: error: --models 'huge'" in capsys.readouterr().err


# What it needs --------------------------------------------------------------------------------------------------------

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import torch
from sparsematch_ros import cli, models
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam

torch.set_num_threads(1)
sam = PromptedSam(build_sam("mobile_sam", None, 64), torch.device("cpu"))
models.load_models = lambda config: models.Models(sam, None)  # Random weights: no checkpoint is needed here.
sys.exit(cli.main({argv}))
"""


def test_bench_runs_without_ros_and_most_libraries(tmp_path):
    """In a process where nothing but ALLOWED can be imported, on a folder of images, with all that bench can do."""
    folder, out = tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.jpg"), picture())
    names = re.findall(r"^[a-z][a-z0-9-]*", (ROOT / "requirements" / "core.in").read_text(), re.MULTILINE)
    blocked = {MODULES.get(name, name) for name in names} - ALLOWED | {"rclpy", "sensor_msgs", "cv_bridge", "av"}
    assert {"rosbags", "trimesh", "trackeval", "pycocotools", "embreex"} <= blocked
    settings = ["segmentation.points_per_side=4", f"model.weights_folder={tmp_path}", "model.input_size=64"]
    argv = ["bench", str(folder), "--out", str(out), "--frames", "3", "--stride", "2", "--warmup", "1", "--reference",
            "--models", "mobile_sam", *(part for item in settings for part in ("--set", item))]  # fmt: skip
    code = WITHOUT.format(blocked=sorted(blocked), argv=argv)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "bench.json").read_text())
    assert report["frames"] == 3 and report["reference"]["frames"] == 3
    assert [row["frame"] for row in report["reference"]["per_frame"]] == [0, 2, 4]
    assert report["models"]["sam"][0]["weights"] == "random"
    assert "speedup" in done.stdout and report["device_name"] in done.stdout
    plot = cv2.imread(str(out / "bench.png"))
    assert plot is not None and plot.std() > 5
