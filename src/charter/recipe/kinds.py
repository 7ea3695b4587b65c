"""The kinds of recipe there are, told apart by `method`, and the verb that takes each."""

# pyright: strict

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """name: in words. verb: what runs such a recipe."""

    name: str
    verb: str


TRAINING = Kind(name="a training recipe", verb="charter train")
KINDS = {
    "cai": Kind(name="a constitutional recipe", verb="charter cai"),
    "pipeline": Kind(name="a pipeline", verb="charter train"),
    "compare": Kind(name="a comparison", verb="charter compare"),
}
"""method → its kind; every other method is a training recipe's."""


def kind_named(method: str) -> Kind:
    """The kind of recipe that a method belongs to."""
    return KINDS.get(method, TRAINING)


def methods_of(root: type[BaseModel]) -> tuple[str, ...]:
    """The methods that a kind of recipe takes."""
    return get_args(root.model_fields["method"].annotation)


def other_kind(method: object, root: type[BaseModel], file: str) -> tuple[str, str] | None:
    """(found, fix) where a method belongs to a recipe of another kind; None where it is this one's, or no method."""
    from charter.recipe.tables import Method

    own = methods_of(root)
    if not isinstance(method, str) or method in own or method not in (*KINDS, *get_args(Method)):
        return None
    given, wanted = kind_named(method), kind_named(own[0])
    return f'this is {given.name} (method = "{method}"), and {wanted.name} is wanted', f"Run: {given.verb} {file}"
