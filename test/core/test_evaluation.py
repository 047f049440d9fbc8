"""Every figure of an evaluation on small cases whose values are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.evaluate import open_evaluation, score
from sparsematch_ros.evaluation.matching import match_frames
from sparsematch_ros.evaluation.requests import false_requests, requested_targets
from sparsematch_ros.evaluation.scores import (
    confirmation_scores,
    detection_scores,
    identity_scores,
    j_mean,
    velocity_scores,
)
from sparsematch_ros.evaluation.sightings import Frames, Sighting, group, load_reported, load_truth, sightings_of_labels
from sparsematch_ros.media.records import encode_mask

SIZE = (60, 80)


def sighting(frame: int, identity: str, x: float, y: float, side: float = 20, masked: bool = True, **more) -> Sighting:
    """Make a square object with its left top corner at x, y."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[int(y) : int(y + side), int(x) : int(x + side)] = True
    values = {
        "bbox_xywh_px": np.array([x, y, side, side], dtype=float),
        "centroid_px": np.array([x + (side - 1) / 2, y + (side - 1) / 2]),
        "mask": encode_mask(mask) if masked else None,
        "visible_px": int(mask.sum()),
    }
    return Sighting(frame, identity, **{**values, **more})


def steady(identity: str, frames: range, x: float = 10, y: float = 10, **more) -> Frames:
    return group(sighting(frame, identity, x, y, **more) for frame in frames)


def joined(*parts: Frames) -> Frames:
    return group(item for part in parts for items in part.values() for item in items)


class TestMatching:
    def test_an_object_counts_from_three_frames_after_it_came_into_view(self):
        truth = steady("1", range(2, 8))
        counted = [bool(frame.counted) for frame in match_frames(truth, {}, range(8))]
        assert counted == [False] * 5 + [True] * 3

    def test_coming_back_into_view_starts_the_count_again(self):
        truth = joined(steady("1", range(4)), steady("1", range(5, 10)))
        counted = [bool(frame.counted) for frame in match_frames(truth, {}, range(10))]
        assert counted == [False, False, False, True, False, False, False, False, True, True]

    def test_under_4_visible_px_it_does_not_count_but_is_no_false_alarm_either(self):
        truth = steady("1", range(6), side=20, visible_px=3)
        scores = detection_scores(match_frames(truth, steady("a", range(6)), range(6)))
        assert scores == {"precision": None, "recall": None, "false_confirmed": 0}

    def test_half_of_the_union_is_enough_and_less_is_not(self):
        # Two 20 px squares shifted by s overlap by (20 - s) / (20 + s): 0.54 at 6 px, 0.48 at 7 px.
        truth = steady("1", range(4))
        for shift, hits in ((6, 1), (7, 0)):
            matches = match_frames(truth, steady("a", range(4), x=10 + shift), range(4))
            assert len(matches[3].hits) == hits and len(matches[3].missed) == 1 - hits

    def test_a_small_object_matches_by_its_centroid(self):
        truth = steady("1", range(4), side=4, masked=False)
        for shift, hits in ((2.0, 1), (2.1, 0)):
            reported = steady("a", range(4), x=10 + shift, side=4, masked=False)
            assert len(match_frames(truth, reported, range(4))[3].hits) == hits
        # 10 px across is no longer small, and without masks nothing overlaps.
        wide = steady("1", range(4), side=10, masked=False)
        assert not match_frames(wide, steady("a", range(4), side=10, masked=False), range(4))[3].hits

    def test_each_is_matched_once_and_the_better_pair_wins(self):
        truth = joined(steady("1", range(4)), steady("2", range(4), x=16))
        reported = joined(steady("a", range(4), x=11), steady("b", range(4), x=17))
        pairs = [(true.id, item.id) for true, item in match_frames(truth, reported, range(4))[3].pairs]
        assert sorted(pairs) == [("1", "a"), ("2", "b")]


