"""Folders, videos and bags as sources; what cannot be used is named and counted."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.calibration import read_camera, write_camera
from sparsematch_ros.media.sources import RefusedFrame, open_source
from sparsematch_ros.media.video import OverlayVideo

SHARED = Path(__file__).parents[3] / "shared" / "data"
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types


def picture(value: int) -> np.ndarray:
    return np.full((32, 48, 3), (value, 0, 255 - value), np.uint8)


def write_image(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def frames_of(source) -> list[Frame]:
    items = list(source)
    assert all(isinstance(item, Frame) for item in items)
    return items


class TestFolder:
    def test_names_are_sorted_as_numbers_and_stamped_at_the_rate(self, tmp_path):
        for number in (10, 9, 2):
            write_image(tmp_path / f"frame_{number}.png", picture(number))
        source = open_source(tmp_path, rate_hz=4.0)
        frames = frames_of(source)
        assert [frame.image[0, 0, 0] for frame in frames] == [2, 9, 10]
        assert [frame.stamp_ns for frame in frames] == [0, 250_000_000, 500_000_000]
        assert [frame.index for frame in frames] == [0, 1, 2] and source.length == 3
        assert source.notes == ["stamps from --rate-hz 4 Hz"]
        assert open_source(tmp_path).notes == ["stamps from the default rate of 10 Hz"]

    @pytest.mark.parametrize("inside", [True, False])
    def test_side_files_give_stamps_attitude_and_camera(self, tmp_path, inside):
        write_image(tmp_path / "frames" / "a.png", picture(1))
        write_image(tmp_path / "frames" / "b.png", picture(2))
        write_image(tmp_path / "frames" / "unlisted.png", picture(3))
        side = tmp_path / "frames" if inside else tmp_path
        rows = [
            {"frame": 7, "file": "b.png", "stamp_s": 100.5, "q_NC_xyzw": [0, 0, 0.6, 0.8]},
            {"frame": 8, "file": "a.png", "stamp_s": 100.75, "q_NC_xyzw": None},
        ]
        (side / "frames.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        write_camera(side / "camera.yaml", CameraModel.from_fov(48, 32, 20.0))
        for path in (tmp_path, tmp_path / "frames"):
            source = open_source(path)
            first, second = frames_of(source)
            assert (first.index, first.stamp_ns, first.image[0, 0, 0]) == (7, 100_500_000_000, 2)
            np.testing.assert_array_equal(first.q_NC_xyzw, [0, 0, 0.6, 0.8])
            assert second.q_NC_xyzw is None and second.camera.width == 48
            assert "1 images that frames.jsonl does not list were left out" in source.notes

    def test_unreadable_frames_are_named_and_the_rest_goes_on(self, tmp_path):
        for number in range(4):
            write_image(tmp_path / f"{number}.jpg", picture(number))
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        write_image(tmp_path / "1.jpg", noise)
        whole = (tmp_path / "1.jpg").read_bytes()
        (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "2.jpg").write_bytes(b"")
        items = list(open_source(tmp_path))
        assert [type(item) for item in items] == [Frame, RefusedFrame, RefusedFrame, Frame]
        assert items[1].name == "1.jpg" and "cut short" in items[1].reason
        assert items[2].reason == "not a readable image (0 bytes)"
        # Time goes on over a lost frame.
        assert items[3].stamp_ns == 300_000_000 and items[3].index == 3

    def test_a_listed_file_that_is_missing_and_a_wrong_size_are_refused(self, tmp_path):
        write_image(tmp_path / "a.png", picture(1))
        (tmp_path / "frames.jsonl").write_text(
            '{"frame": 0, "file": "gone.png", "stamp_s": 0}\n{"frame": 1, "file": "a.png", "stamp_s": 1}\n'
        )
        write_camera(tmp_path / "camera.yaml", CameraModel.from_fov(64, 48, 20.0))
        gone, wrong = list(open_source(tmp_path))
        assert gone.name == "gone.png" and "No such file" in gone.reason
        assert "48x32" in wrong.reason and "64x48" in wrong.reason

    @pytest.mark.parametrize(("bits", "largest"), [(12, 4095), (16, 65535)])
    def test_16_bit_images_are_scaled_by_the_depth_of_the_sensor(self, tmp_path, bits, largest):
        ramp = np.linspace(0, largest, 48).astype(np.uint16)
        for number, divisor in ((0, 8), (1, 1)):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.tile(ramp // divisor, (32, 1)))
        source = open_source(tmp_path)
        dark, bright = frames_of(source)
        # The same scale for both, though the first alone would fit into fewer bits.
        assert bright.image.max() == 255 and abs(int(dark.image.max()) - 255 / 8) <= 1
        assert f"16 bit images hold samples of {bits} bit (found)" in source.notes

    def test_nothing_to_read_is_an_error(self, tmp_path):
        with pytest.raises(SparsematchError, match="holds no image"):
            open_source(tmp_path)
        with pytest.raises(SparsematchError, match="does not exist"):
            open_source(tmp_path / "nowhere")
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(SparsematchError, match="is no source"):
            open_source(tmp_path / "notes.txt")
        write_image(tmp_path / "a.png", picture(1))
        with pytest.raises(SparsematchError, match="--topic /camera needs a rosbag2"):
            open_source(tmp_path, topic="/camera")
        (tmp_path / "frames.jsonl").write_text('{"frame": 0}\n')
        with pytest.raises(SparsematchError, match=r"line 1: KeyError\('stamp_s'\)"):
            open_source(tmp_path)


class TestVideo:
    def test_frames_and_stamps_come_back(self, tmp_path):
        with OverlayVideo(tmp_path / "a.mp4") as video:
            for number in range(7):
                video.write(number * 250_000_000, np.full((48, 64, 3), 30 * number, np.uint8))
        source = open_source(tmp_path / "a.mp4")
        frames = frames_of(source)
        assert source.length == len(frames) == 7 and source.notes == ["stamps from the video's rate of 4 Hz"]
        assert [frame.stamp_ns for frame in frames] == [number * 250_000_000 for number in range(7)]
        for number, frame in enumerate(frames):
            assert abs(float(frame.image.mean()) - 30 * number) < 4
        assert frames_of(open_source(tmp_path / "a.mp4", rate_hz=8.0))[2].stamp_ns == 250_000_000

    def test_what_is_no_video_is_refused(self, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"nothing")
        with pytest.raises(SparsematchError, match="not a video"):
            open_source(tmp_path / "a.mp4")

    def test_odd_sides_and_a_single_frame(self, tmp_path):
        with OverlayVideo(tmp_path / "a.mp4") as video:
            video.write(0, np.zeros((33, 47, 3), np.uint8))
        (frame,) = frames_of(open_source(tmp_path / "a.mp4"))
        assert frame.size == (32, 46)


class BagWriter:
    """Writes the messages that the tests need."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.connections: dict[str, object] = {}

    def write(self, topic: str, kind: str, stamp_ns: int, **fields) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=STORE)
        header = self._make("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id="camera")
        data = STORE.serialize_cdr(self._make(kind, header=header, **fields), kind)
        self.writer.write(self.connections[topic], stamp_ns + 5_000_000, data)

    def image(self, topic: str, stamp_ns: int, rgb: np.ndarray) -> None:
        height, width = rgb.shape[:2]
        self.write(topic, "sensor_msgs/msg/Image", stamp_ns, height=height, width=width, encoding="rgb8",
                   is_bigendian=0, step=3 * width, data=rgb.reshape(-1))  # fmt: skip

    def info(self, topic: str, stamp_ns: int, width: int, height: int) -> None:
        sides = dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0)
        roi = self._make("sensor_msgs/msg/RegionOfInterest", do_rectify=False, **sides)
        matrix = np.array([60.0, 0, 23.5, 0, 60.0, 15.5, 0, 0, 1])
        self.write(topic, "sensor_msgs/msg/CameraInfo", stamp_ns, height=height, width=width, roi=roi, k=matrix,
                   distortion_model="plumb_bob", d=np.zeros(5), r=np.eye(3).reshape(-1), p=np.zeros(12), binning_x=0,
                   binning_y=0)  # fmt: skip

    def attitude(self, topic: str, stamp_ns: int, q_xyzw: np.ndarray) -> None:
        quaternion = self._make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, q_xyzw))))
        self.write(topic, "geometry_msgs/msg/QuaternionStamped", stamp_ns, quaternion=quaternion)

    def _time(self, stamp_ns: int) -> object:
        return self._make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)

    @staticmethod
    def _make(kind: str, **fields) -> object:
        return TYPES[kind](**fields)


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def bag(request, tmp_path):
    """Give a folder for a bag and a writer on it."""
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=request.param)
    writer.open()
    return tmp_path / "bag", BagWriter(writer), writer


