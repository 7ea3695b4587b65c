"""Every metric a run may write: its name, formula, unit, healthy range and meaning.

The registry is the one place a name is defined; docs/metrics.md is generated from it, and a trainer
that writes a name which is not here fails its test. Imports no torch.

Not here: the sentences for numbers that have gone wrong (diagnose.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from statistics import fmean

from charter.run.metric import INF, Metric
from charter.run.metric import entry as _metric
from charter.run.metrics_critic import CRITIC_METRICS
from charter.run.metrics_monitors import MONITOR_METRICS
from charter.run.metrics_pairs import PAIR_METRICS
from charter.run.metrics_preference import PREFERENCE_METRICS
from charter.types import Score, Scored

METRICS: dict[str, Metric] = dict(
    [
        _metric("reward", "mean of r_i over the scored completions", "reward", "What training raises."),
        _metric(
            "reward_std",
            "mean over groups of std(r) inside the group (N−1); groups with fewer than 2 scored completions left out",
            "reward",
            "Spread inside a group: 0 means that nothing can be learnt from it.",
            (0.0, INF),
        ),
        _metric(
            "frac_reward_zero_std",
            "groups whose scored rewards are all equal / groups with at least 2 scored completions",
            "share",
            "Groups that teach nothing because every completion earned the same.",
            (0.0, 0.8),
        ),
        _metric("rewards/<name>/mean", "mean of this reward's own value, unweighted", "reward", "One part of the sum."),
        _metric(
            "rewards/<name>/std",
            "std of this reward's own value over the step's completions (N−1)",
            "reward",
            "Its spread over the whole step.",
            (0.0, INF),
        ),
        _metric(
            "rewards/abstained",
            "completions with status abstained / completions",
            "share",
            "Completions no reward applied to.",
            (0.0, 0.5),
        ),
        _metric(
            "rewards/failed",
            "completions with status failed / completions",
            "share",
            "Completions whose reward broke; they take no part in learning.",
            (0.0, 0.1),
        ),
        _metric(
            "reward/<name>/seconds",
            "mean over the step's completions of the time this reward took; one that was remembered took 0",
            "s",
            "Cost of one score.",
            (0.0, 1.0),
        ),
        _metric(
            "reward/<name>/error_rate",
            "completions on which this reward broke / completions it was asked about",
            "share",
            "Above max_error_rate the run stops.",
            (0.0, 0.1),
        ),
        _metric(
            "reward/<name>/abstain_rate",
            "completions this reward did not apply to / completions it was asked about",
            "share",
            "How often it has nothing to say.",
            (0.0, 0.5),
        ),
        _metric(
            "groups/signal",
            "groups with at least one advantage ≠ 0 / groups",
            "share",
            "Groups that move the weights.",
            (0.2, 1.0),
        ),
        _metric(
            "groups/refilled",
            "groups sampled beyond prompts_per_step",
            "groups",
            "Extra groups that dynamic sampling drew.",
            (0.0, INF),
        ),
        _metric(
            "completions/mean_length",
            "mean tokens of a completion, the closing end token included",
            "tokens",
            "How much the policy writes.",
            (1.0, INF),
        ),
        _metric("completions/min_length", "least tokens of a completion", "tokens", "The shortest.", (1.0, INF)),
        _metric("completions/max_length", "most tokens of a completion", "tokens", "The longest.", (1.0, INF)),
        _metric(
            "completions/clipped_ratio",
            "completions with stop = length / completions",
            "share",
            "Completions cut off at max_new_tokens.",
            (0.0, 0.5),
        ),
        _metric(
            "completions/eos_ratio",
            "completions with stop = eos / completions",
            "share",
            "Completions that ended by themselves.",
            (0.5, 1.0),
        ),
        _metric(
            "loss", "the step's aggregated loss, as minimised", "nats", "Near 0 on-policy: no measure of progress."
        ),
        _metric(
            "kl",
            "mean over loss tokens of the configured estimator of KL(π ‖ π_ref)",
            "nats/token",
            "Distance from the starting model.",
            (0.0, 1.0),
        ),
        _metric(
            "entropy",
            "mean over loss tokens of −Σ_v π(v) log π(v)",
            "nats/token",
            "How undecided the policy is; near 0 it no longer explores.",
            (0.05, 6.0),
        ),
        _metric(
            "grad_norm",
            "‖∇‖₂ over all trained parameters before clipping",
            "—",
            "Size of the step's gradient.",
            (0.0, 100.0),
        ),
        _metric("learning_rate", "rate of this step after schedule and warm-up", "—", "Step size.", (0.0, 1.0)),
        _metric(
            "clip_ratio/low",
            "loss tokens with ρ < 1 − ε_low and A < 0 / loss tokens",
            "share",
            "Tokens whose fall in probability is held back.",
            (0.0, 0.3),
        ),
        _metric(
            "clip_ratio/high",
            "loss tokens with ρ > 1 + ε_high and A > 0 / loss tokens",
            "share",
            "Tokens whose rise in probability is held back.",
            (0.0, 0.3),
        ),
        _metric("ratio/mean", "mean over loss tokens of ρ = exp(lp − lp_old)", "—", "1 when on-policy.", (0.8, 1.25)),
        _metric(
            "sampling/logprob_diff_mean",
            "mean over loss tokens of |lp_old − lp_μ|",
            "nats",
            "How far the sampler's probabilities are from the learner's.",
            (0.0, 0.05),
        ),
        _metric(
            "sampling/logprob_diff_max",
            "largest |lp_old − lp_μ|",
            "nats",
            "The worst token of that comparison.",
            (0.0, 2.0),
        ),
        _metric(
            "sampling/kl",
            "mean over loss tokens of exp(−d) + d − 1, d = lp_μ − lp_old (k3)",
            "nats/token",
            "KL from sampler to learner.",
            (0.0, 0.01),
        ),
        _metric("tokens/sampled", "Σ completion tokens of the step", "tokens", "Work of the sampler.", (1.0, INF)),
        _metric(
            "tokens/forwarded",
            "tokens the learner ran forward, shared prefixes counted once",
            "tokens",
            "Work of the learner.",
            (0.0, INF),
        ),
        _metric("tokens/prompt", "Σ prompt tokens, once per group", "tokens", "Length of the questions.", (0.0, INF)),
        _metric("tokens_per_s/sample", "tokens/sampled / time/sample_s", "tokens/s", "Speed of sampling.", (0.0, INF)),
        _metric("tokens_per_s/learn", "tokens/forwarded / time/learn_s", "tokens/s", "Speed of learning.", (0.0, INF)),
        _metric("time/sample_s", "wall time until the last group was drawn", "s", "Sampling.", (0.0, INF)),
        _metric(
            "time/score_s",
            "wall time from the last group drawn to the last group scored",
            "s",
            "Scoring that sampling did not hide.",
            (0.0, INF),
        ),
        _metric("time/learn_s", "wall time of forward, backward and optimizer", "s", "Learning.", (0.0, INF)),
        _metric("time/step_s", "wall time of the whole step", "s", "Everything.", (0.0, INF)),
        _metric(
            "time/processor_s",
            "processor time of this process in the step",
            "s",
            "What the step took of the processors, whatever else the machine did.",
            (0.0, INF),
        ),
        _metric("time/processor_sample_s", "of that, until the groups were scored", "s", "Sampling.", (0.0, INF)),
        _metric("time/processor_learn_s", "of that, learning", "s", "Learning.", (0.0, INF)),
        _metric(
            "skipped",
            "updates of the step whose gradient was not finite and that changed nothing",
            "updates",
            "Updates that did not happen.",
            (0.0, 0.0),
        ),
        *CRITIC_METRICS,
        *PAIR_METRICS,
        *PREFERENCE_METRICS,
        *MONITOR_METRICS,
        _metric("examples", "conversations in the step", "examples", "Imitation: size of the step.", (1.0, INF)),
        _metric(
            "eval/accuracy",
            "held-out completions with reward ≥ eval.threshold / held-out completions that have a reward",
            "share",
            "What the training is for.",
            (0.0, 1.0),
        ),
        _metric("eval/accuracy_low", "lower end of its 95 % interval", "share", "How sure: from below.", (0.0, 1.0)),
        _metric("eval/accuracy_high", "upper end of its 95 % interval", "share", "How sure: from above.", (0.0, 1.0)),
        _metric("eval/reward", "mean reward of the held-out completions", "reward", "The same without a threshold."),
        _metric(
            "eval/accuracy@<name>",
            "eval/accuracy at the temperature after the @, where a recipe evaluates at several",
            "share",
            "Held-out accuracy under another way of sampling.",
            (0.0, 1.0),
        ),
        _metric("eval/accuracy_low@<name>", "lower end of its 95 % interval", "share", "As above.", (0.0, 1.0)),
        _metric("eval/accuracy_high@<name>", "upper end of its 95 % interval", "share", "As above.", (0.0, 1.0)),
        _metric("eval/reward@<name>", "eval/reward at that temperature", "reward", "The same without a threshold."),
    ]
)

_PATTERNS: tuple[tuple[re.Pattern[str], Metric], ...] = tuple(
    (re.compile(re.escape(name).replace("<name>", "(?P<name>.+)")), metric)
    for name, metric in METRICS.items()
    if "<name>" in name
)


def metric(name: str) -> Metric | None:
    """The meaning of a name as it stands in metrics.jsonl; families such as rewards/<name>/mean are matched.

    name: e.g. "reward" or "rewards/math/mean". Returns: its Metric, or None for a name nobody defined.
    """
    if name in METRICS:
        return METRICS[name]
    return next((found for pattern, found in _PATTERNS if pattern.fullmatch(name)), None)


def unknown_metrics(names: Iterable[str]) -> list[str]:
    """The names among these that no entry explains ("step" and "version" are not metrics)."""
    return [name for name in names if name not in ("step", "version") and metric(name) is None]


def _sample_std(values: Sequence[float]) -> float:
    """Standard deviation with Bessel's correction; exactly 0 where all values are equal, with no rounding residue."""
    if all(value == values[0] for value in values):
        return 0.0
    mean = fmean(values)
    scale = max(abs(value - mean) for value in values)  # so that the square of a huge reward does not overflow
    return scale * math.sqrt(math.fsum(((value - mean) / scale) ** 2 for value in values) / (len(values) - 1))


