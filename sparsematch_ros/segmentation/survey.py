"""When and where to look at everything: on the first frame, on demand, and every so often."""

from __future__ import annotations

import numpy as np
from segment_anything.utils.amg import build_point_grid

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import NANOSECONDS, FloatArray
from sparsematch_ros.sky import Sky


class SurveyClock:
    """Says in which frames a survey is due, by the frames' stamps."""

    def __init__(self, config: SegmentationConfig) -> None:
        """Take the settings; the first frame is due where they say so."""
        self._enabled = config.survey_points_per_side > 0
        self._period_ns = round(config.survey_period_s * NANOSECONDS)
        self._requested = config.survey_first_frame
        self._last_ns: int | None = None

    def request(self) -> None:
        """Make the next frame due."""
        self._requested = True

    def due(self, stamp_ns: int) -> bool:
        """Say whether the frame of this stamp is surveyed, and take it as done."""
        if self._last_ns is None:
            self._last_ns = stamp_ns
        elapsed = stamp_ns - self._last_ns
        # A stamp before the last one comes with a new stream.
        late = self._period_ns > 0 and not 0 <= elapsed < self._period_ns
        due = self._enabled and (self._requested or late)
        if due:
            self._requested, self._last_ns = False, stamp_ns
        return due


def survey_places(points_per_side: int, size: tuple[int, int], sky: Sky) -> FloatArray:
    """Give the points `(P, 2)` of a grid over a frame of `size` (height, width), those off an empty dark sky.

    Under a dark sky what SAM can see is bright; the rest of the grid would ask for pieces of sky.
    """
    places = build_point_grid(points_per_side) * np.array(size)[::-1]
    if not sky.dark:
        return places
    if sky.silhouettes is None:
        return np.zeros((0, 2))
    columns, rows = np.floor(places).astype(np.int64).T
    return np.asarray(places[sky.silhouettes[rows, columns]])
