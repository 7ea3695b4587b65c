"""The metrics of learning from pairs."""

from __future__ import annotations

from charter.run.metric import INF, Metric, entry

PAIR_METRICS: list[tuple[str, Metric]] = [
    entry(
        "kept",
        "completions of the step that are imitated (rejection_sft)",
        "completions",
        "Size of the step: 0 teaches nothing.",
        (1.0, INF),
    ),
    entry("pairs", "pairs in the step", "pairs", "Size of the step; online, prompts without a tie.", (1.0, INF)),
    entry(
        "rewards/chosen",
        "mean over pairs of β Σ_t (lp − lp_ref) of the better answer (per token for length_normalized)",
        "nats",
        "DPO's implicit reward of what should be preferred; where p = 1/2 that is the first answer.",
    ),
    entry("rewards/rejected", "the same of the worse answer", "nats", "What should fall behind."),
    entry(
        "rewards/margins",
        "rewards/chosen − rewards/rejected",
        "nats",
        "Near 0 at the first step, when the policy is its own reference; training raises it.",
    ),
    entry(
        "rewards/accuracies",
        "pairs with p ≠ 1/2 whose better answer has the higher implicit reward (equal: half) / those pairs",
        "share",
        "Agreement with the labels.",
        (0.4, 1.0),
    ),
    entry(
        "logps/chosen",
        "mean over pairs of Σ_t lp of the better answer",
        "nats",
        "Falls in most runs: DPO holds the margin, not the probability.",
    ),
    entry("logps/rejected", "the same of the worse answer", "nats", "Falls faster."),
]
