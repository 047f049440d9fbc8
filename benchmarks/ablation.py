#!/usr/bin/env python3
"""What each change brought to segmenting everything: the time with one of them undone, over the time with all.

    .venv/bin/python benchmarks/ablation.py FOLDER --frames 4 --out benchmarks/results/ablation.json

FOLDER holds images. All variants take turns on each frame, in one run; the ratios are medians over the frames.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsematch_ros.process import wait_passively


def main() -> int:
    """Measure all variants and print the ratios."""
    wait_passively()
    options = _options()
    seconds = _measure(_frames(options.folder, options.frames), options.points)
    base = np.array(seconds["all changes"])
    ratios = {name: float(np.median(np.array(each) / base)) for name, each in seconds.items()}
    from sparsematch_ros.evaluation.bench_device import device_name

    report = {"hardware": device_name("cpu"), "frames": len(base), "points_per_side": options.points, "ratio": ratios}
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--frames", type=int, default=4, help="frames, spread over the folder (4)")
    parser.add_argument("--points", type=int, default=16, help="points along a side of the grid (16)")
    parser.add_argument("--out", type=Path, help="file to write the ratios to")
    return parser.parse_args()


def _frames(folder: Path, count: int) -> list[Any]:
    from sparsematch_ros.media.run import iterate_frames
    from sparsematch_ros.media.sources import open_source

    frames = [frame.image for frame in iterate_frames(open_source(folder, None, None, np.array([0.0, 0.0, 0.0, 1.0])))]
    return [frames[row] for row in np.linspace(0, len(frames) - 1, count).astype(int)]


def _measure(images: list[Any], points: int) -> dict[str, list[float]]:
    variants = _variants(points)
    for run in variants.values():
        run(images[0])
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for image in images:
        for name, run in variants.items():
            start = time.perf_counter()
            run(image)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _variants(points: int) -> dict[str, Callable[[Any], object]]:
    """Give the generator with all changes, with each undone, and the stock one."""
    from segment_anything import SamAutomaticMaskGenerator

    from sparsematch_ros.config import Config, ModelConfig
    from sparsematch_ros.segmentation import generator

    config = replace(Config().segmentation, points_per_side=points)
    sam = _load(ModelConfig())
    plain = _load(ModelConfig(), prepared=False)
    loose = generator.MaskGenerator(sam, config)

    def enlarge_all(image: Any) -> object:
        kept, generator._LEAST_CELLS = generator._LEAST_CELLS, 10**9
        try:
            return loose.generate(image)
        finally:
            generator._LEAST_CELLS = kept

    return {
        "all changes": generator.MaskGenerator(sam, config).generate,
        "64 prompts a call, not 8": generator.MaskGenerator(sam, replace(config, points_per_batch=64)).generate,
        "stock decoder": generator.MaskGenerator(_stock_decoding(sam), config).generate,
        "padding drawn too": generator.MaskGenerator(_drawing_padding(sam), config).generate,
        "every mask drawn": generator.MaskGenerator(_drawing_all(sam), config).generate,
        "every believed mask enlarged": enlarge_all,
        "encoder as it comes": generator.MaskGenerator(plain, config).generate,
        "stock generator": SamAutomaticMaskGenerator(plain.sam, points_per_side=points).generate,
    }


def _load(model: Any, prepared: bool = True) -> Any:
    """Load MobileSAM; without preparation its batch norms, memory layout and attention are as they come."""
    import torch

    from sparsematch_ros.segmentation.models import TinyVitEncoder, build_sam
    from sparsematch_ros.segmentation.sam import PromptedSam
    from sparsematch_ros.weights.registry import checkpoint_named
    from sparsematch_ros.weights.store import load_state_dict, locate

    state = load_state_dict(locate(model.sam, "", ""), checkpoint_named(model.sam))
    prepare = TinyVitEncoder.prepare
    if not prepared:
        TinyVitEncoder.prepare = lambda self, device: None  # type: ignore[method-assign]
    try:
        return PromptedSam(build_sam(model.sam, state, 512), torch.device("cpu"))
    finally:
        TinyVitEncoder.prepare = prepare  # type: ignore[method-assign]


def _changed(sam: Any, **methods: Any) -> Any:
    """Give the same model with some of its methods replaced."""
    twin = object.__new__(type(sam))
    twin.__dict__.update(sam.__dict__, **methods)
    return twin


def _drawing_padding(sam: Any) -> Any:
    def draw(embedding: Any, answers: Any, rows: Any) -> Any:
        return sam._decoder.draw(answers, rows, answers.grid).float()

    return _changed(sam, draw=draw)


def _drawing_all(sam: Any) -> Any:
    def draw(embedding: Any, answers: Any, rows: Any) -> Any:
        import torch

        return sam.draw(embedding, answers, torch.arange(len(answers.scores)))[rows]

    return _changed(sam, draw=draw)


def _stock_decoding(sam: Any) -> Any:
    """Ask through segment-anything's own decoder, which draws at once."""
    from types import SimpleNamespace

    import torch

    @torch.inference_mode()
    def ask(embedding: Any, points_px: Any, boxes_xyxy_px: Any = None) -> Any:
        places = sam._input_coordinates(embedding, np.asarray(points_px).reshape(-1, 1, 2))
        sparse, dense = sam.sam.prompt_encoder(
            points=(places, torch.ones(places.shape[:2], dtype=torch.int64)), boxes=None, masks=None
        )
        positions = sam.sam.prompt_encoder.get_dense_pe()
        logits, scores = sam.sam.mask_decoder.predict_masks(embedding.features, positions, sparse, dense)
        return SimpleNamespace(scores=scores, logits=logits)

    return _changed(sam, ask=ask, draw=lambda embedding, answers, rows: answers.logits[rows])


if __name__ == "__main__":
    raise SystemExit(main())
