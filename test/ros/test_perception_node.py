"""Real images over DDS through the real line: every encoding, every bad image, telemetry, overload, lifecycle."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import QuaternionStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sparsematch_ros.msg import SegmentMatchArray, SpaceObject, SpaceObjectArray
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import PromptReason
from sparsematch_ros.media.images import image_to_rgb, stamp_ns
from sparsematch_ros.nodes.camera_output import camera_info_message
from sparsematch_ros.nodes.children import node_command
from sparsematch_ros.nodes.conversions import quaternion_message, stamp_message, vector_array
from sparsematch_ros.nodes.perception_node import PerceptionNode
from sparsematch_ros.nodes.qos import sensor_data

HEIGHT, WIDTH = 120, 160
CENTRE = np.array([97.0, 52.0])
RADIUS = 14
SETTINGS = [Parameter("model.input_size", value=256), Parameter("reliable", value=True)]


def picture(centre: Any = CENTRE) -> Any:
    """A white disc on a black sky, `(H, W, 3)` RGB."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.circle(image, tuple(int(value) for value in centre), RADIUS, (230, 225, 220), -1, cv2.LINE_AA)
    return image


def encoded(image: Any, encoding: str) -> Image:
    """The image in an encoding, made with plain numpy, padded rows included."""
    gray = image.mean(axis=2)
    if encoding in ("rgb8", "rgba8", "bgr8", "bgra8"):
        channels = [image[..., "rgb".index(name)] for name in encoding[:3]]
        alpha = [np.full_like(channels[0], 255)] if "a" in encoding else []
        data = np.stack(channels + alpha, axis=2)
    elif encoding.endswith("16"):
        data = np.rint(gray * 257).astype(np.uint16)
    else:
        data = np.rint(gray).astype(np.uint8)
    rows = np.ascontiguousarray(data).reshape(HEIGHT, -1).view(np.uint8)
    padded = np.hstack([rows, np.full((HEIGHT, 6), 99, np.uint8)])
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=padded.shape[1])
    message.data.frombytes(padded.tobytes())
    return message


class Probe(Node):
    """Sends images and keeps what perception says."""

    def __init__(self, name: str, wait_for: Callable[..., None], compressed: bool = False) -> None:
        super().__init__(f"probe_{name}", namespace=name)
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.images = self.create_publisher(kind, topic, sensor_data(True))
        self.infos = self.create_publisher(CameraInfo, "camera_info", sensor_data(True))
        self.attitudes = self.create_publisher(QuaternionStamped, "attitude", sensor_data(True))
        self.objects: list[SpaceObjectArray] = []
        self.matches: list[SegmentMatchArray] = []
        self.overlays: list[Image] = []
        self.markers: list[MarkerArray] = []
        self.diagnostics: dict[str, str] = {}
        self.create_subscription(SpaceObjectArray, "objects", self.objects.append, 50)
        self.create_subscription(SegmentMatchArray, "matches", self.matches.append, 50)
        self.create_subscription(MarkerArray, "markers", self.markers.append, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 50)
        self._wait, self._stamp_ns = wait_for, 10**12

    def _keep(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self.get_namespace().lstrip("/")):
                self.diagnostics = {pair.key: pair.value for pair in status.values}

    def watch_overlay(self) -> None:
        """Subscribe to the overlay, which is drawn for subscribers alone."""
        self.create_subscription(Image, "overlay", self.overlays.append, sensor_data(True))

    def connect(self) -> None:
        """Wait until perception listens and speaks."""
        publishers = (self.images, self.infos, self.attitudes)
        self._wait(lambda: all(item.get_subscription_count() for item in publishers), "connection", 60.0)
        topics = ("objects", "matches")
        self._wait(lambda: all(self.count_publishers(self.resolve_topic_name(t)) for t in topics), "connection back")

    def next_header(self) -> Header:
        """A stamp half a second after the last."""
        self._stamp_ns += 500_000_000
        return Header(stamp=stamp_message(self._stamp_ns), frame_id="camera_7")

    def send(self, message: Any, header: Header | None = None) -> SpaceObjectArray:
        """Send one image and give the objects; matches come with the same header."""
        message.header = header or self.next_header()
        count = len(self.objects)
        self.images.publish(message)
        self._wait(lambda: len(self.objects) > count and len(self.matches) == len(self.objects), "objects")
        for answer in (self.objects[-1], self.matches[-1]):
            assert answer.header == message.header
        assert self.matches[-1].problem == self.objects[-1].problem
        return self.objects[-1]

    def send_with(self, message: Any, info: CameraInfo | None = None, q_NB: Any = None) -> SpaceObjectArray:
        """Send an image with its CameraInfo and attitude."""
        header = self.next_header()
        if info is not None:
            info.header = header
            self.infos.publish(info)
        if q_NB is not None:
            self.attitudes.publish(QuaternionStamped(header=header, quaternion=quaternion_message(q_NB)))
        return self.send(message, header)


