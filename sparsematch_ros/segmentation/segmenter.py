"""One frame's segments: SAM where the proposers ask, point sources where it is too small for SAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import (
    BoolArray,
    EgoMotion,
    Expectations,
    FloatArray,
    Frame,
    IntArray,
    PromptReason,
    Prompts,
    Segments,
)
from sparsematch_ros.segmentation.assembly import MaskRows, assemble
from sparsematch_ros.segmentation.candidates import Candidates, PromptAsker, Question
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.masks import keep_strongest, masks_at, sharpen_against_sky
from sparsematch_ros.segmentation.points import select_point_sources
from sparsematch_ros.segmentation.proposers import Proposer, grid_prompts, join_prompts
from sparsematch_ros.segmentation.regions import Region, plan_regions
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam
from sparsematch_ros.segmentation.survey import SurveyClock, survey_places
from sparsematch_ros.segmentation.wholeness import with_whole_objects
from sparsematch_ros.sky import Sky

# A mask this much inside another is its part.
_PART_SHARE = 0.8
# Under a dark sky a mask with a smaller bright share is a piece of sky.
_LIT_SHARE = 0.25
# A bright region is explained where masks hold this share of it; else its silhouette is a mask of this score.
_EXPLAINED_SHARE = 0.3
_SILHOUETTE_SCORE = 0.6
# Masks are compared at no more than this many pixels a side.
_COMPARED_PX = 1024


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the segmenter gives.

    Attributes:
        segments: masks and point sources.
        prompts: where was asked.
        embeddings: the encoded parts of the frame; none where the encoder did not run.
        owners: `(M,)` int64, which of them each mask comes from.

    """

    segments: Segments
    prompts: Prompts
    embeddings: tuple[Embedding, ...]
    owners: IntArray

    @property
    def regions_xyxy_px(self) -> FloatArray:
        """Parts of the frame that were encoded, `(V, 4)` float64."""
        return np.array([each.region_xyxy_px for each in self.embeddings], dtype=np.float64).reshape(-1, 4)


