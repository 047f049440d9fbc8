"""The hand-offs of `data.py` as messages, and back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Quaternion, Vector3
from numpy.typing import NDArray
from std_msgs.msg import Header
from unique_identifier_msgs.msg import UUID as UUIDMessage

from sparsematch_ros.data import (
    NANOSECONDS,
    AttitudeRequest,
    FrameResult,
    ObjectState,
    SpaceObject,
)
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.media.records import decode_mask, encode_mask
from sparsematch_ros.msg import AttitudeRequest as AttitudeRequestMessage
from sparsematch_ros.msg import AttitudeRequestStatus, SegmentMatch, SegmentMatchArray, SpaceObjectArray
from sparsematch_ros.msg import SpaceObject as SpaceObjectMessage
from sparsematch_ros.pointing.decision import Answer
from sparsematch_ros.segmentation.segments import Segments

FloatArray = NDArray[np.float64]

NAN3 = np.full(3, np.nan)
NAN33 = np.full((3, 3), np.nan)


def stamp_message(nanoseconds: int) -> Time:
    """Turn nanoseconds into a stamp."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def vector_message(vector: FloatArray | None) -> Vector3:
    """Turn `(3,)` into a message; None becomes NaN."""
    x, y, z = (float(value) for value in (NAN3 if vector is None else vector))
    return Vector3(x=x, y=y, z=z)


def vector_array(message: Vector3) -> FloatArray:
    """Turn a vector message into `(3,)`."""
    return np.array([message.x, message.y, message.z])


def quaternion_message(q_xyzw: FloatArray) -> Quaternion:
    """Turn `(4,)` into a message."""
    x, y, z, w = (float(value) for value in q_xyzw)
    return Quaternion(x=x, y=y, z=z, w=w)


def quaternion_array(message: Quaternion) -> FloatArray:
    """Turn a quaternion message into `(4,)` x, y, z, w."""
    return np.array([message.x, message.y, message.z, message.w])


def uuid_message(identity: UUID | None) -> UUIDMessage:
    """Turn an identity into a message; None becomes zero."""
    return UUIDMessage(uuid=list(identity.bytes if identity else bytes(16)))


def uuid_of(message: UUIDMessage) -> UUID:
    """Turn a message into an identity."""
    return UUID(bytes=bytes(message.uuid))


def object_message(item: SpaceObject) -> SpaceObjectMessage:
    """Turn one object into a message."""
    message = SpaceObjectMessage(
        id=uuid_message(item.id), state=int(item.state), moving=bool(item.moving),
        existence_probability=float(item.existence_probability), area=float(item.area_px),
        bearing=vector_message(item.bearing), bearing_rate=vector_message(item.bearing_rate_rad_s),
        first_seen=stamp_message(item.first_seen_ns), last_seen=stamp_message(item.last_seen_ns),
    )  # fmt: skip
    message.bbox_xywh = np.asarray(item.bbox_xywh_px, dtype=np.float32)
    message.centroid = np.asarray(item.centroid_px)
    message.centroid_covariance = np.ravel(item.centroid_covariance)
    message.velocity = np.asarray(item.velocity_px_s)
    message.velocity_covariance = np.ravel(item.velocity_covariance)
    message.apparent_velocity = np.asarray(item.apparent_velocity_px_s)
    message.bearing_covariance = np.ravel(NAN33 if item.bearing_covariance is None else item.bearing_covariance)
    rate_covariance = item.bearing_rate_covariance
    message.bearing_rate_covariance = np.ravel(NAN33 if rate_covariance is None else rate_covariance)
    _add_look(message, item)
    return message


def _add_look(message: SpaceObjectMessage, item: SpaceObject) -> None:
    if item.descriptor is not None:
        message.descriptor.frombytes(item.descriptor.float().cpu().numpy().tobytes())
    if item.mask is not None:
        message.mask_height, message.mask_width = (int(side) for side in item.mask.shape)
        message.mask_rle = encode_mask(item.mask)["counts"]


