"""The attitude at an image's stamp, from samples at other times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.pointing.conventions import quaternion

FloatArray = NDArray[np.float64]
# Stamp [ns] and quaternion `(4,)`.
Sample = tuple[int, FloatArray]


def attitude_at(
    stamp_ns: int, stamps_ns: list[int], quaternions_xyzw: list[FloatArray], max_age_s: float
) -> FloatArray | None:
    """Give the attitude `(4,)` at a time, between two samples or at a constant rate beyond the last.

    Args:
        stamp_ns: time wanted [ns].
        stamps_ns: times of the samples [ns], any order, repeats allowed.
        quaternions_xyzw: `(4,)` each, of unit length.
        max_age_s: how far a sample that is used may lie from the time wanted [s].

    Returns:
        The quaternion x, y, z, w, or None where the samples do not tell.

    """
    before, after = _around(stamp_ns, stamps_ns, quaternions_xyzw, max_age_s)
    if not before:
        return None
    if before[-1][0] == stamp_ns or (not after and len(before) == 1):
        return before[-1][1]
    pair = [before[-1], after[0]] if after else before[-2:]
    return _turned(stamp_ns, pair)


def rate_at(
    stamp_ns: int, stamps_ns: list[int], quaternions_xyzw: list[FloatArray], max_age_s: float
) -> FloatArray | None:
    """Give the angular velocity `(3,)` [rad/s] in N at a time: the mean between the two samples around or before it.

    Args:
        stamp_ns: time wanted [ns].
        stamps_ns: times of the samples [ns], any order, repeats allowed.
        quaternions_xyzw: `(4,)` each, of unit length.
        max_age_s: how far a sample that is used may lie from the time wanted [s].

    Returns:
        The rate, or None where there are no two samples that tell.

    """
    before, after = _around(stamp_ns, stamps_ns, quaternions_xyzw, max_age_s)
    pair = [*before[-2:], *after[:1]][-2:]
    if not before or len(pair) < 2:
        return None
    (first_ns, first), (second_ns, second) = pair
    turn = Rotation.from_quat(second) * Rotation.from_quat(first).inv()
    return np.asarray(turn.as_rotvec() / ((second_ns - first_ns) / NANOSECONDS))


def _around(
    stamp_ns: int, stamps_ns: list[int], quaternions_xyzw: list[FloatArray], max_age_s: float
) -> tuple[list[Sample], list[Sample]]:
    """Give the samples up to a time and those after it, in order, of those that are near enough."""
    samples = sorted(dict(zip(stamps_ns, quaternions_xyzw)).items(), key=lambda sample: sample[0])
    near = [sample for sample in samples if abs(sample[0] - stamp_ns) <= max_age_s * NANOSECONDS]
    number = sum(stamp <= stamp_ns for stamp, _ in near)
    return near[:number], near[number:]


def _turned(stamp_ns: int, pair: list[Sample]) -> FloatArray:
    (first_ns, first), (second_ns, second) = pair
    share = (stamp_ns - first_ns) / (second_ns - first_ns)
    if share <= 1.0:
        return quaternion(Slerp([0.0, 1.0], Rotation.from_quat(np.stack([first, second])))(share))
    start = Rotation.from_quat(first)
    step = (start.inv() * Rotation.from_quat(second)).as_rotvec()
    return quaternion(start * Rotation.from_rotvec(step * share))
