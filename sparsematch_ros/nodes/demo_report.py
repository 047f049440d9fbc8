"""What a demo leaves besides its bag, made from the bag and the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.config import Config
from sparsematch_ros.evaluation.loop.closed_loop import ClosedLoop, score_flight
from sparsematch_ros.evaluation.loop.report import Flown, write_loop
from sparsematch_ros.media.figures import rounded, write_json
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.media.plots import PointingHistory, plot_tracks
from sparsematch_ros.media.records import Record, RecordWriter, read_records
from sparsematch_ros.media.tracks import gather_tracks, is_reported
from sparsematch_ros.nodes.playback import read_results, read_topic
from sparsematch_ros.pointing.conventions import rotation
from sparsematch_ros.pointing.decision import Code, Decision
from sparsematch_ros.settings import changed_settings
from sparsematch_ros.simulation.demo_options import BASILISK, DemoOptions
from sparsematch_ros.simulation.scenario import Scenario

STATUS = "/attitude_request_status"


@dataclass
class Recording:
    """What a flight left.

    Attributes:
        bag: folder of the bag.
        topics: messages by topic.
        perception: the node's last diagnostics.
        camera: the node's last diagnostics.
        last_image: `(H, W, 3)` uint8 RGB, or None.
        wall_s: how long it took [s].

    """

    bag: Path
    topics: dict[str, int] = field(default_factory=dict)
    perception: dict[str, str] = field(default_factory=dict)
    camera: dict[str, str] = field(default_factory=dict)
    last_image: NDArray[np.uint8] | None = None
    wall_s: float = 0.0


def write_report(
    recording: Recording, scenario: Scenario, config: Config, options: DemoOptions
) -> tuple[Record, Record | None]:
    """Write `objects.jsonl`, `matches.jsonl`, `tracks.png` and `summary.json`; with Basilisk what `write_loop` writes.

    Args:
        recording: the flight; its bag is closed.
        scenario: that was flown.
        config: settings in force.
        options: how it was flown; in its folder are `truth.jsonl` and, with Basilisk, `dynamics.jsonl`.

    Returns:
        The summary; and `loop.json`, or None without Basilisk or anything to look at.

    """
    out = options.out
    with RecordWriter(out) as writer:
        reported = list(_reported(writer, recording.bag))
    stamps = [stamp_ns(message.header.stamp) for message in read_topic(recording.bag, "/camera/camera_info")]
    R_BC = rotation(config.pointing.camera_to_body_xyzw)
    loop = score_flight(
        stamps, read_records(out / "truth.jsonl"), reported, scenario.camera.model(),
        R_BC.inv().apply(config.pointing.boresight),
    )  # fmt: skip
    decisions = _decisions(recording.bag)
    summary = {**_head(scenario, options), **_figures(recording, loop, reported), **_requests(decisions),
               "topics": recording.topics, "settings": changed_settings(config)}  # fmt: skip
    if recording.last_image is not None:
        history = PointingHistory(loop.stamps_s, loop.errors_deg)
        title = f"demo: {scenario.name}"
        plot_tracks(out / "tracks.png", recording.last_image, gather_tracks(reported), title, history)
    write_json(out / "summary.json", summary)
    if options.dynamics != BASILISK:
        return summary, None
    requests = list(read_topic(recording.bag, "/attitude_request"))
    flown = Flown(
        scenario, options.seed, options.latency_s, config.pointing, reported, loop,
        [stamp_ns(message.header.stamp) for message in requests],
        frozenset(str(UUID(bytes=bytes(message.target_id.uuid))) for message in requests), decisions,
    )  # fmt: skip
    return summary, write_loop(flown, out)


def _head(scenario: Scenario, options: DemoOptions) -> Record:
    return {
        "scenario": scenario.name, "seed": options.seed, "requests": options.requests, "real_time": options.real_time,
        "dynamics": options.dynamics, "latency_s": options.latency_s,
    }  # fmt: skip


def _reported(writer: RecordWriter, bag: Path) -> Iterator[Record]:
    for result in read_results(bag):
        yield from ({**record, "mask": None} for record in writer.write(result) if is_reported(record))


def _figures(recording: Recording, loop: ClosedLoop, reported: list[Record]) -> dict[str, Any]:
    perception = recording.perception
    return {
        "frames": int(recording.camera.get("frames", 0)),
        "confirmed_objects": len({record["id"] for record in reported}),
        "in_view_fraction": loop.in_view_fraction,
        "pointing_error_deg_final": _last(loop.errors_deg),
        "pointing_error_to_center_of_mass_deg_final": _last(loop.mass_errors_deg),
        "pointing_error_deg_first": _first(loop.errors_deg),
        "seconds_per_frame": _number(perception, "seconds_per_frame"),
        "prompts_per_frame": _number(perception, "prompts_per_frame"),
        "stage_seconds_per_frame": _stages(perception),
        "peak_memory_mb": _number(perception, "peak_memory_mb"),
        "device": perception.get("device", ""),
        "dropped_frames": int(perception.get("dropped", 0)),
        "refused_frames": int(perception.get("refused", 0)),
        "failed_frames": int(perception.get("failed", 0)),
        "lockstep_timeouts": int(recording.camera.get("lockstep_timeouts", 0)),
        "wall_s": rounded(recording.wall_s),
    }


def _stages(perception: dict[str, str]) -> dict[str, float]:
    stages = {key.removeprefix("seconds."): value for key, value in perception.items() if key.startswith("seconds.")}
    return {stage: rounded(float(value)) for stage, value in stages.items()}


def _decisions(bag: Path) -> dict[str, Any]:
    """Count what was done with each array: how many requests were sent, held and refused, by code."""
    statuses = [(Decision(message.decision), Code(message.code)) for message in read_topic(bag, STATUS)]
    counts = {
        f"requests_{decision.name.lower()}": dict(Counter(
            code.name.lower() for taken, code in statuses if taken == decision
        ))
        for decision in (Decision.HELD, Decision.REFUSED)
    }  # fmt: skip
    return {"requests_sent": sum(taken == Decision.SENT for taken, _ in statuses), **counts}


def _requests(decisions: dict[str, Any]) -> dict[str, Any]:
    not_sent = Counter(decisions["requests_held"]) + Counter(decisions["requests_refused"])
    return {"requests_sent": decisions["requests_sent"], "requests_not_sent": dict(not_sent)}


def _number(values: dict[str, str], key: str) -> float | None:
    return rounded(float(values[key])) if key in values else None


def _first(errors_deg: NDArray[np.float64]) -> float | None:
    return rounded(errors_deg[0]) if errors_deg.size and np.isfinite(errors_deg[0]) else None


def _last(errors_deg: NDArray[np.float64]) -> float | None:
    return rounded(errors_deg[-1]) if errors_deg.size and np.isfinite(errors_deg[-1]) else None
