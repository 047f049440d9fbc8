"""`sparsematch simulate`: a scenario into frames, masks, camera and truth on disk, without ROS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.media.calibration import write_camera
from sparsematch_ros.simulation.scenario import load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.simulation.truth import Record, TruthRecorder


def simulate(scenario: str, out: Path, seed: int = 0, frames: int | None = None) -> None:
    """Fly a scenario with its own attitude programme and write what the camera sees.

    Writes `frames/*.png`, `frames.jsonl`, `masks/*.png`, `camera.yaml` and `truth.jsonl`; an earlier flight in the same
    folder is replaced.

    Args:
        scenario: name or YAML file.
        out: folder.
        seed: of all that is random: stars, noise, times, and what the scenario varies from flight to flight.
        frames: how many; None for the scenario's own number.

    Raises:
        SparsematchError: where the scenario is wrong or `out` holds frames that are not an earlier flight's.

    """
    plan = load_scenario(scenario)
    count = plan.frames if frames is None else frames
    if count < 1:
        raise SparsematchError(f"frames {count}: must be at least 1")
    scene = Scene(plan, seed)
    flight = scene.scenario
    _prepare(out)
    write_camera(out / "camera.yaml", scene.camera, flight.name)
    # Marks the folder as a flight's from the first frame on.
    _write_lines(out / "truth.jsonl", [])
    recorder = TruthRecorder(scene)
    stamps, truth = list[Record](), list[Record]()
    for index in track(range(count), description=f"simulate {flight.name}"):
        time_s = flight.time_s(index)
        attitude, name = scene.programme(time_s), f"{index:06d}.png"
        rendered = scene.render(time_s, attitude, scene.programme_turn(time_s))
        _write_image(out / "frames" / name, np.ascontiguousarray(rendered.image[..., ::-1]))
        _write_image(out / "masks" / name, rendered.labels)
        reported = scene.programme_telemetry(time_s).tolist()
        stamps.append({"frame": index, "file": name, "stamp_s": time_s, "q_NC_xyzw": reported})
        truth += recorder.record(index, time_s, attitude, rendered)
    _write_lines(out / "frames.jsonl", stamps)
    _write_lines(out / "truth.jsonl", truth)


def _prepare(out: Path) -> None:
    """Make the folders; empty them only where they are an earlier flight's."""
    ours = (out / "truth.jsonl").is_file() and (out / "camera.yaml").is_file()
    for folder in (out / "frames", out / "masks"):
        folder.mkdir(parents=True, exist_ok=True)
        left = sorted(folder.iterdir())
        if left and not ours:
            raise SparsematchError(f"{folder} holds {left[0].name}, which no flight wrote; give an empty folder")
        for path in left:
            if path.suffix == ".png":
                path.unlink()


def _write_image(path: Path, image: NDArray[Any]) -> None:
    if not cv2.imwrite(str(path), image):
        raise SparsematchError(f"{path} cannot be written")


def _write_lines(path: Path, records: Sequence[Record]) -> None:
    lines = (json.dumps(record, allow_nan=False) for record in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
