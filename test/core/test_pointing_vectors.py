"""The fast ways to turn vectors, sweep a slew and check an arc, each against a plain one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.keep_out import Guard
from sparsematch_ros.pointing.legs import plan_legs
from sparsematch_ros.pointing.path import free_arcs
from sparsematch_ros.pointing.profile import Limits
from sparsematch_ros.pointing.slew import Attitude, Slew
from sparsematch_ros.pointing.vectors import turned

LIMITS = Limits(float(np.radians(2.0)), float(np.radians(1.0)))


def test_vectors_turn_as_scipys_rotation_has_it() -> None:
    rng = np.random.default_rng(1)
    axis, angles = unit_vector(rng.normal(size=3)), rng.uniform(-7, 7, 50)
    turns = Rotation.from_rotvec(angles[:, None] * axis)
    one, many = rng.normal(size=3), rng.normal(size=(50, 3))
    np.testing.assert_allclose(turned(one, axis, angles), turns.apply(one), atol=1e-14)
    np.testing.assert_allclose(turned(many, axis, angles), turns.apply(many), atol=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_a_sweep_is_the_slews_own_way_in_steps_within_the_spacing(seed: int) -> None:
    """A slew from a rate onto a moving target: begins and ends as its reference does, and jumps nowhere."""
    rng = np.random.default_rng(seed)
    start, target = (
        Attitude(Rotation.random(random_state=seed + 100 * row), rng.normal(size=3) * 0.004) for row in (1, 2)
    )
    slew = Slew(plan_legs(start, target, LIMITS))
    axis_B, spacing_rad = unit_vector(rng.normal(size=3)), float(np.radians(0.5))
    swept = slew.sweep(axis_B, spacing_rad)
    steps = np.linalg.norm(np.diff(swept, axis=0), axis=1)
    assert steps.max() <= spacing_rad and len(swept) > 2
    ends = slew.reference([0.0, slew.duration_s]).q_NR_xyzw
    np.testing.assert_allclose(swept[[0, -1]], Rotation.from_quat(ends).apply(axis_B), atol=1e-9)
    # Every direction between lies on the way, as the reference has it: none is further from it than half a step.
    times = np.linspace(0.0, slew.duration_s, 20 * len(swept))
    way = Rotation.from_quat(slew.reference(times).q_NR_xyzw).apply(axis_B)
    assert np.linalg.norm(swept[:, None] - way[None], axis=2).min(axis=1).max() < spacing_rad / 20


def test_arcs_are_free_where_every_direction_of_them_is() -> None:
    """1,000 random arcs past a random cone, each against its directions 0.02 deg apart; touching ones are left out."""
    rng = np.random.default_rng(4)
    a, b, bodies = (rng.normal(size=(1000, 3)) for _ in range(3))
    a, b, bodies = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (a, b, bodies))
    b[:100] = a[:100] + rng.normal(size=(100, 3)) * 1e-5
    b[:100] /= np.linalg.norm(b[:100], axis=1)[:, None]
    radii = rng.uniform(0.05, 1.2, 1000)
    told = 0
    for start, end, body, radius in zip(a, b, bodies, radii):
        angle = np.arccos(np.clip(start @ end, -1, 1))
        shares = np.linspace(0, 1, 2 + int(np.degrees(angle) / 0.02))[:, None]
        across = end - (start @ end) * start
        across /= max(float(np.linalg.norm(across)), 1e-12)
        nearest = float((np.cos(shares * angle) * start + np.sin(shares * angle) * across @ np.eye(3)).dot(body).max())
        if abs(np.arccos(np.clip(nearest, -1, 1)) - radius) < 1e-5:
            continue
        guard = Guard(np.array([0.0, 0.0, 1.0]), (0,), body[None], np.array([radius]))
        assert free_arcs(start[None], end[None], guard).tolist() == [bool(nearest < np.cos(radius))]
        told += 1
    assert told > 980


def test_an_arc_between_opposite_directions_is_not_known() -> None:
    guard = Guard(np.array([0.0, 0.0, 1.0]), (0,), np.array([[0.0, 0.0, 1.0]]), np.array([0.1]))
    ends = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    opposite = -np.array([[1.0, 0.0, 0.0], unit_vector([1.0, 1e-6, 0.0])])
    assert not free_arcs(ends, opposite, guard).any()
