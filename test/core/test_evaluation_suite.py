"""The suite's bookkeeping, its figures, the oracle and the turning camera, without weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros import cli
from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.sightings import group, sightings_of_labels
from sparsematch_ros.evaluation.suite.flights import fly, plan_flights
from sparsematch_ros.evaluation.suite.limits import EVERYWHERE, SCENARIO_LIMITS, Limit, judge, limits_of
from sparsematch_ros.evaluation.suite.night_sky import SkyView, background_scores, render_sky
from sparsematch_ros.evaluation.suite.options import SuiteOptions
from sparsematch_ros.evaluation.suite.oracle import best_iou, deepest_point, oracle_j_mean
from sparsematch_ros.evaluation.suite.pages import put_between, write_pages
from sparsematch_ros.evaluation.suite.report import scenario_rows, sequence_row, sky_row
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline

TINY = """
name: tiny
description: one point passes
frames: 3
rate_hz: 5
camera: {width_px: 96, height_px: 64}
stars: {}
objects:
  - {name: dot, motion: {position_m: [0, 0, 50], velocity_m_s: [3, 0, 0]}, point: {signal_to_noise: 50}}
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


class TestLimits:
    def test_a_limit_at_its_edges(self):
        assert Limit("recall", least=0.98).holds(0.98) and not Limit("recall", least=0.98).holds(0.979)
        assert Limit("x", most=1).holds(1) and not Limit("x", most=1, strict=True).holds(1)
        band = Limit("nees_in_95", least=0.9, most=0.99)
        assert [band.holds(value) for value in (0.89, 0.9, 0.99, 1.0, None)] == [False, True, True, False, False]
        assert str(band) == "0.9 <= nees_in_95 <= 0.99"

    def test_in_every_run_on_average_and_not_at_all(self):
        limits = (Limit("recall", least=0.9),)
        cases = {
            (0.9, 1.0): "yes",
            (0.85, 1.0): "on average",
            (0.7, 1.0): "no",
            (1.0, None): "on average",
            (None,): "no",
        }
        for values, holds in cases.items():
            assert judge(limits, [{"recall": value} for value in values]).holds == holds
        assert judge(limits, [{"recall": 0.7}, {"recall": 1.0}]).reasons == ("recall >= 0.9, is 0.85 (worst 0.7)",)
        assert judge((), []).holds == "-"

    def test_counts_are_taken_over_all_frames_of_all_runs(self):
        # 2 in 180 frames are 1.11 in 100 frames and 3.3 in 300.
        runs = [{"false_confirmed": 2, "id_switches": 1, "frames": 60}, *[{"false_confirmed": 0, "frames": 60}] * 2]
        strict = Limit("false_confirmed", most=1, per_frames=100, strict=True)
        assert judge((strict,), runs).reasons == ("false_confirmed in 100 frames < 1, is 1.11",)
        assert judge((strict,), [*runs, {"false_confirmed": 0, "frames": 60}]).holds == "yes"

    def test_every_scenario_with_limits_exists_and_stars_alone_need_no_ellipse(self):
        flown = {flight.scenario for flight in plan_flights(SuiteOptions(suite=True))}
        assert set(SCENARIO_LIMITS) <= flown
        assert EVERYWHERE[0] in limits_of("fly_by", [{"recall": 1.0}])
        assert limits_of("stars_only", [{"recall": None}]) == SCENARIO_LIMITS["stars_only"]


