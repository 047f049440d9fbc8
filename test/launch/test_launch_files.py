"""The launch files describe their arguments and start what they should, where `launch_ros` is installed."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from ament_index_python.packages import get_package_prefix, get_package_share_directory

SHARE = Path(get_package_share_directory("sparsematch_ros"))
FILES = sorted((SHARE / "launch").glob("*.launch.py"))
NODES = {
    "sparsematch": {"perception_node", "attitude_request_node"},
    "demo": {"simulated_camera_node"},
    "basilisk": set(),
    "replay": {"replay_node"},
}


def calls(path: Path, name: str) -> list[ast.Call]:
    """Calls of a name in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name]


def keywords(call: ast.Call) -> dict[str, Any]:
    """Keyword arguments that are plain values."""
    return {item.arg: item.value.value for item in call.keywords if item.arg and isinstance(item.value, ast.Constant)}


def test_there_are_four() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(NODES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path) -> None:
    declared = calls(path, "DeclareLaunchArgument")
    assert declared
    for call in declared:
        assert len(keywords(call).get("description", "")) > 10, ast.unparse(call)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_node_is_installed_and_every_argument_is_declared(path: Path) -> None:
    programs = {keywords(call)["executable"] for call in calls(path, "Node")}
    assert programs == NODES[path.name.split(".")[0]]
    for program in programs:
        assert (Path(get_package_prefix("sparsematch_ros")) / "lib" / "sparsematch_ros" / program).exists()
    declared = {call.args[0].value for call in calls(path, "DeclareLaunchArgument")}
    used = {call.args[0].value for call in calls(path, "LaunchConfiguration") if isinstance(call.args[0], ast.Constant)}
    assert used <= declared


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_description_can_be_built(path: Path) -> None:
    """Needs a ROS distribution: there are no wheels of launch."""
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with a ROS distribution, not as wheels")
    spec = importlib.util.spec_from_file_location("launched", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entities = module.generate_launch_description().entities
    names = {entity.node_executable for entity in entities if hasattr(entity, "node_executable")}
    assert names == NODES[path.name.split(".")[0]]


def test_the_graph_runs(tmp_path: Path) -> None:
    """Three images of the closed loop through `demo.launch.py`, where launch is installed."""
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with a ROS distribution, not as wheels")
    import threading
    import time

    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription, LaunchService
    from sparsematch_ros.nodes.domain import isolated_domain

    arguments = {"frames": "3", "truth_folder": str(tmp_path)}
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "demo.launch.py"))
    include = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    truth = tmp_path / "truth.jsonl"

    def stop_when_done(service: LaunchService) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (truth.exists() and truth.read_text().count("\n") == 3):
            time.sleep(0.2)
        service.shutdown()

    with isolated_domain():
        service = LaunchService()
        service.include_launch_description(LaunchDescription([include]))
        threading.Thread(target=stop_when_done, args=(service,), daemon=True).start()
        status = service.run()
    assert status == 0
    assert truth.read_text().count("\n") == 3
