"""How every node starts and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.process import wait_passively

BAD_INPUT = 2


def run_node(name: str, make: Callable[[], Node]) -> int:
    """Start ROS, make a node and spin it until Ctrl-C, SIGTERM or a shutdown of its context.

    Bad input, at the start or raised by a callback, ends with one line.

    Args:
        name: for messages of a node that could not be built.
        make: builds the node; its `close` method, where it has one, runs at the end.

    Returns:
        The exit status: 0, or 2 for bad input.

    """
    wait_passively()
    rclpy.init(args=sys.argv)
    node: Node | None = None
    try:
        node = make()
        spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except SparsematchError as error:
        print(f"{node.get_name() if node else name}: {error}", file=sys.stderr)
        return BAD_INPUT
    finally:
        if node is not None:
            getattr(node, "close", lambda: None)()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def spin(node: Node) -> None:
    """Run a node's callbacks on this thread."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    finally:
        executor.remove_node(node)
        executor.shutdown()
