"""The formulas in print, with the constants that will run and where they come from. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from charter.objectives.settings import (
    AGGREGATIONS,
    ESTIMATORS,
    GROUP_EPS,
    KL_KINDS,
    POLICY_KINDS,
    PREFERENCE_KINDS,
    ClipRange,
    clip_range,
    named_settings,
    require_choice,
    require_dual_clip,
)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as it is shown. expression: in plain text. source: the paper or system it comes from."""

    expression: str
    source: str

    def __str__(self) -> str:
        return f"{self.expression}   [{self.source}]"


def policy_formula(
    kind: str = "clip",
    clip_low: float | None = None,
    clip_high: float | None = None,
    dual_clip: float | None = None,
    **named: float,
) -> Formula:
    """The per-token loss that `policy_loss` computes for these arguments, constants filled in.

    Args: as in `charter.objectives.policy.policy_loss`.
    Raises: as there, for settings that it would refuse.
    """
    bounds = clip_range(kind, clip_low, clip_high)
    constants = named_settings(kind, named)
    require_dual_clip(kind, dual_clip)
    if kind == "reinforce":
        return Formula("loss = −A · lp", "REINFORCE, Williams 1992")
    if kind == "clip":
        expression = f"loss = −min(ρ A, {_clipped('ρ', bounds)} A), ρ = exp(lp − lp_old)"
        if dual_clip is None:
            return Formula(expression, "PPO, arXiv 1707.06347")
        return Formula(
            f"{expression}; where A < 0 at most {_number(dual_clip)} |A|",
            "PPO, arXiv 1707.06347; dual clip, arXiv 1912.09729",
        )
    if kind == "gspo":
        return Formula(
            f"loss = −min(s A, {_clipped('s', bounds)} A), s = exp(mean over the completion of lp − lp_old)",
            "GSPO, arXiv 2507.18071",
        )
    if kind == "cispo":
        return Formula(
            f"loss = −stopgrad(min(ρ, 1 + {_number(bounds.high or 0)})) · A · lp, ρ = exp(lp − lp_old)",
            "CISPO of MiniMax-M1, arXiv 2506.13585",
        )
    if kind == "sapo":
        up, down = constants["tau_positive"], constants["tau_negative"]
        return Formula(
            "loss = −(4/τ) · sigmoid(τ (ρ − 1)) · A, ρ = exp(lp − lp_old), "
            f"τ = {_number(up)} where A > 0, {_number(down)} where A < 0",
            "SAPO",
        )
    delta = constants["delta"]
    return Formula(
        f"loss = −keep · A · ρ, ρ = exp(lp − lp_old), keep = 1 iff (A > 0 and π − π_old ≤ {_number(delta)}) "
        f"or (A < 0 and π − π_old ≥ −{_number(delta)})",
        "DPPO with total variation, arXiv 2602.04879",
    )


def advantage_formula(estimator: str = "center", eps: float = GROUP_EPS) -> Formula:
    """What `group_advantages` computes; mean and std are over the group, with Bessel's correction.

    Raises: ValueError for an unknown estimator.
    """
    require_choice("advantage estimator", estimator, ESTIMATORS)
    return {
        "center": Formula("A = r − mean(r)", "Dr. GRPO, arXiv 2503.20783"),
        "standardize": Formula(
            f"A = (r − mean(r)) / (std(r) + {_number(eps)}), std with N − 1", "GRPO, arXiv 2402.03300"
        ),
        "leave_one_out": Formula("A = r − mean of the other rewards of the group", "RLOO, arXiv 2402.14740"),
        "batch_std": Formula(
            f"A = (r − mean(r)) / (std of all rewards of the step + {_number(eps)}), std with N − 1",
            "REINFORCE++-baseline, arXiv 2501.03262",
        ),
        "max_rl": Formula("A = (r − mean(r)) / mean(r), 0 where mean(r) ≤ 0; rewards are 0 or 1", "MaxRL"),
    }[estimator]


def combination_formula(how: str = "sum", eps: float = GROUP_EPS) -> Formula:
    """How several rewards become one number.

    Raises: ValueError for an unknown `how`.
    """
    require_choice("combination of rewards", how, ("sum", "per_reward"))
    if how == "sum":
        return Formula("r = Σ_k w_k r_k, then the estimator", "weighted sum")
    return Formula(
        f"S = Σ_k w_k (r_k − mean(r_k)) / (std(r_k) + {_number(eps)}), "
        f"A = S / (std of S over the step + {_number(eps)})",
        "GDPO, arXiv 2601.05242",
    )


