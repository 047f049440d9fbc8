"""ROS parameters from the settings dataclasses: each field becomes one, with description, unit and range."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.settings import config_from_groups

Settings = TypeVar("Settings")

# What every ROS node takes besides its own.
ROS_OWN = ("use_sim_time", "qos_overrides.", "start_type_description_service")
# A 64 bit integer's and a double's ends, for settings that are bounded on one side alone.
INTEGER_END = 2**62
FLOAT_END = 1e300


def declare_config(node: Node, names: Iterable[str]) -> Config:
    """Declare settings of the stages, named `stage.key`, and build them from the node's parameters.

    Args:
        node: that the parameters belong to.
        names: whole stages, `tracking`, or single settings, `pointing.boresight`. The others keep their defaults.

    Raises:
        SparsematchError: with the parameter's name, what is wrong and what would be right.

    """
    wanted = tuple(names)
    groups: dict[str, dict[str, Any]] = {}
    for stage in dataclasses.fields(Config):
        for item in dataclasses.fields(getattr(Config(), stage.name)):
            if stage.name in wanted or f"{stage.name}.{item.name}" in wanted:
                groups.setdefault(stage.name, {})[item.name] = _declare(node, f"{stage.name}.{item.name}", item)
    return config_from_groups(groups)


def declare_settings(node: Node, kind: type[Settings]) -> Settings:
    """Declare the fields of a node's own settings, without a prefix, and build them from the node's parameters.

    Raises:
        SparsematchError: as `declare_config`.

    """
    return kind(**{item.name: _declare(node, item.name, item) for item in dataclasses.fields(kind)})  # type: ignore[arg-type]


def refuse_unknown(node: Node) -> None:
    """Refuse parameters that neither this node nor any stage has.

    Settings of stages that this node does not use are let pass: one file serves all nodes.

    Raises:
        SparsematchError: with the unknown name and the nearest known one.

    """
    stages = {
        f"{stage.name}.{item.name}"
        for stage in dataclasses.fields(Config)
        for item in dataclasses.fields(getattr(Config(), stage.name))
    }
    # rclpy ignores an override that is never declared, and gives no public way to list them.
    for name in node._parameter_overrides:
        if not (name in stages or node.has_parameter(name) or name.startswith(ROS_OWN)):
            close = difflib.get_close_matches(name, [*stages, *_declared(node)], n=1, cutoff=0.6)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise SparsematchError(f"parameter '{name}' is unknown to {node.get_name()}{hint}")


def _declared(node: Node) -> list[str]:
    return list(node._parameters)


def _declare(node: Node, name: str, item: dataclasses.Field[Any]) -> Any:
    default: Any = item.default
    if item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    try:
        if isinstance(default, list):
            return _declare_list(node, name, default, _descriptor(item, default))
        return node.declare_parameter(name, default, _descriptor(item, default)).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        value = node._parameter_overrides[name].value
        raise SparsematchError(f"parameter '{name}': {value!r} is refused, {_right(item, default)}") from error


def _declare_list(node: Node, name: str, default: list[float], descriptor: ParameterDescriptor) -> list[float]:
    """Declare a list of numbers by its type: rclpy takes an empty one for a list of bytes."""
    if default:
        return list(node.declare_parameter(name, default, descriptor).value)
    node.declare_parameter(name, Parameter.Type.DOUBLE_ARRAY, descriptor)
    value = node.get_parameter_or(name).value
    return list(value) if value is not None else []


def _descriptor(item: dataclasses.Field[Any], default: Any) -> ParameterDescriptor:
    meta = item.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    descriptor = ParameterDescriptor(description=f"{meta['description']}{unit}", read_only=True)
    if meta["choices"]:
        descriptor.additional_constraints = f"one of {', '.join(map(str, meta['choices']))}"
    low, high = meta["minimum"], meta["maximum"]
    if low is None and high is None:
        return descriptor
    if isinstance(default, int):
        descriptor.integer_range = [
            IntegerRange(
                from_value=-INTEGER_END if low is None else int(low),
                to_value=INTEGER_END if high is None else int(high),
            )
        ]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=-FLOAT_END if low is None else float(low),
                to_value=FLOAT_END if high is None else float(high),
            )
        ]
    return descriptor


def _right(item: dataclasses.Field[Any], default: Any) -> str:
    """Say what would be right."""
    meta = item.metadata
    kind = "a list of numbers such as [0.0, 1.0]" if isinstance(default, list) else type(default).__name__
    words = f"expected {kind}"
    if meta["minimum"] is not None or meta["maximum"] is not None:
        words += f" in [{meta['minimum']}, {meta['maximum']}]"
    return f"{words} {meta['unit']}".rstrip()
