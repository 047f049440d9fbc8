"""Frames that are refused between good ones, and frames of a sensor that shows what is not there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import NANOSECONDS, ObjectState
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.simulation.camera_specs import FaultsSpec
from sparsematch_ros.simulation.faults import SensorFaults

WIDTH, HEIGHT, DT_S = 320, 240, 0.2
CAMERA = CameraModel.from_fov(WIDTH, HEIGHT, 10.0)
TURN_RAD_S = np.radians([0.1, 0.17, 0.8])
MOVER_PX_S = 25.0
LOST = ObjectState.LOST


# Frames that are refused


def test_a_stream_with_bad_frames_in_between_stays_right(pipeline: Pipeline, sky: Any) -> None:
    """Every third frame is bad in one way or another; each is refused with its reason, and the object goes on."""
    flight, refused = sky(), []
    nan, inf = np.full(4, np.nan), np.array([0.0, np.inf, 0.0, 1.0])
    for number in range(24):
        frame = flight.frame(number, attitude=True)
        bad = {
            2: replace(frame, q_NC_xyzw=nan),
            5: replace(frame, q_NC_xyzw=inf),
            8: replace(frame, stamp_ns=frame.stamp_ns - round(DT_S * NANOSECONDS)),
            11: replace(frame, stamp_ns=-1),
            14: replace(frame, image=frame.image[:8, :8]),
            17: replace(frame, q_NC_xyzw=np.zeros(4)),
            20: replace(frame, stamp_ns=0),
        }.get(number)
        try:
            result = pipeline.process(bad or frame)
        except BadFrameError as error:
            refused.append((number, str(error)))
            continue
        assert bad is None
        sky.check_numbers(result)
        assert number < 2 or result.background.method == "stars+telemetry"
        for item in sky.reported(result):
            np.testing.assert_allclose(item.centroid_px, flight.place(number), atol=0.6)
    words = ("attitude", "attitude", "repeats", "goes back", "at least 16 px", "attitude", "goes back")
    assert [number for number, _ in refused] == list(range(2, 22, 3))
    assert all(word in reason for word, (_, reason) in zip(words, refused, strict=True))
    (item,) = sky.reported(result)
    np.testing.assert_allclose(np.linalg.norm(item.velocity_px_s), MOVER_PX_S, rtol=0.05)


# What the sensor makes up


def test_hot_pixels_cosmic_rays_and_flashes_never_confirm(pipeline: Pipeline, sky: Any) -> None:
    """A camera that turns at 6 px/s against the stars: hot pixels run against them like movers. 60 hot pixels of up to
    the brightness of the brightest stars, 3 hits of particles and 2 flashes a frame, 50 frames: no object is believed.
    """
    flight = sky(mover=False)
    spec = FaultsSpec(
        hot_pixels=60, hot_pixel_e=150.0, cosmic_rays=3.0, cosmic_ray_e=200.0, cosmic_ray_length_px=5.0,
        flashes=2.0, flash_e=900.0, flash_sigma_px=1.1,
    )  # fmt: skip
    faults = SensorFaults(spec, HEIGHT, WIDTH, seed=5)
    sources = 0
    for number in range(50):
        levels = flight.levels(number)
        faults.add_flashes(levels, DT_S * number)
        result = pipeline.process(sky.as_frame(levels + faults.electrons(DT_S * number)[..., None], number))
        stars_px = CAMERA.project(flight.attitude(number).inv().apply(flight.stars_N))
        for item in result.objects:
            assert not item.reported, f"a fault is reported in frame {number}"
            # A star with a hot pixel beside it may become a thing at rest; a fault alone must not.
            star = np.linalg.norm(stars_px - item.centroid_px, axis=1).min() < 8
            assert star or item.state in (ObjectState.TENTATIVE, LOST), f"a fault is confirmed in frame {number}"
        assert number == 0 or result.background.valid
        sources += len(result.segments)
    assert sources > 50, "the faults gave the tracker nothing to judge"


RNG = np.random.default_rng(11)
HOT = RNG.uniform(100, 256, (HEIGHT, WIDTH))
FAULTY = {
    "saturated": lambda: np.full((HEIGHT, WIDTH), 255.0),
    "noise": lambda: RNG.uniform(0, 256, (HEIGHT, WIDTH)),
    "weak noise": lambda: RNG.normal(20, 4, (HEIGHT, WIDTH)),
    "every pixel hot": lambda: HOT,
    "every other pixel hot": lambda: np.where(np.indices((HEIGHT, WIDTH)).sum(axis=0) % 2, 255.0, 0.0),
}


@pytest.mark.parametrize("attitude", [False, True])
@pytest.mark.parametrize("fault", FAULTY)
def test_a_sensor_that_shows_nothing_but_faults_reports_nothing(
    pipeline: Pipeline, fault: str, attitude: bool, sky: Any
) -> None:
    flight = sky()
    for number in range(12):
        q_NC = flight.attitude(number).as_quat() if attitude else None
        result = pipeline.process(sky.as_frame(np.repeat(FAULTY[fault]()[..., None], 3, axis=2), number, q_NC=q_NC))
        sky.check_numbers(result)
        assert not sky.reported(result), f"reported in frame {number}"


@pytest.mark.parametrize("fault", FAULTY)
def test_an_object_outlives_a_frame_of_faults(pipeline: Pipeline, fault: str, sky: Any) -> None:
    """Frame 12 shows nothing but faults: nothing new is reported in it or after it, and the object stays itself."""
    flight, ids = sky(), set()
    for number in range(24):
        frame = flight.frame(number)
        if number == 12:
            frame = sky.as_frame(np.repeat(FAULTY[fault]()[..., None], 3, axis=2), number)
        result = pipeline.process(frame)
        sky.check_numbers(result)
        ids |= {item.id for item in sky.reported(result)}
    (item,) = sky.reported(result)
    assert ids == {item.id}
    np.testing.assert_allclose(item.centroid_px, flight.place(23), atol=0.6)
