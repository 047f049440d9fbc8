"""What a lock-step camera waits for after each image."""

from __future__ import annotations

import threading

from sparsematch_ros.media.images import stamp_ns
from sparsematch_ros.msg import AttitudeRequest, AttitudeRequestStatus, SpaceObjectArray


class Answers:
    """Collects the answers to images by stamp; filled by callbacks, waited for by the flight's thread.

    An image is answered when its objects and the status for them have come, and, where the status says that a request
    was sent, that request too.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._changed = threading.Condition()
        self._objects: set[int] = set()
        self._statuses: dict[int, bool] = {}
        self._requests: set[int] = set()

    def add_objects(self, message: SpaceObjectArray) -> None:
        """Note perception's answer."""
        with self._changed:
            self._objects.add(stamp_ns(message.header.stamp))
            self._changed.notify_all()

    def add_status(self, message: AttitudeRequestStatus) -> None:
        """Note attitude_request's answer."""
        with self._changed:
            self._statuses[stamp_ns(message.header.stamp)] = message.decision == AttitudeRequestStatus.SENT
            self._changed.notify_all()

    def add_request(self, message: AttitudeRequest) -> None:
        """Note a request."""
        with self._changed:
            self._requests.add(stamp_ns(message.header.stamp))
            self._changed.notify_all()

    def wait(self, image_ns: int, limit_s: float) -> bool:
        """Wait, in steady time, for the answers to an image; tell whether they came."""
        with self._changed:
            return self._changed.wait_for(lambda: self._answered(image_ns), limit_s)

    def _answered(self, image_ns: int) -> bool:
        if image_ns not in self._objects or image_ns not in self._statuses:
            return False
        return not self._statuses[image_ns] or image_ns in self._requests
