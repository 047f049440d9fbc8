"""Images of a rosbag2 recording (sqlite3 or mcap), with the intrinsics and the attitude recorded beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation, Slerp

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS, FloatArray, Frame
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.depth import SampleDepth
from sparsematch_ros.media.images import camera_from_info, check_size, image_samples, stamp_ns
from sparsematch_ros.media.sources import RefusedFrame

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
ATTITUDE_TYPE = "geometry_msgs/msg/QuaternionStamped"
# Between attitudes further apart than this nothing is interpolated.
MAX_ATTITUDE_GAP_S = 1.0


class BagSource:
    """Images of one topic in order of recording; stamps are those of the message headers.

    Attributes:
        name: the bag.
        length: number of images.
        notes: topics in use.
        topic: the image topic.

    """

    def __init__(
        self, path: Path, topic: str | None, camera_to_body_xyzw: FloatArray | None = None, bits: int = 0
    ) -> None:
        """Look at a bag's topics; see `open_source` for the arguments.

        Raises:
            SparsematchError: where the bag cannot be read, or has no such topic; the topics it has are listed.

        """
        self.name = str(path)
        self._path = path
        self._bits = bits
        self._q_BC = Rotation.from_quat([0, 0, 0, 1] if camera_to_body_xyzw is None else camera_to_body_xyzw)
        with _reading(path) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
            self.topic = _choose_topic(path, types, topic)
            self._info_topic = _sibling(self.topic, types)
            self._attitude_topic = _attitude_topic(types)
            self.length: int | None = sum(c.msgcount for c in reader.connections if c.topic == self.topic)
        used = (self.topic, self._info_topic or "no camera_info", self._attitude_topic or "no attitude")
        self.notes = [f"topics: {', '.join(used)}", "stamps from the message headers"]

    def __iter__(self) -> Iterator[Frame | RefusedFrame]:
        """Read the images one by one."""
        with _reading(self._path) as reader:
            depth = SampleDepth(self._bits)
            infos = _by_stamp(reader, self._info_topic)
            attitudes = _Attitudes(_by_stamp(reader, self._attitude_topic), self._q_BC)
            for index, (connection, recorded_ns, data) in enumerate(_raw_messages(reader, self.topic)):
                try:
                    frame = _frame(index, _deserialize(reader, connection, data), infos, attitudes, depth)
                except BadFrameError as error:
                    yield RefusedFrame(index, f"{self.topic} recorded at {recorded_ns} ns", str(error))
                else:
                    yield frame
            if depth.told:
                self.notes.append(depth.told)


class _Attitudes:
    """Body attitudes of a recording, as the camera's attitude at any time between them."""

    def __init__(self, messages: dict[int, Any], q_BC: Rotation) -> None:
        quaternions = {stamp: _quaternion(message) for stamp, message in messages.items()}
        usable = {stamp: quaternion for stamp, quaternion in quaternions.items() if quaternion is not None}
        self._stamps = np.array(sorted(usable), dtype=np.int64)
        if len(self._stamps):
            self._q_NC = Rotation.from_quat([usable[stamp] for stamp in self._stamps]) * q_BC

    def at(self, stamp: int) -> FloatArray | None:
        """Give q_NC at a stamp [ns], interpolated, or None where none was recorded around it."""
        after = int(np.searchsorted(self._stamps, stamp))
        if after < len(self._stamps) and self._stamps[after] == stamp:
            return self._q_NC[after].as_quat()
        if not 0 < after < len(self._stamps):
            return None
        start, end = self._stamps[after - 1], self._stamps[after]
        if end - start > MAX_ATTITUDE_GAP_S * NANOSECONDS:
            return None
        share = float(stamp - start) / float(end - start)
        return Slerp([0.0, 1.0], self._q_NC[after - 1 : after + 1])(share).as_quat()


