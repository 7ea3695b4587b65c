"""The metrics of a critic."""

from __future__ import annotations

from charter.run.metric import INF, Metric, entry

CRITIC_METRICS: list[tuple[str, Metric]] = [
    entry("policy/loss", "mean over loss tokens of the policy's clipped loss", "nats", "The policy's share of loss."),
    entry("value/loss", "mean over loss tokens of the value loss", "reward²", "The critic's share.", (0.0, INF)),
    entry("value/mean", "mean over tokens of V before the step's updates", "reward", "What the critic expects."),
    entry("returns/mean", "mean over tokens of R = A + V", "reward", "What it should have expected."),
    entry(
        "value/explained_variance",
        "1 − Var(R − V) / Var(R) over the step's tokens, V before its updates",
        "share",
        "1: the critic knows; 0: no better than the mean; below 0: worse.",
        (-1.0, 1.0),
    ),
    entry(
        "value/clip_ratio",
        "loss tokens whose value moved by more than ppo.value_clip / loss tokens",
        "share",
        "Values that are held back.",
        (0.0, 0.5),
    ),
]
