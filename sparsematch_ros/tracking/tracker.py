"""Identity and velocity over time: predict, update, existence, birth and death."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch.nn import functional

from sparsematch_ros.background.ghosts import on_line
from sparsematch_ros.background.layers import Background, LayerKind
from sparsematch_ros.config import TrackingConfig
from sparsematch_ros.data import (
    NANOSECONDS,
    BoolArray,
    Descriptors,
    FloatArray,
    Frame,
    IntArray,
    Matches,
    ObjectState,
    SpaceObject,
    TrackPredictions,
)
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.matching.association import Association, associate, place_errors
from sparsematch_ros.matching.flow import measure_steps
from sparsematch_ros.matching.pairs import pair_matches
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.existence import BIRTH_LOG_ODDS, MOST_LOG_ODDS, Clutter
from sparsematch_ros.tracking.fragments import TURN_RAD_S, find_bodies, find_fragments
from sparsematch_ros.tracking.models import LAYERS, MOVING, ModelBank
from sparsematch_ros.tracking.outlines import Outlines
from sparsematch_ros.tracking.output import describe_objects
from sparsematch_ros.tracking.reidentification import LostObjects
from sparsematch_ros.tracking.table import TrackTable

# Weight of a new frame in descriptors and offsets.
_SMOOTHING = 0.3
_REPLACED = ("areas_px", "fluxes", "mobilities", "offsets_px", "last_seen_ns")
# Odds of existence under which a tentative object is given up.
_HOPELESS = -4.0
# An object is waited for through at least so many frames.
_LEAST_COASTED = 1.5
# What passes behind another object, or merges with it, is waited for this many times as long.
_HIDDEN_PATIENCE = 3.0
# An object claims the point sources within this many standard deviations of where it is predicted, and this far [px].
_CLAIM_SIGMA, _CLAIM_LIMIT_PX = 4.0, 8.0
# A resting object matters less than a moving one when prompts are short.
_RESTING_PRIORITY = 0.5
# The centroid of a mask is vague from this error on [px].
_VAGUE_PX = 0.5
# Chance that what lies on the line of a bright light is a ghost of it, and at least.
_GHOST, _LEAST_GHOST = 0.2, 1e-6
# Share of a resting mask's pixels that no layer explains, the least share that is told from none, and bounds of the log
# likelihood ratio of motion: of a smooth body few pixels show that it moves.
_RESTING_SHARE, _LEAST_SHARE, _SHARE_BOUNDS = 0.01, 0.001, (-1.0, 3.0)


class Tracker:
    """Follows objects from frame to frame against the background."""

    def __init__(self, config: TrackingConfig) -> None:
        """Keep the settings; nothing is followed."""
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._table = TrackTable.empty()
        self._predicted = self._table.bank
        self._clutter = Clutter()
        self._outlines = Outlines()
        self._lost = LostObjects(self.config)
        self._image: NDArray[np.uint8] | None = None

    def predict(self, background: Background) -> TrackPredictions:
        """Predict all objects through the background's motion into the next frame."""
        table = self._table
        self._predicted = table.bank.predicted(
            background, table.mobilities, np.sqrt(table.areas_px), self.config.acceleration_px_s2
        )
        states, covariances = self._predicted.mean()
        before, _ = table.bank.mean()
        boxes = table.boxes_xywh_px.copy()
        boxes[:, :2] += states[:, :2] - before[:, :2]
        return TrackPredictions(
            states=states,
            covariances=covariances,
            boxes_xywh_px=boxes,
            areas_px=table.areas_px,
            segment_rows=table.segment_rows,
            priorities=_probability(table.log_odds) * np.where(table.moving, 1.0, _RESTING_PRIORITY),
            believed=table.log_odds > 0,
            resolved=~table.point_source,
            bodies=find_bodies(table),
        )

    def step(
        self, frame: Frame, background: Background, segments: Segments, descriptors: Descriptors,
        predictions: TrackPredictions, previous: Segments | None, faint: int,
    ) -> tuple[tuple[SpaceObject, ...], Matches]:  # fmt: skip
        """Take in a frame's segments.

        Args:
            frame: the image, for its stamp and intrinsics.
            background: its motion.
            segments: its N segments.
            descriptors: theirs.
            predictions: what `predict` returned for this frame.
            previous: the segments of the frame before, or None on the first.
            faint: point sources that are too faint to be segments where nothing is tracked.

        Returns:
            Every object alive, and those lost in this frame; and the pairs of segments that one object has in both.

        """
        cosines = cosine_matrix(Descriptors(self._table.descriptors.to(descriptors.vectors.device)), descriptors)
        found = self._associate(background, segments, predictions, cosines, faint)
        matches = pair_matches(previous, segments, predictions, found.segment_rows, cosines, background)
        before = self._table
        table = self._updated(predictions, found, segments, descriptors, frame.stamp_ns)
        table = self._followed(before, table, previous, segments, background, frame)
        table = self._judged(table, found.hidden, background, frame)
        table = self._lost.step(table, self._table.stages, background, frame.stamp_ns)
        table = table.join(self._births(table, found, segments, descriptors, frame, background))
        self._outlines.learn(table, segments)
        objects = describe_objects(table, segments, frame, background, self._outlines)
        self._table, self._image = table.take(table.stages != ObjectState.LOST), frame.gray
        return objects, matches

    def claims(self, predictions: TrackPredictions, points_px: FloatArray) -> BoolArray:
        """Test which points `(S, 2)` lie where an object is predicted, within its error and a few pixels."""
        claimed = np.zeros(len(points_px), dtype=bool)
        if len(points_px) == 0 or len(predictions) == 0:
            return claimed
        spread = np.sqrt(predictions.covariances[:, [0, 1], [0, 1]].max(axis=1))
        reach = np.minimum(_CLAIM_SIGMA * spread + 1.0, _CLAIM_LIMIT_PX)
        for rows in cKDTree(points_px).query_ball_point(predictions.states[:, :2], reach):
            claimed[rows] = True
        return claimed

    def moving_masks(self, segments: Segments) -> BoolArray | None:
        """Draw the objects `(H, W)` that are believed to move, which no layer of the background may rest on."""
        rows = self._table.segment_rows[self._table.moving & (self._table.log_odds > 0)]
        rows = rows[(rows >= 0) & (rows < segments.mask_count)]
        if len(rows) == 0:
            return None
        return np.asarray(segments.masks[torch.as_tensor(rows, device=segments.masks.device)].any(dim=0).cpu().numpy())

    def _associate(
        self, background: Background, segments: Segments, predictions: TrackPredictions, cosines: FloatArray, faint: int
    ) -> Association:
        errors = place_errors(predictions, segments)
        densities = self._predicted.log_densities(segments.centroids_px, errors)
        if background.gap:
            densities[:] = -np.inf  # Across such a gap nothing is what it was.
        believed = self._table.point_source[predictions.believed]
        kinds = np.where(np.arange(len(segments)) < segments.mask_count, 0, np.where(segments.faint, 2, 1))
        self._clutter.count(kinds, np.array([(~believed).sum(), believed.sum()]), faint)
        clutter = self._clutter.log_densities(kinds, (segments.masks.shape[1], segments.masks.shape[2]))
        return associate(predictions, segments, densities, cosines, self._table.fluxes, clutter)

    def _updated(
        self, predictions: TrackPredictions, found: Association, segments: Segments, descriptors: Descriptors,
        stamp_ns: int,
    ) -> TrackTable:  # fmt: skip
        """Correct what was seen, and take over what it looks like now."""
        table, assigned = self._table, found.segment_rows
        seen = np.flatnonzero(assigned >= 0)
        rows = assigned[seen]
        # What misfits its layer by its texture does so again: each further frame tells less.
        extra = _motion_evidence(segments.moving_shares[rows]) / table.ages[seen][:, None]
        errors = place_errors(predictions, segments)[seen, rows]
        bank = self._predicted.updated(seen, segments.centroids_px[rows], errors, extra, found.chances[seen])
        columns = {name: getattr(table, name).copy() for name in _REPLACED}
        # Where a larger object is, what is taken for this one may slide over to it: there its size stays what it was.
        clear = ~found.covered[seen]
        columns["areas_px"][seen[clear]] = segments.areas_px[rows[clear]]
        columns["fluxes"][seen] = segments.fluxes[rows]
        columns["mobilities"][seen], columns["last_seen_ns"][seen] = segments.mobilities[rows], stamp_ns
        columns["offsets_px"][seen] += _SMOOTHING * (segments.offsets_px[rows] - columns["offsets_px"][seen])
        boxes, point_source = predictions.boxes_xywh_px.copy(), table.point_source.copy()
        boxes[seen[clear]], point_source[seen] = segments.boxes_xywh_px[rows[clear]], rows >= segments.mask_count
        table = table.with_columns(
            **columns,
            bank=bank,
            boxes_xywh_px=boxes,
            point_source=point_source,
            segment_rows=assigned,
            log_odds=table.log_odds + found.log_ratios,
            ages=table.ages + 1,
        )
        return _blended(table, seen, rows, descriptors)

    def _followed(
        self, before: TrackTable, table: TrackTable, previous: Segments | None, segments: Segments,
        background: Background, frame: Frame,
    ) -> TrackTable:  # fmt: skip
        """Correct the velocities of objects with vague outlines by how far their texture has moved."""
        if previous is None or self._image is None or background.reference is None or background.dt_s <= 0:
            return table
        rows, last = table.segment_rows, before.segment_rows
        both = np.flatnonzero((rows >= 0) & (rows < segments.mask_count) & (last >= 0) & (last < previous.mask_count))
        vague = segments.covariances_px2[rows[both], 0, 0] > _VAGUE_PX**2
        both = both[vague]
        if len(both) == 0:
            return table
        first, second = last[both], rows[both]
        places = previous.centroids_px[first]
        expected = self._predicted.mean()[0][both, :2] - before.bank.mean()[0][both, :2]
        device = segments.masks.device
        steps, errors = measure_steps(
            (self._image, frame.gray),
            previous.masks[torch.as_tensor(first, device=device)],
            segments.masks[torch.as_tensor(second, device=device)],
            expected,
        )
        known = np.isfinite(steps[:, 0])
        carried = background.reference.transport(places[known])
        # The turn of a body persists, so that each further frame tells less.
        turn = (TURN_RAD_S / 2) ** 2 * segments.areas_px[second[known]] * table.ages[both[known]]
        errors = (errors[known] + carried.covariances_px2) / background.dt_s**2 + turn[:, None, None] * np.eye(2)
        velocities = (steps[known] - (carried.points_px - places[known])) / background.dt_s
        return table.with_columns(bank=table.bank.corrected_velocities(both[known], velocities, errors))

    def _judged(self, table: TrackTable, hidden: BoolArray, background: Background, frame: Frame) -> TrackTable:
        """Decide each object's state and whether it moves."""
        config = self.config
        moving = self._moving(table, background)
        seen = table.segment_rows >= 0
        needed = self._clutter.confirmation_log_odds(background.dt_s, config.false_confirmations_per_hour)
        fragments, absorbed = find_fragments(table)
        proven = seen & ~fragments & (table.log_odds >= needed[table.point_source.astype(np.int64)])
        confirmed = (table.stages != ObjectState.TENTATIVE) | proven
        stages = np.where(confirmed, int(ObjectState.CONFIRMED), int(ObjectState.TENTATIVE))
        stages = np.where(confirmed & ~seen, int(ObjectState.COASTING), stages)
        unseen_s = (frame.stamp_ns - table.last_seen_ns) / NANOSECONDS
        patience_s = max(config.max_coast_s, _LEAST_COASTED * background.dt_s) * np.where(hidden, _HIDDEN_PATIENCE, 1.0)
        gone = np.where(confirmed, unseen_s > patience_s, table.log_odds < _HOPELESS)
        gone |= background.gap | absorbed
        centroids = table.bank.mean()[0][:, :2]
        outside = ((centroids < 0) | (centroids > np.array(frame.size)[::-1] - 1)).any(axis=1)
        stages = np.where(gone | (outside & ~seen), int(ObjectState.LOST), stages)
        odds = np.where(confirmed, np.minimum(table.log_odds, MOST_LOG_ODDS), table.log_odds)
        return table.with_columns(stages=stages, moving=moving, log_odds=odds)

    def _moving(self, table: TrackTable, background: Background) -> BoolArray:
        """Decide which objects `(T,)` move: surely and fast enough; once moving, more likely than not will do."""
        if not background.valid:
            return table.moving
        chance = table.bank.moving
        speeds = np.linalg.norm(table.bank.mean(MOVING)[0][:, 2:], axis=1)
        ease = np.where(table.moving, 0.5, 1.0)
        sure = chance > np.where(table.moving, 0.5, 1 - self.config.moving_false_alarm)
        return np.asarray(sure & (speeds > self.config.moving_speed_px_s * ease))

    def _births(
        self, table: TrackTable, found: Association, segments: Segments, descriptors: Descriptors, frame: Frame,
        background: Background,
    ) -> TrackTable:  # fmt: skip
        """Start an object for each segment that belongs to none."""
        free = ~found.fragments & ~segments.faint
        free[table.segment_rows[table.segment_rows >= 0]] = False
        room = max(0, self.config.max_objects - int((table.stages != ObjectState.LOST).sum()))
        rows = np.flatnonzero(free)
        rows = rows[np.argsort(-segments.scores[rows], kind="stable")][:room]
        # The interval to the next frame is taken to be that before this one, unless that was a gap.
        config, dt_s = self.config, 0.0 if background.gap else background.dt_s
        fastest = min(config.max_speed_px_s, config.max_step_px / dt_s if dt_s else config.max_speed_px_s)
        points = rows >= segments.mask_count
        ghosts = np.maximum(_GHOST * on_line(segments.centroids_px[rows], background.light_px, frame), _LEAST_GHOST)
        bank = ModelBank.born(
            segments.centroids_px[rows],
            segments.covariances_px2[rows],
            segments.fixed_priors[rows],
            ghosts,
            fastest / 3,
        )
        return self._table.born(
            bank, BIRTH_LOG_ODDS, frame.stamp_ns,
            boxes_xywh_px=segments.boxes_xywh_px[rows], areas_px=segments.areas_px[rows], fluxes=segments.fluxes[rows],
            mobilities=segments.mobilities[rows], offsets_px=segments.offsets_px[rows],
            segment_rows=rows, point_source=points,
            descriptors=descriptors.vectors[torch.as_tensor(rows, device=descriptors.vectors.device)],
        )  # fmt: skip


