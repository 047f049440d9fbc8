"""One frame's segments: SAM where the proposers ask, point sources where it is too small for SAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, EgoMotion, Expectations, Frame, IntArray, Prompts, Segments
from sparsematch_ros.egomotion.residual import moving_shares
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.masks import (
    candidate_agreement,
    keep_strongest,
    sharpen_against_sky,
    size_change,
    stability,
)
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.segmentation.proposers import Proposer
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam
from sparsematch_ros.sky import Sky

# A mask this much inside another is its part.
_PART_SHARE = 0.8
# Merit lost by a mask e times as large, or as small, as expected.
_SIZE_WEIGHT = 0.5
# Under a dark sky a mask with a smaller bright share is a piece of sky.
_LIT_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the segmenter gives: segments, prompts, and the encoding, or None where the encoder did not run."""

    segments: Segments
    prompts: Prompts
    embedding: Embedding | None


class Segmenter(Protocol):
    """Anything that finds segments in a frame."""

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame."""


class AdaptiveSegmenter:
    """Asks SAM only where something is expected, moves or is bright, and adds point sources."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.sam = sam
        self.config = config
        self._proposer = Proposer(config)

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame; without a prompt the encoder does not run."""
        prompts = self._proposer.propose(frame.size, motion, sky, expectations)
        masks = MaskRows.empty(frame.size, self.sam.device)
        embedding = None
        if len(prompts):
            embedding = self.sam.encode(frame.image)
            masks = self._ask(embedding, prompts, motion)
            if sky.silhouettes is not None:
                masks = self._lit_only(masks, sky.silhouettes)
        points = select_point_sources(sky, expectations, frame.size, self.config)
        return Segmentation(assemble(masks, sky, points, motion), prompts, embedding)

    def _ask(self, embedding: Embedding, prompts: Prompts, motion: EgoMotion) -> MaskRows:
        """Decode all prompts, choose among the candidates at the decoder's resolution, enlarge the survivors."""
        targeted = np.flatnonzero(np.isfinite(prompts.boxes_xyxy_px).all(axis=1))
        bare = np.flatnonzero(~np.isfinite(prompts.boxes_xyxy_px).all(axis=1))
        parts = [self._targeted(embedding, prompts, rows, motion) for rows in self._batches(targeted)]
        parts += [self._swept(embedding, prompts, rows) for rows in self._batches(bare)]
        candidates = _Candidates.join(parts)
        # Targeted masks go before swept ones, then the larger and surer: the whole before its parts.
        area = (candidates.logits > 0).flatten(1).sum(dim=1).float()
        ranks = candidates.targeted.float() * 1e9 + area * candidates.scores
        kept = keep_strongest(candidates.logits > 0, ranks, self.config.box_nms_thresh, _PART_SHARE)
        masks = self.sam.upsample(candidates.logits[kept], embedding) > 0
        return MaskRows(masks, candidates.scores[kept], candidates.stability[kept], candidates.reasons[kept])

    def _lit_only(self, rows: MaskRows, silhouettes: BoolArray) -> MaskRows:
        """Sharpen masks against a dark sky; drop those of hardly anything but sky, and splinters."""
        sharp, lit_shares = sharpen_against_sky(rows.masks, silhouettes)
        areas = sharp.flatten(1).sum(dim=1)
        kept = (lit_shares >= _LIT_SHARE) & (areas >= self.config.point_source_max_px)
        return MaskRows(sharp[kept], rows.scores[kept], rows.stability[kept], rows.reasons[kept])

    def _batches(self, rows: IntArray) -> list[IntArray]:
        size = self.config.points_per_batch
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _targeted(self, embedding: Embedding, prompts: Prompts, rows: IntArray, motion: EgoMotion) -> _Candidates:
        """Ask with box and point; of SAM's four masks take the surest that fills the box, keeps its size and moves."""
        boxes = prompts.boxes_xyxy_px[rows]
        logits, scores = self.sam.decode(embedding, prompts.points_px[rows], boxes)
        scale = logits.shape[-1] / max(embedding.image_size)
        wanted = torch.as_tensor(boxes * scale, device=logits.device)
        merit = scores + candidate_agreement(logits > 0, wanted)
        merit = merit - _SIZE_WEIGHT * size_change(logits > 0, prompts.areas_px[rows] * scale**2)
        if motion.residual is not None:
            merit = merit + self._motion_merit(logits, embedding, motion.residual.evidence)
        best = merit.argmax(dim=1)
        each = torch.arange(len(rows), device=logits.device)
        return self._filtered(logits[each, best], scores[each, best], prompts.reasons[rows], True, embedding)

    def _motion_merit(self, logits: Tensor, embedding: Embedding, evidence: NDArray[np.float32]) -> Tensor:
        """Score candidates `(P, C, h, w)` by how well they hold what moves: evident inside, not around."""
        masks = self.sam.content(logits.flatten(0, 1) > 0, embedding)
        inside, around = moving_shares(evidence, masks)
        return (inside - around).reshape(logits.shape[:2])

    def _swept(self, embedding: Embedding, prompts: Prompts, rows: IntArray) -> _Candidates:
        """Ask with a bare point; all three multimask outputs may stay, as in SAM's automatic generator."""
        logits, scores = self.sam.decode(embedding, prompts.points_px[rows])
        reasons = np.repeat(prompts.reasons[rows], 3)
        return self._filtered(logits[:, 1:].flatten(0, 1), scores[:, 1:].flatten(), reasons, False, embedding)

    def _filtered(
        self, logits: Tensor, scores: Tensor, reasons: IntArray, targeted: bool, embedding: Embedding
    ) -> _Candidates:
        """Drop masks that are unsure, unstable, empty or most of the image."""
        config = self.config
        steady = stability(logits, config.stability_score_offset)
        area = (logits > 0).flatten(1).sum(dim=1)
        content = logits.shape[-1] ** 2 * np.prod(embedding.input_size) / max(embedding.input_size) ** 2
        good = (area > 0) & (area <= config.max_area_fraction * content)
        good &= scores >= (config.targeted_iou_thresh if targeted else config.pred_iou_thresh)
        if not targeted:
            good &= steady >= config.stability_score_thresh
        kinds = torch.as_tensor(reasons, device=logits.device)
        flags = torch.full((len(logits),), targeted, device=logits.device)
        return _Candidates(logits[good], scores[good], steady[good], kinds[good], flags[good])


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Masks at the decoder's resolution, before the choice."""

    logits: Tensor
    scores: Tensor
    stability: Tensor
    reasons: Tensor
    targeted: Tensor

    @classmethod
    def join(cls, parts: list[_Candidates]) -> _Candidates:
        names = ("logits", "scores", "stability", "reasons", "targeted")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
