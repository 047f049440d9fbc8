"""Runs that are kept: what was done with the same code, settings and input is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.scores import Scores
from sparsematch_ros.media.figures import write_json
from sparsematch_ros.settings import changed_settings

PACKAGE = Path(__file__).resolve().parents[2]
# What cannot change a run's figures: nodes, the command line, what comes after the runs.
NO_PART_OF_IT = (
    "nodes/",
    "evaluation/bench",
    "evaluation/suite/tables",
    "evaluation/suite/pages",
    "evaluation/suite/limits",
    "evaluation/suite/report",
)
Key = dict[str, Any]


def run_key(config: Config, device: str, **more: Any) -> Key:
    """Name all that a run's figures depend on: code, settings, device, and what `more` says of its input."""
    return {"code_sha256": code_digest(), "settings": changed_settings(config), "device": device, **more}


def kept_or_made(folder: Path, key: Key, make: Callable[[], Scores]) -> Scores:
    """Give the figures that lie in a folder where they were made with the same key, else make them.

    Args:
        folder: of the run; it holds `metrics.json` when `make` has returned.
        key: from `run_key`.
        make: does the run and gives its figures.

    """
    key_file, metrics_file = folder / "key.json", folder / "metrics.json"
    if metrics_file.is_file() and key_file.is_file() and _read(key_file) == json.loads(json.dumps(key)):
        return _read(metrics_file)
    key_file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    scores = make()
    write_json(metrics_file, scores)
    # Last, so that a run that was broken off is done again.
    write_json(key_file, key)
    return scores


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Give the sha256 of the package's modules that figures depend on."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith(NO_PART_OF_IT) and name != "cli.py":
            digest.update(name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def file_digest(*files: Path) -> str:
    """Give the sha256 of files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SparsematchError(f"{file} is not JSON ({error}): remove it, and the run is done again") from error
    return dict(content)
