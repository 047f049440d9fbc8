"""The batched decoder against segment_anything's own MaskDecoder: the same function of the same weights."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import Sam

from sparsematch_ros.segmentation.decoder import BatchedDecoder, ImageTokens
from sparsematch_ros.segmentation.models import build_sam

SIDE = 128  # Input of the tiny model [px]: a grid of 8 x 8 tokens, logits of 32 x 32.
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def sam() -> Sam:
    """Weights that start as zeros or ones, such as those of the norms, are moved too: none may be left out."""
    torch.manual_seed(11)
    model = build_sam("mobile_sam", None, SIDE)
    for parameter in model.mask_decoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(1, 256, 8, 8, generator=torch.Generator().manual_seed(5))


def prompts(count: int, boxed: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give points `(P, 1, 2)` and perhaps boxes `(P, 4)` around them [px of the input]."""
    points = 4 + 120 * torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(count))
    return points, torch.cat([points[:, 0] - 9, points[:, 0] + 14], dim=1) if boxed else None


def prepared(decoder: BatchedDecoder, sam: Sam, features: torch.Tensor) -> ImageTokens:
    return decoder.prepare(features, sam.prompt_encoder.get_dense_pe(), sam.prompt_encoder.no_mask_embed.weight)


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 37])
@torch.inference_mode()
def test_the_same_masks_as_the_stock_decoder(sam: Sam, features: torch.Tensor, count: int, boxed: bool) -> None:
    points, boxes = prompts(count, boxed)
    sparse, dense = sam.prompt_encoder((points, torch.ones(count, 1)), boxes, None)
    masks, scores = sam.mask_decoder.predict_masks(features, sam.prompt_encoder.get_dense_pe(), sparse, dense)
    decoder = BatchedDecoder(sam.mask_decoder)
    answers = decoder.attend(prepared(decoder, sam, features), sparse)
    torch.testing.assert_close(answers.scores, scores, **CLOSE)
    torch.testing.assert_close(decoder.draw(answers, torch.arange(count), (8, 8)), masks, **CLOSE)
    assert masks.std() > 0.1, "masks of nearly one value would agree by chance"
    some = torch.tensor([count - 1, 0, count // 2])  # In any order, and twice.
    for rows, columns in [(5, 8), (8, 3), (1, 1), (100, 100)]:
        drawn = decoder.draw(answers, some, (rows, columns))
        torch.testing.assert_close(drawn, masks[some, :, : 4 * rows, : 4 * columns], **CLOSE)


@torch.inference_mode()
def test_an_image_that_is_no_square(sam: Sam) -> None:
    """A grid of 5 x 8 tokens, against the stock decoder on the same 5 x 8 tokens: rows and columns keep apart."""
    features = torch.randn(1, 256, 5, 8, generator=torch.Generator().manual_seed(6))
    positions = sam.prompt_encoder.pe_layer((5, 8))[None]
    sparse, _ = sam.prompt_encoder((prompts(3, False)[0], torch.ones(3, 1)), None, None)
    no_mask = sam.prompt_encoder.no_mask_embed.weight
    dense = no_mask.reshape(1, -1, 1, 1).expand(3, -1, 5, 8)
    masks, scores = sam.mask_decoder.predict_masks(features, positions, sparse, dense)
    decoder = BatchedDecoder(sam.mask_decoder)
    answers = decoder.attend(decoder.prepare(features, positions, no_mask), sparse)
    torch.testing.assert_close(answers.scores, scores, **CLOSE)
    torch.testing.assert_close(decoder.draw(answers, torch.arange(3), (5, 8)), masks, **CLOSE)


@torch.inference_mode()
def test_no_rows_are_drawn_as_no_masks(sam: Sam, features: torch.Tensor) -> None:
    decoder = BatchedDecoder(sam.mask_decoder)
    sparse, _ = sam.prompt_encoder((prompts(2, False)[0], torch.ones(2, 1)), None, None)
    answers = decoder.attend(prepared(decoder, sam, features), sparse)
    assert decoder.draw(answers, torch.arange(0), (5, 8)).shape == (0, 4, 20, 32)


@torch.inference_mode()
def test_no_prompts_have_no_answers(sam: Sam, features: torch.Tensor) -> None:
    decoder = BatchedDecoder(sam.mask_decoder)
    answers = decoder.attend(prepared(decoder, sam, features), torch.zeros(0, 2, 256))
    assert answers.scores.shape == (0, 4)
    assert decoder.draw(answers, torch.arange(0), (8, 8)).shape == (0, 4, 32, 32)
