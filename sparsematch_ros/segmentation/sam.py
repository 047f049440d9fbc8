"""SAM asked by prompts: one encoding of a picture or a part of it, then as many masks as there are questions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional

from sparsematch_ros.data import FloatArray
from sparsematch_ros.segmentation.decoder import Answers, BatchedDecoder, ImageTokens
from sparsematch_ros.segmentation.models import PATCH, TinyVitEncoder

# Side of a cell of the decoder's logits in the encoder's input [px].
CELL = 4


@dataclass(frozen=True, eq=False)
class Embedding:
    """SAM's encoding of one image or of a part of it.

    Attributes:
        features: `(1, 256, g, g)` float tensor.
        input_size: height and width that the part takes in the encoder's square input [px]; the rest is padding.
        image_size: height and width of the part itself [px].
        corner_px: x and y of the part's top left pixel in the image.
        tokens: the decoder's view of `features`, or None for one that is never decoded.

    """

    features: Tensor
    input_size: tuple[int, int]
    image_size: tuple[int, int]
    corner_px: tuple[int, int] = (0, 0)
    tokens: ImageTokens | None = None

    @property
    def content(self) -> Tensor:
        """The part of `features` that the picture covers, `(256, h, w)`."""
        side = PATCH * self.features.shape[-1]
        rows, columns = (max(1, round(length / side * self.features.shape[-1])) for length in self.input_size)
        return self.features[0, :, :rows, :columns]

    @property
    def region_xyxy_px(self) -> tuple[float, float, float, float]:
        """Edges of the part in the image [px]: left, top, right, bottom, the last two exclusive."""
        (left, top), (height, width) = self.corner_px, self.image_size
        return float(left), float(top), float(left + width), float(top + height)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of logits that the picture covers."""
        rows, columns = (-(-length // CELL) for length in self.input_size)
        return rows, columns

    @property
    def cells_per_px(self) -> float:
        """Cells of the logits that a pixel of the image takes, a side."""
        return max(self.input_size) / CELL / max(self.image_size)


class PromptedSam:
    """A SAM model with its image transforms.

    Attributes:
        sam: `segment-anything`'s model, on its device.
        input_size: side of the encoder's square input [px].
        resizable: True where smaller inputs may be encoded too.

    """

    def __init__(self, sam: Sam, device: torch.device, half_precision: bool = False) -> None:
        """Move the model to its device; `half_precision` runs it in float16 on a GPU."""
        self.sam = sam.to(device)
        self.device = device
        self.input_size = int(sam.image_encoder.img_size)
        self.resizable = isinstance(sam.image_encoder, TinyVitEncoder)
        if isinstance(sam.image_encoder, TinyVitEncoder):
            sam.image_encoder.prepare(device)
        self._half = half_precision and device.type == "cuda"
        self._decoder = BatchedDecoder(sam.mask_decoder)
        self._positions = lru_cache(maxsize=8)(self._dense_positions)

    @torch.inference_mode()
    def encode(
        self, image: NDArray[np.uint8], region: tuple[int, int, int, int] | None = None, side: int | None = None
    ) -> Embedding:
        """Encode an `(H, W, 3)` uint8 RGB image.

        Args:
            image: the image.
            region: left, top, right, bottom (exclusive) of the part to encode [px]; None for all.
            side: side of the square input [px], a multiple of 64; None for `input_size`, and only that where the
                encoder is not `resizable`.

        """
        side = side or self.input_size
        left, top, right, bottom = region or (0, 0, image.shape[1], image.shape[0])
        part = np.ascontiguousarray(image[top:bottom, left:right])
        resized = ResizeLongestSide(side).apply_image(part)
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).to(self.device).permute(2, 0, 1)
        padding = (0, side - resized.shape[1], 0, side - resized.shape[0])
        normalised = functional.pad((pixels - self.sam.pixel_mean) / self.sam.pixel_std, padding)
        with self._precision():
            features = self.sam.image_encoder(normalised[None]).float()
            grid = (features.shape[2], features.shape[3])
            tokens = self._decoder.prepare(
                features, self._positions(grid), self.sam.prompt_encoder.no_mask_embed.weight
            )
        return Embedding(features, resized.shape[:2], part.shape[:2], (left, top), tokens)

    @torch.inference_mode()
    def ask(self, embedding: Embedding, points_px: FloatArray, boxes_xyxy_px: FloatArray | None = None) -> Answers:
        """Ask P questions, without drawing the masks.

        Args:
            embedding: the encoded picture, from `encode`.
            points_px: `(P, 2)` a point inside what is meant [px of the image].
            boxes_xyxy_px: `(P, 4)` boxes around it [px], or None.

        """
        if embedding.tokens is None:
            raise ValueError("the embedding was not made by encode")
        points = self._input_coordinates(embedding, np.asarray(points_px).reshape(-1, 1, 2))
        labels = torch.ones(points.shape[:2], dtype=torch.int64, device=self.device)
        boxes = None
        if boxes_xyxy_px is not None:
            boxes = self._input_coordinates(embedding, np.asarray(boxes_xyxy_px).reshape(-1, 2, 2)).flatten(1)
        with self._precision():
            sparse, _ = self.sam.prompt_encoder(points=(points, labels), boxes=boxes, masks=None)
            return self._decoder.attend(embedding.tokens, sparse)

    @torch.inference_mode()
    def draw(self, embedding: Embedding, answers: Answers, rows: Tensor) -> Tensor:
        """Draw the masks of the answers `(K,)` int64 `rows`.

        Returns:
            Logits `(K, 4, h, w)` float32 of SAM's single-mask output and its three multimask outputs, for the
            `embedding.cells` that the picture covers and a few beyond.

        """
        # One cell beyond the picture's last takes part in its interpolation.
        grid = tuple(-(-(-(-length // CELL) + 1) // CELL) for length in embedding.input_size)
        with self._precision():
            return self._decoder.draw(answers, rows, (grid[0], grid[1])).float()

    def decode(
        self, embedding: Embedding, points_px: FloatArray, boxes_xyxy_px: FloatArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ask P questions (as `ask`) and draw all masks (as `draw`): logits `(P, 4, h, w)`, predicted IoU `(P, 4)`."""
        answers = self.ask(embedding, points_px, boxes_xyxy_px)
        rows = torch.arange(len(answers.scores), device=self.device)
        return self.draw(embedding, answers, rows), answers.scores.float()

    @torch.inference_mode()
    def upsample(self, logits: Tensor, embedding: Embedding, size: tuple[int, int] | None = None) -> Tensor:
        """Bring logits `(K, h, w)` to the part of the image, `(K, H, W)`, as `Sam.postprocess_masks` does.

        Args:
            logits: at the decoder's resolution.
            embedding: the part.
            size: height and width of another raster over the same part; None for its pixels.

        """
        size = size or embedding.image_size
        if len(logits) == 0:
            return logits.new_zeros((0, *size))
        height, width = embedding.input_size
        fine = functional.interpolate(logits[:, None], scale_factor=CELL, mode="bilinear")[..., :height, :width]
        return functional.interpolate(fine, size, mode="bilinear")[:, 0]

    @staticmethod
    def content(rasters: Tensor, embedding: Embedding) -> Tensor:
        """Cut rasters of logits `(..., h, w)` to the cells that the picture covers."""
        rows, columns = embedding.cells
        return rasters[..., :rows, :columns]

    def _input_coordinates(self, embedding: Embedding, places_px: FloatArray) -> Tensor:
        """Turn places `(..., 2)` of the image into those that the prompt encoder takes, float32.

        It divides by the model's own input size after adding half a pixel; a smaller input needs larger numbers.
        """
        (height, width), (rows, columns) = embedding.image_size, embedding.input_size
        places = (places_px - embedding.corner_px) * np.array([columns / width, rows / height])
        stretch = self.input_size / (PATCH * embedding.features.shape[-1])
        return torch.as_tensor((places + 0.5) * stretch - 0.5, dtype=torch.float32, device=self.device)

    def _dense_positions(self, grid: tuple[int, int]) -> Tensor:
        return self.sam.prompt_encoder.pe_layer(grid)[None]

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", dtype=torch.float16) if self._half else nullcontext()
