"""Makes the environment that `make demo` and `make test` run in: the driver behind `make setup`.

Plain Python 3.10 to 3.12 without any package, because it runs before there is one. A step whose
inputs are unchanged and whose result is still there is left out, so a second run does nothing.

With `ROS_DISTRO` set, ROS 2 comes from that distribution; else from Python wheels.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from repair import RepairError, repair_wheels
from steps import SetupError, Step, content, do, ending, names, read_stamps

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
LOCK = REQUIREMENTS / "lock.txt"
PREFIX = ROOT / "install" / "sparsematch_ros"
STAMPS = VENV / "setup.json"
WEIGHTS = ROOT / "weights" / "mobile_sam.pt"
DISTRO = os.environ.get("ROS_DISTRO", "")
HOOK = "_sparsematch_ros_environment"


def python_folder() -> Path:
    """Give the environment's `lib/python3.x`: its own where it exists, else that of the Python that runs this."""
    own = [folder for folder in (VENV / "lib").glob("python3.*") if PYTHON.exists()]
    return own[0] if len(own) == 1 else VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"


SITE_PACKAGES = python_folder() / "site-packages"

SPARSEMATCH = """#!{python}
import sys

from sparsematch_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""


def call(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command with its output shown; raise `subprocess.CalledProcessError` where it fails."""
    subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, check=True)


