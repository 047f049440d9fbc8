"""When images are taken by a camera whose clock is not steady, and which loses some of them."""

from __future__ import annotations

import numpy as np

from sparsematch_ros.simulation.camera_specs import TimingSpec


def frame_tick(timing: TimingSpec, frame: int, seed: int) -> float:
    """Give the time of the image with the number `frame`, in units of the frame interval.

    The first image is never lost. Numbers are drawn in order, so that a longer flight begins like a shorter one.
    """
    tick = float(frame)
    if timing.dropped > 0:
        # How many ticks it is to the next image: a geometric number, by inversion.
        chances = 1 - np.random.default_rng([seed, 6]).random(frame)
        tick = float((1 + np.floor(np.log(chances) / np.log(timing.dropped))).sum())
    if timing.late > 0:
        tick += timing.late * float(np.random.default_rng([seed, 7]).random(frame + 1)[frame])
    return tick
