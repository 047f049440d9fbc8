"""The two images of `sparsematch match` and their masks, checked before a network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import BoolArray, FloatArray
from sparsematch_ros.description.region import region_of_box
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.depth import SampleDepth
from sparsematch_ros.media.folder_source import read_image

# A smaller image has hardly a patch of its own.
LEAST_SIDE_PX = 32


@dataclass(frozen=True, eq=False)
class View:
    """One image, or a region of it, with its mask.

    Attributes:
        name: the image's file.
        image: `(H, W, 3)` uint8 RGB.
        mask_name: the mask's file, or None.
        mask: `(H, W)` bool with at least one True, or None: the whole image.
        origin_px: `(2,)` left and top edge of the region in the file's image [px].

    """

    name: str
    image: NDArray[np.uint8]
    mask_name: str | None
    mask: BoolArray | None
    origin_px: FloatArray = field(default_factory=lambda: np.zeros(2))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self.image.shape[0], self.image.shape[1]

    def around_mask(self, input_size_px: int) -> View:
        """Cut out the region around the mask that a network with this input should see; all where there is no mask."""
        if self.mask is None:
            return self
        rows, columns = np.nonzero(self.mask)
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        region = region_of_box(low.astype(np.float64), high.astype(np.float64), self.size, input_size_px)
        left, top, right, bottom = (int(edge) for edge in region)
        image = np.ascontiguousarray(self.image[top:bottom, left:right])
        origin_px = self.origin_px + np.array([left, top])
        return replace(self, image=image, mask=self.mask[top:bottom, left:right], origin_px=origin_px)


def read_views(images: tuple[Path, Path], masks: tuple[Path | None, Path | None]) -> tuple[View, View]:
    """Read both images and their masks; samples of more than 8 bit are scaled by one factor for both images.

    Raises:
        SparsematchError: where a file cannot be read or is too small, or a mask is empty or of another size.

    """
    first, second = _equal_depth(_read(images[0]), _read(images[1]))
    return _view(images[0], first, masks[0]), _view(images[1], second, masks[1])


def _read(file: Path) -> NDArray[Any]:
    try:
        image = read_image(file)
    except BadFrameError as error:
        raise SparsematchError(f"image {file}: {error}") from error
    height, width = image.shape[:2]
    if min(height, width) < LEAST_SIDE_PX:
        raise SparsematchError(f"image {file} has {width}x{height} px: at least {LEAST_SIDE_PX} px a side are needed")
    if image.dtype not in (np.uint8, np.uint16):
        raise SparsematchError(f"image {file} holds {image.dtype} samples, expected 8 or 16 bit")
    return image


def _equal_depth(*images: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Scale 16 bit images by the depth of both together, as folders of frames are."""
    depth = SampleDepth()
    for image in images:
        depth.add(image)
    return [depth.pixels(image)["image"] for image in images]


def _view(file: Path, image: NDArray[np.uint8], mask: Path | None) -> View:
    if mask is None:
        return View(str(file), image, None, None)
    return View(str(file), image, str(mask), _read_mask(mask, (image.shape[0], image.shape[1])))


def _read_mask(file: Path, image_size: tuple[int, int]) -> BoolArray:
    """Read a mask of any depth, colours or not: what is over 0 is inside."""
    labels = cv2.imdecode(np.frombuffer(file.read_bytes() or b"\0", dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise SparsematchError(f"mask {file} is not a readable image; give a PNG, 0 outside and over 0 inside")
    mask: BoolArray = (labels if labels.ndim == 2 else labels[..., :3].max(axis=2)) > 0
    if mask.shape != image_size:
        raise SparsematchError(
            f"mask {file} has {mask.shape[1]}x{mask.shape[0]} px but its image {image_size[1]}x{image_size[0]}"
        )
    if not mask.any():
        raise SparsematchError(f"mask {file} is empty: no pixel is over 0")
    return mask
