"""The bank of motion models: its errors against simulated truth, who rests and who moves, and its mixtures."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import chi2, multivariate_normal

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.tracking.models import COUNT, LAYERS, MOVING, ModelBank

COUNT_OF_TARGETS, DT_S, ACCELERATION_PX_S2 = 200, 0.1, 0.9
EXACT = np.zeros((9, 9))
# The background turns by 2 degrees and runs; affine, so that its Jacobian is one everywhere.
TURN = np.array([[0.9994, -0.0349, 6.0], [0.0349, 0.9994, -4.0], [0.0, 0.0, 1.0]])
STILL = np.eye(3)


def moved_by(homography: np.ndarray, dt_s: float = DT_S, ground: np.ndarray | None = None) -> Background:
    """Build a background whose stars, the reference, and whose ground are known exactly."""
    stars = Layer(LayerKind.STARS, homography, EXACT)
    earth = None if ground is None else Layer(LayerKind.GROUND, ground, EXACT)
    return Background(dt_s=dt_s, reference=stars, ground=earth, stars=stars, method="stars")


def bank_at(places_px: np.ndarray, sigma_px: float, fixed: float = 0.1, fastest_px_s: float = 200.0) -> ModelBank:
    count = len(places_px)
    return ModelBank.born(
        places_px, spread(count, sigma_px), np.full(count, fixed), np.full(count, 1e-6), fastest_px_s
    )  # fmt: skip


def spread(count: int, sigma_px: float) -> np.ndarray:
    return np.tile(sigma_px**2 * np.eye(2), (count, 1, 1))


def followed(
    bank: ModelBank, background: Background, places_px: np.ndarray, sigma_px: float, chance: float = 1.0
) -> ModelBank:
    """Predict a bank into the next frame and correct it by a place for each object."""
    count = len(places_px)
    mobilities, sizes = np.tile(np.eye(2), (count, 1, 1)), np.full(count, 3.0)
    after = bank.predicted(background, mobilities, sizes, ACCELERATION_PX_S2)
    extra = np.zeros((count, COUNT))
    return after.updated(np.arange(count), places_px, spread(count, sigma_px), extra, np.full(count, chance))


@dataclass
class Targets:
    """Simulated targets: place [px] and velocity against the background [px/s], `(T, 2)` each."""

    places_px: np.ndarray
    velocities_px_s: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, speed_px_s: float) -> "Targets":
        places = rng.uniform(100, 500, (COUNT_OF_TARGETS, 2))
        return cls(places, rng.normal(0, 1, (COUNT_OF_TARGETS, 2)) * speed_px_s)

    def advance(self, accelerations_px_s2: np.ndarray, homography: np.ndarray, dt_s: float) -> None:
        """Fly on, then be carried along by an affine background."""
        flown = self.places_px + dt_s * self.velocities_px_s + dt_s**2 / 2 * accelerations_px_s2
        self.places_px = apply_homography(homography, flown)
        self.velocities_px_s = (self.velocities_px_s + dt_s * accelerations_px_s2) @ homography[:2, :2].T


def normalised(errors: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    return np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors)


def upper_bound(degrees: int) -> float:
    """Compute what the mean normalised squared error of all targets exceeds once in 2000 runs of a true filter."""
    return float(chi2.isf(5e-4, degrees * COUNT_OF_TARGETS)) / COUNT_OF_TARGETS


# Errors against truth


@pytest.mark.parametrize(
    ("share", "homography", "sigma_px", "dt_s"),
    [(0.0, STILL, 0.1, 0.1), (1.0, STILL, 0.1, 0.1), (1.0, TURN, 0.1, 0.1), (1.0, TURN, 0.5, 0.1),
     (1.0, STILL, 0.1, 0.5), (0.0, TURN, 0.1, 0.5)],
    ids=["free flight", "typical acceleration", "turned", "noisy", "slow", "slow free flight"],
)  # fmt: skip
def test_errors_of_moving_targets_are_as_large_as_stated(
    share: float, homography: np.ndarray, sigma_px: float, dt_s: float
) -> None:
    """The mean NEES of place and velocity is under the chi-square bound for four degrees of freedom.

    The bank also holds models of manoeuvres, so it may state more than the error, but no more than ten times the
    variance. As it is no Gaussian, 86 % instead of 95 % must lie in the 95 % ellipse. The errors have no bias.
    """
    rng = np.random.default_rng(1)
    targets = Targets.drawn(rng, 30.0)
    bank = bank_at(targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2)), sigma_px)
    for number in range(1, 26):
        targets.advance(rng.normal(0, share * ACCELERATION_PX_S2, (COUNT_OF_TARGETS, 2)), homography, dt_s)
        seen = targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2))
        bank = followed(bank, moved_by(homography, dt_s), seen, sigma_px)
        if number not in (8, 16, 25):
            continue
        states, covariances = bank.mean()
        errors = states - np.concatenate([targets.places_px, targets.velocities_px_s], axis=1)
        nees = normalised(errors, covariances)
        assert 0.4 < nees.mean() < upper_bound(4)
        assert (nees < chi2.ppf(0.95, 4)).mean() > 0.86
        assert (np.abs(errors.mean(axis=0)) < 4.5 * errors.std(axis=0) / np.sqrt(COUNT_OF_TARGETS)).all()
        assert (errors[:, :2].std(axis=0) < 1.3 * sigma_px).all()  # Hardly worse than one measurement,
    assert share or (errors[:, :2].std(axis=0) < 0.8 * sigma_px).all()  # and better in free flight.
    assert (bank.moving > 0.9).mean() > 0.97


@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turned"])
@pytest.mark.parametrize("sigma_px", [0.1, 0.5])
def test_errors_of_resting_targets_are_as_large_as_stated(homography: np.ndarray, sigma_px: float) -> None:
    """The same of the place, with two degrees of freedom; no target passes for a moving one with a chance of 99 %."""
    rng = np.random.default_rng(2)
    targets = Targets.drawn(rng, 0.0)
    bank = bank_at(targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2)), sigma_px)
    for number in range(1, 26):
        targets.advance(np.zeros((COUNT_OF_TARGETS, 2)), homography, DT_S)
        seen = targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2))
        bank = followed(bank, moved_by(homography), seen, sigma_px)
        if number < 5:
            continue
        states, covariances = bank.mean()
        nees = normalised(states[:, :2] - targets.places_px, covariances[:, :2, :2])
        assert 0.2 < nees.mean() < upper_bound(2)
        assert (bank.moving < 0.99).all() and bank.moving.mean() < 0.02
    assert (states[:, :2] - targets.places_px).std() < 0.5 * sigma_px
    assert np.abs(states[:, 2:]).max() < 1.0  # Rest is known to a pixel per second.


def test_errors_of_manoeuvring_targets_are_as_large_as_stated() -> None:
    """They turn at 20 px/s^2 for 0.8 s; from the third frame of the turn on the error is as stated, and after it."""
    rng, sigma_px = np.random.default_rng(3), 0.1
    targets = Targets.drawn(rng, 30.0)
    bank = bank_at(targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2)), sigma_px)
    stated = []
    for number in range(1, 40):
        across = np.stack([-targets.velocities_px_s[:, 1], targets.velocities_px_s[:, 0]], axis=1)
        across *= 20 / np.linalg.norm(across, axis=1, keepdims=True)
        targets.advance(across if 12 <= number < 20 else np.zeros_like(across), STILL, DT_S)
        seen = targets.places_px + rng.normal(0, sigma_px, (COUNT_OF_TARGETS, 2))
        bank = followed(bank, moved_by(STILL), seen, sigma_px)
        states, covariances = bank.mean()
        errors = states - np.concatenate([targets.places_px, targets.velocities_px_s], axis=1)
        stated.append(np.sqrt(np.trace(covariances[:, 2:, 2:], axis1=1, axis2=2)).mean())
        if number >= 8 and number not in (12, 13, 20, 21):
            assert normalised(errors, covariances).mean() < upper_bound(4), f"frame {number}"
    assert stated[16] > 3 * stated[10]  # The turn is noticed,
    assert stated[-1] < 0.5 * stated[16]  # and forgotten.
    assert np.sqrt((errors[:, 2:] ** 2).mean()) < 0.5


# Rest and motion


def seen_along(places_px: np.ndarray, homographies: list[np.ndarray], **layers: np.ndarray) -> tuple[ModelBank, list]:
    """Follow one object along exact places `(F, 2)`; returns the bank and the chance of motion after each frame."""
    bank, chances = bank_at(places_px[:1], 0.1), []
    for place, homography in zip(places_px[1:], homographies, strict=True):
        bank = followed(bank, moved_by(homography, **layers), place[None], 0.1)
        chances.append(float(bank.moving[0]))
    return bank, chances


def test_rest_and_motion_pass_into_each_other() -> None:
    """It stands for 3 s, flies 40 px/s for 3 s, and stands again; each is known within a second."""
    steps = np.repeat([0.0, 4.0, 0.0], 30)
    places = np.stack([100 + np.concatenate([[0], np.cumsum(steps)]), np.full(91, 50.0)], axis=1)
    _, chances = seen_along(places, [STILL] * 90)
    assert max(chances[5:30]) < 0.1 and min(chances[33:60]) > 0.9 and max(chances[75:]) < 0.2


def test_what_rests_in_the_ground_before_stars_that_move_is_at_rest() -> None:
    """The ground runs 3 px a frame down, the stars, which are the reference, 5 px a frame to the right."""
    shift = np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]])
    ground = np.array([[1.0, 0, 0], [0, 1, 3], [0, 0, 1]])
    places = np.stack([np.full(20, 100.0), 50 + 3.0 * np.arange(20)], axis=1)
    bank, chances = seen_along(places, [shift] * 19, ground=ground)
    assert chances[-1] < 0.05
    assert np.exp(bank.log_weights[0, LAYERS == LayerKind.GROUND]).sum() > 0.9
    _, unknown = seen_along(places, [shift] * 19)  # Without that layer it moves.
    assert unknown[-1] > 0.9


def test_what_stays_on_its_pixel_while_the_stars_move_is_fixed_on_the_detector() -> None:
    shift = np.array([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
    bank, chances = seen_along(np.full((20, 2), 80.0), [shift] * 19)
    assert chances[-1] < 0.01
    assert np.exp(bank.log_weights[0, LAYERS == LayerKind.DETECTOR]).sum() > 0.95


def test_a_moving_object_that_the_camera_begins_to_follow_still_moves() -> None:
    """It flies 40 px/s; then the camera turns with it, and it stays on its pixel while the stars run."""
    follow = np.array([[1.0, 0, -4], [0, 1, 0], [0, 0, 1]])
    x = np.concatenate([100 + 4.0 * np.arange(16), np.full(15, 160.0)])
    places = np.stack([x, np.full(31, 50.0)], axis=1)
    bank, chances = seen_along(places, [STILL] * 15 + [follow] * 15)
    assert min(chances[10:]) > 0.9
    np.testing.assert_allclose(bank.mean()[0][0, 2:], [40, 0], atol=1.0)


def test_velocity_is_against_the_reference() -> None:
    """The background runs 30 px/s to the left, the object 10 px/s to the left in the image: 20 px/s to the right."""
    left = np.array([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])
    places = np.stack([300 - 1.0 * np.arange(20), np.full(20, 200.0)], axis=1)
    bank, _ = seen_along(places, [left] * 19)
    np.testing.assert_allclose(bank.mean()[0][0, 2:], [20, 0], atol=0.2)


def test_what_the_border_cuts_goes_along_by_its_mobility() -> None:
    """The ground runs 6 px to the right; a body cut so that its centroid may not move in x stays, half of it goes 3."""
    shift = np.array([[1.0, 0, 6], [0, 1, 2], [0, 0, 1]])
    bank = bank_at(np.full((3, 2), 50.0), 0.1)
    mobilities = np.stack([np.eye(2), np.diag([0.0, 1.0]), np.diag([0.5, 1.0])])
    after = bank.predicted(moved_by(shift), mobilities, np.full(3, 10.0), ACCELERATION_PX_S2)
    states, _ = after.mean(LAYERS == LayerKind.STARS)
    np.testing.assert_allclose(states[:, :2], [[56, 52], [50, 52], [53, 52]], atol=1e-6)


def test_an_unknown_motion_makes_every_place_uncertain() -> None:
    bank = bank_at(np.full((1, 2), 50.0), 0.1)
    known, unknown = (
        bank.predicted(background, np.eye(2)[None], np.full(1, 3.0), ACCELERATION_PX_S2).mean(~MOVING)[1][0]
        for background in (moved_by(STILL), Background(dt_s=DT_S))
    )
    assert np.sqrt(known[0, 0]) < 2.0 and np.sqrt(unknown[0, 0]) > 5.0


# Mixtures


def test_a_newborn_is_where_it_was_seen_and_fixed_with_its_prior_chance() -> None:
    places, fixed, ghosts = np.array([[3.0, 4.0], [7.0, 8.0]]), np.array([0.3, 1e-4]), np.array([1e-6, 0.2])
    bank = ModelBank.born(places, spread(2, 0.2), fixed, ghosts, 50.0)
    for kind, prior in ((LayerKind.DETECTOR, fixed), (LayerKind.GHOST, ghosts)):
        np.testing.assert_allclose(np.exp(bank.log_weights[:, kind == LAYERS]).sum(axis=1), prior)
    np.testing.assert_allclose(np.exp(bank.log_weights).sum(axis=1), 1.0)
    np.testing.assert_allclose(bank.mean()[0], [[3, 4, 0, 0], [7, 8, 0, 0]])
    # Three equal groups of models deviate by a tenth, by three tenths and by the whole of 50 px/s.
    np.testing.assert_allclose(
        bank.mean(MOVING)[1][:, 2:, 2:], np.tile(2500 * (0.01 + 0.09 + 1) / 3 * np.eye(2), (2, 1, 1))
    )


def test_the_mean_of_two_models_holds_their_distance() -> None:
    """Two models with 3 : 1, 8 px apart: the variance between is 0.75 * 0.25 * 8^2."""
    weights = np.full((1, COUNT), 1e-300)
    weights[0, :2] = 0.75, 0.25
    states = np.zeros((1, COUNT, 4))
    states[0, 1, 0] = 8.0
    covariances = np.tile(np.diag([1.0, 2.0, 3.0, 4.0]), (1, COUNT, 1, 1))
    mean, covariance = ModelBank(np.log(weights), states, covariances).mean()
    np.testing.assert_allclose(mean, [[2, 0, 0, 0]])
    np.testing.assert_allclose(covariance[0], np.diag([13.0, 2.0, 3.0, 4.0]), atol=1e-9)


def test_densities_are_those_of_the_weighted_models() -> None:
    """Over the plane the density of an object adds up to one; that of one model is scipy's Gaussian."""
    bank = bank_at(np.array([[50.0, 60.0]]), 0.5, fastest_px_s=30.0)
    after = bank.predicted(moved_by(STILL), np.eye(2)[None], np.full(1, 3.0), ACCELERATION_PX_S2)
    axis = np.arange(-60, 60.0, 0.5)
    grid = np.stack(np.meshgrid(50 + axis, 60 + axis), axis=-1).reshape(-1, 2)
    densities = np.exp(after.log_densities(grid, np.tile(0.25 * np.eye(2), (1, len(grid), 1, 1))))
    assert densities.sum() * 0.25 == pytest.approx(1.0, abs=0.01)
    single = np.full((1, COUNT), -300.0)
    single[0, 0] = 0.0
    one = ModelBank(single, after.states, after.covariances)
    truth = multivariate_normal(after.states[0, 0, :2], after.covariances[0, 0, :2, :2] + 0.25 * np.eye(2))
    places = np.array([[50.3, 59.0], [52.0, 61.0]])
    found = one.log_densities(places, np.tile(0.25 * np.eye(2), (1, 2, 1, 1)))
    np.testing.assert_allclose(found[0], truth.logpdf(places), atol=1e-6)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_measurement_counts_by_the_chance_that_it_is_the_objects_own(chance: float) -> None:
    """One model: with chance c the step is c times the full one, and the doubt c (1 - c) times its square is added."""
    bank = bank_at(np.array([[50.0, 60.0]]), 1.0)
    single = np.full((1, COUNT), -300.0)
    single[0, 0] = 0.0
    bank = ModelBank(single, bank.states, bank.covariances)
    place, extra = np.array([[54.0, 60.0]]), np.zeros((1, COUNT))
    found = bank.updated(np.array([0]), place, spread(1, 1.0), extra, np.array([chance]))
    # Prior and measurement have equal variances, 1 px^2 each, so the full step is half of 4 px.
    np.testing.assert_allclose(found.states[0, 0, :2], [50 + 2 * chance, 60], atol=1e-9)
    expected = chance * 0.5 + (1 - chance) * 1.0 + chance * (1 - chance) * 4.0
    assert found.covariances[0, 0, 0, 0] == pytest.approx(expected)
    np.testing.assert_array_equal(bank.states[0, 0, :2], [50, 60])  # The bank itself stays as it was.


