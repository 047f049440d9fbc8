"""Identity and velocity over time: birth, update, confirmation, coasting, death."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit
from torch.nn import functional

from sparsematch_ros.config import MatchingConfig, TrackingConfig
from sparsematch_ros.data import (
    BoolArray,
    Descriptors,
    EgoMotion,
    Expectations,
    FloatArray,
    Frame,
    IntArray,
    Matches,
    ObjectState,
    Segments,
    SpaceObject,
)
from sparsematch_ros.description.pooling import cosine_matrix
from sparsematch_ros.kinematics import apply_homography, predict_states
from sparsematch_ros.sky import Sky
from sparsematch_ros.tracking.association import assign_segments, held_in, mergers, parts_of_known
from sparsematch_ros.tracking.crowding import are_crowded, are_more, with_free_flight
from sparsematch_ros.tracking.judgement import HIDDEN_PATIENCE, are_surroundings, judge
from sparsematch_ros.tracking.measurement import measured
from sparsematch_ros.tracking.outlines import Outlines
from sparsematch_ros.tracking.output import describe_objects
from sparsematch_ros.tracking.reidentification import LostObjects
from sparsematch_ros.tracking.resting import RestingSources
from sparsematch_ros.tracking.table import TrackTable

# Log likelihood ratios of existence for an object that is seen 9 times in 10 among clutter seen 2 times in 10.
_HIT = float(np.log(0.9 / 0.2))
_MISS = float(np.log(0.1 / 0.8))
_LOG_ODDS_LIMIT = 6.0
# Weight of a new frame in descriptors and moving shares.
_SMOOTHING = 0.3
# An object's anchor follows it by this share a frame.
_ANCHOR_FOLLOWS = 0.05


class Tracker:
    """Follows objects from frame to frame in the scene's own frame."""

    def __init__(self, config: TrackingConfig, matching: MatchingConfig) -> None:
        """Take the settings; a newborn's velocity is unknown up to the fastest that is matched, at three sigma."""
        self.config = config
        self._fastest = (matching.max_speed_px_s, matching.max_step_px)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._table = TrackTable.empty(max(self.config.confirm_window, self.config.confirm_window_point))
        self._resting = RestingSources()
        self._outlines = Outlines()
        self._lost = LostObjects(self.config)

    def expect(self, motion: EgoMotion) -> Expectations:
        """Predict all objects through the background's motion into the next frame."""
        table = self._table
        states, covariances = predict_states(
            table.states, table.covariances, motion.homography, motion.dt_s, self.config.acceleration_px_s2
        )
        boxes = table.boxes_xywh_px.copy()
        boxes[:, :2] += states[:, :2] - table.states[:, :2]
        worth = expit(table.log_odds) * np.where(table.moving, 1.0, 0.5)
        resting = self._resting.expected(motion)
        return Expectations(
            background=motion,
            states=states,
            covariances=covariances,
            boxes_xywh_px=boxes,
            areas_px=table.areas_px,
            segment_rows=table.segment_rows,
            worth=worth,
            resolved=~table.point_source,
            resting_px=resting,
            resting_hits=self._resting.hits[: 0 if resting is None else None],
        )

    def step(
        self,
        frame: Frame,
        sky: Sky,
        segments: Segments,
        descriptors: Descriptors,
        matches: Matches,
        expectations: Expectations,
    ) -> tuple[SpaceObject, ...]:
        """Take in a frame's segments.

        Args:
            frame: the image, for its stamp and intrinsics.
            sky: its survey.
            segments: its N segments.
            descriptors: theirs.
            matches: pairs with the previous frame's segments.
            expectations: what `expect` gave for this frame.

        Returns:
            Every object alive, and those lost in this frame.

        """
        motion = expectations.background or EgoMotion()
        cosines = cosine_matrix(Descriptors(self._table.descriptors.to(descriptors.vectors.device)), descriptors)
        gate, ages = self.config.gate_sigma, self._table.ages
        merged, parts, covered = _overlaps(expectations, segments, sky.dark)
        crowded = are_crowded(expectations) & sky.dark
        if sky.dark:
            merged |= are_more(self._table, expectations, segments)
        assigned = assign_segments(expectations, segments, matches, cosines, gate, ages, merged)
        if motion.dt_s > self.config.max_gap_s:
            assigned[:] = -1  # Across such a gap nothing is what it was.
        table = measured(self._table, self._predicted(expectations, motion), assigned, segments, matches, motion)
        table = with_free_flight(
            self._table, table, assigned, segments, crowded, motion, 2 * HIDDEN_PATIENCE * self.config.max_coast_s
        )
        hidden = covered & (assigned < 0)
        table = _updated(table, assigned, hidden, segments, descriptors, frame.stamp_ns)
        table = judge(table, motion, sky.dark, frame, expectations.fixed_px, self.config, hidden)
        table = self._lost.step(table, self._table.stages, motion, frame.stamp_ns)
        free = self._nobodys(table, segments, sky.dark, frame.size, parts)
        table = table.join(self._births(free, segments, descriptors, frame.stamp_ns, motion.dt_s))
        if not sky.dark:  # Under a dark sky everything is born when it is first seen.
            table = _seen_before(table, segments, matches, expectations)
        self._outlines.learn(table, segments, np.flatnonzero(crowded))
        objects = describe_objects(table, segments, frame, motion, self._outlines)
        self._table = table.take(table.stages != ObjectState.LOST)
        self._resting.learn(sky, expectations.resting_px, frame.size)
        return objects

    def _predicted(self, expectations: Expectations, motion: EgoMotion) -> TrackTable:
        return self._table.with_columns(
            states=expectations.states,
            covariances=expectations.covariances,
            boxes_xywh_px=expectations.boxes_xywh_px,
            segment_rows=np.full(len(self._table), -1, dtype=np.int64),
            ages=self._table.ages + 1,
            anchors_px=apply_homography(motion.homography, self._table.anchors_px),
        )

    def _nobodys(
        self, table: TrackTable, segments: Segments, dark: bool, size: tuple[int, int], parts: BoolArray
    ) -> IntArray:
        """Choose the segments that are nobody's nor `parts` `(N,)` of somebody, and worth an object, the surest first.

        Under a dark sky all are. Elsewhere a segment must move against its surroundings, and one that spans the image
        from border to border is surroundings itself.
        """
        free = ~parts
        free[table.segment_rows[table.segment_rows >= 0]] = False
        if not dark:
            free &= segments.moving_shares > self.config.moving_share
            free &= ~are_surroundings(segments.boxes_xywh_px, segments.areas_px, size)
        room = max(0, self.config.max_objects - int((table.stages != ObjectState.LOST).sum()))
        rows = np.flatnonzero(free)
        return rows[np.argsort(-segments.scores[rows], kind="stable")][:room]

    def _births(
        self, rows: IntArray, segments: Segments, descriptors: Descriptors, stamp_ns: int, dt_s: float
    ) -> TrackTable:
        """Start an object for each of some segments."""
        per_second, per_step = self._fastest
        # The interval to the next frame is taken to be that before this one, unless that was a gap.
        limited = 0 < dt_s <= self.config.max_gap_s
        speed_sigma = min(per_second, per_step / dt_s if limited else per_second) / 3
        covariances = np.zeros((len(rows), 4, 4))
        covariances[:, [0, 1], [0, 1]] = segments.centroid_sigma_px[rows, None] ** 2
        covariances[:, [2, 3], [2, 3]] = speed_sigma**2
        index = torch.as_tensor(rows, device=descriptors.vectors.device)
        newborn = TrackTable.born(
            segments.centroids_px[rows], covariances, segments.boxes_xywh_px[rows], segments.areas_px[rows], rows,
            self._table.recent.shape[1], stamp_ns, descriptors.vectors[index],
        )  # fmt: skip
        return newborn.with_columns(
            moving_shares=segments.moving_shares[rows], point_source=rows >= segments.mask_count
        )