def nearest(objects: SpaceObjectArray, point: Any = CENTRE) -> Any:
    """The object nearest to a place."""
    assert objects.objects, "no object at all"
    return min(objects.objects, key=lambda item: np.hypot(*(np.array(item.centroid) - point)))


@pytest.fixture(scope="module")
def node(graph: Any) -> PerceptionNode:
    """Perception with the real MobileSAM at a small input size."""
    return graph.add(PerceptionNode(namespace="images", parameter_overrides=SETTINGS))


@pytest.fixture(scope="module")
def probe(graph: Any, node: PerceptionNode, wait_for: Any) -> Probe:
    """A camera beside it."""
    made = graph.add(Probe("images", wait_for))
    made.connect()
    return made


def test_without_camera_info_there_is_no_bearing(probe: Probe) -> None:
    found = nearest(probe.send(encoded(picture(), "rgb8")))
    assert np.isnan(vector_array(found.bearing)).all()


BAYER = [f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")]
ENCODINGS = ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "bayer_rggb16", *BAYER]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_taken(probe: Probe, encoding: str) -> None:
    """The disc is found within 1.5 px of where it was drawn."""
    objects = probe.send(encoded(picture(), encoding))
    assert not objects.problem
    np.testing.assert_allclose(nearest(objects).centroid, CENTRE, atol=1.5)


def test_compressed_images_are_taken(graph: Any, wait_for: Any) -> None:
    overrides = [*SETTINGS, Parameter("compressed", value=True)]
    graph.add(PerceptionNode(namespace="compressed", parameter_overrides=overrides))
    probe = graph.add(Probe("compressed", wait_for, compressed=True))
    probe.connect()
    for suffix in ("png", "jpg"):
        data = cv2.imencode(f".{suffix}", picture()[..., ::-1])[1].tobytes()
        objects = probe.send(CompressedImage(format=suffix, data=data))
        assert not objects.problem
        np.testing.assert_allclose(nearest(objects).centroid, CENTRE, atol=1.5)
    assert "cannot be decoded" in probe.send(CompressedImage(format="png", data=b"no image")).problem


