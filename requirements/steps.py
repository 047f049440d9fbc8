"""Steps that are done once: each is done again only where its inputs changed or its result is gone.

A step's fingerprint, a hash of its inputs, is kept in a file once the step has succeeded.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


class SetupError(Exception):
    """A step cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Step:
    """One step of the set-up.

    Attributes:
        name: what is shown.
        run: does it.
        inputs: everything whose change makes the step due again.
        result: what exists once it is done.
        remedy: what to do where a command of the step fails.

    """

    name: str
    run: Callable[[], None]
    inputs: Callable[[], Iterable[str]]
    result: Path
    remedy: str

    def fingerprint(self) -> str:
        """Hash the inputs."""
        return hashlib.sha256("\n".join(self.inputs()).encode()).hexdigest()


def content(*paths: Path) -> list[str]:
    """Give name and hash of each file, of each file below a folder, in order; missing ones are left out."""
    files = [found for path in paths for found in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return [f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files if file.is_file()]


def names(*folders: Path) -> list[str]:
    """Give the names of all files below folders: edits are live, but a new file must be linked."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(str(path) for path in found if path.is_file() and "__pycache__" not in path.parts)


def read_stamps(file: Path) -> dict[str, str]:
    """Read the fingerprints of the steps done; after an interrupted write there are none, and all is done again."""
    try:
        stamps: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return stamps


def do(step: Step, stamps: dict[str, str], file: Path) -> bool:
    """Do a step if it is due, and say how long it took; return whether it was due."""
    fingerprint = step.fingerprint()
    if step.result.exists() and stamps.get(step.name) == fingerprint:
        return False
    print(f"-- {step.name} ...", flush=True)
    start = time.monotonic()
    step.run()
    if not file.exists():  # the environment is new: nothing is in it yet
        stamps.clear()
    stamps[step.name] = fingerprint
    file.write_text(json.dumps(stamps, indent=1), encoding="utf-8")
    print(f"-- {step.name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return True


def ending(error: subprocess.CalledProcessError) -> str:
    """Say in one line which command failed, by its first words."""
    program, *arguments = (str(word) for word in error.cmd)
    shown = [Path(program).name, *(word for word in arguments[:3] if "\n" not in word)]
    return f"`{' '.join(shown)}` ended with status {error.returncode}"
