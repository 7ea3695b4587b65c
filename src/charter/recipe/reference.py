"""What every key means, as Markdown, as text and as a JSON schema: made from the tables, never written by hand."""

# pyright: strict

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from charter.recipe.keys import RecipeKey, recipe_keys, table_of
from charter.recipe.tables import Recipe

_HEAD = """# Recipe reference

Made from `charter.recipe` by `python -m charter.recipe > docs/recipe.md`; do not edit it by hand.

A recipe is one TOML file. A key that is not listed here is an error. Any key can be set from the command line:
`charter train recipe.toml run.steps=20 rewards.0.weight=2`. Values read as TOML; a text needs no quotes there.
File names are looked for beside the recipe, then in the current folder.
"""


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe, for editors; units are under `unit`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def recipe_reference() -> str:
    """Every key with its type, default, unit and meaning, as Markdown: the text of docs/recipe.md."""
    return _HEAD + "".join(_section(table, list(keys)) for table, keys in groupby(recipe_keys(), key=lambda k: k.table))


def keys_text() -> str:
    """The same as plain text for a terminal."""
    lines: list[str] = []
    for table, keys in groupby(recipe_keys(), key=lambda k: k.table):
        lines += ["", _title(table).replace("`", "")]
        for key in keys:
            unit = f", in {key.unit}" if key.unit else ""
            lines += [f"  {key.key}  ({key.kind}{unit}; default {key.default})", f"      {key.meaning}"]
    return "\n".join(lines).strip() + "\n"


def _section(table: str, keys: list[RecipeKey]) -> str:
    return "\n" + "\n".join(_lines(table, keys)) + "\n"


def _lines(table: str, keys: list[RecipeKey]) -> Iterator[str]:
    yield f"## {_title(table)}"
    yield ""
    if about := _about(table):
        yield about
        yield ""
    yield "| key | value | default | unit | meaning |"
    yield "|---|---|---|---|---|"
    for key in keys:
        name = key.key.rpartition(".")[2]
        default = key.default if key.default in ("left out", "required") else f"`{key.default}`"
        cells = (f"`{name}`", key.kind, default, key.unit or "–", key.meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _title(table: str) -> str:
    if not table:
        return "Top of the recipe"
    if table == "rewards.N.weight":
        return "`weight = {…}` in `[[rewards]]`"
    return f"`[[{table}]]`" if table == "rewards" else f"`[{table}]`"


def _about(table: str) -> str:
    model: type[BaseModel] | None = Recipe if table else None
    for part in table.split("."):
        model = table_of(model.model_fields[part].annotation) if model and part != "N" else model
    text = inspect.getdoc(model) if model else None
    return " ".join((text or "").partition(": ")[2].split())
