"""Pixels and bearings there and back, for every distortion model, ROI and binning."""

import numpy as np
import pytest

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.errors import SparsematchError

MATRIX = np.array([[520.0, 0, 318.0], [0, 524.0, 241.0], [0, 0, 1]])
PIXELS = np.array([[20.0, 30.0], [318.0, 241.0], [600.0, 420.0], [100.0, 400.0]])


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", []),
        ("plumb_bob", [-0.28, 0.09, 0.001, -0.0006, -0.01]),
        ("rational_polynomial", [0.3, -0.1, 0.0005, 0.0002, 0.01, 0.5, -0.05, 0.02]),
        ("equidistant", [0.02, -0.01, 0.003, -0.001]),
    ],
)
def test_project_undoes_bearings(model: str, distortion: list[float]) -> None:
    camera = CameraModel(640, 480, MATRIX, np.array(distortion), model)
    bearings = camera.bearings(PIXELS)
    np.testing.assert_allclose(np.linalg.norm(bearings, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(camera.project(bearings), PIXELS, atol=1e-3)


def test_the_boresight_is_the_principal_point() -> None:
    camera = CameraModel(640, 480, MATRIX)
    np.testing.assert_allclose(camera.bearings(np.array([[318.0, 241.0]])), [[0, 0, 1]], atol=1e-12)


def test_field_of_view_spans_the_pixels_outer_edges() -> None:
    camera = CameraModel.from_fov(640, 480, 40.0)
    edges = camera.bearings(np.array([[-0.5, 239.5], [639.5, 239.5]]))
    assert np.degrees(np.arccos(edges[0] @ edges[1])) == pytest.approx(40.0, abs=1e-9)


def test_behind_the_camera_is_nowhere() -> None:
    assert np.isnan(CameraModel(640, 480, MATRIX).project(np.array([[0.0, 0.0, -1.0]]))).all()


def test_jacobian_is_that_of_a_pinhole() -> None:
    camera = CameraModel(640, 480, MATRIX)
    jacobian = camera.bearing_jacobian(np.array([[318.0, 241.0]]))[0]
    # On the axis a pixel turns the bearing by 1/f about the other axis, and leaves its length.
    np.testing.assert_allclose(jacobian, [[1 / 520, 0], [0, 1 / 524], [0, 0]], atol=1e-9)


def test_roi_and_binning_keep_the_bearing_of_a_point() -> None:
    full = CameraModel(640, 480, MATRIX)
    part = full.windowed(100, 60, 400, 300, (2, 2))
    assert (part.width, part.height) == (200, 150)
    # The centre of binned pixel (50, 40) covers full pixels 200..201 and 140..141.
    np.testing.assert_allclose(
        part.bearings(np.array([[50.0, 40.0]])), full.bearings(np.array([[200.5, 140.5]])), atol=1e-12
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [({"width": 0}, "size"), ({"matrix": np.zeros((3, 3))}, "focal length"), ({"distortion_model": "magic"}, "magic"),
     ({"distortion": np.array([np.nan])}, "finite")],
)  # fmt: skip
def test_impossible_cameras_are_refused(change: dict[str, object], words: str) -> None:
    values = {"width": 640, "height": 480, "matrix": MATRIX} | change
    with pytest.raises(SparsematchError, match=words):
        CameraModel(**values)  # type: ignore[arg-type]
