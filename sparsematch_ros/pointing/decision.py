"""Whether to ask for an attitude, for which object, and why not.

Nothing here keeps state or reads a clock: the caller hands in the time and what the last decision left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.pointing.answer import Answer, Code, Decision, Memory, no, no_way
from sparsematch_ros.pointing.choice import SELECTED, SELECTED_PRIORITY, Choice, choose
from sparsematch_ros.pointing.keep_out import all_known, forbidding_cone
from sparsematch_ros.pointing.recovery import recover
from sparsematch_ros.pointing.request import Aim, aim_at, body_at_image, make_request, task_for
from sparsematch_ros.pointing.situation import Policy, Situation, bad_stamp, remembered, stale
from sparsematch_ros.pointing.vectors import length
from sparsematch_ros.pointing.way import Blocked, plan_way

__all__ = ["Answer", "Code", "Decision", "Memory", "Policy", "Situation", "bad_stamp", "consider", "decide", "no"]

FloatArray = NDArray[np.float64]

# Share of the rate limit that following may need; the rest is for catching up.
FOLLOWING_SHARE = 0.95
# How far from length 1 a bearing may be.
BEARING_TOLERANCE = 1e-3
# Refused for these an object says nothing about the others.
UNREACHABLE = (Code.RATE_LIMIT, Code.KEEP_OUT)
# Objects tried per array at most: each may take a search for a way around cones.
MOST_TRIES = 8


def decide(situation: Situation, policy: Policy) -> Answer:
    """Choose a target and send, hold or refuse; the answer's memory belongs into the next situation."""
    problem = bad_stamp(situation)
    memory = situation.memory if problem else replace(remembered(situation), stamp_ns=situation.stamp_ns)
    if not situation.enabled:
        return replace(no(Code.DISABLED, "the node is not enabled"), memory=Memory(stamp_ns=memory.stamp_ns))
    if problem is not None:
        return replace(no(Code.BAD_INPUT, problem), memory=memory)
    if situation.problem:
        return replace(no(Code.NO_TARGET, f"the image could not be used: {situation.problem}"), memory=memory)
    answer = _decide(situation, policy, memory)
    return answer if answer.memory is not None else replace(answer, memory=memory)


def consider(target: UUID, situation: Situation, policy: Policy) -> Answer:
    """Say what would be answered if one object were asked for now; nothing is remembered.

    This is what a goal to point at an object is accepted or rejected by.
    """
    item = next((item for item in situation.objects if item.id == target), None)
    if item is None or item.state == ObjectState.LOST:
        return no(Code.NO_TARGET, f"there is no object {target}")
    if not is_wanted(item, policy.config.min_existence):
        return no(Code.UNCONFIRMED, "the object is not confirmed in this image, moving and sure enough", item)
    problem = bad_stamp(situation)
    if problem is not None:
        return no(Code.BAD_INPUT, problem, item)
    old = stale(situation, policy.config)
    refusal = no(Code.STALE, old, item) if old is not None else unusable(item)
    if refusal is not None:
        return refusal
    choice = Choice(item, SELECTED, SELECTED_PRIORITY, Memory(target=target))
    return replace(_answer_for(choice, situation, policy), memory=None)


def _decide(situation: Situation, policy: Policy, memory: Memory) -> Answer:
    targets = _targets(situation, policy, memory)
    if isinstance(targets, Answer):
        return targets
    choice, answer = _chosen(targets, situation, policy, memory)
    if answer.decision == Decision.REFUSED and choice.target.id != memory.target:
        return replace(answer, memory=memory)
    sent_ns = situation.stamp_ns if answer.decision == Decision.SENT else choice.memory.requested_ns
    return replace(answer, memory=replace(choice.memory, requested_ns=sent_ns))


