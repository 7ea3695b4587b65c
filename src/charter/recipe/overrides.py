"""`key=value` from a command line, laid over what a recipe's file says."""

# pyright: strict

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from charter.errors import Problem
from charter.recipe.keys import takes_text
from charter.recipe.tables import Recipe

Overrides = Mapping[str, Any] | Sequence[str]
Path = tuple[str | int, ...]


def parse_overrides(
    overrides: Overrides, root: type[BaseModel] = Recipe
) -> tuple[list[tuple[Path, Any]], list[Problem]]:
    """Settings and their values, in order.

    Args:
        overrides: `"run.steps=5"` strings, or a mapping of dotted keys; its texts are read like the right-hand side
            of such a string, its other values are taken as they are, and a mapping in it sets the keys it names.
        root: the kind of recipe they are laid over.

    Returns:
        (path, value) pairs, and a Problem for each text that is no setting.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    settings: list[tuple[Path, Any]] = []
    problems: list[Problem] = []
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            settings += _from_python(_path(key), value, root)
        return settings, problems
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            fix = "Write key=value, for instance run.steps=5"
            problems.append(Problem(where=f"override {text!r}", found="it is not of the form key=value", fix=fix))
        else:
            path = _path(key.strip())
            settings.append((path, _value(path, value.strip(), root)))
    return settings, problems


def apply_override(values: dict[str, Any], path: Path, value: Any) -> Problem | None:
    """Set one key, making tables on the way; an index one past the end of a list of tables adds an entry."""
    where: Any = values
    for index, part in enumerate(path):
        last = index == len(path) - 1
        if isinstance(where, list):
            entries = cast("list[Any]", where)
            if not isinstance(part, int) or not 0 <= part <= len(entries):
                there = f"0 to {len(entries) - 1}" if entries else "none yet: begin with 0"
                if isinstance(part, str) and (names := [name for name in _names(entries) if name]):
                    there += f", or {', '.join(names)}"
                found = f"{part!r} is not the index of an entry ({there})"
                return Problem(where=f"override {dotted(path)}", found=found, fix=f"Use 0 to {len(entries)}")
            if part == len(entries):
                entries.append({})
            if last:
                entries[part] = value
            where = entries[part]
        elif isinstance(where, dict):
            table = cast("dict[Any, Any]", where)
            name = part if isinstance(part, str) else str(part)
            if last:
                table[name] = value
            elif name not in table:
                table[name] = [] if isinstance(path[index + 1], int) else {}
            where = table[name]
        else:
            found = f"{dotted(path[:index])} is the value {where!r}, not a table"
            return Problem(where=f"override {dotted(path)}", found=found, fix=f"Set {dotted(path[:index])} itself")
    return None


def with_numbers(values: dict[str, Any], path: Path) -> Path:
    """The path with the number of an entry where it names one: `stages.cold-start.model` → `stages.0.model`."""
    where: Any = values
    found: list[str | int] = []
    for part in path:
        if isinstance(where, list) and isinstance(part, str):
            names = _names(cast("list[Any]", where))
            part = names.index(part) if part in names else part
        found.append(part)
        if isinstance(where, dict):
            where = cast("dict[Any, Any]", where).get(part)
        elif isinstance(where, list) and isinstance(part, int) and part < len(cast("list[Any]", where)):
            where = cast("list[Any]", where)[part]
        else:
            where = None
    return tuple(found)


def dotted(path: Path) -> str:
    """`("rewards", 0, "weight")` → `rewards.0.weight`."""
    return ".".join(str(part) for part in path)


def _names(entries: list[Any]) -> list[str]:
    """The name of each entry of a list of tables, empty where it has none."""
    tables = [cast("dict[str, Any]", entry) if isinstance(entry, dict) else {} for entry in entries]
    return [str(table.get("name", "")) for table in tables]


def _path(key: str) -> Path:
    return tuple(int(part) if part.isdecimal() else part.strip() for part in key.split("."))


def _value(path: Path, text: str, root: type[BaseModel]) -> Any:
    """The text as TOML, or as plain text where it is none (so that quotes are not needed on a command line)."""
    if "\n" in text:
        return text
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    is_other_scalar = not isinstance(value, str | list | dict)
    return text if is_other_scalar and takes_text(path, root) else cast(Any, value)


def _from_python(path: Path, value: Any, root: type[BaseModel]) -> list[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[str, Any]", value).items()
        return [setting for key, item in items for setting in _from_python((*path, *_path(key)), item, root)]
    return [(path, _value(path, value, root) if isinstance(value, str) else value)]
