"""Where checkpoints lie, whether they are intact, and what is in them."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.process import program
from sparsematch_ros.weights.registry import Checkpoint, checkpoint_named

if TYPE_CHECKING:
    from torch import Tensor

FOLDER_VARIABLE = "SPARSEMATCH_WEIGHTS"
_CHUNK_BYTES = 1 << 20

_log = logging.getLogger(__name__)


def weights_folder(folder: str | Path = "") -> Path:
    """Choose the folder of checkpoints.

    Args:
        folder: taken where it is given; else $SPARSEMATCH_WEIGHTS, else `./weights` if it is there, else the user's
            cache folder ($XDG_CACHE_HOME or `~/.cache`).

    """
    given = str(folder) or os.environ.get(FOLDER_VARIABLE, "")
    if given:
        return Path(given).expanduser()
    local = Path("weights")
    if local.is_dir():
        return local
    cache = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    return Path(cache).expanduser() / "sparsematch" / "weights"


def locate(name: str, folder: str | Path = "", explicit_file: str | Path = "") -> Path:
    """Find a checkpoint's file.

    Args:
        name: in the registry.
        folder: as in `weights_folder`.
        explicit_file: taken instead where it is given.

    Raises:
        SparsematchError: unknown name, or no such file; the message says how to fetch it.

    """
    checkpoint = checkpoint_named(name)
    if str(explicit_file):
        path = Path(explicit_file).expanduser()
        if not path.is_file():
            raise SparsematchError(f"checkpoint file {path} does not exist; give the file of {name}, or no file at all")
        return path
    path = weights_folder(folder) / checkpoint.file_name
    if not path.is_file():
        raise SparsematchError(f"checkpoint {path} does not exist; do: {program()} weights fetch {name}")
    return path


def sha256_of(path: Path) -> str:
    """Hash a file's content; return 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path: Path, checkpoint: Checkpoint) -> bool:
    """Check that a file is the checkpoint that was published.

    Returns:
        Whether the content was compared: False where no sha256 of this checkpoint is known.

    Raises:
        SparsematchError: the file is missing, incomplete or altered.

    """
    remedy = f"remove it and do: {program()} weights fetch {checkpoint.name}"
    if not path.is_file():
        raise SparsematchError(f"{path} does not exist; do: {program()} weights fetch {checkpoint.name}")
    size = path.stat().st_size
    if checkpoint.size_bytes is not None and size != checkpoint.size_bytes:
        raise SparsematchError(f"{path} has {size} bytes, {checkpoint.name} has {checkpoint.size_bytes}; {remedy}")
    if checkpoint.sha256 is None:
        return False
    actual = sha256_of(path)
    if actual != checkpoint.sha256:
        raise SparsematchError(
            f"{path} is not {checkpoint.name}: its sha256 is {actual}, it should be {checkpoint.sha256}; {remedy}"
        )
    return True


def load_state_dict(path: Path, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Verify a checkpoint and read its tensors, onto the CPU; nothing in the file is executed.

    Args:
        path: a file of `torch.save`, or of safetensors with that suffix.
        checkpoint: what it should be.

    Raises:
        SparsematchError: missing, incomplete or altered file, or no tensors in it.

    """
    if not verify(path, checkpoint):
        _log.warning("%s was not verified: no sha256 of %s is known", path, checkpoint.name)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not _is_state_dict(state):
        raise SparsematchError(f"{path} does not hold a flat dictionary of tensors; give the file of {checkpoint.name}")
    return state


def _is_state_dict(state: object) -> bool:
    from torch import Tensor

    return isinstance(state, dict) and bool(state) and all(isinstance(value, Tensor) for value in state.values())


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise SparsematchError(f"{path} cannot be read as weights: {_first_line(error)}") from error
    return state


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise SparsematchError(f"{path} cannot be read as weights: {error}") from error
