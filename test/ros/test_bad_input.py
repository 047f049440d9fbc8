"""Bad input over DDS: refused or used as is told, counted in the diagnostics, and never the end of a node.

Elsewhere: malformed images, sizes that do not fit, defects of the line (test_perception_node.py); objects that must not
be asked for, stamps of arrays (test_attitude_request_node.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion, QuaternionStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SegmentMatchArray, SpaceObject, SpaceObjectArray
from std_msgs.msg import Header

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.attitude_request_node import AttitudeRequestNode
from sparsematch_ros.nodes.camera_output import camera_info_message
from sparsematch_ros.nodes.conversions import stamp_message, uuid_message, uuid_of, vector_array
from sparsematch_ros.nodes.perception_node import PerceptionNode
from sparsematch_ros.nodes.qos import sensor_data

HEIGHT, WIDTH = 120, 160
CAMERA = CameraModel.from_fov(WIDTH, HEIGHT, 30.0)
SETTINGS = [Parameter("model.input_size", value=256), Parameter("reliable", value=True)]
STEP_NS = NANOSECONDS // 2
NAN = float("nan")
LEVEL = Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """A white disc on a black sky."""
    gray = np.zeros((height, width), dtype=np.uint8)
    cv2.circle(gray, (70, 52), 14, 230, -1, cv2.LINE_AA)
    return image_message(gray, "mono8")


def image_message(array: Any, encoding: str) -> Image:
    """An array as a message."""
    message = Image(height=array.shape[0], width=array.shape[1], encoding=encoding, step=array.nbytes // len(array))
    message.data.frombytes(np.ascontiguousarray(array).tobytes())
    return message


def info_message(camera: CameraModel = CAMERA, **changes: Any) -> CameraInfo:
    """The CameraInfo of a camera, with changes."""
    message = camera_info_message(Header(), camera)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class Probe(Node):
    """Sends images, CameraInfo and attitude; keeps what perception says."""

    def __init__(self, name: str, wait_for: Callable[..., None]) -> None:
        super().__init__(f"probe_{name}", namespace=name)
        self.images = self.create_publisher(Image, "image", sensor_data(True))
        self.infos = self.create_publisher(CameraInfo, "camera_info", sensor_data(True))
        self.attitudes = self.create_publisher(QuaternionStamped, "attitude", sensor_data(True))
        self.objects: list[SpaceObjectArray] = []
        self.matches: list[SegmentMatchArray] = []
        self.status = DiagnosticStatus()
        self.lines: list[str] = []
        self.create_subscription(SpaceObjectArray, "objects", self.objects.append, 50)
        self.create_subscription(SegmentMatchArray, "matches", self.matches.append, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 50)
        self._wait, self.now_ns = wait_for, 10**12

    def _keep(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self.get_namespace().lstrip('/')}/"):
                self.status = status
                self.lines.append(status.message)

    def connect(self) -> None:
        """Wait until perception listens and speaks."""
        publishers = (self.images, self.infos, self.attitudes)
        self._wait(lambda: all(item.get_subscription_count() for item in publishers), "connection", 60.0)
        topics = ("objects", "matches")
        self._wait(lambda: all(self.count_publishers(self.resolve_topic_name(t)) for t in topics), "connection back")

    def count(self, name: str) -> int:
        """One of the diagnostics' counts."""
        return int({pair.key: pair.value for pair in self.status.values}.get(name, "0"))

    def attitude(self, q: Quaternion, at_ns: int) -> None:
        """Send an attitude."""
        self.attitudes.publish(QuaternionStamped(header=header_at(at_ns), quaternion=q))

    def send(self, message: Image | None = None, info: CameraInfo | None = None, after_ns: int = STEP_NS) -> Any:
        """Send an image so long after the last, with its CameraInfo; give the objects."""
        self.now_ns += after_ns
        message = picture() if message is None else message
        message.header = header_at(self.now_ns)
        if info is not None:
            info.header = message.header
            self.infos.publish(info)
        count = len(self.objects)
        self.images.publish(message)
        self._wait(lambda: len(self.objects) > count and len(self.matches) == len(self.objects), "objects", 60.0)
        assert self.objects[-1].header == message.header
        return self.objects[-1]

    def counted(self, name: str, wanted: int, words: str) -> None:
        """Wait until the diagnostics show a count, and have said so in a line."""
        self._wait(lambda: self.count(name) == wanted, f"{name} {wanted}")
        self._wait(lambda: any(words in line for line in self.lines), f"diagnostics with '{words}'")


