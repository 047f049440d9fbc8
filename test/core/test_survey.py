"""When everything is looked at, and where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sparsematch_ros.segmentation.survey import SurveyClock, survey_places
from sparsematch_ros.sky import Sky, survey_sky

from sparsematch_ros.config import SegmentationConfig


def due(clock: SurveyClock, stamps_s: list[float]) -> list[bool]:
    return [clock.due(round(1e9 * stamp)) for stamp in stamps_s]


def test_the_first_frame_alone() -> None:
    assert due(SurveyClock(SegmentationConfig()), [3.0, 3.1, 1000.0, 0.0, 1e6]) == [True] + [False] * 4
    assert due(SurveyClock(SegmentationConfig(survey_first_frame=False)), [3.0, 3.1, 1e6]) == [False] * 3


@pytest.mark.parametrize("first", [True, False])
def test_on_request_the_next_frame_once(first: bool) -> None:
    clock = SurveyClock(SegmentationConfig(survey_first_frame=first))
    assert due(clock, [0.0, 0.1]) == [first, False]
    clock.request()
    clock.request()  # Asked twice for the same frame.
    assert due(clock, [0.2, 0.3]) == [True, False]


def test_a_request_before_the_first_frame() -> None:
    clock = SurveyClock(SegmentationConfig(survey_first_frame=False))
    clock.request()
    assert due(clock, [5.0, 5.1]) == [True, False]


def test_every_so_often_by_the_stamps() -> None:
    """Two seconds after the last survey, whenever that was: late frames and requests put the next one off."""
    clock = SurveyClock(SegmentationConfig(survey_period_s=2.0))
    assert due(clock, [10.0, 11.0, 11.99, 12.0, 12.1, 13.9, 15.0, 16.9]) == [
        True, False, False, True, False, False, True, False,
    ]  # fmt: skip
    clock.request()
    assert due(clock, [16.95, 17.1, 18.9, 18.95]) == [True, False, False, True]


def test_the_period_counts_from_the_first_frame() -> None:
    clock = SurveyClock(SegmentationConfig(survey_first_frame=False, survey_period_s=2.0))
    assert due(clock, [100.0, 101.5, 102.0, 103.0]) == [False, False, True, False]


def test_stamps_that_go_back_begin_a_new_stream() -> None:
    clock = SurveyClock(SegmentationConfig(survey_period_s=2.0))
    assert due(clock, [100.0, 101.0, 5.0, 6.0, 7.0]) == [True, False, True, False, True]


def test_no_surveys() -> None:
    clock = SurveyClock(SegmentationConfig(survey_points_per_side=0, survey_period_s=1.0))
    clock.request()
    assert due(clock, [0.0, 5.0, 1.0]) == [False] * 3


def test_places_are_the_middles_of_cells() -> None:
    places = survey_places(4, (60, 80), Sky())
    assert places.shape == (16, 2)
    assert {(x, y) for x, y in places.tolist()} == {(x, y) for x in (10, 30, 50, 70) for y in (7.5, 22.5, 37.5, 52.5)}


def test_under_a_dark_sky_only_what_is_bright_is_looked_at() -> None:
    """A disc of radius 20 px is looked at wherever the grid meets it, to the 2 px by which its edge is known."""
    image = np.zeros((120, 160), dtype=np.uint8)
    cv2.circle(image, (60, 50), 20, 180, -1)
    sky = survey_sky(image, SegmentationConfig(), 100)
    places = survey_places(32, (120, 160), sky)
    distance = np.hypot(*(places - np.array([60, 50])).T)
    everywhere = survey_places(32, (120, 160), Sky())
    inside = np.hypot(*(everywhere - np.array([60, 50])).T) <= 18
    assert distance.max() < 22
    assert inside.sum() <= len(places) <= (np.hypot(*(everywhere - np.array([60, 50])).T) < 22).sum()
    assert {tuple(place) for place in everywhere[inside].tolist()} <= {tuple(place) for place in places.tolist()}


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (480, 640)])
def test_an_empty_dark_sky_needs_no_survey(size: tuple[int, int]) -> None:
    sky = survey_sky(np.zeros(size, dtype=np.uint8), SegmentationConfig(), 100)
    assert survey_places(16, size, sky).shape == (0, 2)
    lit = Sky(True, silhouettes=np.ones(size, dtype=bool))  # All bright: every place lies in the image.
    assert len(survey_places(16, size, lit)) == 256
