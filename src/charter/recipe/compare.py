"""The tables of a comparison (method = "compare"): what the methods share, and a table for each of them."""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from charter.recipe.conflict import Conflict
from charter.recipe.stages import StageTable, stage_conflicts
from charter.recipe.tables import (
    DataTable,
    EvalTable,
    LearnerTable,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Recipe,
    RewardTable,
    SamplingTable,
    Table,
    described,
)

ComparedMethod = Literal["ppo", "dpo", "grpo", "rejection_sft"]
COMPARED: tuple[ComparedMethod, ...] = ("ppo", "dpo", "grpo", "rejection_sft")
"""In the order of the columns."""


class BudgetTable(Table):
    """[budget]: what every method may spend; exactly one of `tokens` and `seconds`."""

    tokens: PositiveInt | None = described(
        "Sampled tokens: a method stops after the step in which it has sampled this many.", None, unit="tokens"
    )
    seconds: PositiveFloat | None = described(
        "Time in training steps: a method stops after the step in which it has used it up.", None, unit="s"
    )
    max_steps: PositiveInt = described(
        "A method stops here at the latest, with its budget unspent, unless its own run.steps is written.",
        10_000,
        unit="steps",
    )


class MethodTables(Table):
    """[methods.…]: how each method learns; every key of a recipe may stand in it. A method without a table is not run.

    DPO samples its pairs (dpo.online = true) unless its table names data.pairs.
    """

    ppo: StageTable | None = Field(default=None, description="PPO with a critic (RLHF).")
    dpo: StageTable | None = Field(default=None, description="DPO, online unless it has data.pairs.")
    grpo: StageTable | None = Field(default=None, description="GRPO.")
    rejection_sft: StageTable | None = Field(default=None, description="Rejection-sampling SFT, the control.")

    @property
    def present(self) -> tuple[tuple[ComparedMethod, StageTable], ...]:
        """The methods that are run, in the order of the columns."""
        found = {"ppo": self.ppo, "dpo": self.dpo, "grpo": self.grpo, "rejection_sft": self.rejection_sft}
        return tuple((name, table) for name in COMPARED if (table := found[name]) is not None)


class CompareRecipe(Table):
    """A comparison of methods on the same work."""

    model_keys = ("model",)
    method: Literal["compare"] = described('Always "compare".')
    model: str = described("Where every method begins: an asset name, a Hugging Face id or a folder.")
    seeds: list[NonNegativeInt] = described("Each method is run once with each.", [0, 1, 2])
    name: str | None = described("Folder under runs/; the recipe's file name when left out.", None)
    score: Literal["accuracy", "reward"] = described(
        "What the final score is on held-out prompts: the share with a reward of at least eval.threshold, or the mean "
        "reward.",
        "accuracy",
    )
    data: DataTable = Field(default_factory=DataTable)
    sampling: SamplingTable = Field(default_factory=SamplingTable)
    rewards: list[RewardTable] = Field(default_factory=list[RewardTable])
    eval: EvalTable = Field(default_factory=EvalTable)
    budget: BudgetTable = Field(default_factory=BudgetTable)
    learner: LearnerTable = Field(default_factory=LearnerTable)
    methods: MethodTables = Field(default_factory=MethodTables)


def shared_tables(recipe: CompareRecipe) -> dict[str, Any]:
    """The tables that the methods share, as `StageTable.recipe` takes them."""
    return recipe.model_dump(exclude_unset=True, include={"data", "sampling", "rewards", "eval", "learner"})


def method_recipe(recipe: CompareRecipe, name: ComparedMethod, seed: int) -> Recipe:
    """The training recipe of one method and seed.

    Raises: KeyError for a method that is not run; pydantic.ValidationError for a value of the wrong kind.
    """
    table = dict(recipe.methods.present)[name]
    made = table.recipe(method=name, model=recipe.model, seed=seed, **shared_tables(recipe))
    run, dpo = made.run, made.dpo
    if "steps" not in run.model_fields_set:
        run = run.model_copy(update={"steps": recipe.budget.max_steps})
    if name == "dpo" and made.data.pairs is None and "online" not in dpo.model_fields_set:
        dpo = dpo.model_copy(update={"online": True})
    run = run.model_copy(update={"name": f"{name}-seed{seed}"})
    return made.model_copy(update={"run": run, "dpo": dpo})


