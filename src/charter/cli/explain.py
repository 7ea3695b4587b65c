"""`charter explain RECIPE`: what will run, in formulas and numbers, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.objectives.formulas import Formula
    from charter.recipe import Recipe


def command(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe (TOML).", show_default=False)] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value …, laid over the recipe.")] = None,
    keys: Annotated[bool, typer.Option("--keys", help="Print the meaning and unit of every key instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Print the exact formulas, constants and sources that will run, derived sizes and a memory estimate."""
    from charter.errors import UsageError

    if keys:
        typer.echo(_keys(as_json), nl=False)
        return
    if recipe is None:
        raise UsageError("name a recipe: charter explain RECIPE, or charter explain --keys")
    from charter.recipe import Recipe
    from charter.recipe.compare import CompareRecipe
    from charter.recipe.roots import load_any

    loaded = load_any(recipe, overrides or ())
    if isinstance(loaded, Recipe):
        said: Any = facts(loaded) if as_json else explain(loaded)
    elif isinstance(loaded, CompareRecipe):
        from charter.cli.explain_compare import compare_facts, explain_comparison

        said = compare_facts(loaded) if as_json else explain_comparison(loaded)
    else:
        from charter.cli.explain_stages import explain_stages, staged_facts

        said = staged_facts(loaded) if as_json else explain_stages(loaded)
    typer.echo(json.dumps(said, indent=2, ensure_ascii=False) if as_json else said)


def explain(recipe: Recipe) -> str:
    """What a recipe will do, as text for a terminal; the same content as `facts`."""
    return "\n".join(fact_lines(facts(recipe)))


def facts(recipe: Recipe) -> dict[str, Any]:
    """What a recipe will do, as data.

    Returns:
        {"method", "model", "sizes", "formulas": {name: {"expression", "source"}}, "rewards", "schedule",
        "memory": {"bytes", "peak_bytes", …} or None, "notes", "recipe_hash"}.
    """
    from charter.cli.explain_ppo import ppo_formulas
    from charter.cli.explain_preference import pair_formulas
    from charter.cli.explain_rejection import rejection_formulas
    from charter.cli.explain_rewards import reward_facts
    from charter.cli.explain_scores import score_formulas
    from charter.recipe import check_recipe, recipe_hash

    check_recipe(recipe)
    formulas = {
        "grpo": _grpo_formulas,
        "sft": _sft_formulas,
        "dpo": pair_formulas,
        "ppo": ppo_formulas,
        "rejection_sft": rejection_formulas,
        "preference": score_formulas,
    }[recipe.method](recipe)
    memory, notes = _memory(recipe)
    return {
        "method": recipe.method,
        "model": recipe.model,
        "seed": recipe.seed,
        "data": {key: value for key, value in recipe.data.model_dump().items() if value not in (None, {})},
        "sizes": _sizes(recipe),
        "formulas": {name: {"expression": f.expression, "source": f.source} for name, f in formulas.items()},
        "rewards": [reward_facts(reward) for reward in recipe.rewards] if recipe.samples else [],
        "schedule": _schedule(recipe),
        "memory": memory,
        "notes": notes + _notes(recipe),
        "recipe_hash": recipe_hash(recipe),
    }


def _sizes(recipe: Recipe) -> dict[str, int]:
    """Derived numbers, each with its unit in its name."""
    steps = recipe.run.steps
    if recipe.method == "sft":
        per_step = recipe.sft.examples_per_step
        return {
            "steps": steps,
            "examples per step": per_step,
            "examples in the run": per_step * steps,
            "optimizer updates": steps,
            "longest conversation, tokens": recipe.sft.max_tokens,
        }
    if recipe.method == "dpo":
        from charter.cli.explain_preference import pair_sizes

        return pair_sizes(recipe)
    if recipe.method == "ppo":
        from charter.cli.explain_ppo import ppo_sizes

        return ppo_sizes(recipe)
    if recipe.method == "preference":
        from charter.cli.explain_scores import score_sizes

        return score_sizes(recipe)
    if recipe.method == "rejection_sft":
        from charter.cli.explain_rejection import rejection_sizes

        return rejection_sizes(recipe)
    completions = recipe.grpo.prompts_per_step * recipe.sampling.group_size
    sizes = {
        "steps": steps,
        "prompts per step": recipe.grpo.prompts_per_step,
        "completions per prompt": recipe.sampling.group_size,
        "completions per step": completions,
        "sampled tokens per step, at most": completions * recipe.sampling.max_new_tokens,
        "completions in the run": completions * steps,
        "sampled tokens in the run, at most": completions * recipe.sampling.max_new_tokens * steps,
        "optimizer updates": steps * recipe.grpo.updates_per_step,
    }
    if recipe.grpo.dynamic_sampling:
        sizes["completions per step with refills, at most"] = completions * (1 + recipe.grpo.max_refill)
    return sizes


