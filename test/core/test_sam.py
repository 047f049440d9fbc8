"""SAM's networks with random weights: shapes, coordinates, and which checkpoints are taken. No file is needed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.models import choose_device
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import Embedding, PromptedSam

CPU = torch.device("cpu")
SIDE = 128  # Input of the tiny model [px]: 8 x 8 features, logits of 32 x 32.


@pytest.fixture(scope="module")
def tiny() -> PromptedSam:
    torch.manual_seed(0)
    return PromptedSam(build_sam("mobile_sam", None, SIDE), CPU)


@pytest.fixture(scope="module")
def vit_b_state() -> dict[str, torch.Tensor]:
    """Random tensors in the layout of the official file, whose input has 1024 px: a table of 64 x 64 positions."""
    with torch.device("meta"):
        official = sam_model_registry["vit_b"]().state_dict()
    chance = torch.Generator().manual_seed(1)
    state = {key: torch.rand(value.shape, generator=chance) * 0.1 - 0.05 for key, value in official.items()}
    x = torch.arange(64.0)
    ramp = torch.stack([x[None].expand(64, 64), x[:, None].expand(64, 64)], dim=-1)  # Channel 0 is x, channel 1 is y.
    state["image_encoder.pos_embed"] = torch.cat([ramp, torch.randn(64, 64, 766)], dim=-1)[None]
    return state


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "content", "cells"),
    # The longest side becomes 128 px: 60 x 100 grows to 77 x 128, and 77 px cover 4.8 of the 8 rows of features.
    [((60, 100), (77, 128), (5, 8)), ((300, 150), (128, 64), (8, 4)), ((16, 640), (3, 128), (1, 8))],
)
def test_shapes(tiny: PromptedSam, size: tuple[int, int], content: tuple[int, int], cells: tuple[int, int]) -> None:
    embedding = tiny.encode(picture(*size))
    assert embedding.features.shape == (1, 256, 8, 8)
    assert (embedding.input_size, embedding.image_size) == (content, size)
    assert embedding.content.shape == (256, *cells)
    assert embedding.cells == tuple(-(-length // 4) for length in content)
    logits, scores = tiny.decode(embedding, np.array([[1.0, 2.0], [10.0, 3.0], [5.0, 15.0]]))
    drawn = np.array(logits.shape[2:])  # What the picture covers, one more to interpolate to, in whole cells of 4.
    assert (drawn >= np.minimum(np.array(embedding.cells) + 1, 32)).all()
    assert (drawn <= np.minimum(np.array(embedding.cells) + 4, 32)).all()
    assert logits.shape[:2] == scores.shape == (3, 4)
    assert tiny.upsample(logits[:, 0], embedding).shape == (3, *size)
    assert tiny.upsample(logits[:0, 0], embedding).shape == (0, *size)


def test_no_questions_have_no_answers(tiny: PromptedSam) -> None:
    embedding = tiny.encode(picture(60, 100))
    for boxes in (None, np.zeros((0, 4))):
        logits, scores = tiny.decode(embedding, np.zeros((0, 2)), boxes)
        assert (logits.shape[:2], scores.shape) == ((0, 4), (0, 4))
    with pytest.raises(ValueError, match="not made by encode"):
        tiny.decode(replace(embedding, tokens=None), np.array([[3.0, 3.0]]))


def test_padding_is_cut() -> None:
    """Of a 2:1 picture the lower half of the square input is padding: logits below row 16 of 32 are cut off."""
    raster = torch.arange(1024).reshape(1, 32, 32)
    embedding = Embedding(torch.zeros(1, 256, 8, 8), (64, 128), (200, 400))
    assert torch.equal(PromptedSam.content(raster, embedding), raster[:, :16])
    assert embedding.content.shape == (256, 4, 8)
    assert embedding.cells_per_px == 32 / 400


def test_a_batch_is_as_one_by_one(tiny: PromptedSam) -> None:
    embedding = tiny.encode(picture(90, 120))
    points = np.array([[5.0, 5.0], [60.0, 45.0], [110.0, 80.0], [60.0, 45.0]])
    boxes = np.concatenate([points - 4, points + 4], axis=1)
    for asked in (None, boxes):
        logits, scores = tiny.decode(embedding, points, asked)
        again = tiny.decode(embedding, points, asked)
        assert torch.equal(logits, again[0])
        assert torch.equal(scores, again[1])
        for row in range(len(points)):
            one, score = tiny.decode(embedding, points[[row]], None if asked is None else asked[[row]])
            torch.testing.assert_close(one[0], logits[row], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(score[0], scores[row], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(logits[1], logits[3], atol=1e-5, rtol=1e-5)  # The same question twice.
        assert not torch.allclose(logits[0], logits[2], atol=1e-3)  # Another place, another answer.


def test_prompts_are_in_pixels_of_the_image(tiny: PromptedSam) -> None:
    """A picture twice as large, with prompts twice as far, is the same question in the encoder's input."""
    embedding = tiny.encode(picture(64, 128))
    points, boxes = np.array([[100.0, 20.0]]), np.array([[80.0, 10.0, 120.0, 30.0]])
    logits, scores = tiny.decode(embedding, points, boxes)
    twice = tiny.decode(replace(embedding, image_size=(128, 256)), 2 * points, 2 * boxes)
    assert torch.equal(logits, twice[0])
    assert torch.equal(scores, twice[1])
    # Asked by hand in the input's pixels, which at 128 px are the image's.
    with torch.inference_mode():
        asked = (torch.tensor([[[100.0, 20.0]]]), torch.ones(1, 1))
        sparse, dense = tiny.sam.prompt_encoder(asked, torch.tensor([[80.0, 10.0, 120.0, 30.0]]), None)
        pe = tiny.sam.prompt_encoder.get_dense_pe()
        by_hand = tiny.sam.mask_decoder.predict_masks(embedding.features, pe, sparse, dense)
    rows, columns = logits.shape[2:]
    torch.testing.assert_close(logits, by_hand[0][..., :rows, :columns], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores, by_hand[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("region", [(0, 0, 100, 75), (37, 11, 101, 75), (60, 40, 61, 90), (20, 70, 120, 90)])
@pytest.mark.parametrize("side", [None, 64])
def test_a_part_is_as_an_image_of_its_own(
    tiny: PromptedSam, region: tuple[int, int, int, int], side: int | None
) -> None:
    """Questions in pixels of the image, asked in a part: what the cut-out image gives for the same places."""
    image = picture(90, 120)
    left, top, right, bottom = region
    part, alone = tiny.encode(image, region, side), tiny.encode(image[top:bottom, left:right].copy(), None, side)
    assert part.features.shape == (1, 256, *[(side or SIDE) // 16] * 2)
    assert (part.corner_px, part.image_size) == ((left, top), (bottom - top, right - left))
    assert part.region_xyxy_px == region
    assert torch.equal(part.features, alone.features)
    points = np.array([[left + 0.5, top + 3.0], [right - 2.0, bottom - 1.0]])
    boxes = np.concatenate([points - 5, points + 7], axis=1)
    for asked in (None, boxes):
        moved = None if asked is None else asked - np.array([left, top, left, top])
        logits, scores = tiny.decode(part, points, asked)
        expected, expected_scores = tiny.decode(alone, points - np.array([left, top]), moved)
        assert torch.equal(logits, expected)
        assert torch.equal(scores, expected_scores)
        enlarged = tiny.upsample(logits[:, 0], part)
        assert enlarged.shape == (2, bottom - top, right - left)
        assert torch.equal(enlarged, tiny.upsample(expected[:, 0], alone))


@pytest.mark.parametrize("side", [64, 192])
def test_another_side_is_as_a_model_of_that_side(side: int) -> None:
    """The same weights built for inputs of that side put each question at the same place and draw the same masks."""
    built = [build_sam("mobile_sam", None, size) for size in (SIDE, side)]
    built[1].load_state_dict(built[0].state_dict())
    one, other = (PromptedSam(sam, CPU) for sam in built)
    image, points = picture(50, 80), np.array([[10.0, 5.0], [70.25, 44.5]])
    boxes = np.array([[2.0, 1.0, 30.0, 20.0], [60.0, 30.0, 79.0, 49.0]])
    resized, native = one.encode(image, side=side), other.encode(image)
    torch.testing.assert_close(resized.features, native.features, atol=1e-5, rtol=1e-5)
    for asked in (None, boxes):
        for got, expected in zip(one.decode(resized, points, asked), other.decode(native, points, asked), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_preparation_changes_nothing(tiny: PromptedSam) -> None:
    """Folded norms, channels last and biases kept ready: the same features as the network as it was built."""
    torch.manual_seed(8)
    sam = build_sam("mobile_sam", None, SIDE)
    for module in sam.image_encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # As training leaves them, not as they start.
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.add_(0.3 * torch.randn_like(tensor))
            module.running_var.uniform_(0.5, 2.0)
    image = picture(SIDE, SIDE)
    with torch.inference_mode():
        expected = sam.image_encoder(sam.preprocess(torch.from_numpy(image).permute(2, 0, 1)[None].float()))
    found = PromptedSam(sam, CPU).encode(image).features
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_enlarged_masks_lie_where_they_were(tiny: PromptedSam) -> None:
    """Logits that are a ramp over the input come out as the same ramp over the image, whose pixels are half as wide."""
    embedding = Embedding(torch.zeros(1, 256, 8, 8), (96, 128), (192, 256))
    centres = (torch.arange(32) + 0.5) * 8 - 0.5  # Of the 32 logits of a row, in pixels of the image.
    along_x = (centres - 100.0)[None, None].expand(1, 32, 32)
    along_y = (centres - 70.0)[None, :, None].expand(1, 32, 32)
    wide, high = tiny.upsample(torch.cat([along_x, along_y]), embedding)
    inner = slice(8, -8)  # At the border the last logit is repeated.
    expected_x = torch.arange(256.0) - 100.0
    torch.testing.assert_close(wide[:, inner], expected_x[inner].expand(192, -1), atol=1e-3, rtol=0)
    expected_y = (torch.arange(192.0) - 70.0)[inner]
    torch.testing.assert_close(high[inner], expected_y[:, None].expand(-1, 256), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(60, 100), (333, 77), (128, 128), (16, 200), (96, 128)])
def test_masks_are_enlarged_as_stock_sam_enlarges_them(tiny: PromptedSam, size: tuple[int, int]) -> None:
    """Though padding is not drawn: `Sam.postprocess_masks` of the whole square's logits gives the same values."""
    embedding, points = tiny.encode(picture(*size)), np.array([[3.0, 4.0], [12.0, 14.0]])
    logits, _ = tiny.decode(embedding, points)
    with torch.inference_mode():
        scale = np.array([embedding.input_size[1] / size[1], embedding.input_size[0] / size[0]])
        asked = torch.as_tensor(points * scale, dtype=torch.float32)[:, None]
        sparse, dense = tiny.sam.prompt_encoder((asked, torch.ones(2, 1)), None, None)
        pe = tiny.sam.prompt_encoder.get_dense_pe()
        stock, _ = tiny.sam.mask_decoder.predict_masks(embedding.features, pe, sparse, dense)
        expected = tiny.sam.postprocess_masks(stock, embedding.input_size, size)
    found = tiny.upsample(logits.flatten(0, 1), embedding).unflatten(0, (2, 4))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [-64, 0, 32, 96, 1000])
def test_input_sizes_that_cannot_be(side: int) -> None:
    with pytest.raises(SparsematchError, match=rf"model\.input_size {side} px: must be a positive multiple of 64"):
        build_sam("mobile_sam", None, side)


def test_vit_b_at_another_size(vit_b_state: dict[str, torch.Tensor]) -> None:
    sam = build_sam("sam_vit_b", vit_b_state, SIDE)
    table = sam.image_encoder.pos_embed
    assert table.shape == (1, 8, 8, 768)
    # A new cell lies over the middle of 8 old ones; near the border the cubic filter is cut.
    middles = (torch.arange(8.0) * 8 + 3.5)[2:6]
    torch.testing.assert_close(table[0, 2:6, 2:6, 0], middles[None].expand(4, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(table[0, 2:6, 2:6, 1], middles[:, None].expand(4, 4), atol=1e-3, rtol=0)
    model = PromptedSam(sam, CPU)
    embedding = model.encode(picture(60, 100))
    logits, scores = model.decode(embedding, np.array([[50.0, 30.0]]), np.array([[40.0, 20.0, 60.0, 40.0]]))
    assert embedding.content.shape == (256, 5, 8)
    assert logits.shape == (1, 4, 24, 32)  # 77 of 128 px are 20 cells; one more is in the sixth row of 4.
    assert not model.resizable
    assert logits.isfinite().all()
    assert scores.isfinite().all()


@pytest.mark.parametrize(("name", "width"), [("sam_vit_b", 768), ("sam_vit_l", 1024), ("sam_vit_h", 1280)])
def test_official_layouts(name: str, width: int) -> None:
    """The larger models are built without memory: every tensor of the official layout has its place."""
    with torch.device("meta"):
        official = sam_model_registry[name[4:]]().state_dict()
        sam = build_sam(name, None, 512)
    shapes = {key: tuple(value.shape) for key, value in sam.state_dict().items()}
    assert shapes.pop("image_encoder.pos_embed") == (1, 32, 32, width)
    assert shapes == {key: tuple(value.shape) for key, value in official.items() if key in shapes}
    assert set(official) - set(shapes) == {"image_encoder.pos_embed"}


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_checkpoint_of_another_model_is_refused(vit_b_state: dict[str, torch.Tensor]) -> None:
    incomplete = {key: value for key, value in vit_b_state.items() if key != "mask_decoder.iou_token.weight"}
    with torch.device("meta"):  # Nothing will be computed, so nothing needs memory.
        with pytest.raises(SparsematchError, match="not one of mobile_sam: "):
            build_sam("mobile_sam", vit_b_state, SIDE)
        with pytest.raises(SparsematchError, match="not one of sam_vit_l: "):
            build_sam("sam_vit_l", vit_b_state, SIDE)
        with pytest.raises(SparsematchError, match="not one of sam_vit_b: "):
            build_sam("sam_vit_b", build_sam("mobile_sam", None, SIDE).state_dict(), SIDE)
        with pytest.raises(SparsematchError, match=r"not one of sam_vit_b: .*mask_decoder\.iou_token\.weight"):
            build_sam("sam_vit_b", incomplete, SIDE)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99", ""):
        with pytest.raises(SparsematchError, match=rf"model\.device '{name}' is not available .*auto and cpu"):
            choose_device(name)
