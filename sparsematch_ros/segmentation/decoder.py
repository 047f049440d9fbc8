"""SAM's mask decoder for many prompts of one image: the same weights and function, with what prompts share done once.

Kirillov et al., "Segment Anything", 2023, appendix A, as in `segment_anything.modeling.mask_decoder`. A prompt has few
tokens (T about 7), the image many (N = g^2). Three things make it cheaper without changing what it computes:

- The first layer's projections of the image do not depend on the prompt: they are made once a frame.
- Projections of N image tokens are folded into those of T prompt tokens: `q (W k)^T = (q W) k^T`.
- Predicted IoU comes from prompt tokens alone, so masks are drawn only where it asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """What all prompts of an image share.

    Attributes:
        keys: `(N, C)` encoder features with the embedding of an absent mask prompt.
        positions: `(N, C)` positional encoding.
        grid: rows and columns of the N tokens.
        heads: first layer's projections, each `(heads, N, d)`: keys and values for the prompt's tokens, and queries.

    """

    keys: Tensor
    positions: Tensor
    grid: tuple[int, int]
    heads: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Answers:
    """What the decoder knows of P prompts before it draws a mask.

    Attributes:
        scores: `(P, 4)` predicted IoU of the single-mask output and the three multimask outputs.
        tokens: `(P, 4, C)` mask tokens.
        keys: `(P, N, C)` image tokens as the prompt sees them.
        grid: rows and columns of the N tokens.

    """

    scores: Tensor
    tokens: Tensor
    keys: Tensor
    grid: tuple[int, int]


class BatchedDecoder:
    """Runs `segment_anything`'s two-way mask decoder for batches of prompts.

    Holds no parameters of its own beyond folded copies of the decoder's projections, so build it when the model has
    its weights and its device.
    """

    def __init__(self, decoder: MaskDecoder) -> None:
        """Fold the projections of a decoder of two layers, as all published SAM checkpoints have."""
        self._decoder = decoder
        transformer = decoder.transformer
        self._first: TwoWayAttentionBlock = transformer.layers[0]
        self._later = [
            (layer, _Folded(layer.cross_attn_token_to_image), _Folded(layer.cross_attn_image_to_token))
            for layer in transformer.layers[1:]
        ]
        self._final = _Folded(transformer.final_attn_token_to_image)
        self._first_back = _Folded(self._first.cross_attn_image_to_token)
        self._upscale = _Upscale(decoder.output_upscaling)
        self._output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def prepare(self, features: Tensor, positions: Tensor, no_mask: Tensor) -> ImageTokens:
        """Project an image.

        Args:
            features: `(1, C, h, w)` of the image encoder.
            positions: `(1, C, h, w)` dense positional encoding.
            no_mask: `(1, C)` embedding of an absent mask prompt.

        """
        keys = features[0].flatten(1).T + no_mask
        place = positions[0].flatten(1).T
        forth, back = self._first.cross_attn_token_to_image, self._first.cross_attn_image_to_token
        heads = (
            _split(forth.k_proj(keys + place), forth.num_heads),
            _split(forth.v_proj(keys), forth.num_heads),
            _split(back.q_proj(keys + place), back.num_heads),
        )
        return ImageTokens(keys, place, (features.shape[2], features.shape[3]), heads)

    def attend(self, image: ImageTokens, sparse: Tensor) -> Answers:
        """Let the tokens of P prompts `(P, S, C)` and the image attend to each other."""
        tokens = torch.cat([self._output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        queries, keys = self._first_layer(image, tokens)
        for layer, forth, back in self._later:
            asked = queries + tokens
            queries = layer.norm1(queries + layer.self_attn(q=asked, k=asked, v=queries))
            placed = keys + image.positions
            queries = layer.norm2(queries + forth.read(queries + tokens, placed, keys))
            queries = layer.norm3(queries + layer.mlp(queries))
            weights = back.weights(placed, queries + tokens)
            keys = layer.norm4(back.write(keys, weights, queries))
        # Only the output tokens are read from here on.
        outputs = len(self._output_tokens)
        asked = (queries + tokens)[:, :outputs]
        read = self._final.read(asked, keys + image.positions, keys)
        hidden = self._decoder.transformer.norm_final_attn(queries[:, :outputs] + read)
        return Answers(self._decoder.iou_prediction_head(hidden[:, 0]), hidden[:, 1:], keys, image.grid)

    def draw(self, answers: Answers, rows: Tensor, grid: tuple[int, int]) -> Tensor:
        """Draw the masks of some prompts.

        Args:
            answers: of P prompts.
            rows: `(K,)` int64, which of them.
            grid: how many rows h and columns w of the image's tokens are drawn, from the top left.

        Returns:
            `(K, 4, 4h, 4w)` logits.

        """
        height, width = min(grid[0], answers.grid[0]), min(grid[1], answers.grid[1])
        tokens = answers.tokens[rows]
        keys = answers.keys.unflatten(1, answers.grid)[rows, :height, :width].flatten(1, 2)
        kernels = [mlp(tokens[:, i]) for i, mlp in enumerate(self._decoder.output_hypernetworks_mlps)]
        return self._upscale(keys, (height, width), torch.stack(kernels, dim=2))

    def _first_layer(self, image: ImageTokens, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer in which all prompts see the same image; gives queries `(P, T, C)` and keys `(P, N, C)`."""
        layer, (keys, values, queries_of_image) = self._first, image.heads
        forth = layer.cross_attn_token_to_image
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        count, length, _ = queries.shape
        asked = _split(forth.q_proj(queries + tokens).flatten(0, 1), forth.num_heads)
        read = functional.scaled_dot_product_attention(asked[None], keys[None], values[None])[0]
        queries = layer.norm2(queries + forth.out_proj(_join(read)).unflatten(0, (count, length)))
        queries = layer.norm3(queries + layer.mlp(queries))
        weights = self._first_back.shared_weights(queries_of_image, queries + tokens)
        seen = self._first_back.write(image.keys.expand(count, -1, -1), weights, queries)
        return queries, layer.norm4(seen)


