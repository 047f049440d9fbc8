"""Records topics as they are sent into an mcap bag that carries its message definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from rosgraph_msgs.msg import Clock

from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.nodes.qos import sensor_data

PACKAGE = "sparsematch_ros"
BAG_VERSION = 9


def type_name(kind: type) -> str:
    """Give a message class's ROS name, such as `std_msgs/msg/Header`."""
    package, folder = kind.__module__.split(".")[:2]
    return f"{package}/{folder}/{kind.__name__}"


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Give Jazzy's message definitions and this package's, as installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    folder = Path(get_package_share_directory(PACKAGE)) / "msg"
    types: dict[str, Any] = {}
    for path in sorted(folder.glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{PACKAGE}/msg/{path.stem}"))
    store.register(types)
    return store


class Recorder:
    """Writes the messages of a graph, untouched, with `/clock` as the time of recording; a context manager.

    Attributes:
        counts: messages by topic.

    """

    def __init__(self, node: Node, bag: Path, topics: dict[str, type], reliable: bool) -> None:
        """Subscribe, and open the bag.

        Args:
            node: to subscribe with.
            bag: folder to make.
            topics: message class by topic.
            reliable: whether every publisher offers reliable delivery.

        """
        self.counts: Counter[str] = Counter(dict.fromkeys(topics, 0))
        self._node = node
        self._now_ns = 0
        self._listeners: dict[str, Callable[[Any], None]] = {}
        self._writer = Writer(bag, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        for topic, kind in topics.items():
            self._subscribe(topic, kind, reliable)

    def _subscribe(self, topic: str, kind: type, reliable: bool) -> None:
        connection = self._writer.add_connection(topic, type_name(kind), typestore=typestore())

        def record(data: bytes) -> None:
            if kind is Clock:
                self._now_ns = max(self._now_ns, stamp_ns(deserialize_message(data, Clock).clock))
            self.counts[topic] += 1
            self._writer.write(connection, self._now_ns, data)
            if topic in self._listeners:
                self._listeners[topic](deserialize_message(data, kind))

        self._node.create_subscription(kind, topic, record, sensor_data(reliable, depth=100), raw=True)

    def listen(self, topic: str, callback: Callable[[Any], None]) -> None:
        """Have every message of a recorded topic handed on as well."""
        self._listeners[topic] = callback

    def __enter__(self) -> Recorder:
        """Give the recorder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, so that it can be read whatever happened."""
        self._writer.close()
