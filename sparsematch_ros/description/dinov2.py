"""DINOv2 (Oquab et al., 2023) patch features through timm, from the official checkpoints or timm's own."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from sparsematch_ros.description.pooling import Region
from sparsematch_ros.errors import SparsematchError

PATCH = 14
_SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


def timm_name(name: str) -> str:
    """Translate the official name of a model (`dinov2_vits14_reg`) to timm's.

    Raises:
        SparsematchError: where there is no such model.

    """
    size, registers = name.removeprefix("dinov2_vit")[:1], name.endswith("_reg")
    expected = f"dinov2_vit{size}14" + ("_reg" if registers else "")
    if size not in _SIZES or name != expected:
        raise SparsematchError(f"DINOv2 model '{name}' unknown: dinov2_vit[s,b,l,g]14, with or without _reg")
    return f"vit_{_SIZES[size]}_patch14{'_reg4' if registers else ''}_dinov2"


def build_dinov2(name: str, state: Mapping[str, Tensor] | None) -> nn.Module:
    """Build a DINOv2 model.

    Args:
        name: official name, such as `dinov2_vits14`.
        state: tensors of the official checkpoint or of timm's, or None for random weights.

    Raises:
        SparsematchError: where the checkpoint is not of this model.

    """
    model = timm.create_model(timm_name(name), pretrained=False, num_classes=0, dynamic_img_size=True)
    if state is not None:
        try:
            model.load_state_dict(checkpoint_filter_fn(dict(state), model))
        except (RuntimeError, LookupError) as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise SparsematchError(f"the checkpoint is not one of {name}: {first[:200]}") from error
    return model.eval().requires_grad_(False)


class Dinov2Features:
    """Patch features of images, or of regions of images.

    Attributes:
        model: timm's model, on its device.
        device: the device.
        input_size: longest side of the input [px], rounded to patches.
        block: row of the block whose output is used.

    """

    def __init__(
        self, model: nn.Module, device: torch.device, input_size: int, half_precision: bool = False, layer: int = 0
    ) -> None:
        """Move the model to its device.

        Args:
            model: from `build_dinov2`.
            device: where to run it.
            input_size: longest side of the input [px].
            half_precision: run it in float16 on a GPU.
            layer: block whose output is used, counted from 1; 0 for the last; negative ones count from it (-1).

        Raises:
            SparsematchError: where the model has no such block.

        """
        self.model = model.to(device)
        self.device = device
        self.input_size = input_size
        self.block = _block_row(layer, len(model.blocks))
        self._half = half_precision and device.type == "cuda"
        self._mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(_STD, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], region_xyxy_px: Region | None = None) -> Tensor:
        """Give one feature a patch, after the final norm as DINOv2's `get_intermediate_layers` has them.

        Blocks behind the chosen one do not run.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            region_xyxy_px: edges of the part of the image to look at, rounded to whole pixels and cut off at the
                image's own edges; None for the whole image.

        Returns:
            `(D, h, w)` float32, on the device.

        Raises:
            SparsematchError: where the region holds no pixel of the image.

        """
        pixels = self._input(image if region_xyxy_px is None else _cut(image, region_xyxy_px))
        with torch.autocast("cuda", dtype=torch.float16, enabled=self._half):
            features = self.model.forward_intermediates(
                (pixels - self._mean) / self._std,
                indices=[self.block],
                norm=True,
                stop_early=True,
                intermediates_only=True,
            )
        return features[0][0].float()

    def _input(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize to whole patches: `(1, 3, 14 h, 14 w)` float32 grey levels."""
        scale = self.input_size / max(image.shape[:2])
        height, width = (max(1, round(side * scale / PATCH)) * PATCH for side in image.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, (width, height), interpolation=method)
        return torch.from_numpy(resized).to(self.device).permute(2, 0, 1)[None].float()


def _block_row(layer: int, depth: int) -> int:
    """Turn a layer's number into the row of its block."""
    if abs(layer) > depth:
        raise SparsematchError(
            f"description.dinov2_layer {layer}: this DINOv2 has {depth} blocks, so 1 to {depth}, -1 to -{depth} "
            "from the last, or 0 for the last"
        )
    return layer - 1 if layer > 0 else (layer or -1) + depth


def _cut(image: NDArray[np.uint8], region_xyxy_px: Region) -> NDArray[np.uint8]:
    left, top, right, bottom = (max(round(edge), 0) for edge in region_xyxy_px)
    part = image[top:bottom, left:right]
    if part.size == 0:
        raise SparsematchError(
            f"region {region_xyxy_px} [px] holds nothing of an image of {image.shape[1]}x{image.shape[0]} px"
        )
    return part
