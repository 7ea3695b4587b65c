"""What `charter explain` says of a recipe that learns from pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.objectives.formulas import Formula
    from charter.recipe import Recipe


def pair_sizes(recipe: Recipe) -> dict[str, int]:
    """Derived numbers, each with its unit in its name."""
    dpo, steps = recipe.dpo, recipe.run.steps
    sizes = {"steps": steps, "pairs per step": dpo.pairs_per_step, "pairs in the run": dpo.pairs_per_step * steps}
    if dpo.online:
        completions = dpo.pairs_per_step * recipe.sampling.group_size
        sizes |= {
            "completions per prompt": recipe.sampling.group_size,
            "completions per step": completions,
            "sampled tokens per step, at most": completions * recipe.sampling.max_new_tokens,
            "completions in the run": completions * steps,
            "sampled tokens in the run, at most": completions * recipe.sampling.max_new_tokens * steps,
        }
    else:
        sizes["longest pair, tokens"] = dpo.max_tokens
    return sizes | {"optimizer updates": steps}


def pair_formulas(recipe: Recipe) -> dict[str, Formula]:
    """The formulas of the [dpo] table with its numbers."""
    from charter.cli.explain_rewards import sum_expression
    from charter.objectives import formulas as written

    dpo = recipe.dpo
    found: dict[str, Formula] = {}
    if dpo.online:
        found["sum of the rewards"] = written.Formula(sum_expression(recipe), "this recipe")
        label = "p = 1" if dpo.online_label == "hard" else "p = 1 / (1 + exp(r_b − r_a))"
        found["pairs"] = written.Formula(
            f"a = completion of the highest r, b = of the lowest, {label}; no pair where all r are equal",
            "online DPO, arXiv 2402.04792",
        )
    found["loss of a pair"] = written.preference_formula(dpo.kind, dpo.beta, dpo.label_smoothing)
    found["aggregation"] = written.Formula("L = mean over the pairs of the step", "DPO, arXiv 2305.18290")
    return found


def pair_notes(recipe: Recipe) -> list[str]:
    """What should be known beside the numbers."""
    if not recipe.dpo.online:
        return [
            "the reference's log-probabilities of all pairs of the run are computed once, before the first step, and "
            "kept in the run folder; no reference model is held while it learns"
        ]
    if recipe.lora is not None:
        return ["the reference is the model without its adapters: no second model is held"]
    return ["the pairs are new in every step, so the reference model is held"]
