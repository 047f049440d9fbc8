"""Runtimes for MobileSAM's image encoder on a CPU, measured side by side.

Every candidate encodes the same frames in turn (A B C A B C ...), so that whatever else runs on the machine slows them
alike; what is reported is the median of each round's ratio to the eager float32 encoder. Cold starts are measured in a
fresh process each, from the artifact where there is one. Runtimes that are not installed are skipped with a line:

    python benchmarks/runtimes.py --weights weights/mobile_sam.pt --input 512x512 frame.jpg ...
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # libgomp reads it once, when torch is imported

import cv2
import torch
from runtimes_candidates import CANDIDATES, REFERENCE, Runner
from torch import Tensor, nn
from torch.nn import functional

from sparsematch_ros.segmentation.models import build_sam

_PIXEL_MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
_PIXEL_STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


@dataclass
class Result:
    """What one candidate gave.

    Attributes:
        cpu_ms: median processor time of all threads, which other work on the machine hardly changes.
        speedup: median over the rounds of eager float32's time over this one's.
        max_difference: largest absolute difference of a feature from eager float32's.
        cosine_min: smallest cosine of a patch's features with eager float32's; `cosine_mean` the mean.
        export_s: writing the artifact, or compiling with no cache [s].
        start_s: building the network, importing and loading the runtime, and the first frame, in a fresh process;
            torch's own import left out [s].
        artifact_mib: size of the artifact [MiB].
        peak_mib: peak resident memory of that fresh process [MiB].

    """

    name: str
    median_ms: float
    cpu_ms: float
    speedup: float
    max_difference: float
    cosine_min: float
    cosine_mean: float
    export_s: float = 0.0
    start_s: float = 0.0
    artifact_mib: float = 0.0
    peak_mib: float = 0.0


def load_encoder(weights: Path, side: int) -> nn.Module:
    """Build MobileSAM's image encoder, from its checkpoint."""
    state = torch.load(weights, map_location="cpu", weights_only=True)
    return build_sam("mobile_sam", state, side).image_encoder


def read_image(path: Path, height: int, width: int) -> Tensor:
    """Read a picture as the encoder gets it: longest side fitted, normalised, zeros below and right."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = min(height / picture.shape[0], width / picture.shape[1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pixels = (torch.from_numpy(picture).permute(2, 0, 1).float() - _PIXEL_MEAN) / _PIXEL_STD
    return functional.pad(pixels, (0, width - pixels.shape[2], 0, height - pixels.shape[1]))[None].contiguous()


def folder_of(name: str, options: argparse.Namespace) -> Path:
    """Return where a candidate's artifact lies."""
    folder: Path = options.out / options.input / name.replace(" ", "_").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_runner(name: str, image: Tensor, options: argparse.Namespace) -> tuple[Runner, float]:
    """Export where needed and load; the runner and the seconds that exporting took."""
    candidate, folder = CANDIDATES[name], folder_of(name, options)
    start = time.perf_counter()
    if candidate.export:
        candidate.export(load_encoder(options.weights, max(image.shape)), image, folder)
    export_s = time.perf_counter() - start
    return candidate.load(load_encoder(options.weights, max(image.shape)), folder), export_s


def make_runners(image: Tensor, options: argparse.Namespace) -> dict[str, tuple[Runner, float]]:
    """Make every runner whose runtime is installed, warmed up."""
    runners = {}
    for name in options.only or CANDIDATES:
        try:
            runners[name] = make_runner(name, image, options)
        except ImportError as missing:
            print(f"skipped {name}: {missing}")
            continue
        for _ in range(3):
            runners[name][0](image)
        print(f"ready: {name} ({runners[name][1]:.1f} s)", flush=True)
    return runners


def time_in_turn(runners: dict[str, Runner], image: Tensor, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Run the candidates one after another, round by round; wall and processor seconds of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run(image)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def compare(name: str, runners: dict[str, Runner], images: list[Tensor]) -> tuple[float, float, float]:
    """Compare features with the reference: largest difference, smallest and mean cosine over the patches."""
    differences, cosines = [], []
    for image in images:
        expected, found = runners[REFERENCE](image).clone(), runners[name](image)
        differences.append(float((expected - found).abs().max()))
        cosines.append(functional.cosine_similarity(expected, found, dim=1).flatten())
    joined = torch.cat(cosines)
    return max(differences), float(joined.min()), float(joined.mean())


def measure_cold(result: Result, options: argparse.Namespace) -> None:
    """Fill in what a fresh process takes to load the candidate and encode its first frame."""
    command = [sys.executable, __file__, *sys.argv[1:], "--cold", result.name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result.start_s, result.peak_mib = json.loads(answer.splitlines()[-1])
    files = [path for path in folder_of(result.name, options).rglob("*") if path.is_file()]
    result.artifact_mib = sum(path.stat().st_size for path in files) / 2**20


def peak_mib() -> float:
    """Return this process's peak resident memory [MiB] (Linux); `ru_maxrss` would count the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def start_cold(options: argparse.Namespace, image: Tensor) -> None:
    """Load one candidate, encode one frame, print `[seconds, peak MiB]`."""
    start = time.perf_counter()
    encoder = load_encoder(options.weights, max(image.shape))
    CANDIDATES[options.cold].load(encoder, folder_of(options.cold, options))(image)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak_mib()]))


def measure(options: argparse.Namespace, images: list[Tensor]) -> list[Result]:
    """Measure every candidate."""
    made = make_runners(images[0], options)
    runners = {name: runner for name, (runner, _) in made.items()}
    times = time_in_turn(runners, images[0], options.rounds)
    results = []
    for name, seconds in times.items():
        ratio = statistics.median(first[0] / own[0] for first, own in zip(times[REFERENCE], seconds))
        wall_ms, cpu_ms = (statistics.median(column) * 1e3 for column in zip(*seconds))
        results.append(Result(name, wall_ms, cpu_ms, ratio, *compare(name, runners, images), made[name][1]))
        measure_cold(results[-1], options)
    return results


def print_table(results: list[Result]) -> None:
    """Print the results as a Markdown table."""
    formats = {
        "median_ms": ".0f",
        "cpu_ms": ".0f",
        "speedup": ".2f",
        "max_difference": ".1e",
        "cosine_min": ".5f",
        "cosine_mean": ".6f",
        "export_s": ".1f",
        "start_s": ".2f",
        "artifact_mib": ".0f",
        "peak_mib": ".0f",
    }
    print(f"| name | {' | '.join(formats)} |")
    print("|" + " --- |" * (len(formats) + 1))
    for result in results:
        cells = [format(getattr(result, field), form) for field, form in formats.items()]
        print(f"| {result.name} | {' | '.join(cells)} |")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="pictures; the first one is timed, all are compared")
    parser.add_argument("--weights", type=Path, default=Path("weights/mobile_sam.pt"))
    parser.add_argument("--input", default="512x512", metavar="HxW", help="encoder's input [px], multiples of 32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="NAME", help=f"of: {', '.join(CANDIDATES)}")
    parser.add_argument("--out", type=Path, default=Path("runtimes"), help="artifacts and results go here")
    parser.add_argument("--cold", choices=CANDIDATES, help=argparse.SUPPRESS)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    height, width = (int(part) for part in options.input.split("x"))
    images = [read_image(path, height, width) for path in options.images]
    if options.cold:
        start_cold(options, images[0])
        return
    results = measure(options, images)
    (options.out / f"{options.input}.json").write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    print_table(results)


if __name__ == "__main__":
    main()