def compare_conflicts(recipe: CompareRecipe) -> tuple[Conflict, ...]:
    """Everything in a comparison that cannot be meant."""
    return (*_budget(recipe), *_seeds(recipe), *_methods(recipe))


def _budget(recipe: CompareRecipe) -> Iterator[Conflict]:
    tokens, seconds = recipe.budget.tokens, recipe.budget.seconds
    if (tokens is None) == (seconds is None):
        yield Conflict(
            key="budget.tokens",
            found="there is no budget" if tokens is None else "there are two budgets, tokens and seconds",
            fix="Set exactly one of budget.tokens and budget.seconds",
            others=("budget.seconds",),
        )


def _seeds(recipe: CompareRecipe) -> Iterator[Conflict]:
    if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
        yield Conflict(
            key="seeds",
            found="there is no seed" if not recipe.seeds else f"a seed stands twice in {recipe.seeds}",
            fix="List different whole numbers, three of them or more for a result to be trusted: seeds = [0, 1, 2]",
        )


def _methods(recipe: CompareRecipe) -> Iterator[Conflict]:
    if not recipe.methods.present:
        yield Conflict(
            key="methods",
            found="no method is run",
            fix="Add a table for each method: [methods.grpo], [methods.ppo], [methods.dpo], [methods.rejection_sft]",
        )
    if not recipe.rewards:
        yield Conflict(
            key="rewards",
            found="there are no rewards, so no score could be compared",
            fix='Add a table [[rewards]] with a name, for instance name = "math"',
        )
    if recipe.data.held_out == 0:
        yield Conflict(
            key="data.held_out",
            found="no prompts are held out, so no method would have a score",
            fix="Leave it out, or keep 64 prompts or more",
        )
    for name, table in recipe.methods.present:
        yield from _method(recipe, name, table)


def _method(recipe: CompareRecipe, name: ComparedMethod, table: StageTable) -> Iterator[Conflict]:
    place = f"methods.{name}"
    if table.method not in (None, name):
        yield Conflict(
            key=f"{place}.method",
            found=f'the table of {name} says method = "{table.method}"',
            fix="Leave the key out",
        )
        return
    for key, fixed in (("seed", "seeds"), ("model", "model")):
        if key in table.model_fields_set:
            yield Conflict(
                key=f"{place}.{key}",
                found=f"a method cannot have its own {key}: what is compared must begin alike",
                fix=f"Set {fixed} at the top of the recipe",
            )
    if "held_out" in table.data.model_fields_set or "eval" in table.model_fields_set:
        yield Conflict(
            key=f"{place}.eval" if "eval" in table.model_fields_set else f"{place}.data.held_out",
            found="a method would be judged in its own way",
            fix="Set [eval] and data.held_out at the top of the recipe",
        )
    if table.optimizer.schedule != "constant":
        yield Conflict(
            key=f"{place}.optimizer.schedule",
            found=f"{table.optimizer.schedule!r} needs the number of steps, and here the budget ends a method",
            fix='Use schedule = "constant" (warmup_steps may be set)',
        )
    online = "online" not in table.dpo.model_fields_set or table.dpo.online
    samples = name != "dpo" or (table.data.pairs is None and online)
    if not samples and recipe.budget.tokens is not None and "steps" not in table.run.model_fields_set:
        yield Conflict(
            key="budget.tokens",
            found="DPO on given pairs samples nothing, so it would never spend a budget of tokens",
            fix="Set methods.dpo.run.steps, or use budget.seconds",
            others=(f"{place}.data.pairs",),
        )
    filled = table
    if samples and name == "dpo":
        filled = table.model_copy(update={"dpo": table.dpo.model_copy(update={"online": True})})
    yield from stage_conflicts(filled, place, method=name, model=recipe.model, seed=0, **shared_tables(recipe))
