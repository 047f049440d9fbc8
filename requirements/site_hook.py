"""Lets every start of the virtual environment's Python know the built package: nothing needs to be sourced.

`make setup` copies this file into the environment's site-packages as `_sparsematch_ros_environment.py`, with a `.pth`
line that imports it. The name sorts before `ros_wheels_bootstrapper.pth`, which starts Python once more with the
library path that this file has completed by then. The environment is the `.venv` folder of the source tree.
"""

import os
import sys

_ROOT = os.path.dirname(sys.prefix)
_PREFIX = os.path.join(_ROOT, "install", "sparsematch_ros")
_BOOTSTRAP_DONE = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def _prepend(variable: str, *folders: str) -> bool:
    """Put folders at the front of a path variable; return whether that changed anything."""
    old = [part for part in os.environ.get(variable, "").split(os.pathsep) if part]
    missing = [folder for folder in folders if folder not in old]
    if missing:
        os.environ[variable] = os.pathsep.join(missing + old)
    return bool(missing)


def _activate() -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(os.path.join(_PREFIX, "lib", version, "site-packages"))
    _prepend("AMENT_PREFIX_PATH", _PREFIX, sys.prefix)
    if _prepend("LD_LIBRARY_PATH", os.path.join(_PREFIX, "lib")):
        # The loader reads the variable only at start: have the bootstrapper start Python (once) more.
        os.environ.pop(_BOOTSTRAP_DONE, None)
    weights = os.path.join(_ROOT, "weights")
    if os.path.isdir(weights):
        os.environ.setdefault("SPARSEMATCH_WEIGHTS", weights)


if os.path.isdir(_PREFIX):
    _activate()
