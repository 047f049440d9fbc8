"""Residual motion against a remembered background, and the regions that come of it, against drawn scenes."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.detection.detector import Detections, Detector
from sparsematch_ros.detection.evidence import Evidence, ResidualMotion
from sparsematch_ros.detection.radiance import measure_radiance
from sparsematch_ros.detection.regions import EVIDENT
from sparsematch_ros.geometry import apply_homography

SIZE = (240, 320)
Y, X = np.indices(SIZE)
INNER = np.pad(np.ones((SIZE[0] - 8, SIZE[1] - 8), dtype=bool), 4)
# The ground turns by 0.7 deg a frame, comes 0.2 % nearer, and runs.
TURN = np.array([[1.003, -0.012, 4.0], [0.012, 1.002, -3.0], [6e-6, -4e-6, 1]])
STILL = np.eye(3)


def frame_of(levels: np.ndarray, index: int = 0) -> Frame:
    image = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    return Frame(index, index * 10**8, np.repeat(image[..., None], 3, axis=2))


def moved_by(homography: np.ndarray, kind: LayerKind) -> Background:
    layer = Layer(kind, homography, np.zeros((9, 9)), 50, 0.1)
    stars, ground = (layer, None) if kind == LayerKind.STARS else (None, layer)
    return Background(0.1, layer, ground, stars, kind.name.lower())


def detect_all(
    frames: list[Frame], homography: np.ndarray, kind: LayerKind, objects: list[np.ndarray] | None = None
) -> list[Detections]:
    """Run the detector over frames whose background moves by one homography, with the objects of the frame before."""
    detector, found = Detector(SegmentationConfig()), []
    for index, frame in enumerate(frames):
        background = moved_by(homography, kind) if index else Background()
        known = objects[index - 1] if objects and index else None
        found.append(detector.detect(detector.measure(frame), background, known))
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


# Before the ground


@dataclass
class Ground:
    """Ground that moves by a homography a frame, and a patch that moves against it."""

    homography: np.ndarray
    side: tuple[int, int] = (24, 20)  # Width and height [px].
    shift_px: tuple[float, float] = (28.0, 0.0)
    start: tuple[float, float] = (60.0, 100.0)
    added: float | None = None  # A ghost adds this to the ground, a body hides it.
    frames: list[Frame] = field(default_factory=list)
    patches: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        wide, body = _texture((440, 520), rng), _texture(self.side[::-1], rng) - 40
        so_far, middle = np.array([[1.0, 0, -100], [0, 1, -100], [0, 0, 1]]), np.array([self.start])
        for index in range(6):
            levels = cv2.warpPerspective(wide, so_far, SIZE[::-1], flags=cv2.INTER_CUBIC)
            x, y = np.rint(middle[0] - np.array(self.side) / 2).astype(int)
            patch = np.zeros(SIZE, dtype=bool)
            patch[y : y + self.side[1], x : x + self.side[0]] = True
            levels[patch] = body.ravel() if self.added is None else levels[patch] + self.added
            self.frames.append(frame_of(cv2.GaussianBlur(levels, (0, 0), 0.7) + rng.normal(0, 1, SIZE), index))
            self.patches.append(patch)
            so_far = self.homography @ so_far
            middle = apply_homography(self.homography, middle) + self.shift_px


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw ground with detail of every size from 2 px up, standard deviation 35 around 140."""
    total = np.zeros(shape)
    for sigma in (2, 5, 12, 30):
        layer = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigma)
        total += layer / layer.std()
    return np.asarray(np.clip(140 + 35 * total / total.std(), 0, 255))


def evidence_of(scene: Ground, objects: bool = False) -> list[Evidence | None]:
    residual, everywhere = ResidualMotion(), np.ones(SIZE, dtype=bool)
    return [
        residual(
            measure_radiance(frame).smooth,
            moved_by(scene.homography, LayerKind.GROUND) if index else Background(),
            everywhere,
            scene.patches[index - 1] if objects and index else None,
        )
        for index, frame in enumerate(scene.frames)
    ]


@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turning"])
def test_what_moves_with_the_ground_is_explained(homography: np.ndarray) -> None:
    """A patch at rest on the ground; of noise alone 0.05 % of the pixels are beyond 3.5 deviations."""
    for evidence in evidence_of(Ground(homography, shift_px=(0.0, 0.0)))[3:]:
        assert evidence is not None
        assert (evidence.deviations > EVIDENT).mean() < 2e-3