class TestScores:
    def test_precision_recall_and_false_identities(self):
        # 7 frames count (3..9): found in 5 of them; beside it 2 false reports of one identity that never matches.
        truth = steady("1", range(10))
        reported = joined(steady("a", range(5, 10)), steady("ghost", range(4, 6), x=50, y=35))
        scores = detection_scores(match_frames(truth, reported, range(10)))
        assert scores == {"precision": 5 / 7, "recall": 5 / 7, "false_confirmed": 1}

    def test_a_perfect_result(self):
        truth = steady("1", range(10))
        matches = match_frames(truth, steady("a", range(10)), range(10))
        assert identity_scores(matches) == {"hota": 1.0, "idf1": 1.0, "id_switches": 0}

    def test_an_identity_that_changes_half_way(self):
        # 8 frames count; a has the first 4, b the last 4. DetA = 1. Association of every hit: 4 / (8 + 4 - 4) = 0.5,
        # so HOTA = sqrt(0.5). IDF1: one identity keeps 4 of 8 on both sides: 2*4 / (2*4 + 4 + 4) = 0.5.
        truth = steady("1", range(11))
        reported = joined(steady("a", range(7)), steady("b", range(7, 11)))
        scores = identity_scores(match_frames(truth, reported, range(11)))
        assert scores["id_switches"] == 1
        assert scores["idf1"] == pytest.approx(0.5) and scores["hota"] == pytest.approx(np.sqrt(0.5))

    def test_nothing_reported(self):
        matches = match_frames(steady("1", range(10)), {}, range(10))
        assert detection_scores(matches) == {"precision": None, "recall": 0.0, "false_confirmed": 0}
        assert identity_scores(matches) == {"hota": 0.0, "idf1": 0.0, "id_switches": 0}
        # The object was in view in all 10 frames.
        assert confirmation_scores(matches) == {"frames_to_confirm": 10, "never_found": 1, "true_objects": 1}

    def test_no_truth_at_all(self):
        matches = match_frames({}, steady("a", range(3)), range(3))
        assert detection_scores(matches) == {"precision": 0.0, "recall": None, "false_confirmed": 1}
        assert identity_scores(matches) == {"hota": None, "idf1": None, "id_switches": None}

    def test_frames_to_confirm_counts_what_was_never_found(self):
        # 1 is found 4 frames after it came into view, 2 after 7, 3 never in its 10 frames, nor 4 in its 5; 5 shows for
        # 3 frames and so never counts.
        truth = joined(
            *(steady("1", range(10)), steady("2", range(2, 10), x=50), steady("3", range(10), y=35)),
            *(steady("4", range(5), x=50, y=35), steady("5", range(6, 9), x=30, y=35)),
        )
        reported = joined(steady("a", range(4, 10)), steady("b", range(9, 10), x=50))
        scores = confirmation_scores(match_frames(truth, reported, range(10)))
        assert scores == {"frames_to_confirm": (5 + 7) / 2, "never_found": 2, "true_objects": 4}

    def test_hota_is_the_mean_over_the_thresholds_of_the_overlap(self):
        # Squares of 20 px shifted by 5 px overlap by 15 / 25 = 0.6, which reaches the 12 thresholds 0.05 ... 0.60.
        truth = steady("1", range(10))
        scores = identity_scores(match_frames(truth, steady("a", range(3, 10), x=15), range(10)))
        assert scores["hota"] == pytest.approx(12 / 19) and scores["idf1"] == 1.0
        # Shifted by 10 px, 1 / 3 is no match for IDF1, but reaches the 6 thresholds up to 0.30.
        scores = identity_scores(match_frames(truth, steady("a", range(3, 10), x=20), range(10)))
        assert scores["hota"] == pytest.approx(6 / 19) and scores["idf1"] == 0.0

    def test_hota_of_a_point_falls_by_a_quarter_a_pixel(self):
        # 1 - d / 4 px: 0.625 at 1.5 px, 12 thresholds; 0.375 at 2.5 px, 7; nothing from 4 px on.
        truth = steady("1", range(10), side=4, masked=False)
        for shift, reached in ((0, 19), (1.5, 12), (2.5, 7), (4, 0)):
            reported = steady("a", range(3, 10), x=10 + shift, side=4, masked=False)
            assert identity_scores(match_frames(truth, reported, range(10)))["hota"] == pytest.approx(reached / 19)

    def test_hota_of_a_miss_a_false_report_and_a_poor_overlap(self):
        # 8 frames count. a overlaps by 0.6 in the first 6 of them and is gone in the last 2; a ghost shows in 2 frames.
        # Up to 0.60: DetA = 6 / (6 + 2 + 2), AssA = 6 / (6 + 2), HOTA = sqrt(0.6 * 0.75); above it nothing.
        truth = steady("1", range(11))
        reported = joined(steady("a", range(3, 9), x=15), steady("ghost", range(4, 6), x=50, y=35))
        hota = identity_scores(match_frames(truth, reported, range(11)))["hota"]
        assert hota == pytest.approx(12 / 19 * np.sqrt(0.6 * 0.75))

    def test_velocity_errors(self):
        # Errors 3 px/s on a true 30 px/s, 1 px/s on a true 2 px/s whose floor is 1 px / 0.1 s = 10 px/s.
        truth = joined(
            steady("1", range(5), velocity_px_s=np.array([30.0, 0.0]), bearing_rate_rad_s=np.array([0.02, 0, 0])),
            steady("2", range(5), x=50, velocity_px_s=np.array([0.0, 2.0])),
        )
        reported = joined(
            steady("a", range(5), velocity_px_s=np.array([33.0, 0.0]), velocity_covariance=np.eye(2),
                   bearing_rate_rad_s=np.array([0.02, 0.003, 0.004])),
            steady("b", range(5), x=50, velocity_px_s=np.array([0.0, 3.0]), velocity_covariance=np.eye(2)),
        )  # fmt: skip
        scores = velocity_scores(match_frames(truth, reported, range(5)), interval_s=0.1)
        assert scores["velocity_rmse_px_s"] == pytest.approx(np.sqrt((9 + 1) / 2))
        assert scores["velocity_relative_error"] == pytest.approx((3 / 30 + 1 / 10) / 2)
        # The interval is 0.1 s, so a pixel a frame is 10 px/s.
        assert scores["velocity_rmse_px_frame"] == pytest.approx(np.sqrt((9 + 1) / 2) / 10)
        assert scores["bearing_rate_rmse_rad_s"] == pytest.approx(0.005)
        assert scores["bearing_rate_relative_error"] == pytest.approx(0.005 / 0.02)
        # Squared distances 9 and 1 against 5.99.
        assert scores["nees_in_95"] == 0.5 and scores["nees_median"] == pytest.approx((9 + 1) / 2)

    def test_nees_of_gaussian_errors_is_95_percent(self):
        rng = np.random.default_rng(5)
        covariance = np.array([[4.0, 1.5], [1.5, 2.0]])
        errors = rng.multivariate_normal([0, 0], covariance, size=2000)
        truth = steady("1", range(2000), velocity_px_s=np.zeros(2))
        reported = group(
            sighting(frame, "a", 10, 10, velocity_px_s=error, velocity_covariance=covariance)
            for frame, error in enumerate(errors)
        )
        scores = velocity_scores(match_frames(truth, reported, range(2000)), 0.1)
        # Three standard deviations of a share of 0.95 in 2000 draws; the median of chi-square is 2 ln 2.
        assert scores["nees_in_95"] == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 2000))
        assert scores["nees_median"] == pytest.approx(2 * np.log(2), rel=0.15)

    def test_unknown_velocities_are_left_out(self):
        scores = velocity_scores(match_frames(steady("1", range(5)), steady("a", range(5)), range(5)), 0.1)
        assert set(scores.values()) == {None}