def _grpo_formulas(recipe: Recipe) -> dict[str, Formula]:
    from charter.cli.explain_rewards import sum_expression
    from charter.objectives import formulas as written

    grpo, sampling = recipe.grpo, recipe.sampling
    found: dict[str, Formula] = {"combination of rewards": written.combination_formula(grpo.combine)}
    source = (
        "this recipe; r_k of GDPO is what stands behind its weight" if grpo.combine == "per_reward" else "this recipe"
    )
    found["sum of the rewards"] = written.Formula(sum_expression(recipe), source)
    if grpo.combine == "sum":
        found["advantage"] = written.advantage_formula(grpo.advantage)
    found["policy loss"] = written.policy_formula(grpo.loss, grpo.clip_low, grpo.clip_high, grpo.dual_clip)
    found["aggregation"] = written.aggregation_formula(grpo.aggregation, sampling.max_new_tokens)
    if grpo.kl_coef > 0:
        kind = grpo.kl_estimator or ("k1" if grpo.kl_in == "reward" else "k2")
        formula = written.kl_formula(kind)
        place = (
            f"r ← r − {grpo.kl_coef:g} · Σ_t {kind}, before the advantage"
            if grpo.kl_in == "reward"
            else f"loss ← loss + {grpo.kl_coef:g} · {kind}, per token"
        )
        found["KL to the starting model"] = written.Formula(f"{formula.expression}; {place}", formula.source)
    if grpo.mismatch != "none":
        cap = grpo.mismatch_cap
        weight = f"min(w, {cap:g})" if grpo.mismatch == "truncate" else f"w, 0 outside [{1 / cap:g}, {cap:g}]"
        found["sampler mismatch"] = written.Formula(
            f"loss ← stopgrad({weight}) · loss, w = exp(lp_old − lp_sampler)", "truncated importance sampling"
        )
    if grpo.truncated == "penalize":
        window, limit = grpo.soft_window, sampling.max_new_tokens
        found["length penalty"] = written.Formula(
            f"r ← r − min(1, max(0, tokens − {limit - window}) / {window})", "DAPO, arXiv 2503.14476"
        )
    return found


def _sft_formulas(recipe: Recipe) -> dict[str, Formula]:
    from charter.objectives import formulas as written

    return {
        "loss": written.Formula("ℓ = −lp(token | context), on the assistant's tokens", "maximum likelihood"),
        "aggregation": written.aggregation_formula(recipe.sft.aggregation),
    }


def _schedule(recipe: Recipe) -> dict[str, Any]:
    table = recipe.optimizer
    course = {
        "constant": f"constant at {table.learning_rate:g}",
        "linear": f"a line from {table.learning_rate:g} to {table.final_fraction * table.learning_rate:g}",
        "cosine": f"half a cosine from {table.learning_rate:g} to {table.final_fraction * table.learning_rate:g}",
    }[table.schedule]
    rise = f"rises from 0 over {table.warmup_steps} steps, then " if table.warmup_steps else ""
    every = recipe.run.eval_every
    return {
        "optimizer": f"AdamW, betas {table.betas[0]:g} and {table.betas[1]:g}, eps {table.eps:g}, "
        f"weight decay {table.weight_decay:g}, gradient norm at most {table.max_grad_norm:g}",
        "learning rate": rise + course,
        "checkpoints": f"every {recipe.run.save_every} steps and at the end; "
        f"the newest {recipe.run.keep_checkpoints} are kept",
        "evaluation": "before and after" + (f", and every {every} steps" if every else ""),
    }


