"""All detectors of a frame: what it shows by itself, and what its background's motion leaves over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparsematch_ros.background.layers import Background
from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, Frame
from sparsematch_ros.detection.bodies import Bodies, find_bodies
from sparsematch_ros.detection.evidence import ResidualMotion
from sparsematch_ros.detection.radiance import Radiance, measure_radiance
from sparsematch_ros.detection.regions import Regions, find_regions
from sparsematch_ros.detection.sources import Sources, detect_sources

# Stars for the background and candidates for objects: the brightest of both.
_MOST_SOURCES = 3000
_MOST_REGIONS = 64
# Before the background's motion tells, an image is taken for sky where so much of it looks like sky.
_SKY_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class Detections:
    """What was detected in a frame.

    Attributes:
        frame: the frame.
        radiance: level and noise of its background.
        sources: its point sources.
        bodies: what is larger, against the sky.
        regions: what is not background.

    """

    frame: Frame
    radiance: Radiance
    sources: Sources
    bodies: Bodies
    regions: Regions


class Detector:
    """Runs the detectors, and remembers the frames that residual motion needs."""

    def __init__(self, config: SegmentationConfig) -> None:
        """Keep the settings; no frame is remembered."""
        self.config = config
        self._residual = ResidualMotion()

    def reset(self) -> None:
        """Forget all frames."""
        self._residual.reset()

    def measure(self, frame: Frame) -> Detections:
        """Detect what a frame shows by itself."""
        radiance = measure_radiance(frame)
        sources, lit = detect_sources(radiance, frame.levels, self.config.point_source_snr, _MOST_SOURCES)
        bodies = find_bodies(radiance, lit)
        nothing = np.zeros(frame.size, dtype=bool)
        return Detections(frame, radiance, sources, bodies, Regions(nothing.astype(np.int32), nothing, nothing))

    def detect(self, measured: Detections, background: Background, objects: BoolArray | None) -> Detections:
        """Add the regions that the background does not explain, once its motion is known.

        Args:
            measured: of `measure`.
            background: its motion since the frame before.
            objects: `(H, W)` bool, where objects were tracked in the frame before, or None.

        """
        radiance, bodies = measured.radiance, measured.bodies
        if background.reference is None:
            sky_in_view = bool(radiance.sky.mean() >= _SKY_SHARE) and not background.starless
        else:
            sky_in_view = background.reference is background.stars
        surroundings = bodies.surroundings if sky_in_view else np.ones_like(bodies.surroundings)
        evidence = self._residual(radiance.smooth, background, surroundings, objects)
        sources = measured.sources if sky_in_view else Sources()
        levels = measured.frame.levels
        regions = find_regions(radiance, levels, bodies, sources, evidence, sky_in_view, _MOST_REGIONS)
        return replace(measured, sources=sources, regions=regions)
