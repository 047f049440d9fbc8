"""Where a run failed, frame by frame, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsematch_ros.evaluation.matching import FrameMatches, iou_matrix
from sparsematch_ros.evaluation.scores import NEES_95, squared_distance
from sparsematch_ros.evaluation.sightings import Sighting

# Beside a missed object, a velocity outside its ellipse is a small thing.
VELOCITY_WEIGHT = 0.1
# Less overlap than this is a touch, not a poor outline.
TOUCH_IOU = 0.05


@dataclass(frozen=True, eq=False)
class Failure:
    """One frame in which something went wrong.

    Attributes:
        matches: the frame's matching.
        words: what went wrong, one entry each.
        places: the true and reported objects that each entry is about.
        severity: how bad it is: the number of errors, those of velocity weighted down.

    """

    matches: FrameMatches
    words: list[str]
    places: list[list[Sighting]]
    severity: float


def find_failures(matches: Sequence[FrameMatches]) -> list[Failure]:
    """List the frames with an error, in order of time."""
    last: dict[str, str] = {}
    failures = []
    for frame in matches:
        errors = [*_missed(frame), *_false(frame), *_switched(frame, last), *_wrong_velocity(frame)]
        if errors:
            words, places, weights = zip(*errors)
            failures.append(Failure(frame, list(words), list(places), sum(weights)))
    return failures


def worst_failures(matches: Sequence[FrameMatches], most: int) -> list[Failure]:
    """Choose the worst frames, spread out where that is possible, in order of time.

    A long error would else fill all places.
    """
    spacing = max(1, len(matches) // (4 * most))
    chosen: list[Failure] = []
    for failure in sorted(find_failures(matches), key=lambda entry: -entry.severity):
        if all(abs(failure.matches.frame - other.matches.frame) >= spacing for other in chosen):
            chosen.append(failure)
    return sorted(chosen[:most], key=lambda entry: entry.matches.frame)


_Error = tuple[str, list[Sighting], float]


def _missed(frame: FrameMatches) -> list[_Error]:
    return [(f"missed: object {item.id}, {_size(item)}", [item], 1.0) for item in frame.missed]


def _false(frame: FrameMatches) -> list[_Error]:
    errors: list[_Error] = []
    overlap = iou_matrix(frame.false, frame.visible)
    for row, item in enumerate(frame.false):
        nearest = int(overlap[row].argmax()) if frame.visible else -1
        if nearest >= 0 and overlap[row, nearest] > TOUCH_IOU:
            true = frame.visible[nearest]
            text = f"poor outline: {item.id[:4]} and object {true.id}, IoU {overlap[row, nearest]:.2f}"
            errors.append((text, [item, true], 1.0))
        else:
            unseen = "" if item.mask else ", no mask"
            errors.append((f"false: {item.id[:4]}, {_size(item)}{unseen}", [item], 1.0))
    return errors


def _switched(frame: FrameMatches, last: dict[str, str]) -> list[_Error]:
    errors: list[_Error] = []
    for true, item in frame.pairs:
        before = last.get(true.id, item.id)
        if before != item.id:
            errors.append((f"identity of object {true.id}: {before[:4]}, now {item.id[:4]}", [true, item], 1.0))
        last[true.id] = item.id
    return errors


def _wrong_velocity(frame: FrameMatches) -> list[_Error]:
    errors: list[_Error] = []
    for true, item in frame.hits:
        if item.velocity_px_s is None or true.velocity_px_s is None:
            continue
        error = item.velocity_px_s - true.velocity_px_s
        distance = squared_distance(error, item.velocity_covariance)
        if distance is not None and distance > NEES_95:
            sigmas = float(np.sqrt(distance))
            text = f"velocity of object {true.id}: off by {np.hypot(*error):.2g} px/s, {sigmas:.1f} sigma"
            errors.append((text, [true, item], VELOCITY_WEIGHT * min(sigmas / 6, 1.0)))
    return errors


def _size(item: Sighting) -> str:
    return f"{item.bbox_xywh_px[2]:.0f}x{item.bbox_xywh_px[3]:.0f} px"
