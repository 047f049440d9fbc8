"""The stages in order: one frame in, one result out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from sparsematch_ros.background.estimator import BackgroundEstimator, View
from sparsematch_ros.background.ghosts import find_light
from sparsematch_ros.background.layers import Background
from sparsematch_ros.background.stars import Stars
from sparsematch_ros.background.static_sources import StaticBackground
from sparsematch_ros.clock import FrameClock
from sparsematch_ros.config import Config
from sparsematch_ros.data import (
    NANOSECONDS,
    BoolArray,
    Descriptors,
    Frame,
    FrameResult,
    ObjectState,
    SpaceObject,
    TrackPredictions,
)
from sparsematch_ros.description.dinov2 import Dinov2Features
from sparsematch_ros.description.pooling import Region, pool_features, pool_parts
from sparsematch_ros.description.publishing import reduce_descriptors
from sparsematch_ros.description.region import region_around
from sparsematch_ros.detection.detector import Detections, Detector
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.models import Models, load_models
from sparsematch_ros.segmentation.full_grid import FullGridSegmenter
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter, Segmentation, Segmenter
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.tracking.tracker import Tracker

_LEAST_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class _Past:
    """What is kept of the previous frame."""

    view: View
    background: Background
    segments: Segments
    objects: tuple[SpaceObject, ...]


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
        self._detector = Detector(config.segmentation)
        self._background = BackgroundEstimator(config.background)
        self._static = StaticBackground()
        self._tracker = Tracker(config.tracking)
        self._past: _Past | None = None
        self._clock = FrameClock(self.config.tracking.max_gap_s)
        self.device = str(loaded.sam.device)
        self._wait = wait_for_device and loaded.sam.device.type == "cuda"

    def reset(self) -> None:
        """Forget all frames and objects; the models stay."""
        self._past = None
        self._clock = FrameClock(self.config.tracking.max_gap_s)
        self._detector.reset()
        self._background.reset()
        self._static = StaticBackground()
        self._tracker.reset()
        self._segmenter.reset()

    def request_survey(self) -> None:
        """Look at everything in the next frame."""
        self._segmenter.request_survey()

    def process(self, frame: Frame) -> FrameResult:
        """Process the next frame.

        An image of another size than the one before, and a clock that was set anew, start the line anew, as `reset`
        does; the objects that end there come once more as lost, as they were last: in the pixels of the old image,
        without mask and bearing. After a gap longer than `tracking.max_gap_s` nothing is matched across it, and every
        object is lost. Where the intrinsics change from one frame to the next the background's motion between the two
        comes from the pixels alone.

        Raises:
            BadFrameError: a stamp that repeats, goes back or is far ahead (until three frames agree that the clock was
                set anew), an image too small, an attitude that is not a unit quaternion; the frame is left out.

        """
        self._check(frame)
        ended, restarted = self._restart(frame)
        past, seconds = self._past, dict[str, float]()
        with self._timed(seconds, "detection"):
            measured = self._detector.measure(frame)
        with self._timed(seconds, "background"):
            view = _view(frame, measured, self.config.background.max_stars)
            background = self._estimate_background(past, view)
            predictions = self._tracker.predict(background)
        with self._timed(seconds, "detection"):
            detections = self._detector.detect(measured, background, past.view.objects if past else None)
            movers, faint = self._movers(detections, background, predictions, frame.size)
        with self._timed(seconds, "segmentation"):
            sources = detections.sources.take(movers)
            segmentation = self._segmenter.segment(frame, detections.regions, sources, predictions)
        with self._timed(seconds, "description"):
            descriptors = self._describe(frame, segmentation)
        with self._timed(seconds, "tracking"):
            previous = past.segments if past else None
            objects, matches = self._tracker.step(
                frame, background, segmentation.segments, descriptors, predictions, previous, faint
            )
            objects = reduce_descriptors(objects, self.config.description.publish_dimensions)
        view = replace(view, objects=self._tracker.moving_masks(segmentation.segments))
        self._past = _Past(view, background, segmentation.segments, objects)
        return FrameResult(
            frame=frame,
            previous_stamp_ns=past.view.frame.stamp_ns if past else None,
            background=background,
            prompts=segmentation.prompts,
            segments=segmentation.segments,
            previous_segments=previous,
            matches=matches,
            objects=ended + objects,
            seconds=seconds,
            restarted=restarted,
            regions_xyxy_px=segmentation.regions_xyxy_px,
        )

    def _check(self, frame: Frame) -> None:
        if min(frame.size) < _LEAST_SIDE_PX:
            raise BadFrameError(f"image of {frame.size[1]}x{frame.size[0]} px: at least {_LEAST_SIDE_PX} px a side")
        if frame.q_NC_xyzw is not None and not 0.9 < np.linalg.norm(frame.q_NC_xyzw) < 1.1:  # NaN fails too.
            raise BadFrameError(f"attitude {frame.q_NC_xyzw} is not a unit quaternion")

    def _restart(self, frame: Frame) -> tuple[tuple[SpaceObject, ...], str]:
        """Start anew where the clock was set or the size has changed.

        Returns:
            The objects that end with it, and why.

        Raises:
            BadFrameError: where the stamp does not continue the clock.

        """
        past, clock = self._past, self._clock
        reason = clock.check(frame.stamp_ns)
        if past is not None and past.view.frame.size != frame.size:
            height, width = frame.size
            reason = reason or f"the images are now {width}x{height} px"
        if past is None or not reason:
            return (), ""
        self.reset()
        self._clock = clock
        return tuple(_ended(item) for item in past.objects if item.state != ObjectState.LOST), reason

    def _estimate_background(self, past: _Past | None, view: View) -> Background:
        if past is None:
            return Background(light_px=view.light_px)
        if self._clock.gap:
            dt_s = (view.frame.stamp_ns - past.view.frame.stamp_ns) / NANOSECONDS
            return Background(dt_s, gap=True, focal=past.background.focal, light_px=view.light_px)
        return self._background.estimate(past.view, view, past.background)

    def _movers(
        self, detections: Detections, background: Background, predictions: TrackPredictions, size: tuple[int, int]
    ) -> tuple[BoolArray, int]:
        """Find the point sources that are neither stars nor fixed on the detector, and bright enough or tracked.

        Returns:
            Which sources these are, `(S,)`, and how many more are too faint to be looked at where nothing is tracked.

        """
        sources = detections.sources
        claimed = self._tracker.claims(predictions, sources.points_px)
        movers = self._static.movers(
            sources.points_px, sources.sigmas_px, sources.spread_root_px, background.stars, claimed, size
        )
        movers &= detections.regions.off(sources.points_px) & (detections.bodies.off(sources.points_px) | claimed)
        movers &= self.config.segmentation.point_sources
        chosen = movers & ((sources.snr >= self.config.segmentation.point_source_snr) | claimed)
        return chosen, int(movers.sum() - chosen.sum())

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

    @contextmanager
    def _timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        """Add the duration of a stage; a GPU's work counts where the host waits for it."""
        start = time.perf_counter()
        yield
        if self._wait:
            torch.cuda.synchronize()
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def _view(frame: Frame, measured: Detections, max_stars: int) -> View:
    sources, radiance = measured.sources, measured.radiance
    return View(
        frame=frame,
        stars=Stars.of(sources.points_px, sources.sigmas_px, sources.snr, max_stars),
        surroundings=measured.bodies.surroundings,
        sky_share=float(radiance.sky.mean()),
        noise=radiance.pixel_noise,
        texture=np.where(radiance.sky & ~measured.bodies.lit, radiance.smooth - radiance.level, np.float32(np.nan)),
        roughness=radiance.roughness,
        light_px=find_light(frame.gray),
    )


def _ended(item: SpaceObject) -> SpaceObject:
    """Mark an object as lost, without what only holds in an image that shows it."""
    return replace(
        item, state=ObjectState.LOST, mask=None, bearing=None, bearing_covariance=None, bearing_rate_rad_s=None,
        bearing_rate_covariance=None,
    )  # fmt: skip
