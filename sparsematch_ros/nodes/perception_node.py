#!/usr/bin/env python3
"""Images in; matches, objects, overlay, markers and diagnostics out. A managed (lifecycle) node."""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from sparsematch_ros.config import Config
from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.depth import SampleDepth
from sparsematch_ros.media.images import check_size, image_samples, is_deep, stamp_ns
from sparsematch_ros.msg import SegmentMatchArray, SpaceObjectArray
from sparsematch_ros.nodes.compat import CvBridge
from sparsematch_ros.nodes.conversions import empty_matches_message, matches_message, objects_message
from sparsematch_ros.nodes.markers import markers_message
from sparsematch_ros.nodes.pairing import AttitudeTelemetry, CameraInfos, wait_for_pairs
from sparsematch_ros.nodes.parameters import declare_config, declare_settings, refuse_unknown
from sparsematch_ros.nodes.qos import ANSWERS, overridable, sensor_data
from sparsematch_ros.nodes.runner import run_node
from sparsematch_ros.nodes.status import Diagnostics, PerceptionStatus, perception_summary
from sparsematch_ros.nodes.worker import LatestWorker
from sparsematch_ros.pointing.conventions import quaternion, rotation
from sparsematch_ros.setting_fields import check_settings, setting

if TYPE_CHECKING:
    from sparsematch_ros.pipeline import Pipeline

STAGES = (
    "model", "camera", "background", "segmentation", "description", "tracking",
    "pointing.camera_to_body_xyzw", "pointing.max_attitude_age_s",
)  # fmt: skip
DIAGNOSTICS_PERIOD_S = 1.0


