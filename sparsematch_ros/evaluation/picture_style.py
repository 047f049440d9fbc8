"""What the pictures of an evaluation share: colours of identities, and files that stay small."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from sparsematch_ros.evaluation.matching import FrameMatches

Rgb = tuple[float, float, float]

# Noise of a sensor hardly compresses: pictures with images in them keep as many colours as fit.
PALETTES = (96, 48, 24)
SCALES = (1.0, 0.8, 0.6)
JPEG_QUALITIES = (85, 75, 65, 55, 45, 35)
# The strong colours of matplotlib's tab20 first, then the pale ones; grey means something else here.
_MIXED = [number for number in (*range(0, 20, 2), *range(1, 20, 2)) if number not in (14, 15)]
# Lifts the faint things of a dark image.
GAMMA = 0.6


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make a figure of the given size [inches] that needs no screen."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def identity_colours(matches: Sequence[FrameMatches]) -> dict[str, Rgb]:
    """Give every reported identity a colour, in the order in which they appear; the palette starts again after 18."""
    palette = colormaps["tab20"]
    names = dict.fromkeys(item.id for frame in matches for item in [*(own for _, own in frame.pairs), *frame.false])
    return {name: palette(_MIXED[number % len(_MIXED)])[:3] for number, name in enumerate(names)}


def brightened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lift the faint parts of an `(H, W, 3)` uint8 image, so that small objects show in print."""
    scaled = image / max(int(image.max()), 1)
    return np.rint(255 * scaled**GAMMA).astype(np.uint8)


def save_small_png(figure: Figure, path: Path, most_bytes: int) -> None:
    """Write a figure that holds images as the largest PNG of most colours that takes at most `most_bytes`."""
    picture = _pixels(figure)
    for scale, colours in product(SCALES, PALETTES):
        content = io.BytesIO()
        smaller = picture.resize((round(scale * picture.width), round(scale * picture.height)))
        smaller.quantize(colours, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
        if content.tell() <= most_bytes:
            break
    path.write_bytes(content.getvalue())


def save_small_jpeg(figure: Figure, path: Path, most_bytes: int) -> None:
    """Write a figure as the best JPEG of at most `most_bytes`, or the smallest where none is that small."""
    picture = _pixels(figure)
    for quality in JPEG_QUALITIES:
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= most_bytes:
            break
    path.write_bytes(content.getvalue())


def _pixels(figure: Figure) -> Image.Image:
    content = io.BytesIO()
    figure.savefig(content, dpi=100, format="png")
    return Image.open(content).convert("RGB")
