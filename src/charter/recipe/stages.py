"""A stage of a pipeline: a recipe of its own, of which the pipeline fills in what it knows."""

# pyright: strict

from __future__ import annotations

from typing import Any

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
        own = self.model_dump(exclude_unset=True, exclude={"name", "kind"})
        for name, value in tables.items():
            if name not in own:
                own[name] = value
            elif isinstance(value, dict):
                own[name] = {**value, **own[name]}
        own["method"] = self.method or method
        own["model"] = self.model or model
        own["seed"] = seed if self.seed is None else self.seed
        return Recipe.model_validate(own)
