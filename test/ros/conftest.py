"""Nodes and messages as they are installed, in a ROS domain that nobody else uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from sparsematch_ros.nodes.domain import isolated_domain


@pytest.fixture(scope="session", autouse=True)
def ros() -> Iterator[None]:
    """ROS in a domain of its own, for the whole session."""
    with isolated_domain():
        rclpy.init()
        yield
        rclpy.try_shutdown()


class Graph:
    """Nodes that run on a thread in the background."""

    def __init__(self) -> None:
        self._executor = SingleThreadedExecutor()
        self._nodes: list[Node] = []
        self._thread: threading.Thread | None = None

    def add(self, node: Any) -> Any:
        """Run a node."""
        self._nodes.append(node)
        self._executor.add_node(node)
        if self._thread is None:
            self._thread = threading.Thread(target=self._executor.spin, daemon=True)
            self._thread.start()
        return node

    def close(self) -> None:
        """Stop all of them."""
        self._executor.shutdown()
        if self._thread is not None:
            self._thread.join(5)
        for node in self._nodes:
            getattr(node, "close", lambda: None)()
            node.destroy_node()


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    """Nodes that live as long as the module's tests."""
    running = Graph()
    yield running
    running.close()


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Wait until a condition holds, or fail with what was waited for."""

    def wait(condition: Callable[[], Any], what: str, limit_s: float = 20.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {limit_s} s"
            time.sleep(0.01)

    return wait
