"""SAM's networks from their official checkpoints, at any input size.

MobileSAM (Zhang et al., "Faster Segment Anything", 2023) is SAM's prompt encoder and mask decoder behind a TinyViT
image encoder, which is timm's `tiny_vit_5m_224` with stride 1 in the last downsampling and SAM's neck. ViT-B, L and H
are `segment-anything`'s own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import timm
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, ConvNorm
from torch import Tensor, nn
from torch.nn import functional

from sparsematch_ros.errors import SparsematchError

EMBED_DIM = 256
PATCH = 16
# The classifier's head and the attention's index buffers have no place in a mask generator.
_UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.")
_RENAMES = (
    (re.compile(r"^image_encoder\.neck\."), "neck."),
    (re.compile(r"^image_encoder\.patch_embed\.seq\.0\."), "tiny_vit.patch_embed.conv1."),
    (re.compile(r"^image_encoder\.patch_embed\.seq\.2\."), "tiny_vit.patch_embed.conv2."),
    (re.compile(r"^image_encoder\.layers\."), "tiny_vit.stages."),
    (re.compile(r"\.c\."), ".conv."),
)
_DOWNSAMPLE = re.compile(r"^tiny_vit\.stages\.(\d)\.downsample\.")


class TinyVitEncoder(nn.Module):
    """MobileSAM's image encoder: `(B, 3, S, S)` normalised pixels to `(B, 256, S/16, S/16)`."""

    def __init__(self, input_size: int) -> None:
        """Build the network with random weights for square inputs of `input_size` px."""
        super().__init__()
        self.img_size = input_size
        self.tiny_vit = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
        self.tiny_vit.head = nn.Identity()
        self.tiny_vit.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(320, EMBED_DIM, 1, bias=False),
            LayerNorm2d(EMBED_DIM),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )

    def prepare(self, device: torch.device) -> None:
        """Make the network faster without changing what it computes: call it last, with weights and device in place.

        Batch norms are folded into their convolutions, channels lie last in memory, and attention biases are kept
        ready with a batch dimension, without which torch's CPU kernel for attention is not taken.
        """
        _fold_batch_norms(self)
        self.to(device, memory_format=torch.channels_last)
        for module in self.modules():
            if isinstance(module, Attention):
                biases = module.attention_biases[:, module.attention_bias_idxs]
                module.attention_bias_cache[str(device)] = biases[None].contiguous()

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch of images."""
        features: Tensor = self.neck(self.tiny_vit.stages(self.tiny_vit.patch_embed(image)))
        return features.contiguous()


def _fold_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, child.fuse().requires_grad_(False))
        else:
            _fold_batch_norms(child)


def build_sam(name: str, state: Mapping[str, Tensor] | None, input_size: int) -> Sam:
    """Build one of SAM's models for square inputs of `input_size` px.

    Args:
        name: `mobile_sam`, `sam_vit_b`, `sam_vit_l` or `sam_vit_h`.
        state: the official checkpoint's tensors, or None for random weights.
        input_size: side of the input [px], a multiple of 64 (TinyViT's windows need no more, ViT's patches 16).

    Raises:
        SparsematchError: where the checkpoint is not of this model, or the size cannot be.

    """
    if input_size < 64 or input_size % 64:
        raise SparsematchError(f"model.input_size {input_size} px: must be a positive multiple of 64")
    sam = _mobile_sam(input_size) if name == "mobile_sam" else _resized(sam_model_registry[name[4:]](), input_size)
    if state is not None:
        _load(sam, name, state)
    return sam.eval().requires_grad_(False)


def _mobile_sam(input_size: int) -> Sam:
    grid = (input_size // PATCH, input_size // PATCH)
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8),
        transformer_dim=EMBED_DIM,
    )
    prompts = PromptEncoder(EMBED_DIM, grid, (input_size, input_size), mask_in_chans=16)
    return Sam(TinyVitEncoder(input_size), prompts, decoder)


def _resized(sam: Sam, input_size: int) -> Sam:
    """Make a ViT model accept another input size; the position table is resized when weights are loaded."""
    encoder: ImageEncoderViT = sam.image_encoder
    grid = input_size // PATCH
    encoder.img_size = input_size
    encoder.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, encoder.pos_embed.shape[-1]))
    sam.prompt_encoder.image_embedding_size = (grid, grid)
    sam.prompt_encoder.input_image_size = (input_size, input_size)
    return sam


def _load(sam: Sam, name: str, state: Mapping[str, Tensor]) -> None:
    tensors = _timm_names(state) if name == "mobile_sam" else dict(state)
    position = tensors.get("image_encoder.pos_embed")
    if position is not None and name != "mobile_sam":
        tensors["image_encoder.pos_embed"] = _resize_positions(position, sam.image_encoder.pos_embed.shape[1])
    try:
        sam.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise SparsematchError(f"the checkpoint is not one of {name}: {first[:200]}") from error


def _timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename MobileSAM's encoder tensors to timm's TinyViT."""
    renamed = {}
    for key, value in state.items():
        if _UNUSED.match(key) or key.endswith("attention_bias_idxs"):
            continue
        if key.startswith("image_encoder."):
            for pattern, replacement in _RENAMES:
                key = pattern.sub(replacement, key)
            # timm's downsampling opens the next stage, MobileSAM's closes the one before.
            key = _DOWNSAMPLE.sub(lambda found: f"tiny_vit.stages.{int(found[1]) + 1}.downsample.", key)
            key = f"image_encoder.{key}"
        renamed[key] = value
    return renamed


def _resize_positions(position: Tensor, grid: int) -> Tensor:
    """Resize a `(1, g, g, D)` table of absolute positions (bicubic, as DINOv2 and timm do)."""
    if position.shape[1] == grid:
        return position
    moved = functional.interpolate(position.permute(0, 3, 1, 2), size=(grid, grid), mode="bicubic", antialias=True)
    return moved.permute(0, 2, 3, 1)
