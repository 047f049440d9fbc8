"""The filter with displacements of pictures: against one that keeps the old place, and its errors against truth."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sparsematch_ros.kinematics import apply_homography, homography_jacobians, predict_states
from sparsematch_ros.matching.segments import no_matches
from sparsematch_ros.tracking.kalman import innovations, update, update_by_displacement
from sparsematch_ros.tracking.measurement import measured

from sparsematch_ros.data import EgoMotion, Matches, Segments
from sparsematch_ros.tracking.table import TrackTable

Maker = Callable[..., Segments]
DT_S, SIGMA_PX, STEP_SIGMA_PX, ACCELERATION = 0.1, 0.4, 0.06, 0.9
# The background turns by 2 deg, shrinks by 1 % and runs; affine, so that its Jacobian is one everywhere.
TURNED = np.array([[0.9894, -0.0345, 6.0], [0.0345, 0.9894, -4.0], [0, 0, 1]])


def spreads(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    root = rng.normal(size=(count, side, side))
    return root @ root.transpose(0, 2, 1) + 0.1 * np.eye(side)


def moves(steps_px: np.ndarray, covariances_px2: np.ndarray, registered: object = True) -> Matches:
    """Pair K segments in their order, with measured displacements."""
    rows, ones = np.arange(len(steps_px)), np.ones(len(steps_px))
    return replace(
        no_matches(), previous=rows, current=rows, cosine=ones, bidirectional=ones, displacement_px=steps_px,
        velocity_px_s=steps_px / DT_S, velocity_covariance=covariances_px2 / DT_S**2,
        registered=np.broadcast_to(registered, len(rows)).copy(),
    )  # fmt: skip


def table_of(states: np.ndarray, covariances: np.ndarray, side_px: float = 11.0, age: int = 10) -> TrackTable:
    """Make objects with a mask that had the segments 0 to T - 1."""
    count = len(states)
    boxes = np.concatenate([states[:, :2] - side_px / 2, np.full((count, 2), side_px)], axis=1)
    table = TrackTable.born(
        states[:, :2], covariances, boxes, np.full(count, side_px**2), np.arange(count), 6, 0, torch.zeros((count, 0))
    )
    return table.with_columns(states=states.copy(), ages=np.full(count, age))


def predicted(table: TrackTable, motion: EgoMotion, acceleration: float = ACCELERATION) -> TrackTable:
    states, covariances = predict_states(table.states, table.covariances, motion.homography, motion.dt_s, acceleration)
    boxes = table.boxes_xywh_px.copy()
    boxes[:, :2] += states[:, :2] - table.states[:, :2]
    return table.with_columns(
        states=states, covariances=covariances, boxes_xywh_px=boxes, segment_rows=np.full(len(table), -1),
        ages=table.ages + 1,
    )  # fmt: skip


def known(homography: np.ndarray) -> EgoMotion:
    return EgoMotion(homography, "telemetry", True, DT_S, residual_px=0.0)


# Against the filter that keeps the old place in its state


def with_old_place(
    states: np.ndarray, joint: np.ndarray, innovation: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correct states `(4,)` by new less old place, in the textbook's form with `joint` covariances `(6, 6)`."""
    design = np.hstack([np.eye(2), np.zeros((2, 2)), -np.eye(2)])
    gain = joint @ design.T @ np.linalg.inv(design @ joint @ design.T + noise)
    return states + (gain @ innovation)[:4], ((np.eye(6) - gain @ design) @ joint)[:4, :4]


def test_an_update_by_displacement_is_that_of_the_joint_filter() -> None:
    rng, count = np.random.default_rng(0), 40
    joint, noise = spreads(rng, count, 6), spreads(rng, count, 2)
    states, innovation = rng.normal(size=(count, 4)), rng.normal(size=(count, 2))
    design = np.hstack([np.eye(2), np.zeros((2, 2)), -np.eye(2)])
    spread = design @ joint @ design.T + noise
    found = update_by_displacement(states, joint[:, :4, :4], joint[:, :4, 4:], innovation, spread)
    for row in range(count):
        expected = with_old_place(states[row], joint[row], innovation[row], noise[row])
        np.testing.assert_allclose(found[0][row], expected[0], atol=1e-9)
        np.testing.assert_allclose(found[1][row], expected[1], atol=1e-9)
    np.testing.assert_array_equal(found[1], found[1].transpose(0, 2, 1))
    assert np.linalg.eigvalsh(found[1]).min() > 0


