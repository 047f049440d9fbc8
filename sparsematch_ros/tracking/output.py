"""Tracked objects as they are handed on: in pixels, and as bearings where the camera is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.background.layers import Background, Layer
from sparsematch_ros.data import FloatArray, Frame, ObjectState, SpaceObject
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.outlines import Outlines
from sparsematch_ros.tracking.table import TrackTable

# A predicted outline of which others leave less than this is hidden.
_SHOWN_SHARE = 0.25


def describe_objects(
    table: TrackTable, segments: Segments, frame: Frame, background: Background, outlines: Outlines
) -> tuple[SpaceObject, ...]:
    """Turn the table's rows into objects; masks are views of the segments' tensor, or the last ones while coasting."""
    states, covariances = table.bank.mean()
    centroids, velocities = states[:, :2] + table.offsets_px, states[:, 2:]
    spreads = covariances[:, 2:, 2:]
    apparent = velocities + _layer_velocity(background.reference, centroids, background.dt_s)
    bearings = _bearings(centroids, covariances, apparent, frame, background)
    existence = 1 / (1 + np.exp(-table.log_odds))
    masks, shown = _masks(table, centroids, segments, frame, outlines)
    described = (
        table.descriptors.abs().sum(dim=1).gt(0).tolist() if table.descriptors.shape[1] else [False] * len(table)
    )
    return tuple(
        SpaceObject(
            id=table.uuid(row),
            state=ObjectState(int(table.stages[row])),
            # What is wholly behind another object, or more likely gone than there, is followed but not reported.
            moving=bool(table.moving[row] and shown[row] and existence[row] >= 0.5),
            existence_probability=float(existence[row]),
            bbox_xywh_px=table.boxes_xywh_px[row],
            centroid_px=centroids[row],
            centroid_covariance=covariances[row, :2, :2],
            area_px=float(table.areas_px[row]),
            velocity_px_s=velocities[row],
            velocity_covariance=spreads[row],
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
    table: TrackTable, centroids: FloatArray, segments: Segments, frame: Frame, outlines: Outlines
) -> tuple[list[Tensor | None], list[bool]]:
    """Collect each object's mask, and whether enough of it shows to be reported.

    An object that coasts has its last outline, where it is predicted, less what others hide.
    """
    rows = table.segment_rows
    masks: list[Tensor | None] = [segments.masks[row] if 0 <= row < segments.mask_count else None for row in rows]
    shown = [True] * len(table)
    seen = (rows >= 0) & (rows < segments.mask_count)
    coasting = (rows < 0) & ~table.point_source & (table.stages != ObjectState.LOST)
    held = torch.as_tensor(rows[seen], device=segments.masks.device)
    for row in np.flatnonzero(coasting):
        outline = outlines.at(table.uuid(int(row)), centroids[row], frame.size)
        if outline is None:
            continue
        mask, part = outline
        extent = mask[part].sum()
        # Cut first: a frame holds far more than what is around one object.
        lines, columns = part
        mask[part] &= ~segments.masks[:, lines, columns][held].any(dim=0)
        masks[row], shown[row] = mask, bool(mask[part].sum() > _SHOWN_SHARE * extent)
    return masks, shown


def _layer_velocity(layer: Layer | None, places_px: FloatArray, dt_s: float) -> FloatArray:
    """Compute the velocity `(T, 2)` [px/s] of a layer at places of this frame; zero where it is not known."""
    if layer is None or dt_s <= 0:
        return np.zeros_like(places_px)
    inverse = np.asarray(np.linalg.inv(layer.homography), dtype=np.float64)
    return (places_px - apply_homography(inverse, places_px)) / dt_s


def _bearings(
    centroids: FloatArray, covariances: FloatArray, apparent: FloatArray, frame: Frame, background: Background
) -> dict[str, FloatArray]:
    """Compute bearings, and their inertial rates where the camera's rotation is known."""
    if frame.camera is None:
        return {}
    jacobian = frame.camera.bearing_jacobian(centroids)
    transposed = jacobian.transpose(0, 2, 1)
    known = {
        "bearing": frame.camera.bearings(centroids),
        "bearing_covariance": jacobian @ covariances[:, :2, :2] @ transposed,
    }
    if background.stars is None:
        return known
    inertial = apparent - _layer_velocity(background.stars, centroids, background.dt_s)
    spread = covariances[:, 2:, 2:]
    if background.reference is not background.stars and background.dt_s > 0:
        spread = spread + background.stars.transport(centroids).covariances_px2 / background.dt_s**2
    known["bearing_rate_rad_s"] = np.einsum("nij,nj->ni", jacobian, inertial)
    known["bearing_rate_covariance"] = jacobian @ spread @ transposed
    return known
