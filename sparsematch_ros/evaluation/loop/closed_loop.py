"""How well a flight kept its target: in-view fraction and pointing error, from truth and what was confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.media.tracks import is_reported
from sparsematch_ros.pointing.guidance import angle_between_rad

FloatArray = NDArray[np.float64]
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ClosedLoop:
    """The figures of one flight, over its frames in order.

    Attributes:
        target: the true object that was looked at, None where nothing was ever confirmed.
        stamps_s: `(N,)` of all frames [s].
        errors_deg: `(N,)` angle between the boresight and the target's visible centroid [deg]; NaN out of view.
        mass_errors_deg: `(N,)` the same to the center of mass.
        in_view_fraction: share of the frames after the first confirmation in which the target's centroid lies in the
            image; 0 where nothing was confirmed.

    """

    target: int | None
    stamps_s: FloatArray
    errors_deg: FloatArray
    mass_errors_deg: FloatArray
    in_view_fraction: float


def score_flight(
    stamps_ns: Sequence[int], truth: Iterable[Record], reported: Iterable[Record], camera: CameraModel,
    boresight_C: FloatArray,
) -> ClosedLoop:  # fmt: skip
    """Score a flight.

    Args:
        stamps_ns: of all images [ns].
        truth: records of `truth.jsonl`.
        reported: records of `objects.jsonl`.
        camera: intrinsics.
        boresight_C: `(3,)` boresight in camera axes.

    """
    true_by_stamp: dict[int, list[Record]] = {}
    for record in truth:
        true_by_stamp.setdefault(_ns(record), []).append(record)
    confirmed = sorted((record for record in reported if is_reported(record)), key=_ns)
    target = _target(confirmed, true_by_stamp)
    rows = [_row(true_by_stamp.get(stamp, []), target) for stamp in stamps_ns]
    after = [_in_image(row, camera) for stamp, row in zip(stamps_ns, rows) if confirmed and stamp > _ns(confirmed[0])]
    return ClosedLoop(
        target=target,
        stamps_s=np.array(stamps_ns, dtype=np.float64) / NANOSECONDS,
        errors_deg=np.array([_error_deg(row, "centroid_px", camera, boresight_C) for row in rows]),
        mass_errors_deg=np.array([_error_deg(row, "center_of_mass_px", camera, boresight_C) for row in rows]),
        in_view_fraction=float(np.mean(after)) if after else 0.0,
    )


def _ns(record: Record) -> int:
    """Give a record's stamp in whole nanoseconds, so that equal times are equal."""
    return round(record["stamp_s"] * NANOSECONDS)


def _target(confirmed: list[Record], true_by_stamp: dict[int, list[Record]]) -> int | None:
    """Take the true object nearest to what was confirmed first."""
    for record in confirmed:
        near = true_by_stamp.get(_ns(record))
        if near:
            return int(min(near, key=lambda other: _distance_px(record, other))["id"])
    return None


def _distance_px(first: Record, second: Record) -> float:
    return float(np.hypot(*np.subtract(first["centroid_px"], second["centroid_px"])))


def _row(records: list[Record], target: int | None) -> Record | None:
    return next((record for record in records if record["id"] == target), None)


def _in_image(record: Record | None, camera: CameraModel) -> bool:
    if record is None:
        return False
    x, y = record["centroid_px"]
    return -0.5 <= x <= camera.width - 0.5 and -0.5 <= y <= camera.height - 0.5


def _error_deg(record: Record | None, key: str, camera: CameraModel, boresight_C: FloatArray) -> float:
    if record is None or record[key] is None:
        return float("nan")
    bearing = camera.bearings(np.array([record[key]]))[0]
    return float(np.degrees(angle_between_rad(bearing, boresight_C)))
