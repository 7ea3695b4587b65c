"""Every key of a recipe with its type, default, unit and meaning."""

# pyright: strict

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from charter.recipe.tables import Recipe
from charter.recipe.writing import toml_value

_BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeKey:
    """One key of a recipe.

    key: dotted name; `rewards.N.` stands for an entry of [[rewards]]. kind: what may stand there, in words.
    default: as it would be written in TOML, "left out" or "required". unit: "" for a number without one.
    """

    key: str
    table: str
    kind: str
    default: str
    unit: str
    meaning: str


@cache
def recipe_keys() -> tuple[RecipeKey, ...]:
    """Every key there is, in the order of the tables."""
    return tuple(_keys_of(Recipe, ""))


def table_of(annotation: object) -> type[BaseModel] | None:
    """The table an annotation holds (itself, or in a list or a union), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := table_of(argument)) is not None:
            return found
    return None


def fields_at(path: tuple[str | int, ...]) -> dict[str, FieldInfo] | None:
    """The keys of the table at a path, or None where no table is."""
    model: type[BaseModel] | None = Recipe
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = table_of(field.annotation) if field else None
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else None


def holds_value(annotation: object) -> bool:
    """Whether something other than a table may stand at a key that may hold a table: a number, say."""
    if get_origin(annotation) is Annotated:
        return holds_value(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, types.UnionType):
        return table_of(annotation) is None
    return any(holds_value(part) for part in get_args(annotation) if part is not type(None))


def takes_text(path: tuple[str | int, ...]) -> bool:
    """Whether a key holds text, so that `run.name=2024` on a command line means the text."""
    fields = fields_at(path[:-1]) if path else None
    field = fields.get(str(path[-1])) if fields else None
    return field is not None and str in (field.annotation, *get_args(field.annotation))


def kind_of(annotation: object, metadata: tuple[object, ...] = ()) -> str:
    """What may stand at a key, in words: `whole number ≥ 1`, `"sum" or "per_reward"`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0], (*arguments[1:], *metadata))
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(a, metadata) for a in arguments if a is not type(None))
    if origin is list:
        return f"list of {kind_of(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} × {kind_of(arguments[0])}"
    if origin is dict:
        return "table"
    words = _PLAIN.get(cast(Any, annotation), "table")
    return " ".join([words, *_bounds(metadata)])


def _bounds(metadata: tuple[object, ...]) -> Iterator[str]:
    for item in metadata:
        # a Field(ge=…) inside Annotated carries its bounds in its own metadata
        parts: list[object] = list(item.metadata) if isinstance(item, FieldInfo) else [item]
        for part in parts:
            for bound, sign in _BOUNDS.items():
                if isinstance(part, bound):
                    yield f"{sign} {getattr(part, bound.__name__.lower())}"


def _keys_of(model: type[BaseModel], prefix: str) -> Iterator[RecipeKey]:
    for name, field in model.model_fields.items():
        if holds_value(field.annotation):
            yield _key(field.alias or name, field, prefix)
    for name, field in model.model_fields.items():
        nested = table_of(field.annotation)
        if nested is not None:
            entry = "N." if get_origin(field.annotation) is list else ""
            yield from _keys_of(nested, f"{prefix}{name}.{entry}")


def _key(name: str, field: FieldInfo, prefix: str) -> RecipeKey:
    extra = cast("dict[str, str] | None", field.json_schema_extra)
    unit = extra.get("unit") if extra else None
    return RecipeKey(
        key=prefix + name,
        table=prefix.rstrip(".").removesuffix(".N"),
        kind=kind_of(field.annotation, tuple(field.metadata)),
        default="required" if field.is_required() else _default(field.get_default(call_default_factory=True)),
        unit=unit or "",
        meaning=field.description or "",
    )


def _default(value: object) -> str:
    return "left out" if value is None else toml_value(value)
