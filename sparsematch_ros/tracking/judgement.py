"""What a frame makes of each tracked object: its state, and whether it moves."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import chi2

from sparsematch_ros.config import TrackingConfig
from sparsematch_ros.data import NANOSECONDS, BoolArray, EgoMotion, FloatArray, Frame, IntArray, ObjectState
from sparsematch_ros.kinematics import touches_border
from sparsematch_ros.tracking.companions import are_companions
from sparsematch_ros.tracking.kalman import mahalanobis2
from sparsematch_ros.tracking.table import TrackTable

# A centroid wanders by this share of the object's size as it turns, and the background by this much as errors add up.
_SHAPE_SHARE = 0.1
_DRIFT_PX = 0.3
# A resting point source this close to a star is that star.
_SAME_STAR_PX = 1.0
# In a textured scene, what takes this share of the image, or has this share of its box on the image's borders, is no
# object.
_LARGE_SHARE = 0.3
_FRAMED_SHARE = 0.55
# What passes behind another object, or merges with it, is waited for this many times as long.
HIDDEN_PATIENCE = 3.0


def judge(
    table: TrackTable,
    motion: EgoMotion,
    dark: bool,
    frame: Frame,
    fixed_px: FloatArray,
    config: TrackingConfig,
    hidden: BoolArray,
) -> TrackTable:
    """Decide each object's state and whether it moves.

    Args:
        table: objects after this frame's update.
        motion: the background's motion.
        dark: whether the scene is a dark sky.
        frame: the image, for its stamp and size.
        fixed_px: `(F, 2)` places of stars.
        config: thresholds.
        hidden: `(T,)` which objects are not seen because another is where they are expected.

    """
    seen = table.segment_rows >= 0
    moving = moves(table, motion, config, frame.size)
    if not dark:
        moving &= ~are_surroundings(table.boxes_xywh_px, table.areas_px, frame.size)
        # By day much looks like an object for a few frames: what is more likely gone than there goes soon.
        moving &= table.log_odds >= 0
    still_frames = np.where(moving, 0, table.still_frames + 1)
    hits, needed, chances = _confirmation(table, config)
    was_confirmed = table.stages != ObjectState.TENTATIVE
    proven = (hits >= needed) & ~(are_companions(table) & dark)
    stages = np.where(was_confirmed | proven, int(ObjectState.CONFIRMED), table.stages)
    stages = np.where((stages == ObjectState.CONFIRMED) & ~seen, int(ObjectState.COASTING), stages)
    unseen_s = (frame.stamp_ns - table.last_seen_ns) / NANOSECONDS
    hopeless = (stages == ObjectState.TENTATIVE) & (hits + chances < needed)
    dull = still_frames >= config.retire_after
    # Under a dark sky an object with a mask stays interesting while it rests: it is no star.
    resolved = dark & ~table.point_source
    patience_s = config.max_coast_s * np.where(hidden, HIDDEN_PATIENCE, 1.0)
    late = (unseen_s > patience_s) | (motion.dt_s > config.max_gap_s)
    gone = hopeless | late | (dull & ~resolved) | _left(table, frame.size) | _are_stars(table, moving, fixed_px)
    stages = np.where(gone, int(ObjectState.LOST), stages)
    return table.with_columns(stages=stages, moving=moving, still_frames=still_frames)


def _confirmation(table: TrackTable, config: TrackingConfig) -> tuple[IntArray, IntArray, IntArray]:
    """Give each object's hits in its window, the hits it needs, and the frames left of its first window."""
    window = np.where(table.point_source, config.confirm_window_point, config.confirm_window)
    in_window = np.arange(table.recent.shape[1]) < window[:, None]
    needed = np.where(table.point_source, config.confirm_hits_point, config.confirm_hits)
    return (table.recent & in_window).sum(axis=1), needed, (window - table.ages).clip(0)


def moves(table: TrackTable, motion: EgoMotion, config: TrackingConfig, size: tuple[int, int]) -> BoolArray:
    """Test whether objects move faster than their surroundings.

    The velocity, or the way from where it was, must differ from zero by a chi-square test, and the velocity exceed
    the least speed; where the scene has texture, its pixels must bear it out too. Once moving, half of each
    will do.
    """
    limit = chi2.ppf(1 - config.moving_false_alarm, df=2)
    ease = np.where(table.moving, 0.5, 1.0)
    velocity = table.states[:, 2:]
    # Calm frames of a point source prove little, its noise is as promised; a leap, from star to star, says much.
    leap = np.where(table.point_source, np.maximum(table.surprises, 1.0), 1.0)
    scale = np.where(table.point_source, leap / table.scales, 1.0)
    significant = mahalanobis2(velocity, scale[:, None, None] * table.velocity_covariances) > limit * ease
    # As the border cuts an object its centroid departs, whether it moves or not; and what moved goes on.
    cut = touches_border(table.boxes_xywh_px, size)
    significant |= np.where(cut, table.moving, _departure(table) / leap > limit * ease)
    fast = np.linalg.norm(velocity, axis=1) > config.moving_speed_px_s * ease
    against = np.isnan(table.moving_shares) | (table.moving_shares > config.moving_share * ease)
    return np.asarray(significant & fast & against & motion.valid | (table.moving & ~np.bool_(motion.valid)))


def _departure(table: TrackTable) -> FloatArray:
    """Give the squared distance `(T,)` of each object from its anchor, in units of its variance an axis."""
    shape = np.where(table.point_source, 0.0, _SHAPE_SHARE**2 * table.areas_px)
    variance = 2 * table.covariances[:, [0, 1], [0, 1]].mean(axis=1) + shape + _DRIFT_PX**2
    return np.asarray(((table.states[:, :2] - table.anchors_px) ** 2).sum(axis=1) / variance)


def are_surroundings(boxes_xywh_px: FloatArray, areas_px: FloatArray, size: tuple[int, int]) -> BoolArray:
    """Say which segments are surroundings rather than objects: very large, or framed by the image's own borders."""
    low, extent = boxes_xywh_px[:, :2], boxes_xywh_px[:, 2:]
    touched = (low <= 1).astype(np.int64) + (low + extent >= np.array(size)[::-1] - 1)
    # A side left or right is as long as the box is high.
    framed = (touched * extent[:, ::-1]).sum(axis=1) / np.maximum(2 * extent.sum(axis=1), 1)
    return np.asarray((framed > _FRAMED_SHARE) | (areas_px > _LARGE_SHARE * size[0] * size[1]))


def _are_stars(table: TrackTable, moving: BoolArray, fixed_px: FloatArray) -> BoolArray:
    """Say which point sources turned out to be stars: at rest, and at the place of one."""
    if len(fixed_px) == 0 or len(table) == 0:
        return np.zeros(len(table), dtype=bool)
    distance = cKDTree(fixed_px).query(table.states[:, :2])[0]
    return np.asarray(table.point_source & ~moving & (distance <= _SAME_STAR_PX))


def _left(table: TrackTable, size: tuple[int, int]) -> BoolArray:
    """Say which unseen objects were predicted out of the image."""
    centroid = table.states[:, :2]
    outside = ((centroid < 0) | (centroid > np.array(size)[::-1] - 1)).any(axis=1)
    return np.asarray(outside & (table.segment_rows < 0))
