"""What one decision rests on: the settings, checked once, and all that is known at an array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, SpaceObject
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.answer import Memory
from sparsematch_ros.pointing.conventions import rotation, unit_vector
from sparsematch_ros.pointing.keep_out import KeepOutCone, cones_from_settings, guards
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.way import Rules

FloatArray = NDArray[np.float64]

# A clock that is distributed by messages may lag the image's stamp by this much.
FUTURE_TOLERANCE_S = 0.1


@dataclass(frozen=True, eq=False)
class Policy:
    """The settings, checked once and in the units of the computation.

    Attributes:
        config: as given.
        boresight_B: `(3,)` unit vector.
        R_BC: rotation of the camera's optical frame in the body, `v_B = R_BC v_C`.
        cones: where an axis of the body must not look.
        rules: limits and cones as a slew has to keep them.
        unchecked_rules: the same without cones, for a slew in the camera's frame.
        roll_body_axis_B: `(3,)` unit vector to bring near `roll_direction_N`, or None.
        roll_direction_N: `(3,)` inertial unit vector, or None.
        return_q_NB_xyzw: `(4,)` attitude to return to, or None for the one at enabling.

    """

    config: PointingConfig
    boresight_B: FloatArray
    R_BC: Rotation
    cones: tuple[KeepOutCone, ...]
    rules: Rules
    unchecked_rules: Rules
    roll_body_axis_B: FloatArray | None = None
    roll_direction_N: FloatArray | None = None
    return_q_NB_xyzw: FloatArray | None = None

    @cached_property
    def matrix_BC(self) -> FloatArray:
        """Give `R_BC` as a matrix `(3, 3)`."""
        return np.asarray(self.R_BC.as_matrix())

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
        with _named("roll_body_axis"):
            roll_axis_B = unit_vector(config.roll_body_axis) if config.roll_body_axis else None
        with _named("roll_direction"):
            roll_direction_N = unit_vector(config.roll_direction) if config.roll_direction else None
        with _named("return_attitude_xyzw"):
            home = np.array(config.return_attitude_xyzw, dtype=np.float64) if config.return_attitude_xyzw else None
            if home is not None:
                rotation(home)
        _check_latency(config)
        cones = cones_from_settings(
            config.keep_out_half_angles_deg, config.keep_out_directions, config.keep_out_axes
        )  # fmt: skip
        _check_roll(boresight_B, roll_axis_B, roll_direction_N)
        rules, unchecked = (_rules(config, boresight_B, some) for some in (cones, ()))
        return cls(config, boresight_B, R_BC, cones, rules, unchecked, roll_axis_B, roll_direction_N, home)

    def with_roll(self, body_axis_B: FloatArray, direction_N: FloatArray) -> Policy:
        """Give the same with another roll: a body axis `(3,)` to bring near an inertial direction `(3,)`.

        Raises:
            SparsematchError: where one is no direction, or the axis is the boresight.

        """
        axis_B, direction_N = unit_vector(body_axis_B), unit_vector(direction_N)
        _check_roll(self.boresight_B, axis_B, direction_N)
        return replace(self, roll_body_axis_B=axis_B, roll_direction_N=direction_N)


def _rules(config: PointingConfig, boresight_B: FloatArray, cones: tuple[KeepOutCone, ...]) -> Rules:
    limits = Limits(float(np.radians(config.max_rate_deg_s)), float(np.radians(config.max_acceleration_deg_s2)))
    margin_rad = float(np.radians(config.keep_out_margin_deg))
    around = config.keep_out_path == "around"
    return Rules.make(limits, guards(cones, boresight_B, margin_rad), margin_rad, around, config.longest_slew_s)


def _check_latency(config: PointingConfig) -> None:
    if config.latency_s >= config.validity_s:
        raise SparsematchError(
            f"pointing.latency_s {config.latency_s}: must be below pointing.validity_s {config.validity_s}, "
            "or every request has run out before it acts"
        )


def _check_roll(boresight_B: FloatArray, axis_B: FloatArray | None, direction_N: FloatArray | None) -> None:
    if (axis_B is None) != (direction_N is None):
        raise SparsematchError("pointing.roll_body_axis and pointing.roll_direction: give both or none")
    if axis_B is not None and abs(float(axis_B @ boresight_B)) > 0.999:
        raise SparsematchError("pointing.roll_body_axis: along the boresight it says nothing about the roll")


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
        omega_BN_N_rad_s: `(3,)` its rate at `stamp_ns`, in N, or None where it is not known: then rest is assumed.
        image_size_wh_px: width and height of the image [px], or None where they are not known.
        selected: the user's own choice, or None.
        selected_why: the user's words for it.
        released: objects that the user does not want.
        home_q_NB_xyzw: `(4,)` attitude when the node was enabled, or None.
        problem: why the image could not be used; empty where it could.
        memory: what the last decision left.

    """

    stamp_ns: int
    camera_frame: str
    objects: tuple[SpaceObject, ...]
    now_ns: int
    enabled: bool
    q_NB_xyzw: FloatArray | None = None
    omega_BN_N_rad_s: FloatArray | None = None
    image_size_wh_px: tuple[int, int] | None = None
    selected: UUID | None = None
    selected_why: str = ""
    released: frozenset[UUID] = frozenset()
    home_q_NB_xyzw: FloatArray | None = None
    problem: str = ""
    memory: Memory = field(default_factory=Memory)

    @property
    def age_s(self) -> float:
        """How old the image is [s]."""
        return (self.now_ns - self.stamp_ns) / NANOSECONDS

    def reference_frame(self, config: PointingConfig) -> str:
        """Name the frame R of a request: inertial where the attitude is known, else the camera's; empty if unnamed."""
        return self.camera_frame if self.q_NB_xyzw is None else config.inertial_frame


def _newest_ns(situation: Situation) -> int:
    return situation.now_ns + round(FUTURE_TOLERANCE_S * NANOSECONDS)


def remembered(situation: Situation) -> Memory:
    """Give the memory as far as its times are on this clock: after it was set back, the target alone."""
    memory = situation.memory
    set_back = memory.stamp_ns is not None and memory.stamp_ns > _newest_ns(situation)
    return Memory(target=memory.target) if set_back else memory


def bad_stamp(situation: Situation) -> str | None:
    """Say what is wrong with the array's stamp, or None.

    A previous stamp that lies in the future comes from before the clock was set back, and says nothing.
    """
    if situation.age_s < -FUTURE_TOLERANCE_S:
        return f"the image's stamp is {-situation.age_s:.3f} s in the future"
    previous_ns = situation.memory.stamp_ns
    if previous_ns is not None and situation.stamp_ns <= previous_ns <= _newest_ns(situation):
        return f"the image's stamp is {(previous_ns - situation.stamp_ns) / NANOSECONDS:.3f} s before the last one"
    return None


def stale(situation: Situation, config: PointingConfig) -> str | None:
    """Say how old the image is, where it is too old, or None."""
    limit_s = min(config.max_age_s, config.validity_s)
    if situation.age_s > limit_s:
        return f"the image is {situation.age_s:.3f} s old, limit {limit_s} s"
    return None
