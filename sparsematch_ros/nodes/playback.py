"""A recorded bag as the results that perception had."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.data import Frame, FrameResult, Matches
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.conversions import object_from_message
from sparsematch_ros.segmentation.prompts import grid_prompts
from sparsematch_ros.segmentation.segments import Segments


def read_topic(bag: Path, topic: str) -> Iterator[Any]:
    """Read one topic's messages in the order of recording."""
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        # Without a connection the reader would give every topic.
        for connection, _, data in reader.messages(connections) if connections else ():
            yield reader.deserialize(data, connection.msgtype)


def read_results(bag: Path, objects: str = "/objects", matches: str = "/matches") -> Iterator[FrameResult]:
    """Rebuild the results of all images that were used; without images, masks of segments and prompts."""
    by_stamp = {stamp_ns(message.header.stamp): message for message in read_topic(bag, matches)}
    used = (message for message in read_topic(bag, objects) if not message.problem)
    for index, message in enumerate(used):
        pairs = by_stamp.get(stamp_ns(message.header.stamp))
        if pairs is not None:
            yield _result(index, message, pairs)


def _result(index: int, objects: Any, pairs: Any) -> FrameResult:
    previous_ns = stamp_ns(pairs.previous_stamp) or None
    return FrameResult(
        frame=Frame(index, stamp_ns(objects.header.stamp), np.zeros((0, 0, 3), dtype=np.uint8)),
        previous_stamp_ns=previous_ns,
        background=_background(pairs, previous_ns),
        prompts=grid_prompts(np.zeros((0, 2))),
        segments=_segments(pairs.current_count, pairs.matches, "current"),
        previous_segments=None if previous_ns is None else _segments(pairs.previous_count, pairs.matches, "previous"),
        matches=_matches(pairs.matches),
        objects=tuple(object_from_message(item) for item in objects.objects),
        seconds={},
    )


def _background(pairs: Any, previous_ns: int | None) -> Background:
    dt_s = 0.0 if previous_ns is None else (stamp_ns(pairs.header.stamp) - previous_ns) / 1e9
    if not pairs.background_valid:
        return Background(dt_s)
    kind = LayerKind.GROUND if pairs.background_method == "ground" else LayerKind.STARS
    layer = Layer(
        kind, np.array(pairs.background_homography).reshape(3, 3), np.full((9, 9), np.nan),
        int(pairs.background_inliers), float(pairs.background_residual),
    )  # fmt: skip
    return Background(dt_s, layer, method=pairs.background_method)


def _segments(count: int, matches: Any, which: str) -> Segments:
    """Fill in the segments that were matched; of the others only the number is known."""
    import torch

    boxes, centroids, areas = np.full((count, 4), np.nan), np.full((count, 2), np.nan), np.full(count, np.nan)
    for match in matches:
        row = getattr(match, f"{which}_index")
        boxes[row] = getattr(match, f"{which}_bbox_xywh")
        centroids[row] = getattr(match, f"{which}_centroid")
        areas[row] = getattr(match, f"{which}_area")
    # What messages do not carry is one number a segment in every other field.
    unknown = {item.name: np.full(count, np.nan) for item in dataclasses.fields(Segments)}
    unknown["covariances_px2"] = unknown["mobilities"] = np.full((count, 2, 2), np.nan)
    unknown["offsets_px"] = np.full((count, 2), np.nan)
    known = {
        "masks": torch.zeros((0, 0, 0), dtype=torch.bool), "boxes_xywh_px": boxes, "centroids_px": centroids,
        "areas_px": areas, "reasons": np.zeros(count, np.int64), "faint": np.zeros(count, dtype=bool),
    }  # fmt: skip
    return Segments(**{**unknown, **known})


def _matches(matches: Any) -> Matches:
    count = len(matches)
    return Matches(
        previous=np.array([match.previous_index for match in matches], dtype=np.int64),
        current=np.array([match.current_index for match in matches], dtype=np.int64),
        cosine=np.array([match.cosine for match in matches], dtype=np.float64),
        bidirectional=np.array([match.bidirectional for match in matches], dtype=np.float64),
        displacement_px=np.array([match.displacement for match in matches], dtype=np.float64).reshape(count, 2),
        velocity_px_s=np.array([match.velocity for match in matches], dtype=np.float64).reshape(count, 2),
        velocity_covariance=np.array([m.velocity_covariance for m in matches], dtype=np.float64).reshape(count, 2, 2),
    )
