"""The stages in order: one frame in, one result out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sparsematch_ros.config import Config
from sparsematch_ros.data import (
    NANOSECONDS,
    Descriptors,
    EgoMotion,
    Expectations,
    Frame,
    FrameResult,
    Matches,
    ObjectState,
    Segments,
    SpaceObject,
)
from sparsematch_ros.description.dinov2 import Dinov2Features
from sparsematch_ros.description.pooling import Region, cosine_matrix, pool_features, pool_parts
from sparsematch_ros.description.publishing import reduce_descriptors
from sparsematch_ros.description.region import region_around
from sparsematch_ros.egomotion.changed_camera import motion_across_cameras
from sparsematch_ros.egomotion.estimator import EgoMotionEstimator
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.matching.registration import outlined, with_registration
from sparsematch_ros.matching.segments import match_segments, no_matches
from sparsematch_ros.models import Models, load_models
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, Segmentation, Segmenter
from sparsematch_ros.sky import Sky, survey_sky
from sparsematch_ros.tracking.tracker import Tracker

_LEAST_SIDE_PX = 16
# Stars for the background and candidates for objects: the brightest of both.
_MOST_SOURCES = 500


@dataclass(frozen=True, eq=False)
class _Past:
    """What is kept of the previous frame; `motion` is that from which the next one is expected."""

    frame: Frame
    sky: Sky
    motion: EgoMotion
    segments: Segments
    descriptors: Descriptors
    objects: tuple[SpaceObject, ...]
    picture: NDArray[np.uint8] | None


class Pipeline:
    """Turns frames into tracked objects. Not thread-safe: one thread owns it, and with it the GPU."""

    def __init__(self, config: Config, models: Models | None = None, wait_for_device: bool = False) -> None:
        """Load the models, or take loaded ones.

        Args:
            config: all settings.
            models: loaded networks, or None to load what the settings name.
            wait_for_device: wait for a GPU after each stage, so that the stages' seconds are their own; for benchmarks.

        Raises:
            SparsematchError: where a checkpoint or the device is missing.

        """
        self.config = config
        loaded = models or load_models(config)
        self._dinov2: Dinov2Features | None = loaded.dinov2
        self._segmenter: Segmenter = (
            AdaptiveSegmenter(loaded.sam, config.segmentation)
            if config.segmentation.mode == "adaptive"
            else FullGridSegmenter(loaded.sam, config.segmentation)
        )
        self._egomotion = EgoMotionEstimator(config.egomotion)
        self._tracker = Tracker(config.tracking, config.matching)
        self._past: _Past | None = None
        self.device = str(loaded.sam.device)
        self._wait = wait_for_device and loaded.sam.device.type == "cuda"

    def reset(self) -> None:
        """Forget all frames and objects; the models stay."""
        self._past = None
        self._tracker.reset()
        self._segmenter.reset()

    def request_survey(self) -> None:
        """Look at everything in the next frame."""
        self._segmenter.request_survey()

    def process(self, frame: Frame) -> FrameResult:
        """Take in the next frame.

        An image of another size than the one before starts anew, as `reset` does; the objects that end there come once
        more as lost, as they were last: in the pixels of the old size, without mask and bearing. After a gap longer
        than `tracking.max_gap_s` nothing is matched across it, and every object is lost. Where the intrinsics change
        from one frame to the next the background's motion between the two comes from the pixels alone.

        Raises:
            BadFrameError: a stamp that repeats or goes back, an image too small, an attitude that is none; the frame is
                left out.

        """
        self._check(frame)
        ended = self._end_other_size(frame)
        past, seconds = self._past, dict[str, float]()
        with self._timed(seconds, "sky"):
            sky = survey_sky(frame.gray, self.config.segmentation, _MOST_SOURCES)
        with self._timed(seconds, "egomotion"):
            changed = past is not None and _intrinsics_differ(past.frame, frame)
            motion = self._estimate_motion(past, frame, sky, changed)
            expectations = self._tracker.expect(motion)
        with self._timed(seconds, "segmentation"):
            segmentation = self._segmenter.segment(frame, motion, sky, expectations)
        with self._timed(seconds, "description"):
            descriptors = self._describe(frame, segmentation)
        with self._timed(seconds, "matching"):
            matches = self._match(past, segmentation.segments, descriptors, motion, expectations)
            picture = outlined(frame.gray, sky.level) if sky.dark and segmentation.segments.mask_count else None
            if past is not None and past.picture is not None and picture is not None and len(matches):
                parts = past.segments, segmentation.segments
                matches = with_registration(matches, parts, (past.picture, picture), motion)
        with self._timed(seconds, "tracking"):
            objects = self._tracker.step(frame, sky, segmentation.segments, descriptors, matches, expectations)
            objects = reduce_descriptors(objects, self.config.description.publish_dimensions)
        # A zoom does not go on as a turn does.
        usual = EgoMotion() if changed else motion
        self._past = _Past(frame, sky, usual, segmentation.segments, descriptors, objects, picture)
        return FrameResult(
            frame=frame,
            previous_stamp_ns=past.frame.stamp_ns if past else None,
            motion=motion,
            prompts=segmentation.prompts,
            segments=segmentation.segments,
            previous_segments=past.segments if past else None,
            matches=matches,
            objects=ended + objects,
            seconds=seconds,
            regions_xyxy_px=segmentation.regions_xyxy_px,
        )

    def _check(self, frame: Frame) -> None:
        if min(frame.size) < _LEAST_SIDE_PX:
            raise BadFrameError(f"image of {frame.size[1]}x{frame.size[0]} px: at least {_LEAST_SIDE_PX} px a side")
        if frame.q_NC_xyzw is not None and not 0.9 < np.linalg.norm(frame.q_NC_xyzw) < 1.1:  # NaN fails too.
            raise BadFrameError(f"attitude {frame.q_NC_xyzw} is no unit quaternion")
        if self._past is not None and frame.stamp_ns <= self._past.frame.stamp_ns:
            behind = (self._past.frame.stamp_ns - frame.stamp_ns) / NANOSECONDS
            what = "repeats" if behind == 0 else f"goes back by {behind:.6f} s"
            raise BadFrameError(f"stamp {frame.stamp_s:.6f} s {what}: stamps must grow")

    def _end_other_size(self, frame: Frame) -> tuple[SpaceObject, ...]:
        """Start anew where the size has changed; give the objects that end with it."""
        past = self._past
        if past is None or past.frame.size == frame.size:
            return ()
        self.reset()
        return tuple(_ended(item) for item in past.objects if item.state != ObjectState.LOST)

    def _estimate_motion(self, past: _Past | None, frame: Frame, sky: Sky, changed: bool) -> EgoMotion:
        if past is None:
            return EgoMotion()
        if frame.stamp_ns - past.frame.stamp_ns > self.config.tracking.max_gap_s * NANOSECONDS:
            return EgoMotion(dt_s=(frame.stamp_ns - past.frame.stamp_ns) / NANOSECONDS, focal=past.motion.focal)
        skies = (past.sky, sky)
        if changed:
            return motion_across_cameras(past.frame, frame, skies, past.motion, self.config.egomotion)
        return self._egomotion.estimate(past.frame, frame, skies, past.motion)

    def _describe(self, frame: Frame, segmentation: Segmentation) -> Descriptors:
        """Describe the segments from whichever network the settings name."""
        segments = segmentation.segments
        if self._dinov2 is not None and segments.mask_count:
            region = self._dinov2_region(segments)
            return pool_features(self._dinov2(frame.image, region), segments, region)
        if self.config.description.source == "sam" and segmentation.embeddings:
            parts = [(each.content, each.region_xyxy_px) for each in segmentation.embeddings]
            return pool_parts(parts, segmentation.owners, segments)
        return Descriptors(torch.zeros((len(segments), 0), device=segments.masks.device))

    def _dinov2_region(self, segments: Segments) -> Region | None:
        if self.config.description.dinov2_region == "image":
            return None
        return region_around(segments, self.config.description.dinov2_input_size)

    def _match(
        self,
        past: _Past | None,
        segments: Segments,
        descriptors: Descriptors,
        motion: EgoMotion,
        expectations: Expectations,
    ) -> Matches:
        if past is None or motion.dt_s > self.config.tracking.max_gap_s:
            return no_matches()
        cosines = cosine_matrix(past.descriptors, descriptors)
        return match_segments(past.segments, segments, cosines, motion, expectations, self.config.matching)

    @contextmanager
    def _timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        """Add the duration of a stage; a GPU's work counts where the host waits for it."""
        start = time.perf_counter()
        yield
        if self._wait:
            torch.cuda.synchronize()
        seconds[stage] = time.perf_counter() - start


def _ended(item: SpaceObject) -> SpaceObject:
    """Give an object as lost, without what only holds in an image that shows it."""
    return replace(
        item, state=ObjectState.LOST, mask=None, bearing=None, bearing_covariance=None, bearing_rate_rad_s=None,
        bearing_rate_covariance=None,
    )  # fmt: skip


def _intrinsics_differ(before: Frame, after: Frame) -> bool:
    return before.camera is not None and after.camera is not None and not after.camera.agrees_with(before.camera)
