"""Directions in which the boresight, or another body axis, must not look: now, and all along a slew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.guidance import angle_between_rad

FloatArray = NDArray[np.float64]

# How much a cosine may grow by rounding while a body axis leaves a cone.
ROUNDING = 1e-12
# Least distance between checked directions [rad]: 0.1 deg.
FINEST_RAD = float(np.radians(0.1))


@dataclass(frozen=True, eq=False)
class KeepOutCone:
    """A body that an axis of the spacecraft must stay away from.

    Attributes:
        half_angle_rad: least angle between axis and body [rad].
        direction_N: `(3,)` inertial unit vector to the body, or None where it is not known.
        axis_B: `(3,)` body axis that this is about, or None for the boresight.

    """

    half_angle_rad: float
    direction_N: FloatArray | None
    axis_B: FloatArray | None = None


def cones_from_settings(
    half_angles_deg: list[float], directions: list[float], axes: list[float] | None = None
) -> tuple[KeepOutCone, ...]:
    """Build the cones from the settings' lists; a missing or NaN direction makes a body of unknown direction.

    Args:
        half_angles_deg: one a cone.
        directions: three numbers a cone, inertial.
        axes: three numbers a cone, in the body; missing or NaN: the boresight.

    Raises:
        SparsematchError: where an angle is outside (0, 180), or there are directions or axes without an angle.

    """
    for angle in half_angles_deg:
        if not 0.0 < angle < 180.0:
            raise SparsematchError(f"pointing.keep_out_half_angles_deg: {angle} is outside (0, 180) deg")
    count = len(half_angles_deg)
    directions_N = _vectors("keep_out_directions", directions, count)
    axes_B = _vectors("keep_out_axes", axes or [], count)
    rows = zip(half_angles_deg, directions_N, axes_B)
    return tuple(KeepOutCone(float(np.radians(angle)), direction, axis) for angle, direction, axis in rows)


def _vectors(setting: str, numbers: list[float], count: int) -> list[FloatArray | None]:
    if len(numbers) % 3 or len(numbers) > 3 * count:
        raise SparsematchError(f"pointing.{setting}: {len(numbers)} numbers for {count} half angles, expected 3 each")
    rows = np.full((count, 3), np.nan)
    rows[: len(numbers) // 3] = np.asarray(numbers, dtype=np.float64).reshape(-1, 3)
    return [None if np.isnan(row).any() else unit_vector(row) for row in rows]


def forbidding_cone(bearing_N: FloatArray, cones: tuple[KeepOutCone, ...]) -> tuple[int, float] | None:
    """Find the first cone that holds a direction of the boresight.

    Args:
        bearing_N: `(3,)` inertial direction.
        cones: those of unknown direction or for another axis are passed over.

    Returns:
        The cone's row and the angle to its body [rad], or None where the direction is free.

    """
    for row, cone in enumerate(cones):
        if cone.direction_N is not None and cone.axis_B is None:
            angle_rad = angle_between_rad(bearing_N, cone.direction_N)
            if angle_rad <= cone.half_angle_rad:
                return row, angle_rad
    return None


def all_known(cones: tuple[KeepOutCone, ...]) -> bool:
    """Tell whether every cone's direction is known."""
    return all(cone.direction_N is not None for cone in cones)


@dataclass(frozen=True, eq=False)
class Guard:
    """The known cones of one body axis, each wider by a margin.

    The margin covers what a spacecraft errs in following, and what lies between two directions that are checked.

    Attributes:
        axis_B: `(3,)` the body axis.
        rows: of these cones among all.
        directions_N: `(M, 3)` inertial unit vectors.
        radii_rad: `(M,)` half angles with the margin.

    """

    axis_B: FloatArray
    rows: tuple[int, ...]
    directions_N: FloatArray
    radii_rad: FloatArray

    def held(self, directions_N: FloatArray) -> NDArray[np.bool_]:
        """Tell which cones hold directions `(..., 3)`, `(..., M)`."""
        return np.asarray(directions_N @ self.directions_N.T >= self.cosines)

    @cached_property
    def cosines(self) -> FloatArray:
        """Give the cosines of the radii, `(M,)`."""
        return np.cos(self.radii_rad)

    def entered(self, directions_N: FloatArray) -> int | None:
        """Give the row of a cone that a way `(N, 3)` enters, or None.

        A way that begins in a cone does not enter it while it leads away from the body at every step.
        """
        cosines = directions_N @ self.directions_N.T
        inside = cosines >= self.cosines
        if not inside.any():
            return None
        for column in np.flatnonzero(inside.any(axis=0)).tolist():
            if not _leaves(cosines[:, column], inside[:, column]):
                return self.rows[column]
        return None


def _leaves(cosines: FloatArray, inside: NDArray[np.bool_]) -> bool:
    first_outside = int(np.argmin(inside))
    if inside[first_outside] or inside[first_outside:].any():
        return False
    return bool((np.diff(cosines[: first_outside + 1]) <= ROUNDING).all())


def spacing_rad(margin_rad: float) -> float:
    """Give how far apart checked directions may lie [rad]: half of it never exceeds the margin of a guard."""
    return max(margin_rad, FINEST_RAD)


def guards(cones: tuple[KeepOutCone, ...], boresight_B: FloatArray, margin_rad: float) -> tuple[Guard, ...]:
    """Widen the known cones and sort them by body axis: the boresight's first, with no cone where it has none."""
    margin_rad = max(margin_rad, FINEST_RAD / 2)
    known = [(row, cone) for row, cone in enumerate(cones) if cone.direction_N is not None]
    ours = _guard(boresight_B, [item for item in known if item[1].axis_B is None], margin_rad)
    others = [_guard(cone.axis_B, [(row, cone)], margin_rad) for row, cone in known if cone.axis_B is not None]
    return (ours, *others)


def _guard(axis_B: FloatArray, cones: list[tuple[int, KeepOutCone]], margin_rad: float) -> Guard:
    directions = [cone.direction_N for _, cone in cones if cone.direction_N is not None]
    radii = np.array([cone.half_angle_rad for _, cone in cones], dtype=np.float64) + margin_rad
    rows = tuple(row for row, _ in cones)
    return Guard(axis_B, rows, np.array(directions, dtype=np.float64).reshape(-1, 3), np.minimum(radii, np.pi))


def first_entered(guards_: tuple[Guard, ...], way: Callable[[FloatArray], FloatArray]) -> int | None:
    """Give the row of the first cone that is entered on a way, or None.

    Args:
        guards_: to check.
        way: gives for a body axis `(3,)` where it points along the way, `(N, 3)`.

    """
    for guard in guards_:
        if len(guard.rows):
            row = guard.entered(way(guard.axis_B))
            if row is not None:
                return row
    return None
