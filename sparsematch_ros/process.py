"""What holds for a whole process: how its threads wait, and by which name it was called."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has chosen; call it before torch is imported.

    By default they spin, and on a machine whose cores are shared with other processes a spinning thread holds the core
    that the thread it waits for needs: a frame then takes ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def program() -> str:
    """Give the command line's name as the user can type it."""
    called = Path(sys.argv[0])
    if called.name != "sparsematch" or shutil.which("sparsematch"):
        return "sparsematch"
    return os.path.relpath(called) if called.is_absolute() else str(called)
