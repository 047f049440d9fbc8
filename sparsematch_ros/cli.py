#!/usr/bin/env python3
"""The command `sparsematch`. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.evaluation.suite.options import SuiteOptions, add_suite_options, asks_for_suite
from sparsematch_ros.process import program, wait_passively
from sparsematch_ros.simulation.demo_options import SCENARIO, DemoOptions, add_demo_options

if TYPE_CHECKING:
    from sparsematch_ros.config import Config
    from sparsematch_ros.media.sources import Source

OUT = Path("sparsematch_output")
SETTINGS_HELP = "settings: config/sparsematch.yaml lists every stage.key with its default, unit and range"
Handler = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None for those of the process.

    Returns:
        0, or 2 after bad input, or 130 after Ctrl-C.

    """
    wait_passively()
    args = build_parser().parse_args(argv)
    handler: Handler = args.handler
    try:
        return handler(args)
    except (SparsematchError, OSError) as error:
        print(f"sparsematch: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sparsematch: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Describe all commands and options."""
    parser = argparse.ArgumentParser(
        prog="sparsematch",
        description="A spacecraft camera's images in; tracked objects, their velocities and attitude requests out.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_run, _add_simulate, _add_evaluate, _add_bench, _add_match, _add_weights, _add_demo):
        add(commands)
    return parser


def _command(commands: Any, name: str, handler: Handler, summary: str) -> argparse.ArgumentParser:
    """Add a command with the options that all have."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=SETTINGS_HELP
    )
    parser.set_defaults(handler=handler)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file, or ROS parameters file (YAML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.KEY=VALUE",
        dest="overrides",
        help="one setting, over the file's; may be repeated, for example --set tracking.max_coast_s=3",
    )
    return parser


def _add_out(parser: argparse.ArgumentParser, default: Path = OUT) -> None:
    parser.add_argument("--out", type=Path, default=default, metavar="DIR", help=f"folder to write to ({default})")


def _add_frames(parser: argparse.ArgumentParser, default: int | None, otherwise: str) -> None:
    text = f"frames at most [count] ({default or otherwise})"
    parser.add_argument("--frames", type=_positive_int, default=default, metavar="N", help=text)


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all that is random [integer] (0)")


def _add_rate(parser: argparse.ArgumentParser) -> None:
    text = "frame rate of images without stamps, or in place of a video's own [Hz] (10)"
    parser.add_argument("--rate-hz", type=_positive_float, metavar="HZ", help=text)


def _add_run(commands: Any) -> None:
    parser = _command(commands, "run", _run, "find and follow objects in a folder of images, a video or a bag")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of images, video, or rosbag2")
    parser.add_argument("--topic", metavar="NAME", help="image topic of a bag (the only one)")
    _add_rate(parser)
    _add_frames(parser, None, "all")
    _add_out(parser)


def _add_simulate(commands: Any) -> None:
    parser = _command(commands, "simulate", _simulate, "fly a scenario and write its frames and truth")
    parser.add_argument("scenario", metavar="SCENARIO", help="name of a scenario in config/scenarios, or a YAML file")
    _add_seed(parser)
    _add_frames(parser, None, "the scenario's own number")
    _add_out(parser, Path("simulated_output"))


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "run a folder and score the results against its truth")
    text = "holds frames/ and truth.jsonl and/or masks/ (PNG, 0 background)"
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help=text)
    _add_rate(parser)
    _add_frames(parser, None, "all")
    _add_out(parser)
    add_suite_options(parser)


def _add_bench(commands: Any) -> None:
    parser = _command(commands, "bench", _bench, "measure milliseconds a stage, prompts a frame and memory")
    parser.add_argument(
        "source", type=Path, nargs="?", metavar="SOURCE", help="as for run (simulated frames of --scenario)"
    )
    parser.add_argument("--topic", metavar="NAME", help="image topic of a bag (the only one)")
    parser.add_argument("--scenario", default=SCENARIO, metavar="SCENARIO", help=f"scenario to simulate ({SCENARIO})")
    parser.add_argument("--reference", action="store_true", help="run the stock mask generator beside ours, full grid")
    parser.add_argument(
        "--models", nargs="?", const="all", metavar="NAME,NAME", help="time these networks: all, or some by name"
    )
    for option, default, what in (
        ("--warmup", 2, "frames that are not counted at the start of each run"),
        ("--stride", 1, "take every so manieth frame of the source"),
        ("--repeat", 1, "runs over the frames"),
        ("--reference-frames", None, "frames for --reference, spread over those of the bench (all)"),
        ("--models-points", None, "points a side for --models (8 on a CPU, else segmentation.points_per_side)"),
    ):
        text = f"{what} [count]" + (f" ({default})" if default else "")
        parser.add_argument(option, type=_positive_int, default=default, metavar="N", help=text)
    _add_seed(parser)
    _add_frames(parser, 12, "")
    _add_out(parser)


def _add_match(commands: Any) -> None:
    parser = _command(commands, "match", _match, "show two images' patch features, and which patches match")
    for side in "ab":
        text = f"image {side.upper()}, a PNG, JPEG or the like, at least 32 px a side"
        parser.add_argument(f"image_{side}", type=Path, metavar=f"IMAGE_{side.upper()}", help=text)
        text = f"PNG of the size of image {side.upper()}, over 0 on what takes part (the whole image)"
        parser.add_argument(f"--mask-{side}", type=Path, metavar="FILE", help=text)
    text = "share of A's patches drawn as matches, in (0, 1] (0.2); mutual nearest neighbours alone where there are any"
    parser.add_argument("--zoom", action="store_true", help="look at a box around each mask, so with finer patches")
    parser.add_argument("--fraction", type=float, default=0.2, metavar="SHARE", help=text)
    _add_out(parser, Path("match_output"))


def _add_weights(commands: Any) -> None:
    parser = commands.add_parser("weights", help="list, fetch and verify checkpoints of the networks")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = _command(actions, "list", _weights_list, "list the checkpoints that are known, and which are here")
    fetching = _command(actions, "fetch", _weights_fetch, "fetch a checkpoint and verify it")
    verifying = _command(actions, "verify", _weights_verify, "compare checkpoints with their published sha256")
    fetching.add_argument("name", metavar="NAME", help="name in `sparsematch weights list`")
    verifying.add_argument("name", nargs="?", default="", metavar="NAME", help="name in the list (all that are here)")
    verifying.add_argument("--file", default="", metavar="FILE", help="the checkpoint's file (the one in the folder)")
    for each in (listing, fetching, verifying):
        each.add_argument("--folder", default="", metavar="DIR", help="checkpoint folder (model.weights_folder)")


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "run the ROS graph with a simulated camera, closed loop, and record it")
    add_demo_options(parser)
    _add_seed(parser)
    _add_frames(parser, None, "the scenario's own number")
    _add_out(parser, Path("demo_output"))


def _config(args: argparse.Namespace) -> Config:
    from sparsematch_ros.settings import load_config

    return load_config(args.config, args.overrides)


def _open(args: argparse.Namespace, config: Config) -> Source:
    import numpy as np

    from sparsematch_ros.media.sources import open_source

    rate_hz = getattr(args, "rate_hz", None)
    q_BC = np.array(config.pointing.camera_to_body_xyzw, dtype=float)
    return open_source(args.source, args.topic, rate_hz, q_BC, config.camera.bits)


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    source = _open(args, config)
    from sparsematch_ros.media.command import run

    return run(source, config, args.out, args.frames)


def _simulate(args: argparse.Namespace) -> int:
    _config(args)
    from sparsematch_ros.simulation.command import simulate

    simulate(args.scenario, args.out, args.seed, args.frames)
    print(f"look at {args.out / 'frames'}; score with: {program()} evaluate {args.out}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    config = _config(args)
    if asks_for_suite(args):
        from sparsematch_ros.evaluation.suite.command import evaluate_suite

        return evaluate_suite(SuiteOptions.of_arguments(args), config)
    from sparsematch_ros.evaluation.command import evaluate

    return evaluate(args.folder, config, args.out, args.rate_hz, args.frames)


def _bench(args: argparse.Namespace) -> int:
    config = _config(args)
    from sparsematch_ros.evaluation.bench import bench
    from sparsematch_ros.evaluation.bench_options import BenchOptions

    return bench(BenchOptions(**{name: getattr(args, name) for name in BenchOptions.__dataclass_fields__}), config)


def _match(args: argparse.Namespace) -> int:
    config = _config(args)
    from sparsematch_ros.media.match import match

    return match((args.image_a, args.image_b), (args.mask_a, args.mask_b), config, args.out, args.fraction, args.zoom)


def _weights_list(args: argparse.Namespace) -> int:
    from sparsematch_ros.weights.command import list_checkpoints

    return list_checkpoints(args.folder or _config(args).model.weights_folder)


def _weights_fetch(args: argparse.Namespace) -> int:
    from sparsematch_ros.weights.command import fetch_checkpoint

    return fetch_checkpoint(args.name, args.folder or _config(args).model.weights_folder)


def _weights_verify(args: argparse.Namespace) -> int:
    from sparsematch_ros.weights.command import verify_checkpoint

    return verify_checkpoint(args.name, args.folder or _config(args).model.weights_folder, args.file)


def _demo(args: argparse.Namespace) -> int:
    _config(args)
    try:
        from sparsematch_ros.nodes.demo import run_demo
    except ModuleNotFoundError as error:
        raise SparsematchError(f"the demo runs ROS nodes, and {error.name} is not installed; do: make demo") from error

    return run_demo(DemoOptions.of_arguments(args), config_file=args.config, overrides=args.overrides)


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be positive")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