def half_turn_about_z(share: float) -> Rotation:
    return Rotation.from_rotvec([0, 0, np.pi / 2 * share])


class TestBag:
    def test_images_with_header_stamps_intrinsics_and_attitude(self, bag):
        path, write, writer = bag
        start = 1_700_000_000_123_456_789
        for number in range(3):
            stamp = start + number * 100_000_000
            write.image("/cam/image_raw", stamp, picture(number))
            write.image("/overlay", stamp, picture(99))
            write.info("/cam/camera_info", stamp, 48, 32)
        write.attitude("/sat/attitude", start, half_turn_about_z(0).as_quat())
        write.attitude("/sat/attitude", start + 200_000_000, half_turn_about_z(1).as_quat())
        writer.close()
        q_BC = Rotation.from_rotvec([np.pi / 2, 0, 0])
        source = open_source(path, camera_to_body_xyzw=q_BC.as_quat())
        frames = frames_of(source)
        assert source.length == 3 and "/cam/image_raw" in source.notes[0]
        assert [frame.stamp_ns - start for frame in frames] == [0, 100_000_000, 200_000_000]
        assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 2]
        assert frames[0].camera.matrix[0, 0] == 60
        for frame, share in zip(frames, (0, 0.5, 1)):
            expected = half_turn_about_z(share) * q_BC
            assert (Rotation.from_quat(frame.q_NC_xyzw).inv() * expected).magnitude() < 1e-9

    def test_a_bag_file_alone_is_enough(self, bag):
        path, write, writer = bag
        write.image("/image", 5, picture(1))
        writer.close()
        (file,) = [entry for entry in path.iterdir() if entry.suffix in (".mcap", ".db3")]
        moved = file.rename(path.parent / file.name)
        (frame,) = frames_of(open_source(moved))
        assert frame.stamp_ns == 5 and frame.camera is None and frame.q_NC_xyzw is None

    def test_topics_are_listed_where_none_or_a_wrong_one_is_chosen(self, bag):
        path, write, writer = bag
        write.image("/left/image", 5, picture(1))
        write.image("/right/image", 5, picture(2))
        write.attitude("/attitude", 5, np.array([0, 0, 0, 1.0]))
        writer.close()
        with pytest.raises(SparsematchError, match="2 image topics; choose with --topic: /left/image, /right/image"):
            open_source(path)
        with pytest.raises(SparsematchError, match="no topic '/up'; it has /attitude, /left/image, /right/image"):
            open_source(path, topic="/up")
        with pytest.raises(SparsematchError, match="'/attitude' is geometry_msgs/msg/QuaternionStamped, no image"):
            open_source(path, topic="/attitude")
        assert frames_of(open_source(path, topic="/right/image"))[0].image[0, 0, 0] == 2

    def test_another_size_than_camera_info_is_refused(self, bag):
        path, write, writer = bag
        write.image("/cam/image_raw", 5, picture(1))
        write.info("/cam/camera_info", 5, 640, 480)
        writer.close()
        (refused,) = list(open_source(path))
        assert isinstance(refused, RefusedFrame) and "48x32" in refused.reason and "640x480" in refused.reason

    @pytest.mark.parametrize("suffix", [".mcap", ".db3"])
    def test_what_is_no_bag_is_an_error(self, tmp_path, suffix):
        file = tmp_path / f"a{suffix}"
        file.write_bytes(b"nothing of the kind" * 10)
        with pytest.raises(SparsematchError, match="not a readable rosbag2 recording"):
            open_source(file)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
