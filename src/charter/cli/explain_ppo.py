"""What `charter explain` says of a recipe with a critic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.objectives.formulas import Formula
    from charter.recipe import Recipe


def ppo_sizes(recipe: Recipe) -> dict[str, int]:
    """Derived numbers, each with its unit in its name."""
    ppo, sampling, steps = recipe.ppo, recipe.sampling, recipe.run.steps
    completions = ppo.prompts_per_step * sampling.group_size
    updates = ppo.epochs * ppo.minibatches
    return {
        "steps": steps,
        "prompts per step": ppo.prompts_per_step,
        "completions per prompt": sampling.group_size,
        "completions per step": completions,
        "sampled tokens per step, at most": completions * sampling.max_new_tokens,
        "completions in the run": completions * steps,
        "sampled tokens in the run, at most": completions * sampling.max_new_tokens * steps,
        "optimizer updates per step": updates,
        "optimizer updates": updates * steps,
    }


def ppo_formulas(recipe: Recipe) -> dict[str, Formula]:
    """The formulas of the [ppo] table with its numbers."""
    from charter.cli.explain_rewards import sum_expression
    from charter.objectives import formulas as written

    ppo, source = recipe.ppo, "InstructGPT, arXiv 2203.02155"
    kl = f"−{ppo.kl_coef:g} (lp_old − lp_ref)" if ppo.kl_coef > 0 else "0"
    bounded = f"clip(V, V_old − {ppo.value_clip:g}, V_old + {ppo.value_clip:g})"
    squared = f"½ max((V − R)², ({bounded} − R)²)" if ppo.value_clip > 0 else "½ (V − R)²"
    whole = ", then A ← (A − mean) / std over the tokens of the step" if ppo.whiten else ""
    return {
        "sum of the rewards": written.Formula(sum_expression(recipe), "this recipe"),
        "reward of a token": written.Formula(f"r_t = {kl}, and + r on the last token of a completion", source),
        "advantage": written.Formula(
            f"δ_t = r_t + {ppo.gamma:g} V_t+1 − V_t, A_t = δ_t + {ppo.gamma * ppo.lam:g} A_t+1, R = A + V{whole}",
            "GAE, arXiv 1506.02438",
        ),
        "policy loss": written.policy_formula("clip", ppo.clip, ppo.clip),
        "value loss": written.Formula(f"loss_V = {squared}", source),
        "aggregation": written.Formula(
            f"L = Σ (loss + {ppo.value_coef:g} loss_V) m / Σ m, over the minibatch", "PPO, arXiv 1707.06347"
        ),
    }
