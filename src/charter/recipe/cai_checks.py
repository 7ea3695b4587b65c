"""Values of a constitutional recipe that are each allowed and make no sense together."""

# pyright: strict

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from charter.recipe.cai import CaiRecipe, ChatTable
from charter.recipe.conflict import Conflict
from charter.recipe.stages import StageTable, stage_conflicts
from charter.recipe.tables import Method

_METHODS: dict[str, tuple[str, ...]] = {
    "sft": ("sft",),
    "preference": ("preference",),
    "policy": ("grpo", "ppo", "dpo"),
}
"""What each stage of the pipeline may be; the first is meant where it does not say."""


def cai_conflicts(recipe: CaiRecipe) -> tuple[Conflict, ...]:
    """Everything in the recipe that cannot be meant, in the order of the tables."""
    return (
        *_model(recipe),
        *_chat("author", recipe.author),
        *_chat("judge", recipe.judge),
        *_judge(recipe),
        *_redteam(recipe),
        *_revise(recipe),
        *_label(recipe),
        *_stages(recipe),
    )


def imitated_steps(recipe: CaiRecipe) -> tuple[int, ...] | None:
    """The steps (from 1) whose revisions are imitated, as revise.sft_on says; None where it says nothing sensible."""
    steps = recipe.revise.steps
    if recipe.revise.sft_on in ("all", "final"):
        return tuple(range(1, steps + 1)) if recipe.revise.sft_on == "all" else (steps,)
    found = re.fullmatch(r"upto:(\d+)", recipe.revise.sft_on)
    return tuple(range(1, int(found[1]) + 1)) if found and 1 <= int(found[1]) <= steps else None