class TestFlights:
    def test_seeds_and_lengths(self, tiny):
        flights = plan_flights(SuiteOptions(suite=True))
        seeds = {name: [each.seed for each in flights if each.scenario == name] for name in ("fly_by", "small_objects")}
        assert seeds == {"fly_by": [101, 102, 103], "small_objects": [101, 102, 103, 104, 105]}
        # Switches are counted in 300 frames.
        assert sum(each.frames for each in flights if each.scenario == "small_objects") == 300
        quick = plan_flights(SuiteOptions(suite=True, quick=True))
        assert {each.seed for each in quick} == {101} and {each.frames for each in quick} == {24, 100}
        (own,) = plan_flights(SuiteOptions(suite=True, scenarios=str(tiny), seeds="7", frames=2))
        assert (own.scenario, own.seed, own.frames, own.file) == ("tiny", 7, 2, tiny)

    def test_a_run_is_done_once_and_again_when_something_changes(self, tiny, tmp_path, blob_sam):
        made = []

        def pipeline() -> Pipeline:
            made.append(1)
            return Pipeline(Config(), Models(blob_sam, None))

        (flight,) = plan_flights(SuiteOptions(suite=True, scenarios=str(tiny), seeds="101"))
        out = tmp_path / "runs"
        first = fly(flight, Config(), "cpu", pipeline, out)
        assert first["frames"] == 3 and first["refused_frames"] == 0 and len(made) == 1
        folder = out / "tiny_seed_101_frames_3"
        assert json.loads((folder / "metrics.json").read_text()) == first
        assert json.loads((folder / "summary.json").read_text())["source"] == "tiny, seed 101"
        assert fly(flight, Config(), "cpu", pipeline, out) == first and len(made) == 1
        tiny.write_text(TINY.replace("[3, 0, 0]", "[4, 0, 0]"))
        fly(flight, Config(), "cpu", pipeline, out)
        assert len(made) == 2
        # A run that was broken off has left no key.
        (folder / "key.json").unlink()
        fly(flight, Config(), "cpu", pipeline, out)
        assert len(made) == 3

    def test_options_that_are_wrong(self, tmp_path, capsys):
        for argv, message in (
            ([], "either a FOLDER or some of --suite"),
            ([str(tmp_path), "--suite"], "either a FOLDER or some of --suite"),
            (["--suite", "--seeds", "1,x"], "--seeds 1,x: expected whole numbers"),
            (["--suite", "--scenarios", "no_such"], "scenario 'no_such' is unknown"),
            (["--davis", str(tmp_path / "no")], "is no folder"),
            (["--davis", str(tmp_path)], "holds no sequence"),
            (["--sky", str(tmp_path)], "holds no image of a sky"),
        ):
            assert cli.main(["evaluate", *argv, "--out", str(tmp_path / "out")]) == 2
            assert message in capsys.readouterr().err


class TestReport:
    def report(self, tiny: Path) -> tuple[dict, list]:
        flights = plan_flights(SuiteOptions(suite=True, scenarios=f"{tiny},stars_only", seeds="1,2", frames=3))
        scores = {"recall": None, "nees_in_95": None, "false_confirmed": 0, "frames": 3}
        runs = [
            (flight, {**scores, "recall": 0.5, "nees_in_95": 0.95} if flight.scenario == "tiny" else scores)
            for flight in flights
        ]
        parts = {
            "scenarios": scenario_rows(runs),
            "davis": [sequence_row("car", {"j_mean": 0.8, "oracle_j_mean": 0.9, "ratio": 0.889, "frames": 9})],
            "sky": [sky_row("stars", {"false_confirmed": 1, "background_error_px": 0.2, "background_unknown": 0})],
        }
        return {"quick": False, "device_name": "a machine", "settings": {}, **parts}, flights

    def test_means_sums_and_verdicts(self, tiny):
        report, _ = self.report(tiny)
        own, stars = report["scenarios"]
        assert (own["name"], own["seeds"], own["frames"], own["recall"], own["holds"]) == (
            "tiny",
            [1, 2],
            6,
            0.5,
            "yes",
        )
        assert (stars["holds"], stars["false_confirmed"], stars["recall"]) == ("yes", 0, None)
        assert report["davis"][0]["holds"] == "yes" and report["sky"][0]["holds"] == "no"

    def test_pages_take_tables_and_pictures(self, tiny, tmp_path):
        report, flights = self.report(tiny)
        for flight in flights:
            (tmp_path / "runs" / flight.folder).mkdir(parents=True)
            (tmp_path / "runs" / flight.folder / "overview.jpg").write_bytes(flight.folder.encode())
        pages = tmp_path / "docs"
        pages.mkdir()
        (pages / "accuracy.md").write_text((Path(__file__).parents[2] / "docs" / "accuracy.md").read_text())
        for _ in range(2):  # A second time replaces the first.
            write_pages(pages, report, flights, tmp_path / "runs")
        text = (pages / "accuracy.md").read_text()
        assert text.count("| tiny | 2 | 6 |") == 1 and text.count("| car |") == 1 and "Measured on a machine" in text
        assert "stars: false_confirmed <= 0, is 1; background_error_px <= 0.1, is 0.2" in text
        assert "![tiny, seed 1](images/accuracy_tiny.jpg)" in text and "Not measured yet" not in text
        assert (pages / "images" / "accuracy_tiny.jpg").read_text() == "tiny_seed_1_frames_3"

    def test_a_page_without_marks_is_an_error(self):
        with pytest.raises(SparsematchError, match="has no '<!-- sky -->'"):
            put_between("nothing", "sky", "table")