def header_at(nanoseconds: int) -> Header:
    """A header of the camera."""
    return Header(stamp=stamp_message(nanoseconds), frame_id="camera_7")


def confirmed(objects: SpaceObjectArray) -> SpaceObject:
    """The one confirmed object."""
    (item,) = [item for item in objects.objects if item.state == SpaceObject.CONFIRMED]
    return item


def numbers(item: SpaceObject) -> Any:
    """All that is a number wherever there is an object."""
    fields = (item.bbox_xywh, item.centroid, item.centroid_covariance, item.velocity, item.velocity_covariance)
    return np.concatenate([*fields, item.apparent_velocity, [item.area, item.existence_probability]])


@pytest.fixture
def probe(graph: Any, wait_for: Any, request: Any) -> Iterator[Probe]:
    """A camera beside a perception node of its own, which rests afterwards."""
    name = request.node.originalname[5:45]
    node = graph.add(PerceptionNode(namespace=name, parameter_overrides=SETTINGS))
    made = graph.add(Probe(name, wait_for))
    made.connect()
    yield made
    node.trigger_deactivate()


def test_bad_stamps_are_refused_and_counted(probe: Probe) -> None:
    for _ in range(4):
        identity = uuid_of(probe.send().objects[0].id)
    for back_ns in (0, -1, -STEP_NS):
        refused = probe.send(after_ns=back_ns)
        assert not refused.objects and ("goes back by" if back_ns else "repeats") in refused.problem
        assert probe.matches[-1].problem == refused.problem
    probe.counted("refused", 3, "refused")
    # The image after it is three steps after the last that counted, and shows the same object.
    after = probe.send(after_ns=2 * STEP_NS)
    assert not after.problem and uuid_of(confirmed(after).id) == identity
    assert stamp_ns(probe.matches[-1].previous_stamp) == 10**12 + 4 * STEP_NS


def test_a_gap_of_ten_seconds_ends_everything(probe: Probe) -> None:
    for _ in range(5):
        before = confirmed(probe.send(info=info_message())) if len(probe.objects) > 2 else probe.send()
    after = probe.send(info=info_message(), after_ns=10 * NANOSECONDS)
    ended = [item for item in after.objects if item.state == SpaceObject.LOST]
    assert [item.id for item in ended] == [before.id]
    assert all(item.state == SpaceObject.TENTATIVE for item in after.objects if item.id != before.id)
    assert not probe.matches[-1].matches and not probe.matches[-1].background_valid
    assert all(np.isfinite(numbers(item)).all() for item in after.objects)
    for _ in range(4):
        later = probe.send(info=info_message())
    found = confirmed(later)
    assert found.id != before.id and stamp_ns(found.first_seen) >= stamp_ns(after.header.stamp)


def test_another_size_ends_everything_once(probe: Probe) -> None:
    """The disc at the same place of a larger image is another object; the first one is told to have ended."""
    for _ in range(4):
        before = probe.send(info=info_message())
    known = confirmed(before)
    large = CameraModel.from_fov(WIDTH + 40, HEIGHT + 20, 30.0)
    after = probe.send(picture(HEIGHT + 20, WIDTH + 40), info_message(large))
    assert not after.problem
    (ended,) = [item for item in after.objects if item.state == SpaceObject.LOST]
    assert ended.id == known.id and not ended.mask_rle and np.isnan(vector_array(ended.bearing)).all()
    np.testing.assert_array_equal(ended.centroid, known.centroid)
    assert np.isfinite(numbers(ended)).all() and ended.last_seen == known.last_seen
    for _ in range(4):
        later = probe.send(picture(HEIGHT + 20, WIDTH + 40), info_message(large))
        assert known.id not in [item.id for item in later.objects]
    assert confirmed(later).mask_width == WIDTH + 40