@dataclass(frozen=True)
class PerceptionSettings:
    """What the node itself can be told."""

    autostart: bool = setting(True, "configure and activate at the start, without a lifecycle manager")
    compressed: bool = setting(False, "take sensor_msgs/CompressedImage from `image/compressed` instead of `image`")
    reliable: bool = setting(False, "ask for reliable delivery of images, CameraInfo and attitude, as lock-step needs")
    pairing_wait_s: float = setting(
        0.1, "longest wait for an image's CameraInfo and attitude where they are published", "s",
        minimum=0.0, maximum=60.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check the values."""
        check_settings(self)


class PerceptionNode(LifecycleNode):
    """Runs the line on the newest image, on one thread of its own."""

    def __init__(self, **options: Any) -> None:
        """Declare the parameters and, with `autostart`, arrange for the start.

        Raises:
            SparsematchError: for a wrong parameter, by name.

        """
        super().__init__("perception_node", **options)
        self._settings = declare_settings(self, PerceptionSettings)
        self._config: Config = declare_config(self, STAGES)
        refuse_unknown(self)
        self._R_BC = rotation(self._config.pointing.camera_to_body_xyzw)
        self._bridge = CvBridge()
        self._status, self._reported = PerceptionStatus(), dict[str, Any]()
        self._diagnostics = Diagnostics(self, "pipeline")
        self._pipeline: Pipeline | None = None
        self._worker: LatestWorker[Any] | None = None
        self._frames, self._depth = 0, SampleDepth(self._config.camera.bits)
        self._make_publishers()
        self.create_service(Trigger, "~/survey", self._on_survey)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self.publish_diagnostics, clock=steady)
        if self._settings.autostart:
            self._start_timer = self.create_timer(0.0, self._start, clock=steady)

    def _make_publishers(self) -> None:
        def publisher(kind: type, topic: str, qos: Any = ANSWERS) -> Any:
            return self.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=overridable())

        self._matches = publisher(SegmentMatchArray, "matches")
        self._objects = publisher(SpaceObjectArray, "objects")
        self._overlay = publisher(Image, "overlay", sensor_data(self._settings.reliable))
        self._markers = publisher(MarkerArray, "markers")

    def _on_survey(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Look at everything in the next image."""
        response.success = self._worker is not None and self._pipeline is not None
        response.message = "the next image is surveyed" if response.success else "the node is not active"
        if self._pipeline is not None and response.success:
            self._pipeline.request_survey()
        return response

    def _start(self) -> None:
        """Go through configure and activate once; without a manager, failing means ending."""
        self._start_timer.cancel()
        for name, transition in (("configure", self.trigger_configure), ("activate", self.trigger_activate)):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise SparsematchError(f"could not {name}; the reason stands above")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the models and subscribe."""
        try:
            # Torch is imported here, so that a wrong parameter is told at once.
            from sparsematch_ros.pipeline import Pipeline

            self._pipeline = Pipeline(self._config)
        except SparsematchError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            # rclpy drops what a transition raises without a word.
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self._subscribe()
        self.get_logger().info(f"configured: {self._config.model.sam} loaded")
        return super().on_configure(state)

    def _subscribe(self) -> None:
        reliable = self._settings.reliable
        self._infos = CameraInfos(self, reliable)
        self._attitudes = AttitudeTelemetry(self, self._config.pointing.max_attitude_age_s, reliable)
        kind, topic = (CompressedImage, "image/compressed") if self._settings.compressed else (Image, "image")
        self._images = self.create_subscription(
            kind, topic, self._on_image, sensor_data(reliable), qos_overriding_options=overridable()
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to work."""
        self._worker = LatestWorker(self._work)
        result = super().on_activate(state)
        self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the image at hand and stop."""
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the models and of the past."""
        for part in (self._images, self._infos.subscription, self._attitudes.subscription):
            self.destroy_subscription(part)
        self._pipeline, self._status, self._reported, self._frames = None, PerceptionStatus(), {}, 0
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; what is held goes with the process."""
        self.close()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Stop the thread and tell the last counts."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self.context.ok():
            self.publish_diagnostics()

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._worker is None:
            return
        self._status.received += 1
        if self._worker.submit(message) is not None:
            self._status.dropped += 1
            self.get_logger().warning("too slow for the images: some are dropped", throttle_duration_sec=10.0)

    def _work(self, message: Image | CompressedImage) -> None:
        """Process one image on the worker's thread; whatever happens, an array goes out."""
        started = time.monotonic()
        try:
            result = self._process(message)
            answer = self._answer(message.header, result)
        except BadFrameError as error:
            self._refuse(message.header, str(error), own_fault=False)
        except Exception as error:  # Out of memory, or a defect: told in full, and the next image gets its chance.
            self.get_logger().error(traceback.format_exc())
            self._refuse(message.header, f"{type(error).__name__}: {error}", own_fault=True)
        else:
            self._status.add_result(result, time.monotonic() - started)
            for publisher, item in answer:
                publisher.publish(item)

    def _process(self, message: Image | CompressedImage) -> FrameResult:
        if self._pipeline is None:
            raise BadFrameError("the node is not configured")
        frame = self._frame(message)
        self._frames += 1
        return self._pipeline.process(frame)

    def _frame(self, message: Image | CompressedImage) -> Frame:
        stamp = stamp_ns(message.header.stamp)
        wait_for_pairs(stamp, [self._infos, self._attitudes], self._settings.pairing_wait_s)
        raw = self._image(message)
        camera = self._infos.at(stamp)
        check_size(raw, camera)
        pixels = self._depth.pixels(raw)
        return Frame(self._frames, stamp, camera=camera, q_NC_xyzw=self._q_NC_at(stamp), **pixels)

    def _q_NC_at(self, stamp: int) -> Any:
        """Give the camera's attitude at an image's stamp `(4,)`; one that is too old is not used, counted and told."""
        q_NB = self._attitudes.q_NB_at(stamp)
        if q_NB is not None:
            return quaternion(rotation(q_NB) * self._R_BC)
        age_s, limit_s = self._attitudes.overdue_s(stamp), self._config.pointing.max_attitude_age_s
        if age_s is not None:
            self._status.attitude_too_old += 1
            self.get_logger().warning(
                f"the attitude is {age_s:.3f} s older than the image, limit {limit_s} s: not used",
                throttle_duration_sec=10.0,
            )
        return None

    def _image(self, message: Image | CompressedImage) -> Any:
        """Convert to `(H, W, 3)` RGB; cv_bridge cuts deep samples to 8 bit, so those are read here."""
        if is_deep(message):
            return image_samples(message)
        convert = self._bridge.compressed_imgmsg_to_cv2 if self._settings.compressed else self._bridge.imgmsg_to_cv2
        try:
            return np.ascontiguousarray(convert(message, desired_encoding="rgb8"))
        except (TypeError, ValueError) as error:
            # cv_bridge's own error is a TypeError.
            raise BadFrameError(f"the image cannot be converted: {error}") from error

    def _refuse(self, header: Header, problem: str, *, own_fault: bool) -> None:
        self._status.add_problem(problem, own_fault=own_fault)
        self.get_logger().warning(f"image without result: {problem}", throttle_duration_sec=5.0)
        self._matches.publish(empty_matches_message(header, problem))
        self._objects.publish(objects_message(header, (), problem))

    def _answer(self, header: Header, result: FrameResult) -> list[tuple[Any, Any]]:
        """Make all messages of a result, so that either all of them go out or none."""
        answer = [(self._matches, matches_message(header, result))]
        if self._overlay.get_subscription_count():
            from sparsematch_ros.media.overlay import draw_overlay

            answer.append((self._overlay, self._bridge.cv2_to_imgmsg(draw_overlay(result), "rgb8", header)))
        answer.append((self._markers, markers_message(header, result.objects)))
        # Last, because a lock-step camera goes on when it sees the objects.
        answer.append((self._objects, objects_message(header, result.objects)))
        return answer

    def publish_diagnostics(self) -> None:
        """Publish the counts and what has happened since the last time."""
        self._status.attitude_refused = self._attitudes.refused if self._pipeline is not None else 0
        values = self._status.values()
        level, line = perception_summary(values, self._reported, self._worker is not None)
        device = str(getattr(self._pipeline, "device", "")) if self._pipeline else ""
        self._diagnostics.publish(level, line, {**values, "device": device}, device)
        self._reported = values


def main() -> int:
    """Run the node; gives the exit status."""
    return run_node("perception_node", PerceptionNode)


if __name__ == "__main__":
    sys.exit(main())
