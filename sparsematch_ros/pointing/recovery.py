"""What is asked when the target is lost and there is no other: nothing, rest, or the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.pointing.answer import Answer, Code, Decision, Memory, no, no_way
from sparsematch_ros.pointing.conventions import rotation
from sparsematch_ros.pointing.keep_out import all_known
from sparsematch_ros.pointing.legs import match_rate
from sparsematch_ros.pointing.request import body_at_image, delay_s, make_rest_request
from sparsematch_ros.pointing.situation import Policy, Situation, stale
from sparsematch_ros.pointing.slew import Attitude, Slew
from sparsematch_ros.pointing.way import Blocked, Task, entered_on, plan_way

FloatArray = NDArray[np.float64]

# A request to stop holds this much longer than the stop takes [s].
SPARE_S = 1.0


def recover(situation: Situation, policy: Policy, memory: Memory) -> Answer:
    """Do what `when_lost` says: `hold` asks nothing, so that the last request runs out and the attitude is held.

    Args:
        situation: without an object that could be looked at.
        policy: the settings.
        memory: of a target that was lost in this array or an earlier one.

    """
    memory = Memory(stamp_ns=memory.stamp_ns, requested_ns=memory.requested_ns if memory.recovering else None)
    way = policy.config.when_lost
    if way == "hold":
        return replace(no(Code.NO_TARGET, "the target is lost: its last request runs out"), memory=memory)
    waiting = replace(memory, recovering=True)
    old = stale(situation, policy.config)
    if old is not None:
        return replace(no(Code.STALE, old), memory=waiting)
    if situation.q_NB_xyzw is None:
        return replace(
            no(Code.UNCHECKED, f"the target is lost, and without attitude no {way} is asked"), memory=waiting
        )
    return _stop(situation, policy, memory) if way == "stop" else _return(situation, policy, memory)


def _stop(situation: Situation, policy: Policy, memory: Memory) -> Answer:
    start = body_at_image(situation, policy).at(delay_s(situation, policy))
    leg = match_rate(start, np.zeros(3), policy.rules.limits)
    checked = all_known(policy.cones) and entered_on(Slew((leg,)), policy.rules, policy.rules.spacing_rad) is None
    validity_s = max(policy.config.validity_s, delay_s(situation, policy) + leg.duration_s + SPARE_S)
    reason = "the target is lost: come to rest"
    request = make_rest_request(leg.end.R_NB, leg.duration_s, validity_s, reason, checked, situation, policy)
    return Answer(Decision.SENT, Code.TARGET_LOST, reason, time_to_go_s=leg.duration_s, request=request, memory=memory)


def _return(situation: Situation, policy: Policy, memory: Memory) -> Answer:
    home = situation.home_q_NB_xyzw if policy.return_q_NB_xyzw is None else policy.return_q_NB_xyzw
    if home is None:
        return replace(no(Code.NO_TARGET, "the target is lost, and no attitude to return to is known"), memory=memory)
    start = body_at_image(situation, policy).at(delay_s(situation, policy))
    off_deg = float(np.degrees((rotation(home).inv() * start.R_NB).magnitude()))
    if off_deg < max(policy.config.dead_band_deg, 1e-3):
        return replace(no(Code.DEAD_BAND, f"returned: {off_deg:.3f} deg off"), memory=memory)
    memory = replace(memory, recovering=True)
    if _asked_lately(situation, policy, memory):
        return replace(
            no(Code.TARGET_LOST, f"the target is lost: on the way back, {off_deg:.2f} deg off"), memory=memory
        )
    return _ask_return(Task(start, Attitude(rotation(home), np.zeros(3)), policy.rules, roll_free=False),
                       situation, policy, memory)  # fmt: skip


def _asked_lately(situation: Situation, policy: Policy, memory: Memory) -> bool:
    """Tell whether the last request still has half of its validity; around cones each array brings the next part."""
    if memory.requested_ns is None or policy.cones:
        return False
    return situation.stamp_ns - memory.requested_ns <= policy.config.validity_s / 2 * NANOSECONDS


def _ask_return(task: Task, situation: Situation, policy: Policy, memory: Memory) -> Answer:
    way = plan_way(task)
    if isinstance(way, Blocked):
        return replace(no_way(way, policy.config.longest_slew_s), memory=memory)
    if not (all_known(policy.cones) or policy.config.allow_unchecked):
        return replace(no(Code.UNCHECKED, "the direction of a keep-out body is not known"), memory=memory)
    to_go_s, validity_s, reason = way.slew.duration_s, policy.config.validity_s, "the target is lost: return"
    R_NB, checked = way.next_target.R_NB, all_known(policy.cones)
    request = make_rest_request(R_NB, to_go_s, validity_s, reason, checked, situation, policy)
    request = replace(request, waypoints=way.waypoints)
    memory = replace(memory, requested_ns=situation.stamp_ns)
    return Answer(Decision.SENT, Code.TARGET_LOST, reason, time_to_go_s=to_go_s, request=request, memory=memory)
