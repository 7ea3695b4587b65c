"""What every table of a recipe is made of: kinds of numbers, a strict model, and a field that says what it means."""

# pyright: strict

from __future__ import annotations

from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


def pair_of(value: object) -> object:
    """TOML has arrays only; a pair is one of two entries."""
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


Decays = Annotated[tuple[Decay, Decay], BeforeValidator(pair_of)]
Range = Annotated[tuple[Fraction, Fraction], BeforeValidator(pair_of)]


class Table(BaseModel):
    """A table of a recipe: unknown keys are errors, values are never silently converted to nonsense.

    file_keys, model_keys: the keys that may name a file, or a model's folder; it is looked for beside the recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    file_keys: ClassVar[tuple[str, ...]] = ()
    model_keys: ClassVar[tuple[str, ...]] = ()


def described(text: str, default: Any = ..., *, unit: str | None = None) -> Any:
    """A field with its meaning and unit, read by `explain` and by the generated reference."""
    return Field(default, description=text, json_schema_extra={"unit": unit} if unit else None)