def _memory(recipe: Recipe) -> tuple[dict[str, Any] | None, list[str]]:
    import psutil

    from charter.assets import fetched, is_asset
    from charter.cli.estimate import cache_bytes_per_token, forward_tokens, memory_parts, peak_bytes, read_shape

    folder = Path(recipe.model)
    if not folder.is_dir():
        here = fetched(recipe.model) if is_asset(recipe.model) else None
        if here is None:
            get = f"; charter assets get {recipe.model}" if is_asset(recipe.model) else ""
            return None, [f"no memory estimate: the model {recipe.model!r} is not on this machine yet{get}"]
        folder = here
    shape = read_shape(folder)
    if shape is None or not shape.tensors:
        return None, [f"no memory estimate: {folder} has no config.json and .safetensors that tell the model's shape"]
    total = psutil.virtual_memory().total
    parts = memory_parts(recipe, shape, total)
    memory = {
        "parameters": shape.parameters,
        "bytes": parts,
        "peak_bytes": peak_bytes(parts),
        "machine_bytes": total,
        "micro-batch tokens": forward_tokens(recipe, shape, total),
        "sampler cache bytes per token": cache_bytes_per_token(recipe, shape),
    }
    notes = ["memory leaves out Python and its libraries, about 0.4 GB"]
    if recipe.samples:
        notes.append("memory counts completions; each prompt adds its own tokens, once per group")
    return memory, notes


def _notes(recipe: Recipe) -> list[str]:
    if recipe.method == "sft":
        return []
    if recipe.method == "dpo":
        from charter.cli.explain_preference import pair_notes

        return pair_notes(recipe)
    if recipe.method == "ppo":
        return [] if recipe.ppo.kl_coef > 0 else ["kl_coef is 0: no reference model is held"]
    if recipe.method == "preference":
        from charter.cli.explain_scores import score_notes

        return score_notes(recipe)
    if recipe.method == "rejection_sft":
        from charter.cli.explain_rejection import rejection_notes

        return rejection_notes()
    notes: list[str] = []
    if recipe.grpo.kl_coef == 0:
        notes.append("kl_coef is 0: no reference model is held")
    if recipe.grpo.updates_per_step == 1 and recipe.grpo.loss not in ("reinforce", "dppo_tv"):
        notes.append("one update per step: lp_old is lp of the same forward, every ratio is 1 and nothing is clipped")
    if recipe.grpo.combine == "per_reward":
        notes.append(
            f'combine = "per_reward" standardises by itself: advantage = "{recipe.grpo.advantage}" is not used'
        )
    return notes


def fact_lines(found: dict[str, Any]) -> Iterator[str]:
    """What `facts` found, line by line."""
    yield f"{found['method']} on {found['model']}, seed {found['seed']}"
    yield from block("Data", found["data"])
    yield from block("Sizes", {name: f"{value:,}" for name, value in found["sizes"].items()})
    yield ""
    yield "Formulas"
    for name, formula in found["formulas"].items():
        yield f"  {name}"
        yield f"      {formula['expression']}"
        yield f"      source: {formula['source']}"
    if found["rewards"]:
        yield ""
        yield "Rewards"
        for reward in found["rewards"]:
            options = ", ".join(f"{key} = {value!r}" for key, value in reward.items() if key != "name")
            yield f"  {reward['name']}  ({options})"
    yield from block("Schedule", found["schedule"])
    if memory := found["memory"]:
        yield ""
        yield f"Memory, estimated for {memory['parameters']:,} parameters"
        for name, value in memory["bytes"].items():
            if value:
                yield f"  {name:32} {size(value):>10}"
        yield f"  {'at the peak, about':32} {size(memory['peak_bytes']):>10}  of {size(memory['machine_bytes'])} here"
        yield f"  a micro-batch has at most {memory['micro-batch tokens']:,} tokens"
    if found["notes"]:
        yield ""
        yield from (f"Note: {note}" for note in found["notes"])
    yield ""
    yield f"recipe {found['recipe_hash'][:12]}"


def block(title: str, rows: dict[str, Any]) -> Iterator[str]:
    """Names and values in two columns under a title; nothing where there are none."""
    if not rows:
        return
    width = max((len(name) for name in rows), default=0)
    yield ""
    yield title
    for name, value in rows.items():
        yield f"  {name:{width}}  {value}"


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _keys(as_json: bool) -> str:
    from dataclasses import asdict

    from charter.recipe.keys import recipe_keys
    from charter.recipe.reference import keys_text

    return (
        json.dumps([asdict(key) for key in recipe_keys()], indent=2, ensure_ascii=False) + "\n"
        if as_json
        else keys_text()
    )
