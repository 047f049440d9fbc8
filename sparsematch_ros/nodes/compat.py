"""`cv_bridge` and `message_filters`, or stand-ins with the same calls where the distribution has neither (wheels).

The stand-ins offer what the nodes use, no more. Every other module imports these names from here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sparsematch_ros.media.images import image_to_rgb

# What the stand-in converts to.
FROM_RGB = {"rgb8": None, "bgr8": cv2.COLOR_RGB2BGR, "mono8": cv2.COLOR_RGB2GRAY}

try:
    from cv_bridge import CvBridge
except ImportError:

    class CvBridge:  # type: ignore[no-redef]
        """Image messages to arrays and back, by rosbags-image."""

        def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "rgb8") -> NDArray[np.uint8]:
            """Turn an image message into `(H, W, 3)` or `(H, W)` uint8 of the encoding wanted.

            Raises:
                BadFrameError: where the message does not hold an image that is known.
                ValueError: where the encoding wanted cannot be made.

            """
            if desired_encoding not in FROM_RGB:
                raise ValueError(f"desired_encoding '{desired_encoding}' is none of {', '.join(FROM_RGB)}")
            image, conversion = image_to_rgb(img_msg), FROM_RGB[desired_encoding]
            return image if conversion is None else np.asarray(cv2.cvtColor(image, conversion), dtype=np.uint8)

        def compressed_imgmsg_to_cv2(
            self, cmprs_img_msg: CompressedImage, desired_encoding: str = "rgb8"
        ) -> NDArray[np.uint8]:
            """Do the same with a compressed image."""
            return self.imgmsg_to_cv2(cmprs_img_msg, desired_encoding)

        def cv2_to_imgmsg(self, cvim: NDArray[np.uint8], encoding: str = "rgb8", header: Header | None = None) -> Image:
            """Turn a contiguous uint8 array into an image message."""
            message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
            if header is not None:
                message.header = header
            message.step = cvim.nbytes // cvim.shape[0]
            # An array.array takes bytes at once; a list would be checked number by number.
            message.data.frombytes(np.ascontiguousarray(cvim).tobytes())
            return message


try:
    from message_filters import Cache, Subscriber
except ImportError:

    class Subscriber:  # type: ignore[no-redef]
        """A subscription that passes its messages on to whoever registers."""

        def __init__(self, node: Node, msg_type: type, topic: str, **kwargs: Any) -> None:
            """Subscribe with the arguments of `Node.create_subscription`; `qos_profile` is 10 where it is not given."""
            self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
            kwargs.setdefault("qos_profile", 10)
            self.sub = node.create_subscription(msg_type, topic, self.callback, **kwargs)

        def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:
            """Have `cb` called with every message and `args`; give its number."""
            self._callbacks.append((cb, args))
            return len(self._callbacks) - 1

        def callback(self, msg: Any) -> None:
            """Pass a message on."""
            for callback, args in self._callbacks:
                callback(msg, *args)

    class Cache:  # type: ignore[no-redef]
        """The newest messages of a filter, found by their header's stamp."""

        def __init__(self, f: Subscriber, cache_size: int = 1) -> None:
            """Keep the last `cache_size` messages of `f`."""
            self._entries: deque[tuple[Time, Any]] = deque(maxlen=cache_size)
            f.registerCallback(self.add)

        def add(self, msg: Any) -> None:
            """Keep a message."""
            self._entries.append((Time.from_msg(msg.header.stamp), msg))

        def getInterval(self, from_stamp: Time, to_stamp: Time) -> list[Any]:
            """List what is stamped from one time to another, both included, in the order of arrival."""
            # A copy first, because another thread may add meanwhile.
            return [msg for stamp, msg in list(self._entries) if from_stamp <= stamp <= to_stamp]


__all__ = ["Cache", "CvBridge", "Subscriber"]
