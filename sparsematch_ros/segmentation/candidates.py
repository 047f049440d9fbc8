"""SAM's masks for the prompts of one encoded part of a frame, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, FloatArray, Frame, IntArray
from sparsematch_ros.detection.evidence import EVIDENT
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.segmentation.batches import PromptBatches
from sparsematch_ros.segmentation.masks import box_agreement, stability
from sparsematch_ros.segmentation.prompts import Prompts
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam

# Weight of the agreement with the detections beside SAM's own score, and merit lost by a mask e times as large, or as
# small, as expected.
_AGREEMENT_WEIGHT, _SIZE_WEIGHT = 4.0, 0.5
# Pixels that agree with the ground speak half as much against a mask as sky does: an object may look like the ground.
_GROUND_WEIGHT = 0.5
_COLUMNS = ("logits", "scores", "stability", "prompts", "cut")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks at the decoder's resolution, K of them.

    Attributes:
        logits: `(K, h, w)` float32.
        scores: `(K,)` predicted IoU.
        stability: `(K,)` stability score.
        prompts: `(K,)` int64 row of the prompt that each answers.
        cut: `(K,)` bool, True where a border of the part that is no border of the frame cuts the mask.

    """

    logits: Tensor
    scores: Tensor
    stability: Tensor
    prompts: Tensor
    cut: Tensor

    @classmethod
    def join(cls, parts: list[Candidates]) -> Candidates:
        """Put several parts one after another."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))

    def take(self, rows: Tensor) -> Candidates:
        """Select some rows, by number or by a mask."""
        return Candidates(*(getattr(self, name)[rows] for name in _COLUMNS))


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """What SAM is asked of a frame, with what was detected in it.

    Attributes:
        frame: the frame.
        prompts: where SAM is asked.
        regions: what is not background.
        parts: `(T,)` bool, tracked objects that may be parts of one body with others.

    """

    frame: Frame
    prompts: Prompts
    regions: Regions
    parts: BoolArray


class PromptDecoder:
    """Decodes prompts and chooses among SAM's masks before any is enlarged."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Keep the model and the settings."""
        self.sam = sam
        self.config = config
        self._batches = PromptBatches(config.points_per_batch, sam.device)

    def decode(self, embedding: Embedding, batch: PromptBatch, rows: IntArray) -> Candidates:
        """Decode the prompts `(K,)` int64 `rows`, at least one, in one encoded part of the frame."""
        boxed = np.isfinite(batch.prompts.boxes_xyxy_px[rows]).all(axis=1)
        return Candidates.join(
            self._in_batches(self._targeted, embedding, batch, rows[boxed])
            + self._in_batches(self._bare, embedding, batch, rows[~boxed])
        )

    def _in_batches(
        self, decode: Callable[[Embedding, PromptBatch, IntArray], Candidates], embedding: Embedding,
        batch: PromptBatch, rows: IntArray,
    ) -> list[Candidates]:  # fmt: skip
        tokens = int(np.prod(embedding.features.shape[2:]))
        return self._batches.run(len(rows), tokens, lambda some: decode(embedding, batch, rows[some]))

    def _targeted(self, embedding: Embedding, batch: PromptBatch, rows: IntArray) -> Candidates:
        """Decode boxes with points; of SAM's four masks choose the best by its score, box, size and the detections."""
        boxes = batch.prompts.boxes_xyxy_px[rows]
        logits, scores = self.sam.decode(embedding, batch.prompts.points_px[rows], boxes)
        scale = embedding.cells_per_px
        cells = torch.as_tensor((boxes - np.tile(embedding.corner_px, 2)) * scale, device=logits.device)
        masks = self.sam.content(logits > 0, embedding)
        merit = scores + box_agreement(masks, cells)
        merit = merit + _AGREEMENT_WEIGHT * detection_agreement(masks, embedding, batch.regions, cells)
        merit = merit - _SIZE_WEIGHT * _size_change(masks, batch.prompts.areas_px[rows] * scale**2)
        best = merit.argmax(dim=1)
        each = torch.arange(len(rows), device=logits.device)
        return self._filtered(logits[each, best], scores[each, best], rows, embedding, batch, targeted=True)

    def _bare(self, embedding: Embedding, batch: PromptBatch, rows: IntArray) -> Candidates:
        """Decode bare points; all three multimask outputs may stay, as in SAM's automatic generator."""
        logits, scores = self.sam.decode(embedding, batch.prompts.points_px[rows])
        answered = np.repeat(rows, 3)
        return self._filtered(
            logits[:, 1:].flatten(0, 1), scores[:, 1:].flatten(), answered, embedding, batch, targeted=False
        )

    def _filtered(
        self, logits: Tensor, scores: Tensor, rows: IntArray, embedding: Embedding, batch: PromptBatch, targeted: bool
    ) -> Candidates:
        """Drop masks that are unsure, unstable, empty or most of what is seen."""
        config, cells = self.config, embedding.cells
        masks = self.sam.content(logits > 0, embedding)
        steady = stability(self.sam.content(logits, embedding), config.stability_score_offset)
        area = masks.flatten(1).sum(dim=1)
        good = (area > 0) & (area <= config.max_area_fraction * cells[0] * cells[1])
        good &= scores >= (config.targeted_iou_thresh if targeted else config.pred_iou_thresh)
        if not targeted:
            good &= steady >= config.stability_score_thresh
        asked = torch.as_tensor(rows, device=logits.device)
        cut = _cut(masks, embedding, batch.frame.size)
        return Candidates(logits[good], scores[good], steady[good], asked[good], cut[good])


