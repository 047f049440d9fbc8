"""Segments made by hand, for the tests of the stages behind segmentation, and a small SAM that finds something."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from segment_anything.modeling import Sam
from torch.nn import functional

from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import Config, TrackingConfig
from sparsematch_ros.data import (
    NANOSECONDS,
    Descriptors,
    FloatArray,
    Frame,
    FrameResult,
    Matches,
    PromptReason,
    SpaceObject,
)
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.segmentation.models import TinyVitEncoder, build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segments import Segments
from sparsematch_ros.simulation.stars import add_spots
from sparsematch_ros.tracking.models import ModelBank
from sparsematch_ros.tracking.table import TrackTable
from sparsematch_ros.tracking.tracker import Tracker


def _points(
    centroids_px: object,
    size: tuple[int, int] = (480, 640),
    sigma_px: float = 0.1,
    fluxes: float | list[float] = 500.0,
) -> Segments:
    """Build point sources of 3 px across in a frame of `size` (height, width)."""
    centroids = np.asarray(centroids_px, dtype=np.float64).reshape(-1, 2)
    count = len(centroids)
    return Segments(
        masks=torch.zeros((0, *size), dtype=torch.bool),
        boxes_xywh_px=np.concatenate([centroids - 1, np.full((count, 2), 3.0)], axis=1),
        areas_px=np.full(count, np.pi / 4 * 9),
        reasons=np.full(count, int(PromptReason.POINT_SOURCE), dtype=np.int64),
        fluxes=np.broadcast_to(np.asarray(fluxes, dtype=np.float64), (count,)).copy(),
        moving_shares=np.full(count, np.nan),
        fixed_priors=np.full(count, 0.1),
        **_places(centroids, sigma_px),
    )


def _squares(
    centres_px: object,
    side_px: int = 11,
    size: tuple[int, int] = (120, 160),
    sigma_px: float = 0.3,
    moving_share: float = float("nan"),
) -> Segments:
    """Build square masks of an odd side around whole pixels, wholly inside a frame of `size` (height, width)."""
    centres = np.asarray(centres_px, dtype=np.int64).reshape(-1, 2)
    count, half = len(centres), side_px // 2
    masks = torch.zeros((count, *size), dtype=torch.bool)
    for mask, (x, y) in zip(masks, centres, strict=True):
        mask[y - half : y + half + 1, x - half : x + half + 1] = True
    assert (masks.flatten(1).sum(dim=1) == side_px**2).all(), "a square of the test leaves its frame"
    return Segments(
        masks=masks,
        boxes_xywh_px=np.concatenate([centres - half, np.full((count, 2), side_px)], axis=1).astype(np.float64),
        areas_px=np.full(count, float(side_px**2)),
        reasons=np.full(count, int(PromptReason.EXPECTED), dtype=np.int64),
        fluxes=np.full(count, np.nan),
        moving_shares=np.full(count, moving_share),
        fixed_priors=np.full(count, 1e-4),
        **_places(centres.astype(np.float64), sigma_px),
    )


def _places(centroids: FloatArray, sigma_px: float) -> dict[str, Any]:
    """Build what all segments have: the places `(N, 2)`, whose error is `sigma_px` an axis, and SAM's figures."""
    count = len(centroids)
    return {
        "centroids_px": centroids,
        "offsets_px": np.zeros((count, 2)),
        "covariances_px2": np.tile(sigma_px**2 * np.eye(2), (count, 1, 1)),
        "mobilities": np.tile(np.eye(2), (count, 1, 1)),
        "scores": np.full(count, 0.9),
        "stability": np.ones(count),
        "faint": np.zeros(count, dtype=bool),
    }


@pytest.fixture
def points() -> Callable[..., Segments]:
    """Return the maker of point sources."""
    return _points


@pytest.fixture
def squares() -> Callable[..., Segments]:
    """Return the maker of square masks."""
    return _squares


