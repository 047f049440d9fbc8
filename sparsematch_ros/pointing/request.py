"""The request itself: where the body and its target are when it acts, and the attitude and rate that join them.

R is the frame of the request: inertial, or the camera's at the image where the attitude is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS, AttitudeRequest, SpaceObject
from sparsematch_ros.pointing.conventions import quaternion, rotation, unit_vector
from sparsematch_ros.pointing.guidance import (
    angle_between_rad,
    following_rate_rad_s,
    pointing_rotation,
    predicted_bearing,
    smallest_turn,
    turned_covariance,
)
from sparsematch_ros.pointing.keep_out import all_known
from sparsematch_ros.pointing.quaternions import product
from sparsematch_ros.pointing.situation import Policy, Situation
from sparsematch_ros.pointing.slew import Attitude
from sparsematch_ros.pointing.vectors import length
from sparsematch_ros.pointing.way import Task, Way

FloatArray = NDArray[np.float64]

# unit_vector refuses it by value: a request for an object without a bearing is a caller's mistake.
NO_BEARING = np.full(3, np.nan)
# No object.
NOBODY = UUID(int=0)


@dataclass(frozen=True, eq=False)
class Aim:
    """A target as the body has to follow it.

    Attributes:
        start: attitude and rate of the body in R, when the request acts.
        target: attitude that is wanted then, and its rate.
        bearing_R: `(3,)` direction to the target at the image.
        covariance_R: `(3, 3)` of that, or None.
        omega_R_rad_s: `(3,)` rate that follows the target, or None where its bearing's rate is not known.
        off_rad: angle between boresight and target at the image [rad].

    """

    start: Attitude
    target: Attitude
    bearing_R: FloatArray
    covariance_R: FloatArray | None
    omega_R_rad_s: FloatArray | None
    off_rad: float

    @property
    def rate_rad_s(self) -> float:
        """Give the rate that following needs [rad/s]."""
        return 0.0 if self.omega_R_rad_s is None else length(self.omega_R_rad_s)


def delay_s(situation: Situation, policy: Policy) -> float:
    """Give the time from the image until the request acts [s]."""
    return situation.age_s + policy.config.latency_s


def body_at_image(situation: Situation, policy: Policy) -> Attitude:
    """Give the body's attitude and rate in R at the image's stamp; at rest where the rate is not known."""
    if situation.q_NB_xyzw is None:
        return Attitude(policy.R_BC.inv(), np.zeros(3))
    omega = situation.omega_BN_N_rad_s
    return Attitude(rotation(situation.q_NB_xyzw), np.zeros(3) if omega is None else omega)


def aim_at(item: SpaceObject, situation: Situation, policy: Policy) -> Aim:
    """Predict body and target from the image's stamp to when the request acts, and join them."""
    then = body_at_image(situation, policy)
    matrix_RC = then.matrix @ policy.matrix_BC
    bearing_R = matrix_RC @ unit_vector(NO_BEARING if item.bearing is None else item.bearing)
    rate_R = None if item.bearing_rate_rad_s is None else matrix_RC @ item.bearing_rate_rad_s
    omega_R = None if rate_R is None else following_rate_rad_s(bearing_R, rate_R)
    dt_s = delay_s(situation, policy)
    start, ahead_R = then.at(dt_s), predicted_bearing(bearing_R, rate_R, dt_s)
    return Aim(
        start=start,
        target=Attitude(_wanted(start, ahead_R, situation, policy), np.zeros(3) if omega_R is None else omega_R),
        bearing_R=bearing_R,
        covariance_R=turned_covariance(matrix_RC, item.bearing_covariance),
        omega_R_rad_s=omega_R,
        off_rad=angle_between_rad(then.matrix @ policy.boresight_B, bearing_R),
    )


def _wanted(start: Attitude, ahead_R: FloatArray, situation: Situation, policy: Policy) -> FloatArray:
    """Give the attitude `(4,)` that puts the boresight on a direction, with the roll that is set, if any."""
    if policy.roll_direction_N is None or situation.q_NB_xyzw is None:
        return product(smallest_turn(start.matrix @ policy.boresight_B, ahead_R), start.q_NB_xyzw)
    roll = policy.roll_body_axis_B, policy.roll_direction_N
    return quaternion(pointing_rotation(start.R_NB, policy.boresight_B, ahead_R, *roll))


