"""The hand-offs between the stages, as frozen dataclasses that check their shapes at construction.

Pixels count from the centre of the top left pixel, x right, y down. Times are integer nanoseconds of the images'
stamps. Quaternions are x, y, z, w. What the fields of `objects.jsonl` and of the messages mean stands in the message
files; the names here are theirs, with frame and unit.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.camera import CameraModel

if TYPE_CHECKING:
    from torch import Tensor

    from sparsematch_ros.background.layers import Background
    from sparsematch_ros.segmentation.prompts import Prompts
    from sparsematch_ros.segmentation.segments import Segments

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NANOSECONDS = 1_000_000_000


def check_shape(name: str, array: NDArray[np.generic] | Tensor | None, *shape: int | None) -> None:
    """Raise `ValueError` where `array` is given and its shape is not `shape` (None: any size)."""
    if array is None:
        return
    actual = tuple(array.shape)
    if len(actual) != len(shape) or any(want not in (None, got) for want, got in zip(shape, actual)):
        raise ValueError(f"{name} has shape {actual}, expected {shape}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One image with what is known of it.

    Attributes:
        index: position in the source, from 0; frames that were refused leave gaps.
        stamp_ns: time of the image [ns].
        image: `(H, W, 3)` uint8 RGB, what the networks see.
        camera: intrinsics of this image, or None where unknown.
        q_NC_xyzw: `(4,)` attitude of the camera's optical frame C in the inertial frame N, or None.
        samples: `(H, W)` uint16 brightness at full depth, or None where the image has no more than 8 bits.
        bits: depth of `samples` [bits].

    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    camera: CameraModel | None = None
    q_NC_xyzw: FloatArray | None = None
    samples: NDArray[np.uint16] | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("image", self.image, None, None, 3)
        check_shape("q_NC_xyzw", self.q_NC_xyzw, 4)
        check_shape("samples", self.samples, *self.image.shape[:2])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def stamp_s(self) -> float:
        """Time of the image [s]."""
        return self.stamp_ns / NANOSECONDS

    @cached_property
    def gray(self) -> NDArray[np.uint8]:
        """Brightness, `(H, W)` uint8."""
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    @property
    def quantum(self) -> float:
        """Step of the samples [grey levels of 255]."""
        return 255.0 / (2**self.bits - 1)

    @cached_property
    def levels(self) -> NDArray[np.float32]:
        """Brightness at full depth, `(H, W)` float32 [grey levels of 255]."""
        if self.samples is None:
            return self.gray.astype(np.float32)
        return self.samples * np.float32(self.quantum)


class PromptReason(enum.IntEnum):
    """The reason for which a segment was looked for."""

    EXPECTED = 0
    MOTION = 1
    BRIGHT = 2
    GRID = 3
    POINT_SOURCE = 4


@dataclass(frozen=True, eq=False)
class Descriptors:
    """One descriptor a segment.

    Attributes:
        vectors: `(N, D)` float tensor of unit rows, on the device that made it; a zero row means unknown.

    """

    vectors: Tensor

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("vectors", self.vectors, None, None)


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of segments of two consecutive frames, K of them.

    Attributes:
        previous: `(K,)` int64 rows of the previous frame's segments.
        current: `(K,)` int64 rows of this frame's segments.
        cosine: `(K,)` float64; NaN where a descriptor is unknown.
        bidirectional: `(K,)` float64 in [0, 1].
        displacement_px: `(K, 2)` float64 with the background's motion removed.
        velocity_px_s: `(K, 2)` float64.
        velocity_covariance: `(K, 2, 2)` float64 [px^2/s^2].

    """

    previous: IntArray
    current: IntArray
    cosine: FloatArray
    bidirectional: FloatArray
    displacement_px: FloatArray
    velocity_px_s: FloatArray
    velocity_covariance: FloatArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.previous)
        for name in ("current", "cosine", "bidirectional"):
            check_shape(name, getattr(self, name), count)
        check_shape("displacement_px", self.displacement_px, count, 2)
        check_shape("velocity_px_s", self.velocity_px_s, count, 2)
        check_shape("velocity_covariance", self.velocity_covariance, count, 2, 2)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.previous)


@dataclass(frozen=True, eq=False)
class TrackPredictions:
    """T tracked objects predicted into this frame: what the past hands to the early stages, through `pipeline.py`.

    Attributes:
        states: `(T, 4)` float64 centroid [px] and velocity [px/s].
        covariances: `(T, 4, 4)` float64 of `states`.
        boxes_xywh_px: `(T, 4)` float64.
        areas_px: `(T,)` float64, of the last mask.
        segment_rows: `(T,)` int64 row among the previous frame's segments, -1 where the object was not seen there.
        priorities: `(T,)` float64 in [0, 1]: how much it matters to see this object again.
        believed: `(T,)` bool, more likely an object than clutter.
        resolved: `(T,)` bool, last seen with a mask.
        bodies: `(T,)` int64, equal for objects that may be parts of one body: they lie side by side and move as one.

    """

    states: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    covariances: FloatArray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    boxes_xywh_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    areas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    segment_rows: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    priorities: FloatArray = field(default_factory=lambda: np.zeros(0))
    believed: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    resolved: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    bodies: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.states)
        check_shape("states", self.states, count, 4)
        check_shape("covariances", self.covariances, count, 4, 4)
        check_shape("boxes_xywh_px", self.boxes_xywh_px, count, 4)
        for name in ("areas_px", "segment_rows", "priorities", "believed", "resolved", "bodies"):
            check_shape(name, getattr(self, name), count)

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.states)


