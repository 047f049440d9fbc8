"""`sparsematch match`: two images seen through patch features, dense as colours and sparse as matches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.config import Config
from sparsematch_ros.data import BoolArray, FloatArray, IntArray
from sparsematch_ros.description.views import principal_colours
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.matching.patches import (
    PatchMatches,
    choose_sparse,
    nearest_patches,
    patch_centres_px,
    patches_inside,
)
from sparsematch_ros.media.figures import write_json
from sparsematch_ros.media.match_input import View, read_views
from sparsematch_ros.media.patch_views import Picture, feature_picture, match_picture, side_by_side
from sparsematch_ros.models import load_dinov2, load_sam
from sparsematch_ros.settings import changed_settings


@dataclass(frozen=True, eq=False)
class PatchNetwork:
    """A network that gives patch features.

    Attributes:
        extract: an `(H, W, 3)` uint8 RGB image in, `(D, h, w)` features that cover all of it out.
        input_size: longest side that it sees [px].

    """

    extract: Callable[[NDArray[np.uint8]], Tensor]
    input_size: int


@dataclass(frozen=True, eq=False)
class _Patches:
    """The patches of one image that take part: `(h, w)` which, `(N, D)` features, `(N, 2)` centres."""

    inside: BoolArray
    features: Tensor
    centres_px: FloatArray


def match(
    images: tuple[Path, Path],
    masks: tuple[Path | None, Path | None],
    config: Config,
    out: Path,
    fraction: float,
    zoom: bool = False,
    network: PatchNetwork | None = None,
) -> int:
    """Compare two images patch by patch, write pictures and figures, and print the most important of them.

    Writes `features_a.png`, `features_b.png` (as large as what is looked at) and `features.png` (side by side): the
    first three principal components of the features inside the masks as red, green and blue, fitted on both images
    together; outside, the image itself, dark. Writes `matches.png`; `patches.jsonl`, one line for each patch of A that
    takes part: `a_px`, `b_px` (places in the files' images), `cosine`, `mutual`, `drawn`; and `match.json`.

    Args:
        images: files of A and B.
        masks: PNG files, of which every pixel over 0 is inside, or None: then every patch of that image takes part.
        config: `description.source` names the network: `sam` or `dinov2`.
        out: folder to write to; made where missing.
        fraction: share of the patches of A that are drawn in `matches.png`, in (0, 1].
        zoom: look at a box around each mask instead of the whole image.
        network: what gives the features; None for the one that the settings name.

    Returns:
        0.

    Raises:
        SparsematchError: an image or mask that cannot be used, a missing checkpoint, a fraction that is none.

    """
    if not 0 < fraction <= 1:
        raise SparsematchError(f"--fraction {fraction}: must be over 0 and at most 1")
    views = read_views(images, masks)
    out.mkdir(parents=True, exist_ok=True)
    network = network or load_patch_network(config)
    if zoom:
        views = (views[0].around_mask(network.input_size), views[1].around_mask(network.input_size))
    patches = (_patches(views[0], network), _patches(views[1], network))
    matches = nearest_patches(patches[0].features, patches[1].features)
    drawn = choose_sparse(matches, patches[0].inside, fraction)
    pairs_px = np.stack([patches[0].centres_px, patches[1].centres_px[matches.nearest.cpu().numpy()]], axis=1)
    figures = _figures(views, patches, matches, pairs_px) | {"drawn": len(drawn), "settings": changed_settings(config)}
    _write_features(out, views, patches)
    _write_matches(out / "matches.png", views, pairs_px[drawn], _caption(figures))
    _write_pairs(out / "patches.jsonl", matches, pairs_px, drawn)
    write_json(out / "match.json", figures)
    print(_caption(figures))
    print(f"look at {out / 'matches.png'} and {out / 'features.png'}")
    return 0


def load_patch_network(config: Config) -> PatchNetwork:
    """Load the network that `description.source` names, and no other.

    Raises:
        SparsematchError: where that is `none`, or a checkpoint is missing.

    """
    source = config.description.source
    if source == "none":
        raise SparsematchError("description.source 'none' has no patches to match; sam and dinov2 have")
    if source == "dinov2":
        dinov2 = load_dinov2(config)
        return PatchNetwork(dinov2, dinov2.input_size)
    sam = load_sam(config)
    return PatchNetwork(lambda image: sam.encode(image).content, sam.input_size)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as PNG.

    Raises:
        OSError: where the file cannot be written.

    """
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def _patches(view: View, network: PatchNetwork) -> _Patches:
    features = network.extract(view.image)
    try:
        inside = patches_inside(view.mask, (features.shape[1], features.shape[2]))
    except SparsematchError as error:
        raise SparsematchError(f"{view.mask_name}: {error}") from error
    rows = features.flatten(1).T[inside.ravel().nonzero()[0]]
    return _Patches(inside, rows, patch_centres_px(inside, view.size) + view.origin_px)


def _figures(
    views: tuple[View, View], patches: tuple[_Patches, _Patches], matches: PatchMatches, pairs_px: FloatArray
) -> dict[str, Any]:
    """Sum up; displacement is that of mutual neighbours, null where there is none."""
    mutual = matches.mutual.cpu().numpy()
    cosines = matches.cosine.double().cpu().numpy()
    moved_px = np.median(pairs_px[mutual, 1] - pairs_px[mutual, 0], axis=0).round(2).tolist() if mutual.any() else None
    figures: dict[str, Any] = {}
    for side, view, taken in zip("ab", views, patches):
        (height, width), (rows, columns) = view.size, taken.inside.shape
        figures[f"image_{side}"], figures[f"mask_{side}"] = view.name, view.mask_name
        figures[f"region_{side}_xywh_px"] = [*view.origin_px.tolist(), width, height]
        figures[f"patch_size_{side}_px"] = [round(width / columns, 3), round(height / rows, 3)]
        figures[f"patches_{side}"] = len(taken.features)
    return figures | {
        "mean_cosine": round(float(cosines.mean()), 4),
        "mutual": int(mutual.sum()),
        "mutual_share": round(float(mutual.mean()), 4),
        "mutual_mean_cosine": round(float(cosines[mutual].mean()), 4) if mutual.any() else None,
        "median_displacement_px": moved_px,
    }


def _caption(figures: dict[str, Any]) -> str:
    return (
        f"{figures['drawn']} of {figures['patches_a']} patches drawn, {figures['mutual_share']:.0%} mutual, "
        f"mean cosine {figures['mean_cosine']:.2f}"
    )


def _write_features(out: Path, views: tuple[View, View], patches: tuple[_Patches, _Patches]) -> None:
    colours = principal_colours(patches[0].features, patches[1].features)
    pictures = [
        feature_picture(view.image, taken.inside, shades) for view, taken, shades in zip(views, patches, colours)
    ]
    for side, picture in zip("ab", pictures):
        write_picture(out / f"features_{side}.png", picture)
    write_picture(out / "features.png", side_by_side(pictures)[0])


def _write_matches(path: Path, views: tuple[View, View], pairs_px: FloatArray, caption: str) -> None:
    first, second = views
    shown_px = pairs_px - np.stack([first.origin_px, second.origin_px])
    write_picture(path, match_picture((first.image, second.image), (first.mask, second.mask), shown_px, caption))


def _write_pairs(path: Path, matches: PatchMatches, pairs_px: FloatArray, drawn: IntArray) -> None:
    shown = np.isin(np.arange(len(matches)), drawn)
    lines = (
        json.dumps({"a_px": a, "b_px": b, "cosine": round(cosine, 5), "mutual": mutual, "drawn": bool(seen)})
        for (a, b), cosine, mutual, seen in zip(
            pairs_px.round(2).tolist(), matches.cosine.tolist(), matches.mutual.tolist(), shown
        )
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
