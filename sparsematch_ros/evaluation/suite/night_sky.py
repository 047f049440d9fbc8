"""Real star images seen by a camera that turns by known angles: there is nothing to find, and its turn is known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.background.layers import Background
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import Config
from sparsematch_ros.data import FloatArray, Frame, FrameResult
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.evaluate import evaluate_source, open_evaluation
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.evaluation.suite.keeping import file_digest, kept_or_made, run_key
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.media.calibration import write_camera
from sparsematch_ros.media.figures import rounded
from sparsematch_ros.media.folder_source import IMAGE_SUFFIXES
from sparsematch_ros.media.run import Perception

FRAMES, QUICK_FRAMES = 40, 15
RATE_HZ = 5.0
# The camera sees this share of the image's sides, under this angle; the rest is room to turn.
VIEW_SHARE, VIEW_DEG = 0.6, 20.0
# How far it swings, as a share of the image's sides, and rolls; and over how many frames: up to 9 px a frame.
SWING_SHARE, ROLL_DEG = 0.08, 3.0
SWING_PERIODS, ROLL_PERIOD = (60.0, 47.0), 45.0


@dataclass(frozen=True, eq=False)
class SkyView:
    """A camera that turns in front of a flat image of the sky.

    Attributes:
        camera: its intrinsics.
        homographies: `(F, 3, 3)` pixel of each frame to pixel of the image.

    """

    camera: CameraModel
    homographies: FloatArray

    @classmethod
    def over(cls, width: int, height: int, frames: int) -> SkyView:
        """Plan a smooth turn over an image of the given size [px] that stays inside it."""
        camera = CameraModel.from_fov(round(VIEW_SHARE * width), round(VIEW_SHARE * height), VIEW_DEG)
        focal_px = camera.matrix[0, 0]
        image = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
        time = np.arange(frames)
        right = np.arctan(SWING_SHARE * width / focal_px) * np.sin(2 * np.pi * time / SWING_PERIODS[0])
        down = np.arctan(SWING_SHARE * height / focal_px) * np.sin(2 * np.pi * time / SWING_PERIODS[1])
        roll = np.radians(ROLL_DEG) * np.sin(2 * np.pi * time / ROLL_PERIOD)
        turns = Rotation.from_rotvec(np.stack([-down, right, roll], axis=1)).as_matrix()
        return cls(camera, image @ turns @ np.linalg.inv(camera.matrix))

    def motion(self, frame: int) -> FloatArray:
        """Give the homography `(3, 3)`, pixel of the frame before to pixel of this one; `frame` from 1 on."""
        motion = np.linalg.inv(self.homographies[frame]) @ self.homographies[frame - 1]
        return np.asarray(motion / motion[2, 2])

    def error_px(self, frame: int, homography: FloatArray) -> float:
        """Give how far an estimated motion puts a corner of the image from where it goes, at most [px]."""
        width, height = self.camera.width - 1.0, self.camera.height - 1.0
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        apart = apply_homography(homography, corners) - apply_homography(self.motion(frame), corners)
        return float(np.linalg.norm(apart, axis=1).max())


class MotionKeeper:
    """A pipeline that keeps what it found of the background.

    Attributes:
        device: of the pipeline.
        motions: the background's motion by frame.

    """

    def __init__(self, pipeline: Perception) -> None:
        """Take the pipeline."""
        self._pipeline = pipeline
        self.device = pipeline.device
        self.motions: dict[int, Background] = {}

    def process(self, frame: Frame) -> FrameResult:
        """Process one frame, as the pipeline does."""
        result = self._pipeline.process(frame)
        self.motions[frame.index] = result.background
        return result


def find_skies(folder: Path) -> list[Path]:
    """List the images in a folder.

    Raises:
        SparsematchError: where there is none.

    """
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise SparsematchError(f"{folder} holds no image of a sky ({', '.join(IMAGE_SUFFIXES)})")
    return found


def render_sky(file: Path, view: SkyView, out: Path, with_camera: bool) -> None:
    """Write what the camera sees of the image as a folder to evaluate; there is nothing in its truth.

    Raises:
        SparsematchError: where the image cannot be read.

    """
    image = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if image is None:
        raise SparsematchError(f"{file} is not a readable image")
    (out / "frames").mkdir(parents=True)
    size = (view.camera.width, view.camera.height)
    lines = []
    for number, homography in enumerate(view.homographies):
        seen = cv2.warpPerspective(image, homography, size, flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)
        name = f"{number:06d}.png"
        cv2.imwrite(str(out / "frames" / name), seen)
        lines.append(json.dumps({"frame": number, "file": name, "stamp_s": number / RATE_HZ, "q_NC_xyzw": None}))
    (out / "frames.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "truth.jsonl").write_text("", encoding="utf-8")
    if with_camera:
        write_camera(out / "camera.yaml", view.camera, "sky")


def run_sky(
    file: Path,
    with_camera: bool,
    config: Config,
    device: str,
    pipeline: Callable[[], Perception],
    out: Path,
    frames: int = FRAMES,
) -> Scores:
    """Turn a camera over an image, run and score it, unless that was done.

    Args:
        file: an image of stars.
        with_camera: whether the line is told the intrinsics.
        config: the pipeline's settings.
        device: torch device that it runs on.
        pipeline: makes one that has seen nothing yet.
        out: folder of all runs.
        frames: how many.

    Returns:
        The figures of `metrics.json`, with `background_error_px`, the largest error of a corner over all frames, and
        `background_unknown`, the frames without an estimate.

    """
    own = out / f"{file.stem}_{'camera' if with_camera else 'no_camera'}_frames_{frames}"

    def make() -> Scores:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SparsematchError(f"{file} is not a readable image")
        view = SkyView.over(image.shape[1], image.shape[0], frames)
        with tempfile.TemporaryDirectory() as scratch:
            render_sky(file, view, Path(scratch), with_camera)
            source, truth = open_evaluation(Path(scratch))
            source.name = file.stem
            keeper = MotionKeeper(pipeline())
            scores = evaluate_source(source, truth, keeper, config, own)
        return {**scores, **background_scores(view, keeper.motions)}

    key = run_key(config, device, input_sha256=file_digest(file), with_camera=with_camera, frames=frames)
    return kept_or_made(own, key, make)


def background_scores(view: SkyView, motions: dict[int, Background]) -> Scores:
    """Compare the background's motions by frame with the true ones; the first frame has none."""
    known = {frame: motion.homography for frame, motion in motions.items() if frame > 0 and motion.valid}
    errors = [view.error_px(frame, homography) for frame, homography in known.items()]
    return {
        "background_error_px": rounded(max(errors)) if errors else None,
        "background_unknown": len(view.homographies) - 1 - len(known),
    }
