"""Segment everything: the masks of SAM's own automatic generator, with less work.

Parameters, filters and their order are those of `segment_anything.SamAutomaticMaskGenerator` (Kirillov et al., 2023,
appendix B). What is spared: a prompt none of whose masks is believed is not drawn; padding is not drawn; a mask that
is clearly unstable at the decoder's resolution is not enlarged; masks are enlarged in small groups and kept at the
decoder's resolution until duplicates are gone; nothing leaves the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.utils.amg import (
    batched_mask_to_box,
    build_all_layer_point_grids,
    generate_crop_boxes,
    is_box_near_crop_edge,
    remove_small_regions,
)
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import nms

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import FloatArray
from sparsematch_ros.segmentation.batches import PromptBatches
from sparsematch_ros.segmentation.masks import stability
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam

# Stability at the decoder's resolution differs from that in the image by up to this for masks of so many cells: all
# but 0.1% of 3,600 masks of real frames.
_STABILITY_MARGIN = 0.04
_LEAST_CELLS = 150
# Stability and boxes are measured in the image up to this side [px], whose pixels are finer than the decoder's by far.
_MEASURED_PX = 1280
# Pixels enlarged at once, so that the work stays in cache and memory stays bounded.
_PIXELS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class GeneratedMasks:
    """All masks of an image, on the device.

    Attributes:
        masks: `(M, H, W)` bool.
        boxes_xyxy_px: `(M, 4)` int64 first and last column and row.
        scores: `(M,)` predicted IoU.
        stability: `(M,)` stability score.
        points_px: `(M, 2)` float64, where each was asked for.
        crop_boxes_xyxy_px: `(M, 4)` int64 part of the image in which it was found.
        prompts_px: `(P, 2)` float64 all places that were asked.
        embedding: SAM's encoding of the whole image.

    """

    masks: Tensor
    boxes_xyxy_px: Tensor
    scores: Tensor
    stability: Tensor
    points_px: Tensor
    crop_boxes_xyxy_px: Tensor
    prompts_px: FloatArray
    embedding: Embedding

    def __len__(self) -> int:
        """Count the masks."""
        return len(self.masks)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Masks at the decoder's resolution; boxes and points in pixels of the image."""

    logits: Tensor
    boxes: Tensor
    scores: Tensor
    stability: Tensor
    points: Tensor

    def take(self, rows: Tensor) -> _Candidates:
        return _Candidates(*(getattr(self, name)[rows] for name in _NAMES))

    @classmethod
    def join(cls, parts: list[_Candidates]) -> _Candidates:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _NAMES))


_NAMES = ("logits", "boxes", "scores", "stability", "points")


