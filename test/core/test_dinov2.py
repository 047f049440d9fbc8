"""DINOv2 with random weights in the layout of the official checkpoints. No file of weights is needed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from sparsematch_ros.config import Config, DescriptionConfig, SegmentationConfig
from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.description.dinov2 import Dinov2Features, build_dinov2, timm_name
from sparsematch_ros.description.pooling import pool_features
from sparsematch_ros.description.publishing import reduce_vectors
from sparsematch_ros.description.region import region_around
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segments import Segments

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


@pytest.mark.parametrize(("layer", "blocks"), [(1, 1), (3, 3), (12, 12), (0, 12), (-1, 12), (-2, 11), (-12, 1)])
def test_a_layer_is_the_output_of_that_many_blocks_after_the_final_norm(
    small: nn.Module, layer: int, blocks: int
) -> None:
    """By hand as in DINOv2's `get_intermediate_layers`: embed, so many blocks, the last norm, patches alone."""
    image = np.random.default_rng(3).integers(0, 256, (42, 70, 3), dtype=np.uint8)
    features = Dinov2Features(small, CPU, 70, layer=layer)(image)
    pixels = torch.from_numpy((image - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375]))
    with torch.inference_mode():
        tokens = small._pos_embed(small.patch_embed(pixels.permute(2, 0, 1)[None].float()))
        for block in small.blocks[:blocks]:
            tokens = block(tokens)
        by_hand = small.norm(tokens)[0, 5:].T.reshape(384, 3, 5)
    torch.testing.assert_close(features, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [13, -13, 40])
def test_a_layer_that_the_model_does_not_have_is_refused(small: nn.Module, layer: int) -> None:
    with pytest.raises(SparsematchError, match=rf"dinov2_layer {layer}: this DINOv2 has 12 blocks"):
        Dinov2Features(small, CPU, 70, layer=layer)


def test_a_region_has_the_features_of_that_part_alone(small: nn.Module) -> None:
    image = np.random.default_rng(4).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    network = Dinov2Features(small, CPU, 56)
    part = network(np.ascontiguousarray(image[20:62, 50:106]))
    torch.testing.assert_close(network(image, (50, 20, 106, 62)), part, atol=1e-5, rtol=1e-5)
    corner = network(np.ascontiguousarray(image[62:, 64:]))  # A region is cut off at the image's edges.
    torch.testing.assert_close(network(image, (64, 62, 500, 500)), corner, atol=1e-5, rtol=1e-5)
    with pytest.raises(SparsematchError, match="holds nothing of an image of 120x90 px"):
        network(image, (130, 0, 150, 20))


def test_a_mark_in_a_region_lands_in_its_patch(small: nn.Module, squares: Callable[..., Segments]) -> None:
    """Two pictures that differ in one square: the features that change most lie where geometry says the square is."""
    segments = squares([[60, 50], [200, 106]], side_px=21, size=(240, 320))
    region = region_around(segments, 224)
    # Boxes reach from (50, 40) to (211, 117): 161 x 77 px, and a margin of a fifth of 161 px on each side.
    assert region == (18, 8, 244, 150)
    plain = np.full((240, 320, 3), 60, dtype=np.uint8)
    marked = plain.copy()
    marked[96:117, 190:211] = 250
    network = Dinov2Features(small, CPU, 224, layer=1)
    change = (network(marked, region) - network(plain, region)).norm(dim=0)
    changed = change > 0.5 * change.max()
    rows, columns = changed.nonzero().T.double().numpy()
    height, width = changed.shape
    assert (height, width) == (10, 16)
    found_px = np.array([18, 8]) + np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * [226 / 16, 142 / 10]
    np.testing.assert_allclose(found_px, [200.5, 106.5], atol=14.2 / 2)  # Half a patch.
    # The mark lies under the second mask and not under the first.
    pooled = pool_features(changed[None].float(), segments, region)
    assert pooled.vectors[:, 0].tolist() == [0.0, 1.0]


def test_region_around_segments(squares: Callable[..., Segments], points: Callable[..., Segments]) -> None:
    assert region_around(points([[30, 40]]), 448) is None
    # One square of 11 px: a quarter of 448 px is 112 px, around its centre (80.5, 60.5).
    assert region_around(squares([[80, 60]], size=(480, 640)), 448) == (24, 4, 136, 116)
    # In a corner the region is shifted, not cut; it is never larger than the image.
    assert region_around(squares([[634, 474]], size=(480, 640)), 448) == (528, 368, 640, 480)
    assert region_around(squares([[20, 20], [630, 470]], size=(480, 640)), 448) == (0, 0, 640, 480)
    assert region_around(squares([[40, 40]], size=(60, 90)), 448) == (0, 0, 90, 60)


@pytest.fixture(scope="module")
def sam() -> PromptedSam:
    torch.manual_seed(0)
    return PromptedSam(build_sam("mobile_sam", None, 64), CPU)


def run(sam: PromptedSam, network: Dinov2Features, description: DescriptionConfig) -> list[FrameResult]:
    """Process two frames of a bright textured square on noise; random weights' masks all count."""
    chance = np.random.default_rng(6)
    square = chance.integers(120, 256, (40, 40, 3), dtype=np.uint8)
    anything = SegmentationConfig(pred_iou_thresh=0.0, targeted_iou_thresh=0.0, stability_score_thresh=0.0)
    pipeline = Pipeline(Config(segmentation=anything, description=description), Models(sam, network))
    results = []
    for number in range(2):
        shown = chance.integers(0, 40, (120, 160, 3), dtype=np.uint8)
        shown[40:80, 50 + 3 * number : 90 + 3 * number] = square
        results.append(pipeline.process(Frame(number, number * 10**8, shown)))
    assert all(result.segments.mask_count for result in results) and len(results[1].matches)
    return results


def test_the_line_publishes_reduced_descriptors_and_matches_with_whole_ones(small: nn.Module, sam: PromptedSam) -> None:
    network = Dinov2Features(small, CPU, 56)
    whole, reduced = (
        run(sam, network, DescriptionConfig(source="dinov2", publish_dimensions=size)) for size in (0, 64)
    )
    for before, after in zip(whole, reduced, strict=True):
        np.testing.assert_array_equal(before.matches.cosine, after.matches.cosine)
        assert len(before.objects) == len(after.objects) > 0
        for one, other in zip(before.objects, after.objects, strict=True):
            assert one.descriptor is not None and other.descriptor is not None
            assert one.descriptor.shape == (384,) and other.descriptor.shape == (64,)
            torch.testing.assert_close(other.descriptor, reduce_vectors(one.descriptor[None], 64)[0])


def test_the_line_looks_at_the_region_of_its_segments(small: nn.Module, sam: PromptedSam) -> None:
    """Descriptors are those of the region, pooled there, by the same functions that are tested above."""
    network = Dinov2Features(small, CPU, 112)
    first = run(sam, network, DescriptionConfig(source="dinov2", dinov2_input_size=112, dinov2_region="segments"))[0]
    region = region_around(first.segments, 112)
    assert region is not None
    expected = pool_features(network(first.frame.image, region), first.segments, region).vectors
    found = [item.descriptor for item in first.objects if item.mask is not None]
    assert found
    for descriptor in found:
        assert (expected @ descriptor).max() == pytest.approx(1.0, abs=1e-5)
