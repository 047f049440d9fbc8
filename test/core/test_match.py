"""Patches of two images against each other: nearest neighbours, colours, pictures, and bad input in one line.

The network here is one layer of random weights on patches of 16 px: what it gives for a patch depends on that patch
alone, so where patches went is known exactly. The real networks are in `test/graph/test_match_mobile_sam.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparsematch_ros import cli
from sparsematch_ros.config import Config, DescriptionConfig
from sparsematch_ros.description.views import principal_colours
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.matching.patches import (
    PatchMatches,
    choose_sparse,
    nearest_patches,
    patch_centres_px,
    patches_inside,
)
from sparsematch_ros.media.match import PatchNetwork, load_patch_network, match
from sparsematch_ros.media.match_input import read_views
from sparsematch_ros.media.patch_views import feature_picture, match_picture, side_by_side

PATCH = 16


@pytest.fixture(scope="module")
def network() -> PatchNetwork:
    weights = torch.randn(32, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(5))

    def extract(image: np.ndarray) -> torch.Tensor:
        scale = 128 / max(image.shape[:2])
        side = [max(1, round(length * scale / PATCH)) * PATCH for length in image.shape[:2]]
        resized = cv2.resize(image, (side[1], side[0]))
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].float() - 127.5
        return torch.nn.functional.conv2d(pixels, weights, stride=PATCH)[0]

    return PatchNetwork(extract, 128)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(file: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(file), image)
    return file


@pytest.fixture
def shifted(tmp_path: Path) -> tuple[Path, Path]:
    """Two windows of 128 x 96 px on one texture: what B shows lies 2 patches right of and 1 below its place in A."""
    whole = texture(112, 160)
    return write(tmp_path / "a.png", whole[16:, 32:]), write(tmp_path / "b.png", whole[:96, :128])


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "patches.jsonl").read_text().splitlines()]


def test_nearest_patches_in_both_directions() -> None:
    """Unit vectors at known angles: 10, 50 and 90 degrees against 0, 45 and 200."""
    first, second = (
        torch.stack([torch.cos(angles), torch.sin(angles)], dim=1)
        for angles in (torch.deg2rad(torch.tensor(values)) for values in ([10.0, 50.0, 90.0], [0.0, 45.0, 200.0]))
    )
    found = nearest_patches(3.0 * first, 0.2 * second)  # Length does not count.
    assert found.nearest.tolist() == [0, 1, 1]
    assert found.mutual.tolist() == [True, True, False]  # 45 degrees lies nearer to 50 than to 90.
    torch.testing.assert_close(found.cosine, torch.cos(torch.deg2rad(torch.tensor([10.0, 5.0, 45.0]))))


def test_sides_without_patches_and_features_of_two_kinds_are_refused() -> None:
    some = torch.eye(3)
    for pair, side in (((torch.zeros(0, 3), some), "A"), ((some, torch.zeros(0, 3)), "B")):
        with pytest.raises(SparsematchError, match=f"no patch of image {side}"):
            nearest_patches(*pair)
    with pytest.raises(SparsematchError, match="3 and 4 numbers"):
        nearest_patches(some, torch.eye(4))


def test_a_patch_is_inside_where_the_mask_covers_half_of_it() -> None:
    mask = np.zeros((24, 32), dtype=bool)  # 3 x 4 patches of 8 px.
    mask[8:16, 4:19] = True  # Half of one, all of the next, 3/8 of the third.
    inside = patches_inside(mask, (3, 4))
    assert np.argwhere(inside).tolist() == [[1, 0], [1, 1]]
    assert patches_inside(None, (3, 4)).all()
    np.testing.assert_allclose(patch_centres_px(inside, (24, 32)), [[3.5, 11.5], [11.5, 11.5]])
    with pytest.raises(SparsematchError, match="the mask is empty"):
        patches_inside(np.zeros((24, 32), dtype=bool), (3, 4))
    mask[:] = False
    mask[3:6, 3:6] = True
    with pytest.raises(SparsematchError, match=r"9 px covers no patch by half \(one has 8x8 px\).*--zoom"):
        patches_inside(mask, (3, 4))


def test_the_sparse_choice_is_spread_mutual_and_repeatable() -> None:
    inside = np.ones((20, 20), dtype=bool)
    mutual = torch.ones(400, dtype=torch.bool)
    mutual[::7] = False
    matches = PatchMatches(torch.arange(400), torch.ones(400), mutual)
    chosen = choose_sparse(matches, inside, 0.1)
    assert len(chosen) == 40 and mutual[chosen].all() and len(set(chosen.tolist())) == 40
    assert choose_sparse(matches, inside, 0.1).tolist() == chosen.tolist()
    quarters = np.zeros((2, 2))
    for row, column in np.argwhere(inside)[chosen]:
        quarters[row // 10, column // 10] += 1
    assert quarters.min() >= 8 and quarters.max() <= 12  # 10 each, if evenly.
    assert len(choose_sparse(matches, inside, 1.0)) == int(mutual.sum())  # Mutual ones alone,
    none = PatchMatches(torch.arange(400), torch.ones(400), torch.zeros(400, dtype=torch.bool))
    assert len(choose_sparse(none, inside, 0.5)) == 200  # unless there is none.
    assert len(choose_sparse(matches, inside, 1e-6)) == 1
    for wrong in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(SparsematchError, match="over 0 and at most 1"):
            choose_sparse(matches, inside, wrong)


def test_colours_are_the_three_directions_in_which_all_patches_differ_most() -> None:
    """Directions that are planted in 40 dimensions come back in their order, with one meaning in both images."""
    chance = np.random.default_rng(4)
    axes = np.linalg.qr(chance.standard_normal((40, 4)))[0].T
    amounts = chance.uniform(-1, 1, (300, 3)) * [0.3, 0.2, 0.1]
    rows = torch.from_numpy(axes[3] + amounts @ axes[:3]).float()  # Nearly unit vectors already.
    first, second = principal_colours(rows[:100], torch.cat([rows[100:], rows[:5]]))
    assert first.shape == (100, 3) and second.shape == (205, 3) and first.dtype == np.float32
    np.testing.assert_allclose(second[200:], first[:5], atol=1e-4)
    colours = np.concatenate([first, second[:200]])
    assert colours.min() == 0 and colours.max() == 1
    for channel in range(3):
        assert abs(np.corrcoef(colours[:, channel], amounts[:, channel])[0, 1]) > 0.97


def test_colours_of_patches_that_do_not_differ_are_grey() -> None:
    first, second = principal_colours(torch.ones(1, 8), torch.ones(3, 8))
    assert (first == 0.5).all() and (second == 0.5).all()


def test_feature_picture_paints_patches_in_their_place_and_darkens_the_rest() -> None:
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    inside = np.zeros((2, 3), dtype=bool)
    inside[0, 2] = inside[1, 0] = True
    picture = feature_picture(image, inside, np.array([[1, 0, 0.5], [0, 1, 0]], dtype=np.float32))
    assert (picture[:20, 40:] == [255, 0, 128]).all() and (picture[20:, :20] == [0, 255, 0]).all()
    assert (picture[:20, :40] == 30).all() and (picture[20:, 20:] == 30).all()


def test_lines_end_at_the_places_that_match() -> None:
    """A is enlarged 4 times to 480 px, B is as it is and stands 8 px right of it."""
    images = np.zeros((90, 120, 3), np.uint8), np.zeros((500, 600, 3), np.uint8)
    masks = None, np.ones((500, 600), dtype=bool)
    places = np.array([[[59.5, 59.5], [300.0, 250.0]]])
    picture = match_picture(images, masks, places, "")
    assert picture.shape == (500, 480 + 8 + 600, 3)
    plain = match_picture(images, masks, places[:0], "")
    rows, columns = np.nonzero((picture != plain).any(axis=2))
    reach = 8  # Half a ring and a line.
    np.testing.assert_allclose([columns.min(), columns.max()], [4 * 60 - 0.5, 488 + 300], atol=reach)
    np.testing.assert_allclose([rows.min(), rows.max()], [4 * 60 - 0.5, 250], atol=reach)


def test_large_pictures_are_reduced() -> None:
    joined, layout = side_by_side([np.zeros((3072, 4096, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)])
    assert joined.shape == (960, 1280 + 8 + 480, 3)
    np.testing.assert_allclose(layout, [[1280 / 4096, 0], [480 / 64, 1288]])


def test_a_shift_by_whole_patches_is_found_exactly(
    shifted: tuple[Path, Path], network: PatchNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert match(shifted, (None, None), Config(), out, 0.25, network=network) == 0
    rows = rows_of(out)
    assert len(rows) == 6 * 8
    # The content of A's left 6 columns and upper 5 rows of patches is in B.
    common = [row for row in rows if row["a_px"][0] < 96 and row["a_px"][1] < 80]
    assert len(common) == 30
    for row in common:
        assert np.subtract(row["b_px"], row["a_px"]).tolist() == [32, 16]
        assert row["mutual"] and row["cosine"] == pytest.approx(1, abs=1e-5)
    assert max(row["cosine"] for row in rows if row not in common) < 0.9
    figures = json.loads((out / "match.json").read_text())
    assert (figures["patches_a"], figures["patches_b"], figures["drawn"]) == (48, 48, 12)
    assert figures["mutual"] == sum(row["mutual"] for row in rows)
    assert figures["mutual_share"] == pytest.approx(figures["mutual"] / 48, abs=1e-4)
    assert figures["mean_cosine"] == pytest.approx(np.mean([row["cosine"] for row in rows]), abs=1e-4)
    assert figures["median_displacement_px"] == [32, 16]
    assert sum(row["drawn"] for row in rows) == 12
    assert all(row["mutual"] for row in rows if row["drawn"])
    assert cv2.imread(str(out / "features_a.png")).shape == (96, 128, 3)
    assert "12 of 48 patches drawn" in capsys.readouterr().out
    first, second = (cv2.imread(str(out / f"features_{side}.png")) for side in "ab")
    np.testing.assert_array_equal(first[:80, :96], second[16:, 32:])  # The same patch has the same colour in both.


def test_masks_choose_the_patches(shifted: tuple[Path, Path], network: PatchNetwork, tmp_path: Path) -> None:
    """16 bit labels in A, a colour mask in B; only patches inside take part, and the rest of the picture is dark."""
    labels, colours = np.zeros((96, 128), np.uint16), np.zeros((96, 128, 3), np.uint8)
    labels[16:48, 32:80] = 1000
    colours[32:64, 64:112, 0] = 1
    masks = write(tmp_path / "ma.png", labels), write(tmp_path / "mb.png", colours)
    match(shifted, masks, Config(), tmp_path / "out", 1.0, network=network)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 6 and all(row["mutual"] and row["drawn"] for row in rows)
    assert {tuple(np.subtract(row["b_px"], row["a_px"])) for row in rows} == {(32.0, 16.0)}
    picture = cv2.imread(str(tmp_path / "out" / "features_a.png"))
    assert picture[labels == 0].max() <= 0.15 * 255 + 1
    assert json.loads((tmp_path / "out" / "match.json").read_text())["patches_b"] == 6


def test_zoom_looks_around_the_masks_and_speaks_of_the_whole_image(network: PatchNetwork, tmp_path: Path) -> None:
    """A mark of 16 px on grey, 150 px further right and 40 px further down in B."""
    paths, masks = [], []
    for name, left, top in (("a", 40, 60), ("b", 190, 100)):
        image, mask = np.full((200, 300, 3), 90, np.uint8), np.zeros((200, 300), np.uint8)
        image[top : top + 16, left : left + 16] = texture(16, 16, 3)
        mask[top : top + 16, left : left + 16] = 255
        paths.append(write(tmp_path / f"{name}.png", image))
        masks.append(write(tmp_path / f"m{name}.png", mask))
    match(tuple(paths), tuple(masks), Config(), tmp_path / "out", 1.0, zoom=True, network=network)
    figures = json.loads((tmp_path / "out" / "match.json").read_text())
    # 128 px of input: regions of 32 px around the marks, and 8 x 8 patches in each.
    assert figures["region_a_xywh_px"] == [32, 52, 32, 32] and figures["region_b_xywh_px"] == [182, 92, 32, 32]
    assert figures["patch_size_a_px"] == [4, 4]
    assert cv2.imread(str(tmp_path / "out" / "features_b.png")).shape == (32, 32, 3)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 16 and min(row["a_px"][0] for row in rows) == 41.5
    assert {tuple(np.subtract(row["b_px"], row["a_px"])) for row in rows} == {(150.0, 40.0)}


def test_16_bit_images_share_one_scale(tmp_path: Path) -> None:
    """A 12 bit camera's samples in 16 bit files: the darker image stays darker."""
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
    files = write(tmp_path / "a.png", ramp), write(tmp_path / "b.png", ramp // 4)
    bright, dark = read_views(files, (None, None))
    assert bright.image.max() == 255
    np.testing.assert_allclose(dark.image, bright.image / 4, atol=1)


def test_colour_order_is_rgb(tmp_path: Path) -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue first.
    file = write(tmp_path / "red.png", red)
    assert read_views((file, file), (None, None))[0].image[0, 0].tolist() == [255, 0, 0]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, str]:
    """Good and bad files by name."""
    write(tmp_path / "good.png", texture(48, 64))
    write(tmp_path / "tiny.png", texture(16, 16))
    write(tmp_path / "empty_mask.png", np.zeros((48, 64), np.uint8))
    write(tmp_path / "other_mask.png", np.full((48, 65), 255, np.uint8))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "nothing.png").write_bytes(b"")
    names = ("good", "tiny", "empty_mask", "other_mask", "text", "nothing", "missing")
    return {name: str(tmp_path / f"{name}.png") for name in names} | {"out": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["text", "good"], "text.png: not a readable image"),
        (["good", "nothing"], "nothing.png: not a readable image (0 bytes)"),
        (["good", "missing"], "missing.png: cannot be read: No such file"),
        (["tiny", "good"], "tiny.png has 16x16 px: at least 32 px a side"),
        (["good", "good", "--mask-a", "other_mask"], "other_mask.png has 65x48 px but its image 64x48"),
        (["good", "good", "--mask-b", "empty_mask"], "empty_mask.png is empty: no pixel is over 0"),
        (["good", "good", "--mask-b", "text"], "text.png is not a readable image; give a PNG"),
        (["good", "good", "--mask-b", "nothing"], "nothing.png is not a readable image"),
        (["good", "good", "--mask-a", "missing"], "missing.png"),
        (["good", "good", "--fraction", "0"], "--fraction 0.0: must be over 0 and at most 1"),
        (["good", "good", "--fraction", "nan"], "--fraction nan: must be"),
        (["good", "good", "--set", "description.source=none"], "'none' has no patches to match"),
        (["good", "good", "--set", "model.sam_checkpoint=missing.pt"], "missing.pt"),
        (["good", "good", "--out", "good"], "good.png"),
    ],
)
def test_bad_input_ends_with_one_line(
    arguments: list[str], words: str, inputs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [inputs.get(argument, argument) for argument in arguments]
    assert cli.main(["match", *(["--out", inputs["out"]] if "--out" not in given else []), *given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("sparsematch: error: ") and words in lines[0]


def test_a_mask_too_small_for_a_patch_names_its_file(
    shifted: tuple[Path, Path], network: PatchNetwork, tmp_path: Path
) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[40:44, 40:44] = 1
    file = write(tmp_path / "small.png", mask)
    with pytest.raises(SparsematchError, match=r"small\.png: the mask of 16 px covers no patch"):
        match(shifted, (file, None), Config(), tmp_path / "out", 0.2, network=network)


def test_dinov2_is_loaded_alone(tmp_path: Path) -> None:
    """Its missing checkpoint is named, and SAM's is not asked for."""
    config = Config(description=DescriptionConfig(source="dinov2", dinov2_checkpoint=str(tmp_path / "none.pth")))
    with pytest.raises(SparsematchError, match=r"none\.pth"):
        load_patch_network(config)


def test_help_says_what_is_done_without_a_mask(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["match", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for words in ("--mask-a FILE", "(the whole image)", "--fraction SHARE", "--zoom", "--config FILE"):
        assert words in text
