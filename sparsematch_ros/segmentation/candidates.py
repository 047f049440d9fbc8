"""What SAM answers to the prompts of one encoded part of a frame: which of its masks to believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, EgoMotion, Frame, IntArray, PromptReason, Prompts
from sparsematch_ros.egomotion.residual import evident_parting, moving_shares
from sparsematch_ros.segmentation.batches import PromptBatches
from sparsematch_ros.segmentation.masks import candidate_agreement, size_change, stability
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam
from sparsematch_ros.sky import Sky

# What moves as one has a clear edge; spray, foliage and shadows that flicker have none.
_MOVING_STABILITY = 0.75
# Merit lost by a mask e times as large, or as small, as expected.
_SIZE_WEIGHT = 0.5
_COLUMNS = ("logits", "scores", "stability", "asked", "cut")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks at the decoder's resolution, K of them.

    Attributes:
        logits: `(K, h, w)` float32.
        scores: `(K,)` predicted IoU.
        stability: `(K,)` stability score.
        asked: `(K,)` int64 row of the prompt that each answers.
        cut: `(K,)` bool, True where a border of the part that is no border of the frame cuts the mask.

    """

    logits: Tensor
    scores: Tensor
    stability: Tensor
    asked: Tensor
    cut: Tensor

    @classmethod
    def join(cls, parts: list[Candidates]) -> Candidates:
        """Put several parts one after another."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS))

    def take(self, rows: Tensor) -> Candidates:
        """Give some rows, named by number or by a mask."""
        return Candidates(*(getattr(self, name)[rows] for name in _COLUMNS))


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a frame, with what is known of it.

    Attributes:
        frame: the frame.
        prompts: where is asked.
        motion: the background's motion, with what moves against it.
        sky: what stands out against a dark sky.

    """

    frame: Frame
    prompts: Prompts
    motion: EgoMotion
    sky: Sky