def test_new_intrinsics_count_from_their_image_on(probe: Probe) -> None:
    """Half the field of view: the bearing of the same pixel is the new camera's, to float precision."""
    for _ in range(3):
        probe.send(info=info_message())
    narrow = CameraModel.from_fov(WIDTH, HEIGHT, 15.0)
    for camera in (CAMERA, narrow, narrow, CAMERA):
        found = confirmed(probe.send(info=info_message(camera)))
        expected = camera.bearings(np.array([found.centroid]))[0]
        np.testing.assert_allclose(vector_array(found.bearing), expected, atol=1e-9)
        assert np.isfinite(numbers(found)).all()


def test_an_attitude_older_than_its_limit_is_not_used_and_told(probe: Probe) -> None:
    """The limit is 0.5 s. In the first two images the attitude is that of their stamp, then none comes any more."""
    methods = []
    for number in range(5):
        if number < 2:
            probe.attitude(LEVEL, probe.now_ns + STEP_NS)
        assert not probe.send(info=info_message(), after_ns=STEP_NS if number < 3 else STEP_NS + 1).problem
        methods.append(probe.matches[-1].background_method)
    # The third image is exactly at the limit; for the others the attitude is 1 s old and older.
    assert methods == ["none", "telemetry", "telemetry", "none", "none"]
    probe.counted("attitude_too_old", 2, "attitude too old for")
    # An image's attitude is counted when the image is taken up, what was processed when it is done.
    probe.counted("processed", 5, "attitude too old for")
    assert probe.count("without_attitude") == 2


