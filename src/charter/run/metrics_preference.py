"""The metrics of a preference model."""

from __future__ import annotations

from charter.run.metric import INF, Metric, entry

PREFERENCE_METRICS: list[tuple[str, Metric]] = [
    entry(
        "preference/accuracy",
        "pairs with p ≠ 1/2 whose better reply has the higher score (equal: half) / those pairs",
        "share",
        "Agreement with the labels of the step, as they are learnt.",
        (0.4, 1.0),
    ),
    entry(
        "preference/margin",
        "mean over pairs of (2p − 1)(s_a − s_b)",
        "logits",
        "By how much the better reply leads; it grows without end on pairs that are told apart.",
    ),
    entry(
        "preference/brier",
        "mean over pairs of (σ(s_a − s_b) − p)²",
        "1",
        "0.25 for a model without an opinion against labels of 0 and 1; lower is better.",
        (0.0, 0.25),
    ),
    entry(
        "eval/ece",
        "Σ over ten bins of σ(s_a − s_b): pairs in the bin / pairs · |mean p − mean σ(s_a − s_b)|, on held-out pairs",
        "1",
        "Whether the confidence can be believed: 0 is perfectly calibrated.",
        (0.0, 0.25),
    ),
    entry("eval/brier", "preference/brier on held-out pairs", "1", "Accuracy and calibration in one.", (0.0, 0.25)),
    entry("eval/margin", "preference/margin on held-out pairs", "logits", "Far below the training margin: overfit."),
    entry(
        "eval/loss",
        "mean over held-out pairs of −[p log σ(s_a − s_b) + (1 − p) log σ(s_b − s_a)]",
        "nats",
        "ln 2 = 0.693 for a model without an opinion; above it, confident and wrong.",
        (0.0, INF),
    ),
]
