"""Which object to look at: a score of each, and what it takes to change from one to another.

Without that, two objects that are worth about the same would swing the spacecraft to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, SpaceObject
from sparsematch_ros.pointing.answer import Memory

FloatArray = NDArray[np.float64]

# The user's own choice is never outdone.
SELECTED_PRIORITY = 255
SELECTED = "selected by the user"
# Reasons to look at an object; their priorities are settings.
KINDS = ("moving", "new", "about to leave")


@dataclass(frozen=True)
class Choice:
    """The object to look at.

    Attributes:
        target: the object.
        reason: why this one, in words.
        priority: 0 lowest to 255 highest, of that reason.
        memory: with the target and its rival as they are now.

    """

    target: SpaceObject
    reason: str
    priority: int
    memory: Memory


def time_left_s(centroids_px: FloatArray, velocities_px_s: FloatArray, size_wh_px: tuple[int, int]) -> FloatArray:
    """Give when objects reach the image's border, `(N,)` [s]: infinite at rest, 0 beyond it.

    Args:
        centroids_px: `(N, 2)`.
        velocities_px_s: `(N, 2)`.
        size_wh_px: width and height of the image [px].

    """
    border = np.where(velocities_px_s > 0, np.array(size_wh_px, dtype=np.float64) - 0.5, -0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(velocities_px_s == 0, np.inf, (border - centroids_px) / velocities_px_s)
    return np.asarray(np.maximum(left.min(axis=1), 0.0))


@dataclass(frozen=True, eq=False)
class _Worth:
    """What the terms of the score are made from, `(N,)` each; `kind` is a row of `KINDS`."""

    existence: FloatArray
    age_s: FloatArray
    left_s: FloatArray
    sigma_rad: FloatArray
    kind: NDArray[np.int64]


def _worth(
    objects: Sequence[SpaceObject], stamp_ns: int, size_wh_px: tuple[int, int] | None, config: PointingConfig
) -> _Worth:
    left = np.full(len(objects), np.inf)
    if size_wh_px is not None:
        centroids = np.array([item.centroid_px for item in objects])
        # The object's own motion, without the camera's: while one is followed, all others run out of the image, and
        # turning to them would only change which.
        left = time_left_s(centroids, np.array([item.velocity_px_s for item in objects]), size_wh_px)
    unknown = np.full((3, 3), np.nan)
    covariances = [unknown if item.bearing_covariance is None else item.bearing_covariance for item in objects]
    variances = np.trace(np.array(covariances), axis1=1, axis2=2)
    ages = np.array([(stamp_ns - item.first_seen_ns) / NANOSECONDS for item in objects])
    leaving, new = left < config.leaving_within_s, ages < config.new_within_s
    kind = np.where(leaving, 2, np.where(new, 1, 0))
    existence = np.array([item.existence_probability for item in objects])
    return _Worth(existence, ages, left, np.sqrt(np.maximum(variances, 0.0)), kind)


def scores(
    objects: Sequence[SpaceObject], stamp_ns: int, size_wh_px: tuple[int, int] | None, config: PointingConfig
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Score objects, `(N,)` in [0, 1], and give the reason for each as a row of `KINDS`, `(N,)`.

    The score is the mean of five terms with the settings' weights: priority, existence, age, time left in view, and how
    well the bearing is known. What is not known counts nothing.

    Args:
        objects: that may be asked for, at least one.
        stamp_ns: of their image [ns].
        size_wh_px: of the image [px], or None where it is not known.
        config: weights and scales.

    """
    worth = _worth(objects, stamp_ns, size_wh_px, config)
    scale_rad = np.radians(config.uncertainty_scale_deg)
    known = np.isfinite(worth.sigma_rad)
    terms = np.array([
        _priorities(config)[worth.kind] / 255.0,
        np.clip(worth.existence, 0.0, 1.0),
        np.clip(worth.age_s / config.age_scale_s, 0.0, 1.0),
        config.time_left_scale_s / (config.time_left_scale_s + worth.left_s),
        np.where(known, 1 / (1 + (np.where(known, worth.sigma_rad, 0.0) / scale_rad) ** 2), 0.0),
    ])  # fmt: skip
    weights = np.array([config.weight_priority, config.weight_existence, config.weight_age,
                        config.weight_time_left, config.weight_uncertainty])  # fmt: skip
    return weights @ terms / max(float(weights.sum()), 1e-9), worth.kind


def _priorities(config: PointingConfig) -> NDArray[np.int64]:
    return np.array([config.priority_moving, config.priority_new, config.priority_leaving])


def choose(
    objects: Sequence[SpaceObject],
    stamp_ns: int,
    memory: Memory,
    config: PointingConfig,
    selected: UUID | None = None,
    size_wh_px: tuple[int, int] | None = None,
    selected_why: str = "",
) -> Choice:
    """Choose among objects that may be asked for, at least one.

    The user's choice wins. Else the target of the last request stays until it is gone, or until one and the same rival
    has beaten its score by the margin for the time and in as many arrays as the settings say. Equal scores are settled
    by identity.

    Args:
        objects: confirmed in this image, moving, with finite numbers.
        stamp_ns: of the image [ns].
        memory: of the last decision.
        config: weights, margin and times.
        selected: the user's choice, or None.
        size_wh_px: of the image [px], or None where it is not known.
        selected_why: the user's words for that choice.

    """
    by_id = {item.id: row for row, item in enumerate(objects)}
    values, kinds = scores(objects, stamp_ns, size_wh_px, config)
    if selected in by_id:
        reason = ": ".join(filter(None, (SELECTED, selected_why)))
        return _chosen(objects[by_id[selected]], reason, SELECTED_PRIORITY, stamp_ns, memory)
    best = max(by_id.values(), key=lambda row: (values[row], -objects[row].id.int))
    current = by_id.get(memory.target) if memory.target is not None else None
    row, why = best, "the best"
    if current is not None:
        memory = _watch_rival(objects[best].id, values[best] - values[current], stamp_ns, memory, config)
        row = best if _may_switch(stamp_ns, memory, config) else current
        why = "followed" if row == current else "better than the last for long enough"
    reason = f"{KINDS[kinds[row]]}, {why} of {len(objects)}, score {values[row]:.2f}"
    return _chosen(objects[row], reason, int(_priorities(config)[kinds[row]]), stamp_ns, memory)


def _chosen(target: SpaceObject, reason: str, priority: int, stamp_ns: int, memory: Memory) -> Choice:
    if target.id != memory.target:
        memory = replace(memory, target=target.id, target_since_ns=stamp_ns, requested_ns=None, rival=None)
    return Choice(target, reason, priority, replace(memory, recovering=False))


def _watch_rival(best: UUID, lead: float, stamp_ns: int, memory: Memory, config: PointingConfig) -> Memory:
    if best == memory.target or lead < config.switch_margin:
        return replace(memory, rival=None)
    if best != memory.rival:
        return replace(memory, rival=best, rival_since_ns=stamp_ns, rival_arrays=1)
    return replace(memory, rival_arrays=memory.rival_arrays + 1)


def _may_switch(stamp_ns: int, memory: Memory, config: PointingConfig) -> bool:
    beaten_s = (stamp_ns - memory.rival_since_ns) / NANOSECONDS
    looked_s = (stamp_ns - memory.target_since_ns) / NANOSECONDS
    return (
        memory.rival is not None
        and memory.rival_arrays >= config.switch_after_arrays
        and beaten_s >= config.switch_after_s
        and looked_s >= config.dwell_s
    )
