"""A finished run of a comparison, judged: what it did, what it cost, how good it became and how far it went."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from charter.cli.compare_child import spent
from charter.cli.compare_memory import (
    architecture_of,
    memory_bytes,
    models_resident,
    reward_model_shape,
    shape_of,
)

if TYPE_CHECKING:
    from charter.cli.compose import Inputs
    from charter.evaluate.compare_work import StepWork
    from charter.model.load import Policy
    from charter.recipe import Recipe
    from charter.run.reader import Run
    from charter.types import Scored

EDGE = 5
"""Steps at each end of a run over which a drift is averaged."""


def measure(folder: Path, name: str) -> None:
    """Write FOLDER/measured/NAME.json about the finished run FOLDER/NAME."""
    from charter.cli.compose import load_model, read_inputs
    from charter.recipe import load_recipe
    from charter.run.atomic import write_text
    from charter.run.checkpoint import Checkpoints
    from charter.run.reader import Run

    job = json.loads((folder / "jobs" / f"{name}.json").read_text("utf-8"))
    recipe = load_recipe(folder / "jobs" / f"{name}.toml")
    memory = json.loads((folder / "measured" / f"{name}.memory.json").read_text("utf-8"))
    run = Run(folder / name)
    newest = Checkpoints(folder / name).latest()
    assert newest is not None
    start, inputs = load_model(recipe), read_inputs(recipe)
    held_out = asyncio.run(_judge(inputs, recipe, start, newest / "model", folder))
    inputs = read_inputs(recipe)  # rewards are used up when they are closed
    done = work_of_run(run, recipe, inputs, start)
    found = {
        "name": name,
        "method": recipe.method,
        "seed": recipe.seed,
        "job": job["hash"],
        **_course(run, recipe, job["budget"]),
        **_cost(recipe, done, memory),
        **held_out,
    }
    write_text(folder / "measured" / f"{name}.json", json.dumps(found, ensure_ascii=False) + "\n")


def work_of_run(run: Run, recipe: Recipe, inputs: Inputs, start: Policy) -> tuple[StepWork, int]:
    """All steps' passes and usage as one, and the most prompt tokens of a step."""
    from charter.evaluate.compare_work import merged, step_work

    if recipe.samples:
        steps: list[StepWork] = []
        most = 0
        scores = reward_model_shape(recipe) is not None
        for step in run.rollout_steps:
            scored, advantages = _stored(run, step, inputs, start, recipe)
            most = max(most, sum(len(item.group.prompt_tokens) for item in scored))
            steps.append(step_work(recipe, scored, advantages, step, reward_model=scores))
        return merged(steps), most
    return merged(_pair_steps(run, recipe, inputs, start)), 0


def _pair_steps(run: Run, recipe: Recipe, inputs: Inputs, start: Policy) -> list[StepWork]:
    """The steps of DPO on given pairs; the reference sees each pair once."""
    from charter.evaluate.compare_work import StepWork, Usage, learning_from_pairs
    from charter.train.preference import pair_tree

    assert inputs.pairs is not None
    last = max((int(row["step"]) for row in run.metrics), default=0)
    seen: set[str] = set()
    steps: list[StepWork] = []
    for _, pairs in islice(inputs.pairs.steps(recipe.dpo.pairs_per_step), last):
        trees = [pair_tree(pair, start.chat.encode_example, recipe.dpo.max_tokens) for pair in pairs]
        fresh = [tree for pair, tree in zip(pairs, trees, strict=True) if pair.id not in seen]
        seen |= {pair.id for pair in pairs}
        steps.append(learning_from_pairs(trees, reference=False))
        asked = learning_from_pairs(fresh, reference=True).passes["reference_forward"]
        steps.append(StepWork(passes={"reference_forward": asked}, usage=Usage(), largest_update=0))
    return steps


