"""What a setting is: a dataclass field with description, unit, range and choices, checked at construction."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

from sparsematch_ros.errors import SparsematchError


def setting(
    default: Any,
    description: str,
    unit: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | tuple[int, ...] = (),
) -> Any:
    """Make a dataclass field that knows its description, unit, range and choices."""
    metadata = {"description": description, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_settings(config: Any) -> None:
    """Check every field of a settings dataclass against its type, range and choices.

    Raises:
        SparsematchError: with the field's name, its value and what would be right.

    """
    for item in dataclasses.fields(config):
        if "description" in item.metadata:
            _check_value(item, getattr(config, item.name))


def _default_of(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _check_value(item: dataclasses.Field[Any], value: Any) -> None:
    meta, name = item.metadata, item.name
    default = _default_of(item)
    number_for_float = isinstance(default, float) and type(value) is int
    if type(value) is not type(default) and not number_for_float:
        raise SparsematchError(f"{name}: {value!r} is not {_KINDS[type(default)]}")
    if isinstance(value, list) and not all(isinstance(entry, (int, float)) for entry in value):
        raise SparsematchError(f"{name}: {value!r} must be a list of numbers")
    if meta["choices"] and value not in meta["choices"]:
        raise SparsematchError(f"{name}: '{value}' is not one of {', '.join(map(str, meta['choices']))}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = meta["minimum"], meta["maximum"]
        # Written so that NaN fails too.
        if not ((low is None or value >= low) and (high is None or value <= high) and value == value):
            raise SparsematchError(f"{name}: {value} is outside [{low}, {high}] {meta['unit']}".rstrip())


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list of numbers",
}


class Checked:
    """Checks the fields of a settings dataclass when it is made."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            SparsematchError: with the field's name, its value and what would be right.

        """
        check_settings(self)