TRUE_ID, FALSE_ID = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


def record(frame: int, identity: str, state: str = "confirmed", **more) -> dict:
    """Make a line of `objects.jsonl`: an object that rests 0.1 rad right of the boresight."""
    known = {"bearing": [np.sin(0.1), 0.0, np.cos(0.1)], "bearing_rate_rad_s": [0.0, 0.0, 0.0], "confidence": 0.99}
    pixels = {"bbox_xywh_px": [10, 10, 20, 20], "centroid_px": [19.5, 19.5], "velocity_px_s": [1.0, 0.0]}
    apart = {"apparent_velocity_px_s": [1.0, 0.0], "moving": True}
    return {"frame": frame, "id": identity, "state": state, **known, **pixels, **apart, **more}


STAMPS_NS = {frame: 200_000_000 * (frame + 1) for frame in range(8)}


class TestFalseRequests:
    def test_requests_for_an_identity_that_matches_nothing(self):
        # Requests for the true object in frames 0 to 2, for the false one, which is alone from 4 on, in 4 to 7 but 6:
        # there it coasts.
        records = [record(frame, TRUE_ID) for frame in range(3)]
        records += [record(frame, FALSE_ID, "coasting" if frame == 6 else "confirmed") for frame in range(4, 8)]
        targets = requested_targets(records, STAMPS_NS)
        assert targets == {**dict.fromkeys((0, 1, 2), TRUE_ID), **dict.fromkeys((4, 5, 7), FALSE_ID)}
        truth = steady("1", range(8))
        reported = joined(steady(TRUE_ID, range(3)), steady(FALSE_ID, range(4, 8), x=50, y=35))
        assert false_requests(targets, match_frames(truth, reported, range(8))) == 3
        # An identity that matches in one frame is not false; without truth both are.
        once = joined(reported, steady(FALSE_ID, range(3, 4)))
        assert false_requests(targets, match_frames(truth, once, range(8))) == 0
        assert false_requests(targets, match_frames({}, reported, range(8))) == 6

    def test_what_the_attitude_node_would_not_request(self):
        quiet = {
            "tentative": {"state": "tentative"},
            "at rest": {"moving": False},
            "unsure": {"confidence": 0.7},
            "confidence unknown": {"confidence": None},
            "no intrinsics": {"bearing": None, "bearing_rate_rad_s": None},
            # The dead band is 0.05 deg, and 95% of 2 deg/s may go into following.
            "on the boresight": {"bearing": [0.0, 0.0, 1.0]},
            "too fast": {"bearing_rate_rad_s": [0.0, np.radians(2.0), 0.0]},
        }
        for why, values in quiet.items():
            assert requested_targets([record(0, FALSE_ID, **values)], STAMPS_NS) == {}, why
        assert requested_targets([record(0, FALSE_ID)], STAMPS_NS) == {0: FALSE_ID}