def _chosen(targets: list[SpaceObject], situation: Situation, policy: Policy, memory: Memory) -> tuple[Choice, Answer]:
    """Choose, and choose again among the rest where the target cannot be reached and is not the user's.

    Where none of those tried can be reached, the first one is refused by name.
    """
    old, tried = stale(situation, policy.config), []
    for _ in range(min(len(targets), MOST_TRIES)):
        choice = choose(
            targets, situation.stamp_ns, memory, policy.config, situation.selected, situation.image_size_wh_px,
            situation.selected_why,
        )  # fmt: skip
        answer = no(Code.STALE, old, choice.target) if old is not None else _answer_for(choice, situation, policy)
        if answer.code not in UNREACHABLE or choice.target.id == situation.selected:
            return choice, answer
        tried.append((choice, answer))
        targets = [item for item in targets if item.id != choice.target.id]
    return tried[0]


def _targets(situation: Situation, policy: Policy, memory: Memory) -> list[SpaceObject] | Answer:
    """Give the objects that may be asked for; or say why there is none.

    While the target, or the user's choice, coasts nothing is asked: its last request still holds, and a switch to
    another object and back would swing the spacecraft.
    """
    objects = [item for item in situation.objects if item.id not in situation.released]
    wanted = [item for item in objects if is_wanted(item, policy.config.min_existence)]
    ready = any(item.id == situation.selected for item in wanted)
    awaited = (situation.selected, memory.target)
    if not ready and any(item.id in awaited and item.state == ObjectState.COASTING for item in objects):
        return no(Code.NO_TARGET, "the target is coasting: not seen in this image")
    if not wanted:
        return _nobody(objects, situation, policy, memory)
    usable = [item for item, fine in zip(wanted, _fit(wanted)) if fine]
    if not usable:
        return unusable(wanted[0]) or no(Code.BAD_INPUT, "no object has numbers that can be used", wanted[0])
    return _outside_cones(usable, situation, policy)


def _nobody(objects: list[SpaceObject], situation: Situation, policy: Policy, memory: Memory) -> Answer:
    alive = {item.id for item in objects if item.state != ObjectState.LOST}
    if situation.selected in alive:
        return no(Code.UNCONFIRMED, "the selected object is not confirmed, moving and sure enough")
    if memory.recovering or (memory.target is not None and memory.target not in alive):
        return recover(situation, policy, memory)
    return no(Code.NO_TARGET, f"none of {len(objects)} objects is confirmed, moving and sure enough")


def is_wanted(item: SpaceObject, min_existence: float) -> bool:
    """Tell whether an object is worth a request: confirmed in this image, moving, sure enough. NaN is not sure."""
    return item.state == ObjectState.CONFIRMED and item.moving and item.existence_probability >= min_existence


def _fit(objects: Sequence[SpaceObject]) -> NDArray[np.bool_]:
    """Tell of which objects a request can be made, `(N,)`: bearing of length 1, all that enters it finite."""
    none, still, exact = np.full(3, np.nan), np.zeros(3), np.zeros((3, 3))
    bearings = np.array([none if item.bearing is None else item.bearing for item in objects])
    rates = np.array([still if item.bearing_rate_rad_s is None else item.bearing_rate_rad_s for item in objects])
    pixels = np.array([[*item.centroid_px, *item.velocity_px_s] for item in objects])
    spreads = np.array([exact if item.bearing_covariance is None else item.bearing_covariance for item in objects])
    numbers = np.concatenate([bearings, rates, pixels, spreads.reshape(-1, 9)], axis=1)
    finite = np.isfinite(numbers).all(axis=1)
    lengths = np.sqrt((np.where(finite[:, None], bearings, 0.0) ** 2).sum(axis=1))
    return np.asarray(finite & (np.abs(lengths - 1.0) <= BEARING_TOLERANCE))


def unusable(item: SpaceObject) -> Answer | None:
    """Say why an object's numbers cannot become a request, or None where they can."""
    if item.bearing is None:
        return no(Code.NO_BEARING, "the image had no CameraInfo, so no bearing", item)
    if _fit([item])[0]:
        return None
    size = float(np.linalg.norm(item.bearing))
    if np.isfinite(size) and abs(size - 1.0) > BEARING_TOLERANCE:
        return no(Code.BAD_INPUT, f"the object's bearing has length {size:.4f}, expected 1", item)
    return no(
        Code.BAD_INPUT, "the object's bearing, its covariance, bearing rate, velocity or centroid is not finite", item
    )