def _table_of(
    states: object, boxes: object, points: object = False, sigma_px_s: float = 1.0, log_odds: float = 3.0
) -> TrackTable:
    """Build objects whose motion is known to 1 px and `sigma_px_s` an axis."""
    rows, corners = np.asarray(states, dtype=np.float64), np.asarray(boxes, dtype=np.float64)
    count = len(rows)
    unlikely = np.full(count, 1e-4)
    born = ModelBank.born(rows[:, :2], np.tile(np.eye(2), (count, 1, 1)), unlikely, unlikely, 1.0)
    repeated = np.repeat(rows[:, None], born.states.shape[1], axis=1)
    spread = np.diag([1, 1, sigma_px_s**2, sigma_px_s**2])
    bank = ModelBank(born.log_weights, repeated, np.tile(spread, (count, born.states.shape[1], 1, 1)))
    areas = corners[:, 2:].prod(axis=1)
    return TrackTable.empty().born(
        bank, log_odds, 0, boxes_xywh_px=corners, areas_px=areas, fluxes=np.full(count, np.nan),
        mobilities=np.tile(np.eye(2), (count, 1, 1)), offsets_px=np.zeros((count, 2)), segment_rows=np.arange(count),
        point_source=np.broadcast_to(np.asarray(points), (count,)).copy(), descriptors=torch.zeros((count, 0)),
    )  # fmt: skip


@pytest.fixture
def table_of() -> Callable[..., TrackTable]:
    """Return the maker of tables of tracked objects."""
    return _table_of


class Line:
    """Association and tracking in the order of the pipeline, on segments from outside.

    Attributes:
        stamp_s: time of the last frame [s].
        background: its motion.
        matches: its pairs with the frame before.

    """

    def __init__(self, camera: CameraModel | None = None, **settings: float) -> None:
        """Follow nothing yet; `settings` are those of `TrackingConfig`."""
        self.config = TrackingConfig(**settings)  # type: ignore[arg-type]
        self.tracker = Tracker(self.config)
        self.camera = camera
        self.stamp_s = 0.0
        self.background = Background()
        self.matches: Matches | None = None
        self._past: Segments | None = None

    def step(
        self,
        segments: Segments,
        dt_s: float = 0.1,
        homography: FloatArray | None = None,
        vectors: torch.Tensor | None = None,
        valid: bool = True,
        faint: int = 0,
        ground: FloatArray | None = None,
    ) -> tuple[SpaceObject, ...]:
        """Process the next frame, whose stars moved by `homography` and whose ground by `ground`, both exactly known.

        The stars are the reference. As in the pipeline nothing is known of the motion on the first frame and across a
        gap, nor where it is not `valid`.
        """
        first = self._past is None
        self.stamp_s += 0.0 if first else dt_s
        gap = not first and dt_s > self.config.max_gap_s
        self.background = Background(dt_s=0.0 if first else dt_s, gap=gap)
        if valid and not first and not gap:
            exact = np.zeros((9, 9))
            stars = Layer(LayerKind.STARS, np.eye(3) if homography is None else homography, exact)
            earth = None if ground is None else Layer(LayerKind.GROUND, ground, exact)
            self.background = Background(dt_s=dt_s, reference=stars, ground=earth, stars=stars, method="stars")
        predictions = self.tracker.predict(self.background)
        descriptors = Descriptors(torch.zeros((len(segments), 0)) if vectors is None else vectors)
        image = np.broadcast_to(np.uint8(0), (*segments.masks.shape[1:], 3))
        frame = Frame(0, round(self.stamp_s * 1e9), image, self.camera)
        objects, self.matches = self.tracker.step(
            frame, self.background, segments, descriptors, predictions, self._past, faint
        )
        self._past = segments
        return objects


@pytest.fixture
def line() -> Callable[..., Line]:
    """Return the maker of a line of association and tracking."""
    return Line


BLOB_SIDE = 128  # Input of the small SAM [px].
# What its four outputs draw around the point that is asked [px of the input].
BLOB_RADII = (16.0, 20.0, 26.0, 34.0)
_MODES = 5


