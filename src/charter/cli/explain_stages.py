"""What `charter explain` says of a recipe with stages: each in its turn, and the memory of the largest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.recipe import PipelineRecipe, Recipe
    from charter.recipe.cai import CaiRecipe


CAI_ORDER = ("redteam", "revise", "sft", "calibrate", "label", "preference", "policy", "arena")
"""The stages of a constitutional recipe as `charter cai` runs them."""


def staged_facts(recipe: PipelineRecipe | CaiRecipe) -> dict[str, Any]:
    """What a pipeline or a constitutional recipe will do, as data.

    Returns:
        {"method", "model", "seed", "stages": [{"name", "kind", "begins_from", …facts}], "memory": of the stage that
        needs most, or None, "notes", "recipe_hash"}
    """
    from charter.recipe import PipelineRecipe, check_recipe, recipe_hash
    from charter.recipe.cai_checks import cai_conflicts
    from charter.recipe.pipeline import pipeline_conflicts

    if isinstance(recipe, PipelineRecipe):
        check_recipe(recipe, pipeline_conflicts)
        stages = [_pipeline_stage(recipe, index) for index in range(len(recipe.stages))]
    else:
        check_recipe(recipe, cai_conflicts)
        by_name = {stage["name"]: stage for stage in (*_asking_stages(recipe), *_training_stages(recipe))}
        stages = [by_name[name] for name in CAI_ORDER if name in by_name]
    measured = [stage for stage in stages if stage.get("memory")]
    largest = max(measured, key=lambda stage: stage["memory"]["peak_bytes"], default=None)
    notes = [note for stage in stages for note in stage.get("notes", ()) if note.startswith("no memory estimate")]
    return {
        "method": recipe.method,
        "model": recipe.model,
        "seed": recipe.seed,
        "stages": stages,
        "memory": {"stage": largest["name"], **largest["memory"]} if largest else None,
        "notes": list(dict.fromkeys(notes)),
        "recipe_hash": recipe_hash(recipe),
    }


def explain_stages(recipe: PipelineRecipe | CaiRecipe) -> str:
    """The same as text for a terminal."""
    return "\n".join(_lines(staged_facts(recipe)))


def _pipeline_stage(pipeline: PipelineRecipe, index: int) -> dict[str, Any]:
    from charter.cli.explain import facts
    from charter.recipe.pipeline import model_before, stage_recipe

    stage = pipeline.stages[index]
    made = stage_recipe(pipeline, index, lambda name: f"@{name}")
    shaped = made.model_copy(update={"model": pipeline.model}) if made.model.startswith("@") else made
    head = {"name": stage.name, "kind": stage.kind, "begins_from": model_before(pipeline, index)}
    found = facts(shaped)
    if stage.kind != "rejection":
        return {**head, **found}
    table, sampling = stage.rejection, made.sampling
    prompts = table.prompts
    sizes: dict[str, Any] = {"prompts": prompts if prompts is not None else "all"}
    sizes["completions per prompt"] = sampling.group_size
    if prompts is not None:
        sizes["completions"] = prompts * sampling.group_size
        sizes["sampled tokens, at most"] = prompts * sampling.group_size * sampling.max_new_tokens
    choice = "the shortest" if table.choose == "shortest" else "drawn by the seed"
    kept = (
        f"r ≥ {table.threshold:g}, ended by itself, not empty; of each prompt {table.keep}, {choice}, equal texts once"
    )
    formulas = {
        "sum of the rewards": found["formulas"]["sum of the rewards"],
        "kept": {"expression": kept, "source": "rejection sampling, arXiv 2501.12948"},
    }
    mixed = f", and {table.mix_rows or 'all'} of {table.mix}" if table.mix else ""
    notes = [
        note for note in found["notes"] if note.startswith(("no memory", "memory counts"))
    ] + [f"nothing is trained: the examples are what was kept{mixed}"]  # fmt: skip
    memory = found["memory"]
    if memory:
        parts = {key: memory["bytes"].get(key, 0) for key in ("weights", "sampler cache")}
        memory = {**memory, "bytes": parts, "peak_bytes": sum(parts.values())}
    return {**head, **found, "sizes": sizes, "formulas": formulas, "schedule": {}, "notes": notes, "memory": memory}


def _asking_stages(recipe: CaiRecipe) -> list[dict[str, Any]]:
    """The stages that ask models: how many requests, of whom."""
    red, revise, label = recipe.redteam, recipe.revise, recipe.label
    drafts = red.count + red.write
    revisions = drafts * revise.steps
    author = _who(recipe.author.backend, recipe.author.model or recipe.model)
    judge = _who(recipe.judge.backend, recipe.judge.model or recipe.model)
    every = "every principle" if recipe.judge.ensemble == "all" else "one drawn principle"
    stages: list[dict[str, Any]] = [
        {
            "name": "redteam",
            "kind": "prompts",
            "sizes": {"prompts": drafts, "of them written by the author": red.write, "held out": red.held_out},
        },
        {
            "name": "revise",
            "kind": "critique and revision" if revise.critique else "direct revision",
            "begins_from": author,
            "sizes": {
                "drafts": drafts,
                "critiques": revisions if revise.critique else 0,
                "revisions": revisions,
                "helpful replies": red.helpful_count * red.helpful_replies,
                "questions to the judge, both orders": 2 * revisions if revise.accept == "judge" else 0,
            },
        },
        {
            "name": "label",
            "kind": f"{recipe.judge.mode} under {every}, both orders",
            "begins_from": judge,
            "sizes": {
                "replies": (label.prompts or drafts) * label.completions,
                "comparisons, at most": label.prompts or drafts,
            },
        },
        {"name": "calibrate", "kind": "judge against human labels", "begins_from": judge, "sizes": {
            "pairs": recipe.calibrate.pairs or "all", "bootstrap draws": recipe.calibrate.resamples,
        }},
        {"name": "arena", "kind": f"judged by the {recipe.arena.judged_by}", "sizes": {
            "harmful prompts, at most": recipe.arena.harmful,
            "pairs of twins, at most": recipe.arena.twins,
            "helpful prompts, at most": recipe.arena.helpful,
        }},
    ]  # fmt: skip
    return stages


def _training_stages(recipe: CaiRecipe) -> Iterator[dict[str, Any]]:
    from charter.cli.explain import facts

    for name, begins, stage in cai_training_recipes(recipe):
        yield {"name": name, "kind": stage.method, "begins_from": begins, **facts(stage)}


def cai_training_recipes(recipe: CaiRecipe) -> Iterator[tuple[str, str, Recipe]]:
    """(name, what it begins from, recipe) of each training stage, with names that stand for what is made before it."""
    from charter.recipe import Method

    stages = recipe.stages
    tables: list[tuple[str, Any, Method, dict[str, Any]]] = [
        ("sft", stages.sft, "sft", {"examples": "sft.jsonl"}),
        ("preference", stages.preference, "preference", {"pairs": "preferences.jsonl"}),
    ]
    policy = stages.policy
    offline = policy is not None and policy.method == "dpo" and not policy.dpo.online
    data = {"pairs": "preferences.jsonl"} if offline else {"prompts": "prompts.jsonl"}
    tables.append(("policy", policy, "grpo", data))
    learner = recipe.learner.model_dump(exclude_unset=True)
    for name, table, method, given in tables:
        if table is None:
            continue
        rewards = [{"name": "preference", "model": "@preference"}] if name == "policy" and not offline else []
        made = table.recipe(
            method=method, model=recipe.model, seed=recipe.seed, data=given, rewards=rewards, learner=learner
        )
        begins = "@sft" if name == "policy" and stages.sft is not None else recipe.model
        yield name, table.model or begins, made


def _who(backend: str, model: str) -> str:
    return {"local": model, "openai": f"{model} at an endpoint", "scripted": "a script"}[backend]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from charter.cli.explain import block, fact_lines, size

    stages = found["stages"]
    yield f"{found['method']} on {found['model']}, seed {found['seed']}: {len(stages)} stages"
    for number, stage in enumerate(stages, start=1):
        begins = f", begins from {stage['begins_from']}" if stage.get("begins_from") else ""
        yield ""
        yield f"── {number}. {stage['name']}: {stage['kind']}{begins}"
        if "recipe_hash" in stage:
            yield from list(fact_lines({**stage, "memory": None, "notes": _told(stage)}))[1:-2]
        else:
            shown = {k: f"{v:,}" if isinstance(v, int) else str(v) for k, v in stage["sizes"].items() if v != 0}
            yield from block("Sizes", shown)
    yield ""
    if memory := found["memory"]:
        about = f"{size(memory['peak_bytes'])} of {size(memory['machine_bytes'])} here"
        yield f"Memory: the stage {memory['stage']!r} needs most, about {about}; stages never hold models together"
    yield from (f"Note: {note}" for note in found["notes"])
    yield ""
    yield f"recipe {found['recipe_hash'][:12]}"


def _told(stage: dict[str, Any]) -> list[str]:
    return [note for note in stage["notes"] if not note.startswith("no memory")]