def _outside_cones(usable: list[SpaceObject], situation: Situation, policy: Policy) -> list[SpaceObject]:
    """Leave out what lies in a known cone, unless all do: then one of them is refused by name."""
    guard = policy.rules.guards[0]
    if len(usable) == 1 or situation.q_NB_xyzw is None or not guard.rows:
        return usable
    R_NC = body_at_image(situation, policy).R_NB * policy.R_BC
    bearings_N = R_NC.apply(np.array([item.bearing for item in usable]))
    held = guard.held(bearings_N).any(axis=1)
    return [usable[row] for row in np.flatnonzero(~held)] or usable


def _answer_for(choice: Choice, situation: Situation, policy: Policy) -> Answer:
    item = choice.target
    aim = aim_at(item, situation, policy)
    answer = _refusal(item, aim, situation, policy) or _quiet(choice, aim, situation, policy.config)
    if answer is None:
        answer = _planned(choice, aim, situation, policy)
    omega = situation.omega_BN_N_rad_s
    wanted = aim.omega_R_rad_s
    rate_error = np.nan if omega is None or wanted is None else length(omega - wanted)
    return replace(answer, choice=choice.reason, off_boresight_rad=aim.off_rad, rate_error_rad_s=float(rate_error))


def _planned(choice: Choice, aim: Aim, situation: Situation, policy: Policy) -> Answer:
    item = choice.target
    way = plan_way(task_for(aim, situation, policy))
    if isinstance(way, Blocked):
        return no_way(way, policy.config.longest_slew_s, item)
    request = make_request(item, aim, way, choice.priority, choice.reason, situation, policy)
    return Answer(
        Decision.SENT, Code.NONE, request.reason, item.id, time_to_go_s=way.slew.duration_s, request=request
    )  # fmt: skip


def _quiet(choice: Choice, aim: Aim, situation: Situation, config: PointingConfig) -> Answer | None:
    """Hold inside the dead band, unless half of the last request's validity is over."""
    if aim.off_rad >= np.radians(config.dead_band_deg):
        return None
    last_ns = choice.memory.requested_ns
    if last_ns is not None and situation.stamp_ns - last_ns > config.validity_s / 2 * NANOSECONDS:
        return None
    reason = f"{np.degrees(aim.off_rad):.3f} deg off, dead band {config.dead_band_deg} deg"
    return no(Code.DEAD_BAND, reason, choice.target)


def _refusal(item: SpaceObject, aim: Aim, situation: Situation, policy: Policy) -> Answer | None:
    config = policy.config
    if not situation.reference_frame(config):
        return no(Code.FRAME_UNKNOWN, "the frame that a request would be in has no name", item)
    limit = FOLLOWING_SHARE * policy.rules.limits.max_rate_rad_s
    if aim.rate_rad_s > limit:
        needed, most = np.degrees(aim.rate_rad_s), np.degrees(limit)
        return no(Code.RATE_LIMIT, f"following needs {needed:.3f} deg/s, limit {most:.3f} deg/s", item)
    if situation.q_NB_xyzw is not None:
        hit = forbidding_cone(aim.bearing_R, policy.cones)
        if hit is not None:
            angle_deg, limit_deg = np.degrees(hit[1]), config.keep_out_half_angles_deg[hit[0]]
            return no(Code.KEEP_OUT, f"{angle_deg:.2f} deg from keep-out body {hit[0]}, limit {limit_deg} deg", item)
    if (situation.q_NB_xyzw is not None and all_known(policy.cones)) or config.allow_unchecked:
        return None
    what = "attitude" if situation.q_NB_xyzw is None else "direction of a keep-out body"
    return no(Code.UNCHECKED, f"the {what} is not known at the image's stamp", item)