def test_what_is_not_seen_stays_as_predicted() -> None:
    bank = bank_at(np.array([[50.0, 60.0], [80.0, 90.0]]), 0.5)
    found = bank.updated(np.array([1]), np.array([[81.0, 90.0]]), spread(1, 0.5), np.zeros((1, COUNT)), np.ones(1))
    np.testing.assert_array_equal(found.states[0], bank.states[0])
    np.testing.assert_allclose(found.log_weights[0], bank.log_weights[0])
    assert (found.states[1, :, 0] > 80).all()
    np.testing.assert_allclose(np.exp(found.log_weights).sum(axis=1), 1.0)


# Measured velocities


def single_model(model: int, state: object, covariance: np.ndarray) -> ModelBank:
    """Build an object of which one model is certain."""
    log_weights = np.full((1, COUNT), -300.0)
    log_weights[0, model] = 0.0
    states = np.tile(np.asarray(state, dtype=np.float64), (1, COUNT, 1))
    return ModelBank(log_weights, states, np.tile(covariance, (1, COUNT, 1, 1)))


def test_a_measured_velocity_corrects_place_and_velocity() -> None:
    """By hand: variances 1 px^2 and 4 px^2/s^2, covariance 1 px^2/s, and a measurement of 4 px^2/s^2.

    The gains are 4 / (4 + 4) for the velocity and 1 / (4 + 4) for the place.
    """
    prior = np.kron(np.array([[1.0, 1.0], [1.0, 4.0]]), np.eye(2))
    model = int(np.flatnonzero(MOVING)[0])
    bank = single_model(model, [50, 60, 0, 0], prior)
    found = bank.corrected_velocities(np.array([0]), np.array([[10.0, -6.0]]), 4 * np.eye(2)[None])
    np.testing.assert_allclose(found.states[0, model], [50 + 10 / 8, 60 - 6 / 8, 5, -3], atol=1e-9)
    expected = np.kron(np.array([[1 - 1 / 8, 0.5], [0.5, 2.0]]), np.eye(2))
    np.testing.assert_allclose(found.covariances[0, model], expected, atol=1e-9)
    np.testing.assert_array_equal(bank.states[0, model], [50, 60, 0, 0])  # The bank itself stays as it was.


