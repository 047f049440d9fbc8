"""Tracked objects as they are handed on: in pixels, and as bearings where the camera is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.data import EgoMotion, FloatArray, Frame, ObjectState, Segments, SpaceObject
from sparsematch_ros.kinematics import apply_homography
from sparsematch_ros.tracking.outlines import Outlines
from sparsematch_ros.tracking.table import TrackTable

# An expected outline of which others leave less than this is hidden.
_SHOWN_SHARE = 0.25
# Log odds of existence under which nothing is reported: one in eight.
_DOUBTFUL = -2.0


def describe_objects(
    table: TrackTable, segments: Segments, frame: Frame, motion: EgoMotion, outlines: Outlines
) -> tuple[SpaceObject, ...]:
    """Turn the table's rows into objects; masks are views of the segments' tensor, or the last ones while coasting."""
    centroids: FloatArray = table.states[:, :2]
    apparent = table.states[:, 2:] + _background_velocity(motion, centroids)
    spread = table.velocity_covariances
    bearings = _bearings(table, frame, spread)
    existence = 1 / (1 + np.exp(-table.log_odds))
    likely = table.log_odds >= _DOUBTFUL
    masks, shown = _masks(table, segments, frame, outlines)
    described = (
        table.descriptors.abs().sum(dim=1).gt(0).tolist() if table.descriptors.shape[1] else [False] * len(table)
    )
    return tuple(
        SpaceObject(
            id=table.uuid(row),
            state=ObjectState(int(table.stages[row])),
            # What is wholly behind another object, or more likely gone than there, is followed but not reported.
            moving=bool(table.moving[row] and shown[row] and likely[row]),
            existence_probability=float(existence[row]),
            bbox_xywh_px=table.boxes_xywh_px[row],
            centroid_px=centroids[row],
            centroid_covariance=table.covariances[row, :2, :2],
            area_px=float(table.areas_px[row]),
            velocity_px_s=table.states[row, 2:],
            velocity_covariance=spread[row],
            apparent_velocity_px_s=apparent[row],
            first_seen_ns=int(table.first_seen_ns[row]),
            last_seen_ns=int(table.last_seen_ns[row]),
            descriptor=table.descriptors[row] if described[row] else None,
            mask=masks[row],
            **{name: values[row] for name, values in bearings.items()},
        )
        for row in range(len(table))
    )


def _masks(
    table: TrackTable, segments: Segments, frame: Frame, outlines: Outlines
) -> tuple[list[Tensor | None], list[bool]]:
    """Give each object's mask, the last one while it coasts, and whether any of it can show beside the others."""
    rows = table.segment_rows
    seen = (rows >= 0) & (rows < segments.mask_count)
    masks: list[Tensor | None] = [segments.masks[rows[row]] if seen[row] else None for row in range(len(table))]
    shown = [True] * len(table)
    coasting = (rows < 0) & (table.stages == ObjectState.COASTING) & ~table.point_source
    if not coasting.any():
        return masks, shown
    held = torch.as_tensor(rows[seen], device=segments.masks.device)
    for row in np.flatnonzero(coasting):
        outline = outlines.at(table.uuid(int(row)), table.states[row, :2], frame.size)
        if outline is None:
            continue
        mask, part = outline
        extent = mask[part].sum()
        # Cut first: a frame holds far more than what is around one object.
        lines, columns = part
        mask[part] &= ~segments.masks[:, lines, columns][held].any(dim=0)
        masks[row], shown[row] = mask, bool(mask[part].sum() > _SHOWN_SHARE * extent)
    return masks, shown


def _background_velocity(motion: EgoMotion, centroids: FloatArray) -> FloatArray:
    """Give the background's own velocity `(T, 2)` [px/s] at places of this frame."""
    if motion.dt_s <= 0:
        return np.zeros_like(centroids)
    return (
        centroids - apply_homography(np.asarray(np.linalg.inv(motion.homography), dtype=np.float64), centroids)
    ) / motion.dt_s


def _bearings(table: TrackTable, frame: Frame, spread: FloatArray) -> dict[str, FloatArray]:
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
        "bearing_rate_covariance": jacobian @ spread @ transposed,
    }
