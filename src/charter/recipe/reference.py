"""What every key means, as Markdown, as text and as a JSON schema: made from the tables, never written by hand."""

# pyright: strict

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from charter.recipe.keys import RecipeKey, recipe_keys, table_at
from charter.recipe.roots import ROOTS
from charter.recipe.stages import StageTable
from charter.recipe.tables import Recipe

_HEAD = """# Recipe reference

Made from `charter.recipe` by `python -m charter.recipe > docs/recipe.md`; do not edit it by hand.

A recipe is one TOML file. A key that is not listed here is an error. Any key can be set from the command line:
`charter train recipe.toml run.steps=20 rewards.0.weight=2`. Values read as TOML; a text needs no quotes there.
File names are looked for beside the recipe, then in the current folder.

`method` says what kind of recipe it is: [a training run](#top-of-the-recipe), [`"cai"`](#constitutional-recipe),
[`"pipeline"`](#pipeline) or [`"compare"`](#comparison).
"""

_PARTS = {
    "cai": (
        "Constitutional recipe",
        "`charter cai` takes it, and so does each of its stages alone (`charter redteam`, `revise`, `label`, "
        "`calibrate`, `arena`).",
    ),
    "pipeline": (
        "Pipeline",
        "`charter train` takes it. A stage is set by its number or its name: `stages.r1.seed=2`.",
    ),
    "compare": ("Comparison", "`charter compare` takes it."),
}


def json_schema(root: type[BaseModel] = Recipe) -> dict[str, Any]:
    """JSON Schema (2020-12) of a kind of recipe, for editors; units are under `unit`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root.model_json_schema()}


def recipe_reference() -> str:
    """Every key with its type, default, unit and meaning, as Markdown: the text of docs/recipe.md."""
    text = _HEAD + "".join(_section(table, keys, Recipe, "##") for table, keys in _tables(Recipe))
    for name, (title, about) in _PARTS.items():
        root = ROOTS[name]
        text += f"\n## {title}\n\n{about}\n"
        same = [_title(table) for table, keys in _tables(root) if not keys and not table.endswith(".weight")]
        text += f"\nAs in a training recipe, above: {', '.join(same)}.\n" if same else ""
        mine = [(table, keys) for table, keys in _tables(root) if keys]
        for (_, stage), alike in groupby(mine, key=lambda entry: _stage_kind(entry[0], root)):
            entries = list(alike)
            if stage:
                text += _section(entries[0][0], entries[0][1], root, "###", [table for table, _ in entries[1:]])
            else:
                text += "".join(_section(table, keys, root, "###") for table, keys in entries)
    return text


def keys_text(root: type[BaseModel] = Recipe) -> str:
    """The keys of a kind of recipe as plain text for a terminal."""
    lines: list[str] = []
    for table, keys in _tables(root):
        lines += ["", _title(table).replace("`", "")]
        if not keys:
            lines.append("  as in a training recipe")
        for key in keys:
            unit = f", in {key.unit}" if key.unit else ""
            lines += [f"  {key.key}  ({key.kind}{unit}; default {key.default})", f"      {key.meaning}"]
    return "\n".join(lines).strip() + "\n"


def _tables(root: type[BaseModel]) -> Iterator[tuple[str, list[RecipeKey]]]:
    """Each table and its keys; none where it is one of a training recipe's, which are explained there."""
    known = {type_ for table, _ in groupby(recipe_keys(), key=lambda k: k.table) if (type_ := _model(table, Recipe))}
    for table, keys in groupby(recipe_keys(root), key=lambda k: k.table):
        same = root is not Recipe and table and _model(table, root) in known
        yield table, [] if same else list(keys)


def _stage_kind(table: str, root: type[BaseModel]) -> tuple[object, bool]:
    """(what tells it apart, whether it is a stage without keys of its own, which need not be printed again)."""
    model = _model(table, root)
    return (model, True) if model is StageTable else (None, False)


def _section(table: str, keys: list[RecipeKey], root: type[BaseModel], level: str, alike: Sequence[str] = ()) -> str:
    return "\n" + "\n".join(_lines(table, keys, root, level, alike)) + "\n"


def _lines(table: str, keys: list[RecipeKey], root: type[BaseModel], level: str, alike: Sequence[str]) -> Iterator[str]:
    yield f"{level} {', '.join(_title(one) for one in (table, *alike))}"
    yield ""
    if about := _about(table, root):
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
    if table in ("rewards", "stages"):
        return f"`[[{table}]]`"
    return f"`[{table.replace('.N.', '.')}]`"


def _model(table: str, root: type[BaseModel]) -> type[BaseModel] | None:
    return table_at(tuple(0 if part == "N" else part for part in table.split(".")), root) if table else root


def _about(table: str, root: type[BaseModel]) -> str:
    model = _model(table, root)
    text = inspect.getdoc(model) if model and table else None
    if model is not None and issubclass(model, StageTable):
        text = ": Every table of a training recipe may stand in it; these keys are its own, or mean something else."
    return " ".join((text or "").partition(": ")[2].split())
