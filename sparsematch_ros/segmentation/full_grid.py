"""Everything in every frame: the reference that adaptive prompting is measured against."""

from __future__ import annotations

import torch

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame, PromptReason, TrackPredictions
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.prompts import grid_prompts
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import Segmentation
from sparsematch_ros.segmentation.segments import MaskRows, assemble


class FullGridSegmenter:
    """Runs the mask generator on every frame, and adds point sources."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.config = config
        self._generator = MaskGenerator(sam, config)

    def segment(self, frame: Frame, regions: Regions, sources: Sources, predictions: TrackPredictions) -> Segmentation:
        """Find the segments of a frame."""
        found = self._generator.generate(frame.image)
        reasons = torch.full_like(found.scores, float(PromptReason.GRID))
        none = torch.zeros_like(reasons).long()
        rows = MaskRows(found.masks, found.scores, found.stability, reasons, none, none - 1)
        segments, owners = assemble(rows, sources, regions, self.config.point_source_snr)
        return Segmentation(segments, grid_prompts(found.prompts_px), (found.embedding,), owners)

    def request_survey(self) -> None:
        """Look at everything in the next frame, as in every frame."""

    def reset(self) -> None:
        """Forget all frames: none is remembered."""
