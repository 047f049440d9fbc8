"""The set-up's own parts: repair of the wheels' CMake files, steps that are done once, the start-up hook."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
INCLUDE = "/usr/include/python3.12"
NUMPY = "/home/me/.venv/lib/python3.12/site-packages/numpy/_core/include"


def load(name: str) -> ModuleType:
    """Import a file of `requirements/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REQUIREMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


repair = load("repair")
steps = load("steps")


@pytest.mark.parametrize(("tag", "version", "core"), [("cp311-cp311", "3.11", "_core"), ("cp39-cp39", "3.9", "core")])
def test_builder_folders_are_replaced(tmp_path: Path, tag: str, version: str, core: str) -> None:
    root = f"/opt/python/{tag}"
    numpy = f"{root}/lib/python{version}/site-packages/numpy/{core}/include"
    old = f'"{root}/include/python{version};{numpy};${{_P}}/include"'
    file = tmp_path / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(f"  INTERFACE_INCLUDE_DIRECTORIES {old}\n")
    cached = tmp_path / "cached.bin"
    os.link(file, cached)  # as uv links a file into the environment
    assert repair.repair_wheels(tmp_path, INCLUDE, NUMPY) == 1
    assert file.read_text() == f'  INTERFACE_INCLUDE_DIRECTORIES "{INCLUDE};{NUMPY};${{_P}}/include"\n'
    assert cached.read_text() == f"  INTERFACE_INCLUDE_DIRECTORIES {old}\n", "uv's cache must not change"
    assert repair.repair_wheels(tmp_path, INCLUDE, NUMPY) == 0


def test_repair_is_loud_where_the_pattern_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "export.cmake"
    file.write_text('set(x "${_P}/include")\n')
    with pytest.raises(repair.RepairError, match="no CMake file"):
        repair.repair_wheels(tmp_path, INCLUDE, NUMPY)
    file.write_text('set(x "/opt/python/cp311-cp311/share/other")\n')
    with pytest.raises(repair.RepairError, match=r"export\.cmake names a folder of its builder"):
        repair.repair_wheels(tmp_path, INCLUDE, NUMPY)


def test_a_step_is_done_again_only_where_it_is_due(tmp_path: Path) -> None:
    done: list[str] = []
    source, result, stamps = tmp_path / "lock.txt", tmp_path / "result", tmp_path / "stamps.json"
    source.write_text("a==1")

    def run() -> None:
        done.append(source.read_text())
        result.touch()

    def due() -> bool:
        step = steps.Step("install", run, lambda: steps.content(source), result, "try again")
        return bool(steps.do(step, steps.read_stamps(stamps), stamps))

    assert [due(), due()] == [True, False]
    source.write_text("a==2")
    assert [due(), due()] == [True, False]
    result.unlink()
    assert [due(), due()] == [True, False]
    stamps.write_text('{"install": ')
    assert [due(), due()] == [True, False], "a stamp file that was cut off counts as none"
    assert done == ["a==1", "a==2", "a==2", "a==2"]


def test_a_failed_step_stays_due(tmp_path: Path) -> None:
    def fail() -> None:
        raise steps.SetupError("no compiler")

    step = steps.Step("build", fail, lambda: ["x"], tmp_path, "try again")
    for _ in range(2):
        with pytest.raises(steps.SetupError):
            steps.do(step, steps.read_stamps(tmp_path / "stamps.json"), tmp_path / "stamps.json")


def test_new_and_removed_files_change_the_names_but_edits_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = steps.names(tmp_path)
    (tmp_path / "a.py").write_text("2")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").touch()
    assert steps.names(tmp_path) == before
    (tmp_path / "b.py").touch()
    assert steps.names(tmp_path) == [*before, str(tmp_path / "b.py")]


def hooked(root: Path, environment: dict[str, str]) -> dict[str, str]:
    """Run the start-up hook as in an environment below `root`; return what it makes of the variables."""
    code = (
        "import os, runpy, sys\n"
        f"sys.prefix = {str(root / '.venv')!r}\n"
        f"runpy.run_path({str(REQUIREMENTS / 'site_hook.py')!r})\n"
        "print(*(f'{k}={v}' for k, v in os.environ.items()), sys.path[-1], sep='\\n')"
    )
    # -S -I: without the real environment's own hook.
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], env=environment, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    return {**dict(line.split("=", 1) for line in lines[:-1]), "path": lines[-1]}


def test_hook_completes_the_library_path_once(tmp_path: Path) -> None:
    prefix = tmp_path / "install" / "sparsematch_ros"
    (prefix / "lib").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    # The library path of the running test comes with it: the interpreter itself may need it.
    inherited = os.environ.get("LD_LIBRARY_PATH", "/usr/lib")
    first = hooked(tmp_path, {"LD_LIBRARY_PATH": inherited, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"})
    assert first["LD_LIBRARY_PATH"] == f"{prefix / 'lib'}:{inherited}"
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in first, "the bootstrapper has to start Python again"
    assert first["AMENT_PREFIX_PATH"] == f"{prefix}:{tmp_path / '.venv'}"
    assert first["SPARSEMATCH_WEIGHTS"] == str(tmp_path / "weights")
    assert first["path"].startswith(str(prefix / "lib" / "python3."))
    del first["path"]
    second = hooked(tmp_path, {**first, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"})
    assert second["LD_LIBRARY_PATH"] == first["LD_LIBRARY_PATH"]
    assert second["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] == "1", "and only once"


def test_hook_does_nothing_before_the_build(tmp_path: Path) -> None:
    assert "AMENT_PREFIX_PATH" not in hooked(tmp_path, {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")})