class _PlacedEncoder(TinyVitEncoder):
    """MobileSAM's encoder with random weights, to which slow waves over the picture are added: where a place is."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = super().forward(image)
        return 0.1 * features + 2 * _waves((features.shape[2], features.shape[3]))


def _waves(grid: tuple[int, int]) -> torch.Tensor:
    """Compute a random mixture of cosines in each of 256 channels, `(1, 256, h, w)`."""
    mixture = torch.randn(256, _MODES, _MODES, generator=torch.Generator().manual_seed(2)) / _MODES
    across = [torch.cos(torch.outer(torch.arange(_MODES), (torch.arange(n) + 0.5) / n * torch.pi)) for n in grid]
    return torch.einsum("cij,iy,jx->cyx", mixture, *across)[None]


def _draw_blobs(sam: Sam, points: torch.Tensor) -> None:
    """Fit the last layers of a random decoder, by least squares, so that it draws discs around points `(P, 2)`."""
    decoder, grid = sam.mask_decoder, sam.prompt_encoder.image_embedding_size
    hidden: list[torch.Tensor] = []
    drawn: list[torch.Tensor] = []
    hooks = [
        mlp.layers[-1].register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
        for mlp in decoder.output_hypernetworks_mlps
    ]
    hooks.append(decoder.output_upscaling.register_forward_hook(lambda _, given, made: drawn.append(made[0])))
    asked, half = (points[:, None], torch.ones(len(points), 1)), 10 + 30 * torch.rand(len(points), 1)
    for boxes in (None, torch.cat([points - half, points + half], dim=1)):
        sparse, dense = sam.prompt_encoder(asked, boxes, None)
        decoder.predict_masks(2 * _waves(grid), sam.prompt_encoder.get_dense_pe(), sparse, dense)
    for hook in hooks:
        hook.remove()
    cells = torch.arange(4 * grid[0]) * 4 + 1.5
    distance = torch.hypot(cells[None, None] - points[:, :1, None], cells[None, :, None] - points[:, 1:, None])
    for number, (mlp, radius) in enumerate(zip(decoder.output_hypernetworks_mlps, BLOB_RADII, strict=True)):
        wanted = ((radius - distance.flatten(1)) / 4).clamp(-2, 4).double()
        kernels = _ridge(drawn[0].flatten(1).T.double(), wanted.T)
        states = torch.cat([hidden[number], hidden[number + len(BLOB_RADII)]])
        fitted = _ridge(functional.pad(states, (0, 1), value=1.0).double(), kernels.T.repeat(2, 1))
        mlp.layers[-1].weight.copy_(fitted[:-1].T)
        mlp.layers[-1].bias.copy_(fitted[-1])


def _ridge(inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(inputs.T @ inputs + 1e-4 * torch.eye(inputs.shape[1]), inputs.T @ wanted)


@pytest.fixture(scope="session")
def blob_sam() -> PromptedSam:
    """Build a small SAM of mostly random weights that draws a rough blob around what it is asked for.

    Masks of random weights are noise that reaches every border; crops, duplicates and parts of a frame need masks that
    lie somewhere. Predicted IoU is random, from about -1 to 2.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    sam = build_sam("mobile_sam", None, BLOB_SIDE)
    sam.image_encoder = _PlacedEncoder(BLOB_SIDE).eval().requires_grad_(False)
    for layer in sam.mask_decoder.transformer.layers:  # The picture stays as it is, so that the fit is a linear one.
        layer.cross_attn_image_to_token.out_proj.weight.zero_()
    for number in (0, 3):  # Rough shapes of whole features instead of a pattern inside each.
        weight = sam.mask_decoder.output_upscaling[number].weight
        weight.copy_(weight[:, :, :1, :1].expand_as(weight))
    _draw_blobs(sam, BLOB_SIDE * torch.rand(300, 2))
    final = sam.mask_decoder.iou_prediction_head.layers[-1]
    final.weight.mul_(12.0)
    final.bias.add_(0.6)
    torch.random.set_rng_state(state)
    return PromptedSam(sam, torch.device("cpu"))


