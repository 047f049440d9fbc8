"""Our mask generator beside `segment-anything`'s own, in one run: same weights, same frames, same settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.bench_device import Stopwatch
from sparsematch_ros.evaluation.bench_split import split_time
from sparsematch_ros.evaluation.mask_pairing import (
    SAME_IOU,
    MaskPairing,
    mean_iou,
    pair_masks,
    recall_of_reference_masks,
)
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.segmentation.generator import MaskGenerator
from sparsematch_ros.segmentation.sam import PromptedSam

Report = dict[str, Any]
# The stock generator keeps its own batch; all other settings of the same names are ours.
_STOCK_BATCH = 64


@dataclass(frozen=True, eq=False)
class _Generator:
    """What is timed, and how its result becomes masks `(M, H, W)`, which is not."""

    run: Callable[[Frame], Any]
    masks: Callable[[Frame, Any], Tensor]


@dataclass(frozen=True, eq=False)
class Comparison:
    """One frame by both generators.

    Attributes:
        frame: its index in the source.
        stock_s: seconds of the stock generator, one a run.
        ours_s: seconds of ours, one a run; its masks stay on the device.
        split_s: where ours spends its time, by part, in a run of its own.
        pairing: how well our masks repeat the stock ones.

    """

    frame: int
    stock_s: list[float]
    ours_s: list[float]
    split_s: dict[str, float]
    pairing: MaskPairing

    @property
    def speedup(self) -> float:
        """Seconds of the stock generator over ours, each the median of its runs."""
        return float(np.median(self.stock_s) / np.median(self.ours_s))


def measure_reference(
    sam: PromptedSam, config: SegmentationConfig, frames: Iterable[Frame], warmup: int = 1, repeat: int = 1
) -> Report:
    """Run both generators on the same frames, in turns, and compare time and masks; no frame is left out.

    Args:
        sam: the model that both ask.
        config: settings of both.
        frames: at least one.
        warmup: uncounted runs of both on the first frame.
        repeat: runs a frame; times are medians over them, masks are of the last.

    Raises:
        SparsematchError: without a frame.

    """
    stock, ours = _stock(sam, config), _ours(sam, config)
    comparisons: list[Comparison] = []
    for frame in frames:
        for _ in range(0 if comparisons else warmup):
            for generator in (stock, ours):
                generator.run(frame)
        comparisons.append(_compare(frame, (stock, ours), sam, config, len(comparisons), repeat))
    if not comparisons:
        raise SparsematchError("--reference has no frame to compare on")
    settings = {**stock_settings(config), "input_size": sam.input_size}
    return {**summarise(comparisons), "warmup_runs": warmup, "repeat": repeat, "settings": settings}


def stock_settings(config: SegmentationConfig) -> dict[str, Any]:
    """Give the settings that the stock generator knows by the same name, and its own batch."""
    known = set(inspect.signature(SamAutomaticMaskGenerator.__init__).parameters)
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in known}
    return {**shared, "points_per_batch": _STOCK_BATCH}


def summarise(comparisons: Sequence[Comparison]) -> Report:
    """Pool the frames: times are medians over frames, masks are counted over all of them."""
    stock_s = float(np.median([np.median(each.stock_s) for each in comparisons]))
    ours_s = float(np.median([np.median(each.ours_s) for each in comparisons]))
    pairings = [each.pairing for each in comparisons]
    reference_masks = sum(len(pairing.reference_iou) for pairing in pairings)
    masks = sum(pairing.masks for pairing in pairings)
    return {
        "frames": len(comparisons),
        "stock_s": rounded(stock_s),
        "ours_s": rounded(ours_s),
        "ours_split_s": _median_split([each.split_s for each in comparisons]),
        "speedup": rounded(stock_s / ours_s),
        "recall_of_reference_masks": _rounded(recall_of_reference_masks(pairings)),
        "recall_iou": SAME_IOU,
        "mean_iou": _rounded(mean_iou(pairings)),
        "reference_masks": reference_masks,
        "masks": masks,
        "count_difference": _rounded((masks - reference_masks) / reference_masks if reference_masks else None),
        "frames_without_masks": [each.frame for each in comparisons if not _has_masks(each.pairing)],
        "per_frame": [_row(each) for each in comparisons],
    }


def _compare(
    frame: Frame,
    generators: tuple[_Generator, _Generator],
    sam: PromptedSam,
    config: SegmentationConfig,
    turn: int,
    repeat: int,
) -> Comparison:
    """Run both, the one that goes first alternating from frame to frame and from run to run."""
    device = str(sam.device)
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for run in range(repeat):
        for which in (0, 1) if (turn + run) % 2 == 0 else (1, 0):
            watch = Stopwatch(device)
            results[which] = generators[which].run(frame)
            seconds[which].append(watch.stop())
    masks = [generator.masks(frame, result) for generator, result in zip(generators, results)]
    pairing = pair_masks(masks[0].to(sam.device), masks[1])
    return Comparison(frame.index, *seconds, split_time(sam, config, frame.image), pairing)


def _stock(sam: PromptedSam, config: SegmentationConfig) -> _Generator:
    generator = SamAutomaticMaskGenerator(sam.sam, **stock_settings(config))
    return _Generator(lambda frame: generator.generate(frame.image), _stock_masks)


def _stock_masks(frame: Frame, records: list[dict[str, Any]]) -> Tensor:
    masks = np.array([record["segmentation"] for record in records], dtype=bool)
    return torch.from_numpy(masks.reshape(-1, *frame.size))


def _ours(sam: PromptedSam, config: SegmentationConfig) -> _Generator:
    generator = MaskGenerator(sam, config)
    return _Generator(lambda frame: generator.generate(frame.image), lambda _, found: found.masks)


def _median_split(splits: Sequence[dict[str, float]]) -> dict[str, float]:
    parts = dict.fromkeys(part for split in splits for part in split)
    return {part: rounded(np.median([split.get(part, 0.0) for split in splits])) for part in parts}


def _has_masks(pairing: MaskPairing) -> bool:
    return bool(len(pairing.reference_iou) and pairing.masks)


def _row(comparison: Comparison) -> Report:
    pairing = comparison.pairing
    return {
        "frame": comparison.frame,
        "stock_s": rounded(np.median(comparison.stock_s)),
        "ours_s": rounded(np.median(comparison.ours_s)),
        "speedup": rounded(comparison.speedup),
        "recall_of_reference_masks": _rounded(recall_of_reference_masks([pairing])),
        "mean_iou": _rounded(mean_iou([pairing])),
        "reference_masks": len(pairing.reference_iou),
        "masks": pairing.masks,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)
