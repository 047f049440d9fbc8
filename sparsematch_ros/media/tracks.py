"""The reported objects' paths and speeds over time, gathered from the records of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsematch_ros.data import FloatArray

REPORTED_STATES = ("confirmed", "coasting")


@dataclass(frozen=True, eq=False)
class Track:
    """What was recorded of one object while it was reported.

    Attributes:
        id: the object's id.
        stamps_s: `(N,)` time [s].
        centroids_px: `(N, 2)` place [px].
        speeds_px_s: `(N,)` speed against the background [px/s].
        speed_sigmas_px_s: `(N,)` standard deviation of the speed [px/s].

    """

    id: str
    stamps_s: FloatArray
    centroids_px: FloatArray
    speeds_px_s: FloatArray
    speed_sigmas_px_s: FloatArray


def is_reported(record: dict[str, Any]) -> bool:
    """Tell whether a record of `objects.jsonl` counts as found: confirmed or coasting, and moving."""
    return bool(record["moving"]) and record["state"] in REPORTED_STATES


def gather_tracks(records: Iterable[dict[str, Any]]) -> list[Track]:
    """Gather the reported records of `objects.jsonl` object by object, the longest first."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if is_reported(record):
            rows.setdefault(str(record["id"]), []).append(record)
    tracks = [_track(identity, own) for identity, own in rows.items()]
    return sorted(tracks, key=lambda track: -len(track.stamps_s))


def _track(identity: str, rows: list[dict[str, Any]]) -> Track:
    velocities = np.array([row["velocity_px_s"] for row in rows], dtype=np.float64)
    covariances = np.array([row["velocity_covariance"] for row in rows], dtype=np.float64)
    return Track(
        id=identity,
        stamps_s=np.array([row["stamp_s"] for row in rows], dtype=np.float64),
        centroids_px=np.array([row["centroid_px"] for row in rows], dtype=np.float64),
        speeds_px_s=np.linalg.norm(velocities, axis=1),
        speed_sigmas_px_s=_speed_sigmas(velocities, covariances),
    )


def _speed_sigmas(velocities: FloatArray, covariances: FloatArray) -> FloatArray:
    """Give the standard deviation along the velocity, to first order; x's where it rests."""
    speeds = np.linalg.norm(velocities, axis=1, keepdims=True)
    along = np.where(speeds > 0, velocities / np.where(speeds > 0, speeds, 1.0), np.array([[1.0, 0.0]]))
    return np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", along, covariances, along), 0.0))