def _updated(
    table: TrackTable, assigned: IntArray, hidden: BoolArray, segments: Segments, descriptors: Descriptors,
    stamp_ns: int,
) -> TrackTable:  # fmt: skip
    """Take over what objects that were seen look like now, and count who was seen.

    That an object is not seen where another hides it says nothing against it.
    """
    seen = np.flatnonzero(assigned >= 0)
    rows = assigned[seen]
    changing = ("boxes_xywh_px", "areas_px", "moving_shares", "last_seen_ns", "point_source")
    columns: dict[str, FloatArray] = {name: getattr(table, name).copy() for name in changing}
    columns["boxes_xywh_px"][seen] = segments.boxes_xywh_px[rows]
    columns["areas_px"][seen] = segments.areas_px[rows]
    columns["moving_shares"][seen] = _smoothed(table.moving_shares[seen], segments.moving_shares[rows])
    columns["last_seen_ns"][seen] = stamp_ns
    columns["point_source"][seen] = rows >= segments.mask_count
    step = np.where(assigned >= 0, _HIT, np.where(hidden, 0.0, _MISS))
    return table.with_columns(
        **columns,
        anchors_px=table.anchors_px + _ANCHOR_FOLLOWS * (table.states[:, :2] - table.anchors_px),
        segment_rows=assigned,
        log_odds=np.clip(table.log_odds + step, -_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT),
        recent=np.concatenate([(assigned >= 0)[:, None], table.recent[:, :-1]], axis=1),
        descriptors=_blended(table, seen, rows, descriptors).descriptors,
    )