def answer(code: str) -> list[str]:
    """Run a line of Python in the environment and return the lines it prints."""
    done = subprocess.run([str(PYTHON), "-c", code], cwd=VENV, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def check_machine() -> None:
    """Check that the compilers are there."""
    if sys.platform != "linux":
        raise SetupError(f"{sys.platform} is not supported; use Linux")
    missing = [tool for tool in ("g++", "cmake", "make") if not shutil.which(tool)]
    if missing:
        raise SetupError(f"{', '.join(missing)} not found; do: apt install g++ cmake make")
    if DISTRO and not shutil.which("colcon"):
        raise SetupError(f"ROS_DISTRO={DISTRO}, but no colcon; do: apt install python3-colcon-common-extensions")


def check_python() -> None:
    """Check that an environment can be made of the Python that runs this."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise SetupError(f"Python {sys.version.split()[0]}; take 3.10 to 3.12: make setup PYTHON=python3.11")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise SetupError("Python.h not found; do: apt install python3-dev")
    if not _importable("ensurepip"):
        raise SetupError("this Python cannot make virtual environments; do: apt install python3-venv")


def make_venv() -> None:
    """Create the virtual environment, or take over the one that is there, whatever Python runs this now."""
    shared = f"include-system-site-packages = {str(bool(DISTRO)).lower()}"
    if PYTHON.exists() and (SITE_PACKAGES / "pip").is_dir() and shared in (VENV / "pyvenv.cfg").read_text("utf-8"):
        return
    check_python()
    options = ["--system-site-packages"] if DISTRO else []
    call(sys.executable, "-m", "venv", "--clear", *options, VENV)


def _importable(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def install_uv() -> None:
    """Install the locked uv, by its hash."""
    block = re.search(r"^uv==.*(?:\n[ \t]+.*)*", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if block is None:
        raise SetupError("requirements/lock.txt does not name uv; make the lock again (CONTRIBUTING.md)")
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder, "uv.txt")
        only_uv.write_text(block.group(0) + "\n", encoding="utf-8")
        call(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", only_uv)


def install_locked() -> None:
    """Install every locked requirement, by its hash."""
    call(VENV / "bin" / "uv", "pip", "install", "--require-hashes", "--python", PYTHON, "-r", LOCK)
    check_opencv()


def install_distro() -> None:
    """Install what the distribution has no package for."""
    call(PYTHON, "-m", "pip", "install", "-r", REQUIREMENTS / "distro.txt")
    check_opencv()


def check_opencv() -> None:
    """Check that OpenCV finds the system's libraries, which no Python package can bring."""
    done = subprocess.run([str(PYTHON), "-c", "import cv2"], cwd=VENV, capture_output=True, text=True, check=False)
    if "libGL" in done.stderr or "libgthread" in done.stderr:
        raise SetupError("OpenCV lacks a system library; do: apt install libgl1 libglib2.0-0")
    if done.returncode:
        raise SetupError(f"OpenCV does not import: {done.stderr.strip().splitlines()[-1]}")


def repair() -> None:
    """Replace the folders of the builders' machine in the wheels' CMake files."""
    folders = "import numpy, sysconfig; print(sysconfig.get_path('include'), numpy.get_include(), sep='\\n')"
    include, numpy_include = answer(folders)
    try:
        repair_wheels(VENV / "share", include, numpy_include)
    except RepairError as error:
        raise SetupError(str(error)) from error


def clear_build() -> None:
    """Remove the built package: a message that was taken out of the interface would stay in it."""
    for folder in (PREFIX, ROOT / "build" / PREFIX.name):
        shutil.rmtree(folder, ignore_errors=True)


def build() -> None:
    """Build the messages and link the package into `install/`."""
    for link in PREFIX.rglob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
    environment = {"VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    if not DISTRO:
        environment |= {"AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV)}
    colcon = VENV / "bin" / "colcon" if not DISTRO else Path("colcon")
    options: list[str | Path] = ["--symlink-install", "--paths", ROOT, "--cmake-args", f"-DPython3_EXECUTABLE={PYTHON}"]
    call(colcon, "--log-level", "error", "build", *options, env=environment)


def install_hook() -> None:
    """Let every start of the environment's Python know the built package."""
    shutil.copyfile(REQUIREMENTS / "site_hook.py", SITE_PACKAGES / f"{HOOK}.py")
    (SITE_PACKAGES / f"{HOOK}.pth").write_text(f"import {HOOK}\n", encoding="utf-8")


def install_command() -> None:
    """Write the `sparsematch` command."""
    command = VENV / "bin" / "sparsematch"
    command.write_text(SPARSEMATCH.format(python=PYTHON), encoding="utf-8")
    command.chmod(0o755)


def fetch_weights() -> None:
    """Fetch and verify the MobileSAM checkpoint."""
    call(PYTHON, "-m", "sparsematch_ros.cli", "weights", "fetch", "mobile_sam", "--folder", WEIGHTS.parent)


def interface() -> list[str]:
    """Give what the compiled part depends on."""
    files = [ROOT / name for name in ("msg", "srv", "action", "CMakeLists.txt", "package.xml")]
    return [*content(*files, LOCK), DISTRO]


def build_inputs() -> list[str]:
    """Give what the build depends on: contents of the interface, names of the files that are linked."""
    return [*interface(), *names(ROOT / "sparsematch_ros", ROOT / "launch", ROOT / "config")]


def registry() -> list[str]:
    """Give what says which checkpoint is the right one; that it is intact is checked whenever it is loaded."""
    return content(ROOT / "sparsematch_ros" / "weights" / "registry.py")


def steps() -> list[Step]:
    """List the steps in order."""
    online = "check the connection to the Python registry, then run it again"
    lock, hook = (lambda: content(LOCK)), REQUIREMENTS / "site_hook.py"
    venv = Step("virtual environment", make_venv, lambda: [DISTRO], PYTHON, "remove .venv and try again")
    old = Step("clearing of an old build", clear_build, interface, VENV, "remove build/ and install/ yourself")
    package = Step(
        "messages and package",
        build,
        build_inputs,
        PREFIX / "share" / "sparsematch_ros" / "package.xml",
        "read the compiler's message above; if install/ came from another layout, run `make clean` first",
    )
    command = Step("command", install_command, lambda: [SPARSEMATCH], VENV / "bin" / "sparsematch", "check .venv/bin")
    weights = Step("MobileSAM checkpoint", fetch_weights, registry, WEIGHTS, "see the message above")
    if DISTRO:
        distro = REQUIREMENTS / "distro.txt"
        needs = Step("requirements", install_distro, lambda: content(distro), VENV / "pyvenv.cfg", online)
        return [venv, needs, old, package, command, weights]
    return [
        venv,
        Step("uv", install_uv, lock, VENV / "bin" / "uv", online),
        Step("locked requirements", install_locked, lock, SITE_PACKAGES / "rclpy", online),
        Step("repair of the ROS wheels", repair, lock, VENV / "share", "remove .venv and try again"),
        old,
        package,
        Step("start-up hook", install_hook, lambda: content(hook), SITE_PACKAGES / f"{HOOK}.pth", "check .venv"),
        command,
        weights,
    ]


def main() -> int:
    """Do all steps that are due, in one process at a time; return the exit status."""
    name, remedy = "machine", ""
    try:
        alone = os.open(__file__, os.O_RDONLY)
        check_machine()
        fcntl.flock(alone, fcntl.LOCK_EX)
        if DISTRO:
            print(f"-- ROS_DISTRO={DISTRO}: ROS 2 comes from the distribution (this way of setting up is untried)")
        done = 0
        stamps = read_stamps(STAMPS)
        for step in steps():
            name, remedy = step.name, step.remedy
            done += do(step, stamps, STAMPS)
    except (SetupError, subprocess.CalledProcessError, OSError) as error:
        reason = ending(error) if isinstance(error, subprocess.CalledProcessError) else str(error)
        hint = "" if isinstance(error, SetupError) else f"; {remedy}"
        print(f"set-up failed at step '{name}': {reason}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"set-up interrupted at step '{name}'; run it again to go on", file=sys.stderr)
        return 130
    advice = "; source install/setup.bash before use" if DISTRO else ""
    print(f"-- set-up complete{advice}" if done else "-- set-up: nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
