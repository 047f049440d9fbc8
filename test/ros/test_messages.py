"""The hand-offs survive the way through a serialised message."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sparsematch_ros.msg import AttitudeRequest as AttitudeRequestMessage
from sparsematch_ros.msg import AttitudeRequestStatus, SpaceObjectArray
from std_msgs.msg import Header

from sparsematch_ros.data import AttitudeRequest, ObjectState, SpaceObject
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.conversions import (
    object_from_message,
    objects_message,
    quaternion_array,
    request_message,
    stamp_message,
    uuid_message,
    uuid_of,
    vector_array,
)
from sparsematch_ros.pointing.decision import Code, Decision


def full_object() -> SpaceObject:
    """An object with every field set to something else."""
    rng = np.random.default_rng(3)

    def covariance(size: int) -> Any:
        root = rng.normal(size=(size, size))
        return root @ root.T

    bearing = rng.normal(size=3)
    return SpaceObject(
        id=UUID(int=2**127 + 5), state=ObjectState.COASTING, moving=True, existence_probability=0.875,
        bbox_xywh_px=np.array([1.5, 2.5, 30.0, 40.0]), centroid_px=rng.normal(size=2),
        centroid_covariance=covariance(2),
        area_px=321.0, velocity_px_s=rng.normal(size=2), velocity_covariance=covariance(2),
        apparent_velocity_px_s=rng.normal(size=2), first_seen_ns=12_345_678_901_234, last_seen_ns=12_345_999_999_999,
        bearing=bearing / np.linalg.norm(bearing), bearing_covariance=covariance(3),
        bearing_rate_rad_s=rng.normal(size=3), bearing_rate_covariance=covariance(3),
        descriptor=torch.tensor([0.5, -0.25, 0.125]), mask=torch.tensor(rng.random((17, 23)) > 0.5),
    )  # fmt: skip


def sent(item: SpaceObject) -> SpaceObject:
    """The object after serialisation, as a subscriber gets it."""
    message = objects_message(Header(frame_id="camera"), (item,))
    return object_from_message(deserialize_message(serialize_message(message), SpaceObjectArray).objects[0])


def assert_same(first: SpaceObject, second: SpaceObject) -> None:
    """Every field is exactly the same: the messages hold doubles, and the floats here are exact in 32 bit."""
    for item in fields(SpaceObject):
        one, two = getattr(first, item.name), getattr(second, item.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two, err_msg=item.name)
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one, two), item.name
        else:
            assert one == two, item.name


def test_an_object_survives() -> None:
    assert_same(full_object(), sent(full_object()))


def test_what_is_unknown_stays_unknown() -> None:
    nothing = dict.fromkeys(
        ("bearing", "bearing_covariance", "bearing_rate_rad_s", "bearing_rate_covariance", "descriptor", "mask")
    )
    bare = replace(full_object(), **nothing)
    assert_same(bare, sent(bare))


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_000_000_000, 1_795_162_593_523_260_668])
def test_stamps_keep_every_nanosecond(nanoseconds: int) -> None:
    assert stamp_ns(stamp_message(nanoseconds)) == nanoseconds


def test_no_identity_is_zero() -> None:
    assert not any(uuid_message(None).uuid)
    assert uuid_of(uuid_message(UUID(int=77))) == UUID(int=77)


def test_constants_are_those_of_the_messages() -> None:
    from sparsematch_ros.msg import SpaceObject as SpaceObjectMessage

    for state in ObjectState:
        assert getattr(SpaceObjectMessage, state.name) == state
    for decision in Decision:
        assert getattr(AttitudeRequestStatus, decision.name) == decision
    for code in Code:
        assert getattr(AttitudeRequestStatus, f"CODE_{code.name}") == code


def test_a_request_says_all_it_knows() -> None:
    request = AttitudeRequest(
        stamp_ns=5_000_000_001, reference_frame="inertial", target_id=UUID(int=9),
        target_bearing_R=np.array([0.6, 0.0, 0.8]), target_bearing_covariance_R=None, attitude_stamp_ns=5_000_000_001,
        q_RB_xyzw=np.array([0.5, -0.5, 0.5, 0.5]), omega_BR_R_rad_s=None, boresight_B=np.array([0.0, 0.0, 1.0]),
        max_rate_rad_s=0.03, max_acceleration_rad_s2=0.02, priority=200, reason="moves", validity_s=2.5,
        keep_out_checked=True,
    )  # fmt: skip
    message = deserialize_message(serialize_message(request_message(request)), AttitudeRequestMessage)
    assert (stamp_ns(message.header.stamp), message.header.frame_id) == (5_000_000_001, "inertial")
    assert (message.validity.sec, message.validity.nanosec) == (2, 500_000_000)
    np.testing.assert_array_equal(quaternion_array(message.attitude), request.q_RB_xyzw)
    assert np.isnan(vector_array(message.angular_velocity)).all()
    assert np.isnan(message.target_bearing_covariance).all()
    assert not message.roll_constrained and not vector_array(message.roll_direction).any()
    assert message.keep_out_checked and message.priority == 200
