"""The mask generator against segment_anything's own, with a tiny SAM of random weights and loose thresholds."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.evaluation.mask_pairing import pair_masks
from sparsematch_ros.segmentation.generator import GeneratedMasks, MaskGenerator
from sparsematch_ros.segmentation.sam import PromptedSam

# What random weights are sure of says nothing: these keep most masks. NMS at 1.0 drops none.
ALL = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0, "crop_nms_thresh": 1.0}
SHAPES = {"points_per_side": 4, "crop_overlap_ratio": 512 / 1500, "crop_n_points_downscale_factor": 2}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stock_and_ours(
    blob_sam: PromptedSam, image: np.ndarray, settings: dict[str, float]
) -> tuple[list[dict[str, object]], GeneratedMasks]:
    stock = SamAutomaticMaskGenerator(blob_sam.sam, points_per_batch=7, **SHAPES, **settings)
    ours = MaskGenerator(blob_sam, SegmentationConfig(points_per_batch=5, **SHAPES, **settings))
    return stock.generate(image), ours.generate(image)


def masks_of(records: list[dict[str, object]], size: tuple[int, ...]) -> torch.Tensor:
    masks = [torch.from_numpy(record["segmentation"]) for record in records]
    return torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.bool)


CASES = {
    "no thresholds": {},
    "predicted IoU": {"pred_iou_thresh": 0.1},
    "stability": {"stability_score_thresh": 0.4, "stability_score_offset": 0.5},
    "duplicates": {"box_nms_thresh": 0.4},
    "crops": {"crop_n_layers": 1},
    "duplicates between crops": {"crop_n_layers": 1, "crop_nms_thresh": 0.4},
    "small regions": {"min_mask_region_area": 400},
    "all": {
        "pred_iou_thresh": 0.1, "crop_n_layers": 1, "min_mask_region_area": 400, "box_nms_thresh": 0.8,
        "crop_nms_thresh": 0.6, "stability_score_thresh": 0.2, "stability_score_offset": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(90, 120), (150, 71)])
def test_the_stock_generators_masks(blob_sam: PromptedSam, size: tuple[int, int], case: str) -> None:
    """Every mask, with its own score, stability, box, point and crop; each case leaves out some of the 48 and more."""
    stock, ours = stock_and_ours(blob_sam, picture(*size), {**ALL, **CASES[case]})
    assert len(ours) == len(stock) > 5
    masks = masks_of(stock, size)
    drawn = masks.flatten(1).any(dim=1).numpy()  # Two masks of nothing have no IoU.
    assert drawn.sum() > 5
    assert pair_masks(masks, ours.masks).reference_iou[drawn].min() > 0.999
    found = np.array([record_of(ours, row) for row in range(len(ours))])
    expected = np.array([flat(record) for record in stock])
    # Both give them in the same order where the scores decide it.
    np.testing.assert_allclose(
        found[np.lexsort(found.T.round(3))], expected[np.lexsort(expected.T.round(3))], atol=2e-3
    )


def record_of(found: GeneratedMasks, row: int) -> list[float]:
    """Give area, predicted IoU, stability, box, point and crop of a mask in one list."""
    left, top, right, bottom = found.boxes_xyxy_px[row].tolist()
    x, y, to_x, to_y = found.crop_boxes_xyxy_px[row].tolist()
    return [
        int(found.masks[row].sum()), float(found.scores[row]), float(found.stability[row]), left, top, right - left,
        bottom - top, *found.points_px[row].tolist(), x, y, to_x - x, to_y - y,
    ]  # fmt: skip


def flat(record: dict[str, object]) -> list[float]:
    """Give the same of the stock generator's record."""
    return [
        record["area"], record["predicted_iou"], record["stability_score"], *record["bbox"],
        *record["point_coords"][0], *record["crop_box"],
    ]  # fmt: skip


def test_the_cases_leave_something_out(blob_sam: PromptedSam) -> None:
    """Each setting above does something to these masks, else its comparison would say nothing."""
    image, counts = picture(90, 120), {}
    for case, settings in CASES.items():
        config = SegmentationConfig(**SHAPES, **{**ALL, **settings})
        counts[case] = len(MaskGenerator(blob_sam, config).generate(image))
    assert counts["no thresholds"] == 48
    assert all(5 < counts[case] < 48 for case in ("predicted IoU", "stability", "duplicates"))
    assert counts["crops"] > 48
    assert 5 < counts["duplicates between crops"] < counts["crops"]
    plain, cleaned = (
        MaskGenerator(blob_sam, SegmentationConfig(**SHAPES, **{**ALL, **CASES[case]})).generate(image)
        for case in ("no thresholds", "small regions")
    )
    assert (plain.masks.sum() != cleaned.masks.sum()).item()


