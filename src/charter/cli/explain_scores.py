"""What `charter explain` says of a preference model: the recipe that trains one, and its memory as a reward."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.cli.estimate import Shape
    from charter.objectives.formulas import Formula
    from charter.recipe import Recipe


def score_sizes(recipe: Recipe) -> dict[str, int]:
    """Derived numbers, each with its unit in its name."""
    table, steps = recipe.preference, recipe.run.steps
    return {
        "steps": steps,
        "pairs per step": table.pairs_per_step,
        "pairs in the run": table.pairs_per_step * steps,
        "longest pair, tokens": table.max_tokens,
        "optimizer updates": steps,
    }


def score_formulas(recipe: Recipe) -> dict[str, Formula]:
    """The formulas of the [preference] table with its numbers."""
    from charter.objectives.formulas import Formula

    table, source = recipe.preference, "Bradley and Terry 1952; soft labels as in arXiv 2212.08073"
    low, high = table.clamp
    labels = {
        "soft": "p as it is given",
        "hard": "p ← 1 where p > 1/2, 0 where p < 1/2",
        "clamped": f"p ← min({high:g}, max({low:g}, p))",
    }
    return {
        "score": Formula("s = w · h, h the last hidden state at the reply's closing token", "arXiv 2203.02155"),
        "label": Formula(labels[table.labels], "this recipe"),
        "loss of a pair": Formula("ℓ = −[p log σ(s_a − s_b) + (1 − p) log σ(s_b − s_a)]", source),
        "aggregation": Formula("L = mean over the pairs of the step", source),
    }


def score_notes(recipe: Recipe) -> list[str]:
    """What should be known beside the numbers."""
    table = recipe.preference
    if table.trainable_layers == 0:
        return [
            "the backbone is frozen: its states at the closing tokens are worked out once, before the first step, and "
            "kept in the run folder; optimizer.learning_rate has no effect, preference.head_learning_rate does"
        ]
    how = "the whole backbone" if table.trainable_layers is None else f"the last {table.trainable_layers} layers"
    return [f"{how} and the head learn; the output layer over the vocabulary does not"]


def trained_parameters(recipe: Recipe, shape: Shape) -> int:
    """The weights that learn: the head, and the chosen layers with the norm behind them."""
    import math

    layers = recipe.preference.trainable_layers

    def learns(name: str) -> bool:
        if "lm_head" in name or name == "score.weight":
            return False
        if layers is None:
            return True
        place = re.search(r"\.(?:layers|h)\.(\d+)\.", name)
        if place is None:
            return layers > 0 and name.rpartition(".")[0].rpartition(".")[2] in ("norm", "ln_f")
        return int(place[1]) >= shape.layers - layers

    return shape.width + sum(math.prod(size) for name, size in shape.tensors.items() if learns(name))


def reward_model_bytes(recipe: Recipe) -> int:
    """Weights of the preference models that stand beside the policy, 4 bytes each; a folder that is not there counts 0
    (`charter train` refuses it by name)."""
    from charter.cli.estimate import read_shape
    from charter.cli.reward_builders import scorer_folder
    from charter.errors import UsageError

    total = 0
    for reward in recipe.rewards if recipe.samples else ():
        if reward.name != "preference":
            continue
        try:
            shape = read_shape(scorer_folder(str(reward.options.get("model", ""))))
        except UsageError:
            continue
        total += 4 * shape.parameters if shape is not None else 0
    return total
