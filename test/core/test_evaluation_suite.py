"""The suite's bookkeeping, its figures, the oracle and the turning camera, without weights."""

from __future__ import annotations

import json
from dataclasses import replace
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
from sparsematch_ros.evaluation.suite.limits import NEES_BAND, NOTHING_THERE, SCENARIO_LIMITS, Limit, judge, limits_of
from sparsematch_ros.evaluation.suite.night_sky import NOISE_SHARE, background_scores, exposed, render_sky
from sparsematch_ros.evaluation.suite.options import SuiteOptions
from sparsematch_ros.evaluation.suite.oracle import best_iou, deepest_point, oracle_j_mean
from sparsematch_ros.evaluation.suite.pages import put_between, write_pages
from sparsematch_ros.evaluation.suite.report import davis_rows, render_rows, scenario_rows, sky_row
from sparsematch_ros.evaluation.suite.sky_view import SkyView
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.simulation.scenario import load_scenario

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
        assert Limit("x", most=1).holds(1) and not Limit("x", most=1).holds(2)
        band = Limit("nees_in_95", least=0.9, most=0.99)
        assert [band.holds(value) for value in (0.89, 0.9, 0.99, 1.0, None)] == [False, True, True, False, False]
        assert [str(limit) for limit in (band, Limit("recall", least=0.98), Limit("id_switches", most=0))] == [
            "0.9 <= nees_in_95 <= 0.99",
            "recall >= 0.98",
            "id_switches <= 0",
        ]

    def test_the_worst_run_decides(self):
        limits = (Limit("recall", least=0.9),)
        cases = {(0.9, 1.0): "yes", (0.85, 1.0): "no", (0.7, 0.8): "no", (1.0, None): "no", (None,): "no"}
        for values, holds in cases.items():
            assert judge(limits, [{"recall": value} for value in values]).holds == holds
        assert judge(limits, [{"recall": 0.8}, {"recall": 1.0}]).reasons == ("recall >= 0.9, is 0.9 (worst 0.8)",)
        assert judge(limits, [{"recall": 0.8}, {}]).reasons == ("recall >= 0.9, is 0.8 (worst unknown)",)
        # Of a band the value that passes it most is the worst: 0.8 by 0.1 and not 1.0 by 0.01.
        band = (Limit("nees_in_95", least=0.9, most=0.99),)
        runs = [{"nees_in_95": value} for value in (1.0, 0.8, 0.95)]
        assert judge(band, runs).reasons == ("0.9 <= nees_in_95 <= 0.99, is 0.917 (worst 0.8)",)
        assert judge((), []).holds == "-"

    def test_every_scenario_has_limits_for_all_that_is_asked(self):
        files = {flight.scenario: flight.file for flight in plan_flights(SuiteOptions(suite=True, quick=True))}
        assert set(files) == set(SCENARIO_LIMITS)
        wanted = {"precision", "recall", "idf1", "id_switches", "false_confirmed", "false_requests"}
        wanted |= {"velocity_relative_error", "nees_in_95"}
        for name, limits in SCENARIO_LIMITS.items():
            scenario = load_scenario(str(files[name]))
            if scenario.objects or scenario.cloud is not None:
                assert {limit.figure for limit in limits} >= wanted, name
            else:
                assert limits == NOTHING_THERE, name

    def test_a_scenario_of_ones_own_keeps_what_holds_everywhere(self):
        assert limits_of("own", [{"recall": None}]) == NOTHING_THERE
        assert limits_of("own", [{"recall": None}, {"recall": 0.5}]) == (*NOTHING_THERE, NEES_BAND)
        assert limits_of("fly_by", [{"recall": None}]) == SCENARIO_LIMITS["fly_by"]


class TestFlights:
    def test_seeds_and_lengths(self, tiny):
        flights = plan_flights(SuiteOptions(suite=True))
        seeds = {name: [each.seed for each in flights if each.scenario == name] for name in ("fly_by", "small_objects")}
        assert seeds == {"fly_by": [101, 102, 103], "small_objects": [101, 102, 103]}
        quick = plan_flights(SuiteOptions(suite=True, quick=True))
        lengths = {each.scenario: each.frames for each in quick}
        assert {each.seed for each in quick} == {101} and max(lengths.values()) == 100
        assert (lengths["fly_by"], lengths["stars_only"]) == (24, 100)
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
            (["--renders", str(tmp_path / "no")], "is no folder"),
            (["--renders", str(tmp_path)], "holds no sequence"),
            (["--sky", str(tmp_path)], "holds no image of a sky"),
        ):
            assert cli.main(["evaluate", *argv, "--out", str(tmp_path / "out")]) == 2
            assert message in capsys.readouterr().err


def render(precision: float, nees: float, overlap: float, **more) -> dict:
    """Make the figures of a rendered sequence whose oracle reaches a J of 0.8."""
    found = {"precision": precision, "recall": 0.9, "id_switches": 0, "nees_in_95": nees, "false_confirmed": 0}
    masks = {"j_mean": overlap, "oracle_j_mean": 0.8, "ratio": overlap / 0.8}
    return {**found, **masks, "true_objects": 1, "frames": 24, **more}


