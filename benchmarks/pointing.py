"""How long the answer to one array takes: `decide()` with choice, prediction, path check and the way around.

    python benchmarks/pointing.py

prints milliseconds of wall and processor time a call, the least and the median of the rounds, for five situations, and
writes nothing. The least is what other work on the machine disturbs least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np

from sparsematch_ros.config import PointingConfig
from sparsematch_ros.data import NANOSECONDS, ObjectState, SpaceObject
from sparsematch_ros.pointing.conventions import unit_vector
from sparsematch_ros.pointing.decision import Answer, Policy, Situation, decide

NOW_NS = 100 * NANOSECONDS
CALLS, ROUNDS = 5, 200
# Sun, Earth and Moon, with room between them.
CONES = {
    "keep_out_half_angles_deg": [30.0, 60.0, 5.0],
    "keep_out_directions": [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.6, 0.8],
}
# A boresight between Sun and Moon; targets 55 deg off on the free side, and behind the Sun.
START_Q_NB = np.array([0.0, 0.0, 0.0, 1.0])
FREE_C, BEHIND_C = unit_vector([-0.8, 0.2, 0.5]), unit_vector([0.9, 0.35, -0.75])


def make_object(number: int, bearing: np.ndarray) -> SpaceObject:
    """Make an object that may be asked for and moves at up to 0.06 deg/s."""
    return SpaceObject(
        id=UUID(int=number + 1), state=ObjectState.CONFIRMED, moving=True, existence_probability=0.9 + 0.001 * number,
        bbox_xywh_px=np.ones(4), centroid_px=np.array([320.0, 240.0]), centroid_covariance=np.eye(2), area_px=20.0,
        velocity_px_s=np.array([5.0, 1.0]), velocity_covariance=np.eye(2), apparent_velocity_px_s=np.array([5.0, 1.0]),
        first_seen_ns=NOW_NS - 10 * NANOSECONDS, last_seen_ns=NOW_NS, bearing=bearing,
        bearing_covariance=np.eye(3) * 1e-6, bearing_rate_rad_s=np.cross(bearing, [0.0006, 0.0008, 0.0]),
    )  # fmt: skip


def cases() -> dict[str, Callable[[], Answer]]:
    """Give the situations by name."""
    still = Situation(
        NOW_NS, "camera", (make_object(0, FREE_C),), NOW_NS, True, START_Q_NB, np.zeros(3), (640, 480)
    )  # fmt: skip
    turning = replace(still, omega_BN_N_rad_s=np.array([0.003, -0.005, 0.002]))
    many = replace(turning, objects=tuple(make_object(number, FREE_C) for number in range(20)))
    behind = replace(still, objects=(make_object(0, BEHIND_C),))
    free, cones = Policy.from_config(PointingConfig()), Policy.from_config(replace(PointingConfig(), **CONES))
    return {
        "1 object, no cone": lambda: decide(still, free),
        "1 object, 3 cones, direct": lambda: decide(still, cones),
        "the same while turning": lambda: decide(turning, cones),
        "20 objects, 3 cones, direct": lambda: decide(many, cones),
        "1 object, 3 cones, way around": lambda: decide(behind, cones),
    }


def main() -> None:
    """Measure and print."""
    print(f"{'situation':32s} {'answer':24s} {'wall ms':>16s} {'processor ms':>16s}")
    for name, call in cases().items():
        answer = call()
        wall, processor = [], []
        for _ in range(ROUNDS):
            start_wall, start_processor = time.perf_counter(), time.process_time()
            for _ in range(CALLS):
                call()
            wall.append((time.perf_counter() - start_wall) / CALLS * 1e3)
            processor.append((time.process_time() - start_processor) / CALLS * 1e3)
        request = answer.request
        said = f"{answer.decision.name} {answer.code.name}" + (f", {request.waypoints} waypoints" if request else "")
        columns = [f"{min(v):.2f} / {statistics.median(v):.2f}" for v in (wall, processor)]
        print(f"{name:32s} {said:24s} {columns[0]:>16s} {columns[1]:>16s}")


if __name__ == "__main__":
    main()