class PromptAsker:
    """Asks SAM and chooses among its masks before any is enlarged."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.sam = sam
        self.config = config
        self._batches = PromptBatches(config.points_per_batch, sam.device)

    def ask(self, embedding: Embedding, question: Question, rows: IntArray) -> Candidates:
        """Ask the prompts `(K,)` int64 `rows`, at least one, in one encoded part of the frame."""
        boxed = np.isfinite(question.prompts.boxes_xyxy_px[rows]).all(axis=1)
        moving = ~boxed & (question.prompts.reasons[rows] == PromptReason.MOTION)
        part = _Part(embedding, question)
        return Candidates.join(
            self._in_batches(self._targeted, part, rows[boxed])
            + self._in_batches(self._pointed, part, rows[moving])
            + self._in_batches(self._swept, part, rows[~boxed & ~moving])
        )

    def _in_batches(
        self, answer: Callable[[_Part, IntArray], Candidates], part: _Part, rows: IntArray
    ) -> list[Candidates]:
        tokens = int(np.prod(part.embedding.features.shape[2:]))
        return self._batches.run(len(rows), tokens, lambda batch: answer(part, rows[batch]))

    def _targeted(self, part: _Part, rows: IntArray) -> Candidates:
        """Ask with box and point; of SAM's four masks take the surest that fills the box, keeps its size and moves."""
        embedding, boxes = part.embedding, part.question.prompts.boxes_xyxy_px[rows]
        logits, scores = self.sam.decode(embedding, part.question.prompts.points_px[rows], boxes)
        scale = embedding.cells_per_px
        wanted = torch.as_tensor((boxes - np.tile(embedding.corner_px, 2)) * scale, device=logits.device)
        masks = self.sam.content(logits > 0, embedding)
        merit = scores + candidate_agreement(masks, wanted)
        merit = merit - _SIZE_WEIGHT * size_change(masks, part.question.prompts.areas_px[rows] * scale**2)
        if part.question.motion.residual is not None:
            merit = merit + self._motion_merit(masks, part, part.question.motion.residual.evidence)
            merit = merit + self._steadiness(logits, part)
        if part.question.sky.silhouettes is not None:
            merit = merit + self._lit_merit(masks, part, part.question.sky.silhouettes, wanted)
        best = merit.argmax(dim=1)
        each = torch.arange(len(rows), device=logits.device)
        return self._filtered(logits[each, best], scores[each, best], rows, part, targeted=True)

    def _pointed(self, part: _Part, rows: IntArray) -> Candidates:
        """Ask with a bare point on a moving place; of SAM's four masks take the stable one that holds most motion.

        What a mask holds is its evident pixels beyond the share that parts what moves from the rest: a part holds less
        than the whole, and the whole with resting surroundings less again. Where none holds any there is no answer.
        """
        residual, embedding = part.question.motion.residual, part.embedding
        if residual is None:
            raise ValueError("a point on a moving place needs the frame's residual motion")
        logits, scores = self.sam.decode(embedding, part.question.prompts.points_px[rows])
        masks = self.sam.content(logits > 0, embedding)
        inside, _ = self._motion_shares(masks, part, residual.evidence)
        held = (inside - evident_parting(residual)) * masks.flatten(2).sum(dim=2)
        held = held.where(self._steadiness(logits, part) >= _MOVING_STABILITY, held.new_zeros(()))
        best = held.argmax(dim=1)
        each = torch.arange(len(rows), device=logits.device)
        good = (held[each, best] > 0).cpu().numpy()
        each, best = each[good], best[good]
        return self._filtered(logits[each, best], scores[each, best], rows[good], part, targeted=True)

    def _steadiness(self, logits: Tensor, part: _Part) -> Tensor:
        """Give the stability score of candidates `(P, C, h, w)`, `(P, C)`."""
        cells = self.sam.content(logits, part.embedding).flatten(0, 1)
        return stability(cells, self.config.stability_score_offset).reshape(logits.shape[:2])

    def _motion_merit(self, masks: Tensor, part: _Part, evidence: NDArray[np.float32]) -> Tensor:
        """Score candidates `(P, C, h, w)` by how well they hold what moves: evident inside, not around."""
        inside, around = self._motion_shares(masks, part, evidence)
        return inside - around

    @staticmethod
    def _motion_shares(masks: Tensor, part: _Part, evidence: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Give the evident shares inside candidates `(P, C, h, w)` and around them, `(P, C)` each."""
        height, width = part.question.frame.size
        edges = np.array(part.embedding.region_xyxy_px) / np.array([width, height, width, height])
        inside, around = moving_shares(evidence, masks.flatten(0, 1), edges)
        return inside.reshape(masks.shape[:2]), around.reshape(masks.shape[:2])

    def _lit_merit(self, masks: Tensor, part: _Part, silhouettes: BoolArray, boxes: Tensor) -> Tensor:
        """Score candidates `(P, C, h, w)` by their IoU with what is bright in the prompt's box `(P, 4)` [cells]."""
        left, top, right, bottom = (int(edge) for edge in part.embedding.region_xyxy_px)
        lit = torch.from_numpy(silhouettes[top:bottom, left:right]).to(masks.device).float()
        lit = functional.interpolate(lit[None, None], size=part.embedding.cells, mode="area")[0, 0]
        filled = masks.float()
        wanted = lit * _inside(boxes, part.embedding.cells)[:, None]
        common = torch.minimum(filled, wanted).flatten(2).sum(dim=2)
        return common / torch.maximum(filled, wanted).flatten(2).sum(dim=2).clamp(min=1e-6)

    def _swept(self, part: _Part, rows: IntArray) -> Candidates:
        """Ask with a bare point; all three multimask outputs may stay, as in SAM's automatic generator."""
        logits, scores = self.sam.decode(part.embedding, part.question.prompts.points_px[rows])
        answered = np.repeat(rows, 3)
        return self._filtered(logits[:, 1:].flatten(0, 1), scores[:, 1:].flatten(), answered, part, targeted=False)

    def _filtered(self, logits: Tensor, scores: Tensor, rows: IntArray, part: _Part, targeted: bool) -> Candidates:
        """Drop masks that are unsure, unstable, empty or most of what is seen."""
        config, cells = self.config, part.embedding.cells
        masks = self.sam.content(logits > 0, part.embedding)
        steady = stability(self.sam.content(logits, part.embedding), config.stability_score_offset)
        area = masks.flatten(1).sum(dim=1)
        good = (area > 0) & (area <= config.max_area_fraction * cells[0] * cells[1])
        good &= scores >= (config.targeted_iou_thresh if targeted else config.pred_iou_thresh)
        if not targeted:
            good &= steady >= config.stability_score_thresh
        asked = torch.as_tensor(rows, device=logits.device)
        moving = torch.as_tensor(part.question.prompts.reasons[rows] == PromptReason.MOTION, device=logits.device)
        good &= ~moving | (steady >= _MOVING_STABILITY)
        return Candidates(logits[good], scores[good], steady[good], asked[good], _cut(masks, part)[good])


@dataclass(frozen=True, eq=False)
class _Part:
    """An encoded part of a frame, and what is asked of the frame."""

    embedding: Embedding
    question: Question


def _inside(boxes: Tensor, cells: tuple[int, int]) -> Tensor:
    """Draw boxes `(P, 4)` left, top, right, bottom [cells], filled, as `(P, h, w)` float32."""
    rows, columns = (torch.arange(length, device=boxes.device)[None] + 0.5 for length in cells)
    across = (columns >= boxes[:, :1] - 1) & (columns <= boxes[:, 2:3] + 1)
    down = (rows >= boxes[:, 1:2] - 1) & (rows <= boxes[:, 3:] + 1)
    return (down[:, :, None] & across[:, None]).float()


def _cut(masks: Tensor, part: _Part) -> Tensor:
    """Say which masks `(K, h, w)` reach a border of the part that lies inside the frame."""
    left, top, right, bottom = part.embedding.region_xyxy_px
    inner = (left > 0, top > 0, right < part.question.frame.size[1], bottom < part.question.frame.size[0])
    borders = (masks[:, :, 0], masks[:, 0], masks[:, :, -1], masks[:, -1])
    reaches = [border.any(dim=1) for border, is_inner in zip(borders, inner) if is_inner]
    return torch.stack(reaches).any(dim=0) if reaches else torch.zeros_like(masks[:, 0, 0])
