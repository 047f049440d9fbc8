"""Truth and results as the same thing: sightings, read from `objects.jsonl`, `truth.jsonl` and `masks/`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.records import Record, Rle, encode_mask, read_records
from sparsematch_ros.media.tracks import is_reported


@dataclass(frozen=True, eq=False)
class Sighting:
    """One object in one frame, true or reported.

    Attributes:
        frame: position in the source.
        id: identity, as text.
        bbox_xywh_px: `(4,)` left, top, width, height.
        centroid_px: `(2,)`.
        mask: COCO run lengths, or None.
        visible_px: pixels that show; only of truth.
        velocity_px_s: `(2,)` against the background, or None.
        velocity_covariance: `(2, 2)` or None; only of results.
        bearing_rate_rad_s: `(3,)` or None.
        stamp_s: time [s], or None where truth has only masks.

    """

    frame: int
    id: str
    bbox_xywh_px: FloatArray
    centroid_px: FloatArray
    mask: Rle | None = None
    visible_px: int = 0
    velocity_px_s: FloatArray | None = None
    velocity_covariance: FloatArray | None = None
    bearing_rate_rad_s: FloatArray | None = None
    stamp_s: float | None = None


Frames = dict[int, list[Sighting]]


def load_reported(path: Path) -> Frames:
    """Read the reported objects of `objects.jsonl`, frame by frame."""
    return group(_sighting(path, record) for record in read_records(path) if is_reported(record))


def load_truth(folder: Path, frame_numbers: dict[str, int]) -> Frames:
    """Read `truth.jsonl` and `masks/` of a folder.

    Where both are there, the masks' pixels are taken for objects without a mask in `truth.jsonl`.

    Args:
        folder: holds at least one of them.
        frame_numbers: frame of each image by its file's stem, which is that of its mask too.

    Raises:
        SparsematchError: where there is neither, or one cannot be read.

    """
    truth_file, mask_folder = folder / "truth.jsonl", folder / "masks"
    if not truth_file.is_file() and not mask_folder.is_dir():
        raise SparsematchError(f"{folder} has neither truth.jsonl nor masks/: nothing to evaluate against")
    masks = _load_masks(mask_folder, frame_numbers) if mask_folder.is_dir() else {}
    if not truth_file.is_file():
        return masks
    drawn = {(item.frame, item.id): item.mask for items in masks.values() for item in items}
    truth = (_sighting(truth_file, record, "visible_px") for record in read_records(truth_file))
    return group(item if item.mask else replace(item, mask=drawn.get((item.frame, item.id))) for item in truth)


def group(sightings: Iterable[Sighting]) -> Frames:
    """Group sightings by frame."""
    frames: Frames = {}
    for item in sightings:
        frames.setdefault(item.frame, []).append(item)
    return frames


def sightings_of_labels(labels: NDArray[Any], frame: int) -> list[Sighting]:
    """Turn a label image `(H, W)`, 0 background and an id otherwise, into sightings; 8 bit is one object of id 1."""
    if labels.dtype == np.uint8:
        labels = (labels > 0).astype(np.uint16)
    return [_of_mask(labels == identity, frame, str(int(identity))) for identity in np.unique(labels) if identity]


def _load_masks(folder: Path, frame_numbers: dict[str, int]) -> Frames:
    frames: Frames = {}
    for file in sorted(folder.glob("*.png")):
        if file.stem in frame_numbers:
            labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            if labels is None:
                raise SparsematchError(f"mask {file} cannot be read")
            frame = frame_numbers[file.stem]
            frames[frame] = sightings_of_labels(labels if labels.ndim == 2 else labels[..., :3].max(axis=2), frame)
    if not frames:
        raise SparsematchError(f"{folder} holds no mask with the name of a frame, such as {_example(frame_numbers)}")
    return frames


def _example(frame_numbers: dict[str, int]) -> str:
    return f"{next(iter(frame_numbers), '000000')}.png"


def _of_mask(mask: NDArray[np.bool_], frame: int, identity: str) -> Sighting:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = np.array([left, top, columns.max() - left + 1, rows.max() - top + 1], dtype=np.float64)
    centroid = np.array([columns.mean(), rows.mean()])
    return Sighting(frame, identity, box, centroid, encode_mask(mask), int(mask.sum()))


def _sighting(path: Path, record: Record, *required: str) -> Sighting:
    try:
        missing = [key for key in required if key not in record]
        if missing:
            raise KeyError(*missing)
        return Sighting(
            frame=int(record["frame"]),
            id=str(record["id"]),
            bbox_xywh_px=_required(record, "bbox_xywh_px", 4),
            centroid_px=_required(record, "centroid_px", 2),
            mask=record.get("mask"),
            visible_px=int(record.get("visible_px", 0)),
            velocity_px_s=_array(record, "velocity_px_s", 2),
            velocity_covariance=_array(record, "velocity_covariance", 2, 2),
            bearing_rate_rad_s=_array(record, "bearing_rate_rad_s", 3),
            stamp_s=float(record["stamp_s"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise SparsematchError(f"{path}: a line of frame {record.get('frame')} is wrong: {error!r}") from error


def _required(record: Record, key: str, *shape: int) -> FloatArray:
    return np.array(record[key], dtype=np.float64).reshape(shape)


def _array(record: Record, key: str, *shape: int) -> FloatArray | None:
    """Read an array; None where it is missing or a number in it is unknown."""
    value = record.get(key)
    if value is None:
        return None
    array = np.array(value, dtype=np.float64).reshape(shape)
    return array if np.isfinite(array).all() else None