BAD_ATTITUDES = [
    *[Quaternion(**{"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0, name: NAN}) for name in "xyzw"],
    Quaternion(x=0.0, y=0.0, z=0.0, w=0.0),
    Quaternion(x=0.0, y=0.0, z=float("inf"), w=1.0),
    Quaternion(x=0.0, y=0.0, z=1.0, w=1.0),
]


def test_an_attitude_that_is_none_is_passed_over_and_counted(probe: Probe) -> None:
    """Beside each of them comes a good one of the same stamp, and that is used; a stamp before 0 ends no node."""
    probe.attitude(LEVEL, probe.now_ns + STEP_NS)
    probe.send(info=info_message())
    for bad in BAD_ATTITUDES:
        at_ns = probe.now_ns + STEP_NS
        probe.attitude(bad, at_ns)
        probe.attitude(LEVEL, at_ns)
        probe.attitude(bad, at_ns)
        probe.send(info=info_message())
        assert probe.matches[-1].background_method == "telemetry"
        np.testing.assert_allclose(np.array(probe.matches[-1].background_homography), np.eye(3).ravel(), atol=1e-9)
    probe.attitude(LEVEL, -NANOSECONDS)
    probe.counted("attitude_refused", 2 * len(BAD_ATTITUDES) + 1, "attitudes were none")
    assert not probe.send(info=info_message()).problem


def changed(values: Any, place: int, value: float) -> Any:
    """The same numbers with another one at a place."""
    numbers = np.array(values, dtype=np.float64)
    numbers[place] = value
    return numbers


K = CAMERA.matrix.ravel()


def test_nan_in_camera_info(probe: Probe) -> None:
    """In K or D the image is refused with the reason; R and P, which are not read, do no harm."""
    bad = [
        ({"k": changed(K, 0, NAN)}, "K must be"), ({"k": changed(K, 5, float("inf"))}, "K must be"),
        ({"k": changed(K, 8, NAN)}, "K must be"), ({"d": [NAN, 0.0, 0.0, 0.0, 0.0]}, "D must be"),
        ({"d": [0.1, 0.0, 0.0]}, "3 distortion coefficients"),
    ]  # fmt: skip
    for changes, words in bad:
        refused = probe.send(info=info_message(**changes))
        assert f"CameraInfo: {'camera matrix ' if 'k' in changes else ''}" in refused.problem
        assert words in refused.problem and not refused.objects
    probe.counted("refused", len(bad), "CameraInfo")
    assert probe.count("failed") == 0
    for _ in range(3):
        fine = probe.send(info=info_message(r=np.full(9, NAN), p=np.full(12, NAN)))
    found = confirmed(fine)
    assert not fine.problem and np.isfinite(vector_array(found.bearing)).all() and np.isfinite(numbers(found)).all()
    early = info_message()
    early.header = header_at(-1)
    probe.infos.publish(early)
    assert not probe.send(info=info_message()).problem


def test_images_of_floats_are_refused(probe: Probe) -> None:
    for encoding, channels in (("32FC1", 1), ("32FC3", 3)):
        problem = probe.send(image_message(np.full((HEIGHT, WIDTH, channels), NAN, np.float32), encoding)).problem
        assert encoding in problem
    probe.counted("refused", 2, "32FC")
    assert not probe.send().problem


def test_a_message_that_cannot_be_made_costs_one_image_not_the_thread(probe: Probe, monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no marker")

    with monkeypatch.context() as patch:
        patch.setattr("sparsematch_ros.nodes.perception_node.markers_message", fail)
        answer = probe.send()
    assert "no marker" in answer.problem and probe.matches[-1].problem == answer.problem
    probe.counted("failed", 1, "no marker")
    assert not probe.send().problem


# What reaches attitude_request_node


class Pointing(Node):
    """Sends objects as raw messages, and keeps the answers."""

    def __init__(self, wait_for: Callable[..., None]) -> None:
        super().__init__("probe_pointing", namespace="pointing")
        self.objects = self.create_publisher(SpaceObjectArray, "objects", 10)
        self.attitude = self.create_publisher(QuaternionStamped, "attitude", 10)
        self.statuses: list[AttitudeRequestStatus] = []
        self.requests: list[AttitudeRequest] = []
        self.create_subscription(AttitudeRequestStatus, "attitude_request_status", self.statuses.append, 10)
        self.create_subscription(AttitudeRequest, "attitude_request", self.requests.append, 10)
        self._wait, self._last_ns = wait_for, 0

    def connect(self) -> None:
        """Wait until both sides know each other."""
        publishers = (self.objects, self.attitude)
        self._wait(lambda: all(item.get_subscription_count() for item in publishers), "connection", 60.0)
        topic = self.resolve_topic_name("attitude_request_status")
        self._wait(lambda: self.count_publishers(topic), "connection back")

    def ask(self, q: Quaternion | None, attitude_age_s: float = 0.0, **changes: Any) -> AttitudeRequestStatus:
        """Send a good object with changes, and an attitude; give the status."""
        self._last_ns = max(self.get_clock().now().nanoseconds, self._last_ns + 1)
        if q is not None:
            header = header_at(self._last_ns - round(attitude_age_s * NANOSECONDS))
            self.attitude.publish(QuaternionStamped(header=header, quaternion=q))
        before = len(self.statuses)
        self.objects.publish(SpaceObjectArray(header=header_at(self._last_ns), objects=[good_object(**changes)]))
        self._wait(lambda: len(self.statuses) > before, "status")
        return self.statuses[-1]


def good_object(**changes: Any) -> SpaceObject:
    """An object that may be asked for, with changes."""
    message = SpaceObject(id=uuid_message(UUID(int=7)), state=SpaceObject.CONFIRMED, moving=True)
    message.existence_probability, message.area = 0.95, 20.0
    message.bearing.x, message.bearing.y, message.bearing.z = 0.0, 0.6, 0.8
    message.velocity_covariance = message.centroid_covariance = np.eye(2).ravel()
    message.bearing_covariance = message.bearing_rate_covariance = 1e-8 * np.eye(3).ravel()
    message.bbox_xywh = np.ones(4, dtype=np.float32)
    for name, value in changes.items():
        part, _, last = name.rpartition("__")
        setattr(getattr(message, part) if part else message, last, value)
    return message


@pytest.fixture(scope="module")
def pointing(graph: Any, wait_for: Any) -> Pointing:
    """An attitude request node that may send, and what is around it."""
    settings = [Parameter("pointing.enabled", value=True)]
    graph.add(AttitudeRequestNode(namespace="pointing", parameter_overrides=settings))
    made = graph.add(Pointing(wait_for))
    made.connect()
    return made


Status = AttitudeRequestStatus
NEEDED = [
    {"bearing__x": NAN}, {"bearing__y": float("inf")}, {"bearing_rate__z": NAN}, {"centroid": [NAN, 0.0]},
    {"velocity": [0.0, NAN]}, {"bearing_covariance": changed(np.eye(3).ravel(), 4, NAN)},
    {"bearing_covariance": changed(np.eye(3).ravel(), 0, float("inf"))}, {"existence_probability": NAN},
]  # fmt: skip
NOT_NEEDED = [
    {"bbox_xywh": np.full(4, NAN, np.float32)}, {"area": NAN}, {"velocity_covariance": np.full(4, NAN)},
    {"apparent_velocity": [NAN, NAN]}, {"centroid_covariance": np.full(4, NAN)}, {"descriptor": [NAN, NAN]},
    {"bearing_covariance": np.full(9, NAN)}, {"bearing_rate_covariance": changed(np.eye(3).ravel(), 0, NAN)},
]  # fmt: skip


@pytest.mark.parametrize("changes", NEEDED)
def test_an_object_with_nan_where_it_matters_is_never_asked_for(pointing: Pointing, changes: dict[str, Any]) -> None:
    sent = len(pointing.requests)
    status = pointing.ask(LEVEL, **changes)
    assert status.decision != Status.SENT and status.reason
    unsure = "existence_probability" in changes
    assert status.code == (Status.CODE_NO_TARGET if unsure else Status.CODE_BAD_INPUT)
    assert len(pointing.requests) == sent


def test_nan_elsewhere_reaches_no_request(pointing: Pointing, wait_for: Any) -> None:
    for changes in NOT_NEEDED:
        count = len(pointing.requests)
        assert pointing.ask(LEVEL, **changes).decision == Status.SENT
        wait_for(lambda count=count: len(pointing.requests) > count, "request")
        request = pointing.requests[-1]
        attitude = request.attitude
        values = [attitude.x, attitude.y, attitude.z, attitude.w, *vector_array(request.angular_velocity)]
        assert np.isfinite([*values, *vector_array(request.target_bearing)]).all() and "nan" not in request.reason
        known = "bearing_covariance" not in changes
        assert np.isfinite(request.target_bearing_covariance).all() == known


@pytest.mark.parametrize("q", BAD_ATTITUDES)
def test_no_request_rests_on_an_attitude_that_is_none(pointing: Pointing, q: Quaternion) -> None:
    """Half a second and more after the last good one there is none; a bad one is as good as none."""
    pointing._wait(lambda: pointing.get_clock().now().nanoseconds > pointing._last_ns + 6 * 10**8, "time to pass")
    status = pointing.ask(q)
    assert (status.decision, status.code) == (Status.REFUSED, Status.CODE_UNCHECKED)
    assert pointing.ask(LEVEL).decision == Status.SENT


def test_no_request_rests_on_an_attitude_older_than_its_limit(pointing: Pointing) -> None:
    pointing._wait(lambda: pointing.get_clock().now().nanoseconds > pointing._last_ns + 6 * 10**8, "time to pass")
    status = pointing.ask(LEVEL, attitude_age_s=0.55)
    assert (status.decision, status.code) == (Status.REFUSED, Status.CODE_UNCHECKED)
    assert "attitude" in status.reason
    assert pointing.ask(LEVEL, attitude_age_s=0.2).decision == Status.SENT


def test_a_stamp_before_zero_ends_no_node(pointing: Pointing) -> None:
    pointing.attitude.publish(QuaternionStamped(header=header_at(-NANOSECONDS), quaternion=LEVEL))
    before = len(pointing.statuses)
    pointing.objects.publish(SpaceObjectArray(header=header_at(-5 * NANOSECONDS), objects=[good_object()]))
    pointing._wait(lambda: len(pointing.statuses) > before, "status")
    assert pointing.statuses[-1].decision != Status.SENT
    assert pointing.ask(LEVEL).decision == Status.SENT
