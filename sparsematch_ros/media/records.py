"""`objects.jsonl` and `matches.jsonl`: one line an object a frame, one line a pair; masks as COCO run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sparsematch_ros.data import NANOSECONDS, FrameResult, PromptReason, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.segmentation.segments import Segments

Record = dict[str, Any]
Rle = dict[str, Any]


def encode_mask(mask: Any) -> Rle:
    """Encode an `(H, W)` bool array or tensor as COCO run lengths: `size` [H, W] and `counts` as text."""
    array = mask.cpu().numpy() if hasattr(mask, "cpu") else np.asarray(mask)
    encoded = coco.encode(np.asfortranarray(array, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_mask(rle: Rle) -> NDArray[np.bool_]:
    """Decode COCO run lengths to an `(H, W)` bool array."""
    return np.asarray(coco.decode(rle), dtype=bool)


def object_records(result: FrameResult) -> list[Record]:
    """Write the objects of one frame as records of `objects.jsonl`."""
    return [{**_place(result), **_object_record(item)} for item in result.objects]


def match_records(result: FrameResult) -> list[Record]:
    """Write the matches of one frame as records of `matches.jsonl`."""
    if result.previous_segments is None or result.previous_stamp_ns is None:
        return []
    previous_stamp_s = result.previous_stamp_ns / NANOSECONDS
    return [
        {**_place(result), "previous_stamp_s": previous_stamp_s, **_match_record(result, result.previous_segments, row)}
        for row in range(len(result.matches))
    ]


def prompt_record(result: FrameResult) -> Record:
    """Write what was looked at in one frame, and why, as the record of `prompts.jsonl`."""
    prompts = result.prompts
    asked = [
        {"reason": PromptReason(int(reason)).name.lower(), "point_px": plain(point), "box_xyxy_px": _known_box(box)}
        for reason, point, box in zip(prompts.reasons, prompts.points_px, prompts.boxes_xyxy_px)
    ]
    return {**_place(result), "encoded_xyxy_px": plain(list(result.regions_xyxy_px)), "prompts": asked}


class RecordWriter:
    """Writes both files of a run while it goes on; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Open `objects.jsonl` and `matches.jsonl` in `folder`."""
        self._objects = (folder / "objects.jsonl").open("w", encoding="utf-8")
        self._matches = (folder / "matches.jsonl").open("w", encoding="utf-8")

    def __enter__(self) -> RecordWriter:
        """Give the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both files."""
        self._objects.close()
        self._matches.close()

    def write(self, result: FrameResult) -> list[Record]:
        """Write one frame; gives the records of its objects."""
        objects = object_records(result)
        write_lines(self._objects, objects)
        write_lines(self._matches, match_records(result))
        return objects


def read_records(path: Path) -> Iterator[Record]:
    """Read a file of one JSON object a line.

    Raises:
        SparsematchError: naming the line that is none.

    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise SparsematchError(f"{path} line {number} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise SparsematchError(f"{path} line {number} is a {type(record).__name__}, expected an object")
    return record


def write_lines(file: IO[str], records: list[Record]) -> None:
    """Write records, one JSON object a line."""
    for record in records:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def _place(result: FrameResult) -> Record:
    return {"frame": result.frame.index, "stamp_s": result.frame.stamp_s}


def _object_record(item: SpaceObject) -> Record:
    return {
        "id": str(item.id),
        "state": item.state.name.lower(),
        "moving": bool(item.moving),
        "bbox_xywh_px": plain(item.bbox_xywh_px),
        "centroid_px": plain(item.centroid_px),
        "velocity_px_s": plain(item.velocity_px_s),
        "apparent_velocity_px_s": plain(item.apparent_velocity_px_s),
        "velocity_covariance": plain(item.velocity_covariance),
        "bearing": plain(item.bearing),
        "bearing_rate_rad_s": plain(item.bearing_rate_rad_s),
        "bearing_rate_covariance": plain(item.bearing_rate_covariance),
        "confidence": plain(item.existence_probability),
        "mask": None if item.mask is None else encode_mask(item.mask),
    }


def _match_record(result: FrameResult, previous: Segments, row: int) -> Record:
    matches = result.matches
    return {
        **_segment_record("previous", previous, int(matches.previous[row])),
        **_segment_record("current", result.segments, int(matches.current[row])),
        "cosine": plain(matches.cosine[row]),
        "bidirectional": plain(matches.bidirectional[row]),
        "displacement_px": plain(matches.displacement_px[row]),
        "velocity_px_s": plain(matches.velocity_px_s[row]),
        "velocity_covariance": plain(matches.velocity_covariance[row]),
    }


def _segment_record(which: str, segments: Segments, row: int) -> Record:
    return {
        f"{which}_index": row,
        f"{which}_bbox_xywh_px": plain(segments.boxes_xywh_px[row]),
        f"{which}_centroid_px": plain(segments.centroids_px[row]),
        f"{which}_area_px": plain(segments.areas_px[row]),
    }


def _known_box(box: NDArray[np.float64]) -> Any:
    return plain(box) if np.isfinite(box).all() else None


def plain(value: Any) -> Any:
    """Turn arrays and numbers into lists and floats for JSON; what is not finite becomes None."""
    if value is None:
        return None
    if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) > 0:
        return [plain(entry) for entry in value]
    number = float(value)
    return number if np.isfinite(number) else None
