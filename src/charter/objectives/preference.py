"""Learning from pairs: which of two completions is the better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import logsigmoid

from charter.objectives.masking import at_least_single, require_same_shape
from charter.objectives.settings import PREFERENCE_KINDS, require_choice

if TYPE_CHECKING:
    from jaxtyping import Float, Num
    from torch import Tensor


def bradley_terry_loss(
    score_a: Float[Tensor, " B"], score_b: Float[Tensor, " B"], p: float | Float[Tensor, " B"] = 1.0
) -> Float[Tensor, " B"]:
    """Loss of a preference model's two scores, per pair.

    `−[p log σ(s_a − s_b) + (1 − p) log σ(s_b − s_a)]`

    Args:
        score_a, score_b: the model's scores, in logits. p: probability that a is the better one, 1 where a was chosen.

    Returns: nats per pair.
    Raises: ValueError for a p outside [0, 1] or shapes that differ.
    Source: Bradley and Terry 1952; soft labels from AI feedback as in arXiv 2212.08073.
    """
    require_same_shape(score_a=score_a, score_b=score_b)
    margin = at_least_single(score_a) - score_b
    return _soft_logistic(margin, _probability(p, margin))


def dpo_loss(
    policy_a: Float[Tensor, " B"],
    policy_b: Float[Tensor, " B"],
    ref_a: Float[Tensor, " B"],
    ref_b: Float[Tensor, " B"],
    p: float | Float[Tensor, " B"] = 1.0,
    *,
    beta: float = 0.1,
    kind: str = "dpo",
    label_smoothing: float = 0.0,
    length_a: Num[Tensor, " B"] | None = None,
    length_b: Num[Tensor, " B"] | None = None,
) -> Float[Tensor, " B"]:
    """Direct preference optimisation, per pair.

    With h = (lp_a − lp_ref,a) − (lp_b − lp_ref,b) and q = p(1 − ε) + (1 − p)ε:
    `dpo`: −[q log σ(βh) + (1 − q) log σ(−βh)]; `cdpo`: its name where ε > 0;
    `length_normalized`: the same, each log-ratio divided by its completion's length first;
    `ipo`: q (h − 1/(2β))² + (1 − q) (h + 1/(2β))².

    Args:
        policy_a, policy_b: log-probability of each whole completion, summed over its tokens, in nats.
        ref_a, ref_b: the same under the frozen reference; constants.
        p: probability that a is the better one, 1 where a was chosen.
        beta: strength of the tie to the reference (per nat), above 0.
        kind: one of `PREFERENCE_KINDS`.
        label_smoothing: ε in [0, 0.5), the share of labels believed to be flipped (cDPO).
        length_a, length_b: completion tokens; `length_normalized` needs them and the others read none.

    Returns: loss per pair.
    Raises: ValueError for an unknown kind, a number out of its range, lengths that are missing, shapes that differ.
    Source: DPO arXiv 2305.18290; label smoothing (cDPO) Mitchell 2023; IPO arXiv 2310.12036; length normalisation as
        in the SFT-length-normalised DPO of Tülu 3, arXiv 2411.15124.
    """
    require_choice("pairwise loss", kind, PREFERENCE_KINDS)
    require_same_shape(policy_a=policy_a, policy_b=policy_b, ref_a=ref_a, ref_b=ref_b)
    if not beta > 0:
        raise ValueError(f"beta is {beta}; expected a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected at least 0 and below 0.5")
    ratio_a = at_least_single(policy_a) - ref_a.detach()
    ratio_b = at_least_single(policy_b) - ref_b.detach()
    if kind == "length_normalized":
        ratio_a = ratio_a / _tokens(length_a, ratio_a, "length_a")
        ratio_b = ratio_b / _tokens(length_b, ratio_b, "length_b")
    h = ratio_a - ratio_b
    label = _probability(p, h)
    q = label * (1 - label_smoothing) + (1 - label) * label_smoothing
    if kind == "ipo":
        target = 1 / (2 * beta)
        return q * (h - target).square() + (1 - q) * (h + target).square()
    return _soft_logistic(beta * h, q)


def preference_statistics(
    margin: Float[Tensor, " B"], p: float | Float[Tensor, " B"] = 1.0, *, bins: int = 10
) -> dict[str, float]:
    """How well margins agree with labels, and whether their confidence can be believed.

    Args:
        margin: s_a − s_b (or βh), in logits. p: probability that a is the better one. bins: of equal width on [0, 1].

    Returns:
        `accuracy`: share of pairs with p ≠ 1/2 whose margin has the label's sign, a margin of 0 counting half;
        `margin`: mean margin towards the preferred one, (2p − 1) · margin, in logits;
        `ece`: expected calibration error, Σ_bin n_bin/n · |mean p − mean σ(margin)|.
    Raises: ValueError if there is no pair.
    """
    if not len(margin):
        raise ValueError("no pairs to measure")
    x = margin.detach().double()
    label = _probability(p, x)
    direction = torch.sign(label - 0.5)
    decided = direction != 0
    hits = (1 + torch.sign(x) * direction) / 2
    confidence = torch.sigmoid(x)
    index = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=x.dtype, device=x.device).index_add(0, index, label - confidence)
    return {
        "accuracy": float(hits[decided].mean()) if decided.any() else 0.5,
        "margin": float(((2 * label - 1) * x).mean()),
        "ece": float(gaps.abs().sum() / len(x)),
    }


def _soft_logistic(x: Tensor, p: Tensor) -> Tensor:
    """Cross-entropy of a soft label with σ(x), finite for every finite x."""
    return -(p * logsigmoid(x) + (1 - p) * logsigmoid(-x))


def _probability(p: float | Tensor, like: Tensor) -> Tensor:
    """Labels in the shape and dtype of `like`, or ValueError."""
    label = torch.as_tensor(p, dtype=like.dtype, device=like.device).detach()
    if label.ndim and label.shape != like.shape:
        raise ValueError(f"p has the shape {list(label.shape)}; expected one number or {list(like.shape)}")
    if not ((label >= 0) & (label <= 1)).all():
        raise ValueError("p is a probability: every label must lie in [0, 1]")
    return label.expand_as(like)


def _tokens(length: Tensor | None, like: Tensor, name: str) -> Tensor:
    """Completion lengths as divisors, or ValueError."""
    if length is None:
        raise ValueError(f'the loss "length_normalized" needs {name}, the tokens of each completion')
    require_same_shape(**{name: length, "log-probabilities": like})
    if not (length >= 1).all():
        raise ValueError(f"{name} holds {length.min().item()}; a completion has at least 1 token")
    return length.to(like.dtype)
