"""What a node has done so far, as `/diagnostics` tells it."""

from __future__ import annotations

import resource
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from sparsematch_ros.data import FrameResult, ObjectState, PromptReason


@dataclass
class PerceptionStatus:
    """Counts of `perception_node` since it was activated; may be written and read by different threads.

    Attributes:
        received: images that came in.
        dropped: images that were pushed out by a newer one because the last was still in work.
        processed: images that went through the line.
        refused: images that could not be used, the fault of the image.
        failed: images on which the line itself broke.
        last_problem: why the last one was refused or failed.
        restarts: processed images with which the line started anew.
        last_restart: why it did on the last of these.
        without_camera_info: processed images that had no intrinsics.
        without_attitude: processed images that had no attitude.
        attitude_too_old: images that had none because the newest one before them was older than its limit.
        attitude_refused: messages on `attitude` that held none.
        background_problems: processed images on which the sources of the background's motion did not agree.
        last_background_problem: what they did not agree in on the last of these.
        seconds: total by stage [s].
        prompts: total.
        encoded: images that SAM's encoder looked at.
        last: the last result, or None.

    """

    received: int = 0
    dropped: int = 0
    processed: int = 0
    refused: int = 0
    failed: int = 0
    last_problem: str = ""
    restarts: int = 0
    last_restart: str = ""
    without_camera_info: int = 0
    without_attitude: int = 0
    attitude_too_old: int = 0
    attitude_refused: int = 0
    background_problems: int = 0
    last_background_problem: str = ""
    seconds: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0
    prompts: int = 0
    encoded: int = 0
    last: FrameResult | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_result(self, result: FrameResult, took_s: float) -> None:
        """Count a processed image that took this long in all [s]."""
        with self._lock:
            self.processed += 1
            self.restarts += bool(result.restarted)
            self.last_restart = result.restarted or self.last_restart
            self.without_camera_info += result.frame.camera is None
            self.without_attitude += result.frame.q_NC_xyzw is None
            self.background_problems += bool(result.background.problem)
            self.last_background_problem = result.background.problem or self.last_background_problem
            self.seconds.update(result.seconds)
            self.total_s += took_s
            self.prompts += len(result.prompts)
            self.encoded += result.encoded
            self.last = result

    def add_problem(self, problem: str, *, own_fault: bool) -> None:
        """Count an image that was refused, or on which the line broke."""
        with self._lock:
            self.failed += own_fault
            self.refused += not own_fault
            self.last_problem = problem

    def values(self) -> dict[str, Any]:
        """Give all counts by name."""
        with self._lock:
            counts = {name: getattr(self, name) for name in COUNTS}
            done = max(self.processed, 1)
            means = {f"seconds.{stage}": f"{total / done:.4f}" for stage, total in self.seconds.items()}
            return {
                **counts, "seconds_per_frame": f"{self.total_s / done:.4f}", **means,
                "prompts_per_frame": f"{self.prompts / done:.3f}", **_last_values(self.last),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }  # fmt: skip


COUNTS = (
    "received", "processed", "dropped", "refused", "failed", "last_problem", "restarts", "last_restart",
    "without_camera_info", "without_attitude",
    "attitude_too_old", "attitude_refused", "background_problems",
    "last_background_problem", "encoded",
)  # fmt: skip


def _last_values(result: FrameResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    reasons = Counter(PromptReason(int(reason)).name.lower() for reason in result.prompts.reasons)
    return {
        "prompts": ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none",
        "sample_bits": result.frame.bits,
        "background_method": result.background.method,
        "background_valid": bool(result.background.valid),
        "background_disagreement_rad": f"{result.background.disagreement_rad:.2e}",
        "objects": len(result.objects),
        "confirmed": sum(item.state == ObjectState.CONFIRMED for item in result.objects),
        "reported": sum(item.reported for item in result.objects),
    }


def perception_summary(values: dict[str, Any], before: dict[str, Any], active: bool) -> tuple[bytes, str]:
    """Put the counts since the last report into a level and one line."""

    def since(name: str) -> int:
        return int(values[name]) - int(before.get(name, 0))

    if since("failed"):
        return DiagnosticStatus.ERROR, f"broke on {since('failed')} images: {values['last_problem']}"
    if since("refused"):
        return DiagnosticStatus.WARN, f"refused {since('refused')} images: {values['last_problem']}"
    if since("restarts"):
        return DiagnosticStatus.WARN, f"started anew: {values['last_restart']}"
    if since("dropped"):
        return DiagnosticStatus.WARN, f"too slow: dropped {since('dropped')} of {since('received')} images"
    if since("attitude_refused"):
        return DiagnosticStatus.WARN, f"{since('attitude_refused')} attitudes were none: NaN, or not of length 1"
    if since("attitude_too_old"):
        return DiagnosticStatus.WARN, f"attitude too old for {since('attitude_too_old')} images: not used"
    if since("background_problems"):
        return DiagnosticStatus.WARN, f"{since('background_problems')} images: {values['last_background_problem']}"
    if since("without_camera_info"):
        return DiagnosticStatus.WARN, "no CameraInfo: no bearings, so no attitude requests"
    return DiagnosticStatus.OK, "active" if active else "not active"


class Diagnostics:
    """Publishes one status of a node on `/diagnostics`."""

    def __init__(self, node: Node, name: str) -> None:
        """Make the publisher; `name` stands after the node's own name, namespace included."""
        self._node, self._name = node, f"{node.get_fully_qualified_name().lstrip('/')}: {name}"
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, level: bytes, message: str, values: dict[str, Any], hardware: str = "") -> None:
        """Publish a level, one line and the values by name."""
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        status = DiagnosticStatus(level=level, name=self._name, message=message, hardware_id=hardware, values=pairs)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
