"""The nodes of a demo as processes, and the recording of what they say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import QuaternionStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from sparsematch_ros.config import Config
from sparsematch_ros.media.images import image_to_rgb, stamp_ns
from sparsematch_ros.media.progress import with_progress
from sparsematch_ros.media.video import OverlayVideo
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SegmentMatchArray, SpaceObjectArray
from sparsematch_ros.nodes.children import Child, ChildDied, running
from sparsematch_ros.nodes.demo_report import Recording
from sparsematch_ros.nodes.qos import sensor_data
from sparsematch_ros.nodes.recorder import Recorder
from sparsematch_ros.settings import changed_settings
from sparsematch_ros.simulation.demo_options import DemoOptions
from sparsematch_ros.simulation.scenario import Scenario

TOPICS = {
    "/clock": Clock,
    "/camera/image_raw": Image,
    "/camera/camera_info": CameraInfo,
    "/attitude": QuaternionStamped,
    "/truth": SpaceObjectArray,
    "/matches": SegmentMatchArray,
    "/objects": SpaceObjectArray,
    "/markers": MarkerArray,
    "/attitude_request": AttitudeRequest,
    "/attitude_request_status": AttitudeRequestStatus,
    "/diagnostics": DiagnosticArray,
}
# The overlay becomes a video, and would double the bag.
OVERLAY = "/overlay"
CAMERA_REMAPS = ("image:=camera/image_raw", "image_raw:=camera/image_raw", "camera_info:=camera/camera_info")
# Perception tells its counts once a second; its last ones are waited for.
LAST_WORDS_S = 1.5
# Without a new image for this long something hangs that still runs.
PATIENCE_S = 240.0
LOCKSTEP_WAIT_S = 20.0


@dataclass(frozen=True, eq=False)
class Plan:
    """What is flown, and where it is written.

    Attributes:
        scenario: what is in the sky.
        config: settings of perception and pointing.
        options: how it is flown.

    """

    scenario: Scenario
    config: Config
    options: DemoOptions

    @property
    def out(self) -> Path:
        """Folder."""
        return self.options.out

    @property
    def frames(self) -> int:
        """Images to take."""
        return self.options.frames or self.scenario.frames

    @property
    def real_time(self) -> bool:
        """Whether time passes by itself; else in lock-step."""
        return self.options.real_time


@dataclass
class Progress:
    """What the nodes have told on `/diagnostics`, by node name."""

    values: dict[str, dict[str, str]] = field(default_factory=dict)

    def update(self, message: DiagnosticArray) -> None:
        """Take in one message."""
        for status in message.status:
            node = status.name.split(":")[0]
            self.values[node] = {pair.key: pair.value for pair in status.values}

    def of(self, node: str) -> dict[str, str]:
        """Give the last values of a node."""
        return self.values.get(node, {})


def fly(plan: Plan) -> Recording:
    """Run the graph until the camera has taken all images.

    Raises:
        ChildDied: where a node ended before.

    """
    rclpy.init()
    node = rclpy.create_node("demo")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        return record_flight(plan, node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def record_flight(plan: Plan, node: Node, executor: SingleThreadedExecutor) -> Recording:
    """Record while the nodes run, and stop them."""
    progress, recording = Progress(), Recording(bag=plan.out / "bag")
    with Recorder(node, recording.bag, TOPICS, reliable=not plan.real_time) as recorder, \
            OverlayVideo(plan.out / "overlay.mp4") as video:  # fmt: skip

        def draw(message: Image) -> None:
            recorder.counts[OVERLAY] += 1
            video.write(stamp_ns(message.header.stamp), image_to_rgb(message))

        def keep(message: Image) -> None:
            recording.last_image = image_to_rgb(message)

        node.create_subscription(Image, OVERLAY, draw, sensor_data(not plan.real_time, depth=100))
        recorder.listen("/camera/image_raw", keep)
        recorder.listen("/diagnostics", progress.update)
        start = time.monotonic()
        with running(start_nodes(plan)) as children:
            for _ in with_progress(frames_done(executor, children, progress), "demo", plan.frames):
                pass
        recording.wall_s = time.monotonic() - start
    recording.topics = dict(recorder.counts)
    recording.perception, recording.camera = progress.of("perception_node"), progress.of("simulated_camera_node")
    return recording


def frames_done(executor: SingleThreadedExecutor, children: list[Child], progress: Progress) -> Iterator[int]:
    """Serve the recorder, and give the number of every image that is done."""
    done, changed = 0, time.monotonic()
    while progress.of("simulated_camera_node").get("finished") != "True":
        spin(executor, children, 0.2)
        for done in range(done + 1, int(progress.of("simulated_camera_node").get("frames", 0)) + 1):  # noqa: B020
            changed = time.monotonic()
            yield done
        if time.monotonic() - changed > PATIENCE_S:
            raise ChildDied(f"no image was done for {PATIENCE_S:.0f} s; see {children[0].log.parent}")
    spin(executor, children, LAST_WORDS_S)


def spin(executor: SingleThreadedExecutor, children: list[Child], seconds: float) -> None:
    """Serve callbacks for a while, and make sure that all nodes live."""
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)
    except ExternalShutdownException as error:
        # rclpy's own handler has taken Ctrl-C or SIGTERM and ended the context.
        raise KeyboardInterrupt from error
    for child in children:
        child.check()


def start_nodes(plan: Plan) -> list[Child]:
    """Start perception, attitude request and camera."""
    logs = plan.out / "logs"
    shared = logs / "parameters.yaml"
    groups: dict[str, dict[str, Any]] = {}
    for name, value in changed_settings(plan.config).items():
        stage, key = name.split(".")
        groups.setdefault(stage, {})[key] = value
    shared.write_text(yaml.safe_dump({"/**": {"ros__parameters": groups}}), encoding="utf-8")
    lockstep = str(not plan.real_time).lower()
    # In lock-step time waits, so that what belongs to an image is waited for as well, on however busy a machine.
    wait_s = 0.1 if plan.real_time else LOCKSTEP_WAIT_S
    simulated = ["-p", "use_sim_time:=true", "-p", f"reliable:={lockstep}", "-p", f"pairing_wait_s:={wait_s}",
                 "--params-file", str(shared)]  # fmt: skip
    remaps = [word for remap in CAMERA_REMAPS for word in ("-r", remap)]
    camera = {
        "scenario": plan.options.scenario, "seed": plan.options.seed, "frames": plan.frames, "lockstep": lockstep,
        "dynamics": plan.options.dynamics, "latency_s": float(plan.options.latency_s),
        "truth_folder": str(plan.out.resolve()), "inertial_frame": plan.config.pointing.inertial_frame,
    }  # fmt: skip
    parameters = [word for name, value in camera.items() for word in ("-p", f"{name}:={value}")]
    return [
        Child("perception_node", [*simulated, *remaps], logs / "perception_node.log"),
        Child("attitude_request_node", [*simulated, *remaps], logs / "attitude_request_node.log"),
        Child("simulated_camera_node", [*parameters, *remaps], logs / "simulated_camera_node.log"),
    ]