class TestOracle:
    def test_the_deepest_point_of_a_rectangle_is_its_centre(self):
        mask = np.zeros((60, 80), dtype=bool)
        mask[10:31, 20:61] = True  # 21 rows, 41 columns: deepest along the middle row, the middle of those is taken.
        np.testing.assert_array_equal(deepest_point(mask), [40, 20])
        # Over the border, too: what is not in the image is outside.
        mask = np.zeros((60, 80), dtype=bool)
        mask[:21, :21] = True
        np.testing.assert_array_equal(deepest_point(mask), [10, 10])

    def test_the_deepest_point_lies_inside_a_ring(self):
        rows, columns = np.mgrid[:60, :80]
        distance = np.hypot(rows - 30, columns - 40)
        ring = (distance < 25) & (distance > 12)
        x, y = deepest_point(ring).astype(int)
        assert ring[y, x] and distance[y, x] == pytest.approx(18.5, abs=1.5)

    def test_the_best_mask_counts(self, blob_sam):
        """The small SAM draws rough discs of 16, 20, 26 and 34 px around the point; a square is nearest to one."""
        image = np.zeros((128, 128, 3), np.uint8)
        square = np.zeros((128, 128), dtype=bool)
        square[44:84, 44:84] = True
        overlap = best_iou(blob_sam, image, square)
        # The disc of 20 px in it would give 0.79; its blobs are rough.
        assert 0.5 < overlap < 0.95
        empty, frames = np.zeros((128, 128), np.uint16), [Frame(number, number, image) for number in range(4)]
        labels = [square, square, empty, square]
        truth = group(item for row in range(4) for item in sightings_of_labels(labels[row].astype(np.uint16), row))
        # The first frame and the empty one are left out.
        assert oracle_j_mean(blob_sam, frames, truth) == pytest.approx(overlap)
        assert oracle_j_mean(blob_sam, frames[:1], truth) is None


class TestNightSky:
    def test_the_view_stays_inside_the_image_and_turns_as_a_camera_does(self):
        view = SkyView.over(1024, 768, 60)
        width, height = view.camera.width, view.camera.height
        corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], dtype=float)
        for homography in view.homographies:
            seen = apply_homography(homography, corners)
            assert (seen >= 0).all() and (seen <= [1023, 767]).all()
        steps = []
        for frame in range(1, 60):
            motion = view.motion(frame)
            turn = np.linalg.inv(view.camera.matrix) @ motion @ view.camera.matrix
            turn /= np.cbrt(np.linalg.det(turn))
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
            steps.append(np.linalg.norm(apply_homography(motion, corners) - corners, axis=1).max())
            assert Rotation.from_matrix(turn).magnitude() > 0
        assert 5 < max(steps) < 15

    def test_stars_move_as_the_motion_says(self, tmp_path):
        image = np.full((384, 512), 2000, np.uint16)
        stars = np.array([[256, 190], [200, 150], [310, 230]])
        for x, y in stars:
            image[y, x] = 60000
        image = cv2.GaussianBlur(image, (0, 0), 1.5)
        file = tmp_path / "stars.png"
        cv2.imwrite(str(file), image)
        view = SkyView.over(512, 384, 6)
        render_sky(file, view, tmp_path / "out", with_camera=True)
        source = FolderSource(tmp_path / "out")
        assert source.length == 6 and source.camera is not None
        np.testing.assert_allclose(source.camera.matrix, view.camera.matrix)
        for number, frame in enumerate(source):
            wanted = apply_homography(np.linalg.inv(view.homographies[number]), stars.astype(float))
            for x, y in wanted:
                part = frame.gray[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7].astype(float)
                part -= part.min()
                rows, columns = np.mgrid[-6:7, -6:7]
                found = [round(x) + (part * columns).sum() / part.sum(), round(y) + (part * rows).sum() / part.sum()]
                np.testing.assert_allclose(found, [x, y], atol=0.15)

    def test_errors_of_a_known_size(self):
        def by_stars(homography: np.ndarray) -> Background:
            return Background(0.2, Layer(LayerKind.STARS, homography, np.zeros((9, 9))), method="stars")

        view = SkyView.over(512, 384, 4)
        shifted = np.array([[1, 0, 0.3], [0, 1, 0.4], [0, 0, 1.0]])
        motions = {
            0: Background(),
            1: by_stars(view.motion(1)),
            2: by_stars(shifted @ view.motion(2)),
            3: Background(dt_s=0.2),
        }
        assert background_scores(view, motions) == {"background_error_px": 0.5, "background_unknown": 1}