def _probability(log_odds: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _motion_evidence(shares: FloatArray) -> FloatArray:
    """Compute log likelihoods `(K, M)` of the models from the share `(K,)` of pixels that no layer explains.

    What rests in a layer agrees with it pixel by pixel; what moves does not.
    """
    ratio = np.clip(np.log((shares + _LEAST_SHARE) / _RESTING_SHARE), *_SHARE_BOUNDS)
    resting = (LAYERS == LayerKind.STARS) | (LAYERS == LayerKind.GROUND)
    return np.where(resting[None] & np.isfinite(ratio)[:, None], -np.nan_to_num(ratio)[:, None], 0.0)


def _blended(table: TrackTable, seen: IntArray, rows: IntArray, descriptors: Descriptors) -> TrackTable:
    """Mix what was seen into the objects' descriptors."""
    vectors = descriptors.vectors
    if vectors.shape[1] == 0:
        return table  # A frame without descriptors changes none.
    if table.descriptors.shape[1] != vectors.shape[1]:
        table = table.with_columns(descriptors=vectors.new_zeros((len(table), vectors.shape[1])))
    kept = table.descriptors.to(vectors.device).clone()
    index = torch.as_tensor(seen, device=vectors.device)
    fresh = vectors[torch.as_tensor(rows, device=vectors.device)]
    mixed = functional.normalize((1 - _SMOOTHING) * kept[index] + _SMOOTHING * fresh, dim=1)
    kept[index] = torch.where(fresh.abs().sum(dim=1, keepdim=True) > 0, mixed, kept[index])
    return table.with_columns(descriptors=kept)