def _stored(
    run: Run, step: int, inputs: Inputs, start: Policy, recipe: Recipe
) -> tuple[list[Scored], tuple[tuple[float | None, ...], ...]]:
    """A step's groups as they were sampled and scored, and their advantages."""
    from charter.cli.rescore import read_groups, stored_score
    from charter.evaluate.compare_work import with_prompt_tokens
    from charter.sampler.local import prompt_tokens
    from charter.types import Scored

    assert inputs.prompts is not None
    prompts = {prompt.id: prompt for prompt in inputs.prompts.train.items}
    found = read_groups(run, step, prompts)
    scored = [
        with_prompt_tokens(
            Scored(group=group, scores=tuple(map(stored_score, rows))),
            prompt_tokens(start, group.prompt, recipe.sampling.max_new_tokens),
        )
        for group, rows in found
    ]
    return scored, tuple(tuple(row["advantage"] for row in rows) for _, rows in found)


def _course(run: Run, recipe: Recipe, budget: Mapping[str, float | None]) -> dict[str, Any]:
    """Steps, time, tokens, the curve, and how the length of completions drifted while it trained."""
    rows = [row for row in run.metrics if row["step"] > 0]
    taken = spent(rows)
    kind = next(name for name, limit in budget.items() if limit is not None)
    limit = float(budget[kind] or 0.0)
    time = {part: _total(rows, f"time/{part}_s") for part in ("sample", "score", "learn")}
    processor = {part: _total(rows, f"time/processor_{part}_s") for part in ("sample", "learn")}
    processor_seconds = _total(rows, "time/processor_s")
    tokens = seconds = spent_processor = 0.0
    curve: list[dict[str, float | None]] = []
    for row in rows:
        tokens += row.get("tokens/sampled") or 0.0
        seconds += row["time/step_s"]
        spent_processor += row["time/processor_s"]
        at = {"step": row["step"], "tokens": tokens, "seconds": seconds, "processor_seconds": spent_processor}
        curve.append({**at, "reward": row.get("reward"), "length": row.get("completions/mean_length")})
    lengths = [float(point["length"]) for point in curve if point["length"] is not None]
    return {
        "steps": len(rows),
        "updates": int(rows[-1]["version"]) if rows else 0,
        "tokens_sampled": int(taken["tokens"]),
        "seconds": taken["seconds"],
        "time": {**time, "other": max(taken["seconds"] - sum(time.values()), 0.0)},
        "processor_seconds": processor_seconds,
        "processor_time": {**processor, "other": max(processor_seconds - sum(processor.values()), 0.0)},
        "budget": {
            "kind": kind, "limit": limit, "spent": taken[kind], "overshot": max(taken[kind] - limit, 0.0),
            "reached": taken[kind] >= limit,
        },
        "curve": curve,
        "training_length": [fmean(lengths[:EDGE]), fmean(lengths[-EDGE:])] if lengths else None,
    }  # fmt: skip


def _total(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(row.get(name) or 0.0 for row in rows))


def _cost(recipe: Recipe, done: tuple[StepWork, int], memory: Mapping[str, int]) -> dict[str, Any]:
    """Models, bytes, peaks, tokens through each model, floating-point operations, and what could not be used."""
    from dataclasses import asdict

    import psutil

    from charter.evaluate.compare_work import LEARNING, pass_flops

    work, prompts = done
    shape, reward_model = shape_of(recipe), reward_model_shape(recipe)
    parts = memory_bytes(
        recipe, shape, reward_model, total_memory=psutil.virtual_memory().total,
        largest_update=work.largest_update, prompts=prompts,
    )  # fmt: skip
    scorer = architecture_of(reward_model) if reward_model is not None else None
    flops = pass_flops(work.passes, architecture_of(shape), scorer)
    estimate = parts.pop("peak")
    return {
        "models_resident": models_resident(recipe, shape, reward_model),
        "bytes": parts,
        "estimate_bytes": estimate,
        "peak_bytes": memory["peak"],
        "peak_ru_maxrss": memory["ru_maxrss"],
        "peak_device_bytes": memory.get("device_peak"),
        "baseline_bytes": memory["baseline"],
        "tokens_forward": {name: one.tokens for name, one in work.passes.items()},
        "tokens_backward": {name: one.tokens for name, one in work.passes.items() if name in LEARNING},
        "passes": {name: {**one.record(), "flops": flops[name]} for name, one in work.passes.items()},
        "flops": sum(flops.values()),
        "usage": asdict(work.usage),
    }