class TestJMean:
    def test_union_of_reported_masks_and_frames_without(self):
        # Frame 0 is left out. 1: exact; 2: none reported, 0; 3: two halves of 10x20 beside each other, exact;
        # 4: no true mask, not a frame of the mean; 5: one half, 0.5.
        truth = joined(steady("1", range(4)), steady("1", range(5, 6)))
        left, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
        left[10:30, 10:20], right[10:30, 20:30] = True, True
        masks = {"a": encode_mask(left), "b": encode_mask(right)}
        halves = [replace(sighting(3, name, 10, 10), mask=mask) for name, mask in masks.items()]
        half = replace(halves[0], frame=5)
        reported = joined(steady("a", range(2)), group(halves), steady("z", range(4, 5), x=50), group([half]))
        assert j_mean(truth, reported, range(6)) == pytest.approx((1 + 0 + 1 + 0.5) / 4)

    def test_without_true_masks_it_is_unknown(self):
        assert j_mean(steady("1", range(5), masked=False), steady("a", range(5)), range(5)) is None

    def test_masks_of_another_size_are_an_error(self):
        other = Sighting(1, "a", np.zeros(4), np.zeros(2), encode_mask(np.ones((10, 10), bool)))
        with pytest.raises(SparsematchError, match=r"different sizes.*\(10, 10\).*\(60, 80\)"):
            j_mean(steady("1", range(3)), group([other]), range(3))


def write_frames(folder: Path, count: int) -> None:
    (folder / "frames").mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / "frames" / f"{number:05d}.png"), np.zeros((*SIZE, 3), np.uint8))