# A camera that turns before a sky, and what crosses it [px/s].
SKY_CAMERA, SKY_DT_S = CameraModel.from_fov(320, 240, 10.0), 0.2
SKY_TURN_RAD_S, SKY_MOVER_PX_S = np.radians([0.1, 0.17, 0.8]), 25.0


class TurningSky:
    """A noisy sky before a camera that turns, and in it a bright point that crosses the stars at 25 px/s."""

    def __init__(self, mover: bool = True, seed: int = 7) -> None:
        """Draw the stars; `mover`: whether the point is there."""
        self.rng = np.random.default_rng(seed)
        field_px = self.rng.uniform((-120, -120), (440, 360), (150, 2))
        self.stars_N = SKY_CAMERA.bearings(field_px[np.abs(field_px[:, 1] - 120) > 12])
        self.fluxes = 10 ** self.rng.uniform(1.9, 3.2, len(self.stars_N))
        self.mover = mover

    def attitude(self, number: int) -> Rotation:
        """Compute R_NC of a frame."""
        return Rotation.from_rotvec(SKY_DT_S * number * SKY_TURN_RAD_S)

    def place(self, number: int, camera: CameraModel = SKY_CAMERA) -> np.ndarray:
        """Compute the mover's true place `(2,)` in the pixels of a camera."""
        mover_N = SKY_CAMERA.bearings(np.array([[90 + SKY_MOVER_PX_S * SKY_DT_S * number, 120.0]]))
        return camera.project(self.attitude(number).inv().apply(mover_N))[0]

    def levels(self, number: int, camera: CameraModel = SKY_CAMERA) -> np.ndarray:
        """Draw a frame in grey levels, `(height, width, 3)`."""
        image = np.full((camera.height, camera.width, 3), 6.0, dtype=np.float32)
        places = camera.project(self.attitude(number).inv().apply(self.stars_N))
        add_spots(image, places, np.repeat(self.fluxes[:, None], 3, axis=1), 1.1)
        if self.mover:
            add_spots(image, self.place(number, camera)[None], np.full((1, 3), 600.0), 1.1)
        return image + self.rng.normal(0, 1.2, image.shape[:2])[..., None]

    def frame(self, number: int, camera: CameraModel = SKY_CAMERA, attitude: bool = False) -> Frame:
        """Take a frame, with the true attitude or without."""
        q_NC = self.attitude(number).as_quat() if attitude else None
        return self.as_frame(self.levels(number, camera), number, camera, q_NC)

    @staticmethod
    def as_frame(
        levels: np.ndarray, number: int, camera: CameraModel | None = SKY_CAMERA, q_NC: np.ndarray | None = None
    ) -> Frame:
        """Turn grey levels `(H, W, 3)` into a frame."""
        image = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return Frame(number, round(SKY_DT_S * number * NANOSECONDS), image, camera, q_NC)

    @staticmethod
    def reported(result: FrameResult) -> list[SpaceObject]:
        """Select what is reported."""
        return [item for item in result.objects if item.reported]

    @staticmethod
    def check_numbers(result: FrameResult) -> None:
        """Check that everything which is said is a number: None alone is unknown."""
        for item in result.objects:
            for value in vars(item).values():
                if isinstance(value, (float, np.ndarray)):
                    assert np.isfinite(value).all()
        for name in ("displacement_px", "velocity_px_s", "velocity_covariance", "bidirectional"):
            assert np.isfinite(getattr(result.matches, name)).all()
        assert np.isfinite(result.background.homography).all()


@pytest.fixture
def sky() -> type[TurningSky]:
    """Return the maker of a sky before a camera that turns."""
    return TurningSky


@pytest.fixture
def pipeline(blob_sam: PromptedSam) -> Iterator[Pipeline]:
    """Build a line on one thread: several wait for each other on a busy machine, for forty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Pipeline(Config(), Models(blob_sam, None))
    torch.set_num_threads(threads)