class TestReport:
    def report(self, tiny: Path) -> tuple[dict, list]:
        flights = plan_flights(SuiteOptions(suite=True, scenarios=f"{tiny},stars_only", seeds="1,2", frames=3))
        nothing = {"recall": None, "nees_in_95": None, "false_confirmed": 0, "false_requests": 0, "frames": 3}
        found = {1: {**nothing, "recall": 0.5, "nees_in_95": 0.95}, 2: {**nothing, "recall": 0.7, "nees_in_95": 0.91}}
        runs = [(flight, found[flight.seed] if flight.scenario == "tiny" else nothing) for flight in flights]
        sky = [{"false_confirmed": 1, "background_error_px": 0.2, "background_unknown": 0}]
        parts = {
            "scenarios": scenario_rows(runs),
            "renders": render_rows([("nadir", render(0.9, 0.95, 0.8))]),
            "davis": davis_rows([("car", {"j_mean": 0.8, "oracle_j_mean": 0.9, "ratio": 0.889, "frames": 9})]),
            "sky": [sky_row("stars", [1, 2], [*sky, {**sky[0], "background_error_px": 0.4}])],
        }
        return {"quick": False, "device_name": "a machine", "settings": {}, **parts}, flights

    def test_means_sums_worst_and_verdicts(self, tiny):
        report, _ = self.report(tiny)
        own, stars = report["scenarios"]
        assert (own["name"], own["seeds"], own["frames"]) == ("tiny", [1, 2], 6)
        assert own["recall"] == pytest.approx(0.6) and own["worst"]["recall"] == 0.5
        # Both lie in the band; 0.91 is nearer to its edge.
        assert own["worst"]["nees_in_95"] == 0.91 and own["holds"] == "yes"
        assert (stars["holds"], stars["false_confirmed"], stars["recall"]) == ("yes", 0, None)
        assert report["davis"][0]["holds"] == "yes" and report["sky"][0]["holds"] == "no"
        assert report["sky"][0]["worst"]["background_error_px"] == 0.4

    def test_renders_are_judged_one_by_one_and_in_the_mean(self):
        rows = render_rows([
            ("good", render(0.9, 0.85, 0.8)),
            ("false", render(0.89, 1.0, 0.7)),
            ("empty", {"precision": None, "recall": None, "true_objects": 0, "false_confirmed": 0,
                       "false_requests": 0, "frames": 24}),
            ("requested", {"recall": None, "true_objects": 0, "false_confirmed": 1, "false_requests": 2, "frames": 24}),
        ])  # fmt: skip
        assert [row["holds"] for row in rows] == ["yes", "no", "yes", "no", "no"]
        assert rows[1]["reasons"] == ["precision >= 0.9, is 0.89"]
        assert rows[3]["reasons"] == ["false_confirmed <= 0, is 1", "false_requests <= 0, is 2"]
        # Over those with an object: ellipses 0.925, in the band; J 0.75 of 0.8, 0.9375 and so below 0.95.
        mean = rows[4]
        assert (mean["name"], mean["frames"], mean["nees_in_95"]) == ("mean", 48, pytest.approx(0.925))
        assert mean["ratio"] == pytest.approx(0.9375, abs=1e-3) and len(mean["reasons"]) == 1
        assert render_rows([]) == [] and len(render_rows([("empty", {"true_objects": 0})])) == 1

    def test_real_sequences_are_judged_in_the_mean_too(self):
        figures = {"precision": 0.5, "j_mean": 0.6, "oracle_j_mean": 0.5, "ratio": 1.2}
        rows = davis_rows([("one", figures), ("two", {**figures, "precision": 0.8, "j_mean": 0.44, "ratio": 0.88})])
        # Mean J 0.52 of 0.5, mean precision 0.65.
        assert [row["holds"] for row in rows] == ["yes", "yes", "yes"]
        assert rows[2]["precision"] == pytest.approx(0.65) and rows[2]["ratio"] == pytest.approx(1.04)
        assert davis_rows([("one", {**figures, "precision": 0.59})])[1]["reasons"] == ["precision >= 0.6, is 0.59"]

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
        assert text.count("| nadir | 24 | 0.900 |") == 1 and "0.600 (0.500)" in text
        assert "stars: false_confirmed <= 0, is 1 (worst 1); background_error_px <= 0.1, is 0.3 (worst 0.4)" in text
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
        for seed in range(4):
            view = SkyView.over(1024, 768, 60, np.random.default_rng(seed))
            right, low = view.camera.width - 1.0, view.camera.height - 1.0
            corners = np.array([[0, 0], [right, 0], [0, low], [right, low]])
            steps = []
            for frame in range(60):
                places = view.places(frame, corners)
                assert (places >= 0).all() and (places <= [1023, 767]).all()
                np.testing.assert_allclose(view.pixels(frame, places), corners, atol=1e-3)
                if frame:
                    steps.append(np.linalg.norm(view.moved(frame, corners) - corners, axis=1).max())
                    change = np.linalg.inv(view.homographies[frame - 1]) @ view.homographies[frame]
                    turn = np.linalg.inv(view.camera.matrix) @ change @ view.camera.matrix
                    turn /= np.cbrt(np.linalg.det(turn))
                    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
                    assert Rotation.from_matrix(turn).magnitude() > 0
            assert 3 < max(steps) < 18

    def test_another_seed_turns_otherwise_through_another_lens(self):
        first, same, other = (SkyView.over(512, 384, 20, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.homographies, same.homographies)
        assert np.abs(first.homographies - other.homographies).max() > 1
        assert first.lens.distortion[0] == same.lens.distortion[0] != other.lens.distortion[0]

    def test_the_lens_moves_a_corner_by_its_radial_distortion(self):
        # Brown's model: a point at radius r of the normalized image is seen at r (1 + k1 r^2).
        view = SkyView.over(512, 384, 3, np.random.default_rng(5))
        focal_px, k1 = view.camera.matrix[0, 0], view.lens.distortion[0]
        corner = np.array([0.0, 0.0])
        centre = view.camera.matrix[:2, 2]
        radius = np.linalg.norm(corner - centre) / focal_px
        seen = view.pixels(0, apply_homography(view.homographies[0], corner[None]))[0]
        np.testing.assert_allclose(seen, centre + (corner - centre) * (1 + k1 * radius**2), atol=1e-6)
        assert 0.01 < np.linalg.norm(seen - corner) < 1

    def test_each_frame_has_noise_and_blur_of_its_own(self):
        rng = np.random.default_rng(3)
        flat = np.full((200, 200, 3), 20000, np.float32)
        first, second = (exposed(flat, np.dtype(np.uint16), rng)[..., 0].astype(float) for _ in range(2))
        sigma = NOISE_SHARE * 65535
        for image in (first, second):
            # The standard deviation of 40,000 draws is known to 0.4%.
            assert image.std() == pytest.approx(sigma, rel=0.02) and image.mean() == pytest.approx(20000, abs=5)
        assert (first - second).std() == pytest.approx(np.sqrt(2) * sigma, rel=0.02)
        # A point's peak is its flux over 2 pi sigma^2, so that it varies with the blur.
        point = np.zeros((41, 41, 3), np.float32)
        point[20, 20] = 60000
        peaks = [exposed(point, np.dtype(np.uint16), rng)[20, 20, 0] for _ in range(20)]
        assert 0.14 * 60000 < min(peaks) < 0.75 * max(peaks)

    def test_stars_move_as_the_motion_says(self, tmp_path):
        image = np.full((384, 512), 2000, np.uint16)
        stars = np.array([[256, 190], [200, 150], [310, 230]])
        for x, y in stars:
            image[y - 1 : y + 2, x - 1 : x + 2] = 60000
        image = np.dstack([cv2.GaussianBlur(image, (0, 0), 1.5)] * 3)
        rng = np.random.default_rng(8)
        view = SkyView.over(512, 384, 6, rng)
        render_sky(image, view, tmp_path / "out", True, rng)
        source = FolderSource(tmp_path / "out")
        assert source.length == 6 and source.camera is not None
        np.testing.assert_allclose(source.camera.matrix, view.camera.matrix)
        # The lens stays untold.
        assert not source.camera.distortion.any() and view.lens.distortion.any()
        for number, frame in enumerate(source):
            for x, y in view.pixels(number, stars.astype(float)):
                part = frame.gray[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7].astype(float)
                part = np.clip(part - np.median(part) - 0.05 * np.ptp(part), 0, None)
                rows, columns = np.mgrid[-6:7, -6:7]
                found = [round(x) + (part * columns).sum() / part.sum(), round(y) + (part * rows).sum() / part.sum()]
                np.testing.assert_allclose(found, [x, y], atol=0.15)

    def test_errors_of_a_known_size(self):
        def by_stars(homography: np.ndarray) -> Background:
            return Background(0.2, Layer(LayerKind.STARS, homography, np.zeros((9, 9))), method="stars")

        drawn = SkyView.over(512, 384, 4, np.random.default_rng(4))
        view = replace(drawn, lens=drawn.camera)
        motions = [np.linalg.inv(view.homographies[frame]) @ view.homographies[frame - 1] for frame in range(1, 4)]
        shifted = np.array([[1, 0, 0.3], [0, 1, 0.4], [0, 0, 1.0]])
        found = {0: Background(), 1: by_stars(motions[0]), 2: by_stars(shifted @ motions[1]), 3: Background(dt_s=0.2)}
        assert background_scores(view, found) == {"background_error_px": 0.5, "background_unknown": 1}
