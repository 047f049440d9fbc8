"""The user's own choice of a target, by services of attitude_request_node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from rclpy.node import Node

from sparsematch_ros.nodes.conversions import uuid_of
from sparsematch_ros.nodes.point_at import PointAtServer
from sparsematch_ros.pointing.decision import Answer, Code
from sparsematch_ros.pointing.goal import is_pursued
from sparsematch_ros.pointing.request import NOBODY
from sparsematch_ros.srv import ReleaseTarget, SelectTarget

Response = TypeVar("Response", SelectTarget.Response, ReleaseTarget.Response)

# More released objects than this are not remembered: the first is chosen again.
KEPT_RELEASED = 256


class TargetChoice:
    """Serves `~/select_target` and `~/release_target`.

    Attributes:
        selected: the user's choice, or None.
        why: the user's words for it.

    """

    def __init__(self, node: Node, judge: Callable[[UUID], Answer], goals: PointAtServer) -> None:
        """Serve.

        Args:
            node: to serve with.
            judge: gives what would be answered if an object were asked for now.
            goals: a goal for another object ends when one is selected.

        """
        self._logger, self._judge, self._goals = node.get_logger(), judge, goals
        self.selected: UUID | None = None
        self.why = ""
        self._released: dict[UUID, None] = {}
        node.create_service(SelectTarget, "~/select_target", self._on_select)
        node.create_service(ReleaseTarget, "~/release_target", self._on_release)

    @property
    def released(self) -> frozenset[UUID]:
        """Give the objects that are not to be chosen."""
        return frozenset(self._released)

    def allow(self, target: UUID) -> None:
        """Let an object be chosen again."""
        self._released.pop(target, None)

    def _on_select(self, request: SelectTarget.Request, response: SelectTarget.Response) -> SelectTarget.Response:
        target = uuid_of(request.target_id)
        answer = self._judge(target)
        if not is_pursued(answer):
            return self._answered(response, answer.code, answer.reason)
        self.selected, self.why = target, request.why
        self.allow(target)
        if self._goals.target not in (None, target):
            self._goals.supersede(f"object {target} was selected")
        return self._answered(response, Code.NONE, f"object {target} is selected")

    def _on_release(self, request: ReleaseTarget.Request, response: ReleaseTarget.Response) -> ReleaseTarget.Response:
        wanted = uuid_of(request.target_id)
        target = self.selected if wanted == NOBODY else wanted
        if target is None:
            return self._answered(response, Code.NO_TARGET, "no object is selected")
        if wanted == target:
            self._remember(target)
        if self.selected == target:
            self.selected, self.why = None, ""
        if self._goals.target == target:
            self._goals.supersede(f"object {target} was released")
        return self._answered(response, Code.NONE, f"object {target} is released")

    def _remember(self, target: UUID) -> None:
        self._released[target] = None
        if len(self._released) > KEPT_RELEASED:
            oldest = next(iter(self._released))
            self.allow(oldest)
            self._logger.warning(f"{KEPT_RELEASED} objects are released: {oldest} may be chosen again")

    def _answered(self, response: Response, code: Code, reason: str) -> Response:
        response.accepted, response.code, response.reason = code == Code.NONE, int(code), reason
        self._logger.info(reason)
        return response
