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

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NANOSECONDS = 1_000_000_000
# Seen at rest this often, a source is a star for good; fewer than tracking.confirm_hits_point, so none is confirmed.
FIXED_HITS = 4
# Half of what a certain object that rests is worth, and a little less.
BELIEVED_WORTH = 0.4


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
        image: `(H, W, 3)` uint8 RGB.
        camera: intrinsics of this image, or None where unknown.
        q_NC_xyzw: `(4,)` attitude of the camera's optical frame C in the inertial frame N, or None.

    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    camera: CameraModel | None = None
    q_NC_xyzw: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("image", self.image, None, None, 3)
        check_shape("q_NC_xyzw", self.q_NC_xyzw, 4)

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


@dataclass(frozen=True, eq=False)
class ResidualMotion:
    """Motion against the background on a reduced raster.

    Attributes:
        flow_px: `(h, w, 2)` float32 in pixels of the full image.
        evidence: `(h, w)` float32, 1 where that motion explains the picture clearly better than rest does, else 0.

    """

    flow_px: NDArray[np.float32]
    evidence: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("flow_px", self.flow_px, None, None, 2)
        check_shape("evidence", self.evidence, *self.flow_px.shape[:2])


@dataclass(frozen=True)
class FocalEstimate:
    """What stars in motion have told of the focal length of a camera without intrinsics.

    In the inverse square the motion of stars is nearly linear, and a camera without perspective is no special case.

    Attributes:
        inverse_square: one over the square of the focal length [1/px^2].
        sigma: its standard deviation [1/px^2].

    """

    inverse_square: float
    sigma: float

    @property
    def focal_px(self) -> float:
        """Focal length [px]."""
        return float(self.inverse_square**-0.5)


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """The background's own motion from the previous frame to this one.

    Attributes:
        homography: `(3, 3)` previous pixel to current pixel, its last entry 1; identity where not valid.
        method: `telemetry`, `stars`, `features` or `none`.
        valid: False where it could not be estimated.
        dt_s: time between the frames [s]; 0 on the first.
        inliers: points that agree; 0 for telemetry.
        residual_px: standard deviation an axis of the points that agree [px]; NaN if unknown.
        surroundings_px: robust standard deviation an axis of the residual flow [px]: how much the surroundings move
            on their own; 0 where no flow was computed.
        residual: dense motion against the background, or None where it was not computed.
        covariance: `(9, 9)` of the homography's entries, row by row, or None where not valid.
        rotation_CP_xyzw: `(4,)` with `v_C = R v_P` from the previous camera's axes P to this one's C, or None where
            the intrinsics or the motion are unknown, or where texture gave it.
        rotation_covariance_rad2: `(3, 3)` of a small turn in C's axes that follows that rotation, or None with it.
        focal: what is known of the focal length where the stars of a camera without intrinsics moved, or None.
        disagreement_rad: angle between the turn that telemetry tells and the one that stars show; NaN where one of
            them is missing.
        problem: what is wrong with the sources of this motion; empty where nothing is.

    """

    homography: FloatArray = field(default_factory=lambda: np.eye(3))
    method: str = "none"
    valid: bool = False
    dt_s: float = 0.0
    inliers: int = 0
    residual_px: float = float("nan")
    surroundings_px: float = 0.0
    residual: ResidualMotion | None = None
    covariance: FloatArray | None = None
    rotation_CP_xyzw: FloatArray | None = None
    rotation_covariance_rad2: FloatArray | None = None
    focal: FocalEstimate | None = None
    disagreement_rad: float = float("nan")
    problem: str = ""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shape("homography", self.homography, 3, 3)
        check_shape("covariance", self.covariance, 9, 9)
        check_shape("rotation_CP_xyzw", self.rotation_CP_xyzw, 4)
        check_shape("rotation_covariance_rad2", self.rotation_covariance_rad2, 3, 3)


class PromptReason(enum.IntEnum):
    """Why a place was looked at."""

    EXPECTED = 0
    MOTION = 1
    BRIGHT = 2
    SWEEP = 3
    GRID = 4
    POINT_SOURCE = 5
    TEXTURE = 6


@dataclass(frozen=True, eq=False)
class Prompts:
    """Where to ask for segments.

    Attributes:
        points_px: `(P, 2)` float64.
        boxes_xyxy_px: `(P, 4)` float64, the region that the prompt is about; NaN rows for a bare point.
        reasons: `(P,)` int64 of `PromptReason`.
        areas_px: `(P,)` float64 area of the expected object that the prompt is about [px^2], NaN for none.

    """

    points_px: FloatArray
    boxes_xyxy_px: FloatArray
    reasons: IntArray
    areas_px: FloatArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.points_px)
        check_shape("points_px", self.points_px, count, 2)
        check_shape("boxes_xyxy_px", self.boxes_xyxy_px, count, 4)
        check_shape("reasons", self.reasons, count)
        check_shape("areas_px", self.areas_px, count)

    def __len__(self) -> int:
        """Count the prompts."""
        return len(self.points_px)