def describe_groups(scored: Sequence[Scored], advantages: Sequence[Sequence[float | None]]) -> dict[str, float]:
    """The metrics of a step that follow from what was sampled and scored.

    Formulas: METRICS. A number that does not exist (the mean reward of a step in which nothing was scored) is
    left out and never 0. Completions the sampler failed to draw count in the shares, not in the lengths.

    scored: the step's groups. advantages: one row per group, None where a completion took no part; or nothing
    where there are none yet, and then groups/signal is left out.
    Raises: ValueError where advantages do not fit the groups.
    """
    if advantages:
        _check_shape(scored, advantages)
    scores = [score for each in scored for score in each.scores]
    rollouts = [rollout for each in scored for rollout in each.group.rollouts]
    out: dict[str, float] = {}

    values = [score.value for score in scores if score.value is not None]
    if values:
        out["reward"] = fmean(values)
    stds = [
        _sample_std(rewards)
        for rewards in ([s.value for s in each.scores if s.value is not None] for each in scored)
        if len(rewards) >= 2
    ]
    if stds:
        out["reward_std"] = fmean(stds)
        out["frac_reward_zero_std"] = sum(std == 0 for std in stds) / len(stds)

    for name in dict.fromkeys(part for score in scores for part in score.parts):
        own = [value for score in scores if (value := score.parts.get(name)) is not None]
        if own:
            out[f"rewards/{name}/mean"] = fmean(own)
        if len(own) >= 2:
            out[f"rewards/{name}/std"] = _sample_std(own)
    out |= _reward_rates(scores)
    if scores:
        out["rewards/abstained"] = sum(score.status == "abstained" for score in scores) / len(scores)
        out["rewards/failed"] = sum(score.status == "failed" for score in scores) / len(scores)

    lengths = [len(rollout.tokens) for rollout in rollouts if rollout.stop != "failed"]
    if lengths:
        out["completions/mean_length"] = fmean(lengths)
        out["completions/min_length"] = float(min(lengths))
        out["completions/max_length"] = float(max(lengths))
    if rollouts:
        out["completions/clipped_ratio"] = sum(rollout.stop == "length" for rollout in rollouts) / len(rollouts)
        out["completions/eos_ratio"] = sum(rollout.stop == "eos" for rollout in rollouts) / len(rollouts)
    if advantages:
        out["groups/signal"] = sum(any(row) for row in advantages) / len(advantages)
    out["tokens/sampled"] = float(sum(len(rollout.tokens) for rollout in rollouts))
    out["tokens/prompt"] = float(sum(len(each.group.prompt_tokens) for each in scored))
    return out


