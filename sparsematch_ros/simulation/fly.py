"""Starts a flight of a scenario with the dynamics that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.demo_options import BASILISK, DYNAMICS
from sparsematch_ros.simulation.flight import Flight
from sparsematch_ros.simulation.scenario import Scenario
from sparsematch_ros.simulation.variation import realise


def open_flight(
    scenario: Scenario, seed: int, dynamics: str, sink: Callable[[dict[str, Any]], None] | None = None
) -> Flight:
    """Build scene and spacecraft.

    Args:
        scenario: what is flown.
        seed: of everything that is random.
        dynamics: one of `DYNAMICS`.
        sink: gets what Basilisk's spacecraft does, whenever its flight software has run; see `Telemetry`.

    Raises:
        SparsematchError: for other dynamics, a scenario that does not fit them, or where Basilisk is missing.

    """
    if dynamics not in DYNAMICS:
        raise SparsematchError(f"dynamics '{dynamics}' is not one of {', '.join(DYNAMICS)}")
    if dynamics != BASILISK:
        return Flight(scenario, seed)
    from sparsematch_ros.simulation.basilisk.spacecraft import BasiliskSpacecraft

    flown = realise(scenario, seed)
    spacecraft = BasiliskSpacecraft(flown, sink)
    return Flight(flown, seed, spacecraft, spacecraft)