class MaskGenerator:
    """Generates the masks of everything in an image."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings named as the stock generator's parameters are."""
        self.sam = sam
        self.config = config
        self._batches = PromptBatches(config.points_per_batch, sam.device)
        self._grids = build_all_layer_point_grids(
            config.points_per_side, config.crop_n_layers, config.crop_n_points_downscale_factor
        )

    @torch.inference_mode()
    def generate(
        self, image: NDArray[np.uint8], survivors: int = 0, places_px: FloatArray | None = None
    ) -> GeneratedMasks:
        """Find the masks of an `(H, W, 3)` uint8 RGB image.

        Args:
            image: the image.
            places_px: `(P, 2)` where to ask in the whole image; None for the grid.
            survivors: for timing with random weights: leave the thresholds out and keep this many masks by score;
                0 for the real filters.

        """
        size = (image.shape[0], image.shape[1])
        boxes, layers = generate_crop_boxes(size, self.config.crop_n_layers, self.config.crop_overlap_ratio)
        places = [self._places(box, layer) for box, layer in zip(boxes, layers)]
        if places_px is not None:
            places[0] = places_px
        crops = [self._crop(image, box, asked, survivors) for box, asked in zip(boxes, places)]
        found, embeddings = zip(*crops)
        counts = torch.tensor([len(part.scores) for part in found])
        owner = torch.repeat_interleave(torch.arange(len(crops)), counts).to(self.sam.device)
        joined, kept = self._between_crops(list(found), torch.tensor(boxes, device=self.sam.device)[owner])
        owner = owner[kept]
        masks = self._paint(joined.logits, owner, embeddings, size)
        generated = GeneratedMasks(
            masks,
            joined.boxes if max(size) <= _MEASURED_PX else _boxes(masks),
            joined.scores,
            joined.stability,
            joined.points,
            torch.tensor(boxes, device=self.sam.device)[owner],
            np.concatenate(places),
            embeddings[0],
        )
        return self._without_small_regions(generated) if self.config.min_mask_region_area else generated

    def _places(self, box: list[int], layer: int) -> FloatArray:
        """Give the points `(P, 2)` of a layer's grid in one crop."""
        return np.asarray(self._grids[layer] * (box[2] - box[0], box[3] - box[1]) + box[:2])

    def _crop(
        self, image: NDArray[np.uint8], box: list[int], places: FloatArray, survivors: int
    ) -> tuple[_Candidates, Embedding]:
        """Ask at some places of one crop; gives what is left, and its encoding."""
        embedding = self.sam.encode(image, (box[0], box[1], box[2], box[3]))
        tokens = int(np.prod(embedding.features.shape[2:]))
        whole = [0, 0, image.shape[1], image.shape[0]]

        def ask(rows: slice) -> _Candidates:
            if survivors:
                return self._drawn(embedding, places[rows], -np.inf)
            return self._filtered(embedding, places[rows], box, whole)

        # Without a place the answer is that to no prompts.
        found = _Candidates.join(self._batches.run(len(places), tokens, ask) or [ask(slice(0))])
        if survivors:
            best = found.scores.topk(min(survivors, len(found.scores))).indices
            return self._enlarged(embedding, found.take(best)), embedding
        return found.take(nms(found.boxes.float(), found.scores, self.config.box_nms_thresh)), embedding

    def _drawn(self, embedding: Embedding, places: FloatArray, threshold: float) -> _Candidates:
        """Ask at some places and draw the multimask outputs whose predicted IoU is above the threshold."""
        answers = self.sam.ask(embedding, places)
        believed = answers.scores[:, 1:] > threshold
        rows = believed.any(dim=1).nonzero()[:, 0]
        logits = self.sam.draw(embedding, answers, rows)[:, 1:][believed[rows]]
        scores = answers.scores[:, 1:][believed].float()
        points = torch.as_tensor(places, device=self.sam.device)[:, None].expand(-1, 3, -1)[believed]
        boxes = torch.zeros((len(scores), 4), dtype=torch.int64, device=self.sam.device)
        return _Candidates(logits, boxes, scores, torch.zeros_like(scores), points)

    def _filtered(self, embedding: Embedding, places: FloatArray, box: list[int], whole: list[int]) -> _Candidates:
        """Give the masks of some places that are sure, stable, and not cut by the border of their crop."""
        config = self.config
        drawn = self._drawn(embedding, places, config.pred_iou_thresh or -np.inf)  # 0: no threshold, as in SAM's own.
        coarse = self.sam.content(drawn.logits, embedding)
        doubtful = stability(coarse, config.stability_score_offset) < config.stability_score_thresh - _STABILITY_MARGIN
        large = (coarse > 0).flatten(1).sum(dim=1) >= _LEAST_CELLS
        drawn = self._enlarged(embedding, drawn.take(~(doubtful & large)))
        local = drawn.boxes - torch.tensor(embedding.corner_px * 2, device=drawn.boxes.device)
        good = (drawn.stability >= config.stability_score_thresh) & ~is_box_near_crop_edge(local, box, whole)
        return drawn.take(good)

    def _enlarged(self, embedding: Embedding, candidates: _Candidates) -> _Candidates:
        """Measure stability and box of the masks as they are in the image, or nearly so in a very large one."""
        height, width = embedding.image_size
        shrink = min(1.0, _MEASURED_PX / max(height, width))
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        group = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
        steady, boxes = [candidates.stability[:0]], [candidates.boxes[:0]]
        for logits in candidates.logits.split(group):
            masks = self.sam.upsample(logits, embedding, size)
            steady.append(stability(masks, self.config.stability_score_offset))
            boxes.append(batched_mask_to_box(masks > 0))
        scale = torch.tensor([width / size[1], height / size[0]] * 2, device=self.sam.device)
        corner = torch.tensor(embedding.corner_px * 2, device=self.sam.device)
        placed = (torch.cat(boxes) * scale).round().long() + corner
        return replace(candidates, boxes=placed, stability=torch.cat(steady))

    def _between_crops(self, parts: list[_Candidates], crop_boxes: Tensor) -> tuple[_Candidates, Tensor]:
        """Drop what several crops found, for the smaller crop's; gives the rest and their rows."""
        height, width = (max(part.logits.shape[axis] for part in parts) for axis in (1, 2))
        padded = [
            replace(part, logits=pad(part.logits, (0, width - part.logits.shape[2], 0, height - part.logits.shape[1])))
            for part in parts
        ]
        joined = _Candidates.join(padded)
        if len(parts) == 1:
            return joined, torch.arange(len(joined.scores), device=crop_boxes.device)
        extent = (crop_boxes[:, 2:] - crop_boxes[:, :2]).prod(dim=1)
        kept = nms(joined.boxes.float(), 1.0 / extent, self.config.crop_nms_thresh)
        return joined.take(kept), kept

    def _paint(self, logits: Tensor, owner: Tensor, embeddings: tuple[Embedding, ...], size: tuple[int, int]) -> Tensor:
        """Bring the masks to the image, each from its crop."""
        masks = torch.zeros((len(logits), *size), dtype=torch.bool, device=self.sam.device)
        for number, embedding in enumerate(embeddings):
            rows = (owner == number).nonzero()[:, 0]
            left, top, right, bottom = (int(edge) for edge in embedding.region_xyxy_px)
            group = max(1, _PIXELS_AT_ONCE // int(np.prod(embedding.image_size)))
            for some in rows.split(group):
                masks[some, top:bottom, left:right] = self.sam.upsample(logits[some], embedding) > 0
        return masks

    def _without_small_regions(self, found: GeneratedMasks) -> GeneratedMasks:
        """Fill holes and remove islands, then drop new duplicates; on the host, as OpenCV labels regions there."""
        area = float(self.config.min_mask_region_area)
        cleaned, unchanged = found.masks.cpu().numpy(), []
        for row, mask in enumerate(cleaned):
            filled, had_holes = remove_small_regions(mask, area, mode="holes")
            cleaned[row], had_islands = remove_small_regions(filled, area, mode="islands")
            unchanged.append(float(not had_holes and not had_islands))
        masks = torch.from_numpy(cleaned).to(found.masks.device)
        boxes = batched_mask_to_box(masks)
        threshold = max(self.config.box_nms_thresh, self.config.crop_nms_thresh)
        kept = nms(boxes.float(), torch.tensor(unchanged, device=boxes.device), threshold)
        return replace(
            found,
            masks=masks[kept],
            boxes_xyxy_px=boxes[kept],
            scores=found.scores[kept],
            stability=found.stability[kept],
            points_px=found.points_px[kept],
            crop_boxes_xyxy_px=found.crop_boxes_xyxy_px[kept],
        )


def _boxes(masks: Tensor) -> Tensor:
    """Give the boxes of masks `(M, H, W)`, one by one since their coordinates take much more than they do."""
    return torch.cat([torch.zeros((0, 4), dtype=torch.int64, device=masks.device),
                      *(batched_mask_to_box(mask[None]) for mask in masks)])  # fmt: skip
