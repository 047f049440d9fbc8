"""Records, overlay, tracks and summary, from results made by hand and from a small perception of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest
import torch

from sparsematch_ros.background.layers import Background
from sparsematch_ros.config import Config
from sparsematch_ros.data import (
    Frame,
    FrameResult,
    Matches,
    ObjectState,
    PromptReason,
    SpaceObject,
)
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.outputs import RunOutputs
from sparsematch_ros.media.overlay import draw_overlay, object_colour
from sparsematch_ros.media.records import decode_mask, encode_mask, match_records, object_records
from sparsematch_ros.media.run import run_source
from sparsematch_ros.media.sources import open_source
from sparsematch_ros.media.tracks import gather_tracks
from sparsematch_ros.segmentation.prompts import Prompts
from sparsematch_ros.segmentation.segments import Segments

SIZE = (120, 160)
IDENTITY = UUID("12345678-1234-4234-8234-123456789abc")


def mask_of(x: int, y: int, side: int = 10) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def space_object(x: int = 60, y: int = 50, **change) -> SpaceObject:
    values = {
        "id": IDENTITY,
        "state": ObjectState.CONFIRMED,
        "moving": True,
        "existence_probability": 0.9,
        "bbox_xywh_px": np.array([x, y, 10.0, 10.0]),
        "centroid_px": np.array([x + 4.5, y + 4.5]),
        "centroid_covariance": np.eye(2),
        "area_px": 100.0,
        "velocity_px_s": np.array([30.0, 40.0]),
        "velocity_covariance": np.diag([4.0, 9.0]),
        "apparent_velocity_px_s": np.array([31.0, 40.0]),
        "first_seen_ns": 0,
        "last_seen_ns": 0,
        "mask": mask_of(x, y),
    }
    return SpaceObject(**{**values, **change})


def segments(count: int) -> Segments:
    masks = torch.stack([mask_of(10 * row, 20) for row in range(count)]) if count else torch.zeros((0, *SIZE)).bool()
    places = np.arange(count, dtype=float)
    return Segments(
        masks=masks,
        boxes_xywh_px=np.stack([10 * places, 20 + 0 * places, 10 + 0 * places, 10 + 0 * places], axis=1),
        centroids_px=np.stack([10 * places + 4.5, 24.5 + 0 * places], axis=1),
        offsets_px=np.zeros((count, 2)),
        covariances_px2=np.tile(0.01 * np.eye(2), (count, 1, 1)),
        mobilities=np.tile(np.eye(2), (count, 1, 1)),
        areas_px=np.full(count, 100.0),
        scores=np.ones(count),
        stability=np.ones(count),
        reasons=np.zeros(count, dtype=np.int64),
        fluxes=np.full(count, np.nan),
        moving_shares=np.full(count, np.nan),
        fixed_priors=np.full(count, 1e-4),
        faint=np.zeros(count, dtype=bool),
    )


def prompts(*points: tuple[float, float, PromptReason]) -> Prompts:
    count = len(points)
    return Prompts(
        np.array([point[:2] for point in points], dtype=float).reshape(-1, 2),
        np.full((count, 4), np.nan),
        np.array([int(point[2]) for point in points], dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.full(count, np.nan),
        np.full(count, 96.0),
    )


def matches(*pairs: tuple[int, int]) -> Matches:
    count = len(pairs)
    rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Matches(
        rows[:, 0],
        rows[:, 1],
        np.full(count, np.nan),
        np.full(count, 0.75),
        np.full((count, 2), 3.0),
        np.full((count, 2), 30.0),
        np.broadcast_to(np.eye(2), (count, 2, 2)).copy(),
    )


def result(frame: Frame, objects=(), asked=(), pairs=(), previous: Segments | None = None) -> FrameResult:
    return FrameResult(
        frame=frame,
        previous_stamp_ns=None if previous is None else frame.stamp_ns - 100_000_000,
        background=Background(),
        prompts=prompts(*asked),
        segments=segments(3),
        previous_segments=previous,
        matches=matches(*pairs),
        objects=tuple(objects),
        seconds={"segmentation": 0.25, "tracking": 0.5},
    )


def black_frame(index: int = 0, stamp_ns: int = 0) -> Frame:
    return Frame(index, stamp_ns, np.zeros((*SIZE, 3), np.uint8))


def test_masks_survive_the_run_lengths():
    mask = np.random.default_rng(1).random(SIZE) > 0.5
    rle = json.loads(json.dumps(encode_mask(torch.from_numpy(mask))))
    assert rle["size"] == list(SIZE) and isinstance(rle["counts"], str)
    np.testing.assert_array_equal(decode_mask(rle), mask)


def test_object_records_have_the_keys_of_the_definitions():
    bearing = np.array([0.0, 0.6, 0.8])
    unknown = np.full((3, 3), np.nan)
    frame = black_frame(12, 1_700_000_000_123_456_789)
    seen = space_object(bearing=bearing, bearing_covariance=np.eye(3), bearing_rate_covariance=unknown)
    point = space_object(mask=None, state=ObjectState.COASTING, moving=False)
    first, second = object_records(result(frame, [seen, point]))
    assert list(first) == [
        "frame", "stamp_s", "id", "state", "moving", "bbox_xywh_px", "centroid_px", "velocity_px_s",
        "apparent_velocity_px_s", "velocity_covariance", "bearing", "bearing_rate_rad_s", "bearing_rate_covariance",
        "confidence", "mask",
    ]  # fmt: skip
    assert (first["frame"], first["id"], first["state"], first["moving"]) == (12, str(IDENTITY), "confirmed", True)
    assert first["stamp_s"] == pytest.approx(1_700_000_000.123456789, abs=1e-6)
    assert first["bearing"] == [0.0, 0.6, 0.8] and first["velocity_covariance"] == [[4.0, 0.0], [0.0, 9.0]]
    assert first["bearing_rate_rad_s"] is None and first["bearing_rate_covariance"] == [[None] * 3] * 3
    assert (second["state"], second["moving"], second["mask"], second["bearing"]) == ("coasting", False, None, None)


def test_match_records_name_both_segments():
    assert match_records(result(black_frame())) == []
    (record,) = match_records(result(black_frame(3, 300_000_000), pairs=[(1, 2)], previous=segments(2)))
    assert (record["previous_index"], record["current_index"]) == (1, 2)
    assert record["previous_bbox_xywh_px"] == [10, 20, 10, 10] and record["current_centroid_px"] == [24.5, 24.5]
    assert record["previous_stamp_s"] == pytest.approx(0.2) and record["stamp_s"] == pytest.approx(0.3)
    assert record["cosine"] is None and record["bidirectional"] == 0.75


def test_overlay_shows_what_is_reported_and_leaves_the_rest_grey():
    colour = np.array(object_colour(IDENTITY))
    still = np.zeros((*SIZE, 3), np.uint8)
    large = space_object(mask=mask_of(60, 50, 40), bbox_xywh_px=np.array([60, 50, 40.0, 40.0]))
    moving = draw_overlay(result(Frame(0, 0, still), [large]))
    assert moving.shape == still.shape and moving.dtype == np.uint8 and not still.any()
    # Inside the mask, off its border and the arrow: the colour at the tint's share on black.
    np.testing.assert_allclose(moving[80, 66].astype(float), 0.35 * colour, atol=1)
    resting = draw_overlay(result(Frame(0, 0, still), [replace(large, moving=False)]))
    assert not resting[53:87, 63:97].any() and (resting[50, 60:100] > 0).all()
    assert len(np.unique(resting[50, 62])) == 1, "grey"
    lost = draw_overlay(result(Frame(0, 0, still), [replace(large, state=ObjectState.LOST)]))
    assert not lost[40:95, 50:110].any()


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (480, 854), (1500, 20)])
def test_overlay_takes_every_size_and_objects_over_the_edge(size):
    edge = space_object(
        mask=None, bbox_xywh_px=np.array([-20.0, -5.0, 500.0, 30.0]), centroid_px=np.array([2.0, 900.0])
    )
    asked = [(3.0, 3.0, reason) for reason in PromptReason]
    picture = draw_overlay(result(Frame(0, 0, np.zeros((*size, 3), np.uint8)), [edge], asked))
    assert picture.shape == (*size, 3)


def test_tracks_carry_speed_and_its_deviation():
    records = object_records(result(black_frame(0, 0), [space_object()]))
    records += object_records(result(black_frame(1, 10**8), [space_object(70), space_object(id=UUID(int=5))]))
    records += object_records(result(black_frame(2, 2 * 10**8), [space_object(80, moving=False)]))
    first, second = gather_tracks(records)
    assert first.id == str(IDENTITY) and len(first.stamps_s) == 2 and second.id == str(UUID(int=5))
    np.testing.assert_allclose(first.centroids_px, [[64.5, 54.5], [74.5, 54.5]])
    np.testing.assert_allclose(first.speeds_px_s, 50.0)
    # Along (0.6, 0.8) of diag(4, 9): 0.36 * 4 + 0.64 * 9 = 7.2.
    np.testing.assert_allclose(first.speed_sigmas_px_s, np.sqrt(7.2))


class BrightSquare:
    """Reports the bright square of a dark image; refuses stamps that go back."""

    device = "cpu"

    def __init__(self) -> None:
        self.last_ns = -1

    def process(self, frame: Frame) -> FrameResult:
        if frame.stamp_ns <= self.last_ns:
            raise BadFrameError("stamp goes back")
        self.last_ns = frame.stamp_ns
        rows, columns = np.nonzero(frame.image[..., 0] > 128)
        found = [space_object(int(columns.min()), int(rows.min()))] if len(rows) else []
        return result(frame, found, [(5.0, 5.0, PromptReason.BRIGHT)] * 2)


def write_flight(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[50:60, 20 + 5 * number : 30 + 5 * number] = 255
        cv2.imwrite(str(folder / f"{number}.png"), image)


def test_a_run_writes_everything_and_counts_what_it_refused(tmp_path, capsys):
    write_flight(tmp_path / "in", 5)
    (tmp_path / "in" / "1.png").write_bytes(b"no image")
    stamps = [0.0, 0.1, 0.2, 0.2, 0.4]
    rows = [{"frame": row, "file": f"{row}.png", "stamp_s": stamp} for row, stamp in enumerate(stamps)]
    (tmp_path / "in" / "frames.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    out = tmp_path / "out" / "deep"
    summary = run_source(open_source(tmp_path / "in"), BrightSquare(), Config(), out)
    assert {file.name for file in out.iterdir()} == {
        "objects.jsonl", "matches.jsonl", "prompts.jsonl", "overlay.mp4", "tracks.png", "summary.json",
    }  # fmt: skip
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (summary["frames"], summary["refused_frames"], summary["confirmed_objects"]) == (3, 2, 1)
    assert summary["refused_reasons"] == {"not a readable image (8 bytes)": 1, "stamp goes back": 1}
    assert [item["frame"] for item in summary["refused"]] == [1, 3]
    assert summary["prompts_per_frame"] == 2 and summary["stage_seconds_per_frame"]["tracking"] == 0.5
    assert summary["peak_memory_mb"] > 50 and summary["settings"] == {}
    places = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert [place["frame"] for place in places] == [0, 2, 4]
    assert [place["centroid_px"][0] for place in places] == [24.5, 34.5, 44.5]
    assert len(list(open_source(out / "overlay.mp4"))) == 3
    assert cv2.imread(str(out / "tracks.png")).shape[0] > 300
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings[0] == "sparsematch: warning: frame 1 (1.png) refused: not a readable image (8 bytes)"


def test_a_run_without_a_usable_frame_ends_with_the_reason_and_its_summary(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    with pytest.raises(SparsematchError, match=r"no frame of .* could be used, 1 refused; the first: not a readable"):
        run_source(open_source(tmp_path / "in"), BrightSquare(), Config(), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["refused_frames"], summary["seconds_per_frame"]) == (0, 1, None)


def test_a_black_frame_and_nothing_found_are_ordinary(tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    summary = run_source(open_source(tmp_path / "in"), BrightSquare(), Config(), tmp_path / "out")
    assert (summary["frames"], summary["confirmed_objects"]) == (1, 0)
    assert (tmp_path / "out" / "objects.jsonl").read_text() == "" and (tmp_path / "out" / "tracks.png").exists()


def test_what_was_done_is_kept_when_a_run_breaks_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunOutputs(tmp_path) as outputs:
        outputs.accept(result(black_frame(), [space_object()]), 0.1)
        raise KeyboardInterrupt
    assert len((tmp_path / "objects.jsonl").read_text().splitlines()) == 1
    assert len(list(open_source(tmp_path / "overlay.mp4"))) == 1
