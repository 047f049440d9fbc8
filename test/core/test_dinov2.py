"""DINOv2 with random weights in the layout of the official checkpoints. No file of weights is needed."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from sparsematch_ros.description.dinov2 import Dinov2Features, build_dinov2, timm_name
from sparsematch_ros.errors import SparsematchError

CPU = torch.device("cpu")
POSITIONS = 37 * 37  # The official models were trained to 518 px: 37 patches of 14 px a side.
# Width and depth of each size.
SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24), "g": (1536, 40)}


def official_layout(name: str) -> dict[str, tuple[int, ...]]:
    """Give the tensors' names and shapes as `dinov2/models/vision_transformer.py` and `layers/` of DINOv2 make them."""
    width, depth = SIZES[name[len("dinov2_vit")]]
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + POSITIONS, width), "mask_token": (1, width)}
    if name.endswith("_reg"):
        shapes["register_tokens"] = (1, 4, width)
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    block = {"norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width), "norm2": (width,)}
    if width == 1536:
        block |= {"mlp.w12": (8192, width), "mlp.w3": (width, 4096)}  # SwiGLU
    else:
        block |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for row in range(depth):
        shapes |= {f"blocks.{row}.{layer}.weight": shape for layer, shape in block.items()}
        shapes |= {f"blocks.{row}.{layer}.bias": shape[:1] for layer, shape in block.items()}
        shapes |= {f"blocks.{row}.ls{branch}.gamma": (width,) for branch in (1, 2)}
    return shapes | {"norm.weight": (width,), "norm.bias": (width,)}


def random_model(name: str) -> nn.Module:
    """Make timm's model with weights that are all alive; its own first ones are near zero in places."""
    with torch.device("meta"):
        model = timm.create_model(timm_name(name), pretrained=False, num_classes=0, dynamic_img_size=True)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    chance = torch.Generator().manual_seed(2)
    for key, parameter in model.named_parameters():
        parameter.normal_(float("norm" in key), 0.05, generator=chance)
    return model


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return random_model("dinov2_vits14_reg")


def official_state(model: nn.Module) -> dict[str, Tensor]:
    """Write timm's tensors as the official file has them; the class token's position is split off it there."""
    state = dict(model.state_dict())
    width = state["cls_token"].shape[-1]
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
        position = torch.randn(1, 1, width)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.randn(1, width)
    return state


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_official_checkpoint_gives_the_model_it_came_from(name: str, tmp_path: Path) -> None:
    source = random_model(name)
    state = official_state(source)
    assert {key: tuple(value.shape) for key, value in state.items()} == official_layout(name)
    torch.save(state, tmp_path / "official.pth")
    model = build_dinov2(name, torch.load(tmp_path / "official.pth", weights_only=True))
    pixels = torch.randn(1, 3, 98, 70)
    with torch.inference_mode():
        expected = source.forward_features(pixels)
        features = model.forward_features(pixels)
    assert features.shape == (1, 1 + 4 * name.endswith("_reg") + 7 * 5, 384)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("registers", ["", "_reg"])
def test_official_layout_of_every_size_is_taken(size: str, registers: str) -> None:
    """On the meta device, where tensors have shapes alone: each name and shape finds its place, and none is left."""
    name = f"dinov2_vit{size}14{registers}"
    with torch.device("meta"):
        model = build_dinov2(name, {key: torch.empty(shape) for key, shape in official_layout(name).items()})
    assert len(model.blocks) == SIZES[size][1]
    assert model.num_prefix_tokens == (5 if registers else 1)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("dinov2_vitb14", "dinov2_vits14"),
        ("dinov2_vits14_reg", "dinov2_vits14"),
        ("dinov2_vits14", "dinov2_vits14_reg"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(given: str, asked: str) -> None:
    state = {key: torch.zeros(shape) for key, shape in official_layout(given).items()}
    with torch.device("meta"), pytest.raises(SparsematchError, match=f"not one of {asked}: "):
        build_dinov2(asked, state)


def test_what_is_no_checkpoint_of_dinov2_is_refused() -> None:
    for state in ({}, {"image_encoder.neck.0.weight": torch.zeros(3)}, {"pos_embed": torch.zeros(3)}):
        with torch.device("meta"), pytest.raises(SparsematchError, match="not one of dinov2_vits14: "):
            build_dinov2("dinov2_vits14", state)


@pytest.mark.parametrize("name", ["dinov2_vitx14", "dinov2_vits16", "dinov2_vits14_reg4", "vits14", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(SparsematchError, match=rf"DINOv2 model '{name}' unknown: dinov2_vit\[s,b,l,g\]14"):
        timm_name(name)


@pytest.mark.parametrize(
    ("size", "input_size", "patches"),
    # 100 x 75 to 56 x 42 px: 4 x 3 patches. 90 x 200 to 50.4 x 112 px: 3.6 rows, so 4. A strip keeps one row.
    [((100, 75), 56, (4, 3)), ((90, 200), 112, (4, 8)), ((3, 300), 112, (1, 8)), ((20, 20), 100, (7, 7))],
)
def test_patches_cover_images_of_any_size(
    small: nn.Module, size: tuple[int, int], input_size: int, patches: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    features = Dinov2Features(small, CPU, input_size)(image)
    assert features.shape == (384, *patches)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


def test_features_are_those_of_the_normalised_pixels_in_their_place(small: nn.Module) -> None:
    """ImageNet's mean and deviation, as the official transform has them; rows of patches, not columns."""
    image = np.random.default_rng(1).integers(0, 256, (42, 70, 3), dtype=np.uint8)  # Needs no resizing.
    features = Dinov2Features(small, CPU, 70)(image)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy((image / 255 - mean) / std).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        tokens = small.forward_features(pixels)[0, 5:]
    for row in range(3):
        for column in range(5):
            torch.testing.assert_close(features[:, row, column], tokens[row * 5 + column], atol=1e-4, rtol=1e-4)
