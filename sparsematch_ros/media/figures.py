"""Figures as they are written down: rounded, in JSON files; and the memory that a process has taken."""

from __future__ import annotations

import json
import math
import resource
import sys
from pathlib import Path
from typing import Any


def peak_memory_mb() -> float:
    """Give the most memory this process has held [MB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that people read too."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def rounded(value: Any) -> float:
    """Keep four significant digits: more would only be noise of the clock."""
    number = float(value)
    return number if number == 0 else round(number, 3 - math.floor(math.log10(abs(number))))
