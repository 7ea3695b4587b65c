"""A stage of a pipeline: a recipe of its own, of which the pipeline fills in what it knows."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from charter.recipe.checks import conflicts
from charter.recipe.conflict import Conflict
from charter.recipe.tables import Method, NonNegativeInt, Recipe, described


class StageTable(Recipe):
    """A training stage: every key of a recipe; the model is the stage's before it, the seed the pipeline's."""

    method: Method | None = described("How to learn; where left out, what the stage is for says it.", None)  # type: ignore[assignment]
    model: str = described("Where the stage begins; the model that the stage before it made when left out.", "")
    seed: NonNegativeInt | None = described("The pipeline's seed when left out.", None)  # type: ignore[assignment]

    def recipe(self, *, method: Method, model: str, seed: int, **tables: Any) -> Recipe:
        """The stage as a recipe on its own. What it leaves out comes from the arguments.

        tables: whole tables (`data=…`, `rewards=…`) that the pipeline decides; those written in the stage win key by
        key for `data`, and whole otherwise. Raises: pydantic.ValidationError for a value of the wrong kind.
        """
        own = {key: value for key, value in self.model_dump(exclude_unset=True).items() if key in Recipe.model_fields}
        for name, value in tables.items():
            if name not in own:
                own[name] = value
            elif isinstance(value, dict):
                own[name] = {**value, **own[name]}
        own["method"] = self.method or method
        own["model"] = self.model or model
        own["seed"] = seed if self.seed is None else self.seed
        return Recipe.model_validate(own)


def stage_conflicts(
    stage: StageTable, place: str, *, method: Method, model: str, seed: int, **tables: Any
) -> Iterator[Conflict]:
    """What makes no sense together in a stage, under the keys of the whole recipe.

    Args:
        place: of the stage: `stages.sft`. method, model, seed, tables: as `StageTable.recipe` takes them.
    """
    try:
        recipe = stage.recipe(method=method, model=model, seed=seed, **tables)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = ".".join(str(part) for part in (place, *detail["loc"]))
            yield Conflict(key=key, found=f"found {detail['input']!r}", fix=f"{detail['msg']}")
        return
    for found in conflicts(recipe):
        keys = (found.key, *found.others)
        yield Conflict(
            key=f"{place}.{found.key}",
            found=found.found,
            fix=found.fix,
            others=(*(f"{place}.{key}" for key in keys[1:]), place),
        )