@contextmanager
def _reading(path: Path) -> Iterator[AnyReader]:
    """Open a bag; messages without a recorded definition are read as Jazzy's."""
    try:
        with AnyReader([_bag_path(path)], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            yield reader
    except (AnyReaderError, ReaderError, OSError) as error:
        raise SparsematchError(f"{path} is not a readable rosbag2 recording: {error}") from error


def _bag_path(path: Path) -> Path:
    """Fall back to the one bag file of a folder that lost its metadata.yaml."""
    if path.is_file() or (path / "metadata.yaml").exists():
        return path
    files = [*path.glob("*.mcap"), *path.glob("*.db3")]
    if len(files) != 1:
        raise SparsematchError(f"{path} has no metadata.yaml and {len(files)} bag files: give one of the files")
    return files[0]


def _choose_topic(path: Path, types: dict[str, str], topic: str | None) -> str:
    images = sorted(name for name, kind in types.items() if kind in IMAGE_TYPES)
    if topic is None:
        # An overlay recorded beside the camera's own image has no camera_info.
        calibrated = [name for name in images if _sibling(name, types)]
        chosen = next((names[0] for names in (images, calibrated) if len(names) == 1), None)
        if chosen is None:
            count = f"{len(images)} image topics" if images else "no image topic"
            raise SparsematchError(f"{path} has {count}; choose with --topic: {_listing(images or sorted(types))}")
        return chosen
    if topic not in types:
        raise SparsematchError(f"{path} has no topic '{topic}'; it has {_listing(sorted(types))}")
    if topic not in images:
        raise SparsematchError(f"topic '{topic}' is {types[topic]}, no image; image topics: {_listing(images)}")
    return topic


def _listing(topics: list[str]) -> str:
    return ", ".join(topics) if topics else "none"


def _sibling(topic: str, types: dict[str, str]) -> str | None:
    """Find the camera_info topic in the image topic's namespace, or above it for `image_raw/compressed`."""
    parts = topic.split("/")
    for depth in (1, 2):
        name = "/".join([*parts[:-depth], "camera_info"])
        if types.get(name) == INFO_TYPE:
            return name
    return None


def _attitude_topic(types: dict[str, str]) -> str | None:
    names = [name for name, kind in types.items() if kind == ATTITUDE_TYPE and name.endswith("/attitude")]
    return names[0] if len(names) == 1 else None


def _raw_messages(reader: AnyReader, topic: str | None) -> Iterator[tuple[Connection, int, bytes]]:
    connections = [connection for connection in reader.connections if connection.topic == topic]
    if connections:
        yield from reader.messages(connections)


def _deserialize(reader: AnyReader, connection: Connection, data: bytes) -> Any:
    try:
        return reader.deserialize(data, connection.msgtype)
    except AnyReaderError as error:
        raise BadFrameError(f"message of {len(data)} bytes is no {connection.msgtype}: {error}") from error


def _by_stamp(reader: AnyReader, topic: str | None) -> dict[int, Any]:
    messages = [_deserialize(reader, connection, data) for connection, _, data in _raw_messages(reader, topic)]
    return {stamp_ns(message.header.stamp): message for message in messages}


def _frame(index: int, message: Any, infos: dict[int, Any], attitudes: _Attitudes, depth: SampleDepth) -> Frame:
    stamp = stamp_ns(message.header.stamp)
    raw = image_samples(message)
    camera = _camera(stamp, infos)
    check_size(raw, camera)
    return Frame(index, stamp, camera=camera, q_NC_xyzw=attitudes.at(stamp), **depth.pixels(raw))


def _camera(stamp: int, infos: dict[int, Any]) -> CameraModel | None:
    """Take the CameraInfo of the same stamp, else the last before it, else the first."""
    if not infos:
        return None
    before = [other for other in infos if other <= stamp]
    return camera_from_info(infos[max(before) if before else min(infos)])


def _quaternion(message: Any) -> list[float] | None:
    q = message.quaternion
    values = [float(q.x), float(q.y), float(q.z), float(q.w)]
    return values if np.isfinite(values).all() and np.linalg.norm(values) > 0.5 else None
