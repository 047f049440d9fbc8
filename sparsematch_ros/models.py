"""The networks that the settings name, from verified checkpoints, on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsematch_ros.config import Config, ModelConfig
from sparsematch_ros.description.dinov2 import Dinov2Features, build_dinov2
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.weights.registry import checkpoint_named
from sparsematch_ros.weights.store import load_state_dict, locate

_CPU_INPUT_PX = 512
_GPU_INPUT_PX = 1024


@dataclass(frozen=True)
class Models:
    """Loaded networks: SAM, and DINOv2 where descriptors come from it."""

    sam: PromptedSam
    dinov2: Dinov2Features | None


def load_models(config: Config) -> Models:
    """Load what the settings name.

    Raises:
        SparsematchError: where a checkpoint is missing, altered or of another model, or the device is not there.

    """
    dinov2 = load_dinov2(config) if config.description.source == "dinov2" else None
    return Models(load_sam(config), dinov2)


def load_sam(config: Config) -> PromptedSam:
    """Load the SAM that the settings name; raises as `load_models` does."""
    model = config.model
    device = _prepare(model)
    size = encoder_input_px(model, device)
    path = locate(model.sam, model.weights_folder, model.sam_checkpoint)
    sam = build_sam(model.sam, load_state_dict(path, checkpoint_named(model.sam)), size)
    return PromptedSam(sam, device, model.half_precision)


def load_dinov2(config: Config) -> Dinov2Features:
    """Load the DINOv2 that the settings name; raises as `load_models` does."""
    description, model = config.description, config.model
    device = _prepare(model)
    path = locate(description.dinov2, model.weights_folder, description.dinov2_checkpoint)
    network = build_dinov2(description.dinov2, load_state_dict(path, checkpoint_named(description.dinov2)))
    size, layer = description.dinov2_input_size, description.dinov2_layer
    return Dinov2Features(network, device, size, model.half_precision, layer)


def _prepare(model: ModelConfig) -> torch.device:
    if model.threads:
        torch.set_num_threads(model.threads)
    return choose_device(model.device)


def encoder_input_px(model: ModelConfig, device: torch.device) -> int:
    """Give the side of SAM's square input [px]: the settings' own, or what suits the device."""
    return model.input_size or (_CPU_INPUT_PX if device.type == "cpu" else _GPU_INPUT_PX)


def choose_device(name: str) -> torch.device:
    """Turn a device's name into a device; `auto` is a GPU where there is one.

    Raises:
        SparsematchError: where torch does not know the name or the device is not there.

    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(".")[0]
        raise SparsematchError(
            f"model.device '{name}' is not available ({reason}); auto and cpu always work"
        ) from error
    return device
