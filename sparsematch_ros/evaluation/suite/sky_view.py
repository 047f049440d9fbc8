"""A camera that turns in front of a flat image of the sky, through a lens whose distortion nobody is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import FloatArray
from sparsematch_ros.geometry import apply_homography

# The camera sees this share of the image's sides, under this angle; the rest is room to turn.
VIEW_SHARE, VIEW_DEG = 0.6, 20.0
# Ranges that are drawn from: the swing, as a share of the image's sides, and its period; the roll's the same.
SWING_SHARE, SWING_PERIOD_FRAMES = (0.04, 0.07), (45.0, 70.0)
ROLL_DEG, ROLL_PERIOD_FRAMES = (1.0, 3.0), (40.0, 60.0)
# Largest radial distortion k1 of the lens, of either sign: half a pixel in a corner.
MOST_DISTORTION = 0.03


@dataclass(frozen=True, eq=False)
class SkyView:
    """What the camera sees in each frame.

    Attributes:
        camera: the intrinsics that the line may be told, without distortion.
        lens: the true intrinsics.
        homographies: `(F, 3, 3)` undistorted pixel of each frame to pixel of the image.

    """

    camera: CameraModel
    lens: CameraModel
    homographies: FloatArray

    @classmethod
    def over(cls, width: int, height: int, frames: int, rng: np.random.Generator) -> SkyView:
        """Draw a smooth turn over an image of the given size [px] that stays inside it, and a lens."""
        camera = CameraModel.from_fov(round(VIEW_SHARE * width), round(VIEW_SHARE * height), VIEW_DEG)
        focal_px = camera.matrix[0, 0]
        image = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
        right = np.arctan(rng.uniform(*SWING_SHARE) * width / focal_px) * _swing(frames, SWING_PERIOD_FRAMES, rng)
        down = np.arctan(rng.uniform(*SWING_SHARE) * height / focal_px) * _swing(frames, SWING_PERIOD_FRAMES, rng)
        roll = np.radians(rng.uniform(*ROLL_DEG)) * _swing(frames, ROLL_PERIOD_FRAMES, rng)
        turns = Rotation.from_rotvec(np.stack([-down, right, roll], axis=1)).as_matrix()
        k1 = rng.uniform(-MOST_DISTORTION, MOST_DISTORTION)
        lens = replace(camera, distortion=np.array([k1, 0, 0, 0, 0]))
        return cls(camera, lens, image @ turns @ np.linalg.inv(camera.matrix))

    def places(self, frame: int, points_px: FloatArray) -> FloatArray:
        """Compute where pixels `(N, 2)` of a frame lie in the image `(N, 2)`."""
        return apply_homography(self.homographies[frame], self.undistorted(points_px))

    def pixels(self, frame: int, places_px: FloatArray) -> FloatArray:
        """Compute where places `(N, 2)` of the image are seen in a frame `(N, 2)`."""
        ideal = apply_homography(np.linalg.inv(self.homographies[frame]), places_px)
        return self.lens.project(self.camera.bearings(ideal))

    def moved(self, frame: int, points_px: FloatArray) -> FloatArray:
        """Compute where pixels `(N, 2)` of the frame before are seen in this one; `frame` from 1 on."""
        return self.pixels(frame, self.places(frame - 1, points_px))

    def error_px(self, frame: int, homography: FloatArray) -> float:
        """Compute the largest distance of a corner of the image, moved by an estimate, from where it goes [px]."""
        width, height = self.camera.width - 1.0, self.camera.height - 1.0
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        apart = apply_homography(homography, corners) - self.moved(frame, corners)
        return float(np.linalg.norm(apart, axis=1).max())

    def undistorted(self, points_px: FloatArray) -> FloatArray:
        """Compute where pixels `(N, 2)` of any frame would lie without the lens's distortion."""
        return self.camera.project(self.lens.bearings(points_px))


def _swing(frames: int, period: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Draw a sine over the frames, with its period and phase."""
    phase, period_frames = rng.uniform(0, 2 * np.pi), rng.uniform(*period)
    return np.asarray(np.sin(2 * np.pi * np.arange(frames) / period_frames + phase))
