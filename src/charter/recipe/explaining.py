"""What pydantic found wrong with a key, in a sentence that names what was expected."""

# pyright: strict

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from charter.recipe.keys import fields_at, holds_tables, holds_value, kind_of, recipe_keys, table_at
from charter.recipe.stages import StageTable
from charter.recipe.tables import Recipe

Path = tuple[str | int, ...]


def explain_error(path: Path, details: Sequence[ErrorDetails], root: type[BaseModel] = Recipe) -> tuple[str, str]:
    """(found, fix) for the errors of one key.

    Args:
        path: the key. details: what pydantic says of it (several for a union). root: the kind of recipe.
    """
    first = details[0]
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, root)
    if first["type"] == "missing":
        meaning = _meaning(path, root)
        return "this key is required and missing", f"Add {path[-1]} = … ({meaning})" if meaning else "Add it"
    found, expected = f"found {_shown(first['input'])}", _expected(path, root)
    fix = f"Expected {expected or first['msg'].removeprefix('Input should be ')}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = [
            part.strip("'") for part in str(first.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
        ]
        nearest = difflib.get_close_matches(first["input"], choices, n=1, cutoff=0.5)
        fix += f"; did you mean {nearest[0]!r}?" if nearest else ""
    return found, fix


def nearest_key(path: Path, root: type[BaseModel] = Recipe) -> str | None:
    """The key that was most likely meant: in the same table, else in the same stage, else anywhere (with its table)."""
    name = str(path[-1])
    siblings = fields_at(path[:-1], root) or {}
    everywhere: dict[str, str] = {}
    for prefix, kind in [*_stage_around(path, root), ("", root)]:
        for key in sorted(recipe_keys(kind), key=lambda key: key.key.count(".")):  # a table in a table is meant last
            everywhere.setdefault(key.key.rpartition(".")[2], prefix + key.key)
    tables_only = "method" in siblings  # the top of a recipe or of a stage, where a table's key was put by mistake
    if tables_only and name in everywhere:
        return everywhere[name]
    if close := difflib.get_close_matches(name, list(siblings), n=1, cutoff=0.6):
        return close[0]
    if close := difflib.get_close_matches(name, list(everywhere), n=1, cutoff=0.8):
        return everywhere[close[0]]
    return None


def _stage_around(path: Path, root: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """(its name with a dot, the recipe whose keys it takes) of the stage in which a path lies."""
    for length in range(len(path) - 1, 0, -1):
        model = table_at(path[:length], root)
        if model is not None and issubclass(model, StageTable):
            while length < len(path) and isinstance(path[length], int):
                length += 1
            return [("".join(f"{part}." for part in path[:length]), Recipe)]
    return []


def _unknown_key(path: Path, root: type[BaseModel]) -> tuple[str, str]:
    name, table = path[-1], ".".join(str(part) for part in path[:-1])
    place = f"[{table}]" if table else "the top of the recipe"
    found = f"there is no key {str(name)!r} in {place}"
    siblings = list(fields_at(path[:-1], root) or {})
    if elsewhere := nearest_key(path, root):
        return found, f"Did you mean {elsewhere!r}?"
    return found, f"It knows {', '.join(siblings)}"


def _expected(path: Path, root: type[BaseModel]) -> str:
    if path and isinstance(path[-1], int):
        return f"a table [[{_header(path[:-1])}]]"
    field = (fields_at(path[:-1], root) or {}).get(str(path[-1])) if path else None
    if field is None:
        return ""
    if not holds_value(field.annotation):
        header = _header(path)
        return f"a list of tables [[{header}]]" if holds_tables(path, root) else f"a table [{header}]"
    return kind_of(field.annotation, tuple(field.metadata))


def _header(path: Path) -> str:
    """How a table's header names it: without the numbers of the entries."""
    return ".".join(part for part in path if isinstance(part, str))


def _meaning(path: Path, root: type[BaseModel]) -> str:
    field = (fields_at(path[:-1], root) or {}).get(str(path[-1]))
    return (field.description or "") if field else ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, dict):
        return f"a table with {', '.join(map(str, cast('dict[Any, Any]', value))) or 'no keys'}"
    if isinstance(value, list | tuple):
        return f"the list {list(cast('list[Any]', value))!r}"
    return f"the number {value!r}" if isinstance(value, int | float) else repr(value)
