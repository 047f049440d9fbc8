"""Whether to ask for an attitude, for which object, and why not.

Nothing here keeps state or reads a clock: the caller hands in the time, the last stamp and the current target.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, AttitudeRequest, ObjectState, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import quaternion, rotation, unit_vector
from sparsematch_ros.pointing.guidance import (
    angle_between_rad,
    following_rate_rad_s,
    pointing_rotation,
    turned_covariance,
)
from sparsematch_ros.pointing.keep_out import KeepOutCone, all_known, cones_from_settings, forbidding_cone

FloatArray = NDArray[np.float64]

# A clock that is distributed by messages may lag the image's stamp by this much.
FUTURE_TOLERANCE_S = 0.1


class Decision(enum.IntEnum):
    """What was done with an array; the values are those of `AttitudeRequestStatus.msg`."""

    SENT = 0
    HELD = 1
    REFUSED = 2


class Code(enum.IntEnum):
    """Why; the values are those of `AttitudeRequestStatus.msg`."""

    NONE = 0
    DISABLED = 1
    NO_TARGET = 2
    DEAD_BAND = 3
    STALE = 4
    KEEP_OUT = 5
    UNCHECKED = 6
    NO_BEARING = 7
    BAD_INPUT = 8


# unit_vector refuses it by value: a request for an object without a bearing is a caller's mistake.
NO_BEARING = np.full(3, np.nan)

HELD_CODES = (Code.DISABLED, Code.NO_TARGET, Code.DEAD_BAND)


@dataclass(frozen=True, eq=False)
class Policy:
    """The settings, checked once and in the units of the computation.

    Attributes:
        config: as given.
        boresight_B: `(3,)` unit vector.
        R_BC: rotation of the camera's optical frame in the body, `v_B = R_BC v_C`.
        cones: where the boresight must not look.

    """

    config: PointingConfig
    boresight_B: FloatArray
    R_BC: Rotation
    cones: tuple[KeepOutCone, ...]

    @classmethod
    def from_config(cls, config: PointingConfig) -> Policy:
        """Check the vectors and angles of the settings.

        Raises:
            SparsematchError: with the setting's value and what would be right.

        """
        with _named("boresight"):
            boresight_B = unit_vector(config.boresight)
        with _named("camera_to_body_xyzw"):
            R_BC = rotation(config.camera_to_body_xyzw)
        cones = cones_from_settings(config.keep_out_half_angles_deg, config.keep_out_directions)
        return cls(config, boresight_B, R_BC, cones)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """Put the setting's name before what is wrong with its value."""
    try:
        yield
    except SparsematchError as error:
        raise SparsematchError(f"pointing.{setting}: {error}") from error


@dataclass(frozen=True, eq=False)
class Situation:
    """All that one decision rests on.

    Attributes:
        stamp_ns: stamp of the image that the objects were seen in [ns].
        camera_frame: frame_id of that image.
        objects: everything alive at that image.
        now_ns: time now [ns], on the clock of the stamps.
        enabled: whether requests may be sent.
        q_NB_xyzw: `(4,)` attitude of the body at `stamp_ns`, or None where it is not known.
        previous_stamp_ns: stamp of the array before, or None.
        current_target: object of the last request, or None.
        last_request_ns: stamp of the last request, or None.

    """

    stamp_ns: int
    camera_frame: str
    objects: tuple[SpaceObject, ...]
    now_ns: int
    enabled: bool
    q_NB_xyzw: FloatArray | None = None
    previous_stamp_ns: int | None = None
    current_target: UUID | None = None
    last_request_ns: int | None = None

    @property
    def age_s(self) -> float:
        """How old the image is [s]."""
        return (self.now_ns - self.stamp_ns) / NANOSECONDS


@dataclass(frozen=True, eq=False)
class Answer:
    """What is done with one array, in the terms of `AttitudeRequestStatus.msg`; `request` where it is sent."""

    decision: Decision
    code: Code
    reason: str
    target_id: UUID | None = None
    off_boresight_rad: float = float("nan")
    request: AttitudeRequest | None = None


