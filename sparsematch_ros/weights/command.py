"""What stands behind `sparsematch weights list`, `fetch` and `verify`; each returns an exit status."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.process import program
from sparsematch_ros.weights.fetch import fetch
from sparsematch_ros.weights.registry import CHECKPOINTS, Checkpoint, checkpoint_named
from sparsematch_ros.weights.store import locate, verify, weights_folder


def list_checkpoints(folder: str | Path = "") -> int:
    """Print a table of all checkpoints, and which of them lie in the folder.

    Args:
        folder: as in `weights_folder`.

    Returns:
        0.

    """
    place = weights_folder(folder)
    table = Table(title=f"checkpoints in {place}", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("name", "licence", "here"):
        table.add_column(column, no_wrap=True)
    table.add_column("size [MB]", justify="right")
    table.add_column("file", overflow="fold")
    for checkpoint in CHECKPOINTS.values():
        table.add_row(*_row(checkpoint, place))
    Console().print(table)
    return 0


def _row(checkpoint: Checkpoint, place: Path) -> tuple[str, ...]:
    size = "?" if checkpoint.size_bytes is None else f"{checkpoint.size_bytes / 1e6:.0f}"
    here = "yes" if (place / checkpoint.file_name).is_file() else "no"
    return checkpoint.name, checkpoint.licence, here, size, checkpoint.file_name


def fetch_checkpoint(name: str, folder: str | Path = "") -> int:
    """Fetch a checkpoint into the folder and verify it; nothing happens where it is there and intact.

    Args:
        name: in the registry.
        folder: as in `weights_folder`.

    Returns:
        0.

    Raises:
        SparsematchError: unknown name, or no source gave the right file.

    """
    checkpoint = checkpoint_named(name)
    path = fetch(checkpoint, weights_folder(folder))
    print(f"{path}: {_verdict(checkpoint.sha256 is not None, checkpoint)}")
    return 0


def verify_checkpoint(name: str = "", folder: str | Path = "", file: str | Path = "") -> int:
    """Compare a checkpoint with its published sha256, or all that lie in the folder where no name is given.

    Args:
        name: in the registry, or empty for all.
        folder: as in `weights_folder`.
        file: of the checkpoint `name`; empty: the one in the folder.

    Returns:
        0.

    Raises:
        SparsematchError: unknown name; missing, incomplete or altered file.

    """
    if str(file) and not name:
        raise SparsematchError(f"which checkpoint should {file} be? Give its name, one of: {', '.join(CHECKPOINTS)}")
    for checkpoint in [checkpoint_named(name)] if name else _present(weights_folder(folder)):
        path = locate(checkpoint.name, folder, file)
        print(f"{path}: {_verdict(verify(path, checkpoint), checkpoint)}")
    return 0


def _present(place: Path) -> list[Checkpoint]:
    found = [checkpoint for checkpoint in CHECKPOINTS.values() if (place / checkpoint.file_name).is_file()]
    if not found:
        raise SparsematchError(f"no checkpoint lies in {place}; do: {program()} weights fetch mobile_sam")
    return found


def _verdict(compared: bool, checkpoint: Checkpoint) -> str:
    if compared:
        return f"is {checkpoint.name}, sha256 {checkpoint.sha256}"
    return f"not verified: no sha256 of {checkpoint.name} is known"
