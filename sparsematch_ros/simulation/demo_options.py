"""What `sparsematch demo` is asked to do; imports nothing heavy, as the command line's help needs it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from sparsematch_ros.errors import SparsematchError

# A spacecraft that turns within limits and has no mass, or one that Basilisk integrates.
KINEMATIC, BASILISK = "kinematic", "basilisk"
DYNAMICS = (KINEMATIC, BASILISK)
SCENARIO = "fly_by"
MOST_LATENCY_S = 60.0


@dataclass(frozen=True)
class DemoOptions:
    """What to fly.

    Attributes:
        scenario: name or YAML file.
        out: folder; an earlier demo in it is replaced.
        seed: of stars, noise and clouds.
        frames: images to take; None for the scenario's own number.
        requests: whether the camera is asked to turn; False is the control run.
        real_time: let time pass by itself, so that frames are dropped where the machine is slow.
        dynamics: what turns the spacecraft, one of `DYNAMICS`.
        latency_s: time from an image until its request takes effect [s].

    """

    scenario: str
    out: Path
    seed: int = 0
    frames: int | None = None
    requests: bool = True
    real_time: bool = False
    dynamics: str = KINEMATIC
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is wrong before anything is started."""
        if not 0 <= self.latency_s <= MOST_LATENCY_S:
            raise SparsematchError(f"--latency-s {self.latency_s}: must be from 0 to {MOST_LATENCY_S}")

    @classmethod
    def of_arguments(cls, args: argparse.Namespace) -> DemoOptions:
        """Take them from the command line's arguments."""
        return cls(**{name: getattr(args, name) for name in cls.__dataclass_fields__})


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add what only `sparsematch demo` has."""
    parser.add_argument("scenario", nargs="?", default=SCENARIO, metavar="SCENARIO", help=f"name or file ({SCENARIO})")
    parser.add_argument(
        "--no-requests", dest="requests", action="store_false", help="control run: the camera is never asked to turn"
    )
    parser.add_argument("--real-time", action="store_true", help="let time pass by itself; a slow machine drops frames")
    parser.add_argument(
        "--dynamics", choices=DYNAMICS, default=KINEMATIC,
        help="what turns the spacecraft: limits alone, or Basilisk's rigid body with wheels, in orbit (kinematic)",
    )  # fmt: skip
    text = "time from an image until its request takes effect [s] (0)"
    parser.add_argument("--latency-s", type=float, default=0.0, metavar="S", help=text)
