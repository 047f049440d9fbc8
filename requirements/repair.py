"""Repairs the CMake files of the ROS 2 wheels: they name include folders of the machine that built them."""

from __future__ import annotations

import re
from pathlib import Path

# Python builds in the wheels' build image stand below this folder.
BUILDER = "/opt/python/"
BUILDER_INCLUDE = re.compile(r"/opt/python/[^/;\"\s]+/include/python[0-9.]+")
BUILDER_NUMPY = re.compile(r"/opt/python/[^/;\"\s]+/lib/python[0-9.]+/site-packages/numpy/_?core/include")


class RepairError(Exception):
    """The CMake files do not look as expected; the message says what was found."""


def repair_wheels(share: Path, include: str, numpy_include: str) -> int:
    """Put this machine's include folders where the builder's stand; repaired files stay as they are.

    Args:
        share: folder of the environment that holds the wheels' CMake files.
        include: folder of Python's headers.
        numpy_include: folder of numpy's headers.

    Returns:
        How many files changed.

    Raises:
        RepairError: a file names another folder of its builder, or no file names an include folder at all.

    """
    changed, good = 0, 0
    for file in sorted(share.rglob("*.cmake")):
        text = file.read_text(encoding="utf-8")
        repaired = BUILDER_INCLUDE.sub(include, BUILDER_NUMPY.sub(numpy_include, text))
        if BUILDER in repaired:
            raise RepairError(f"{file} names a folder of its builder that is not known; extend BUILDER_* in {__file__}")
        good += numpy_include in repaired
        if repaired != text:
            _replace(file, repaired)
            changed += 1
    if not good:
        raise RepairError(f"no CMake file below {share} names numpy's include folder any more; see {__file__}")
    return changed


def _replace(file: Path, text: str) -> None:
    """Write a file anew: the old one may be a hard link into uv's cache, which must not change."""
    new = file.with_name(file.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)
