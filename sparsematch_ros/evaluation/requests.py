"""The attitude requests that a spacecraft would have sent for the objects of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import numpy as np

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import FloatArray, ObjectState, SpaceObject
from sparsematch_ros.evaluation.matching import FrameMatches
from sparsematch_ros.evaluation.scores import false_identities
from sparsematch_ros.media.records import Record
from sparsematch_ros.pointing.decision import Decision, Memory, Policy, Situation, decide

# The attitude that is taken as known; without keep-out cones the answers are the same for any other.
UNTURNED_XYZW = (0.0, 0.0, 0.0, 1.0)


def requested_targets(
    records: Iterable[Record], stamps_ns: Mapping[int, int], size_wh_px: tuple[int, int] | None = None
) -> dict[int, str]:
    """Decide frame by frame as the attitude node would, and list the frames in which it would send a request.

    The settings of pointing are the defaults, the node is enabled, the body at rest and its attitude known; every array
    is answered at its image's stamp. Without bearings nothing is requested.

    Args:
        records: of `objects.jsonl`.
        stamps_ns: stamp of each frame that was shown to the pipeline [ns].
        size_wh_px: width and height of the images [px], None where unknown.

    Returns:
        The identity that is asked for, by frame.

    """
    by_frame: dict[int, list[Record]] = {}
    for record in records:
        by_frame.setdefault(int(record["frame"]), []).append(record)
    policy, memory = Policy.from_config(PointingConfig()), Memory()
    first_seen_ns: dict[str, int] = {}
    targets: dict[int, str] = {}
    for frame, stamp_ns in sorted(stamps_ns.items()):
        seen = by_frame.get(frame, [])
        objects = tuple(_object(each, stamp_ns, first_seen_ns.setdefault(str(each["id"]), stamp_ns)) for each in seen)
        situation = Situation(
            stamp_ns, "camera", objects, now_ns=stamp_ns, enabled=True, q_NB_xyzw=np.array(UNTURNED_XYZW),
            omega_BN_N_rad_s=np.zeros(3), image_size_wh_px=size_wh_px, memory=memory,
        )  # fmt: skip
        answer = decide(situation, policy)
        memory = memory if answer.memory is None else answer.memory
        if answer.decision == Decision.SENT and answer.target_id is not None:
            targets[frame] = str(answer.target_id)
    return targets


def false_requests(targets: Mapping[int, str], matches: list[FrameMatches]) -> int:
    """Count the frames with a request for an identity that never matches a true object."""
    false = false_identities(matches)
    return sum(identity in false for identity in targets.values())


def _object(record: Record, stamp_ns: int, first_seen_ns: int) -> SpaceObject:
    """Rebuild an object from its record as far as a decision needs it; the covariance of its bearing is not known."""
    unknown = np.full((2, 2), np.nan)
    box = _numbers(record["bbox_xywh_px"])
    return SpaceObject(
        id=UUID(str(record["id"])),
        state=ObjectState[str(record["state"]).upper()],
        moving=bool(record["moving"]),
        existence_probability=float(_numbers([record["confidence"]])[0]),
        bbox_xywh_px=box,
        centroid_px=_numbers(record["centroid_px"]),
        centroid_covariance=unknown,
        area_px=float(box[2] * box[3]),
        velocity_px_s=_numbers(record["velocity_px_s"]),
        velocity_covariance=unknown,
        apparent_velocity_px_s=_numbers(record["apparent_velocity_px_s"]),
        first_seen_ns=first_seen_ns,
        last_seen_ns=stamp_ns,
        bearing=None if record["bearing"] is None else _numbers(record["bearing"]),
        bearing_rate_rad_s=None if record["bearing_rate_rad_s"] is None else _numbers(record["bearing_rate_rad_s"]),
    )


def _numbers(values: Sequence[float | None]) -> FloatArray:
    """Read numbers of JSON, None as NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
