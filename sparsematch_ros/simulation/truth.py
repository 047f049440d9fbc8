"""The truth about what is seen, in the keys of `objects.jsonl`.

Velocities are against the stars, or against the ground where Earth fills the image; bearing rates are inertial always.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.motion import BodyState
from sparsematch_ros.simulation.scene import Rendered, Scene

# Under this many pixels across an object is compared by its centroid, and carries no mask.
RESOLVED_PX = 10
# An object moves where its centre moves at least this fast against the stars: TrackingConfig.moving_speed_px_s.
MOVING_SPEED_PX_S = 1.0

Record = dict[str, Any]


def _listed(array: FloatArray | None) -> list[float] | None:
    """Turn an array into a list; None where a number is not finite, because JSON knows no NaN."""
    return None if array is None or not np.isfinite(array).all() else [float(value) for value in array]


class TruthRecorder:
    """Makes the records of one frame after the other; frames must be handed over in their order in time."""

    def __init__(self, scene: Scene) -> None:
        """Start before the first frame."""
        self._scene = scene
        self._camera = scene.camera
        self._centroids: dict[int, FloatArray] = {}
        self._time_s = 0.0
        self._rotation_NC = Rotation.identity()
        self._nadir_N = np.array([0.0, 0.0, 1.0])
        right, bottom = self._camera.width - 1.0, self._camera.height - 1.0
        corners = np.array([[0.0, 0.0], [right, 0.0], [0.0, bottom], [right, bottom]])
        self._corners_C: FloatArray = self._camera.bearings(corners)

    def record(self, frame: int, time_s: float, q_NC_xyzw: FloatArray, rendered: Rendered) -> list[Record]:
        """Give one record for every object that shows, and remember the frame.

        Args:
            frame: counts from 0.
            time_s: of the frame [s].
            q_NC_xyzw: `(4,)` the camera's attitude with which it was rendered.
            rendered: the frame.

        """
        rotation_NC = Rotation.from_quat(q_NC_xyzw)
        snapshot = self._scene.world.at(time_s)
        camera, states = snapshot.camera, snapshot.objects
        records = []
        for number in sorted(rendered.centroids_px):
            line: Record = {"frame": frame, "stamp_s": time_s, "id": number, "state": "confirmed"}
            line["moving"] = self._line_of_sight_speed_px_s(states[number - 1], camera) >= MOVING_SPEED_PX_S
            line |= self._motion(number, time_s, rotation_NC, rendered.centroids_px[number], snapshot.nadir_N)
            line |= self._shape(rendered.labels == number)
            relative_C = rotation_NC.inv().apply(states[number - 1].position_N_m - camera.position_N_m)
            line["center_of_mass_px"] = _listed(self._camera.project(relative_C)[0])
            records.append(line)
        self._centroids, self._time_s, self._rotation_NC = dict(rendered.centroids_px), time_s, rotation_NC
        self._nadir_N = snapshot.nadir_N
        return records

    def _motion(
        self, number: int, time_s: float, rotation_NC: Rotation, centroid: FloatArray, nadir_N: FloatArray
    ) -> Record:
        """Compute centroid, bearing and their rates; the rates are null without a frame before."""
        velocity = apparent = rate = None
        before = self._centroids.get(number)
        dt_s = time_s - self._time_s
        if before is not None and dt_s > 0:
            # Where a star at the old centroid is now: the exact rotation, distortion included.
            turn = rotation_NC.inv() * self._rotation_NC
            carried = self._camera.project(turn.apply(self._camera.bearings(before[None])))[0]
            velocity, apparent = (centroid - carried) / dt_s, (centroid - before) / dt_s
            rate = self._camera.bearing_jacobian(centroid[None])[0] @ velocity
            ground = self._carried_ground(before, rotation_NC, nadir_N)
            velocity = velocity if ground is None else (centroid - ground) / dt_s
        return {
            "centroid_px": _listed(centroid),
            "velocity_px_s": _listed(velocity),
            "apparent_velocity_px_s": _listed(apparent),
            "velocity_covariance": None,
            "bearing": _listed(self._camera.bearings(centroid[None])[0]),
            "bearing_rate_rad_s": _listed(rate),
            "bearing_rate_covariance": None,
            "confidence": 1.0,
        }

    def _carried_ground(self, before_px: FloatArray, rotation_NC: Rotation, nadir_N: FloatArray) -> FloatArray | None:
        """Compute where the ground behind an old place `(2,)` is now; None unless Earth filled the image before."""
        earth = self._scene.earth
        if earth is None or not earth.fills(self._rotation_NC.apply(self._corners_C), self._nadir_N):
            return None
        seen_N = self._rotation_NC.apply(self._camera.bearings(before_px[None]))
        return np.asarray(self._camera.project(rotation_NC.inv().apply(earth.carry(seen_N, self._nadir_N, nadir_N)))[0])

    @staticmethod
    def _shape(mask: NDArray[np.bool_]) -> Record:
        """Give the box, the mask as COCO RLE and the count of visible pixels."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        width, height = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
        encoded = None
        if max(width, height) >= RESOLVED_PX:
            rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            encoded = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        box = [float(columns[0]), float(rows[0]), float(width), float(height)]
        return {"bbox_xywh_px": box, "mask": encoded, "visible_px": int(mask.sum())}

    def _line_of_sight_speed_px_s(self, state: BodyState, camera: BodyState) -> float:
        """Give the speed of the centre across the stars, in pixels at the image's middle."""
        relative = state.position_N_m - camera.position_N_m
        velocity = state.velocity_N_m_s - camera.velocity_N_m_s
        distance = float(np.linalg.norm(relative))
        across = velocity - relative * (velocity @ relative) / distance**2
        return float(np.linalg.norm(across)) / distance * float(self._camera.matrix[0, 0])