@pytest.mark.parametrize(("measured_px_s", "log_odds"), [(10.0, 2.0), (5.0, 0.0), (0.0, -2.0)])
def test_a_measured_velocity_tells_rest_from_motion(measured_px_s: float, log_odds: float) -> None:
    """At rest, or at 10 px/s exactly, equally likely before; the measurement has 5 px/s: half of (10 / 5)^2 is 2.

    A model whose velocity is exact, as that of all resting ones is, keeps its state. A second object is not measured.
    """
    rests, moves = np.flatnonzero(LAYERS == LayerKind.STARS)[0], np.flatnonzero(MOVING)[0]
    log_weights = np.full((2, COUNT), -300.0)
    log_weights[:, [rests, moves]] = np.log(0.5)
    states, covariances = np.tile([50.0, 60, 0, 0], (2, COUNT, 1)), np.zeros((2, COUNT, 4, 4))
    states[:, moves, 2], covariances[:, :, :2, :2] = 10.0, np.eye(2)
    bank = ModelBank(log_weights, states, covariances)
    found = bank.corrected_velocities(np.array([0]), np.array([[measured_px_s, 0.0]]), 25 * np.eye(2)[None])
    assert found.log_weights[0, moves] - found.log_weights[0, rests] == pytest.approx(log_odds, abs=1e-6)
    np.testing.assert_allclose(found.states, states, atol=1e-9)
    np.testing.assert_allclose(found.covariances, covariances, atol=1e-9)
    np.testing.assert_array_equal(found.log_weights[1], log_weights[1])