def no(code: Code, reason: str, target: SpaceObject | None = None) -> Answer:
    """Hold or refuse, as the code has it."""
    decision = Decision.HELD if code in HELD_CODES else Decision.REFUSED
    return Answer(decision, code, reason, target.id if target else None)


def decide(situation: Situation, policy: Policy) -> Answer:
    """Choose a target and send, hold or refuse."""
    if not situation.enabled:
        return no(Code.DISABLED, "the node is not enabled")
    problem = bad_stamp(situation)
    if problem is not None:
        return no(Code.BAD_INPUT, problem)
    chosen = choose_target(situation.objects, situation.current_target, policy.config.min_existence)
    if isinstance(chosen, Answer):
        return chosen
    limit_s = min(policy.config.max_age_s, policy.config.validity_s)
    if situation.age_s > limit_s:
        return no(Code.STALE, f"the image is {situation.age_s:.3f} s old, limit {limit_s} s", chosen)
    return _answer_for(chosen, situation, policy)


def bad_stamp(situation: Situation) -> str | None:
    """Say what is wrong with the array's stamp, or None.

    A previous stamp that lies in the future comes from before the clock was set back, and says nothing.
    """
    if situation.age_s < -FUTURE_TOLERANCE_S:
        return f"the image's stamp is {-situation.age_s:.3f} s in the future"
    previous_ns = situation.previous_stamp_ns
    newest_ns = situation.now_ns + round(FUTURE_TOLERANCE_S * NANOSECONDS)
    if previous_ns is not None and situation.stamp_ns <= previous_ns <= newest_ns:
        return f"the image's stamp is {(previous_ns - situation.stamp_ns) / NANOSECONDS:.3f} s before the last one"
    return None


def choose_target(objects: tuple[SpaceObject, ...], current: UUID | None, min_existence: float) -> SpaceObject | Answer:
    """Take the current target where it still is one, else the surest object; or say why there is none.

    While the current target coasts nothing is asked: its last request still holds, and a switch to another object and
    back would swing the spacecraft.
    """
    if any(item.id == current and item.state == ObjectState.COASTING for item in objects):
        return no(Code.NO_TARGET, "the target is coasting: not seen in this image")
    wanted = [item for item in objects if is_wanted(item, min_existence)]
    if not wanted:
        return no(Code.NO_TARGET, f"none of {len(objects)} objects is confirmed, moving and sure enough")
    usable = [item for item in wanted if unusable(item) is None]
    if not usable:
        return unusable(wanted[0]) or no(Code.NO_TARGET, "no usable object")
    return max(usable, key=lambda item: (item.id == current, item.existence_probability, -item.id.int))


def is_wanted(item: SpaceObject, min_existence: float) -> bool:
    """Tell whether an object is worth a request: confirmed in this image, moving, sure enough. NaN is not sure."""
    return item.state == ObjectState.CONFIRMED and item.moving and item.existence_probability >= min_existence


def unusable(item: SpaceObject) -> Answer | None:
    """Say why an object's numbers cannot become a request, or None where they can."""
    if item.bearing is None:
        return no(Code.NO_BEARING, "the image had no CameraInfo, so no bearing", item)
    numbers = [item.bearing, item.centroid_px]
    if item.bearing_rate_rad_s is not None:
        numbers.append(item.bearing_rate_rad_s)
    if not all(np.isfinite(value).all() for value in numbers):
        return no(Code.BAD_INPUT, "the object's bearing, bearing rate or centroid is not finite", item)
    length = float(np.linalg.norm(item.bearing))
    if abs(length - 1.0) > 1e-3:
        return no(Code.BAD_INPUT, f"the object's bearing has length {length:.4f}, expected 1", item)
    return None


