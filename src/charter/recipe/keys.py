"""Every key of a recipe with its type, default, unit and meaning."""

# pyright: strict

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from charter.recipe.stages import StageTable
from charter.recipe.tables import Recipe
from charter.recipe.writing import toml_value

_BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeKey:
    """One key of a recipe.

    key: dotted name; `rewards.N.` stands for an entry of [[rewards]]. table: the table it stands in. kind: what may
    stand there, in words.
    default: as it would be written in TOML, "left out" or "required". unit: "" for a number without one.
    """

    key: str
    table: str
    kind: str
    default: str
    unit: str
    meaning: str


@cache
def recipe_keys(root: type[BaseModel] = Recipe) -> tuple[RecipeKey, ...]:
    """Every key of a kind of recipe, in the order of the tables; of a stage, only what a recipe has not itself."""
    return tuple(_keys_of(root, ""))


def table_of(annotation: object) -> type[BaseModel] | None:
    """The table an annotation holds (itself, or in a list or a union), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := table_of(argument)) is not None:
            return found
    return None


def table_at(path: tuple[str | int, ...], root: type[BaseModel] = Recipe) -> type[BaseModel] | None:
    """The table at a path of a kind of recipe, or None where none is."""
    model: type[BaseModel] | None = root
    in_list = False
    for part in path:
        if isinstance(part, int) or (in_list and model is not None and part not in model.model_fields):
            in_list = False  # the number of an entry, or its name
            continue
        field = model.model_fields.get(part) if model else None
        model = table_of(field.annotation) if field else None
        in_list = field is not None and get_origin(field.annotation) is list
    return model


def fields_at(path: tuple[str | int, ...], root: type[BaseModel] = Recipe) -> dict[str, FieldInfo] | None:
    """The keys of the table at a path, or None where no table is."""
    model = table_at(path, root)
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else None


def holds_value(annotation: object) -> bool:
    """Whether something other than a table may stand at a key that may hold a table: a number, say."""
    if get_origin(annotation) is Annotated:
        return holds_value(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, types.UnionType):
        return table_of(annotation) is None
    return any(holds_value(part) for part in get_args(annotation) if part is not type(None))


def holds_tables(path: tuple[str | int, ...], root: type[BaseModel] = Recipe) -> bool:
    """Whether a key holds a list of tables, as [[rewards]] does."""
    field = (fields_at(path[:-1], root) or {}).get(str(path[-1])) if path else None
    return field is not None and get_origin(field.annotation) is list and table_of(field.annotation) is not None


def takes_text(path: tuple[str | int, ...], root: type[BaseModel] = Recipe) -> bool:
    """Whether a key holds text, so that `run.name=2024` on a command line means the text."""
    fields = fields_at(path[:-1], root) if path else None
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


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a table; of a stage, those that a recipe has not, or means otherwise."""
    if not issubclass(model, StageTable):
        return dict(model.model_fields)
    own = {name for part in model.__mro__ if issubclass(part, StageTable) for name in inspect.get_annotations(part)}
    return {name: field for name, field in model.model_fields.items() if name in own}


def _keys_of(model: type[BaseModel], prefix: str) -> Iterator[RecipeKey]:
    fields = own_fields(model)
    for name, field in fields.items():
        if holds_value(field.annotation):
            yield _key(field.alias or name, field, prefix)
    for name, field in fields.items():
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
