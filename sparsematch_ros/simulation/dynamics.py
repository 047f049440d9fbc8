"""What turns the camera's spacecraft: the seam between a flight and whatever moves it."""

from __future__ import annotations

from typing import Protocol

from sparsematch_ros.data import FloatArray


class Dynamics(Protocol):
    """A spacecraft B with a camera C that turns after requested attitudes while time passes."""

    @property
    def q_NB_xyzw(self) -> FloatArray:
        """Give the body's attitude `(4,)`."""
        ...

    @property
    def q_NC_xyzw(self) -> FloatArray:
        """Give the camera's attitude `(4,)`."""
        ...

    @property
    def omega_BN_N_rad_s(self) -> FloatArray:
        """Give the body's angular velocity `(3,)`, in N."""
        ...

    def follow(self, q_NB_xyzw: FloatArray, omega_BN_N_rad_s: FloatArray | None = None, age_s: float = 0.0) -> None:
        """Turn toward an attitude that held `age_s` ago, and with it as it turns; None for at rest."""
        ...

    def hold(self) -> None:
        """Come to rest at the attitude where the body is now."""
        ...

    def step(self, dt_s: float) -> None:
        """Let time pass [s]."""
        ...