def _answer_for(target: SpaceObject, situation: Situation, policy: Policy) -> Answer:
    request = make_request(target, situation, policy)
    boresight_R = _attitude(situation, policy).apply(policy.boresight_B)
    off_rad = angle_between_rad(boresight_R, request.target_bearing_R)
    answer = _forbidden(target, request, situation, policy)
    quiet = off_rad < np.radians(policy.config.dead_band_deg) and not _runs_out(target, situation, policy)
    if answer is None and quiet:
        band_deg = policy.config.dead_band_deg
        answer = no(Code.DEAD_BAND, f"{np.degrees(off_rad):.3f} deg off, dead band {band_deg} deg", target)
    if answer is None:
        answer = Answer(Decision.SENT, Code.NONE, request.reason, target.id, request=request)
    return replace(answer, off_boresight_rad=off_rad)


def _runs_out(target: SpaceObject, situation: Situation, policy: Policy) -> bool:
    """Tell whether the target's last request needs renewal: half of its validity is over."""
    if situation.last_request_ns is None or target.id != situation.current_target:
        return False
    return situation.stamp_ns - situation.last_request_ns > policy.config.validity_s / 2 * NANOSECONDS


def _forbidden(target: SpaceObject, request: AttitudeRequest, situation: Situation, policy: Policy) -> Answer | None:
    if situation.q_NB_xyzw is not None:
        hit = forbidding_cone(request.target_bearing_R, policy.cones)
        if hit is not None:
            row, angle_deg = hit[0], np.degrees(hit[1])
            limit_deg = policy.config.keep_out_half_angles_deg[row]
            return no(Code.KEEP_OUT, f"{angle_deg:.2f} deg from keep-out body {row}, limit {limit_deg} deg", target)
    if request.keep_out_checked or policy.config.allow_unchecked:
        return None
    what = "attitude" if situation.q_NB_xyzw is None else "direction of a keep-out body"
    return no(Code.UNCHECKED, f"the {what} is not known at the image's stamp", target)


def _attitude(situation: Situation, policy: Policy) -> Rotation:
    """Give the body's attitude in R at the image's stamp: R is inertial, or the camera's frame without telemetry."""
    return policy.R_BC.inv() if situation.q_NB_xyzw is None else rotation(situation.q_NB_xyzw)


def make_request(target: SpaceObject, situation: Situation, policy: Policy) -> AttitudeRequest:
    """Write the request for an object that has a finite bearing.

    Attitude and bearing hold at the image's stamp, so the delay since then does not enter; the consumer turns the
    attitude on with the angular velocity.
    """
    config, inertial = policy.config, situation.q_NB_xyzw is not None
    R_RB = _attitude(situation, policy)
    R_RC = R_RB * policy.R_BC
    bearing_R = R_RC.apply(unit_vector(NO_BEARING if target.bearing is None else target.bearing))
    rate = target.bearing_rate_rad_s
    return AttitudeRequest(
        stamp_ns=situation.stamp_ns,
        reference_frame=config.inertial_frame if inertial else situation.camera_frame,
        target_id=target.id,
        target_bearing_R=bearing_R,
        target_bearing_covariance_R=turned_covariance(R_RC, target.bearing_covariance),
        attitude_stamp_ns=situation.stamp_ns,
        q_RB_xyzw=quaternion(pointing_rotation(R_RB, policy.boresight_B, bearing_R)),
        omega_BR_R_rad_s=None if rate is None else following_rate_rad_s(bearing_R, R_RC.apply(rate)),
        boresight_B=policy.boresight_B,
        max_rate_rad_s=float(np.radians(config.max_rate_deg_s)),
        max_acceleration_rad_s2=float(np.radians(config.max_acceleration_deg_s2)),
        priority=round(255 * min(max(target.existence_probability, 0.0), 1.0)),
        reason=_reason(target),
        validity_s=config.validity_s,
        keep_out_checked=inertial and all_known(policy.cones),
    )


def _reason(target: SpaceObject) -> str:
    speed_px_s = float(np.linalg.norm(target.velocity_px_s))
    existence = target.existence_probability
    return f"moving at {speed_px_s:.1f} px/s against its surroundings, existence {existence:.2f}"
