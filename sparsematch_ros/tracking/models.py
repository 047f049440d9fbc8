"""A bank of motion models for each object: at rest in a layer of the background, or moving on its own.

Every model is a Kalman filter of centroid and velocity. Their weights are the probabilities that each is right; they
follow the likelihoods of the innovations, and objects pass from one model to another with small probabilities (the
interacting multiple model, Blom and Bar-Shalom, "The interacting multiple model algorithm for systems with Markovian
switching coefficients", 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.data import BoolArray, FloatArray, IntArray

# Standard deviation of the centroid as a multiple of the measured one: masks may be worse than they look.
_NOISES = (1.0, 3.0, 12.0)
# Acceleration of a moving object as a multiple of the setting: free flight, a body that turns, a manoeuvre.
# What flies freely is usually slow: with each goes the newborn's velocity, as a share of its standard deviation.
_ACCELERATIONS, _SPEEDS = (0.3, 3.0, 20.0), (0.1, 0.3, 1.0)
_RESTING = (LayerKind.STARS, LayerKind.GROUND, LayerKind.DETECTOR, LayerKind.GHOST)
_FIXED = (LayerKind.DETECTOR, LayerKind.GHOST)
# Share of its size by which the centroid of a resting body wanders from frame to frame; by how much a ghost does, and
# no further [px].
_WANDER_SHARE, _GHOST_WANDER_SHARE, _GHOST_WANDER_PX = 0.001, 0.01, 0.25
# Chance a frame that an object passes between rest in a layer and motion, and between models of the same kind. Nothing
# comes to rest on the detector, or becomes a ghost.
_SWITCH, _WITHIN = 0.002, 0.05
# Prior chance that a newborn moves.
_MOVING_PRIOR = 0.5
# One measurement may be an outlier: it says no more than this for one model against another.
_MOST_LOG_RATIO = 4.0
# Models that are less likely than this are no longer told apart.
_LEAST_LOG_WEIGHT = -60.0
# The centroid of a body that turns and is lit anew accelerates by this share of its size [1/s^2].
_TURN_SHARE = 0.05
# Places farther off than this many standard deviations of the widest model have this log density [1/px^2].
_REACH_SIGMA, _FAR = 6.0, -1e3
# Motion of the image that is unknown [px].
_UNKNOWN_PX = 20.0


def _model_table() -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Lay out the models: layer (-1: moving), acceleration, first speed and noise of each."""
    rows = [(int(layer), 0.0, 0.0, noise) for layer in _RESTING for noise in _NOISES]
    rows += [(-1, *motion, noise) for motion in zip(_ACCELERATIONS, _SPEEDS) for noise in _NOISES]
    layers, accelerations, speeds, noises = zip(*rows)
    return np.array(layers), np.array(accelerations), np.array(speeds), np.array(noises)


LAYERS, _ACCELERATION, _SPEED, _NOISE = _model_table()
COUNT = len(LAYERS)
MOVING: BoolArray = LAYERS < 0


def _switching() -> FloatArray:
    """Compute the chances `(M, M)` of passing from a model (row) to another (column) in a frame."""
    fixed = np.isin(LAYERS, _FIXED)
    same_kind = LAYERS[:, None] == LAYERS[None]
    np.fill_diagonal(same_kind, False)
    started = ~MOVING[:, None] & MOVING[None]
    stopped = MOVING[:, None] & ~MOVING[None] & ~fixed[None]
    chances = np.zeros((COUNT, COUNT))
    for allowed, chance in ((same_kind, _WITHIN), (started | stopped, _SWITCH)):
        chances += chance * allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    return np.asarray(chances + np.diag(1 - chances.sum(axis=1)))


_SWITCHING = _switching()


