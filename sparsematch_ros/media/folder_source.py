"""A folder of images, with `frames.jsonl` and `camera.yaml` where they lie inside or beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS, FloatArray, Frame
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.calibration import read_camera
from sparsematch_ros.media.depth import SampleDepth
from sparsematch_ros.media.images import check_size
from sparsematch_ros.media.sources import DEFAULT_RATE_HZ, RefusedFrame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Images whose samples tell the depth of all: one scale for all, so that nothing flickers.
DEPTH_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class ImageFile:
    """One image that a folder offers.

    Attributes:
        index: its frame number.
        file: where it lies.
        stamp_ns: its time [ns].
        q_NC_xyzw: `(4,)` the camera's attitude, or None.

    """

    index: int
    file: Path
    stamp_ns: int
    q_NC_xyzw: FloatArray | None = None


class FolderSource:
    """Images of a folder in the order of `frames.jsonl`, else of their names (2 before 10).

    Attributes:
        name: the folder.
        length: number of images.
        notes: where the stamps come from, the depth of 16 bit images, and files left out.
        frames_folder: where the images lie.
        camera: intrinsics from `camera.yaml`, or None.
        entries: the images in order.

    """

    def __init__(self, folder: Path, rate_hz: float | None = None, bits: int = 0) -> None:
        """List the images of `folder`, or of `frames/` in it.

        Args:
            folder: where the images lie.
            rate_hz: frame rate where no `frames.jsonl` gives stamps [Hz].
            bits: depth of the samples in 16 bit images, 0: found.

        Raises:
            SparsematchError: where there is no image, or a side file is wrong.

        """
        self.name = str(folder)
        self.notes: list[str] = []
        self.frames_folder = folder / "frames" if (folder / "frames").is_dir() else folder
        self.entries = self._list_entries(rate_hz)
        self.length: int | None = len(self.entries)
        camera_file = self._side_file("camera.yaml")
        self.camera: CameraModel | None = read_camera(camera_file) if camera_file else None
        self._depth = SampleDepth(bits)

    def __iter__(self) -> Iterator[Frame | RefusedFrame]:
        """Read the images one by one."""
        for entry in self.entries:
            try:
                frame = self.read(entry)
            except BadFrameError as error:
                yield RefusedFrame(entry.index, entry.file.name, str(error))
            else:
                yield frame

    def read(self, entry: ImageFile) -> Frame:
        """Read one of the entries.

        Raises:
            BadFrameError: where its image cannot be used.

        """
        raw = read_image(entry.file)
        check_size(raw, self.camera)
        if raw.dtype == np.uint16 and not self._depth.told:
            self._find_depth(raw)
        pixels = self._depth.pixels(raw)
        return Frame(entry.index, entry.stamp_ns, camera=self.camera, q_NC_xyzw=entry.q_NC_xyzw, **pixels)

    def _side_file(self, name: str) -> Path | None:
        candidates = (self.frames_folder / name, self.frames_folder.parent / name)
        return next((file for file in candidates if file.is_file()), None)

    def _list_entries(self, rate_hz: float | None) -> list[ImageFile]:
        files = [file for file in self.frames_folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise SparsematchError(f"{self.frames_folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        listing = self._side_file("frames.jsonl")
        if listing is not None:
            return self._listed(listing, files, rate_hz)
        rate = rate_hz or DEFAULT_RATE_HZ
        self.notes.append(f"stamps from {'--rate-hz' if rate_hz else 'the default rate of'} {rate:g} Hz")
        ordered = sorted(files, key=_natural_order)
        return [ImageFile(index, file, round(index * NANOSECONDS / rate)) for index, file in enumerate(ordered)]

    def _listed(self, listing: Path, files: list[Path], rate_hz: float | None) -> list[ImageFile]:
        entries = [_entry(listing, number, line, self.frames_folder) for number, line in _lines(listing)]
        left_out = len({file.name for file in files} - {entry.file.name for entry in entries})
        self.notes.append(f"stamps from {listing.name}" + (", --rate-hz not used" if rate_hz else ""))
        if left_out:
            self.notes.append(f"{left_out} images that {listing.name} does not list were left out")
        return entries

    def _find_depth(self, first: NDArray[Any]) -> None:
        """Learn the depth from some images before the first is used."""
        self._depth.add(first)
        for row in np.unique(np.linspace(0, len(self.entries) - 1, DEPTH_SAMPLES).astype(int)):
            image = cv2.imread(str(self.entries[row].file), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
            if image is not None:
                self._depth.add(image)
        self.notes.append(self._depth.told)


def read_image(file: Path) -> NDArray[Any]:
    """Read an image file as `(H, W, 3)` RGB in its own depth.

    Raises:
        BadFrameError: where the file is missing, cut short or no image.

    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadFrameError(f"cannot be read: {error.strerror}") from error
    # libjpeg fills a cut file up with grey and only warns.
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise BadFrameError(f"JPEG is cut short after {len(data)} bytes")
    image = _decode(data)
    if image is None:
        raise BadFrameError(f"not a readable image ({len(data)} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode(data: bytes) -> NDArray[Any] | None:
    if not data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def _natural_order(file: Path) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"(\d+)", file.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts], file.name


def _lines(listing: Path) -> list[tuple[int, str]]:
    text = listing.read_text(encoding="utf-8")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise SparsematchError(f"{listing} is empty: remove it or give a line for every image")
    return lines


def _entry(listing: Path, number: int, line: str, folder: Path) -> ImageFile:
    try:
        row = json.loads(line)
        stamp = round(float(row["stamp_s"]) * NANOSECONDS)
        attitude = row.get("q_NC_xyzw")
        q_NC_xyzw = None if attitude is None else np.array(attitude, dtype=np.float64).reshape(4)
        return ImageFile(int(row["frame"]), folder / str(row["file"]), stamp, q_NC_xyzw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SparsematchError(f"{listing} line {number}: {error!r}; needed are frame, file, stamp_s") from error