def aggregation_formula(how: str = "token", max_tokens: int | None = None) -> Formula:
    """How `aggregate` turns per-token losses ℓ under the mask m into the step's loss.

    Args: how: one of `AGGREGATIONS`. max_tokens: the configured limit, shown for `constant`.
    Raises: ValueError for an unknown aggregation.
    """
    require_choice("aggregation", how, AGGREGATIONS)
    limit = "max_new_tokens" if max_tokens is None else str(max_tokens)
    return {
        "token": Formula("L = Σ ℓ m / Σ m, over the step", "DAPO, arXiv 2503.14476"),
        "sequence": Formula(
            "L = mean over completions with loss tokens of (Σ_t ℓ m / Σ_t m)", "GRPO, arXiv 2402.03300"
        ),
        "constant": Formula(f"L = Σ ℓ m / (completions of the step · {limit})", "Dr. GRPO, arXiv 2503.20783"),
        "prompt": Formula("L = mean over groups with loss tokens of (Σ ℓ m / Σ m inside the group)", "per-prompt mean"),
    }[how]


def kl_formula(kind: str = "k3") -> Formula:
    """What `kl_estimate` computes per token.

    Raises: ValueError for an unknown estimator.
    """
    require_choice("KL estimator", kind, KL_KINDS)
    source = 'Schulman, "Approximating KL divergence" (2020)'
    return {
        "k1": Formula("k1 = d, d = lp − lp_ref", source),
        "k2": Formula("k2 = d²/2, d = lp − lp_ref", f"{source}; gradient: arXiv 2506.09477"),
        "k3": Formula("k3 = exp(−d) + d − 1, d = lp − lp_ref", source),
    }[kind]


def preference_formula(kind: str = "dpo", beta: float = 0.1, label_smoothing: float = 0.0) -> Formula:
    """What `dpo_loss` computes per pair.

    Raises: ValueError for an unknown kind.
    """
    require_choice("pairwise loss", kind, PREFERENCE_KINDS)
    label = "p" if label_smoothing == 0 else f"p·{1 - label_smoothing:g} + (1 − p)·{_number(label_smoothing)}"
    h = "h = (lp_a − lp_ref,a) − (lp_b − lp_ref,b)"
    if kind == "ipo":
        target = f"{1 / (2 * beta):g}"
        return Formula(f"q (h − {target})² + (1 − q) (h + {target})², q = {label}, {h}", "IPO, arXiv 2310.12036")
    if kind == "length_normalized":
        h = "h = (lp_a − lp_ref,a)/|a| − (lp_b − lp_ref,b)/|b|"
    source = {
        "dpo": "DPO, arXiv 2305.18290",
        "cdpo": "conservative DPO, Mitchell 2023; arXiv 2305.18290",
        "length_normalized": "length-normalised DPO, arXiv 2411.15124",
    }[kind]
    return Formula(f"−[q log σ({_number(beta)} h) + (1 − q) log σ(−{_number(beta)} h)], q = {label}, {h}", source)


def _clipped(ratio: str, bounds: ClipRange) -> str:
    """clip(ratio, 1 − ε_low, 1 + ε_high) with its numbers."""
    return f"clip({ratio}, 1 − {_number(bounds.low or 0)}, 1 + {_number(bounds.high or 0)})"


def _number(x: float) -> str:
    """A constant as recipes write it: 0.2, 4, 3e-4."""
    if 0 < abs(x) < 1e-3:
        mantissa, exponent = f"{x:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{x:g}"


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {f"policy/{kind}": policy_formula(kind) for kind in POLICY_KINDS}
    | {f"advantage/{name}": advantage_formula(name) for name in ESTIMATORS}
    | {f"combine/{how}": combination_formula(how) for how in ("sum", "per_reward")}
    | {f"aggregation/{how}": aggregation_formula(how) for how in AGGREGATIONS}
    | {f"kl/{kind}": kl_formula(kind) for kind in KL_KINDS}
    | {f"preference/{kind}": preference_formula(kind) for kind in PREFERENCE_KINDS}
)
"""Every formula with its default constants, by room and name: "policy/clip", "advantage/center", "kl/k2" …"""
