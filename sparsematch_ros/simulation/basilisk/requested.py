"""Guidance after attitude requests: the reference that Basilisk's attTrackingError compares the attitude with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.pointing.adapters.basilisk import AttRef
from sparsematch_ros.pointing.conventions import sigma_BN_from_quaternion
from sparsematch_ros.simulation.basilisk.library import Library
from sparsematch_ros.simulation.basilisk.reference import SlewReference


class RequestedGuidance:
    """Hands the reference to Basilisk every time flight software runs."""

    def __init__(self, reference: SlewReference, period_ns: int) -> None:
        """Take what makes the reference, and how often flight software runs."""
        self._reference, self._period_ns = reference, period_ns

    def payload(self, now_ns: int) -> Any:
        """Give Basilisk's AttRefMsgPayload for an instant: sigma_RN, omega_RN_N [rad/s], domega_RN_N [rad/s^2].

        The acceleration is the mean over the period that flight software's next torque lasts.
        """
        reference = self._reference.at([now_ns, now_ns + self._period_ns])
        now, ahead = reference.omega_RN_N_rad_s
        mean = (ahead - now) / (self._period_ns / NANOSECONDS)
        return AttRef(sigma_BN_from_quaternion(reference.q_NR_xyzw[0]), now, mean).payload()

    def connect(self, basilisk: Library, navigation: Any) -> tuple[Sequence[Any], Any]:
        """Make the module that writes the reference and the one that compares; see `Guidance.connect`."""
        guidance = self

        class Reference(basilisk.sysModel.SysModel):
            """Basilisk's side of it."""

            def __init__(self) -> None:
                super().__init__()
                self.attRefOutMsg = basilisk.messaging.AttRefMsg()

            def UpdateState(self, now_ns: int) -> None:
                self.attRefOutMsg.write(guidance.payload(now_ns), now_ns, self.moduleID)

        reference, tracking = Reference(), basilisk.attTrackingError.attTrackingError()
        tracking.attNavInMsg.subscribeTo(navigation)
        tracking.attRefInMsg.subscribeTo(reference.attRefOutMsg)
        return (reference, tracking), tracking.attGuidOutMsg