class TestFolders:
    def test_8_bit_masks_are_one_object(self):
        labels = np.zeros(SIZE, np.uint8)
        labels[5:10, 5:15], labels[40:45, 60:70] = 255, 255
        (item,) = sightings_of_labels(labels, 3)
        assert (item.frame, item.id, item.visible_px) == (3, "1", 100)
        np.testing.assert_array_equal(item.bbox_xywh_px, [5, 5, 65, 40])
        np.testing.assert_allclose(item.centroid_px, [(9.5 + 64.5) / 2, (7 + 42) / 2])
        assert sightings_of_labels(np.zeros(SIZE, np.uint8), 0) == []

    def test_a_folder_with_masks_alone(self, tmp_path):
        write_frames(tmp_path, 6)
        (tmp_path / "masks").mkdir()
        for number in range(6):
            labels = np.zeros(SIZE, np.uint8)
            labels[10:30, 10 + number : 30 + number] = 255
            cv2.imwrite(str(tmp_path / "masks" / f"{number:05d}.png"), labels)
        source, truth = open_evaluation(tmp_path)
        assert source.length == 6 and sorted(truth) == list(range(6))
        reported = group(sighting(frame, "a", 10 + frame, 10) for frame in range(3, 6))
        scores = score(truth, reported, list(range(6)), None)
        assert (
            scores["j_mean"] == pytest.approx(3 / 5)
            and scores["recall"] == 1
            and scores["frames_to_confirm"] == 3
            and scores["never_found"] == 0
        )
        assert scores["velocity_rmse_px_s"] is None and scores["nees_in_95"] is None

    def test_truth_lines_take_their_pixels_from_16_bit_masks(self, tmp_path):
        write_frames(tmp_path, 1)
        (tmp_path / "masks").mkdir()
        labels = np.zeros(SIZE, np.uint16)
        labels[10:14, 20:24], labels[30:50, 30:50] = 1, 300
        cv2.imwrite(str(tmp_path / "masks" / "00000.png"), labels)
        line = {"frame": 0, "stamp_s": 0.0, "state": "confirmed", "moving": True, "visible_px": 16, "mask": None}
        rows = [
            {**line, "id": 1, "bbox_xywh_px": [20, 10, 4, 4], "centroid_px": [21.5, 11.5], "velocity_px_s": None},
            {**line, "id": 300, "bbox_xywh_px": [30, 30, 20, 20], "centroid_px": [39.5, 39.5], "velocity_px_s": [1, 2]},
        ]
        (tmp_path / "truth.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        small, large = load_truth(tmp_path, {"00000": 0})[0]
        assert small.mask == encode_mask(labels == 1) and large.mask == encode_mask(labels == 300)
        assert small.velocity_px_s is None and list(large.velocity_px_s) == [1, 2]

    def test_only_reported_objects_are_read(self, tmp_path):
        line = {"frame": 0, "stamp_s": 0.0, "bbox_xywh_px": [0, 0, 1, 1], "centroid_px": [0, 0], "mask": None}
        states = [("a", "confirmed", True), ("b", "coasting", True), ("c", "confirmed", False), ("d", "lost", True)]
        rows = [{**line, "id": name, "state": state, "moving": moving} for name, state, moving in states]
        (tmp_path / "objects.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        assert [item.id for item in load_reported(tmp_path / "objects.jsonl")[0]] == ["a", "b"]

    def test_what_is_missing_or_wrong_is_named(self, tmp_path):
        with pytest.raises(SparsematchError, match="has no frames/"):
            open_evaluation(tmp_path)
        write_frames(tmp_path, 1)
        with pytest.raises(SparsematchError, match=r"neither truth\.jsonl nor masks/"):
            open_evaluation(tmp_path)
        (tmp_path / "masks").mkdir()
        with pytest.raises(SparsematchError, match=r"no mask with the name of a frame, such as 00000\.png"):
            open_evaluation(tmp_path)
        (tmp_path / "masks").rmdir()
        (tmp_path / "truth.jsonl").write_text('{"frame": 0, "id": 1}\n')
        with pytest.raises(SparsematchError, match=r"line of frame 0 is wrong: KeyError\('visible_px'\)"):
            open_evaluation(tmp_path)
        (tmp_path / "truth.jsonl").write_text("{\n")
        with pytest.raises(SparsematchError, match="line 1 is not JSON"):
            open_evaluation(tmp_path)
