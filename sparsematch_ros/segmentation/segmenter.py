"""One frame's segments: SAM where it is prompted, outlines of what stands out by itself, and point sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from segment_anything.utils.amg import build_point_grid
from torch import Tensor

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import BoolArray, FloatArray, Frame, IntArray, PromptReason, TrackPredictions
from sparsematch_ros.detection.evidence import EVIDENT
from sparsematch_ros.detection.regions import Regions
from sparsematch_ros.detection.sources import Sources
from sparsematch_ros.segmentation.candidates import Candidates, PromptBatch, PromptDecoder
from sparsematch_ros.segmentation.crops import Region, plan_regions
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.masks import grown, keep_strongest, masks_at
from sparsematch_ros.segmentation.prompts import Prompts, Proposal, grid_prompts, propose
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam
from sparsematch_ros.segmentation.segments import MaskRows, Segments, assemble

# A mask this much inside another is its part.
_PART_SHARE = 0.8
# A region is explained where masks hold this share of it; else its outline is a mask of this score.
_EXPLAINED_SHARE, _OUTLINE_SCORE = 0.3, 0.6
# What is known of neither as background or detected counts so much against a mask.
_UNKNOWN_WEIGHT = 0.2
# A mask over the ground with less residual motion is ground: shares of all pixels, and of those that would show it.
_EVIDENT_SHARE, _MOVING_SHARE = 0.15, 0.4
# A place rests by the pixels of a square of this side [px], where at least this share of them would show a motion.
_RESTING_SIDE_PX, _RESTING_SHOWN = 5, 0.2
# Masks are compared at no more than this many pixels a side.
_COMPARED_PX = 1024


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the segmenter found.

    Attributes:
        segments: masks and point sources.
        prompts: where SAM was asked.
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

    def segment(self, frame: Frame, regions: Regions, sources: Sources, predictions: TrackPredictions) -> Segmentation:
        """Find the segments of a frame."""

    def request_survey(self) -> None:
        """Look at everything in the next frame."""

    def reset(self) -> None:
        """Forget all frames."""


class AdaptiveSegmenter:
    """Prompts SAM only where something is tracked or detected."""

    def __init__(self, sam: PromptedSam, config: SegmentationConfig) -> None:
        """Keep the model and the settings."""
        self.sam = sam
        self.config = config
        self._decoder = PromptDecoder(sam, config)
        self._generator = MaskGenerator(sam, replace(config, crop_n_layers=0, min_mask_region_area=0))
        self._survey = False

    def request_survey(self) -> None:
        """Look at everything in the next frame."""
        self._survey = True

    def reset(self) -> None:
        """Forget that a survey was requested."""
        self._survey = False

    def segment(self, frame: Frame, regions: Regions, sources: Sources, predictions: TrackPredictions) -> Segmentation:
        """Find the segments of a frame; without a prompt the encoder does not run.

        Args:
            frame: the image.
            regions: what is not background.
            sources: the point sources that are no stars.
            predictions: the tracked objects.

        """
        proposal = propose(regions, predictions, frame.size, self.config)
        batch = PromptBatch(frame, proposal.prompts, regions, _in_parts(predictions))
        prompts = proposal.prompts
        if self._survey:
            places = build_point_grid(self.config.survey_points_per_side) * np.array(frame.size)[::-1]
            found, embeddings = self._surveyed(batch, places)
            prompts = Prompts.join([prompts, grid_prompts(places)])
            self._survey = False
        else:
            found, embeddings = self._prompted(batch)
        found = self._one_for_each([_refined(_evident(found, regions), regions, proposal)], batch)
        found = MaskRows.join([found, _unexplained(found, regions)])
        # A point source that a mask holds is that mask: one thing, one segment.
        alone = np.flatnonzero(~masks_at(found.masks, sources.points_px).any(axis=1))
        segments, owners = assemble(found, sources.take(alone), regions, self.config.point_source_snr)
        return Segmentation(segments, prompts, tuple(embeddings), owners)

    def _prompted(self, batch: PromptBatch) -> tuple[MaskRows, list[Embedding]]:
        """Encode what the prompts need; a mask that its part cuts is asked for again in the whole frame."""
        size = batch.frame.size
        embeddings: list[Embedding] = []
        found: list[MaskRows] = []
        again: list[IntArray] = []
        for region in plan_regions(batch.prompts, size, self.sam.input_size, self.sam.resizable):
            rows, cut = self._in_part(region, batch, embeddings)
            found.append(rows)
            again.append(cut)
        if any(len(rows) for rows in again):
            whole = Region((0, 0, size[1], size[0]), self.sam.input_size, np.concatenate(again))
            found.append(self._in_part(whole, batch, embeddings)[0])
        return self._one_for_each(found, batch), embeddings

    def _in_part(self, region: Region, batch: PromptBatch, embeddings: list[Embedding]) -> tuple[MaskRows, IntArray]:
        """Encode one part, which joins `embeddings`, and decode in it; returns masks, and prompts of cut masks."""
        embeddings.append(self.sam.encode(batch.frame.image, region.bounds, region.side))
        candidates = self._decoder.decode(embeddings[-1], batch, region.rows)
        cut = candidates.prompts[candidates.cut].unique().cpu().numpy()
        targeted = np.isfinite(batch.prompts.boxes_xyxy_px[cut, 0])
        return self._painted(candidates.take(~candidates.cut), embeddings, batch), cut[targeted]

    def _surveyed(self, batch: PromptBatch, places: FloatArray) -> tuple[MaskRows, list[Embedding]]:
        """Look at everything, and decode the prompts in the same encoding."""
        everything = self._generator.generate(batch.frame.image, places_px=places)
        reasons = torch.full_like(everything.scores, float(PromptReason.GRID))
        none = torch.zeros_like(reasons).long()
        found = [MaskRows(everything.masks, everything.scores, everything.stability, reasons, none, none - 1)]
        if len(batch.prompts):
            candidates = self._decoder.decode(everything.embedding, batch, np.arange(len(batch.prompts)))
            found.append(self._painted(candidates, [everything.embedding], batch))
        return self._one_for_each(found, batch), [everything.embedding]

    def _painted(self, candidates: Candidates, embeddings: list[Embedding], batch: PromptBatch) -> MaskRows:
        """Enlarge the masks of the last embedding and put them where its part lies in the frame."""
        left, top, right, bottom = (int(edge) for edge in embeddings[-1].region_xyxy_px)
        shape = (len(candidates.logits), *batch.frame.size)
        masks = torch.zeros(shape, dtype=torch.bool, device=self.sam.device)
        masks[:, top:bottom, left:right] = self.sam.upsample(candidates.logits, embeddings[-1]) > 0
        reasons = torch.as_tensor(batch.prompts.reasons, device=self.sam.device)[candidates.prompts]
        owners = torch.full_like(candidates.prompts, len(embeddings) - 1)
        return MaskRows(masks, candidates.scores, candidates.stability, reasons.float(), owners, candidates.prompts)

    def _one_for_each(self, parts: Sequence[MaskRows], batch: PromptBatch) -> MaskRows:
        """Keep one mask for each thing: prompted ones before those of a grid, then those that explain more."""
        found = MaskRows.join([MaskRows.empty(batch.frame.size, self.sam.device), *parts])
        step = -(-max(batch.frame.size) // _COMPARED_PX)
        coarse = found.masks[:, ::step, ::step]
        surveyed = found.reasons == PromptReason.GRID
        explained = _explained(coarse, batch.regions, step)
        ranks = torch.where(
            surveyed, coarse.flatten(1).sum(dim=1) * found.scores.double(), 1e9 + explained * found.scores.double()
        )
        tracks = np.append(batch.prompts.tracks, -1)
        rivals = torch.as_tensor(tracks, device=self.sam.device)[found.prompts]
        part = torch.as_tensor(np.append(batch.parts, False), device=self.sam.device)[rivals]
        own = (found.reasons == PromptReason.EXPECTED) & ~part
        kept = keep_strongest(coarse, ranks, self.config.box_nms_thresh, _PART_SHARE, own, rivals)
        return found.take(kept)


def _in_parts(predictions: TrackPredictions) -> BoolArray:
    """Test which objects `(T,)` may be parts of one body with others."""
    return np.bincount(predictions.bodies, minlength=1)[predictions.bodies] > 1


def _explained(masks: Tensor, regions: Regions, step: int) -> Tensor:
    """Compute how many more pixels of masks `(M, h, w)`, on every so many pixels, are detected than are background.

    Of what is unknown some is background.
    """
    shown = regions.foreground if regions.evidence is None else regions.foreground | (regions.evidence > EVIDENT)
    calm = regions.sky if regions.evidence is None else regions.sky | (regions.evidence < EVIDENT)
    value = np.where(shown, 1.0, np.where(calm, -1.0, -_UNKNOWN_WEIGHT)).astype(np.float32)[::step, ::step]
    return (masks.flatten(1).float() @ torch.from_numpy(value.ravel()).to(masks.device)).double()


def _refined(found: MaskRows, regions: Regions, proposal: Proposal) -> MaskRows:
    """Bring the edges of masks to what was detected.

    SAM's masks come at a quarter of its input's resolution, several pixels of the image; against the sky brightness
    marks the edge to a pixel, and what is as dark as the sky does not show. What was detected of the region that a
    prompt stands for belongs to its mask; what visibly rests does not.
    """
    if len(found.masks) == 0:
        return found
    device = found.masks.device
    lit, sky = (torch.from_numpy(each).to(device) for each in (regions.foreground, regions.sky))
    sharp = torch.where(lit & _near_sky(sky), grown(found.masks), found.masks & ~sky)
    own = _outlines_of_prompts(regions, proposal, device)[found.prompts] & (found.prompts >= 0)[:, None, None]
    return replace(found, masks=(sharp & ~torch.from_numpy(_resting(regions)).to(device)) | (own & lit))


def _resting(regions: Regions) -> BoolArray:
    """Mark `(H, W)` where most of the pixels whose motion would show, and enough of them, rest in a layer."""
    if regions.evidence is None:
        return np.zeros_like(regions.foreground)
    side = (_RESTING_SIDE_PX, _RESTING_SIDE_PX)
    calm, shown = (
        cv2.boxFilter(each.astype(np.float32), -1, side)
        for each in (regions.evidence < EVIDENT, np.isfinite(regions.evidence))
    )
    return np.asarray((calm > 0.5 * shown) & (shown > _RESTING_SHOWN))


def _evident(found: MaskRows, regions: Regions) -> MaskRows:
    """Drop masks that show hardly more than ground: SAM answers every prompt, also where the object is gone."""
    if regions.evidence is None or len(found.masks) == 0:
        return found
    device = found.masks.device
    shown = torch.from_numpy((regions.evidence > EVIDENT) | regions.foreground).to(device)
    known = shown | torch.from_numpy(regions.evidence < EVIDENT).to(device)
    area, moving, telling = (
        (found.masks & each).flatten(1).sum(dim=1) for each in (torch.ones_like(shown), shown, known)
    )
    evident = (moving >= _EVIDENT_SHARE * area) & (moving >= _MOVING_SHARE * telling)
    return found.take(evident | (found.reasons == PromptReason.GRID))


def _near_sky(sky: Tensor) -> Tensor:
    """Mark the pixels `(H, W)` around which an edge may be one against the sky."""
    return grown(sky[None])[0]


def _outlines_of_prompts(regions: Regions, proposal: Proposal, device: torch.device) -> Tensor:
    """Draw the regions against the sky that each prompt stands for, `(P, H, W)` bool; one empty row without prompts."""
    labels = torch.from_numpy(regions.labels).to(device)
    owners = np.where(proposal.on_sky, proposal.prompt_of_region, -1)
    prompt_of_label = torch.as_tensor(np.concatenate([[-1], owners]), device=device)
    numbers = torch.arange(max(len(proposal.prompts), 1), device=device)
    return prompt_of_label[labels.long()][None] == numbers[:, None, None]


def _unexplained(found: MaskRows, regions: Regions) -> MaskRows:
    """Turn the regions that no mask holds into masks: SAM was not asked there, or gave nothing."""
    device = found.masks.device
    covered = found.masks.any(dim=0).cpu().numpy()
    shown = np.where(regions.foreground, regions.labels, 0)
    extent = np.bincount(shown.ravel(), minlength=len(regions) + 1)
    explained = np.bincount(shown[covered], minlength=len(extent))
    missing = np.flatnonzero((explained < _EXPLAINED_SHARE * extent) & (extent > 0))
    missing = missing[missing > 0]
    masks = torch.from_numpy(shown).to(device)[None] == torch.as_tensor(missing, device=device)[:, None, None]
    column = torch.ones(len(missing), device=device)
    # They come from no encoding; the first stands in for those that look one up.
    none = column.long() * 0
    reasons = column * float(PromptReason.BRIGHT)
    return MaskRows(masks & ~found.masks.any(dim=0), _OUTLINE_SCORE * column, column, reasons, none, none - 1)