@pytest.mark.parametrize("homography", [np.eye(3), TURNED], ids=["still", "turned"])
def test_displacement_and_place_are_taken_in_as_the_joint_filter_does(squares: Maker, homography: np.ndarray) -> None:
    """The old place rides along in the state, carried by the background: both measurements, one after the other."""
    rng, places = np.random.default_rng(1), np.array([[40.0, 40], [90, 50], [60, 90]])
    states, before_spread = np.concatenate([places, rng.normal(0, 20, (3, 2))], axis=1), spreads(rng, 3, 4)
    motion, noise = known(homography), 0.01 * spreads(rng, 3, 2)
    before = table_of(states, before_spread)
    now = predicted(before, motion)
    segments = squares(np.rint(now.states[:, :2]).astype(int))
    carried = apply_homography(homography, places)
    steps = now.states[:, :2] - carried + rng.normal(0, 0.5, (3, 2))
    found = measured(before, now, np.arange(3), segments, moves(steps, noise), motion)
    jacobian = homography_jacobians(homography, places[:1])[0]
    transition = np.kron(np.array([[1, DT_S], [0, 1]]), jacobian)
    stacked = np.vstack([transition, np.hstack([jacobian, np.zeros((2, 2))])])
    process = np.zeros((6, 6))
    block = np.array([[DT_S**4 / 4, DT_S**3 / 2], [DT_S**3 / 2, DT_S**2]]) * ACCELERATION**2
    process[:4, :4] = np.kron(block, np.eye(2))
    for row in range(3):
        joint = stacked @ before_spread[row] @ stacked.T + process
        innovation = steps[row] - (now.states[row, :2] - carried[row])
        state, covariance = with_old_place(now.states[row], joint, innovation, noise[row])
        variance = segments.centroid_sigma_px[row : row + 1] ** 2
        state, covariance = update(state[None], covariance[None], segments.centroids_px[row : row + 1], variance)
        np.testing.assert_allclose(found.states[row], state[0], atol=1e-9)
        np.testing.assert_allclose(found.covariances[row], covariance[0], atol=1e-9)


def test_only_registered_matches_that_were_followed_say_how_far(squares: Maker) -> None:
    """One match is of centroids, one leads to another segment than the object took, one is registered and followed."""
    places, motion = np.array([[30.0, 40], [70, 50], [110, 60]]), known(np.eye(3))
    states = np.concatenate([places, np.full((3, 2), 10.0)], axis=1)
    before = table_of(states, np.repeat(np.diag([1.0, 1, 100, 100])[None], 3, axis=0))
    now, segments = predicted(before, motion), squares(np.concatenate([places, [[140, 100]]]).astype(int) + 1)
    matches = moves(np.full((3, 2), 3.0), np.repeat(1e-4 * np.eye(2)[None], 3, axis=0), [False, True, True])
    matches = replace(matches, current=np.array([0, 3, 2]))
    found = measured(before, now, np.arange(3), segments, matches, motion)
    by_place = update(now.states, now.covariances, segments.centroids_px[:3], segments.centroid_sigma_px[:3] ** 2)
    np.testing.assert_allclose(found.states[:2], by_place[0][:2], atol=1e-12)
    np.testing.assert_allclose(found.states[2, 2:], [30, 30], atol=1.0)  # 3 px in 0.1 s.
    assert abs(by_place[0][2, 2] - 30) > 5


def test_who_is_not_seen_flies_on(squares: Maker) -> None:
    motion, states = known(np.eye(3)), np.array([[40.0, 50, 20, 0]])
    before = table_of(states, np.eye(4)[None])
    now = predicted(before, motion)
    matches = moves(np.array([[5.0, 5]]), 1e-4 * np.eye(2)[None])
    found = measured(before, now, np.array([-1]), squares([[80, 80]]), matches, motion)
    np.testing.assert_array_equal(found.states, now.states)
    np.testing.assert_array_equal(found.covariances, now.covariances)
    np.testing.assert_array_equal(found.surprises, before.surprises)


def test_no_objects_and_no_segments_are_ordinary(squares: Maker) -> None:
    motion, none = known(np.eye(3)), np.zeros(0, dtype=np.int64)
    empty = table_of(np.zeros((0, 4)), np.zeros((0, 4, 4)))
    assert len(measured(empty, empty, none, squares([]), no_matches(), motion)) == 0
    one = table_of(np.array([[40.0, 50, 0, 0]]), np.eye(4)[None])
    found = measured(one, predicted(one, motion), np.array([-1]), squares([]), no_matches(), motion)
    np.testing.assert_allclose(found.states[0, :2], [40, 50])


# Errors against truth