def _reward_rates(scores: Sequence[Score]) -> dict[str, float]:
    """What each reward cost, and how often it broke or abstained; rewards that do not say are left out."""
    out: dict[str, float] = {}
    for name in dict.fromkeys(name for score in scores for name in score.seconds):
        asked = [score for score in scores if name in score.seconds]
        broke = sum(name in score.failures for score in asked)
        silent = sum(name not in score.failures and score.parts.get(name) is None for score in asked)
        out[f"reward/{name}/seconds"] = fmean(score.seconds[name] for score in asked)
        out[f"reward/{name}/error_rate"] = broke / len(asked)
        out[f"reward/{name}/abstain_rate"] = silent / len(asked)
    return out


def _check_shape(scored: Sequence[Scored], advantages: Sequence[Sequence[float | None]]) -> None:
    if len(advantages) != len(scored):
        raise ValueError(f"{len(advantages)} rows of advantages for {len(scored)} groups")
    for each, row in zip(scored, advantages, strict=True):
        if len(row) != len(each.scores):
            raise ValueError(f"{len(row)} advantages for the {len(each.scores)} completions of {each.group.prompt.id}")


def metrics_glossary() -> str:
    """The registry as Markdown: the content of docs/metrics.md."""

    def number(value: float) -> str:
        return "∞" if value == INF else f"{value:g}"

    def healthy(entry: Metric) -> str:
        return "—" if entry.healthy is None else f"{number(entry.healthy[0])} … {number(entry.healthy[1])}"

    rows = [
        f"| `{entry.name}` | {entry.formula.replace('|', chr(92) + '|')} | {entry.unit} | {healthy(entry)} "
        f"| {entry.meaning} |"
        for entry in METRICS.values()
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "Every name that `metrics.jsonl` may hold, one row per step, `step` first. A number that does not exist",
            "in a step is left out; one that is not finite is written as `null`. `<name>` stands for part of the",
            "name. The healthy range is that of an ordinary run: outside it, look; it is not a limit.",
            "",
            "This page is generated from `src/charter/run/metrics.py`.",
            "",
            "| name | formula | unit | healthy | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":  # `python -m charter.run.metrics` prints docs/metrics.md
    print(metrics_glossary(), end="")
