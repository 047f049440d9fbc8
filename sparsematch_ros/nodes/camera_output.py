"""The topics of a camera on a spacecraft: image, intrinsics, attitude and, in simulated time, the clock."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import QuaternionStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.nodes.compat import CvBridge
from sparsematch_ros.nodes.conversions import quaternion_message, stamp_message
from sparsematch_ros.nodes.qos import overridable, sensor_data

FloatArray = NDArray[np.float64]

# Numbers that each distortion model has in a CameraInfo.
COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}


class CameraOutput:
    """Publishes `image_raw`, `camera_info`, `attitude` and, where asked, `/clock`."""

    def __init__(self, node: Node, camera_frame: str, inertial_frame: str, reliable: bool, clock: bool) -> None:
        """Make the publishers.

        Args:
            node: to publish with.
            camera_frame: frame_id of images and intrinsics.
            inertial_frame: frame_id of attitudes.
            reliable: whether delivery is reliable.
            clock: whether to publish `/clock`.

        """
        self._camera_frame, self._inertial_frame = camera_frame, inertial_frame
        self._bridge = CvBridge()
        options = {"qos_profile": sensor_data(reliable, depth=10), "qos_overriding_options": overridable()}
        self.images = node.create_publisher(Image, "image_raw", **options)
        self.infos = node.create_publisher(CameraInfo, "camera_info", **options)
        self.attitudes = node.create_publisher(QuaternionStamped, "attitude", **options)
        self._clock = node.create_publisher(Clock, "/clock", 10) if clock else None

    def publish_clock(self, now_ns: int) -> None:
        """Publish the time, where this is its source."""
        if self._clock is not None:
            self._clock.publish(Clock(clock=stamp_message(now_ns)))

    def publish(
        self,
        stamp_ns: int,
        image: NDArray[np.uint8] | NDArray[np.uint16],
        camera: CameraModel | None,
        q_NB_xyzw: FloatArray | None,
    ) -> None:
        """Publish what is known at one stamp, the image last.

        Args:
            stamp_ns: time of all of it [ns].
            image: `(H, W, 3)` RGB, uint8 or uint16.
            camera: intrinsics, or None.
            q_NB_xyzw: `(4,)` attitude of the body, or None.

        """
        header = Header(stamp=stamp_message(stamp_ns), frame_id=self._camera_frame)
        if q_NB_xyzw is not None:
            attitude_header = Header(stamp=header.stamp, frame_id=self._inertial_frame)
            self.attitudes.publish(QuaternionStamped(header=attitude_header, quaternion=quaternion_message(q_NB_xyzw)))
        if camera is not None:
            self.infos.publish(camera_info_message(header, camera))
        encoding = "rgb16" if image.dtype == np.uint16 else "rgb8"
        self.images.publish(self._bridge.cv2_to_imgmsg(np.ascontiguousarray(image), encoding, header))


def camera_info_message(header: Header, camera: CameraModel) -> CameraInfo:
    """Turn intrinsics into a message; ROI and binning are part of the model already."""
    message = CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model=camera.distortion_model
    )
    padded = np.zeros(max(COEFFICIENTS[camera.distortion_model], camera.distortion.size))
    padded[: camera.distortion.size] = camera.distortion
    message.d = padded.tolist()
    message.k = camera.matrix.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([camera.matrix, np.zeros((3, 1))]).ravel()
    return message