class Segmenter(Protocol):
    """Anything that finds segments in a frame."""

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame."""

    def request_survey(self) -> None:
        """Look at everything in the next frame."""

    def reset(self) -> None:
        """Forget all frames."""


class AdaptiveSegmenter:
    """Asks SAM only where something is expected, moves, is bright or has not been looked at, and adds point sources."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Take the model and the settings."""
        self.sam = sam
        self.config = config
        self._asker = PromptAsker(sam, config)
        self.reset()
        self._generator = MaskGenerator(
            sam,
            replace(
                config,
                points_per_side=max(config.survey_points_per_side, 1),
                crop_n_layers=0,
                min_mask_region_area=0,
            ),
        )

    def request_survey(self) -> None:
        """Look at everything in the next frame."""
        self._survey.request()

    def reset(self) -> None:
        """Forget what was looked at; the next frame is a first one."""
        self._proposer = Proposer(self.config)
        self._survey = SurveyClock(self.config)

    def segment(self, frame: Frame, motion: EgoMotion, sky: Sky, expectations: Expectations) -> Segmentation:
        """Find the segments of a frame; without a prompt the encoder does not run."""
        prompts = self._proposer.propose(frame, motion, sky, expectations)
        question = Question(frame, prompts, motion, sky)
        places = np.zeros((0, 2))
        if self._survey.due(frame.stamp_ns):
            places = survey_places(self.config.survey_points_per_side, frame.size, sky)
        if len(places):
            found, embeddings = self._surveyed(question, places)
            prompts = join_prompts([prompts, grid_prompts(places)])
        else:
            found, embeddings = self._asked(question)
        if sky.silhouettes is not None and sky.region_labels is not None:
            found = self._one_for_each([self._lit_only(found, sky.silhouettes)], frame.size)
            found = with_whole_objects(found, sky, expectations)
            found = MaskRows.join([found, self._unexplained(found, sky.silhouettes, sky.region_labels)])
        points = select_point_sources(sky, expectations, frame.size, self.config)
        # A point source that a mask holds is that mask: one thing, one segment.
        points = points[~masks_at(found.masks, sky.points_px[points]).any(axis=1)]
        segments, owners = assemble(found, sky, points, motion)
        return Segmentation(segments, prompts, tuple(embeddings), owners)

    def _asked(self, question: Question) -> tuple[MaskRows, list[Embedding]]:
        """Encode what the prompts need and ask there; a mask that its part cuts is asked for again in the whole."""
        size = question.frame.size
        embeddings: list[Embedding] = []
        found: list[MaskRows] = []
        again: list[IntArray] = []
        for region in plan_regions(question.prompts, size, self.sam.input_size, self.sam.resizable):
            rows, cut = self._ask_region(region, question, embeddings)
            found.append(rows)
            again.append(cut)
        if any(len(rows) for rows in again):
            whole = Region((0, 0, size[1], size[0]), self.sam.input_size, np.concatenate(again))
            found.append(self._ask_region(whole, question, embeddings)[0])
        return self._one_for_each(found, size), embeddings

    def _ask_region(self, region: Region, question: Question, embeddings: list[Embedding]) -> tuple[MaskRows, IntArray]:
        """Encode one part, which joins `embeddings`, and ask in it; gives masks, and prompts whose mask is cut."""
        embeddings.append(self.sam.encode(question.frame.image, region.bounds, region.side))
        candidates = self._asker.ask(embeddings[-1], question, region.rows)
        cut = candidates.asked[candidates.cut].unique().cpu().numpy()
        targeted = np.isfinite(question.prompts.boxes_xyxy_px[cut, 0])
        return self._painted(candidates.take(~candidates.cut), embeddings, question), cut[targeted]

    def _surveyed(self, question: Question, places: FloatArray) -> tuple[MaskRows, list[Embedding]]:
        """Look at everything, and ask the prompts in the same encoding."""
        everything = self._generator.generate(question.frame.image, places_px=places)
        reasons = torch.full_like(everything.scores, float(PromptReason.GRID))
        owners = torch.zeros_like(reasons).long()
        found = [MaskRows(everything.masks, everything.scores, everything.stability, reasons, owners)]
        if len(question.prompts):
            rows = np.arange(len(question.prompts))
            candidates = self._asker.ask(everything.embedding, question, rows)
            found.append(self._painted(candidates, [everything.embedding], question))
        return self._one_for_each(found, question.frame.size), [everything.embedding]

    def _painted(self, candidates: Candidates, embeddings: list[Embedding], question: Question) -> MaskRows:
        """Enlarge the masks of the last embedding and put them where its part lies in the frame."""
        left, top, right, bottom = (int(edge) for edge in embeddings[-1].region_xyxy_px)
        shape = (len(candidates.logits), *question.frame.size)
        masks = torch.zeros(shape, dtype=torch.bool, device=self.sam.device)
        masks[:, top:bottom, left:right] = self.sam.upsample(candidates.logits, embeddings[-1]) > 0
        reasons = torch.as_tensor(question.prompts.reasons, device=self.sam.device)[candidates.asked]
        owners = torch.full_like(candidates.asked, len(embeddings) - 1)
        return MaskRows(masks, candidates.scores, candidates.stability, reasons.float(), owners)

    def _one_for_each(self, parts: Sequence[MaskRows], size: tuple[int, int]) -> MaskRows:
        """Keep one mask for each thing: targeted ones before swept ones, then the larger and surer, the whole first."""
        found = MaskRows.join([MaskRows.empty(size, self.sam.device), *parts])
        bare = torch.tensor([PromptReason.SWEEP, PromptReason.TEXTURE, PromptReason.GRID], device=self.sam.device)
        targeted = ~torch.isin(found.reasons, bare.float())
        ranks = targeted.double() * 1e9 + found.masks.flatten(1).sum(dim=1) * found.scores
        step = -(-max(size) // _COMPARED_PX)
        kept = keep_strongest(found.masks[:, ::step, ::step], ranks, self.config.box_nms_thresh, _PART_SHARE)
        return found.take(kept)

    def _lit_only(self, rows: MaskRows, silhouettes: BoolArray) -> MaskRows:
        """Sharpen masks against a dark sky; drop those of hardly anything but sky, and splinters."""
        sharp, lit_shares = sharpen_against_sky(rows.masks, silhouettes)
        areas = sharp.flatten(1).sum(dim=1)
        kept = (lit_shares >= _LIT_SHARE) & (areas >= self.config.point_source_max_px)
        return replace(rows, masks=sharp).take(kept)

    def _unexplained(self, rows: MaskRows, silhouettes: BoolArray, labels: NDArray[np.int32]) -> MaskRows:
        """Give the silhouettes of bright regions that no mask holds: SAM was not asked there, or gave nothing."""
        covered = rows.masks.any(dim=0).cpu().numpy()
        shown = np.where(silhouettes, labels, 0)
        extent = np.bincount(shown.ravel(), minlength=labels.max() + 1)
        explained = np.bincount(shown[covered], minlength=len(extent))
        missing = np.flatnonzero((explained < _EXPLAINED_SHARE * extent) & (extent > 0))
        missing = missing[missing > 0]
        device = self.sam.device
        raster = torch.from_numpy(np.ascontiguousarray(shown)).to(device)
        masks = raster[None] == torch.as_tensor(missing, device=device)[:, None, None]
        column = torch.ones(len(missing), device=device)
        # They come from no encoding; the first stands in for those that look one up.
        return MaskRows(
            masks, _SILHOUETTE_SCORE * column, column, column * float(PromptReason.BRIGHT), column.long() * 0
        )