def detection_agreement(masks: Tensor, embedding: Embedding, regions: Regions, boxes: Tensor) -> Tensor:
    """Compute the IoU `(P, C)` of candidates `(P, C, h, w)` with the foreground inside their prompts' boxes.

    Only pixels of which something is known count: foreground, sky, and, with less weight, ground that agrees with the
    background's motion. The boxes `(P, 4)` are in cells of the candidates.
    """
    foreground = _on_cells(regions.foreground, embedding).to(masks.device)
    known = torch.maximum(foreground, _on_cells(regions.sky, embedding).to(masks.device))
    if regions.evidence is not None:
        known = torch.maximum(known, _on_cells(regions.evidence < EVIDENT, embedding).to(masks.device))
        known = known.clamp(min=_GROUND_WEIGHT)
    wanted = foreground * _inside(boxes, embedding.cells)[:, None]
    filled = masks.float()
    common = (filled * wanted).flatten(2).sum(dim=2)
    union = torch.maximum(filled * known, wanted).flatten(2).sum(dim=2)
    return common / union.clamp(min=1e-6)


def _on_cells(mask: BoolArray, embedding: Embedding) -> Tensor:
    """Compute the share `(h, w)` of each cell of an encoded part that a mask `(H, W)` of the image fills."""
    left, top, right, bottom = (int(edge) for edge in embedding.region_xyxy_px)
    part = torch.from_numpy(np.ascontiguousarray(mask[top:bottom, left:right])).float()
    return functional.interpolate(part[None, None], size=embedding.cells, mode="area")[0, 0]


def _inside(boxes: Tensor, cells: tuple[int, int]) -> Tensor:
    """Draw boxes `(P, 4)` left, top, right, bottom [cells], filled, as `(P, h, w)` float32."""
    rows, columns = (torch.arange(length, device=boxes.device)[None] + 0.5 for length in cells)
    across = (columns >= boxes[:, :1] - 1) & (columns <= boxes[:, 2:3] + 1)
    down = (rows >= boxes[:, 1:2] - 1) & (rows <= boxes[:, 3:] + 1)
    return (down[:, :, None] & across[:, None]).float()


def _size_change(masks: Tensor, expected_px: FloatArray) -> Tensor:
    """Compute |log(area / expected)| `(P, C)` of candidates `(P, C, h, w)`; 0 where nothing is expected (NaN)."""
    areas = masks.flatten(2).sum(dim=2).clamp(min=1).double()
    expected = torch.as_tensor(expected_px, device=masks.device).clamp(min=1)
    return (areas / expected[:, None]).log().abs().nan_to_num(0.0)


def _cut(masks: Tensor, embedding: Embedding, size: tuple[int, int]) -> Tensor:
    """Test which masks `(K, h, w)` reach a border of the encoded part that lies inside the frame."""
    left, top, right, bottom = embedding.region_xyxy_px
    inner = (left > 0, top > 0, right < size[1], bottom < size[0])
    borders = (masks[:, :, 0], masks[:, 0], masks[:, :, -1], masks[:, -1])
    reaches = [border.any(dim=1) for border, is_inner in zip(borders, inner) if is_inner]
    return torch.stack(reaches).any(dim=0) if reaches else torch.zeros_like(masks[:, 0, 0])