def short(message: Image) -> Image:
    """The same image with half of its data."""
    message.data = message.data[: len(message.data) // 2]
    return message


BAD = [
    (lambda: encoded(picture(), "rgb8"), {"encoding": "yuv_unheard_of"}, "yuv_unheard_of"),
    (lambda: short(encoded(picture(), "rgb8")), {}, "bytes"),
    (lambda: encoded(picture(), "rgb8"), {"step": 7}, "7 bytes"),
    (lambda: encoded(picture(), "rgb8"), {"height": 0}, "x0"),
]


@pytest.mark.parametrize(("make", "changes", "words"), BAD)
def test_an_image_that_is_none_is_answered_and_counted(
    probe: Probe, node: PerceptionNode, wait_for: Any, make: Any, changes: dict[str, Any], words: str
) -> None:
    refused = node._status.refused
    message = make()
    for name, value in changes.items():
        setattr(message, name, value)
    objects = probe.send(message)
    assert words in objects.problem and "\n" not in objects.problem and not objects.objects
    assert node._status.refused == refused + 1
    wait_for(lambda: probe.diagnostics.get("refused") == str(refused + 1), "diagnostics")
    assert probe.diagnostics["last_problem"] == objects.problem
    assert not probe.send(encoded(picture(), "rgb8")).problem


def test_stamps_that_repeat_or_go_back_are_refused(probe: Probe) -> None:
    header = probe.next_header()
    assert not probe.send(encoded(picture(), "rgb8"), header).problem
    assert "repeats" in probe.send(encoded(picture(), "rgb8"), header).problem
    earlier = Header(stamp=stamp_message(stamp_ns(header.stamp) - 10), frame_id="camera_7")
    assert "goes back" in probe.send(encoded(picture(), "rgb8"), earlier).problem


def test_a_black_frame_is_ordinary(probe: Probe) -> None:
    objects = probe.send(encoded(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "mono8"))
    assert not objects.problem
    assert not [item for item in objects.objects if item.state == SpaceObject.CONFIRMED and item.moving]


def test_a_defect_costs_one_frame_not_the_node(probe: Probe, node: PerceptionNode, monkeypatch: Any) -> None:
    """Memory cannot be exhausted here for real, so the line is made to raise what torch raises."""

    def fail(frame: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(node._pipeline, "process", fail)
        assert "out of memory" in probe.send(encoded(picture(), "rgb8")).problem
    assert node._status.failed == 1
    assert not probe.send(encoded(picture(), "rgb8")).problem


def test_overlay_and_markers_come_with_the_objects(probe: Probe, wait_for: Any) -> None:
    probe.watch_overlay()
    wait_for(lambda: probe.count_publishers(probe.resolve_topic_name("overlay")), "publisher")
    time.sleep(0.5)
    probe.send(encoded(picture(), "rgb8"))
    wait_for(lambda: probe.overlays, "overlay")
    assert probe.overlays[-1].header == probe.objects[-1].header
    drawn = image_to_rgb(probe.overlays[-1])
    assert drawn.shape == (HEIGHT, WIDTH, 3) and (drawn != picture()).any()
    assert probe.markers[-1].markers[0].header == probe.objects[-1].header


def survey(probe: Probe, wait_for: Any) -> Trigger.Response:
    client = probe.create_client(Trigger, "perception_node/survey")
    wait_for(client.service_is_ready, "the survey service")
    answer = client.call_async(Trigger.Request())
    wait_for(answer.done, "the service's answer")
    probe.destroy_client(client)
    return answer.result()


def test_a_survey_looks_at_everything_once(probe: Probe, node: PerceptionNode, wait_for: Any) -> None:
    """A grid of 16 x 16 points in one image; then the disc alone is asked for again."""
    assert survey(probe, wait_for).success
    counts = []
    for _ in range(2):
        probe.send(encoded(picture(), "rgb8"))
        prompts = node._status.last.prompts
        counts.append((int((prompts.reasons == PromptReason.GRID).sum()), len(prompts)))
    assert counts[0][0] == 256
    assert counts[1] == (0, 1)
    node.publish_diagnostics()
    # A report of the surveyed image may come before that of the last one.
    wait_for(lambda: probe.diagnostics.get("prompts") in ("expected 1", "bright 1"), "diagnostics of one prompt")


def test_roi_binning_and_size_of_camera_info_are_respected(probe: Probe) -> None:
    """The bearing of the disc, from the full image's pinhole by hand, within 1.5 px of the binned image."""
    focal, centre_x, centre_y, left, top, binning = 900.0, 330.0, 251.0, 48, 32, 2
    info = CameraInfo(width=800, height=600, distortion_model="plumb_bob", d=[0.0] * 5, binning_x=2, binning_y=2)
    info.k = np.array([focal, 0, centre_x, 0, focal, centre_y, 0, 0, 1])
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = left, top, WIDTH * 2, HEIGHT * 2
    found = nearest(probe.send_with(encoded(picture(), "rgb8"), info))
    full_px = (CENTRE + 0.5) * binning - 0.5 + [left, top]
    expected = np.array([(full_px[0] - centre_x) / focal, (full_px[1] - centre_y) / focal, 1.0])
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(vector_array(found.bearing), expected, atol=1.5 * binning / focal)
    info.roi.width = WIDTH
    problem = probe.send_with(encoded(picture(), "rgb8"), info).problem
    assert f"{WIDTH}x{HEIGHT}" in problem and f"{WIDTH // 2}x{HEIGHT}" in problem


def test_attitude_telemetry_gives_the_backgrounds_motion(probe: Probe) -> None:
    """The homography moves the image's centre as a turn of the camera does, to a hundredth of a pixel."""
    camera = CameraModel.from_fov(WIDTH, HEIGHT, 30.0)
    turn = Rotation.from_rotvec([0.0, np.radians(0.5), 0.0])
    for q_NB in (Rotation.identity(), turn):
        probe.send_with(encoded(picture(), "rgb8"), camera_info_message(Header(), camera), q_NB.as_quat())
    matches = probe.matches[-1]
    assert matches.background_method == "telemetry" and matches.background_valid
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2, 1.0])
    moved = np.array(matches.background_homography).reshape(3, 3) @ middle
    expected = camera.project(turn.inv().apply([[0.0, 0.0, 1.0]]))[0]
    np.testing.assert_allclose(moved[:2] / moved[2], expected, atol=0.01)


def test_overload_drops_images_and_says_so(probe: Probe, node: PerceptionNode, wait_for: Any) -> None:
    """Everything that came is either answered or counted as dropped, and the newest is among the answered."""
    received, dropped, answered = node._status.received, node._status.dropped, len(probe.objects)
    for _ in range(8):
        message = encoded(picture(), "rgb8")
        message.header = probe.next_header()
        probe.images.publish(message)
        # Slow enough for the middleware's queue of five, faster than the line.
        time.sleep(0.03)
    wait_for(lambda: probe.objects[-1].header == message.header, "the newest image's objects")
    assert node._status.received == received + 8
    new = node._status.dropped - dropped
    assert new > 0 and len(probe.objects) == answered + 8 - new


def test_an_inactive_node_is_silent_and_comes_back(probe: Probe, node: PerceptionNode, wait_for: Any) -> None:
    node.trigger_deactivate()
    count = len(probe.objects)
    message = encoded(picture(), "rgb8")
    message.header = probe.next_header()
    probe.images.publish(message)
    time.sleep(1.0)
    assert len(probe.objects) == count
    assert not survey(probe, wait_for).success
    node.trigger_activate()
    assert not probe.send(encoded(picture(), "rgb8")).problem


def test_a_missing_checkpoint_ends_the_process_with_one_line() -> None:
    command = [*node_command("perception_node"), "--ros-args", "-p", "model.sam_checkpoint:=no_such_file.pt"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "no_such_file.pt" in ended.stderr + ended.stdout and "Traceback" not in ended.stderr + ended.stdout