def fly(squares: Maker, frames: int, seed: int, homography: np.ndarray, registered: bool) -> tuple[TrackTable, ...]:
    """Let 100 objects fly straight through a scene that the background carries; give the table and the truth.

    Places are measured to 0.4 px, displacements, where registered, to 0.06 px.
    """
    rng, count, size = np.random.default_rng(seed), 100, (2400, 2400)
    places = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2) * 200.0 + 300
    velocities = rng.normal(0, 25, (count, 2))
    jacobian = homography_jacobians(homography, places[:1])[0]
    motion, shell = known(homography), squares([[50, 50]], 11, (120, 160), SIGMA_PX)
    truth = np.concatenate([places, velocities], axis=1)
    segments = columns(shell, truth[:, :2] + rng.normal(0, SIGMA_PX, (count, 2)), size)
    start = np.diag([SIGMA_PX**2, SIGMA_PX**2, 200.0**2, 200.0**2])
    table = table_of(truth * [1, 1, 0, 0], np.repeat(start[None], count, axis=0), age=1)
    table = table.with_columns(states=np.concatenate([segments.centroids_px, np.zeros((count, 2))], axis=1))
    for _ in range(frames):
        old = apply_homography(homography, truth[:, :2])
        truth[:, :2] = apply_homography(homography, truth[:, :2] + DT_S * truth[:, 2:])
        truth[:, 2:] = truth[:, 2:] @ jacobian.T
        segments = columns(shell, truth[:, :2] + rng.normal(0, SIGMA_PX, (count, 2)), size)
        steps = truth[:, :2] - old + rng.normal(0, STEP_SIGMA_PX, (count, 2))
        noise = np.repeat(STEP_SIGMA_PX**2 * np.eye(2)[None], count, axis=0)
        table = measured(
            table, predicted(table, motion), np.arange(count), segments, moves(steps, noise, registered), motion
        ).with_columns(segment_rows=np.arange(count))
    return table, truth


def columns(shell: Segments, centroids_px: np.ndarray, size: tuple[int, int]) -> Segments:
    """Repeat a square's figures at many places; masks are empty views, for the filter looks at none."""
    count = len(centroids_px)
    masks = torch.zeros((1, 1, 1), dtype=torch.bool).expand(count, *size)
    taken = {
        name: np.repeat(getattr(shell, name), count, axis=0)
        for name in ("areas_px", "centroid_sigma_px", "scores", "stability", "reasons", "fluxes", "moving_shares")
    }
    boxes = np.concatenate([centroids_px - 5.5, np.full((count, 2), 11.0)], axis=1)
    return Segments(masks=masks, boxes_xywh_px=boxes, centroids_px=centroids_px, **taken)


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("homography", [np.eye(3), TURNED], ids=["still", "turned"])
@pytest.mark.parametrize("frames", [3, 15])
def test_velocity_errors_are_as_large_as_stated(
    squares: Maker, homography: np.ndarray, registered: bool, frames: int
) -> None:
    """Of 300 objects that fly straight 88 % to all lie in the 95 % ellipse; no bias."""
    inside, errors = [], []
    for seed in range(3):
        table, truth = fly(squares, frames, seed, homography, registered)
        error = table.states[:, 2:] - truth[:, 2:]
        errors.append(error)
        for covariances in (table.velocity_covariances, table.covariances[:, 2:, 2:]):
            solved = np.linalg.solve(covariances, error[..., None])[..., 0]
            inside.append((error * solved).sum(axis=1) < chi2.ppf(0.95, 2))
    shares = np.mean(inside[0::2]), np.mean(inside[1::2])
    assert 0.88 <= shares[0] <= 1 and 0.88 <= shares[1] <= 1
    spread = np.concatenate(errors).std(axis=0)
    assert (np.abs(np.concatenate(errors).mean(axis=0)) < 4 * spread / np.sqrt(300)).all()


def test_registration_makes_velocities_much_better(squares: Maker) -> None:
    """Over 5 frames of 0.1 s: independent displacements of 0.06 px against places of 0.4 px."""
    errors = []
    for registered in (True, False):
        table, truth = fly(squares, 5, 0, np.eye(3), registered)
        errors.append((table.states[:, 2:] - truth[:, 2:]).std())
    assert errors[0] < STEP_SIGMA_PX / DT_S / np.sqrt(5) * 1.2  # As the mean of five displacements.
    # The slope of six places: sigma / (dt sqrt(sum (k - 2.5)^2)).
    np.testing.assert_allclose(errors[1], SIGMA_PX / (DT_S * np.sqrt(17.5)), rtol=0.2)


# Surprises


def test_velocity_covariances_follow_the_surprises_within_bounds() -> None:
    """Twice as surprising, twice the variance; 0.3 and 10 times at the ends."""
    spread = spreads(np.random.default_rng(2), 5, 4)
    table = table_of(np.zeros((5, 4)), spread).with_columns(surprises=np.array([1.0, 2.0, 0.5, 0.0, 400.0]))
    scale = np.array([1.0, 2.0, 0.5, 0.3, 10.0])
    np.testing.assert_allclose(table.velocity_covariances, scale[:, None, None] * spread[:, 2:, 2:])


