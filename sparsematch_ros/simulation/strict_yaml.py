"""YAML into frozen dataclasses, strictly: every unknown key, missing key and wrong type is refused by name."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sparsematch_ros.errors import SparsematchError

T = TypeVar("T")


def within(
    minimum: float | None = None, maximum: float | None = None, above: float | None = None, default: Any = None
) -> Any:
    """Make a dataclass field with a range, required where it has no default; `above` is a bound itself refused."""
    metadata = {"minimum": minimum, "maximum": maximum, "above": above}
    return (
        dataclasses.field(metadata=metadata)
        if default is None
        else dataclasses.field(default=default, metadata=metadata)
    )


def one_of(*choices: str, default: str | tuple[str, ...] | None = None) -> Any:
    """Make a dataclass field of text that has few possible values. Without default: required."""
    metadata = {"choices": choices}
    return (
        dataclasses.field(metadata=metadata)
        if default is None
        else dataclasses.field(default=default, metadata=metadata)
    )


class Checked:
    """Base of dataclasses that check the ranges and choices of their fields at construction."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            SparsematchError: with the field's name, its value and what would be right.

        """
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            for entry in value if isinstance(value, tuple) else (value,):
                _check_entry(item, entry)


def _check_entry(item: dataclasses.Field[Any], value: Any) -> None:
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise SparsematchError(f"{item.name}: '{value}' is not one of {', '.join(choices)}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    low, high, above = (item.metadata.get(key) for key in ("minimum", "maximum", "above"))
    # Written so that NaN fails too.
    if not ((low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)):
        bound = f"above {above}" if above is not None else f"at least {low}" if low is not None else ""
        limits = " and ".join(part for part in (bound, "" if high is None else f"at most {high}") if part)
        raise SparsematchError(f"{item.name}: {value} must be {limits}")


def load_strict(kind: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `kind`.

    Raises:
        SparsematchError: where the file cannot be read, or a key is unknown, missing or of a wrong type or range.

    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SparsematchError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    try:
        return build(kind, content, "")
    except SparsematchError as error:
        raise SparsematchError(f"{path}: {error}") from error


def build(kind: type[T], content: Any, where: str) -> T:
    """Make the dataclass `kind` of a mapping; `where` is the key that led here, for messages.

    Raises:
        SparsematchError: where a key is unknown, missing or of a wrong type or range.

    """
    if not isinstance(content, dict):
        raise SparsematchError(f"{_at(where)}{_shown(content)} must be a mapping of keys")
    fields = {
        item.name: item
        for item in dataclasses.fields(kind)  # type: ignore[arg-type]
        if not item.metadata.get("internal")
    }
    _check_keys(content, fields, where)
    hints = typing.get_type_hints(kind)
    values = {key: _convert(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in content.items()}
    try:
        return kind(**values)
    except SparsematchError as error:
        raise SparsematchError(f"{where}.{error}".lstrip(".")) from error


def _check_keys(content: dict[Any, Any], fields: dict[str, dataclasses.Field[Any]], where: str) -> None:
    known = f"known keys are {', '.join(fields)}"
    unknown = [str(key) for key in content if key not in fields]
    if unknown:
        raise SparsematchError(f"{_at(where)}unknown key '{unknown[0]}'; {known}")
    missing = [
        name
        for name, item in fields.items()
        if name not in content and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SparsematchError(f"{_at(where)}key '{missing[0]}' is missing; {known}")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(entry for entry in arguments if entry is not type(None))
        return None if value is None else _convert(inner, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    many = len(arguments) == 2 and arguments[1] is Ellipsis
    if not isinstance(value, list) or (not many and len(value) != len(arguments)):
        raise SparsematchError(f"{where}: {_shown(value)} must be a list" + ("" if many else f" of {len(arguments)}"))
    kinds = [arguments[0]] * len(value) if many else list(arguments)
    return tuple(_convert(kind, entry, f"{where}[{index}]") for index, (kind, entry) in enumerate(zip(kinds, value)))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint is not float and type(value) is hint:
        return value
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
    raise SparsematchError(f"{where}: {_shown(value)} must be {names[hint]}")


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
