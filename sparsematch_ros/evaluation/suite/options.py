"""What `sparsematch evaluate --suite` is asked to do; imports nothing heavy, as the command line's help needs it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from sparsematch_ros.errors import SparsematchError

# Never looked at while something was tuned; that was done with seeds under 100.
SEEDS = (101, 102, 103)
OUT = Path("evaluation_output")


@dataclass(frozen=True)
class SuiteOptions:
    """What to evaluate.

    Attributes:
        suite: whether to fly the scenarios.
        quick: one seed and short flights.
        scenarios: names or YAML files with commas between; None for all in config/scenarios.
        seeds: seeds with commas between; None for those of the suite.
        davis: folder of sequences with `frames/` and `masks/`, or one of them; None for none.
        renders: folder of rendered sequences with `truth.jsonl` too, or one of them; None for none.
        sky: folder of star-field images, None for none.
        pages: folder whose `accuracy.md` and `images/` take the table and the pictures, None for none.
        frames: most frames a flight or sequence, None for its own number.
        out: folder to write to.

    """

    suite: bool = False
    quick: bool = False
    scenarios: str | None = None
    seeds: str | None = None
    davis: Path | None = None
    renders: Path | None = None
    sky: Path | None = None
    pages: Path | None = None
    frames: int | None = None
    out: Path = OUT

    def __post_init__(self) -> None:
        """Refuse what is wrong before anything is loaded."""
        _ = self.seed_numbers
        for folder in (self.davis, self.renders, self.sky, self.pages):
            if folder is not None and not folder.is_dir():
                raise SparsematchError(f"{folder} is no folder")

    @classmethod
    def of_arguments(cls, args: argparse.Namespace) -> SuiteOptions:
        """Take them from the command line's arguments."""
        return cls(**{name: getattr(args, name) for name in cls.__dataclass_fields__})

    @property
    def seed_numbers(self) -> tuple[int, ...] | None:
        """The seeds that were given, or None.

        Raises:
            SparsematchError: where one is no whole number from 0 on.

        """
        if self.seeds is None:
            return None
        texts = [text.strip() for text in self.seeds.split(",")]
        if not all(text.isdecimal() for text in texts):
            raise SparsematchError(f"--seeds {self.seeds}: expected whole numbers such as 101,102")
        return tuple(int(text) for text in texts)

    @property
    def flown_seeds(self) -> tuple[int, ...]:
        """The seeds of scenarios and of real skies: those that were given or the suite's own; one where it is quick."""
        seeds = self.seed_numbers or SEEDS
        return seeds[:1] if self.quick else seeds


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite to those of `sparsematch evaluate`."""
    group = parser.add_argument_group("evaluation of more than one folder, in place of FOLDER")
    group.add_argument("--suite", action="store_true", help="every scenario with several seeds; goes on where it was")
    group.add_argument("--quick", action="store_true", help="with --suite: one seed and short flights")
    group.add_argument("--scenarios", metavar="NAME,NAME", help="with --suite: these scenarios or YAML files (all)")
    seeds = ",".join(map(str, SEEDS))
    group.add_argument("--seeds", metavar="N,N", help=f"with --suite: these seeds [integers] ({seeds})")
    for name, what in (
        ("davis", "sequences with frames/ and masks/, beside an oracle that knows where the object is"),
        ("renders", "the same with truth.jsonl, rendered by another program: judged by their own limits"),
        ("sky", "images of stars, seen by a camera that turns by drawn angles"),
        ("pages", "has accuracy.md and images/: put the table and a picture of each scenario there"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="DIR", help=what)


def asks_for_suite(args: argparse.Namespace) -> bool:
    """Tell whether the arguments mean the suite and not one folder.

    Raises:
        SparsematchError: where they mean both or neither.

    """
    suite = args.suite or any(folder is not None for folder in (args.davis, args.renders, args.sky))
    if suite == (args.folder is not None):
        raise SparsematchError("evaluate takes either a FOLDER or some of --suite, --davis, --renders and --sky")
    return suite
