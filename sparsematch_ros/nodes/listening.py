"""Whether perception is there and listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node

POLL_S = 0.05
# A node that loads its models does not answer; after this the question is asked again.
ASK_AGAIN_S = 2.0


class PerceptionWatch:
    """Asks perception for its lifecycle state. Waits block, so they belong on a thread that runs no callbacks."""

    def __init__(self, node: Node, name: str) -> None:
        """Make the client of `name`'s state service."""
        self._client = node.create_client(GetState, f"{name}/get_state")

    def wait_active(self, listened: Callable[[], bool], limit_s: float, meanwhile: Callable[[], bool]) -> bool:
        """Wait, in steady time, until perception is active and listens.

        Args:
            listened: whether whoever must listen does.
            limit_s: longest wait [s].
            meanwhile: called again and again; False ends the wait.

        """
        deadline = time.monotonic() + limit_s
        while meanwhile() and time.monotonic() < deadline:
            if listened() and self._active():
                return True
            time.sleep(POLL_S)
        return False

    def _active(self) -> bool:
        if not self._client.service_is_ready():
            return False
        future = self._client.call_async(GetState.Request())
        asked = time.monotonic()
        while not future.done():
            if time.monotonic() - asked > ASK_AGAIN_S:
                self._client.remove_pending_request(future)
                return False
            time.sleep(POLL_S / 10)
        answer: Any = future.result()
        return answer is not None and answer.current_state.id == State.PRIMARY_STATE_ACTIVE
