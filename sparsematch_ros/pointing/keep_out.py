"""Directions in which the boresight must not look.

What is checked is the target's direction itself: the end of the slew. Whether the way there sweeps through a cone is
not checked yet, and the flight software that gets a request has to check it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.guidance import angle_between_rad

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KeepOutCone:
    """A body that the boresight must stay away from.

    Attributes:
        half_angle_rad: least angle between boresight and body [rad].
        direction_N: `(3,)` inertial unit vector to the body, or None where it is not known.

    """

    half_angle_rad: float
    direction_N: FloatArray | None


def cones_from_settings(half_angles_deg: list[float], directions: list[float]) -> tuple[KeepOutCone, ...]:
    """Build the cones from the settings' two lists; a missing or NaN direction makes a body of unknown direction.

    Raises:
        SparsematchError: where an angle is outside (0, 180), or there are directions without an angle.

    """
    for angle in half_angles_deg:
        if not 0.0 < angle < 180.0:
            raise SparsematchError(f"pointing.keep_out_half_angles_deg: {angle} is outside (0, 180) deg")
    if len(directions) % 3 or len(directions) > 3 * len(half_angles_deg):
        raise SparsematchError(
            f"pointing.keep_out_directions: {len(directions)} numbers for {len(half_angles_deg)} half angles, "
            "expected 3 each"
        )
    rows = np.asarray(directions, dtype=np.float64).reshape(-1, 3)
    return tuple(
        KeepOutCone(float(np.radians(angle)), _direction(rows[row]) if row < len(rows) else None)
        for row, angle in enumerate(half_angles_deg)
    )


def _direction(row: FloatArray) -> FloatArray | None:
    return None if np.isnan(row).any() else unit_vector(row)


def forbidding_cone(bearing_N: FloatArray, cones: tuple[KeepOutCone, ...]) -> tuple[int, float] | None:
    """Find the first cone that holds a direction.

    Args:
        bearing_N: `(3,)` inertial direction.
        cones: those of unknown direction are passed over.

    Returns:
        The cone's row and the angle to its body [rad], or None where the direction is free.

    """
    for row, cone in enumerate(cones):
        if cone.direction_N is not None:
            angle_rad = angle_between_rad(bearing_N, cone.direction_N)
            if angle_rad <= cone.half_angle_rad:
                return row, angle_rad
    return None


def all_known(cones: tuple[KeepOutCone, ...]) -> bool:
    """Tell whether every cone's direction is known."""
    return all(cone.direction_N is not None for cone in cones)