def _overlaps(expectations: Expectations, segments: Segments, dark: bool) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Say which segments are several objects, `(T, N)`, which are parts of one, `(N,)`, and who is covered, `(T,)`.

    Under a dark sky alone: elsewhere the ground is a segment too, and holds everything.
    """
    count, number = len(expectations), len(segments)
    if not dark:
        return np.zeros((count, number), dtype=bool), np.zeros(number, dtype=bool), np.zeros(count, dtype=bool)
    held = held_in(expectations, segments)
    covered = np.asarray(held.any(axis=1))
    return mergers(expectations, segments, held), parts_of_known(expectations, segments, held), covered


def _seen_before(table: TrackTable, segments: Segments, matches: Matches, expectations: Expectations) -> TrackTable:
    """Count the frame before birth for newborns whose segment has a match there that was no object's: a survey's."""
    nobodys = matches.current[~np.isin(matches.previous, expectations.segment_rows)]
    before = (table.ages == 1) & np.isin(table.segment_rows, nobodys[nobodys < segments.mask_count])
    recent = table.recent.copy()
    recent[:, 1] |= before
    return table.with_columns(recent=recent)


def _smoothed(old: FloatArray, new: FloatArray) -> FloatArray:
    blended = (1 - _SMOOTHING) * old + _SMOOTHING * new
    return np.where(np.isnan(old), new, np.where(np.isnan(new), old, blended))


def _blended(table: TrackTable, seen: IntArray, rows: IntArray, descriptors: Descriptors) -> TrackTable:
    """Mix what was seen into the objects' descriptors."""
    vectors = descriptors.vectors
    if vectors.shape[1] == 0:
        return table  # A frame that describes nothing says nothing against what is known.
    if table.descriptors.shape[1] != vectors.shape[1]:
        table = table.with_columns(descriptors=vectors.new_zeros((len(table), vectors.shape[1])))
    kept = table.descriptors.to(vectors.device).clone()
    index = torch.as_tensor(seen, device=vectors.device)
    fresh = vectors[torch.as_tensor(rows, device=vectors.device)]
    mixed = functional.normalize((1 - _SMOOTHING) * kept[index] + _SMOOTHING * fresh, dim=1)
    kept[index] = torch.where(fresh.abs().sum(dim=1, keepdim=True) > 0, mixed, kept[index])
    return table.with_columns(descriptors=kept)