@dataclass(frozen=True, eq=False)
class ModelBank:
    """M models of each of T objects.

    Attributes:
        log_weights: `(T, M)` log probability of each model.
        states: `(T, M, 4)` centroid [px] and velocity against the reference layer [px/s].
        covariances: `(T, M, 4, 4)`.

    """

    log_weights: FloatArray
    states: FloatArray
    covariances: FloatArray

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.states)

    @classmethod
    def born(
        cls, centroids_px: FloatArray, covariances_px2: FloatArray, fixed_priors: FloatArray, ghost_priors: FloatArray,
        speed_sigma_px_s: float,
    ) -> ModelBank:  # fmt: skip
        """Start with K centroids that may be fixed on the detector, or ghosts, by some chance; else they rest or move.

        Their velocity may be anything up to some standard deviation an axis.
        """
        count = len(centroids_px)
        states = np.zeros((count, COUNT, 4))
        states[:, :, :2] = centroids_px[:, None]
        covariances = np.zeros((count, COUNT, 4, 4))
        covariances[:, :, :2, :2] = covariances_px2[:, None] * (_NOISE**2)[:, None, None]
        covariances[:, :, 2, 2] = covariances[:, :, 3, 3] = (speed_sigma_px_s * _SPEED) ** 2
        chances = dict.fromkeys(_RESTING, (1 - _MOVING_PRIOR - fixed_priors - ghost_priors) / 2)
        chances |= {LayerKind.DETECTOR: fixed_priors, LayerKind.GHOST: ghost_priors}
        prior = np.full((count, COUNT), _MOVING_PRIOR / MOVING.sum())
        for kind, chance in chances.items():
            models = np.flatnonzero(kind == LAYERS)
            prior[:, models] = chance[:, None] / len(models)
        return cls(np.log(prior), states, covariances)

    def take(self, rows: IntArray | BoolArray) -> ModelBank:
        """Select some objects."""
        return ModelBank(self.log_weights[rows], self.states[rows], self.covariances[rows])

    def join(self, other: ModelBank) -> ModelBank:
        """Append other objects."""
        names = ("log_weights", "states", "covariances")
        return ModelBank(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    @property
    def moving(self) -> FloatArray:
        """Probability `(T,)` that each object moves on its own."""
        return np.asarray(np.exp(logsumexp(self.log_weights[:, MOVING], axis=1))) if len(self) else np.zeros(0)

    def mean(self, models: BoolArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Compute the mean `(T, 4)` and covariance `(T, 4, 4)` over all models, or over some `(M,)`."""
        chosen = np.ones(COUNT, dtype=bool) if models is None else models
        log_weights = self.log_weights[:, chosen]
        weights = np.exp(log_weights - logsumexp(log_weights, axis=1, keepdims=True))
        return _mixture(weights, self.states[:, chosen], self.covariances[:, chosen])

    def predicted(
        self, background: Background, mobilities: FloatArray, sizes_px: FloatArray, acceleration_px_s2: float
    ) -> ModelBank:
        """Predict into the next frame.

        Args:
            background: its motion.
            mobilities: `(T, 2, 2)` of the objects' last segments.
            sizes_px: `(T,)` their sizes.
            acceleration_px_s2: typical acceleration of a small object [px/s^2].

        """
        if len(self) == 0:
            return self
        mixed = self._mixed()
        states, covariances = mixed.states.copy(), mixed.covariances.copy()
        layers = {int(layer.kind): layer for layer in background.layers}
        for kind in _RESTING:
            models = np.flatnonzero(kind == LAYERS)
            layer = layers.get(int(kind), background.reference)
            wanders_px = _WANDER_SHARE * sizes_px
            if kind in _FIXED:
                wanders_px = np.minimum(_GHOST_WANDER_SHARE * sizes_px, _GHOST_WANDER_PX)
            _rest(states, covariances, models, layer, background, mobilities, wanders_px)
        models = np.flatnonzero(MOVING)
        accelerations = np.hypot(acceleration_px_s2, _TURN_SHARE * sizes_px)
        _move(states, covariances, models, background, accelerations)
        return ModelBank(mixed.log_weights, states, covariances)

    def log_densities(self, places_px: FloatArray, covariances_px2: FloatArray) -> FloatArray:
        """Compute the log density `(T, N)` [1/px^2] of N measured places under the predictions.

        Args:
            places_px: `(N, 2)`.
            covariances_px2: `(T, N, 2, 2)` their errors if they are these objects.

        """
        spreads = np.trace(self.covariances[:, :, :2, :2], axis1=2, axis2=3).max(axis=1, initial=0.0)[:, None]
        spreads = spreads + _NOISE.max() ** 2 * np.trace(covariances_px2, axis1=2, axis2=3)
        middles = self.states[:, MOVING, :2].mean(axis=1)
        apart = np.abs(self.states[:, :, :2] - middles[:, None]).max(axis=(1, 2), initial=0.0)[:, None]
        distances = np.linalg.norm(places_px[None] - middles[:, None], axis=2)
        rows, columns = np.nonzero(distances - 2 * apart < _REACH_SIGMA * np.sqrt(spreads))
        differences = places_px[columns, None] - self.states[rows, :, :2]
        noises = covariances_px2[rows, columns, None] * (_NOISE**2)[:, None, None]
        each = _log_normal(differences, self.covariances[rows, :, :2, :2] + noises)
        densities = np.full(distances.shape, _FAR)
        densities[rows, columns] = logsumexp(each + self.log_weights[rows], axis=1)
        return densities

    def updated(
        self, seen: IntArray, places_px: FloatArray, covariances_px2: FloatArray, extra: FloatArray,
        chances: FloatArray,
    ) -> ModelBank:  # fmt: skip
        """Correct the objects that were seen by their measured places.

        With the chance that a measurement is clutter, the object stays where it was predicted (the probabilistic data
        association of one measurement, Bar-Shalom and Tse, 1975).

        Args:
            seen: `(K,)` rows of the objects.
            places_px: `(K, 2)`.
            covariances_px2: `(K, 2, 2)`.
            extra: `(K, M)` further log likelihoods of the models.
            chances: `(K,)` that each measurement is the object's own.

        """
        noises = covariances_px2[:, None] * (_NOISE**2)[:, None, None]
        return self._corrected(seen, slice(0, 2), places_px, noises, extra, chances)

    def corrected_velocities(self, rows: IntArray, velocities_px_s: FloatArray, covariances: FloatArray) -> ModelBank:
        """Correct objects whose velocity was measured too.

        Args:
            rows: `(K,)` of the objects.
            velocities_px_s: `(K, 2)` against the reference layer.
            covariances: `(K, 2, 2)` [px^2/s^2].

        """
        noises = np.repeat(covariances[:, None], COUNT, axis=1)
        return self._corrected(rows, slice(2, 4), velocities_px_s, noises, np.zeros(1), np.ones(len(rows)))

    def _corrected(
        self, seen: IntArray, part: slice, measured: FloatArray, noises: FloatArray, extra: FloatArray,
        chances: FloatArray,
    ) -> ModelBank:  # fmt: skip
        """Correct objects by a measurement `(K, 2)` of a part of their states, with noises `(K, M, 2, 2)`."""
        states, covariances = self.states[seen], self.covariances[seen]
        innovations = measured[:, None] - states[:, :, part]
        spreads = covariances[:, :, part, part] + noises
        gains = np.linalg.solve(spreads, covariances[:, :, part, :]).swapaxes(2, 3)
        steps = np.einsum("kmij,kmj->kmi", gains, innovations)
        keep = np.eye(4) - gains @ np.eye(4)[part]
        corrected = keep @ covariances @ keep.swapaxes(2, 3) + gains @ noises @ gains.swapaxes(2, 3)
        own = chances[:, None]
        new = ModelBank(self.log_weights.copy(), self.states.copy(), self.covariances.copy())
        likelihoods = _log_normal(innovations, spreads) + extra
        likelihoods = np.maximum(likelihoods, likelihoods.max(axis=1, keepdims=True, initial=-np.inf) - _MOST_LOG_RATIO)
        weights = self.log_weights[seen] + likelihoods
        weights = np.exp(weights - logsumexp(weights, axis=1, keepdims=True))
        new.log_weights[seen] = np.log(own * weights + (1 - own) * np.exp(self.log_weights[seen]))
        new.states[seen] = states + own[..., None] * steps
        apart = (own * (1 - own))[..., None, None] * steps[..., :, None] * steps[..., None, :]
        own = own[..., None, None]
        new.covariances[seen] = own * corrected + (1 - own) * covariances + apart
        return new

    def _mixed(self) -> ModelBank:
        """Let each model start from what all models, weighed by the chance of passing to it, make of the object."""
        joint = np.exp(np.maximum(self.log_weights, _LEAST_LOG_WEIGHT))[:, :, None] * _SWITCHING
        weights = joint.sum(axis=1)
        shares = joint / weights[:, None]
        # What leaves the detector, or stops being a ghost, does not go on as these do.
        own = self.states.copy()
        own[:, np.isin(LAYERS, _FIXED), 2:] = 0.0
        states = np.einsum("tij,tik->tjk", shares, own)
        apart = own[:, :, None] - states[:, None]
        covariances = np.einsum("tij,tikl->tjkl", shares, self.covariances)
        covariances += np.einsum("tij,tijk,tijl->tjkl", shares, apart, apart)
        return ModelBank(np.log(weights), states, covariances)


def _mixture(weights: FloatArray, states: FloatArray, covariances: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = np.einsum("tm,tmi->ti", weights, states)
    apart = states - mean[:, None]
    spread = np.einsum("tm,tmij->tij", weights, covariances) + np.einsum("tm,tmi,tmj->tij", weights, apart, apart)
    return mean, spread


def _rest(
    states: FloatArray, covariances: FloatArray, models: IntArray, layer: Layer | None, background: Background,
    mobilities: FloatArray, wanders_px: FloatArray,
) -> None:  # fmt: skip
    """Carry objects at rest in a layer along with it; what the border cuts moves by its mobility only."""
    places = states[:, models, :2]
    flat = places.reshape(-1, 2)
    mobility = np.repeat(mobilities, len(models), axis=0)
    wander = np.repeat(wanders_px, len(models)) ** 2
    carried, jacobians, errors = flat, np.broadcast_to(np.eye(2), (len(flat), 2, 2)), np.zeros((len(flat), 2, 2))
    if layer is None:
        wander = wander + _UNKNOWN_PX**2
    else:
        transport = layer.transport(flat)
        carried, jacobians, errors = transport.points_px, transport.jacobians, transport.covariances_px2
    moved = flat + np.einsum("nij,nj->ni", mobility, carried - flat)
    spread = covariances[:, models, :2, :2].reshape(-1, 2, 2)
    spread = jacobians @ spread @ jacobians.swapaxes(1, 2) + errors + wander[:, None, None] * np.eye(2)
    against = np.zeros_like(flat)
    if layer is not background.reference and background.reference is not None and background.dt_s > 0:
        against = (carried - background.reference.transport(flat).points_px) / background.dt_s
    states[:, models, :2], states[:, models, 2:] = moved.reshape(places.shape), against.reshape(places.shape)
    rest = np.zeros((*places.shape[:2], 4, 4))
    rest[:, :, :2, :2] = spread.reshape(*places.shape[:2], 2, 2)
    covariances[:, models] = rest


def _move(
    states: FloatArray, covariances: FloatArray, models: IntArray, background: Background, accelerations: FloatArray
) -> None:
    """Let moving objects go on with their velocity, then carry them along with the reference layer.

    Process noise is white acceleration (Bar-Shalom, "Estimation with Applications to Tracking and Navigation", 6.3.2).
    """
    dt_s = background.dt_s
    own, spread = states[:, models].reshape(-1, 4), covariances[:, models].reshape(-1, 4, 4)
    coasted = own[:, :2] + dt_s * own[:, 2:]
    jacobians = np.broadcast_to(np.eye(2), (len(own), 2, 2))
    carried, errors = coasted, np.broadcast_to(_UNKNOWN_PX**2 * np.eye(2), (len(own), 2, 2))
    if background.reference is not None:
        transport = background.reference.transport(coasted)
        carried, jacobians, errors = transport.points_px, transport.jacobians, transport.covariances_px2
    transition = np.zeros((len(own), 4, 4))
    transition[:, :2, :2] = transition[:, 2:, 2:] = jacobians
    transition[:, :2, 2:] = dt_s * jacobians
    block = np.array([[dt_s**4 / 4, dt_s**3 / 2], [dt_s**3 / 2, dt_s**2]])
    scales = (accelerations[:, None] * _ACCELERATION[models]).reshape(-1) ** 2
    spread = transition @ spread @ transition.swapaxes(1, 2) + scales[:, None, None] * np.kron(block, np.eye(2))
    spread[:, :2, :2] += errors
    velocity = np.einsum("nij,nj->ni", jacobians, own[:, 2:])
    shape = (len(states), len(models))
    states[:, models] = np.concatenate([carried, velocity], axis=1).reshape(*shape, 4)
    covariances[:, models] = spread.reshape(*shape, 4, 4)


def _log_normal(differences: FloatArray, spreads: FloatArray) -> FloatArray:
    """Compute the log of Gaussian densities of vectors `(..., 2)` under covariances `(..., 2, 2)`."""
    a, b, c = spreads[..., 0, 0], spreads[..., 0, 1], spreads[..., 1, 1]
    determinant = a * c - b * b
    x, y = differences[..., 0], differences[..., 1]
    distance2 = (c * x * x - 2 * b * x * y + a * y * y) / determinant
    return np.asarray(-0.5 * distance2 - 0.5 * np.log(determinant) - np.log(2 * np.pi))