def object_from_message(message: SpaceObjectMessage, *, look: bool = True) -> SpaceObject:
    """Turn a message into an object.

    Args:
        message: to read.
        look: whether to read mask and descriptor too, which needs torch.

    """
    unknown = bool(np.isnan(vector_array(message.bearing)).all())
    return SpaceObject(
        id=uuid_of(message.id), state=ObjectState(message.state), moving=message.moving,
        existence_probability=message.existence_probability,
        bbox_xywh_px=np.array(message.bbox_xywh, dtype=np.float64),
        centroid_px=np.array(message.centroid),
        centroid_covariance=np.array(message.centroid_covariance).reshape(2, 2),
        area_px=message.area,
        velocity_px_s=np.array(message.velocity),
        velocity_covariance=np.array(message.velocity_covariance).reshape(2, 2),
        apparent_velocity_px_s=np.array(message.apparent_velocity),
        first_seen_ns=stamp_ns(message.first_seen), last_seen_ns=stamp_ns(message.last_seen),
        bearing=None if unknown else vector_array(message.bearing),
        bearing_covariance=_matrix(message.bearing_covariance),
        bearing_rate_rad_s=_vector(message.bearing_rate),
        bearing_rate_covariance=_matrix(message.bearing_rate_covariance),
        **(_look(message) if look else {}),
    )  # fmt: skip


def _matrix(values: Any) -> FloatArray | None:
    matrix = np.array(values, dtype=np.float64).reshape(3, 3)
    return None if np.isnan(matrix).all() else matrix


def _vector(message: Vector3) -> FloatArray | None:
    vector = vector_array(message)
    return None if np.isnan(vector).all() else vector


def _look(message: SpaceObjectMessage) -> dict[str, Any]:
    import torch

    look: dict[str, Any] = {}
    if len(message.descriptor):
        look["descriptor"] = torch.tensor(message.descriptor)
    if message.mask_rle:
        rle = {"size": [message.mask_height, message.mask_width], "counts": message.mask_rle}
        look["mask"] = torch.from_numpy(decode_mask(rle))
    return look


def objects_message(header: Header, objects: tuple[SpaceObject, ...], problem: str = "") -> SpaceObjectArray:
    """Turn all objects of an image into a message."""
    return SpaceObjectArray(header=header, objects=[object_message(item) for item in objects], problem=problem)


def empty_matches_message(header: Header, problem: str = "") -> SegmentMatchArray:
    """Make the message of an image that could not be used."""
    message = SegmentMatchArray(header=header, background_method="none", background_residual=float("nan"))
    message.background_homography = np.eye(3).ravel()
    message.problem = problem
    return message


def matches_message(header: Header, result: FrameResult) -> SegmentMatchArray:
    """Turn a frame's matches and background motion into a message."""
    message = empty_matches_message(header)
    if result.previous_stamp_ns is not None:
        message.previous_stamp = stamp_message(result.previous_stamp_ns)
    message.previous_count = len(result.previous_segments) if result.previous_segments is not None else 0
    message.current_count = len(result.segments)
    message.matches = [_match_message(result, row) for row in range(len(result.matches))]
    background = result.background
    message.background_method, message.background_valid = background.method, background.valid
    message.background_homography = np.ravel(background.homography)
    if background.reference is not None:
        message.background_inliers = background.reference.inliers
        message.background_residual = background.reference.residual_px
    return message


def _match_message(result: FrameResult, row: int) -> SegmentMatch:
    matches = result.matches
    previous, current = int(matches.previous[row]), int(matches.current[row])
    message = SegmentMatch(previous_index=previous, current_index=current, dt=float(result.background.dt_s))
    if result.previous_segments is not None:
        _add_segment(message, "previous", result.previous_segments, previous)
    _add_segment(message, "current", result.segments, current)
    message.cosine, message.bidirectional = float(matches.cosine[row]), float(matches.bidirectional[row])
    message.displacement = matches.displacement_px[row]
    message.velocity = matches.velocity_px_s[row]
    message.velocity_covariance = matches.velocity_covariance[row].ravel()
    return message


