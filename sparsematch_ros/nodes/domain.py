"""A ROS domain of one's own: for demos and tests, which must neither hear nor disturb anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from domain_coordinator import domain_id

# Read by Fast DDS 2 (Jazzy) and Fast DDS 3.
PROFILES_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def middleware_profiles() -> Path:
    """Find `fastdds.xml`, which gives images room in shared memory."""
    return Path(get_package_share_directory("sparsematch_ros")) / "config" / "fastdds.xml"


@contextmanager
def isolated_domain() -> Iterator[int]:
    """Keep this process and its children to themselves: a ROS domain that nobody uses, on this machine alone.

    Must be entered before `rclpy.init`. Profiles that the user chose for Fast DDS stay.
    """
    with domain_id() as domain:
        own = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        if not any(name in os.environ for name in PROFILES_VARIABLES):
            own |= dict.fromkeys(PROFILES_VARIABLES, str(middleware_profiles()))
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield domain
        finally:
            _restore(before)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