@dataclass(frozen=True, eq=False)
class Segments:
    """What was found in one frame: rows [0, M) carry a mask, rows [M, N) are point sources without one.

    Attributes:
        masks: `(M, H, W)` bool tensor, on the device that made it.
        boxes_xywh_px: `(N, 4)` float64.
        centroids_px: `(N, 2)` float64.
        areas_px: `(N,)` float64.
        centroid_sigma_px: `(N,)` float64 standard deviation an axis of the centroid.
        scores: `(N,)` float64 in [0, 1]: predicted IoU of a mask, detection confidence of a point source.
        stability: `(N,)` float64 in [0, 1]; 1 for point sources.
        reasons: `(N,)` int64 of `PromptReason`.
        fluxes: `(N,)` float64 summed brightness above the background [grey levels]; NaN for masks.
        moving_shares: `(N,)` float64 in [0, 1]: share of its pixels that motion against the background explains
            better than rest; NaN where dense motion was not computed, and for point sources.

    """

    masks: Tensor
    boxes_xywh_px: FloatArray
    centroids_px: FloatArray
    areas_px: FloatArray
    centroid_sigma_px: FloatArray
    scores: FloatArray
    stability: FloatArray
    reasons: IntArray
    fluxes: FloatArray
    moving_shares: FloatArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.centroids_px)
        check_shape("masks", self.masks, None, None, None)
        if self.masks.shape[0] > count:
            raise ValueError(f"{self.masks.shape[0]} masks for {count} segments")
        check_shape("boxes_xywh_px", self.boxes_xywh_px, count, 4)
        check_shape("centroids_px", self.centroids_px, count, 2)
        for name in ("areas_px", "centroid_sigma_px", "scores", "stability", "reasons", "fluxes", "moving_shares"):
            check_shape(name, getattr(self, name), count)

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.centroids_px)

    @property
    def mask_count(self) -> int:
        """Count the segments that carry a mask."""
        return int(self.masks.shape[0])


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
        registered: `(K,)` bool, the displacement is that of the picture; else that of the centroids.

    """

    previous: IntArray
    current: IntArray
    cosine: FloatArray
    bidirectional: FloatArray
    displacement_px: FloatArray
    velocity_px_s: FloatArray
    velocity_covariance: FloatArray
    registered: BoolArray

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.previous)
        for name in ("current", "cosine", "bidirectional", "registered"):
            check_shape(name, getattr(self, name), count)
        check_shape("displacement_px", self.displacement_px, count, 2)
        check_shape("velocity_px_s", self.velocity_px_s, count, 2)
        check_shape("velocity_covariance", self.velocity_covariance, count, 2, 2)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.previous)


@dataclass(frozen=True, eq=False)
class Expectations:
    """What the past says of this frame: handed to the early stages by `pipeline.py`, and the only thing that goes back.

    Attributes:
        background: the previous frame's background motion, or None on the first.
        states: `(T, 4)` float64 predicted centroid [px] and velocity [px/s] of each object.
        covariances: `(T, 4, 4)` float64 of `states`.
        boxes_xywh_px: `(T, 4)` float64 predicted.
        areas_px: `(T,)` float64, of the last mask.
        segment_rows: `(T,)` int64 row among the previous frame's segments, -1 where the object was not seen there.
        worth: `(T,)` float64 in [0, 1]: how much it matters to see this object again.
        resolved: `(T,)` bool, last seen with a mask.
        resting_px: `(S, 2)` float64 where point sources at rest among the stars are expected, or None before the
            first frame has shown any.
        resting_hits: `(S,)` int64 frames in which each of them was seen at rest.

    """

    background: EgoMotion | None = None
    states: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    covariances: FloatArray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    boxes_xywh_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    areas_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    segment_rows: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    worth: FloatArray = field(default_factory=lambda: np.zeros(0))
    resolved: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    resting_px: FloatArray | None = None
    resting_hits: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        """Check shapes."""
        count = len(self.states)
        check_shape("states", self.states, count, 4)
        check_shape("covariances", self.covariances, count, 4, 4)
        check_shape("boxes_xywh_px", self.boxes_xywh_px, count, 4)
        for name in ("areas_px", "segment_rows", "worth", "resolved"):
            check_shape(name, getattr(self, name), count)
        check_shape("resting_px", self.resting_px, len(self.resting_hits), 2)

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.states)

    @property
    def believed(self) -> BoolArray:
        """Say which objects are more than a guess, `(T,)`: worth half of what a certain one that rests is, or more."""
        return np.asarray(self.worth >= BELIEVED_WORTH)

    @property
    def fixed_px(self) -> FloatArray:
        """Places `(F, 2)` of the sources that were seen at rest often enough to be stars for good."""
        if self.resting_px is None:
            return np.zeros((0, 2))
        return self.resting_px[self.resting_hits >= FIXED_HITS]


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
        motion: the background's motion.
        prompts: where segments were asked for.
        segments: what was found.
        previous_segments: what was found in the frame before, or None on the first.
        matches: pairs of the two.
        objects: everything alive, lost ones once.
        seconds: duration of each stage by name [s].
        regions_xyxy_px: `(V, 4)` float64 parts of the image that SAM's encoder saw, right and bottom exclusive; none
            where it did not run.

    """

    frame: Frame
    previous_stamp_ns: int | None
    motion: EgoMotion
    prompts: Prompts
    segments: Segments
    previous_segments: Segments | None
    matches: Matches
    objects: tuple[SpaceObject, ...]
    seconds: dict[str, float]
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
