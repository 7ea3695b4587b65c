"""Recipe → TOML, and the hash by which runs tell recipes apart."""

# pyright: strict

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from charter.errors import Problem, RecipeError
from charter.recipe.stages import StageTable
from charter.recipe.tables import RewardTable

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dump_recipe(recipe: BaseModel) -> str:
    """A recipe of any kind as TOML with every key, defaults included; loads back to an equal recipe.

    A key that is left out has no TOML value and appears as a comment, so that it can be seen. Of a stage only the keys
    that it sets are written, because it takes the rest from its pipeline.

    Raises:
        RecipeError: an option given through Python has no form in TOML.
    """
    return "\n".join(_table_lines(recipe, "", values_of(recipe))) + "\n"


def recipe_hash(recipe: BaseModel) -> str:
    """SHA-256 over every key and value, as hexadecimal: equal recipes, equal hashes, whatever the order in the file."""
    canonical = json.dumps(values_of(recipe), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def values_of(table: BaseModel) -> dict[str, Any]:
    """Every key and value of a recipe or a table of it, and of a stage those that it sets."""
    if isinstance(table, StageTable):
        return table.model_dump(exclude_unset=True)
    values = table.model_dump()
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            values[name] = values_of(value)
        elif entries := _tables(value):
            values[name] = [values_of(entry) for entry in entries]
    return values


def toml_value(value: object) -> str:
    """One value in TOML.

    Raises:
        TypeError: the value has no form in TOML.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too; only DEL is allowed raw in JSON and not in TOML
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ("nan" if math.isnan(value) else f"{value}")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in items) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(item) for item in cast("Sequence[object]", value)) + "]"
    raise TypeError(f"TOML has no form for {value!r} ({type(value).__name__})")


def toml_key(key: str) -> str:
    """A key in TOML, quoted where it must be."""
    return key if _BARE_KEY.fullmatch(key) else toml_value(key)


def _tables(value: object) -> list[BaseModel]:
    """The entries of a list of tables; none where it is anything else."""
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, BaseModel)]


def _table_lines(table: BaseModel, path: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a table and, after them, the tables inside it."""
    inner: list[str] = []
    for key, value in values.items():
        held = None if isinstance(table, RewardTable) else getattr(table, key)  # weight = {…} stays on its line
        if isinstance(held, BaseModel):
            inner += ["", f"[{path}{key}]", *_table_lines(held, f"{path}{key}.", value)]
        elif entries := _tables(held):
            for entry, told in zip(entries, value, strict=True):
                inner += ["", f"[[{path}{key}]]", *_table_lines(entry, f"{path}{key}.", told)]
        else:
            yield _assignment(key, value, path)
    yield from inner


def _assignment(key: str, value: object, table: str = "") -> str:
    if value is None:
        return f"# {key} is left out"
    try:
        return f"{toml_key(key)} = {toml_value(value)}"
    except TypeError as error:
        fix = "Use text, numbers, true or false, lists and tables of these"
        raise RecipeError([Problem(where=table + key, found=str(error), fix=fix)]) from None
