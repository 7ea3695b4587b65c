"""A pipeline (method = "pipeline"): stages that run one after the other, each from what those before it made."""

# pyright: strict

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

from pydantic import Field

from charter.recipe.checks import conflicts
from charter.recipe.conflict import Conflict
from charter.recipe.stages import StageTable, stage_conflicts
from charter.recipe.tables import (
    DataTable,
    EvalTable,
    FiniteFloat,
    Fraction,
    LearnerTable,
    Method,
    NonNegativeInt,
    PositiveInt,
    Recipe,
    RewardTable,
    SamplingTable,
    Table,
    described,
)

StageKind = Literal["sft", "grpo", "dpo", "ppo", "preference", "rejection"]
START = "@start"
"""The pipeline's own model, as a stage names it."""

POLICIES = ("sft", "grpo", "dpo", "ppo")
"""Kinds of stage whose model the next stage begins from; a preference model is none."""


class CollectionTable(Table):
    """[stages.rejection]: which of the model's own completions become examples (kind = "rejection")."""

    file_keys = ("mix",)

    prompts: PositiveInt | None = described(
        "Training prompts that are answered, sampling.group_size times each; all when left out.", None, unit="prompts"
    )
    threshold: FiniteFloat = described("A completion is kept when its reward is at least this.", 1.0)
    keep: PositiveInt = described("Most completions kept of one prompt.", 1, unit="completions")
    choose: Literal["shortest", "random"] = described("Which of those that pass are kept.", "shortest")
    mix: str = described("Further examples, added as they are: .jsonl, .parquet or hf:NAME.", "")
    mix_rows: PositiveInt | None = described("Of these, how many, drawn by the seed; all when left out.", None)
    at_least: PositiveInt = described("Fewer own examples than this end the pipeline.", 1, unit="examples")
    max_error_rate: Fraction = described("Share of completions whose reward may fail before the stage stops.", 0.1)


class PipelineStage(StageTable):
    """One entry of [[stages]]."""

    name: str = described("Its folder in the run, and how other stages refer to it: @name.")
    kind: StageKind = described(
        "A method of training, or rejection: sample, keep what the rewards let pass, write examples.jsonl."
    )
    rejection: CollectionTable = Field(default_factory=CollectionTable)


class PipelineRecipe(Table):
    """A pipeline. What stands in a table here holds for every stage, key by key, where the stage does not say it."""

    model_keys = ("model",)

    method: Literal["pipeline"] = described('Always "pipeline".')
    model: str = described("Where the first stage begins: an asset name, a Hugging Face id or a folder.")
    seed: NonNegativeInt = described("Fixes data order and every draw.", 0)
    name: str | None = described("Folder under runs/; the recipe's file name when left out.", None)
    data: DataTable = Field(default_factory=DataTable)
    sampling: SamplingTable = Field(default_factory=SamplingTable)
    rewards: list[RewardTable] = Field(default_factory=list[RewardTable])
    learner: LearnerTable = Field(default_factory=LearnerTable)
    eval: EvalTable = Field(default_factory=EvalTable)
    stages: list[PipelineStage] = Field(default_factory=list[PipelineStage])


def stage_method(stage: PipelineStage) -> Method:
    """The method of the recipe that a stage is; a rejection stage samples and scores as rejection-sampling SFT does."""
    return "rejection_sft" if stage.kind == "rejection" else stage.kind


def model_before(pipeline: PipelineRecipe, index: int) -> str:
    """`@name` of the stage whose model a stage begins from; `@start` where that is the pipeline's own."""
    if pipeline.stages[index].model:
        return pipeline.stages[index].model
    before = [stage.name for stage in pipeline.stages[:index] if stage.kind in POLICIES]
    return f"@{before[-1]}" if before else START


def stage_tables(pipeline: PipelineRecipe, index: int) -> dict[str, Any]:
    """The tables that a stage takes from its pipeline, as `StageTable.recipe` wants them.

    An imitating stage that names no examples takes those of the nearest rejection stage before it. A preference model
    is made of pairs alone and takes neither prompts nor rewards.
    """
    if pipeline.stages[index].kind == "preference":
        return {"learner": pipeline.learner.model_dump(exclude_unset=True)}
    names = ("data", "sampling", "learner", "eval")
    tables: dict[str, Any] = {name: getattr(pipeline, name).model_dump(exclude_unset=True) for name in names}
    tables["rewards"] = [reward.model_dump(exclude_unset=True) for reward in pipeline.rewards]
    made = [stage.name for stage in pipeline.stages[:index] if stage.kind == "rejection"]
    if pipeline.stages[index].kind == "sft" and made:
        tables["data"] = {"examples": f"@{made[-1]}", **tables["data"]}
    if pipeline.stages[index].kind == "rejection":
        tables["rejection_sft"] = {"keep": "threshold", "prompts_per_step": 1}
    return tables