@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turning"])
def test_what_moves_against_the_ground_is_not(homography: np.ndarray) -> None:
    scene = Ground(homography)
    for index, evidence in enumerate(evidence_of(scene)[3:], 3):
        assert evidence is not None
        patch = scene.patches[index]
        around = cv2.dilate(patch.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert (evidence.deviations[patch] > EVIDENT).mean() > 0.7
        # Two frames back, the place that the patch has left shows ground.
        assert (evidence.deviations[~around] > EVIDENT).mean() < 2e-3
        # What is expected is the ground, where nothing hides it: below the patch it is not what is seen.
        seen = measure_radiance(scene.frames[index]).smooth
        assert np.abs(evidence.expected - seen)[patch].mean() > 20
        assert np.abs(evidence.expected - seen)[~around & INNER].mean() < 2


def test_the_ground_below_a_tracked_object_is_remembered() -> None:
    """A body of 30 px moves by 10 px a frame: what it uncovers was hidden in both frames before, but not earlier."""
    scene = Ground(STILL, side=(30, 24), shift_px=(10.0, 0.0), start=(60.0, 100.0))
    # Memory begins with frame 1, body and blur included.
    known = scene.patches[1] | scene.patches[5]
    known = cv2.dilate(known.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    uncovered = scene.patches[3] & scene.patches[4] & ~known
    blind, led = (evidence_of(scene, objects)[5] for objects in (False, True))
    assert blind is not None and led is not None and uncovered.sum() == 4 * 24
    assert (blind.deviations[uncovered] > EVIDENT).mean() > 0.5
    assert (led.deviations[uncovered] > EVIDENT).mean() < 0.02
    assert (led.deviations[scene.patches[5]] > EVIDENT).mean() > 0.7


def test_evidence_needs_two_frames_and_a_layer() -> None:
    scene, everywhere = Ground(STILL), np.ones(SIZE, dtype=bool)
    residual, known = ResidualMotion(), moved_by(STILL, LayerKind.GROUND)
    smooth = [measure_radiance(frame).smooth for frame in scene.frames]
    assert residual(smooth[0], Background(), everywhere, None) is None
    assert residual(smooth[1], known, everywhere, None) is None
    for index in (2, 3, 4):
        evidence = residual(smooth[index], known, everywhere, None)
    assert evidence is not None
    assert residual(smooth[5], Background(0.1), everywhere, None) is None
    assert residual(smooth[5], known, everywhere, None) is None
    residual.reset()
    assert residual(smooth[5], known, everywhere, None) is None


def test_what_the_last_frames_did_not_show_is_not_judged() -> None:
    """A pan by 40 px: the strip that enters, and the image's border, have no deviations."""
    pan = np.array([[1.0, 0, -40], [0, 1, 0], [0, 0, 1]])
    evidence = evidence_of(Ground(pan, shift_px=(0.0, 0.0), start=(280.0, 100.0)))[3]
    assert evidence is not None
    assert not evidence.deviations[:, -40:].any() and not evidence.deviations[[0, -1]].any()
    assert np.isfinite(evidence.deviations).all() and evidence.deviations[:, :-44].any()


@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turning"])
def test_a_mover_over_the_ground_is_a_region(homography: np.ndarray) -> None:
    scene = Ground(homography)
    for patch, found in list(zip(scene.patches, detect_all(scene.frames, homography, LayerKind.GROUND)))[3:]:
        assert len(found.regions) == 1 and len(found.sources) == 0
        # One pixel more or less on each side of 24 x 20 px is 0.83.
        assert overlap(found.regions.labels == 1, patch) > 0.83
        assert found.regions.areas_px[0] == pytest.approx(24 * 20, rel=0.12)
        assert not found.regions.sky.any()


@pytest.mark.parametrize("added", [40.0, -40.0])
@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turning"])
def test_a_ghost_that_the_ground_shines_through_is_no_region(homography: np.ndarray, added: float) -> None:
    """The same patch, which adds 40 levels to the ground instead of hiding it."""
    scene = Ground(homography, added=added)
    for evidence in evidence_of(scene)[3:]:
        assert evidence is not None and (evidence.deviations > 2 * EVIDENT).sum() > 200, "the ghost is too faint"
    for found in detect_all(scene.frames, homography, LayerKind.GROUND)[3:]:
        assert len(found.regions) == 0


def test_what_is_expected_is_known_up_to_the_border_and_ghosts_there_are_no_regions() -> None:
    """A ghost of 24 x 20 px from 6 px below the upper border on, that moves along it."""
    scene = Ground(STILL, start=(60.0, 16.0), added=40.0)
    for evidence in evidence_of(scene)[3:]:
        assert evidence is not None and np.isfinite(evidence.expected).all()
        assert (evidence.deviations > 2 * EVIDENT).sum() > 200, "the ghost is too faint"
    assert not any(len(found.regions) for found in detect_all(scene.frames, STILL, LayerKind.GROUND)[3:])


# Where a motion would show


def striped(jump_px: int, seed: int) -> Frame:
    """Draw stripes on the left half and nothing on the right; 40 x 40 px of each may have moved across the stripes."""
    bright, moved = (140 + 30 * np.sin(2 * np.pi * x / 24 + 0.8 * np.sin(x / 17.0)) for x in (X, X - jump_px))
    patch = (Y >= 90) & (Y < 130) & (((X >= 50) & (X < 90)) | ((X >= 210) & (X < 250)))
    levels = np.where(X < 160, np.where(patch, moved, bright), 140.0)
    return frame_of(cv2.GaussianBlur(levels, (0, 0), 1.0) + np.random.default_rng(seed).normal(0, 1, SIZE))


def test_visible_is_where_a_motion_by_a_pixel_is_evident() -> None:
    """Four frames at rest, then part of the stripes jumps by a pixel: what was visible shows it, and little else does.

    The jump changes a pixel by as much as its slope, give or take the noise, so near the limit half of them show it.
    """
    residual, known, everywhere = ResidualMotion(), moved_by(STILL, LayerKind.GROUND), np.ones(SIZE, dtype=bool)
    found = [
        residual(measure_radiance(striped(int(index == 4), index)).smooth, known if index else Background(), everywhere,
                 None)
        for index in range(5)
    ]  # fmt: skip
    before, after = found[3:]
    assert before is not None and after is not None
    stripes, even = np.s_[94:126, 54:86], np.s_[94:126, 214:246]
    assert 0.3 < before.visible[stripes].mean() < 0.95  # On the flanks, not on the crests.
    assert before.visible[even].mean() < 0.01
    evident = after.deviations > EVIDENT
    assert evident[stripes][before.visible[stripes]].mean() > 0.8
    assert evident[stripes][~before.visible[stripes]].mean() < 0.3
    assert evident[even].mean() < 0.01
    # The smoothing leans on what is next to the border.
    assert not before.visible[[0, 1, -2, -1]].any() and not before.visible[:, [0, 1, -2, -1]].any()


def test_nothing_is_visible_that_has_just_come_into_view() -> None:
    pan = np.array([[1.0, 0, -40], [0, 1, 0], [0, 0, 1]])
    evidence = evidence_of(Ground(pan, shift_px=(0.0, 0.0), start=(280.0, 100.0)))[3]
    assert evidence is not None
    assert not evidence.visible[:, -40:].any() and evidence.visible[:, :-90].mean() > 0.2


def test_regions_know_where_no_motion_would_show() -> None:
    """NaN on the even half, numbers on the flanks of the stripes."""
    frames = [striped(0, index) for index in range(4)]
    evidence = detect_all(frames, STILL, LayerKind.GROUND)[3].regions.evidence
    assert evidence is not None
    known = np.isfinite(evidence)
    assert known[20:220, 20:140].mean() > 0.3 and known[20:220, 180:300].mean() < 0.02


# Bad images


def bad_images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "black": np.zeros(SIZE),
        "white": np.full(SIZE, 255.0),
        "bytes at random": rng.integers(0, 256, SIZE).astype(float),
        "every pixel hot": np.where((X + Y) % 2 == 0, 255.0, 0.0),
        "saturated noise": rng.normal(254, 3, SIZE),
    }


@pytest.mark.parametrize("kind", [LayerKind.STARS, LayerKind.GROUND])
@pytest.mark.parametrize("name", list(bad_images()))
def test_bad_images_have_hardly_a_region(name: str, kind: LayerKind) -> None:
    """The same image again and again, and after another one: nothing is found in what repeats or is even."""
    frames = [frame_of(bad_images()[name], index) for index in range(5)]
    for found in detect_all(frames, STILL, kind):
        assert len(found.sources) < 60 and (found.sources.snr >= 5).sum() <= 1
        assert len(found.regions) == 0
        assert np.isfinite(found.radiance.significance).all()


@pytest.mark.parametrize("kind", [LayerKind.STARS, LayerKind.GROUND])
def test_fresh_noise_in_every_frame_is_no_mover(kind: LayerKind) -> None:
    rng = np.random.default_rng(1)
    frames = [frame_of(rng.integers(0, 256, SIZE).astype(float), index) for index in range(6)]
    assert sum(len(found.regions) for found in detect_all(frames, STILL, kind)) == 0


@pytest.mark.parametrize("order", [("black", "white"), ("white", "black")])
def test_a_flash_is_no_flood(order: tuple[str, str]) -> None:
    """All pixels change at once, which no background explains: one region at most, no exception."""
    images = [bad_images()[name] for name in (order[0],) * 3 + (order[1],) * 3]
    frames = [frame_of(image, index) for index, image in enumerate(images)]
    for kind in (LayerKind.STARS, LayerKind.GROUND):
        for found in detect_all(frames, STILL, kind):
            assert len(found.regions) <= 1 and len(found.sources) == 0
