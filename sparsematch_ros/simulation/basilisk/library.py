"""Basilisk itself, imported when it is first needed: it is an optional extra, and takes seconds to load."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from sparsematch_ros.errors import SparsematchError

VERSION = "2.12.1"
MODULES = (
    "Basilisk.architecture.messaging",
    "Basilisk.architecture.sysModel",
    "Basilisk.fswAlgorithms.attTrackingError",
    "Basilisk.fswAlgorithms.mrpFeedback",
    "Basilisk.fswAlgorithms.opNavPoint",
    "Basilisk.fswAlgorithms.rwMotorTorque",
    "Basilisk.simulation.reactionWheelStateEffector",
    "Basilisk.simulation.simpleNav",
    "Basilisk.simulation.spacecraft",
    "Basilisk.utilities.SimulationBaseClass",
    "Basilisk.utilities.macros",
    "Basilisk.utilities.simIncludeGravBody",
    "Basilisk.utilities.simIncludeRW",
)

# Basilisk's modules, by the last part of their names; it has no types.
Library = Any


@lru_cache(maxsize=1)
def load_basilisk() -> Library:
    """Import what is used of Basilisk.

    Raises:
        SparsematchError: where it is not installed; the message says what to do.

    """
    try:
        modules = {name.rpartition(".")[2]: import_module(name) for name in MODULES}
    except ImportError as error:
        raise SparsematchError(
            f"Basilisk cannot be imported ({error}): run `make setup`, or install bsk=={VERSION} with pip"
        ) from error
    return SimpleNamespace(**modules)