def stage_recipe(pipeline: PipelineRecipe, index: int, output: Callable[[str], str]) -> Recipe:
    """A stage as a recipe on its own.

    Args:
        output: name of a stage before it → what it made: a model's folder, or a file of examples.
    """
    stage = pipeline.stages[index]

    def found(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return pipeline.model if value == START else output(value[1:])
        if isinstance(value, dict):
            return {key: found(item) for key, item in cast("dict[str, Any]", value).items()}
        return [found(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value

    recipe = stage.recipe(
        method=stage_method(stage),
        model=model_before(pipeline, index),
        seed=pipeline.seed,
        **stage_tables(pipeline, index),
    )
    return Recipe.model_validate(found(recipe.model_dump()))


def references(pipeline: PipelineRecipe, index: int) -> list[tuple[str, str]]:
    """(dotted key inside the stage, name without @) of every stage that a stage refers to; the start is none."""
    values = stage_recipe(pipeline, index, lambda name: f"@{name}").model_dump()
    found = [(key, value[1:]) for key, value in _texts(values, "") if value.startswith("@") and value != START]
    mix = pipeline.stages[index].rejection.mix
    return [*found, *([("rejection.mix", mix[1:])] if mix.startswith("@") else [])]


def pipeline_conflicts(pipeline: PipelineRecipe) -> tuple[Conflict, ...]:
    """Everything in a pipeline that cannot be meant."""
    found: list[Conflict] = []
    if not pipeline.stages:
        found.append(
            Conflict(key="stages", found="a pipeline needs stages, and this has none", fix="Add a table [[stages]]")
        )
    if not pipeline.model.strip():
        found.append(
            Conflict(
                key="model",
                found="the model's name is empty",
                fix='Name an asset ("smollm2-135m"), a folder or a Hugging Face id',
            )
        )
    for index, stage in enumerate(pipeline.stages):
        place = f"stages.{index}"
        found += _names(pipeline, index)
        if stage.method not in (None, stage.kind):
            found.append(
                Conflict(
                    key=f"{place}.method",
                    found=f'the stage is of kind "{stage.kind}" and its method is "{stage.method}"',
                    fix="Leave method out: the kind says it",
                    others=(f"{place}.kind",),
                )
            )
            continue
        if stage.kind == "rejection":
            found += _rejection(pipeline, index)
        else:
            given = stage_tables(pipeline, index)
            found += stage_conflicts(
                stage, place, method=stage_method(stage), model=model_before(pipeline, index), seed=pipeline.seed,
                **given,
            )  # fmt: skip
            if "rejection" in stage.model_fields_set:
                found.append(
                    Conflict(
                        key=f"{place}.rejection",
                        found=f'[stages.rejection] has no effect on a stage of kind "{stage.kind}"',
                        fix='Leave it out, or write kind = "rejection"',
                        others=(f"{place}.kind",),
                    )
                )
    return tuple(found)


def _names(pipeline: PipelineRecipe, index: int) -> Iterator[Conflict]:
    stage, place = pipeline.stages[index], f"stages.{index}"
    before = {earlier.name: earlier for earlier in pipeline.stages[:index]}
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", stage.name) or stage.name == START[1:]:
        yield Conflict(
            key=f"{place}.name",
            found=f"{stage.name!r} cannot be the name of a stage",
            fix='Use letters, digits, - and _; "start" is the pipeline\'s own model',
        )
    elif stage.name in before:
        yield Conflict(
            key=f"{place}.name", found=f"two stages are called {stage.name!r}", fix="Give each a name of its own"
        )
    try:
        referred = references(pipeline, index)
    except ValueError:  # a value of the wrong kind, which is said where it stands
        return
    for key, name in referred:
        wanted = "rejection" if key in ("data.examples", "rejection.mix") else "training"
        if name not in before:
            there = ", ".join(f"@{one}" for one in before) or "none"
            yield Conflict(
                key=f"{place}.{key}",
                found=f"@{name} is no stage before this one",
                fix=f"Before it there are: {there}; {START} is the pipeline's own model",
                others=(place,),
            )
        elif (before[name].kind == "rejection") != (wanted == "rejection"):
            made = "examples" if before[name].kind == "rejection" else "a model"
            yield Conflict(
                key=f"{place}.{key}",
                found=f"@{name} makes {made}, and {'examples are' if wanted == 'rejection' else 'a model is'} wanted",
                fix=f"Name a {wanted} stage",
                others=(place,),
            )


def _rejection(pipeline: PipelineRecipe, index: int) -> Iterator[Conflict]:
    stage, place = pipeline.stages[index], f"stages.{index}"
    try:
        recipe = stage_recipe(pipeline, index, lambda name: f"@{name}")
    except ValueError:
        return
    used = ("model", "data", "sampling", "rewards", "learner", "eval", "seed")
    read = {*used, "name", "kind", "method", "rejection"}
    for table in (name for name in type(stage).model_fields if name in stage.model_fields_set - read):
        yield Conflict(
            key=f"{place}.{table}",
            found=f'kind = "rejection" trains nothing, so [stages.{table}] has no effect',
            fix="Leave it out; [stages.rejection] says what is kept",
            others=(f"{place}.kind",),
        )
    for found in conflicts(recipe):
        if found.key in ("data.prompts", "rewards"):
            what = "prompts to sample from" if found.key == "data.prompts" else "rewards to choose by"
            yield Conflict(
                key=f"{place}.{found.key}",
                found=f'kind = "rejection" has no {what}',
                fix=found.fix,
                others=(f"{place}.kind",),
            )
        elif found.key.partition(".")[0] in used and found.key not in ("rejection_sft", "eval"):
            yield Conflict(key=f"{place}.{found.key}", found=found.found, fix=found.fix, others=(place,))
    if stage.rejection.keep > recipe.sampling.group_size:
        yield Conflict(
            key=f"{place}.rejection.keep",
            found=f"{stage.rejection.keep} cannot be kept of {recipe.sampling.group_size} completions",
            fix="Keep fewer, or raise sampling.group_size",
            others=(f"{place}.sampling.group_size", place),
        )
    if stage.rejection.mix_rows is not None and not stage.rejection.mix:
        yield Conflict(
            key=f"{place}.rejection.mix_rows",
            found="there is no file to take them from",
            fix="Name one with mix = …, or leave mix_rows out",
        )


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        pairs = iter(cast("dict[Any, Any]", value).items())
    elif isinstance(value, list):
        pairs = iter(enumerate(cast("list[Any]", value)))
    for part, item in pairs:
        yield from _texts(item, f"{key}.{part}" if key else str(part))