def test_resting_models_have_the_velocity_of_their_layer() -> None:
    """In 0.1 s stars, the reference, run 5 px to the right and the ground 3 px down; the detector stays.

    A measured velocity of the ground is then likeliest where the object rests on it.
    """
    shift, ground = np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]]), np.array([[1.0, 0, 0], [0, 1, 3], [0, 0, 1]])
    bank = bank_at(np.array([[50.0, 60.0]]), 0.1).predicted(
        moved_by(shift, ground=ground), np.eye(2)[None], np.full(1, 3.0), ACCELERATION_PX_S2
    )
    expected = {LayerKind.STARS: [0, 0], LayerKind.GROUND: [-50, 30], LayerKind.DETECTOR: [-50, 0]}
    for kind, velocity in expected.items():
        models = np.flatnonzero(kind == LAYERS)
        np.testing.assert_allclose(bank.states[0, models, 2:], np.tile(velocity, (len(models), 1)), atol=1e-6)
    found = bank.corrected_velocities(np.array([0]), np.array([[-50.0, 30.0]]), np.eye(2)[None])
    gained = found.log_weights[0] - bank.log_weights[0]
    assert gained[LAYERS == LayerKind.GROUND].min() > gained[LAYERS != LayerKind.GROUND].max()


def test_no_objects_are_ordinary() -> None:
    none = bank_at(np.zeros((0, 2)), 0.1)
    assert len(none.predicted(moved_by(STILL), np.zeros((0, 2, 2)), np.zeros(0), 1.0)) == 0
    assert len(none.corrected_velocities(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), np.zeros((0, 2, 2)))) == 0
    assert none.moving.shape == (0,) and none.mean()[0].shape == (0, 4)
    assert none.log_densities(np.zeros((3, 2)), np.zeros((0, 3, 2, 2))).shape == (0, 3)
