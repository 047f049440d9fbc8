"""Camera files in the layout of ROS camera_calibration (`camera.yaml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.errors import SparsematchError


def read_camera(path: Path) -> CameraModel:
    """Read a camera file.

    Raises:
        SparsematchError: where the file cannot be read, lacks a key or holds values that belong to no camera.

    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        matrix = np.array(content["camera_matrix"]["data"], dtype=np.float64).reshape(3, 3)
        distortion = np.array(content.get("distortion_coefficients", {}).get("data", []), dtype=np.float64).reshape(-1)
        model = content.get("distortion_model") or "plumb_bob"
        return CameraModel(int(content["image_width"]), int(content["image_height"]), matrix, distortion, model)
    except KeyError as error:
        raise SparsematchError(f"{path}: key {error} is missing (layout of ROS camera_calibration)") from error
    except SparsematchError as error:
        raise SparsematchError(f"{path}: {error}") from error
    except (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SparsematchError(f"{path}: not a camera file in the layout of camera_calibration ({reason})") from error


def write_camera(path: Path, camera: CameraModel, name: str = "camera") -> None:
    """Write a camera file that `read_camera` and ROS's camera_info_manager read."""
    projection = np.hstack([camera.matrix, np.zeros((3, 1))])
    none = np.zeros(8 if camera.distortion_model == "rational_polynomial" else 5)
    distortion = camera.distortion if camera.distortion.size else none
    content = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": _matrix(camera.matrix),
        "distortion_model": camera.distortion_model,
        "distortion_coefficients": _matrix(distortion.reshape(1, -1)),
        "rectification_matrix": _matrix(np.eye(3)),
        "projection_matrix": _matrix(projection),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding="utf-8")


def _matrix(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    rows, columns = values.shape
    return {"rows": rows, "cols": columns, "data": [float(value) for value in values.reshape(-1)]}
