"""Everything in every frame: the reference that adaptive prompting is measured against."""

from __future__ import annotations

import torch

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, Frame, PromptReason
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.segmentation.proposers import grid_prompts
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import Segmentation
from sparsematch_ros.sky import Sky


class FullGridSegmenter:
    """Runs the mask generator on every frame, and adds point sources."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.config = config
        self._generator = MaskGenerator(sam, config)

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame."""
        found = self._generator.generate(frame.image)
        reasons = torch.full_like(found.scores, float(PromptReason.GRID))
        rows = MaskRows(found.masks, found.scores, found.stability, reasons, torch.zeros_like(reasons).long())
        points = select_point_sources(sky, expectations, frame.size, self.config)
        segments, owners = assemble(rows, sky, points, motion)
        return Segmentation(segments, grid_prompts(found.prompts_px), (found.embedding,), owners)

    def request_survey(self) -> None:
        """Look at everything in the next frame, as in every frame."""

    def reset(self) -> None:
        """Forget all frames: none is remembered."""
