"""Records of `truth.jsonl` as a message."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from sparsematch_ros.msg import SpaceObject, SpaceObjectArray
from sparsematch_ros.nodes.conversions import uuid_message, vector_message


def truth_message(header: Header, records: list[dict[str, Any]]) -> SpaceObjectArray:
    """Turn the records of one image into a message; the integer id becomes the last digits of the UUID."""
    return SpaceObjectArray(header=header, objects=[_object(record, header.stamp) for record in records])


def _object(record: dict[str, Any], stamp: Time) -> SpaceObject:
    message = SpaceObject(
        id=uuid_message(UUID(int=record["id"])), state=SpaceObject.CONFIRMED, moving=record["moving"],
        existence_probability=1.0, area=float(record["visible_px"]), first_seen=stamp, last_seen=stamp,
        bearing=vector_message(_numbers(record["bearing"], 3)),
        bearing_rate=vector_message(_numbers(record["bearing_rate_rad_s"], 3)),
    )  # fmt: skip
    message.bbox_xywh = np.array(record["bbox_xywh_px"], dtype=np.float32)
    message.centroid = _numbers(record["centroid_px"], 2)
    message.velocity = _numbers(record["velocity_px_s"], 2)
    message.apparent_velocity = _numbers(record["apparent_velocity_px_s"], 2)
    # Truth has no scatter.
    message.bearing_covariance = message.bearing_rate_covariance = np.zeros(9)
    if record["mask"] is not None:
        message.mask_height, message.mask_width = record["mask"]["size"]
        message.mask_rle = record["mask"]["counts"]
    return message


def _numbers(values: list[float] | None, count: int) -> Any:
    return np.full(count, np.nan) if values is None else np.array(values, dtype=np.float64)