@pytest.mark.parametrize(("off", "expected"), [(0.0, 0.9), (1.0, 1.0), (2.0, 1.3), (100.0, 2.9)])
def test_a_registered_displacement_teaches_how_well_it_was_foretold(
    squares: Maker, off: float, expected: float
) -> None:
    """Innovations of `off` standard deviations on both axes: a tenth of their square is taken over, of 20 at most."""
    motion, states = known(np.eye(3)), np.array([[40.0, 50, 20, 0]])
    before = table_of(states, np.diag([0.04, 0.04, 1.0, 1.0])[None])
    now = predicted(before, motion, 0.0)
    # The displacement's own noise and 0.1 s of the velocity's; the place itself cancels.
    sigma = np.sqrt(0.05**2 + (DT_S * 1.0) ** 2)
    steps = np.array([[2.0, 0]]) + off * sigma
    found = measured(before, now, np.array([0]), squares([[42, 50]]), moves(steps, 0.05**2 * np.eye(2)[None]), motion)
    np.testing.assert_allclose(found.surprises, expected, rtol=1e-6)


def test_masks_that_come_as_foretold_prove_nothing(squares: Maker, points: Maker) -> None:
    """A mask's centroid without registration may raise the surprise, never lower it; a point source's may do both."""
    motion, states = known(np.eye(3)), np.array([[42.0, 50, 0, 0]])
    before = table_of(states, np.diag([0.04, 0.04, 1.0, 1.0])[None])
    for segments, expected in ((squares([[42, 50]]), 1.0), (points([[42, 50]], (120, 160)), 0.9)):
        matches = moves(np.zeros((1, 2)), np.eye(2)[None], False)
        found = measured(before, predicted(before, motion), np.array([0]), segments, matches, motion)
        np.testing.assert_allclose(found.surprises, expected)
    off = squares([[46, 50]])
    found = measured(
        before, predicted(before, motion), np.array([0]), off, moves(np.zeros((1, 2)), np.eye(2)[None], False), motion
    )
    assert found.surprises[0] > 2.0


@pytest.mark.parametrize(("age", "learns"), [(1, False), (2, True)])
def test_a_newborns_velocity_teaches_nothing(squares: Maker, age: int, learns: bool) -> None:
    motion = known(np.eye(3))
    before = table_of(np.array([[42.0, 50, 0, 0]]), np.diag([0.04, 0.04, 1.0, 1.0])[None], age=age)
    matches = moves(np.full((1, 2), 9.0), 1e-4 * np.eye(2)[None])
    found = measured(before, predicted(before, motion), np.array([0]), squares([[42, 50]]), matches, motion)
    assert (found.surprises[0] != 1.0) == learns


# Masks that change, and borders


def test_a_mask_that_changes_its_size_counts_less(squares: Maker) -> None:
    """From 11 to 21 px: its centroid is 0.5 x 10 px uncertain, beside its own 0.3 px."""
    motion = known(np.eye(3))
    before = table_of(np.array([[50.0, 50, 0, 0]]), np.eye(4)[None])
    now = predicted(before, motion)
    grown = squares([[54, 50]], 21)
    found = measured(before, now, np.array([0]), grown, no_matches(), motion)
    expected = update(now.states, now.covariances, grown.centroids_px, np.array([0.3**2 + 5.0**2]))
    np.testing.assert_allclose(found.states, expected[0], atol=1e-9)
    innovation, _ = innovations(now.states, now.covariances, grown.centroids_px, np.ones(1))
    np.testing.assert_allclose(innovation, [[4, 0]])


def test_what_the_border_cuts_may_turn_and_slow(squares: Maker) -> None:
    """It has an acceleration of its own, white and more than the filter's 0.9 px/s^2 by far, and is no surprise."""
    motion = known(np.eye(3))
    before = table_of(np.array([[4.0, 50, 0, 0], [80, 50, 0, 0]]), np.repeat(np.diag([0.1] * 4)[None], 2, axis=0))
    now = predicted(before, motion, 0.0)
    found = measured(before, now, np.array([-1, -1]), squares([]), no_matches(), motion)
    freedom = found.covariances[0] - now.covariances[0]
    acceleration = np.sqrt(freedom[2, 2]) / DT_S
    assert acceleration > 5 * ACCELERATION
    block = np.array([[DT_S**4 / 4, DT_S**3 / 2], [DT_S**3 / 2, DT_S**2]]) * acceleration**2
    np.testing.assert_allclose(freedom, np.kron(block, np.eye(2)), atol=1e-9)
    np.testing.assert_allclose(found.covariances[1], now.covariances[1])
    near = squares([[6, 50], [80, 50]])
    matches = moves(np.full((2, 2), 2.0), np.repeat(1e-2 * np.eye(2)[None], 2, axis=0))
    surprises = measured(before, now, np.arange(2), near, matches, motion).surprises
    assert surprises[0] == 1.0 and surprises[1] > 1.0
