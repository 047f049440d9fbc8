"""Tracked objects as they are handed on: in pixels, and as bearings where the camera is known."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.data import EgoMotion, FloatArray, Frame, ObjectState, Segments, SpaceObject
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.tracking.table import TrackTable


def describe_objects(table: TrackTable, segments: Segments, frame: Frame, motion: EgoMotion) -> tuple[SpaceObject, ...]:
    """Turn the table's rows into objects; masks are views of the segments' tensor, not copies."""
    centroids: FloatArray = table.states[:, :2]
    apparent = table.states[:, 2:] + _background_velocity(motion, centroids)
    bearings = _bearings(table, frame)
    existence = 1 / (1 + np.exp(-table.log_odds))
    described = (
        table.descriptors.abs().sum(dim=1).gt(0).tolist() if table.descriptors.shape[1] else [False] * len(table)
    )
    return tuple(
        SpaceObject(
            id=table.uuid(row),
            state=ObjectState(int(table.stages[row])),
            moving=bool(table.moving[row]),
            existence_probability=float(existence[row]),
            bbox_xywh_px=table.boxes_xywh_px[row],
            centroid_px=centroids[row],
            centroid_covariance=table.covariances[row, :2, :2],
            area_px=float(table.areas_px[row]),
            velocity_px_s=table.states[row, 2:],
            velocity_covariance=table.covariances[row, 2:, 2:],
            apparent_velocity_px_s=apparent[row],
            first_seen_ns=int(table.first_seen_ns[row]),
            last_seen_ns=int(table.last_seen_ns[row]),
            descriptor=table.descriptors[row] if described[row] else None,
            mask=segments.masks[segment]
            if 0 <= (segment := int(table.segment_rows[row])) < segments.mask_count
            else None,
            **{name: values[row] for name, values in bearings.items()},
        )
        for row in range(len(table))
    )


def _background_velocity(motion: EgoMotion, centroids: FloatArray) -> FloatArray:
    """Give the background's own velocity `(T, 2)` [px/s] at places of this frame."""
    if motion.dt_s <= 0:
        return np.zeros_like(centroids)
    return (
        centroids - apply_homography(np.asarray(np.linalg.inv(motion.homography), dtype=np.float64), centroids)
    ) / motion.dt_s


def _bearings(table: TrackTable, frame: Frame) -> dict[str, FloatArray]:
    """Give bearings and rates; the background rests in inertial space, so velocity against it is inertial."""
    if frame.camera is None:
        return {}
    centroids = table.states[:, :2]
    jacobian = frame.camera.bearing_jacobian(centroids)
    transposed = jacobian.transpose(0, 2, 1)
    return {
        "bearing": frame.camera.bearings(centroids),
        "bearing_covariance": jacobian @ table.covariances[:, :2, :2] @ transposed,
        "bearing_rate_rad_s": np.einsum("nij,nj->ni", jacobian, table.states[:, 2:]),
        "bearing_rate_covariance": jacobian @ table.covariances[:, 2:, 2:] @ transposed,
    }
