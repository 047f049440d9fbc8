"""ROS image and CameraInfo messages as arrays and camera models, checked before they are used.

Works on every object with the fields of `sensor_msgs/Image`, `CompressedImage` and `CameraInfo`: those of rclpy and
those that rosbags reads. rosbags-image converts encodings; it neither checks sizes nor knows padded rows, so both are
done here first.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.depth import scale_to_8_bit

BAYER = ("rggb", "bggr", "gbrg", "grbg")
# OpenCV names a pattern by the second row's second and third pixel.
BAYER_TO_RGB = {
    "rggb": cv2.COLOR_BayerBG2RGB, "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB, "grbg": cv2.COLOR_BayerGB2RGB,
}  # fmt: skip
# Bytes a pixel of every encoding that is taken.
PIXEL_BYTES = {
    "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2, "rgb16": 6, "bgr16": 6,
    **{f"bayer_{pattern}8": 1 for pattern in BAYER},
    **{f"bayer_{pattern}16": 2 for pattern in BAYER},
}  # fmt: skip
# OpenCV's names for the same, as cv_bridge reads them.
ALIASES = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16"}


def stamp_ns(stamp: Any) -> int:
    """Turn a `builtin_interfaces/Time` into nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """Turn an Image or CompressedImage message into `(H, W, 3)` uint8 RGB.

    16 bit is scaled by its full range, as cv_bridge does. The result never shares memory with the message.

    Raises:
        BadFrameError: where the data cannot be such an image.

    """
    raw = image_samples(message)
    return scale_to_8_bit(raw, 16) if raw.dtype == np.uint16 else np.asarray(raw, dtype=np.uint8)


def image_samples(message: Any) -> NDArray[Any]:
    """Turn an Image or CompressedImage message into `(H, W, 3)` RGB, uint8 or uint16 as its samples are.

    The result never shares memory with the message.

    Raises:
        BadFrameError: where the data cannot be such an image.

    """
    return _compressed_to_rgb(message) if hasattr(message, "format") else _raw_to_rgb(message)


def is_deep(message: Any) -> bool:
    """Test whether a message can hold more than 8 bit a sample; JPEG cannot."""
    if hasattr(message, "format"):
        return "jpeg" not in message.format and "jpg" not in message.format
    return bool(ALIASES.get(message.encoding, message.encoding).endswith("16"))


def camera_from_info(info: Any) -> CameraModel | None:
    """Turn a CameraInfo message into the model of the image as delivered, ROI and binning included.

    Returns:
        The model, or None where the matrix K is zero, which means uncalibrated.

    Raises:
        BadFrameError: where the values cannot belong to a camera.

    """
    matrix = np.array(_field(info, "k"), dtype=np.float64).reshape(3, 3)
    if not matrix.any():
        return None
    distortion = np.array(_field(info, "d"), dtype=np.float64)
    roi = info.roi
    try:
        full = CameraModel(int(info.width), int(info.height), matrix, distortion, info.distortion_model or "plumb_bob")
        binning = (int(info.binning_x), int(info.binning_y))
        return full.windowed(int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height), binning)
    except SparsematchError as error:
        raise BadFrameError(f"CameraInfo: {error}") from error


def check_size(image: NDArray[np.uint8], camera: CameraModel | None) -> None:
    """Refuse an image whose size is not the camera's.

    Raises:
        BadFrameError: naming both sizes.

    """
    height, width = image.shape[:2]
    if camera is not None and (camera.width, camera.height) != (width, height):
        raise BadFrameError(
            f"image is {width}x{height}, but its CameraInfo (ROI and binning applied) is for "
            f"{camera.width}x{camera.height}"
        )


def _raw_to_rgb(message: Any) -> NDArray[Any]:
    encoding = ALIASES.get(message.encoding, message.encoding)
    if encoding not in PIXEL_BYTES:
        raise BadFrameError(f"image encoding '{message.encoding}' is not supported; {', '.join(PIXEL_BYTES)} are")
    packed = _packed_rows(message, int(message.width) * PIXEL_BYTES[encoding])
    if encoding.endswith("16"):
        shape = (int(message.height), int(message.width), PIXEL_BYTES[encoding] // 2)
        return _deep_to_rgb(packed.view(">u2" if message.is_bigendian else "<u2").reshape(shape), encoding)
    plain = SimpleNamespace(
        height=int(message.height), width=int(message.width), encoding=encoding, is_bigendian=0, data=packed
    )
    # Here, so that folders of images are read where rosbags is not installed.
    from rosbags.image.image import image_to_cvimage

    return np.array(image_to_cvimage(cast(Any, plain), "rgb8"), dtype=np.uint8)


def _packed_rows(message: Any, row_bytes: int) -> NDArray[np.uint8]:
    """Check the data's length and cut the padding off its rows: `(height * row_bytes,)`."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    if height == 0 or width == 0:
        raise BadFrameError(f"image is {width}x{height}: both sides must be positive")
    if step < row_bytes:
        raise BadFrameError(f"image step is {step} bytes but {width} px of {message.encoding} need {row_bytes}")
    if data.size < step * height:
        raise BadFrameError(
            f"image claims {width}x{height} {message.encoding}, that is {step * height} bytes, but holds {data.size}"
        )
    return np.ascontiguousarray(data[: step * height].reshape(height, step)[:, :row_bytes]).reshape(-1)


def _deep_to_rgb(packed: NDArray[Any], encoding: str) -> NDArray[np.uint16]:
    """Turn `(H, W, C)` samples of 16 bit into `(H, W, 3)` RGB."""
    native = packed.astype(np.uint16)
    if encoding.startswith("bayer"):
        native = cv2.cvtColor(native[..., 0], BAYER_TO_RGB[encoding.removeprefix("bayer_").removesuffix("16")])
    elif encoding == "mono16":
        native = np.repeat(native, 3, axis=2)
    elif encoding == "bgr16":
        native = native[..., ::-1]
    return np.ascontiguousarray(native, dtype=np.uint16)


def _compressed_to_rgb(message: Any) -> NDArray[Any]:
    data = np.frombuffer(message.data, dtype=np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error as error:
        raise BadFrameError(f"compressed image ({message.format}, {data.size} bytes): {error.err}") from error
    if image is None:
        raise BadFrameError(f"compressed image ({message.format}, {data.size} bytes) cannot be decoded")
    if image.dtype not in (np.uint8, np.uint16):
        raise BadFrameError(f"compressed image ({message.format}) holds {image.dtype} samples, expected 8 or 16 bit")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _field(info: Any, name: str) -> Any:
    """Read K or D: upper case in ROS 1 bags."""
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())
