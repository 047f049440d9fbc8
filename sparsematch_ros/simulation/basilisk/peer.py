"""Basilisk's own opNavPoint on an identical spacecraft, after the same headings: what our guidance is compared with."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import NANOSECONDS, FloatArray
from sparsematch_ros.simulation.basilisk.library import Library, load_basilisk
from sparsematch_ros.simulation.basilisk.rig import Rig
from sparsematch_ros.simulation.basilisk.telemetry import Record, Telemetry
from sparsematch_ros.simulation.scenario import Scenario

# opNavPoint forgets a heading after this long; longer than any gap between two.
TIMEOUT_S = 1e4
# Under this error [rad] opNavPoint asks for nothing.
SMALL_ANGLE_RAD = 1e-6


@dataclass(frozen=True, eq=False)
class Heading:
    """A measured direction to the target.

    Attributes:
        known_ns: since the scenario's start, when flight software has it [ns].
        bearing_N: `(3,)` unit vector.

    """

    known_ns: int
    bearing_N: FloatArray


class HeadingGuidance:
    """Hands headings to opNavPoint.

    opNavPoint takes a heading as seen at the moment when it is read. It is given the inertial direction in the axes of
    that moment, so that a delay costs it the target's motion alone and not the spacecraft's own. Its camera is the body
    frame, because its attitude error is in the camera's axes and control takes it for the body's.
    """

    def __init__(self, headings: Iterable[Heading], boresight_B: FloatArray) -> None:
        """Take headings in the order of their times."""
        self._waiting = deque(headings)
        self._boresight_B = boresight_B

    def _payload(self, basilisk: Library, now_ns: int, sigma_BN: Sequence[float]) -> Any:
        """Give an OpNavMsgPayload: valid where a heading has come since the last run."""
        newest = None
        while self._waiting and self._waiting[0].known_ns <= now_ns:
            newest = self._waiting.popleft()
        if newest is None:
            return basilisk.messaging.OpNavMsgPayload(valid=0)
        bearing_B = Rotation.from_mrp(sigma_BN).inv().apply(newest.bearing_N)
        # r_BN leads from the target to the spacecraft.
        return basilisk.messaging.OpNavMsgPayload(valid=1, r_BN_C=(-bearing_B).tolist())

    def connect(self, basilisk: Library, navigation: Any) -> tuple[Sequence[Any], Any]:
        """Make the module that writes headings, and opNavPoint; see `Guidance.connect`."""
        guidance = self

        class Headings(basilisk.sysModel.SysModel):
            """Basilisk's side of it."""

            def __init__(self) -> None:
                super().__init__()
                self.opNavOutMsg = basilisk.messaging.OpNavMsg()

            def UpdateState(self, now_ns: int) -> None:
                payload = guidance._payload(basilisk, now_ns, navigation.read().sigma_BN)
                self.opNavOutMsg.write(payload, now_ns, self.moduleID)

        headings, pointing = Headings(), basilisk.opNavPoint.opNavPoint()
        self._camera = basilisk.messaging.CameraConfigMsg().write(basilisk.messaging.CameraConfigMsgPayload())
        pointing.alignAxis_C = self._boresight_B.tolist()
        pointing.timeOut, pointing.smallAngle = TIMEOUT_S, SMALL_ANGLE_RAD
        pointing.opnavDataInMsg.subscribeTo(headings.opNavOutMsg)
        pointing.imuInMsg.subscribeTo(navigation)
        pointing.cameraConfigInMsg.subscribeTo(self._camera)
        return (headings, pointing), pointing.attGuidanceOutMsg


def fly_op_nav_point(
    scenario: Scenario, headings: Iterable[Heading], boresight_B: FloatArray, duration_s: float
) -> Telemetry:
    """Fly the scenario with opNavPoint in place of requests.

    Args:
        scenario: as its seed makes it.
        headings: in the order of their times.
        boresight_B: `(3,)` body axis that shall meet the target.
        duration_s: how long [s].

    Raises:
        SparsematchError: where Basilisk is missing or the scenario cannot be put into orbit.

    """
    records: list[Record] = []
    rig = Rig(load_basilisk(), scenario, HeadingGuidance(headings, np.asarray(boresight_B)), records.append)
    rig.run_to(round(duration_s * NANOSECONDS))
    return Telemetry.from_records(records)