@pytest.mark.parametrize("name", ["test_bag_mcap", "test_bag_sqlite3"])
def test_malformed_images_are_refused_one_by_one(name):
    path = SHARED / "bags" / "malformed_images" / name
    items = list(open_source(path, topic="/test/sensor_msgs/image"))
    assert len(items) == 2
    for item in items:
        assert isinstance(item, RefusedFrame)
        assert item.reason == "image claims 640x480 rgb8, that is 921600 bytes, but holds 30"
    for item in open_source(path, topic="/test/sensor_msgs/compressed_image"):
        assert isinstance(item, RefusedFrame) and "jpeg, 10 bytes" in item.reason
    with pytest.raises(SparsematchError, match="--topic"):
        open_source(path)


def test_camera_file_round_trip_and_errors(tmp_path):
    matrix = np.array([[500.0, 0, 319.5], [0, 510.0, 239.5], [0, 0, 1]])
    camera = CameraModel(640, 480, matrix, np.array([0.1, -0.02, 0.0, 0.0]), "equidistant")
    write_camera(tmp_path / "camera.yaml", camera)
    again = read_camera(tmp_path / "camera.yaml")
    assert (again.width, again.height, again.distortion_model) == (640, 480, "equidistant")
    np.testing.assert_array_equal(again.matrix, matrix)
    np.testing.assert_array_equal(again.distortion, camera.distortion)
    for text, words in (
        ("image_width: 640\n", "key 'camera_matrix' is missing"),
        ("- 1\n", "not a camera file"),
        ((tmp_path / "camera.yaml").read_text().replace("500.0", "-1.0"), "focal length"),
    ):
        (tmp_path / "wrong.yaml").write_text(text)
        with pytest.raises(SparsematchError, match=words):
            read_camera(tmp_path / "wrong.yaml")