async def _judge(inputs: Inputs, recipe: Recipe, start: Policy, model: Path, folder: Path) -> dict[str, Any]:
    """Held-out rewards before and after, and the KL from the start on what the trained policy writes."""
    from charter.cli.compose import load_model
    from charter.cli.heldout import HeldOut
    from charter.run.atomic import write_text
    from charter.sampler.local import LocalSampler

    assert inputs.prompts is not None
    assert inputs.rubric is not None

    def judge_of(policy: Policy) -> HeldOut:
        assert inputs.prompts is not None
        assert inputs.rubric is not None
        sampler = LocalSampler(policy, recipe.seed)
        return HeldOut(recipe=recipe, prompts=inputs.prompts.held_out, sampler=sampler, reward=inputs.rubric)

    temperature, drawn = recipe.eval.temperatures[0], recipe.sampling.temperature or 1.0
    kept = folder / "measured" / f"start-seed{recipe.seed}.json"
    try:
        await inputs.rubric.ready()
        if not kept.is_file():
            before = await _both(judge_of(start), temperature, drawn)
            told = {"rewards": _rewards(before[0]), "length": _length(before[1]), "length_scored": _length(before[0])}
            write_text(kept, json.dumps(told, ensure_ascii=False) + "\n")
        first = json.loads(kept.read_text("utf-8"))
        trained = load_model(recipe, model)
        at_score, at_draw = await _both(judge_of(trained), temperature, drawn)
    finally:
        await inputs.rubric.close()
    return {
        "rewards": _rewards(at_score),
        "rewards_before": first["rewards"],
        "threshold": recipe.eval.threshold,
        "temperature": temperature,
        "held_out_length": [first["length"], _length(at_draw)],
        "held_out_length_scored": [first["length_scored"], _length(at_score)],
        "kl": kl_from_start(at_draw, start, recipe, drawn),
    }


async def _both(judge: Any, temperature: float, drawn: float) -> tuple[Sequence[Scored], Sequence[Scored]]:
    """The held-out completions that are scored, and those drawn as in training."""
    _, at_score = await judge.at(temperature)
    return at_score, (at_score if drawn == temperature else (await judge.at(drawn))[1])


def _rewards(scored: Sequence[Scored]) -> dict[str, list[float]]:
    from charter.evaluate.accuracy import rewards_by_prompt

    return {item.group.prompt.id: row for item, row in zip(scored, rewards_by_prompt(scored), strict=True)}


def _length(scored: Sequence[Scored]) -> float:
    return fmean(len(rollout.tokens) for item in scored for rollout in item.group.rollouts)


def kl_from_start(scored: Sequence[Scored], start: Policy, recipe: Recipe, temperature: float) -> dict[str, float]:
    """KL(π ‖ π_start) by tokens that π drew: k1 = mean of d, k3 = mean of exp(−d) + d − 1, d = lp − lp_start.

    Returns: {"k1", "k3": nats per token, "k1_per_completion": nats, "tokens", "temperature"}.
    """
    import torch

    from charter.learner.local import LocalLearner
    from charter.objectives.kl import kl_estimate
    from charter.train.batch import rollout_trees

    learner = LocalLearner(start, recipe.optimizer, total_steps=1, reference=start)
    told = learner.reference_logprobs(rollout_trees(scored), temperature)
    ours = [lp for item in scored for rollout in item.group.rollouts for lp in rollout.logprobs]
    theirs = [lp for rows in told for row in rows for lp in row]
    own, first = (torch.tensor(values, dtype=torch.float64) for values in (ours, theirs))
    completions = sum(len(item.group.rollouts) for item in scored)
    k1, k3 = kl_estimate(own, first, "k1"), kl_estimate(own, first, "k3")
    return {
        "k1": float(k1.mean()),
        "k3": float(k3.mean()),
        "k1_per_completion": float(k1.sum()) / completions,
        "tokens": float(len(ours)),
        "temperature": temperature,
    }
