"""NaN and absurd numbers in CameraInfo and in what a request is made of: refused with their reason."""

from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import ObjectState, SpaceObject
from sparsematch_ros.errors import BadFrameError, SparsematchError
from sparsematch_ros.media.images import camera_from_info
from sparsematch_ros.pointing.answer import Code, Decision
from sparsematch_ros.pointing.decision import decide
from sparsematch_ros.pointing.situation import Policy, Situation

WIDTH, HEIGHT = 320, 240
CAMERA = CameraModel.from_fov(WIDTH, HEIGHT, 10.0)


def info(**changes: object) -> SimpleNamespace:
    """Make a CameraInfo."""
    values = {
        "width": WIDTH, "height": HEIGHT, "distortion_model": "plumb_bob", "d": np.zeros(5), "binning_x": 0,
        "binning_y": 0, "k": CAMERA.matrix.ravel(), "r": np.eye(3).ravel(), "p": np.zeros(12),
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def with_number(array: np.ndarray, place: int, value: float) -> np.ndarray:
    changed = np.array(array, dtype=np.float64).ravel()
    changed[place] = value
    return changed


K = CAMERA.matrix.ravel()
ABSURD = [
    *[({"k": with_number(K, place, np.nan)}, "K must be 3x3 and finite") for place in range(9)],
    ({"k": with_number(K, 0, np.inf)}, "K must be 3x3 and finite"),
    ({"k": with_number(K, 4, -500.0)}, "must be positive"),
    ({"k": with_number(K, 8, 0.0)}, r"ends in \[0.0, 0.0, 0.0\]"),
    ({"k": with_number(with_number(K, 2, 1e308), 0, 1e-300)}, "no directions at the image's corners"),
    *[({"d": with_number(np.zeros(5), place, np.nan)}, "D must be finite") for place in range(5)],
    ({"d": np.full(3, 0.1)}, r"3 distortion coefficients: plumb_bob takes \(4, 5\)"),
    ({"d": np.full(5, 0.1), "distortion_model": "equidistant"}, "equidistant takes"),
]


@pytest.mark.parametrize(("changes", "words"), ABSURD)
def test_a_camera_info_with_such_numbers_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadFrameError, match=f"CameraInfo: .*{words}"):
        camera_from_info(info(**changes))


def test_rectification_is_not_read() -> None:
    """R and P belong to the rectified image; the one that comes here is not."""
    camera = camera_from_info(info(r=np.full(9, np.nan), p=np.full(12, np.nan)))
    assert camera is not None and camera.agrees_with(CAMERA)


def target(**changes: object) -> SpaceObject:
    good = SpaceObject(
        id=UUID(int=7), state=ObjectState.CONFIRMED, moving=True, existence_probability=0.95,
        bbox_xywh_px=np.ones(4), centroid_px=np.ones(2), centroid_covariance=np.eye(2), area_px=20.0,
        velocity_px_s=np.ones(2), velocity_covariance=np.eye(2), apparent_velocity_px_s=np.ones(2),
        first_seen_ns=1, last_seen_ns=2, bearing=np.array([0.0, 0.6, 0.8]), bearing_covariance=np.eye(3) * 1e-6,
        bearing_rate_rad_s=np.array([0.01, 0.0, 0.0]), bearing_rate_covariance=np.eye(3) * 1e-8,
    )  # fmt: skip
    return replace(good, **changes)  # type: ignore[arg-type]


NUMBERS = ("centroid_px", "velocity_px_s", "bearing", "bearing_covariance", "bearing_rate_rad_s")
NEEDLESS = ("bbox_xywh_px", "area_px", "centroid_covariance", "apparent_velocity_px_s", "velocity_covariance")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*NUMBERS, *NEEDLESS])
def test_no_number_of_a_request_is_none(name: str, value: float) -> None:
    """A number that a request needs and is none refuses it; one that it does not need is not looked at."""
    good = getattr(target(), name)
    bad = value if np.ndim(good) == 0 else with_number(good, 0, value).reshape(np.shape(good))
    situation = Situation(
        stamp_ns=10**9, camera_frame="camera", objects=(target(**{name: bad}),), now_ns=10**9, enabled=True,
        q_NB_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
    )  # fmt: skip
    answer = decide(situation, Policy.from_config(PointingConfig()))
    if name in NUMBERS:
        assert (answer.code, answer.request) == (Code.BAD_INPUT, None)
        return
    assert answer.decision == Decision.SENT and answer.request is not None
    for number in vars(answer.request).values():
        if isinstance(number, (float, np.ndarray)):
            assert np.isfinite(number).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pipeline_takes_no_such_camera(value: float) -> None:
    with pytest.raises(SparsematchError, match="finite"):
        CameraModel(WIDTH, HEIGHT, with_number(K, 2, value).reshape(3, 3))
