"""Basilisk's `AttRefMsgPayload`: sigma_RN, omega_RN_N [r/s], domega_RN_N [r/s2], as its header file names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import AttitudeRequest
from sparsematch_ros.pointing.conventions import quaternion, sigma_BN_from_quaternion
from sparsematch_ros.pointing.following import requested_attitude
from sparsematch_ros.pointing.slew import Reference

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AttRef:
    """An attitude reference in Basilisk's terms.

    Attributes:
        sigma_RN: `(3,)` modified Rodrigues parameters of R in N, length up to 1.
        omega_RN_N: `(3,)` angular velocity of R in N, components in N [rad/s].
        domega_RN_N: `(3,)` its inertial derivative, components in N [rad/s^2].

    """

    sigma_RN: FloatArray
    omega_RN_N: FloatArray
    domega_RN_N: FloatArray

    def payload(self) -> Any:
        """Make Basilisk's own message payload; Basilisk is imported here, because it is an optional extra."""
        from Basilisk.architecture import messaging

        return messaging.AttRefMsgPayload(
            sigma_RN=self.sigma_RN.tolist(), omega_RN_N=self.omega_RN_N.tolist(), domega_RN_N=self.domega_RN_N.tolist()
        )


def att_ref_of_request(request: AttitudeRequest, time_ns: int) -> AttRef:
    """Give the attitude that an inertial request asks for at a time: the end of the slew, turning with the target.

    Raises:
        SparsematchError: where the request has run out.

    """
    wanted = requested_attitude(request, time_ns)
    sigma = sigma_BN_from_quaternion(quaternion(wanted.R_NB))
    return AttRef(sigma, np.array(wanted.omega_BN_N_rad_s), np.zeros(3))


def att_refs_of_slew(reference: Reference) -> list[AttRef]:
    """Give the references along a slew, one a time."""
    rows = zip(reference.q_NR_xyzw, reference.omega_RN_N_rad_s, reference.domega_RN_N_rad_s2)
    return [AttRef(sigma_BN_from_quaternion(q), omega, domega) for q, omega, domega in rows]
