"""What `charter explain` says of a recipe that imitates the best of what it samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.objectives.formulas import Formula
    from charter.recipe import Recipe


def rejection_sizes(recipe: Recipe) -> dict[str, int]:
    """Derived numbers, each with its unit in its name."""
    table, sampling, steps = recipe.rejection_sft, recipe.sampling, recipe.run.steps
    completions = table.prompts_per_step * sampling.group_size
    kept = table.prompts_per_step * min(table.per_prompt, sampling.group_size)
    return {
        "steps": steps,
        "prompts per step": table.prompts_per_step,
        "completions per prompt": sampling.group_size,
        "completions per step": completions,
        "sampled tokens per step, at most": completions * sampling.max_new_tokens,
        "completions imitated per step, at most": kept,
        "completions in the run": completions * steps,
        "sampled tokens in the run, at most": completions * sampling.max_new_tokens * steps,
        "optimizer updates": steps * table.updates_per_step,
    }


def rejection_formulas(recipe: Recipe) -> dict[str, Formula]:
    """The formulas of the [rejection_sft] table with its numbers."""
    from charter.cli.explain_rewards import sum_expression
    from charter.objectives import formulas as written

    table = recipe.rejection_sft
    rule = "r > mean(r) of the prompt" if table.keep == "best" else f"r ≥ {table.threshold:g}"
    return {
        "sum of the rewards": written.Formula(sum_expression(recipe), "this recipe"),
        "kept": written.Formula(
            f"of each prompt the {table.per_prompt} with the highest r among those with {rule}, equal texts once",
            "RAFT, arXiv 2304.06767",
        ),
        "loss": written.Formula("ℓ = −lp(token | context), on the tokens that were kept", "maximum likelihood"),
        "aggregation": written.aggregation_formula(table.aggregation),
    }


def rejection_notes() -> list[str]:
    """What should be known beside the numbers."""
    return ["completions that earned little are left out, not learnt from: no reference and no critic is held"]