class ObjectState(enum.IntEnum):
    """States of an object; the values are those of `SpaceObject.msg`."""

    TENTATIVE = 0
    CONFIRMED = 1
    COASTING = 2
    LOST = 3


@dataclass(frozen=True, eq=False)
class SpaceObject:
    """One object followed over time, at one frame; the fields are those of `SpaceObject.msg`.

    `bearing` and what derives from it are None without intrinsics; `mask` is an `(H, W)` bool tensor (while coasting
    the last one where it is expected, less what other objects hide) or None for a point source; `descriptor` is `(D,)`
    or None.
    """

    id: UUID
    state: ObjectState
    moving: bool
    existence_probability: float
    bbox_xywh_px: FloatArray
    centroid_px: FloatArray
    centroid_covariance: FloatArray
    area_px: float
    velocity_px_s: FloatArray
    velocity_covariance: FloatArray
    apparent_velocity_px_s: FloatArray
    first_seen_ns: int
    last_seen_ns: int
    bearing: FloatArray | None = None
    bearing_covariance: FloatArray | None = None
    bearing_rate_rad_s: FloatArray | None = None
    bearing_rate_covariance: FloatArray | None = None
    descriptor: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("bbox_xywh_px", self.bbox_xywh_px, 4)
        for name in ("centroid_px", "velocity_px_s", "apparent_velocity_px_s"):
            check_shape(name, getattr(self, name), 2)
        for name in ("centroid_covariance", "velocity_covariance"):
            check_shape(name, getattr(self, name), 2, 2)
        for name in ("bearing", "bearing_rate_rad_s"):
            check_shape(name, getattr(self, name), 3)
        for name in ("bearing_covariance", "bearing_rate_covariance"):
            check_shape(name, getattr(self, name), 3, 3)
        check_shape("mask", self.mask, None, None)

    @property
    def reported(self) -> bool:
        """Confirmed or coasting, and moving: what counts as found."""
        return self.moving and self.state in (ObjectState.CONFIRMED, ObjectState.COASTING)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All that one frame gave.

    Attributes:
        frame: the image.
        previous_stamp_ns: stamp of the frame before, or None on the first.
        background: the background's motion.
        prompts: where SAM was asked.
        segments: what was found.
        previous_segments: what was found in the frame before, or None on the first.
        matches: pairs of the two.
        objects: everything alive, lost ones once.
        seconds: duration of each stage by name [s].
        restarted: why the line started anew with this frame; empty where it did not.
        regions_xyxy_px: `(V, 4)` float64 parts of the image that SAM's encoder saw, right and bottom exclusive; none
            where it did not run.

    """

    frame: Frame
    previous_stamp_ns: int | None
    background: Background
    prompts: Prompts
    segments: Segments
    previous_segments: Segments | None
    matches: Matches
    objects: tuple[SpaceObject, ...]
    seconds: dict[str, float]
    restarted: str = ""
    regions_xyxy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def encoded(self) -> bool:
        """Whether SAM's encoder ran."""
        return len(self.regions_xyxy_px) > 0


@dataclass(frozen=True, eq=False)
class AttitudeRequest:
    """What the spacecraft is asked to do; the fields are those of `AttitudeRequest.msg`.

    Vectors are in the reference frame R named by `reference_frame`; the body frame is B. `time_to_go_s` counts from
    `attitude_stamp_ns` until the target is met, NaN where it is not known. `waypoints` counts the rests before: with
    any, `q_RB_xyzw` is the next one around keep-out cones, at rest; without, the attitude that meets the target.
    """

    stamp_ns: int
    reference_frame: str
    target_id: UUID
    target_bearing_R: FloatArray
    target_bearing_covariance_R: FloatArray | None
    attitude_stamp_ns: int
    q_RB_xyzw: FloatArray
    omega_BR_R_rad_s: FloatArray | None
    boresight_B: FloatArray
    max_rate_rad_s: float
    max_acceleration_rad_s2: float
    priority: int
    reason: str
    validity_s: float
    keep_out_checked: bool
    roll_body_axis_B: FloatArray | None = None
    roll_direction_R: FloatArray | None = None
    time_to_go_s: float = float("nan")
    waypoints: int = 0