@pytest.mark.parametrize("change", [{"pred_iou_thresh": 1.0}, {"min_mask_region_area": 10, "pred_iou_thresh": 1.0}])
@pytest.mark.parametrize("layers", [0, 1])
def test_no_mask_survives(blob_sam: PromptedSam, change: dict[str, float], layers: int) -> None:
    config = SegmentationConfig(**SHAPES, **{**change, "stability_score_thresh": 1.0, "crop_n_layers": layers})
    found = MaskGenerator(blob_sam, config).generate(np.zeros((40, 50, 3), dtype=np.uint8))
    assert (len(found), found.masks.shape) == (0, (0, 40, 50))
    assert (found.boxes_xyxy_px.shape, found.points_px.shape) == ((0, 4), (0, 2))
    assert len(found.prompts_px) == 16 + 4 * 4 * layers


def test_the_smallest_image(blob_sam: PromptedSam) -> None:
    stock, ours = stock_and_ours(blob_sam, picture(16, 16), {**ALL, "pred_iou_thresh": 0.1})
    assert len(ours) == len(stock) > 0
    assert pair_masks(masks_of(stock, (16, 16)), ours.masks).reference_iou.min() > 0.99


def test_places_of_ones_own(blob_sam: PromptedSam) -> None:
    """Points instead of the grid: nothing else is asked, and each mask says for which point it is."""
    places = np.array([[30.5, 20.0], [100.0, 80.0]])
    generator = MaskGenerator(blob_sam, SegmentationConfig(**SHAPES, **ALL))
    found = generator.generate(picture(90, 120), places_px=places)
    assert np.array_equal(found.prompts_px, places)
    assert sorted(map(tuple, found.points_px.tolist())) == sorted(3 * [(30.5, 20.0), (100.0, 80.0)])
    for place in places.tolist():
        only = generator.generate(picture(90, 120), places_px=np.array([place]))
        rows = (found.points_px == torch.tensor(place)).all(dim=1)
        assert pair_masks(only.masks, found.masks[rows]).reference_iou.min() > 0.999
    none = generator.generate(picture(90, 120), places_px=np.zeros((0, 2)))
    assert (len(none), none.masks.shape, none.prompts_px.shape) == (0, (0, 90, 120), (0, 2))


@pytest.mark.parametrize(("survivors", "kept"), [(1, 1), (7, 7), (48, 48), (1000, 48)])
def test_a_number_of_survivors(blob_sam: PromptedSam, survivors: int, kept: int) -> None:
    """The surest of all 48 masks, whatever the thresholds say."""
    everything = MaskGenerator(blob_sam, SegmentationConfig(**SHAPES, **ALL)).generate(picture(90, 120))
    found = MaskGenerator(blob_sam, SegmentationConfig(**SHAPES)).generate(picture(90, 120), survivors=survivors)
    assert (len(found), found.masks.shape) == (kept, (kept, 90, 120))
    best = everything.scores.sort(descending=True).values[:kept]
    torch.testing.assert_close(found.scores.sort(descending=True).values, best, atol=1e-4, rtol=0)


class PeakMemory:
    """Samples the resident memory of this process while it is entered; `grown_mb` is what its peak added."""

    def __enter__(self) -> PeakMemory:
        self._over, self._peak, self._before = threading.Event(), 0, self._resident()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.grown_mb = (self._peak - self._before) / 1e6

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_large_image_takes_little_more_than_its_masks(blob_sam: PromptedSam) -> None:
    """At 4096 x 3072 px a mask takes 12.6 MB; the twelve drawn would take 604 MB at once as floats."""
    config = SegmentationConfig(**{**SHAPES, **ALL, "points_per_side": 2, "pred_iou_thresh": 0.1})
    generator, image = MaskGenerator(blob_sam, config), picture(96, 128)
    large = np.repeat(np.repeat(image, 32, axis=0), 32, axis=1)
    expected = generator.generate(image)
    with PeakMemory() as memory:
        found = generator.generate(large)
    assert found.masks.shape == (len(expected), 3072, 4096)
    assert 5 < len(found) <= 12
    assert memory.grown_mb < 12.6 * len(found) + 300
    assert pair_masks(expected.masks, found.masks[:, 16::32, 16::32]).reference_iou.min() > 0.85
