"""The metrics of the monitors (monitors.py, diversity.py)."""

from __future__ import annotations

from charter.run.metric import INF, Metric, entry

MONITOR_METRICS: list[tuple[str, Metric]] = [
    entry(
        "monitors/distinct_2",
        "different pairs of neighbouring words / all such pairs, over the step's completions",
        "share",
        "Falls where completions come to say the same; compare steps of like length only.",
        (0.1, 1.0),
    ),
    entry(
        "monitors/boilerplate",
        "completions with one of the 5 n-grams of words that turn up under most prompts (at least 2) / completions",
        "share",
        "Phrases that stand under every prompt. n: monitors.ngram.",
        (0.0, 0.9),
    ),
    entry(
        "monitors/boilerplate_rise",
        "monitors/boilerplate − its value in step 1",
        "share",
        "What a template of the prompts brings along is in step 1 already; limit: monitors.max_boilerplate_rise.",
        (-1.0, 0.5),
    ),
    entry(
        "monitors/length_drift",
        "max(ℓ/ℓ₀, ℓ₀/ℓ), ℓ = completions/mean_length, ℓ₀ its mean over the first 5 steps",
        "factor",
        "Lengths are the first thing that a reward is gamed by; limit: monitors.max_length_drift.",
        (1.0, 3.0),
    ),
    entry(
        "monitors/refusal_rate",
        "refused / answered or refused, of monitors.refusal_prompts, greedily, at each evaluation",
        "share",
        "Over-refusal of safe prompts; limit: monitors.max_refusal_rate.",
        (0.0, 0.2),
    ),
    entry(
        "monitors/held_reward",
        "mean of the reward monitors.reward over the evaluation's completions",
        "reward",
        "A reward that is not trained against.",
    ),
    entry(
        "monitors/held_reward_std",
        "its standard deviation over the evaluation's completions (N)",
        "reward",
        "The unit of the gap.",
        (0.0, INF),
    ),
    entry(
        "monitors/reward_std",
        "standard deviation of the trained reward over the evaluation's completions (N)",
        "reward",
        "The unit of the gap.",
        (0.0, INF),
    ),
    entry(
        "monitors/gap",
        "(r_t − r_0)/s_r − (h_t − h_0)/s_h; r = eval/reward, h = monitors/held_reward, s² = mean of both variances",
        "std",
        "The trained reward rises alone: it is being gamed; limit: monitors.max_gap.",
        (-1.0, 1.0),
    ),
]