def task_for(aim: Aim, situation: Situation, policy: Policy) -> Task:
    """Say what slew the aim needs, and for how long its request will be followed after it."""
    inertial = situation.q_NB_xyzw is not None
    follow_s = policy.config.validity_s - delay_s(situation, policy)
    roll_free = policy.roll_direction_N is None
    return Task(aim.start, aim.target, policy.rules if inertial else policy.unchecked_rules, follow_s, roll_free)


def make_request(
    item: SpaceObject, aim: Aim, way: Way, priority: int, reason: str, situation: Situation, policy: Policy
) -> AttitudeRequest:
    """Write the request for an object: its bearing at the image, and the attitude when the request acts.

    On a way around a cone the attitude is that of the next waypoint, at rest there; the next array brings the next.
    """
    config = policy.config
    omega = way.next_target.omega_BN_N_rad_s if way.waypoints else aim.omega_R_rad_s
    words = [reason, _motion(item)]
    if way.waypoints:
        words.append(f"by way of {way.waypoints} waypoints around keep-out cones")
    return AttitudeRequest(
        stamp_ns=situation.stamp_ns,
        reference_frame=situation.reference_frame(config),
        target_id=item.id,
        target_bearing_R=aim.bearing_R,
        target_bearing_covariance_R=aim.covariance_R,
        attitude_stamp_ns=acts_ns(situation, policy),
        q_RB_xyzw=quaternion(way.next_target.R_NB),
        omega_BR_R_rad_s=omega,
        boresight_B=policy.boresight_B,
        max_rate_rad_s=policy.rules.limits.max_rate_rad_s,
        max_acceleration_rad_s2=policy.rules.limits.max_acceleration_rad_s2,
        priority=priority,
        reason="; ".join(words),
        validity_s=min(config.validity_s, delay_s(situation, policy) + way.clear_s),
        keep_out_checked=situation.q_NB_xyzw is not None and all_known(policy.cones),
        time_to_go_s=way.slew.duration_s,
        waypoints=way.waypoints,
        **_roll(situation, policy),
    )


def _roll(situation: Situation, policy: Policy) -> dict[str, FloatArray | None]:
    if situation.q_NB_xyzw is None:
        return {}
    return {"roll_body_axis_B": policy.roll_body_axis_B, "roll_direction_R": policy.roll_direction_N}


def acts_ns(situation: Situation, policy: Policy) -> int:
    """Give the time at which the request acts, to which all is predicted [ns]."""
    return situation.now_ns + round(policy.config.latency_s * NANOSECONDS)


def make_rest_request(
    R_NB: Rotation, time_to_go_s: float, validity_s: float, reason: str, checked: bool, situation: Situation,
    policy: Policy,
) -> AttitudeRequest:  # fmt: skip
    """Write a request for no object: an inertial attitude to come to rest at."""
    return AttitudeRequest(
        stamp_ns=situation.stamp_ns,
        reference_frame=policy.config.inertial_frame,
        target_id=NOBODY,
        target_bearing_R=R_NB.apply(policy.boresight_B),
        target_bearing_covariance_R=None,
        attitude_stamp_ns=acts_ns(situation, policy),
        q_RB_xyzw=quaternion(R_NB),
        omega_BR_R_rad_s=np.zeros(3),
        boresight_B=policy.boresight_B,
        max_rate_rad_s=policy.rules.limits.max_rate_rad_s,
        max_acceleration_rad_s2=policy.rules.limits.max_acceleration_rad_s2,
        priority=0,
        reason=reason,
        validity_s=validity_s,
        keep_out_checked=checked,
        time_to_go_s=time_to_go_s,
    )


def _motion(item: SpaceObject) -> str:
    speed_px_s = float(np.linalg.norm(item.velocity_px_s))
    return f"moving at {speed_px_s:.1f} px/s against its surroundings, existence {item.existence_probability:.2f}"
