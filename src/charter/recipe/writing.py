"""Recipe → TOML, and the hash by which runs tell recipes apart."""

# pyright: strict

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from charter.errors import Problem, RecipeError
from charter.recipe.tables import Recipe

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML with every key, defaults included; loads back to an equal recipe.

    A key that is left out has no TOML value and appears as a comment, so that it can be seen.

    Raises:
        RecipeError: an option given through Python has no form in TOML.
    """
    values = recipe.model_dump()
    lines = [_assignment(key, values[key]) for key in values if not _is_table(values[key])]
    for key, value in values.items():
        if key == "rewards":
            for entry in cast("list[dict[str, Any]]", value):
                lines += ["", "[[rewards]]", *(_assignment(k, v, "rewards.") for k, v in entry.items())]
        elif isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            lines += ["", f"[{key}]", *(_assignment(k, v, f"{key}.") for k, v in table.items())]
    return "\n".join(lines) + "\n"


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 over every key and value, as hexadecimal: equal recipes, equal hashes, whatever the order in the file."""
    canonical = json.dumps(recipe.model_dump(), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


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


def _is_table(value: object) -> bool:
    return isinstance(value, dict | list)


def _assignment(key: str, value: object, table: str = "") -> str:
    if value is None:
        return f"# {key} is left out"
    try:
        return f"{toml_key(key)} = {toml_value(value)}"
    except TypeError as error:
        fix = "Use text, numbers, true or false, lists and tables of these"
        raise RecipeError([Problem(where=table + key, found=str(error), fix=fix)]) from None
