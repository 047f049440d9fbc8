"""What a consumer of a request does with it: the attitude it asks for at a time, and a slew onto it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import NANOSECONDS, AttitudeRequest
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import rotation
from sparsematch_ros.pointing.legs import plan_legs
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude, Slew

FloatArray = NDArray[np.float64]


def requested_attitude(request: AttitudeRequest, time_ns: int) -> Attitude:
    """Give the attitude that a request asks for at a time, in its own frame, with the rate at which it turns.

    Raises:
        SparsematchError: where the request has run out.

    """
    age_s = (time_ns - request.stamp_ns) / NANOSECONDS
    if age_s > request.validity_s:
        raise SparsematchError(f"the request is {age_s:.3f} s old and held for {request.validity_s} s")
    omega = np.zeros(3) if request.omega_BR_R_rad_s is None else request.omega_BR_R_rad_s
    then = Attitude(rotation(request.q_RB_xyzw), np.asarray(omega, dtype=np.float64))
    return then.at((time_ns - request.attitude_stamp_ns) / NANOSECONDS)


def plan_slew(request: AttitudeRequest, time_ns: int, q_RB_xyzw: FloatArray, omega_BR_R_rad_s: FloatArray) -> Slew:
    """Plan the slew onto what a request asks for, within the limits that it assumes.

    The cones that the request was checked against are not known here: the slew is the direct one, as the request has
    it. A consumer that slews otherwise has to check its own way.

    Args:
        request: one that still holds.
        time_ns: when the slew begins: time 0 of what is returned [ns].
        q_RB_xyzw: `(4,)` attitude of the body then, in the request's frame.
        omega_BR_R_rad_s: `(3,)` rate of the body then.

    Raises:
        SparsematchError: where the request has run out, or numbers are no attitude.

    """
    start = Attitude(rotation(q_RB_xyzw), np.asarray(omega_BR_R_rad_s, dtype=np.float64))
    limits = Limits(request.max_rate_rad_s, request.max_acceleration_rad_s2)
    return Slew(plan_legs(start, requested_attitude(request, time_ns), limits), np.asarray(q_RB_xyzw, dtype=np.float64))
