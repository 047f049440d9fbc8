"""Install of the part that needs no ROS: `pip install .` gives the command `sparsematch` without `demo`'s ROS graph.

A ROS workspace does not read this file (`build_type` is `ament_cmake`); `make setup` does not either.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    """Read the ranges of one file in `requirements/`."""
    lines = (HERE / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def shared_files() -> list[tuple[str, list[str]]]:
    """List settings and scenarios by the folder they go to, the same as in a ROS workspace."""
    folders: dict[str, list[str]] = {}
    for file in sorted((HERE / "config").rglob("*.yaml")):
        relative = file.relative_to(HERE)
        folders.setdefault(f"share/sparsematch_ros/{relative.parent}", []).append(str(relative))
    return list(folders.items())


setup(
    name="sparsematch_ros",
    version="0.1.0",
    description="A spacecraft camera's images in; tracked objects, their velocities and attitude requests out",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["sparsematch_ros", "sparsematch_ros.*"], exclude=["sparsematch_ros.nodes*"]),
    data_files=shared_files(),
    install_requires=requirements("core.in"),
    extras_require={
        "ros": requirements("wheels.in"),
        "basilisk": requirements("basilisk.in"),
        "dev": requirements("dev.in"),
    },
    entry_points={"console_scripts": ["sparsematch = sparsematch_ros.cli:main"]},
)
