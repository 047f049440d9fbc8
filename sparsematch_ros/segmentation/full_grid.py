"""SAM's own automatic generator on every frame: the reference that adaptive prompting is measured against."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import build_all_layer_point_grids

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, FloatArray, Frame, PromptReason, Prompts
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import Segmentation
from sparsematch_ros.sky import Sky


class FullGridSegmenter:
    """Runs `SamAutomaticMaskGenerator` with the settings of the same names."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.sam = sam
        self.config = config
        names = ("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh",
                 "stability_score_offset", "box_nms_thresh", "crop_n_layers", "crop_nms_thresh", "crop_overlap_ratio",
                 "crop_n_points_downscale_factor", "min_mask_region_area")  # fmt: skip
        self._generator = SamAutomaticMaskGenerator(sam.sam, **{name: getattr(config, name) for name in names})

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame."""
        records = self._generator.generate(frame.image)
        masks = np.array([record["segmentation"] for record in records], dtype=bool).reshape(-1, *frame.size)
        device = self.sam.device
        rows = MaskRows(
            torch.from_numpy(masks).to(device),
            torch.tensor([record["predicted_iou"] for record in records], device=device),
            torch.tensor([record["stability_score"] for record in records], device=device),
            torch.full((len(records),), float(PromptReason.GRID), device=device),
        )
        points = select_point_sources(sky, expectations, frame.size, self.config)
        # The generator forgets its encoding of the whole image; descriptors need it.
        embedding = self.sam.encode(frame.image)
        return Segmentation(assemble(rows, sky, points, motion), self._prompts(frame.size), embedding)

    def _prompts(self, size: tuple[int, int]) -> Prompts:
        """List the points of all layers, each layer's as often as it has crops."""
        config = self.config
        grids = build_all_layer_point_grids(
            config.points_per_side, config.crop_n_layers, config.crop_n_points_downscale_factor
        )
        points: FloatArray = np.concatenate([np.tile(grid, (4**layer, 1)) for layer, grid in enumerate(grids)])
        count = len(points)
        reasons = np.full(count, int(PromptReason.GRID), dtype=np.int64)
        return Prompts(points * np.array(size)[::-1], np.full((count, 4), np.nan), reasons, np.full(count, np.nan))
