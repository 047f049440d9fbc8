#!/usr/bin/env python3
"""A folder of images, a video or a bag as a camera, at its recorded rate."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from sparsematch_ros.data import NANOSECONDS, Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.sources import RefusedFrame, Source, open_source
from sparsematch_ros.nodes.camera_output import CameraOutput
from sparsematch_ros.nodes.listening import PerceptionWatch
from sparsematch_ros.nodes.parameters import declare_config, declare_settings, refuse_unknown
from sparsematch_ros.nodes.runner import run_node
from sparsematch_ros.nodes.status import Diagnostics
from sparsematch_ros.pointing.conventions import quaternion, rotation
from sparsematch_ros.setting_fields import check_settings, setting

# A repeat starts this long after the last image, so that stamps go on growing.
PAUSE_NS = NANOSECONDS


@dataclass(frozen=True)
class ReplaySettings:
    """What the node can be told."""

    source: str = setting("", "folder of images, video, or rosbag2 folder or file")
    topic: str = setting("", "image topic of a bag; empty: the only one")
    rate_hz: float = setting(
        0.0, "rate of images without stamps; 0: 10 Hz, or the video's own", "Hz", minimum=0.0, maximum=1e4
    )
    speed: float = setting(1.0, "how many times faster than recorded", minimum=0.01, maximum=100.0)
    loop: bool = setting(False, "start again at the end; stamps go on growing")
    clock: bool = setting(False, "publish the images' time as /clock, for nodes with use_sim_time")
    reliable: bool = setting(False, "deliver images reliably")
    perception: str = setting("perception_node", "node to wait for before the first image; empty: none")
    start_limit_s: float = setting(120.0, "longest wait for it, in steady time", "s", minimum=0.1, maximum=3600.0)
    camera_frame: str = setting("camera_optical_frame", "frame_id of images and intrinsics")
    inertial_frame: str = setting("inertial", "frame_id of attitudes")

    def __post_init__(self) -> None:
        """Check the values."""
        check_settings(self)


class ReplayNode(Node):
    """Reads on a thread of its own and publishes each image when its time comes."""

    def __init__(self, **options: Any) -> None:
        """Open the source.

        Raises:
            SparsematchError: for a wrong parameter, by name, or a source that cannot be opened.

        """
        super().__init__("replay_node", **options)
        self._settings = declare_settings(self, ReplaySettings)
        pointing = declare_config(self, ("pointing.camera_to_body_xyzw",)).pointing
        refuse_unknown(self)
        self._R_BC = rotation(pointing.camera_to_body_xyzw)
        self._source = self._open()
        self._counts = {"published": 0, "refused": 0, "of": self._source.length or 0, "rounds": 0, "finished": False}
        self._output = CameraOutput(
            self, self._settings.camera_frame, self._settings.inertial_frame, self._settings.reliable,
            clock=self._settings.clock,
        )  # fmt: skip
        self._diagnostics = Diagnostics(self, "replay")
        self._watch = PerceptionWatch(self, self._settings.perception) if self._settings.perception else None
        self._failure: str | None = None
        self.create_timer(0.1, self._raise_failure)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
        self._thread.start()

    def _open(self) -> Source:
        settings = self._settings
        if not settings.source:
            raise SparsematchError("parameter 'source' is empty: give a folder of images, a video or a rosbag2")
        source = open_source(
            Path(settings.source), settings.topic or None, settings.rate_hz or None, self._R_BC.as_quat()
        )
        for note in source.notes:
            self.get_logger().info(note)
        return source

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SparsematchError(self._failure)

    def _play(self) -> None:
        try:
            if not self._ready():
                return
            shift_ns, again = 0, True
            while again and not self._stopping.is_set():
                last_ns = self._play_once(shift_ns)
                shift_ns = last_ns + PAUSE_NS
                again = self._settings.loop and last_ns > 0
            self._counts["finished"] = True
            self._tell()
        except SparsematchError as error:
            self._failure = str(error)

    def _ready(self) -> bool:
        if self._watch is None:
            return True
        limit_s = self._settings.start_limit_s
        ready = self._watch.wait_active(
            lambda: self._output.images.get_subscription_count() > 0, limit_s, lambda: not self._stopping.is_set()
        )
        if not ready and not self._stopping.is_set():
            raise SparsematchError(f"'{self._settings.perception}' was not active and listening within {limit_s} s")
        return ready

    def _play_once(self, start_ns: int) -> int:
        """Play the source once; gives the last stamp [ns], 0 where nothing was published.

        Args:
            start_ns: stamp for the first image; 0 for its own, or 1 s where that is 0: in messages it means "none".

        """
        begin_s, first_ns, shift_ns, last_ns = time.monotonic(), None, 0, 0
        for item in self._source:
            if self._stopping.is_set():
                break
            if isinstance(item, RefusedFrame):
                self._refuse(item)
                continue
            if first_ns is None:
                begin_s, first_ns = time.monotonic(), item.stamp_ns
                shift_ns = (start_ns or first_ns or PAUSE_NS) - first_ns
            self._sleep_until(begin_s + (item.stamp_ns - first_ns) / NANOSECONDS / self._settings.speed)
            last_ns = item.stamp_ns + shift_ns
            self._publish(item, last_ns)
        self._counts["rounds"] += 1
        return last_ns

    def _refuse(self, item: RefusedFrame) -> None:
        self._counts["refused"] += 1
        self.get_logger().warning(f"frame {item.index} ({item.name}) left out: {item.reason}")

    def _sleep_until(self, due_s: float) -> None:
        self._stopping.wait(max(due_s - time.monotonic(), 0.0))

    def _publish(self, frame: Frame, stamp_ns: int) -> None:
        q_NB = None if frame.q_NC_xyzw is None else quaternion(rotation(frame.q_NC_xyzw) * self._R_BC.inv())
        self._output.publish_clock(stamp_ns)
        self._output.publish(stamp_ns, frame.image, frame.camera, q_NB)
        self._counts["published"] += 1
        self._tell()

    def _tell(self) -> None:
        counts = self._counts
        level = DiagnosticStatus.WARN if counts["refused"] else DiagnosticStatus.OK
        line = f"image {counts['published']}" + (f", {counts['refused']} left out" if counts["refused"] else "")
        self._diagnostics.publish(level, line, dict(counts), self._source.name)

    def close(self) -> None:
        """Stop playing."""
        self._stopping.set()
        self._thread.join(timeout=2.0)


def main() -> int:
    """Run the node; gives the exit status."""
    return run_node("replay_node", ReplayNode)


if __name__ == "__main__":
    sys.exit(main())
