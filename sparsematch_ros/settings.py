"""Settings from files and the command line, and the settings file itself.

A settings file has one group a stage (`tracking:` and below it `max_coast_s: 3`). The same file serves as a ROS
parameters file: what lies below `ros__parameters` is taken out first.
"""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError

ROS_KEY = "ros__parameters"
# Parameters that every ROS node has and that are no settings of the stages.
ROS_OWN = ("use_sim_time", "qos_overrides", "start_type_description_service")

Groups = dict[str, dict[str, Any]]

HEADER = """\
# Every setting of sparsematch_ros with its default, unit and range.
# Use it as `sparsematch ... --config FILE` or as a ROS parameters file (`--ros-args --params-file FILE`).
# Written by sparsematch_ros.settings.default_yaml from sparsematch_ros/config.py: change a default there.
"""


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Load the settings of a file, then apply overrides.

    Args:
        path: settings file or ROS parameters file; None for the defaults.
        overrides: `stage.key=value`, the value as YAML.

    Raises:
        SparsematchError: for a file that cannot be read, an unknown key (with the nearest known one) or a bad value.

    """
    groups: Groups = {} if path is None else _read_groups(path)
    for override in overrides:
        stage, key, value = _parse_override(override)
        groups.setdefault(stage, {})[key] = value
    return config_from_groups(groups)


def config_from_groups(groups: Mapping[str, Mapping[str, Any]]) -> Config:
    """Build settings from `{stage: {key: value}}`; what is not given keeps its default.

    Raises:
        SparsematchError: for an unknown stage or key, or a value of the wrong type or range.

    """
    stages = {item.name: item.default_factory for item in dataclasses.fields(Config)}
    built = {}
    for stage, values in groups.items():
        if stage not in stages:
            raise SparsematchError(f"unknown group of settings '{stage}'{_nearest(stage, stages)}")
        built[stage] = _build_stage(stage, stages[stage], values)
    return Config(**built)


def changed_settings(config: Config) -> dict[str, Any]:
    """List the settings that differ from their defaults, as `stage.key`."""
    default = dataclasses.asdict(Config())
    actual = dataclasses.asdict(config)
    return {
        f"{stage}.{key}": value
        for stage, values in actual.items()
        for key, value in values.items()
        if value != default[stage][key]
    }


def default_yaml() -> str:
    """Write `config/sparsematch.yaml`: every default, with description, unit and range as comments."""
    lines = [HEADER, "/**:", f"  {ROS_KEY}:"]
    for stage in dataclasses.fields(Config):
        group = getattr(Config(), stage.name)
        lines += ["", f"    # {(type(group).__doc__ or '').strip()}", f"    {stage.name}:"]
        for item in dataclasses.fields(group):
            lines += _yaml_lines(item, getattr(group, item.name))
    return "\n".join(lines) + "\n"


def _build_stage(stage: str, factory: Any, values: Mapping[str, Any]) -> Any:
    defaults = {item.name: getattr(factory(), item.name) for item in dataclasses.fields(factory)}
    for key in values:
        if key not in defaults:
            raise SparsematchError(f"unknown setting '{stage}.{key}'{_nearest(key, defaults)}")
    try:
        return factory(**{key: _as_type_of(defaults[key], value) for key, value in values.items()})
    except SparsematchError as error:
        raise SparsematchError(f"{stage}.{error}") from error


def _as_type_of(default: Any, value: Any) -> Any:
    """Take an int, and a number that YAML 1.1 reads as text such as 1e-3, where a float is meant."""
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f": did you mean '{close[0]}'?" if close else f": known are {', '.join(names)}"


def _read_groups(path: Path) -> Groups:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SparsematchError(f"cannot read settings file {path}: {error}") from error
    except yaml.YAMLError as error:
        raise SparsematchError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SparsematchError(f"{path} holds {type(content).__name__}, expected `stage:` groups of `key: value`")
    return _split_dotted(_unwrap_ros(content))


def _unwrap_ros(content: dict[str, Any]) -> dict[str, Any]:
    """Merge what lies below `ros__parameters` of every node name, in order."""
    nodes = [value for value in content.values() if isinstance(value, dict) and ROS_KEY in value]
    if not nodes:
        return content
    merged: dict[str, Any] = {}
    for node in nodes:
        for stage, values in (node[ROS_KEY] or {}).items():
            both_groups = isinstance(merged.get(stage), dict) and isinstance(values, dict)
            merged[stage] = {**merged[stage], **values} if both_groups else values
    return {key: value for key, value in merged.items() if key not in ROS_OWN}


def _split_dotted(content: dict[str, Any]) -> Groups:
    """Turn `stage.key: value`, which ROS accepts too, into groups; an empty group keeps its defaults."""
    groups: Groups = {}
    for name, value in content.items():
        stage, dot, key = str(name).partition(".")
        if dot:
            groups.setdefault(stage, {})[key] = value
        elif value is None or isinstance(value, dict):
            groups.setdefault(stage, {}).update(value or {})
        else:
            raise SparsematchError(f"settings group '{stage}' holds {value!r}, expected `key: value` lines below it")
    return groups


def _parse_override(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    stage, dot, key = name.strip().partition(".")
    if not (equals and dot and stage and key):
        raise SparsematchError(f"--set {text}: expected stage.key=value, for example tracking.max_coast_s=3")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SparsematchError(f"--set {text}: the value is not YAML") from error
    return stage, key, "" if parsed is None else parsed


def _yaml_lines(item: dataclasses.Field[Any], default: Any) -> list[str]:
    # An empty list has no type in a ROS parameters file, so such a key is left out.
    entry = f"# {item.name}: []" if default == [] else f"{item.name}: {_yaml_value(default)}"
    comment = textwrap.wrap(_comment(item), width=120, initial_indent="      # ", subsequent_indent="      # ")
    return [*comment, f"      {entry}"]


def _comment(item: dataclasses.Field[Any]) -> str:
    meta = item.metadata
    parts = [meta["description"]]
    if meta["unit"]:
        parts.append(f"[{meta['unit']}]")
    if meta["minimum"] is not None:
        parts.append(f"({meta['minimum']} to {meta['maximum']})")
    if meta["choices"]:
        parts.append(f"(one of {', '.join(map(str, meta['choices']))})")
    return " ".join(parts)


def _yaml_value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()


if __name__ == "__main__":
    print(default_yaml(), end="")
