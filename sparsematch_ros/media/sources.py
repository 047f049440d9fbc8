"""Where images come from: one protocol for a folder, a video and a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError

DEFAULT_RATE_HZ = 10.0
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ogv", ".wmv")
BAG_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True)
class RefusedFrame:
    """A place in the source whose image cannot be used.

    Attributes:
        index: position in the source, from 0.
        name: file, or topic and stamp.
        reason: what is wrong, one line.

    """

    index: int
    name: str
    reason: str


class Source(Protocol):
    """A stream of images in order of time.

    Attributes:
        name: what it was opened from.
        length: number of items that iteration gives, or None where unknown.
        notes: what the user should know, such as where the stamps come from; iteration may add to it.

    """

    name: str
    length: int | None
    notes: list[str]

    def __iter__(self) -> Iterator[Frame | RefusedFrame]:
        """Give each image, or why there is none; `index` is the position in the source."""
        ...


def open_source(
    path: Path,
    topic: str | None = None,
    rate_hz: float | None = None,
    camera_to_body_xyzw: NDArray[np.float64] | None = None,
    bits: int = 0,
) -> Source:
    """Open a folder of images, a video or a rosbag2 folder or file.

    Args:
        path: what to open.
        topic: image topic of a bag; None for the only one.
        rate_hz: frame rate for images without stamps [Hz]; for a video, instead of its own.
        camera_to_body_xyzw: `(4,)` v_B = q v_C, which a bag's body attitude needs; None for identity.
        bits: depth of the samples in 16 bit images, 0: found.

    Raises:
        SparsematchError: where there is nothing of the kind at `path`, or an option does not fit it.

    """
    if not path.exists():
        raise SparsematchError(f"{path} does not exist: give a folder of images, a video or a rosbag2 folder or file")
    if rate_hz is not None and not 0 < rate_hz < 1e6:
        raise SparsematchError(f"--rate-hz {rate_hz}: must be positive")
    if is_bag(path):
        from sparsematch_ros.media.bag_source import BagSource

        return BagSource(path, topic, camera_to_body_xyzw, bits)
    if topic is not None:
        raise SparsematchError(f"--topic {topic} needs a rosbag2 folder or file, but {path} is none")
    return _open_files(path, rate_hz, bits)


def is_bag(path: Path) -> bool:
    """Tell whether a path is a rosbag2 folder or file."""
    if path.is_file():
        return path.suffix.lower() in BAG_SUFFIXES
    return (path / "metadata.yaml").exists() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))


def _open_files(path: Path, rate_hz: float | None, bits: int) -> Source:
    if path.is_dir():
        from sparsematch_ros.media.folder_source import FolderSource

        return FolderSource(path, rate_hz, bits)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from sparsematch_ros.media.video_source import VideoSource

        return VideoSource(path, rate_hz)
    raise SparsematchError(
        f"{path} is no source: give a folder of images, a video ({', '.join(VIDEO_SUFFIXES)}) "
        f"or a rosbag2 folder or file ({', '.join(BAG_SUFFIXES)})"
    )
