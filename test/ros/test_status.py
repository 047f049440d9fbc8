"""What `/diagnostics` says of results."""

from dataclasses import fields, replace

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus

from sparsematch_ros.background.layers import Background
from sparsematch_ros.camera import CameraModel
from sparsematch_ros.data import Frame, FrameResult
from sparsematch_ros.matching.pairs import no_matches
from sparsematch_ros.nodes.status import PerceptionStatus, perception_summary
from sparsematch_ros.segmentation.prompts import grid_prompts
from sparsematch_ros.segmentation.segments import Segments

EMPTY = {
    "masks": torch.zeros((0, 8, 8), dtype=torch.bool),
    "boxes_xywh_px": np.zeros((0, 4)),
    **{name: np.zeros((0, 2)) for name in ("centroids_px", "offsets_px")},
    **{name: np.zeros((0, 2, 2)) for name in ("covariances_px2", "mobilities")},
}


def result(background: Background) -> FrameResult:
    empty = Segments(**{item.name: EMPTY.get(item.name, np.zeros(0)) for item in fields(Segments)})
    frame = Frame(0, 1, np.zeros((8, 8, 3), np.uint8), CameraModel.from_fov(8, 8, 20.0))
    return FrameResult(frame, None, background, grid_prompts(np.zeros((0, 2))), empty, None, no_matches(), (), {})


def test_telemetry_against_stars_is_told() -> None:
    """Once in the line, with the angle in the values; the next report, without a new one, is quiet."""
    status = PerceptionStatus()
    calm = Background(method="telemetry", disagreement_rad=1e-5)
    status.add_result(result(calm), 0.1)
    before = status.values()
    assert perception_summary(before, {}, True) == (DiagnosticStatus.OK, "active")
    wrong = replace(calm, method="stars", disagreement_rad=2e-3, problem="telemetry and 50 stars differ")
    status.add_result(result(wrong), 0.1)
    values = status.values()
    level, line = perception_summary(values, before, True)
    assert level == DiagnosticStatus.WARN and "1 images: telemetry and 50 stars differ" in line
    assert float(values["background_disagreement_rad"]) == 2e-3
    status.add_result(result(calm), 0.1)
    assert perception_summary(status.values(), values, True)[0] == DiagnosticStatus.OK