class _Folded:
    """One attention between few prompt tokens `(P, T, C)` and many image tokens `(P, N, C)`, folded onto the few."""

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        self._heads = attention.num_heads
        self._scale = (attention.internal_dim // attention.num_heads) ** -0.5
        self._query, self._key, self._value = (
            projection.weight.unflatten(0, (self._heads, -1))  # (heads, d, C)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        self._out = attention.out_proj.weight.T.unflatten(0, (self._heads, -1)).contiguous()  # (heads, d, C)

    def read(self, tokens: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
        """Let tokens `(P, T, C)` read the image, with positions in `placed`, without in `keys`; gives `(P, T, C)`."""
        length = tokens.shape[1]
        asked = self._split(self._attention.q_proj(tokens)) * self._scale
        # The key's bias adds the same to all scores of a token, which softmax does not see.
        scores = torch.einsum("phtd,hdc->phtc", asked, self._key).flatten(1, 2) @ placed.transpose(1, 2)
        context = (scores.softmax(dim=-1) @ keys).unflatten(1, (self._heads, length))
        values = torch.einsum("phtc,hdc->pthd", context, self._value).flatten(2)
        return self._attention.out_proj(values + self._attention.v_proj.bias)

    def weights(self, placed: Tensor, tokens: Tensor) -> Tensor:
        """Give how much each image token takes from each prompt token, `(P, heads, T, N)`."""
        given = self._split(self._attention.k_proj(tokens)) * self._scale
        folded = torch.einsum("phtd,hdc->phtc", given, self._query).flatten(1, 2)
        bias = torch.einsum("phtd,hd->pht", given, self._attention.q_proj.bias.unflatten(0, (self._heads, -1)))
        scores = torch.baddbmm(bias.flatten(1)[..., None], folded, placed.transpose(1, 2))
        return scores.unflatten(1, (self._heads, -1)).softmax(dim=2)

    def shared_weights(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Give the same where all prompts share the image's queries `(heads, N, d)`."""
        count, length, _ = tokens.shape
        given = self._split(self._attention.k_proj(tokens)) * self._scale
        scores = given.transpose(0, 1).flatten(1, 2) @ queries.transpose(1, 2)
        return scores.unflatten(1, (count, length)).softmax(dim=2).transpose(0, 1)

    def write(self, keys: Tensor, weights: Tensor, tokens: Tensor) -> Tensor:
        """Add to the image `(P, N, C)` what it takes from the tokens `(P, T, C)`."""
        values = self._split(self._attention.v_proj(tokens))
        given = torch.einsum("phtd,hdc->phtc", values, self._out) + self._attention.out_proj.bias / self._heads
        return torch.baddbmm(keys, weights.flatten(1, 2).transpose(1, 2), given.flatten(1, 2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self._heads, -1)).transpose(1, 2)


class _Upscale:
    """The decoder's two transposed convolutions as matrix products, channels last, and the masks' own product."""

    def __init__(self, layers: nn.Sequential) -> None:
        first, self._norm, _, second, _ = layers
        # A transposed convolution whose stride is its kernel gives each cell a block of its own: a linear map.
        self._first, self._second = (layer.weight.permute(0, 2, 3, 1).flatten(1) for layer in (first, second))
        self._first_bias, self._second_bias = (layer.bias.repeat(4) for layer in (first, second))

    def __call__(self, keys: Tensor, grid: tuple[int, int], kernels: Tensor) -> Tensor:
        """Turn keys `(K, N, C)` and kernels `(K, c, M)` into logits `(K, M, 4h, 4w)`."""
        norm = self._norm
        cells = (keys @ self._first + self._first_bias).unflatten(2, (4, -1))
        cells = functional.gelu(functional.layer_norm(cells, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        fine = functional.gelu(cells @ self._second + self._second_bias)
        fine = fine.unflatten(3, (4, -1)).flatten(1, 3)
        logits = fine @ kernels
        # Rows of `logits`: row, column of a token, then y, x of the first block, then y, x of the second.
        height, width = grid
        blocks = logits.view(len(keys), height, width, 2, 2, 2, 2, kernels.shape[2])
        return blocks.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(len(keys), kernels.shape[2], 4 * height, 4 * width)


def _split(rows: Tensor, heads: int) -> Tensor:
    """Turn `(N, heads * d)` into `(heads, N, d)`."""
    return rows.unflatten(1, (heads, -1)).transpose(0, 1).contiguous()


def _join(heads: Tensor) -> Tensor:
    return heads.transpose(0, 1).flatten(1)
