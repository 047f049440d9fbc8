"""What the pictures of an evaluation are drawn from, on hand-made runs, and that the files are there and small."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sparsematch_ros.evaluation.failure_picture import crop_around
from sparsematch_ros.evaluation.failures import find_failures, worst_failures
from sparsematch_ros.evaluation.identity_picture import MISSED, NOT_COUNTED, chart_identities
from sparsematch_ros.evaluation.matching import match_frames
from sparsematch_ros.evaluation.pictures import draw_pictures
from sparsematch_ros.evaluation.sightings import Frames, Sighting, group
from sparsematch_ros.evaluation.velocity_picture import gather_histories, whitened_errors
from sparsematch_ros.media.folder_source import FolderSource
from sparsematch_ros.media.records import encode_mask

SIZE = (120, 160)
PICTURES = {"velocity.png": 300_000, "identity.png": 300_000, "failures.png": 300_000, "overview.jpg": 60_000}


def sighting(frame: int, identity: str, x: float, y: float, side: int = 20, **more) -> Sighting:
    mask = np.zeros(SIZE, dtype=bool)
    mask[int(y) : int(y) + side, int(x) : int(x) + side] = True
    box = np.array([x, y, side, side], dtype=float)
    values = {"mask": encode_mask(mask), "visible_px": int(mask.sum()), **more}
    return Sighting(frame, identity, box, box[:2] + (side - 1) / 2, **values)


def steady(identity: str, frames: range, x: float = 10, y: float = 10, **more) -> list[Sighting]:
    return [sighting(frame, identity, x, y, **more) for frame in frames]


@pytest.fixture
def matches():
    """One object, found as a in frames 3 to 5 and as b in 7 to 9, missed in 6; a ghost in 4 and 5."""
    known = {"velocity_px_s": np.array([5.0, 0.0])}
    own = {"velocity_px_s": np.array([5.0, 4.0]), "velocity_covariance": np.diag([1.0, 4.0])}
    truth = group(steady("1", range(10), **known))
    found = steady("a", range(3, 6), **own) + steady("b", range(7, 10), **own)
    return match_frames(truth, group(found + steady("ghost", range(4, 6), x=100, y=80)), range(10))


def test_identities_stand_in_rows(matches):
    chart = chart_identities(matches)
    assert chart.labels == ["true 1", "false ghos"] and chart.left_out == 0
    true, ghost = chart.colours
    assert (true[:3] == NOT_COUNTED).all() and (true[6] == MISSED).all()
    assert (true[3:6] == true[3]).all() and (true[7:] == true[7]).all() and (true[3] != true[7]).any()
    assert (ghost[[0, 1, 2, 3, 6, 7, 8, 9]] == 1).all() and (ghost[4:6] < 1).any()
    np.testing.assert_array_equal(chart.switches, [[7, 0]])


def test_failures_in_words(matches):
    found = {failure.matches.frame: failure for failure in find_failures(matches)}
    assert sorted(found) == [4, 5, 6, 7]
    assert found[4].words == ["false: ghos, 20x20 px"] and found[6].words == ["missed: object 1, 20x20 px"]
    assert found[7].words == ["identity of object 1: a, now b"]
    assert [failure.matches.frame for failure in worst_failures(matches, 2)] == [4, 5]


def test_a_poor_outline_and_a_wrong_velocity_are_named():
    truth = group(steady("1", range(4), velocity_px_s=np.zeros(2)))
    # Shifted by 12 px of 20: (20 - 12) / (20 + 12) = 0.25.
    (failure,) = find_failures(match_frames(truth, group([sighting(3, "a", 22, 10)]), range(4)))
    assert failure.words == ["missed: object 1, 20x20 px", "poor outline: a and object 1, IoU 0.25"]
    off = sighting(3, "a", 10, 10, velocity_px_s=np.array([0.0, 6.0]), velocity_covariance=np.diag([1.0, 4.0]))
    (failure,) = find_failures(match_frames(truth, group([off]), range(4)))
    assert failure.words == ["velocity of object 1: off by 6 px/s, 3.0 sigma"]


def test_velocity_errors_in_units_of_their_ellipse(matches):
    # An error of (0, 4) px/s with 2 px/s of standard deviation across: 2 sigma, in each of the 6 pairs.
    np.testing.assert_allclose(whitened_errors(matches), np.tile([0.0, 2.0], (6, 1)))
    (history,) = gather_histories(matches)
    assert history.known == 6 and np.isnan(history.own_px_s[[0, 1, 2, 6]]).all()
    np.testing.assert_allclose(history.sigmas_px_s[3], [1.0, 2.0])


def test_the_crop_shows_all_places_inside_the_image():
    for x, y, side in ((0, 0, 4), (150, 110, 9), (70, 50, 20), (0, 0, 110)):
        left, top, right, bottom = crop_around([sighting(0, "1", x, y, side)], SIZE)
        assert 0 <= left <= x and x + side <= right <= SIZE[1] and 0 <= top <= y and y + side <= bottom <= SIZE[0]
        assert right - left >= 120


def noisy_folder(folder, count: int) -> FolderSource:
    (folder / "frames").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(count):
        cv2.imwrite(str(folder / "frames" / f"{number}.png"), rng.integers(0, 60, (480, 640, 3), dtype=np.uint8))
    return FolderSource(folder)


@pytest.mark.parametrize("empty", [False, True])
def test_the_files_are_written_and_small(tmp_path, matches, empty):
    source = noisy_folder(tmp_path, 10)
    nothing: Frames = {}
    drawn = match_frames(nothing, nothing, range(10)) if empty else matches
    draw_pictures(tmp_path, source, drawn, {frame: frame / 10 for frame in range(10)})
    for name, most in PICTURES.items():
        assert (tmp_path / name).stat().st_size < most, name
        assert cv2.imread(str(tmp_path / name)).std() > 0


def test_a_frame_that_cannot_be_read_does_not_stop_the_pictures(tmp_path, matches):
    source = noisy_folder(tmp_path, 10)
    for number in (4, 5):
        (tmp_path / "frames" / f"{number}.png").write_bytes(b"no image")
    draw_pictures(tmp_path, source, matches, {frame: frame / 10 for frame in range(10)})
    assert (tmp_path / "failures.png").is_file() and (tmp_path / "overview.jpg").is_file()