def _model(recipe: CaiRecipe) -> Iterator[Conflict]:
    if not recipe.model.strip():
        yield Conflict(
            key="model",
            found="the model's name is empty",
            fix='Name an asset ("smollm2-135m"), a folder or a Hugging Face id',
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", recipe.learner.device):
        yield Conflict(
            key="learner.device",
            found=f"{recipe.learner.device!r} is no device that Charter knows",
            fix='Write "auto", "cpu", "cuda" or "cuda:N"',
        )


def _chat(place: str, chat: ChatTable) -> Iterator[Conflict]:
    wanted = {"openai": ("url", "model"), "scripted": ("script",), "local": ()}[chat.backend]
    example = {"url": '"http://localhost:8000/v1"', "model": '"the-name-there"', "script": '"replies.jsonl"'}
    backend = (f"{place}.backend",)
    for key in wanted:
        if not getattr(chat, key):
            yield Conflict(
                key=f"{place}.{key}",
                found=f'backend = "{chat.backend}" needs {key}, and it is left out',
                fix=f"Add {key} = {example[key]}",
                others=backend,
            )
    for key, reader in (("url", "openai"), ("key_env", "openai"), ("script", "scripted")):
        if getattr(chat, key) and chat.backend != reader:
            yield Conflict(
                key=f"{place}.{key}",
                found=f'{key} has no effect with backend = "{chat.backend}"',
                fix=f'Leave it out, or write backend = "{reader}"',
                others=backend,
            )
    if chat.budget is not None and chat.input_price == 0 and chat.output_price == 0:
        yield Conflict(
            key=f"{place}.budget",
            found="nothing is ever spent of a budget while both prices are 0",
            fix="Set input_price and output_price, or bound the tokens with budget_tokens",
            others=(f"{place}.input_price", f"{place}.output_price"),
        )


def _judge(recipe: CaiRecipe) -> Iterator[Conflict]:
    low, high = recipe.judge.clamp
    if not low < high or not low <= 0.5 <= high:
        yield Conflict(
            key="judge.clamp",
            found=f"a clamp from {low:g} to {high:g} leaves no room around 1/2",
            fix="Write the lower end first, at most 0.5, then the higher: [0.4, 0.6]",
        )


def _redteam(recipe: CaiRecipe) -> Iterator[Conflict]:
    if recipe.redteam.held_out == 0 and recipe.arena.harmful > 0:
        yield Conflict(
            key="redteam.held_out",
            found=f"the arena asks for {recipe.arena.harmful} held-out red-team prompts and none are held out",
            fix="Hold some out, or set arena.harmful to 0",
            others=("arena.harmful",),
        )
    if recipe.redteam.helpful and recipe.redteam.helpful_count == 0:
        yield Conflict(
            key="redteam.helpful_count",
            found="0 helpful prompts are taken of the file that redteam.helpful names",
            fix="Ask for some, or leave redteam.helpful out",
            others=("redteam.helpful",),
        )


def _revise(recipe: CaiRecipe) -> Iterator[Conflict]:
    revise = recipe.revise
    if imitated_steps(recipe) is None:
        yield Conflict(
            key="revise.sft_on",
            found=f"{revise.sft_on!r} names no revisions of {revise.steps} steps",
            fix=f'Write "all", "final" or "upto:n" with n from 1 to {revise.steps}',
            others=("revise.steps",),
        )
    most = {"judge": 0.5, "rules": 1.0, "always": 0.0}[revise.accept]
    if revise.accept == "always" and revise.margin != 0:
        yield Conflict(
            key="revise.margin",
            found='accept = "always" asks nobody, so a margin has no effect',
            fix='Leave it out, or write accept = "judge" or "rules"',
            others=("revise.accept",),
        )
    elif abs(revise.margin) >= most > 0:
        yield Conflict(
            key="revise.margin",
            found=f"no revision is ever better than its draft by {revise.margin:g}"
            if revise.margin > 0
            else f"every revision passes a margin of {revise.margin:g}",
            fix=f"Use a number between -{most:g} and {most:g}"
            + (": the judge's p is at most 1/2 above 1/2" if most < 1 else ""),
            others=("revise.accept",),
        )
    if revise.control != "none" and recipe.stages.sft is None:
        yield Conflict(
            key="revise.control",
            found=f'control = "{revise.control}" changes what is imitated, and there is no [stages.sft]',
            fix="Add [stages.sft], or leave control out",
        )


def _label(recipe: CaiRecipe) -> Iterator[Conflict]:
    label = recipe.label
    if label.if_refused == "human" and not label.human:
        yield Conflict(
            key="label.if_refused",
            found="there are no human pairs to go on with where the judge is refused",
            fix='Name them with label.human (a .jsonl path, or harm-ratings), or write if_refused = "stop"',
            others=("label.human",),
        )
    if label.human and label.human_weight == 0:
        yield Conflict(
            key="label.human_weight",
            found="a share of 0 leaves the human pairs unused",
            fix="Use a share above 0, or leave label.human out",
            others=("label.human",),
        )


def _stages(recipe: CaiRecipe) -> Iterator[Conflict]:
    stages = recipe.stages
    for name, stage in (("sft", stages.sft), ("preference", stages.preference), ("policy", stages.policy)):
        if stage is not None:
            yield from _stage(recipe, name, stage)
    policy = stages.policy
    if policy is not None and stages.preference is None and not policy.rewards and _samples(policy):
        yield Conflict(
            key="stages.policy.rewards",
            found="the policy has nothing to learn from: no [stages.preference], and no rewards of its own",
            fix="Add [stages.preference], or a table [[stages.policy.rewards]]",
            others=("stages.policy",),
        )


def _stage(recipe: CaiRecipe, name: str, stage: StageTable) -> Iterator[Conflict]:
    allowed = _METHODS[name]
    if stage.method is not None and stage.method not in allowed:
        words = " or ".join(f'"{method}"' for method in allowed)
        yield Conflict(
            key=f"stages.{name}.method",
            found=f'[stages.{name}] cannot be of the method "{stage.method}"',
            fix=f"Write {words}, or leave it out",
        )
        return
    # what the pipeline makes before the stage begins, under a name that stands for it
    data: dict[str, Any] = {"examples": "sft.jsonl"} if name == "sft" else {"pairs": "preferences.jsonl"}
    if name == "policy" and _samples(stage):
        data = {"prompts": "prompts.jsonl"}
    yield from stage_conflicts(
        stage,
        f"stages.{name}",
        method=cast("Method", allowed[0]),
        model=recipe.model,
        seed=recipe.seed,
        data=data,
        rewards=[{"name": "preference"}],
    )


def _samples(policy: StageTable) -> bool:
    return policy.method != "dpo" or policy.dpo.online
