"""Node processes that the demo starts, watches and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ament_index_python.packages import get_package_prefix

from sparsematch_ros.errors import SparsematchError

PACKAGE = "sparsematch_ros"
STOP_LIMIT_S = 10.0
# Lines of a dead node's log that are shown.
SHOWN_LINES = 15


class ChildDied(SparsematchError):
    """A node ended before its time; the message holds the end of its log."""


def node_command(node: str) -> list[str]:
    """Give the command that starts an installed node, as `ros2 run` does.

    Not `python -m`: that would look for the package in the current folder first, where in a source tree the messages
    are missing.

    Raises:
        SparsematchError: where the package is not built.

    """
    program = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / node
    if not program.is_file():
        raise SparsematchError(f"{program} is missing: build the package with `make setup`")
    return [sys.executable, str(program)]


class Child:
    """One node in a process of its own, with its log in a file."""

    def __init__(self, node: str, arguments: Sequence[str], log: Path) -> None:
        """Start a node of this package.

        Args:
            node: program, such as `perception_node`.
            arguments: what follows `--ros-args`.
            log: file for what it prints.

        """
        self.node, self.log = node, log
        command = [*node_command(node), "--ros-args", *arguments]
        with log.open("w", encoding="utf-8") as output:
            # A session of its own, so that Ctrl-C reaches the demo alone, which then stops its nodes in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            ChildDied: with the end of its log.

        """
        status = self._process.poll()
        if status is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
            raise ChildDied("\n".join([f"{self.node} ended with status {status}; the end of {self.log}:", *lines]))

    def interrupt(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait until it has ended; where that takes too long, end it."""
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(children: list[Child]) -> Iterator[list[Child]]:
    """Stop whatever is in the list at the end, however that comes."""
    try:
        yield children
    finally:
        for child in reversed(children):
            child.interrupt()
        for child in reversed(children):
            child.wait()
