"""The machine under a benchmark: its name, its clock, its memory."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


class Stopwatch:
    """Measures wall time on a device; a GPU's work counts, because the host waits for it at both ends."""

    def __init__(self, device: str) -> None:
        """Wait for what runs, and start."""
        self._device = device
        synchronise(device)
        self._start = time.perf_counter()

    def stop(self) -> float:
        """Wait for what runs, and give the seconds since the start."""
        synchronise(self._device)
        return time.perf_counter() - self._start


def synchronise(device: str) -> None:
    """Wait until a GPU has done all that it was given; a CPU has."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def device_name(device: str) -> str:
    """Name the processor behind a torch device."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def forget_device_peak(device: str) -> None:
    """Let the peak of a GPU's memory count from here on."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_device_memory_mb(device: str) -> float | None:
    """Give the most of a GPU's memory that tensors have held [MB]; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e6


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
