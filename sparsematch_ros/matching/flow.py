"""How far the texture of objects has moved between two frames, whatever their masks did."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsematch_ros.background.corners import follow_corners
from sparsematch_ros.data import FloatArray
from sparsematch_ros.segmentation.masks import grown, masks_at

# Corners that are followed on all objects, and the fewest that tell one object's motion.
_MOST_CORNERS, _LEAST_CORNERS = 480, 6
# Corners of one body err together: so many count as one, and no more than so many of these count. Error of a corner at
# best [px].
_TOGETHER, _MOST_COUNTED, _CORNER_SIGMA_PX = 4, 50, 0.1
# Nearer to the outline the window of a corner holds ground too [px].
_EDGE_PX = 10
# The median of absolute deviations of a normal distribution, in standard deviations.
_MAD = 0.6745


def measure_steps(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]], before: Tensor, after: Tensor, expected_px: FloatArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Measure the steps of K objects by the median of their corners.

    Args:
        images: previous and current one, `(H, W)` uint8.
        before: `(K, H, W)` bool their masks in the previous image.
        after: `(K, H, W)` bool their masks in the current one.
        expected_px: `(K, 2)` steps that are expected.

    Returns:
        The steps `(K, 2)` [px] and their covariances `(K, 2, 2)` [px^2]; NaN where too few corners are followed.

    """
    steps, covariances = np.full((len(before), 2), np.nan), np.full((len(before), 2, 2), np.nan)
    if len(before) == 0:
        return steps, covariances
    before = ~grown(~before, _EDGE_PX)
    anywhere = before.any(dim=0).cpu().numpy()

    def guess(points: FloatArray) -> FloatArray:
        held = masks_at(before, points)
        return points + np.where(np.any(held, axis=1, keepdims=True), expected_px[held.argmax(axis=1)], 0.0)

    start, end = follow_corners(images, anywhere, guess, 1.0, _MOST_CORNERS)
    corners, owners = np.nonzero(masks_at(before, start) & masks_at(after, end))
    counts = np.bincount(owners, minlength=len(before))
    for row in np.flatnonzero(counts >= _LEAST_CORNERS):  # Few: the large objects over ground.
        moved = (end - start)[corners[owners == row]]
        steps[row] = np.median(moved, axis=0)
        spread = np.median(np.abs(moved - steps[row]), axis=0) / _MAD
        variance = (spread**2).sum() / min(len(moved) / _TOGETHER, _MOST_COUNTED) + _CORNER_SIGMA_PX**2
        covariances[row] = variance * np.eye(2)
    return steps, covariances
