"""What pydantic found wrong with a key, in a sentence that names what was expected."""

# pyright: strict

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

from pydantic_core import ErrorDetails

from charter.recipe.keys import fields_at, holds_value, kind_of, recipe_keys, table_of
from charter.recipe.tables import RewardTable

Path = tuple[str | int, ...]


def explain_error(path: Path, details: Sequence[ErrorDetails], values: dict[str, Any]) -> tuple[str, str]:
    """(found, fix) for the errors of one key.

    Args:
        path: the key. details: what pydantic says of it (several for a union). values: the whole recipe as read.
    """
    first = details[0]
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, values)
    if first["type"] == "missing":
        meaning = _meaning(path)
        return "this key is required and missing", f"Add {path[-1]} = … ({meaning})" if meaning else "Add it"
    found, expected = f"found {_shown(first['input'])}", _expected(path)
    fix = f"Expected {expected or first['msg'].removeprefix('Input should be ')}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = [
            part.strip("'") for part in str(first.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
        ]
        nearest = difflib.get_close_matches(first["input"], choices, n=1, cutoff=0.5)
        fix += f"; did you mean {nearest[0]!r}?" if nearest else ""
    return found, fix


def nearest_key(path: Path) -> str | None:
    """The key that was most likely meant: in the same table, else anywhere (with its table)."""
    name = str(path[-1])
    siblings = fields_at(path[:-1]) or {}
    if close := difflib.get_close_matches(name, list(siblings), n=1, cutoff=0.6):
        return close[0]
    everywhere: dict[str, str] = {}
    for key in sorted(recipe_keys(), key=lambda key: key.key.count(".")):  # a table inside a table is meant last
        everywhere.setdefault(key.key.rpartition(".")[2], key.key)
    if close := difflib.get_close_matches(name, list(everywhere), n=1, cutoff=0.8):
        return everywhere[close[0]]
    return None


def _unknown_key(path: Path, values: dict[str, Any]) -> tuple[str, str]:
    name, table = path[-1], ".".join(str(part) for part in path[:-1])
    place = f"[{table}]" if table else "the top of the recipe"
    found = f"there is no key {str(name)!r} in {place}"
    siblings = list(fields_at(path[:-1]) or {})
    if close := difflib.get_close_matches(str(name), siblings, n=1, cutoff=0.6):
        return found, f"Did you mean {close[0]!r}?"
    if elsewhere := nearest_key(path):
        return found, f"Did you mean {elsewhere!r}?"
    return found, f"It knows {', '.join(siblings)}"


def _expected(path: Path) -> str:
    if path and isinstance(path[-1], int):
        return f"a table [[{path[0]}]]"
    field = (fields_at(path[:-1]) or {}).get(str(path[-1])) if path else None
    if field is None:
        return ""
    if not holds_value(field.annotation):
        return (
            f"a list of tables [[{path[-1]}]]" if table_of(field.annotation) is RewardTable else f"a table [{path[-1]}]"
        )
    return kind_of(field.annotation, tuple(field.metadata))


def _meaning(path: Path) -> str:
    field = (fields_at(path[:-1]) or {}).get(str(path[-1]))
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
