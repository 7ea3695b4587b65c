"""The record of a comparison, compare.json: what each run left, put together by method.

compare.md and compare.html are made from the record alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from charter.evaluate.compare_claims import claims_of
from charter.evaluate.compare_score import curve_over_seeds, difference_of, gain_of, score_of

Run = Mapping[str, Any]

TITLES = {"ppo": "PPO (RLHF)", "dpo": "DPO", "grpo": "GRPO", "rejection_sft": "Rejection SFT"}
"""Column heads, in the order of the columns."""

SAMPLED = {
    "ppo": "completions of each prompt; one would do",
    "dpo": "a group of completions of each prompt (online), or nothing: pairs are given",
    "grpo": "a group of completions of each prompt",
    "rejection_sft": "a group of completions of each prompt",
}
SCORED = {
    "ppo": "every completion, and every token by the critic",
    "dpo": "every completion, to find the best and the worst (online)",
    "grpo": "every completion, against its group's mean",
    "rejection_sft": "every completion, to find those worth imitating",
}
UPDATED = {
    "ppo": "the policy, raised where a token turned out better than the critic expected; and the critic",
    "dpo": "the policy: the better answer above the worse, against the reference",
    "grpo": "the policy: raised where a completion beat its group, lowered where it fell behind",
    "rejection_sft": "the policy, towards the kept completions; nothing is lowered",
}
CANNOT = {
    "ppo": "completions whose reward failed or abstained; prompts it cannot solve at all still teach the critic alone",
    "dpo": "the completions between the best and the worst, and prompts whose completions all earned the same: no pair",
    "grpo": "prompts whose completions all earned the same, and completions exactly at their group's mean",
    "rejection_sft": "every completion that was not kept: what went wrong teaches nothing",
}
"""What of the data a method samples it cannot learn from; the counts stand beside it."""

SEEDS_WANTED = 3
CURVES = ("tokens", "seconds", "processor_seconds")
"""What the reward of training is drawn against."""


def method_record(runs: Sequence[Run], score: str) -> dict[str, Any]:
    """One column: the runs of one method, a seed each, in the order of the seeds.

    score: "accuracy" or "reward". Tokens, operations and times are means over the seeds, peaks the largest of them,
    counts of what could not be used sums.
    """
    first = runs[0]
    after, before = ([_scores(run, name, score) for run in runs] for name in ("rewards", "rewards_before"))
    return {
        "title": TITLES[str(first["method"])],
        "seeds": [run["seed"] for run in runs],
        "runs": [run["name"] for run in runs],
        "models_resident": first["models_resident"],
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "peak_device_bytes": max((run["peak_device_bytes"] or 0 for run in runs), default=0) or None,
        "baseline_bytes": max(run["baseline_bytes"] for run in runs),
        "estimate_bytes": max(run["estimate_bytes"] for run in runs),
        "bytes": _largest([run["bytes"] for run in runs]),
        "steps": fmean(run["steps"] for run in runs),
        "updates": fmean(run["updates"] for run in runs),
        "tokens_sampled": fmean(run["tokens_sampled"] for run in runs),
        "tokens_forward": _means([run["tokens_forward"] for run in runs]),
        "tokens_backward": _means([run["tokens_backward"] for run in runs]),
        "flops": fmean(run["flops"] for run in runs),
        "flops_of": _means([{name: one["flops"] for name, one in run["passes"].items()} for run in runs]),
        "seconds": fmean(run["seconds"] for run in runs),
        "time": _means([run["time"] for run in runs]),
        "processor_seconds": fmean(run["processor_seconds"] for run in runs),
        "processor_time": _means([run["processor_time"] for run in runs]),
        "budget": {
            "kind": first["budget"]["kind"],
            "limit": first["budget"]["limit"],
            "spent": fmean(run["budget"]["spent"] for run in runs),
            "overshot": fmean(run["budget"]["overshot"] for run in runs),
            "reached": all(run["budget"]["reached"] for run in runs),
        },
        **score_of(after),
        **gain_of(before, after),
        "score_before": fmean(score_of([one])["score"] for one in before),
        "kl": _means([run["kl"] for run in runs]),
        "length": {
            "training": _mean_pair([run["training_length"] for run in runs]),
            "held_out": _mean_pair([run["held_out_length"] for run in runs]),
            "held_out_scored": _mean_pair([run["held_out_length_scored"] for run in runs]),
        },
        "cannot_use": {**_sums([run["usage"] for run in runs]), "why": CANNOT[str(first["method"])]},
        "curve": {by: curve_over_seeds([run["curve"] for run in runs], by, "reward") for by in CURVES},
        "by_seed": {
            str(run["seed"]): {
                name: run[name] for name in ("peak_bytes", "tokens_sampled", "flops", "seconds", "steps", "kl")
            }
            for run in runs
        },
    }


def compare_record(runs: Sequence[Run], *, score: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole record. runs: in any order. about: model, data, budget, machine: what stands above the methods."""
    seeds = sorted({int(run["seed"]) for run in runs})
    methods: dict[str, Any] = {}
    scores: dict[str, list[dict[str, list[float]]]] = {}
    for name in TITLES:
        own = sorted((run for run in runs if run["method"] == name), key=lambda run: int(run["seed"]))
        if own:
            methods[name] = method_record(own, score)
            scores[name] = [_scores(run, "rewards", score) for run in own]
    differences = [
        {"of": a, "over": b, **difference_of(scores[a], scores[b])}
        for a, b in combinations(methods, 2)
        if methods[a]["seeds"] == methods[b]["seeds"]
    ]
    notes = []
    if len(seeds) < SEEDS_WANTED:
        notes.append(
            f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}: the spread over seeds is not known, and differences "
            "between methods may be luck; three or more tell"
        )
    if (at_once := max(int(run.get("at_once", 1)) for run in runs)) > 1:
        notes.append(
            f"{at_once} runs were under way side by side: the clock's time of each is longer than alone, and its "
            "processor time may be, since they share the memory"
        )
    for name, found in methods.items():
        if not found["budget"]["reached"]:
            notes.append(
                f"{TITLES[name]} ended before its budget was spent: its run.steps or budget.max_steps stopped it"
            )
    record = {**about, "score": score, "seeds": seeds, "notes": notes, "differences": differences, "methods": methods}
    return {**record, "claims": claims_of(record)}


def _scores(run: Run, name: str, score: str) -> dict[str, list[float]]:
    """Prompt → values of its completions: rewards, or whether each is at least the threshold."""
    rewards: Mapping[str, Sequence[float]] = run[name]
    if score == "reward":
        return {prompt: list(values) for prompt, values in rewards.items()}
    return {prompt: [float(v >= run["threshold"]) for v in values] for prompt, values in rewards.items()}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(one.get(name, 0) for one in found) for name in found[0]}


def _sums(found: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(one[name] for one in found) for name in found[0]}


def _largest(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest of every part over the seeds, nested tables likewise."""
    return {
        name: _largest([one[name] for one in found])
        if isinstance(found[0][name], Mapping)
        else max(one[name] for one in found)
        for name in found[0]
    }


def _mean_pair(found: Sequence[Sequence[float] | None]) -> list[float] | None:
    there = [pair for pair in found if pair is not None]
    return [fmean(pair[i] for pair in there) for i in range(2)] if there else None
