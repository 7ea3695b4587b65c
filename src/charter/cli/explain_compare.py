"""What `charter explain` says of a comparison: each method in its turn, as a recipe of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.recipe.compare import CompareRecipe


def compare_facts(recipe: CompareRecipe) -> dict[str, Any]:
    """{"method": "compare", "seeds", "budget", "methods": {name: the facts of its recipe, as of a training run}}."""
    from charter.cli.explain import facts
    from charter.recipe.compare import method_recipe

    budget = {"tokens": recipe.budget.tokens, "seconds": recipe.budget.seconds}
    return {
        "method": "compare",
        "model": recipe.model,
        "seeds": recipe.seeds,
        "budget": {kind: amount for kind, amount in budget.items() if amount is not None},
        "methods": {name: facts(method_recipe(recipe, name, recipe.seeds[0])) for name, _ in recipe.methods.present},
    }


def explain_comparison(recipe: CompareRecipe) -> str:
    """The same as text."""
    from charter.cli.explain import explain
    from charter.recipe.compare import method_recipe

    kind, limit = ("tokens", recipe.budget.tokens) if recipe.budget.tokens else ("seconds", recipe.budget.seconds)
    unit = "sampled tokens" if kind == "tokens" else "seconds in training steps"
    seeds = ", ".join(map(str, recipe.seeds))
    parts = [
        f"Comparison on {recipe.model}: each method with seed {seeds}, in a process of its own, until the step in "
        f"which it has used {limit:g} {unit}. Sizes below that speak of a whole run are those of run.steps, which the "
        "budget cuts short."
    ]
    for name, _ in recipe.methods.present:
        parts += ["", f"== {name} ==", explain(method_recipe(recipe, name, recipe.seeds[0]))]
    return "\n".join(parts)
