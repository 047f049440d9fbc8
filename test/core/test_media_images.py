"""ROS image and CameraInfo messages: every encoding, padding, and what must be refused."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.media.images import camera_from_info, check_size, image_to_rgb

RED, GREEN, BLUE = (200, 30, 10), (20, 180, 40), (5, 60, 220)


def picture() -> np.ndarray:
    """Three vertical bands, 24x36, so that a swapped channel or a sheared row shows."""
    image = np.zeros((24, 36, 3), np.uint8)
    image[:, :12], image[:, 12:24], image[:, 24:] = RED, GREEN, BLUE
    return image


def message(data: np.ndarray, encoding: str, padding: int = 0, bigendian: int = 0) -> SimpleNamespace:
    rows = np.ascontiguousarray(data).reshape(data.shape[0], -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    # rclpy hands the data over as an array('B').
    return SimpleNamespace(
        height=data.shape[0],
        width=data.shape[1],
        encoding=encoding,
        is_bigendian=bigendian,
        step=rows.shape[1],
        data=array("B", rows.tobytes()),
    )


def with_alpha(image: np.ndarray) -> np.ndarray:
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("rgb8", picture()),
        ("bgr8", picture()[..., ::-1]),
        ("8UC3", picture()[..., ::-1]),
        ("rgba8", with_alpha(picture())),
        ("bgra8", with_alpha(picture()[..., ::-1])),
        ("rgb16", picture().astype(np.uint16) * 257),
    ],
)
def test_colour_encodings_give_the_same_picture(encoding, data, padding):
    np.testing.assert_array_equal(image_to_rgb(message(data, encoding, padding)), picture())


@pytest.mark.parametrize("bigendian", [0, 1])
def test_grey_encodings(bigendian):
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(image_to_rgb(message(grey, "mono8", bigendian=bigendian)), expected)
    deep = (grey.astype(np.uint16) * 257).astype(">u2" if bigendian else "<u2")
    np.testing.assert_array_equal(image_to_rgb(message(deep, "mono16", bigendian=bigendian)), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colours_back(pattern, bits):
    image = picture()
    mosaic = np.zeros(image.shape[:2], np.uint8)
    for position, letter in enumerate(pattern):
        row, column = divmod(position, 2)
        mosaic[row::2, column::2] = image[row::2, column::2, "rgb".index(letter)]
    data = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    rgb = image_to_rgb(message(data, f"bayer_{pattern}{bits}"))
    # Inside a band, away from its edges, interpolation is exact.
    for centre, colour in ((6, RED), (18, GREEN), (30, BLUE)):
        np.testing.assert_allclose(rgb[4:20, centre - 2 : centre + 2].astype(int), np.broadcast_to(colour, (16, 4, 3)))


def test_compressed_images():
    data = cv2.imencode(".png", picture()[..., ::-1])[1]
    np.testing.assert_array_equal(image_to_rgb(SimpleNamespace(format="png", data=data)), picture())
    with pytest.raises(BadFrameError, match=r"jpeg, 10 bytes.*cannot be decoded"):
        image_to_rgb(SimpleNamespace(format="jpeg", data=np.arange(10, dtype=np.uint8)))
    with pytest.raises(BadFrameError, match="0 bytes"):
        image_to_rgb(SimpleNamespace(format="jpeg", data=b""))


def test_the_result_does_not_share_memory_with_the_message():
    source = message(picture(), "rgb8")
    rgb = image_to_rgb(source)
    source.data[0] ^= 255
    np.testing.assert_array_equal(rgb, picture())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"\0" * 30}, "claims 36x24 rgb8, that is 2592 bytes, but holds 30"),
        ({"step": 50}, "step is 50 bytes but 36 px of rgb8 need 108"),
        ({"encoding": "32FC1"}, "encoding '32FC1' is not supported; rgb8"),
        ({"encoding": ""}, "encoding '' is not supported"),
        ({"height": 0}, "36x0"),
    ],
)
def test_a_malformed_image_is_refused_with_the_reason(change, words):
    broken = message(picture(), "rgb8")
    vars(broken).update(change)
    with pytest.raises(BadFrameError, match=words):
        image_to_rgb(broken)


def info(**change) -> SimpleNamespace:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    values = {
        "width": 640, "height": 480, "distortion_model": "plumb_bob", "binning_x": 0, "binning_y": 0, "roi": roi,
        "d": array("d", [0.1, -0.2, 0.001, 0.002, 0.0]), "k": np.array([500.0, 0, 319.5, 0, 510.0, 239.5, 0, 0, 1]),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **change})


def test_camera_info():
    camera = camera_from_info(info())
    assert (camera.width, camera.height) == (640, 480)
    np.testing.assert_array_equal(camera.matrix, [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    np.testing.assert_array_equal(camera.distortion, [0.1, -0.2, 0.001, 0.002, 0.0])
    assert camera_from_info(info(k=np.zeros(9), width=0, height=0)) is None


def test_camera_info_with_roi_and_binning_keeps_bearings():
    """A 2x2 binned pixel's centre lies between its four pixels; the direction must be the full camera's there."""
    roi = SimpleNamespace(x_offset=100, y_offset=60, width=200, height=120)
    small = camera_from_info(info(roi=roi, binning_x=2, binning_y=2))
    assert (small.width, small.height) == (100, 60)
    full = camera_from_info(info())
    pixel = np.array([[10.0, 20.0]])
    in_full = np.array([[100 + 2 * 10 + 0.5, 60 + 2 * 20 + 0.5]])
    np.testing.assert_allclose(small.bearings(pixel), full.bearings(in_full), atol=1e-9)


def test_a_wrong_camera_info_is_refused():
    with pytest.raises(BadFrameError, match="distortion model 'fov' unknown"):
        camera_from_info(info(distortion_model="fov"))
    with pytest.raises(BadFrameError, match=r"image is 36x24, but its CameraInfo .* is for 640x480"):
        check_size(picture(), camera_from_info(info()))
    check_size(picture(), None)
