"""Recorded images come as a camera's, at their rate; bad ones are left out and counted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from sparsematch_ros.media.images import image_to_rgb, stamp_ns
from sparsematch_ros.nodes.qos import sensor_data
from sparsematch_ros.nodes.replay_node import ReplayNode


class Viewer(Node):
    """Keeps what is replayed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"viewer_{name}", namespace=name)
        self.images: list[Image] = []
        self.arrived_s: list[float] = []
        self.clocks: list[int] = []
        self.counts: dict[str, str] = {}
        self.create_subscription(Image, "image_raw", self._on_image, sensor_data(True, depth=50))
        self.create_subscription(Clock, "/clock", lambda message: self.clocks.append(stamp_ns(message.clock)), 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)

    def _on_image(self, message: Image) -> None:
        self.images.append(message)
        self.arrived_s.append(time.monotonic())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self.get_namespace().lstrip("/")):
                self.counts = {pair.key: pair.value for pair in status.values}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, each of one grey level; the third is no image."""
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), np.full((24, 32, 3), 40 * index, np.uint8))
    (tmp_path / "002.png").write_bytes(b"no image")
    return tmp_path


def start(graph: Any, wait_for: Any, name: str, **parameters: Any) -> Viewer:
    """Start a viewer, then the replay."""
    viewer = graph.add(Viewer(name))
    values = {"perception": "", "reliable": True, "clock": True, **parameters}
    overrides = [Parameter(key, value=value) for key, value in values.items()]
    graph.add(ReplayNode(namespace=name, parameter_overrides=overrides))
    return viewer


def test_images_come_at_their_rate_and_bad_ones_are_counted(graph: Any, wait_for: Any, folder: Path) -> None:
    viewer = start(graph, wait_for, "once", source=str(folder), rate_hz=4.0)
    wait_for(lambda: viewer.counts.get("finished") == "True", "end")
    assert viewer.counts["published"] == "4" and viewer.counts["refused"] == "1"
    # The first may come before the viewer is connected; the last three stand at 0.25, 0.75 and 1.0 s.
    seen = {int(image_to_rgb(image)[0, 0, 0]): (image, when) for image, when in zip(viewer.images, viewer.arrived_s)}
    assert set(seen) >= {120, 160}
    (before, before_s), (last, last_s) = seen[120], seen[160]
    assert stamp_ns(last.header.stamp) - stamp_ns(before.header.stamp) == 250_000_000
    assert last_s - before_s == pytest.approx(0.25, abs=0.15)
    assert last.header.frame_id == "camera_optical_frame"
    assert viewer.clocks[-1] == stamp_ns(last.header.stamp)


def test_a_loop_goes_on_with_growing_stamps(graph: Any, wait_for: Any, folder: Path) -> None:
    viewer = start(graph, wait_for, "loop", source=str(folder), rate_hz=20.0, loop=True)
    wait_for(lambda: len(viewer.images) >= 10, "ten images")
    stamps = [stamp_ns(image.header.stamp) for image in viewer.images]
    assert (np.diff(stamps) > 0).all() and stamps[0] > 0


def test_it_waits_for_perception(graph: Any, wait_for: Any, folder: Path) -> None:
    viewer = start(graph, wait_for, "waiting", source=str(folder), perception="nobody")
    time.sleep(1.5)
    assert not viewer.images
