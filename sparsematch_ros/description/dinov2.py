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
    """Patch features of whole images.

    Attributes:
        model: timm's model, on its device.
        input_size: longest side of the input [px], rounded to patches.

    """

    def __init__(self, model: nn.Module, device: torch.device, input_size: int, half_precision: bool = False) -> None:
        """Move the model to its device; `half_precision` runs it in float16 on a GPU."""
        self.model = model.to(device)
        self.device = device
        self.input_size = input_size
        self._half = half_precision and device.type == "cuda"
        self._mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(_STD, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """Give the features `(D, h, w)` float32 of an `(H, W, 3)` uint8 RGB image, one a patch of the input."""
        scale = self.input_size / max(image.shape[:2])
        height, width = (max(1, round(side * scale / PATCH)) * PATCH for side in image.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, (width, height), interpolation=method)
        pixels = torch.from_numpy(resized).to(self.device).permute(2, 0, 1)[None].float()
        with torch.autocast("cuda", dtype=torch.float16, enabled=self._half):
            tokens = self.model.forward_features((pixels - self._mean) / self._std)
        patches = tokens[0, self.model.num_prefix_tokens :].float()
        return patches.T.reshape(-1, height // PATCH, width // PATCH)
