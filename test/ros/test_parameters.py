"""Every setting is a described ROS parameter, and a wrong one is refused by name in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ament_index_python.packages import get_package_share_directory
from rclpy.node import Node
from rclpy.parameter import Parameter

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.nodes.attitude_request_node import AttitudeRequestNode
from sparsematch_ros.nodes.parameters import declare_config
from sparsematch_ros.nodes.perception_node import PerceptionNode
from sparsematch_ros.nodes.replay_node import ReplayNode
from sparsematch_ros.nodes.simulated_camera_node import SimulatedCameraNode

STAGES = [item.name for item in dataclasses.fields(Config)]


def test_every_setting_is_declared_with_its_default_description_and_range() -> None:
    node = Node("declares_all")
    try:
        assert declare_config(node, STAGES) == Config()
        for stage in STAGES:
            for item in dataclasses.fields(getattr(Config(), stage)):
                descriptor = node.describe_parameter(f"{stage}.{item.name}")
                assert item.metadata["description"] in descriptor.description
                assert item.metadata["unit"] in descriptor.description
                assert descriptor.read_only
                ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
                assert [entry.from_value for entry in ranges] == [
                    low for low in [item.metadata["minimum"]] if low is not None
                ]
    finally:
        node.destroy_node()


def refusal(kind: Callable[..., Any], name: str, value: Any) -> str:
    """What a node says about a parameter."""
    with pytest.raises(SparsematchError) as caught:
        kind(parameter_overrides=[Parameter(name, value=value)])
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        (AttitudeRequestNode, "pointing.dead_band_deg", 99.0, "[0.0, 45.0] deg"),
        (AttitudeRequestNode, "pointing.dead_band_deg", float("nan"), "[0.0, 45.0] deg"),
        (AttitudeRequestNode, "pointing.max_age_s", 2, "float"),
        (AttitudeRequestNode, "pointing.dead_band", 1.0, "did you mean 'pointing.dead_band_deg'?"),
        (AttitudeRequestNode, "pointing.boresight", [0.0, 0.0], "expected x, y, z"),
        (AttitudeRequestNode, "pointing.boresight", [0.0, 0.0, 0.0], "no direction"),
        (AttitudeRequestNode, "pointing.keep_out_half_angles_deg", [200.0], "(0, 180) deg"),
        (PerceptionNode, "segmentation.points_per_side", 0, "[1, 128]"),
        (PerceptionNode, "segmentation.mode", "fast", "adaptive, full_grid"),
        (PerceptionNode, "reliable", "yes", "bool"),
        (PerceptionNode, "tracking.max_coast", 1.0, "did you mean 'tracking.max_coast_s'?"),
        (SimulatedCameraNode, "frames", -1, "[0, 1000000]"),
        (ReplayNode, "speed", 0.0, "[0.01, 100.0]"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(kind: Any, name: str, value: Any, words: str) -> None:
    text = refusal(kind, name, value)
    assert name in text and words in text and "\n" not in text


@pytest.mark.parametrize("kind", [AttitudeRequestNode, PerceptionNode])
def test_the_settings_file_serves_every_node(kind: Any) -> None:
    file = Path(get_package_share_directory("sparsematch_ros")) / "config" / "sparsematch.yaml"
    node = kind(cli_args=["--ros-args", "--params-file", str(file)])
    node.destroy_node()


def test_a_scenario_that_is_none_is_refused() -> None:
    assert "unknown" in refusal(SimulatedCameraNode, "scenario", "no_such_scenario")


def test_a_source_that_is_none_is_refused() -> None:
    assert "does not exist" in refusal(ReplayNode, "source", "no_such_folder")