def _add_segment(message: SegmentMatch, which: str, segments: Segments, row: int) -> None:
    setattr(message, f"{which}_bbox_xywh", segments.boxes_xywh_px[row].astype(np.float32))
    setattr(message, f"{which}_centroid", segments.centroids_px[row])
    setattr(message, f"{which}_area", float(segments.areas_px[row]))


def request_message(request: AttitudeRequest) -> AttitudeRequestMessage:
    """Turn a request into a message."""
    validity_ns = round(request.validity_s * NANOSECONDS)
    constrained = request.roll_body_axis_B is not None and request.roll_direction_R is not None
    message = AttitudeRequestMessage(
        header=Header(stamp=stamp_message(request.stamp_ns), frame_id=request.reference_frame),
        target_id=uuid_message(request.target_id), target_bearing=vector_message(request.target_bearing_R),
        attitude_stamp=stamp_message(request.attitude_stamp_ns), attitude=quaternion_message(request.q_RB_xyzw),
        angular_velocity=vector_message(request.omega_BR_R_rad_s), boresight=vector_message(request.boresight_B),
        roll_constrained=constrained, max_rate=request.max_rate_rad_s,
        max_acceleration=request.max_acceleration_rad_s2, priority=request.priority, reason=request.reason,
        validity=Duration(sec=validity_ns // NANOSECONDS, nanosec=validity_ns % NANOSECONDS),
        keep_out_checked=request.keep_out_checked, time_to_go=float(request.time_to_go_s), waypoints=request.waypoints,
    )  # fmt: skip
    covariance = request.target_bearing_covariance_R
    message.target_bearing_covariance = np.ravel(NAN33 if covariance is None else covariance)
    if constrained:
        message.roll_body_axis = vector_message(request.roll_body_axis_B)
        message.roll_direction = vector_message(request.roll_direction_R)
    return message


def request_from_message(message: AttitudeRequestMessage) -> AttitudeRequest:
    """Turn a message into a request, as its consumer needs it."""
    roll = (vector_array(message.roll_body_axis), vector_array(message.roll_direction))
    axis_B, direction_R = roll if message.roll_constrained else (None, None)
    return AttitudeRequest(
        stamp_ns=stamp_ns(message.header.stamp), reference_frame=message.header.frame_id,
        target_id=uuid_of(message.target_id), target_bearing_R=vector_array(message.target_bearing),
        target_bearing_covariance_R=_matrix(message.target_bearing_covariance),
        attitude_stamp_ns=stamp_ns(message.attitude_stamp), q_RB_xyzw=quaternion_array(message.attitude),
        omega_BR_R_rad_s=_vector(message.angular_velocity), boresight_B=vector_array(message.boresight),
        max_rate_rad_s=message.max_rate, max_acceleration_rad_s2=message.max_acceleration,
        priority=message.priority, reason=message.reason,
        validity_s=message.validity.sec + message.validity.nanosec / NANOSECONDS,
        keep_out_checked=message.keep_out_checked, roll_body_axis_B=axis_B, roll_direction_R=direction_R,
        time_to_go_s=message.time_to_go, waypoints=message.waypoints,
    )  # fmt: skip


def status_message(header: Header, answer: Answer, sent: int, refused: int) -> AttitudeRequestStatus:
    """Turn a decision into a message."""
    return AttitudeRequestStatus(
        header=header, decision=int(answer.decision), code=int(answer.code), reason=answer.reason,
        target_id=uuid_message(answer.target_id), choice=answer.choice, off_boresight=float(answer.off_boresight_rad),
        rate_error=float(answer.rate_error_rad_s), time_to_go=float(answer.time_to_go_s), sent=sent, refused=refused,
    )  # fmt: skip
