"""SAM asked by prompts: one encoding a frame, then as many masks as there are questions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from sparsematch_ros.data import FloatArray


@dataclass(frozen=True, eq=False)
class Embedding:
    """SAM's encoding of one image.

    Attributes:
        features: `(1, 256, g, g)` float tensor.
        input_size: height and width that the image takes in the encoder's square input [px].
        image_size: height and width of the image itself [px].

    """

    features: Tensor
    input_size: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def content(self) -> Tensor:
        """The part of `features` that the image covers, `(256, h, w)`; the rest is padding."""
        return PromptedSam.content(self.features[0], self)


class PromptedSam:
    """A SAM model with its image transforms.

    Attributes:
        sam: `segment-anything`'s model, on its device.
        input_size: side of the encoder's square input [px].

    """

    def __init__(self, sam: Sam, device: torch.device, half_precision: bool = False) -> None:
        """Move the model to its device; `half_precision` runs it in float16 on a GPU."""
        self.sam = sam.to(device)
        self.device = device
        self.input_size = int(sam.image_encoder.img_size)
        self._half = half_precision and device.type == "cuda"
        self._resize = ResizeLongestSide(self.input_size)
        self._dense_positions = sam.prompt_encoder.get_dense_pe()

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an `(H, W, 3)` uint8 RGB image."""
        resized = self._resize.apply_image(image)
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).to(self.device).permute(2, 0, 1)[None]
        with self._precision():
            features = self.sam.image_encoder(self.sam.preprocess(pixels.float()))
        return Embedding(features.float(), (resized.shape[0], resized.shape[1]), (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, points_px: FloatArray, boxes_xyxy_px: FloatArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ask for the masks at P places.

        Args:
            embedding: the encoded image.
            points_px: `(P, 2)` a point inside what is meant [px of the image].
            boxes_xyxy_px: `(P, 4)` boxes around it [px], or None.

        Returns:
            Logits `(P, 4, 4g, 4g)` of SAM's single-mask output and its three multimask outputs, padding included,
            and their predicted IoU `(P, 4)`.

        """
        points = self._resize.apply_coords(np.asarray(points_px, dtype=np.float64), embedding.image_size)
        coordinates = torch.as_tensor(points, dtype=torch.float32, device=self.device)[:, None]
        labels = torch.ones(coordinates.shape[:2], dtype=torch.int64, device=self.device)
        boxes = None
        if boxes_xyxy_px is not None:
            scaled = self._resize.apply_boxes(np.asarray(boxes_xyxy_px, dtype=np.float64), embedding.image_size)
            boxes = torch.as_tensor(scaled, dtype=torch.float32, device=self.device)
        with self._precision():
            sparse, dense = self.sam.prompt_encoder(points=(coordinates, labels), boxes=boxes, masks=None)
            logits, scores = self.sam.mask_decoder.predict_masks(
                embedding.features, self._dense_positions, sparse, dense
            )
        return logits.float(), scores.float()

    @torch.inference_mode()
    def upsample(self, logits: Tensor, embedding: Embedding) -> Tensor:
        """Bring logits `(K, 4g, 4g)` to the image, `(K, H, W)`, as `Sam.postprocess_masks` does."""
        if len(logits) == 0:
            return logits.new_zeros((0, *embedding.image_size))
        return self.sam.postprocess_masks(logits[:, None], embedding.input_size, embedding.image_size)[:, 0]

    @staticmethod
    def content(rasters: Tensor, embedding: Embedding) -> Tensor:
        """Cut the padding off rasters of the square input, `(..., S, S)` to what the image covers."""
        side = max(embedding.input_size)
        rows, columns = (max(1, round(length / side * rasters.shape[-1])) for length in embedding.input_size)
        return rasters[..., :rows, :columns]

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", dtype=torch.float16) if self._half else nullcontext()
