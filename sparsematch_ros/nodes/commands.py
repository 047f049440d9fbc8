"""From an attitude request to what the simulated spacecraft does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.msg import AttitudeRequest
from sparsematch_ros.nodes.conversions import quaternion_array, vector_array
from sparsematch_ros.pointing.conventions import quaternion, rotation
from sparsematch_ros.simulation.flight import Command

FloatArray = NDArray[np.float64]


def command_from_request(
    request: AttitudeRequest, inertial_frame: str, camera_frame: str, q_NC_by_stamp: Mapping[int, FloatArray],
    latency_s: float,
) -> Command:  # fmt: skip
    """Turn a request into a command in the inertial frame.

    Args:
        request: in the inertial frame, or in the camera's frame at its stamp.
        inertial_frame: name of the one.
        camera_frame: name of the other.
        q_NC_by_stamp: the camera's attitude at past images.
        latency_s: from the image's stamp until the spacecraft acts [s].

    Raises:
        SparsematchError: where the frame is another, the attitude at the stamp is not known, or numbers are not finite.

    """
    R_NR = _reference(request, inertial_frame, camera_frame, q_NC_by_stamp)
    stamp = stamp_ns(request.header.stamp)
    omega_R = vector_array(request.angular_velocity)
    validity_ns = request.validity.sec * NANOSECONDS + request.validity.nanosec
    return Command(
        effective_ns=stamp + round(latency_s * NANOSECONDS),
        attitude_ns=stamp_ns(request.attitude_stamp),
        expires_ns=stamp + validity_ns,
        q_NB_xyzw=quaternion(R_NR * rotation(quaternion_array(request.attitude))),
        omega_BN_N_rad_s=None if np.isnan(omega_R).any() else R_NR.apply(omega_R),
    )


def _reference(
    request: AttitudeRequest, inertial_frame: str, camera_frame: str, q_NC_by_stamp: Mapping[int, FloatArray]
) -> Rotation:
    frame = request.header.frame_id
    if frame == inertial_frame:
        return Rotation.identity()
    if frame != camera_frame:
        raise SparsematchError(f"request in frame '{frame}', expected '{inertial_frame}' or '{camera_frame}'")
    stamp = stamp_ns(request.header.stamp)
    if stamp not in q_NC_by_stamp:
        raise SparsematchError(f"request relative to the camera at {stamp} ns, when no image was taken")
    return rotation(q_NC_by_stamp[stamp])
