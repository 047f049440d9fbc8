"""One known object alone: whatever parts of it SAM gives, what is bright where it is expected is the whole of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sparsematch_ros.data import BoolArray, Expectations, FloatArray, IntArray
from sparsematch_ros.kinematics import box_intersection, touches_border
from sparsematch_ros.segmentation.assembly import MaskRows
from sparsematch_ros.sky import Sky

# A mask that holds less than this share of an object's bright pixels is a part of it.
_WHOLE_SHARE = 0.8
# A mask with this share of itself in them belongs to it.
_BELONGS_SHARE = 0.5
# A bright region with this share of its box where an object is expected, give or take some pixels, is part of it.
_INSIDE_SHARE = 0.7
_MARGIN_PX = 4.0


def lone_objects(expectations: Expectations) -> IntArray:
    """Give the rows `(L,)` of the known objects with a mask that are alone where they are expected."""
    boxes = expectations.boxes_xywh_px
    meets = box_intersection(boxes, boxes) > 0
    np.fill_diagonal(meets, False)
    known = expectations.resolved & expectations.believed
    return np.flatnonzero(known & ~(meets & expectations.resolved[None]).any(axis=1))


def regions_of(sky: Sky, wide_xywh_px: FloatArray) -> BoolArray:
    """Say which bright regions `(R, L)` lie in which of some boxes `(L, 4)`."""
    regions = sky.boxes_xyxy_px.copy()
    regions[:, 2:] += 1 - regions[:, :2]
    return np.asarray(box_intersection(regions, wide_xywh_px) > _INSIDE_SHARE * regions[:, 2:].prod(axis=1)[:, None])


def with_whole_objects(rows: MaskRows, sky: Sky, expectations: Expectations) -> MaskRows:
    """Join the masks of parts to one of the whole, where one object is alone.

    Of an object that the border cuts, what is too small for a region counts too: the less shows of it, the more each
    part of that matters.

    Args:
        rows: the frame's masks.
        sky: its survey.
        expectations: the objects that are known.

    """
    alone = lone_objects(expectations)
    if sky.silhouettes is None or sky.region_labels is None or len(rows.masks) == 0 or len(alone) == 0:
        return rows
    boxes = expectations.boxes_xywh_px[alone]
    wide = boxes + np.array([-1, -1, 2, 2]) * _MARGIN_PX
    cut = touches_border(boxes, sky.silhouettes.shape)
    lit = np.flatnonzero(sky.silhouettes)
    labels = sky.region_labels.ravel()[lit]
    # Row 0 stands for what is no region.
    shapes = np.pad(regions_of(sky, wide), ((1, 0), (0, 0)))[labels]
    shapes |= cut & (labels == 0)[:, None] & _within(lit, sky.silhouettes.shape[1], wide)
    device = rows.masks.device
    return _joined(rows, *(torch.from_numpy(part).to(device) for part in (lit, shapes, cut)))


def _within(pixels: IntArray, width: int, boxes_xywh_px: FloatArray) -> BoolArray:
    """Say which pixels `(P,)`, counted line by line in an image of a width, lie in which boxes `(L, 4)`: `(P, L)`."""
    places = np.stack([pixels % width, pixels // width], axis=1)[:, None]
    low = boxes_xywh_px[:, :2]
    return np.asarray(((places >= low) & (places < low + boxes_xywh_px[:, 2:])).all(axis=2))


def _joined(rows: MaskRows, lit: Tensor, shapes: Tensor, cut: Tensor) -> MaskRows:
    """Replace the masks that belong to an object by one, where none is the whole of it or it is cut.

    Args:
        rows: the masks.
        lit: `(P,)` bright pixels, counted line by line.
        shapes: `(P, L)` which of them are which object's.
        cut: `(L,)` which objects the border cuts.

    """
    masks = rows.masks.flatten(1)
    common = masks[:, lit].float() @ shapes.float()  # (M, L)
    belongs = common > _BELONGS_SHARE * masks.sum(dim=1, keepdim=True)
    largest, best = torch.where(belongs, common, 0.0).max(dim=0)
    broken = (largest > 0) & (cut | (largest < _WHOLE_SHARE * shapes.sum(dim=0)))
    if not bool(broken.any()):
        return rows
    union = (belongs[:, broken].T.float() @ masks.float()) > 0
    union[:, lit] |= shapes[:, broken].T
    whole = masks.clone()
    whole[best[broken]] = union
    kept = ~belongs[:, broken].any(dim=1)
    kept[best[broken]] = True
    return replace(rows, masks=whole.view_as(rows.masks)).take(kept)
