"""What a method's final score is and how sure: over prompts, over seeds, and over both.

A seed's runs share their held-out prompts, so two spreads are told apart: drawing other prompts, with the seeds
averaged, and training again with other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from charter.evaluate.intervals import Interval, bootstrap_by_prompt

RESAMPLES = 2000


def score_of(seeds: Sequence[Mapping[str, Sequence[float]]], *, seed: int = 0) -> dict[str, Any]:
    """The score of runs with different seeds on the same prompts.

    seeds: per seed, prompt id → values of its completions; prompts without a value under every seed are left out.
    Returns: {"score", "score_interval": 95 % over prompts with the seeds averaged, "score_by_seed", "score_std": over
    seeds (None for one), "score_interval_both": 95 % drawing prompts and seeds, "prompts"}.
    Raises: ValueError where the seeds share no prompt with values.
    """
    table = _table(seeds)
    means = table.mean(axis=1)
    by_seed = [float(value) for value in table.mean(axis=0)]
    return {
        "score": float(means.mean()),
        "score_interval": list(bootstrap_by_prompt([[float(m)] for m in means], seed=seed, resamples=RESAMPLES)),
        "score_by_seed": by_seed,
        "score_std": stdev(by_seed) if len(by_seed) > 1 else None,
        "score_interval_both": list(bootstrap_both(table, seed=seed)),
        "prompts": len(means),
    }


def gain_of(
    before: Sequence[Mapping[str, Sequence[float]]], after: Sequence[Mapping[str, Sequence[float]]], *, seed: int = 0
) -> dict[str, Any]:
    """after − before on the same prompts, the seeds averaged.

    Returns: {"gain", "gain_interval": 95 % over prompts, "gain_excludes_zero"}.
    """
    means = _table(_changes(before, after)).mean(axis=1)
    low, high = bootstrap_by_prompt([[float(m)] for m in means], seed=seed, resamples=RESAMPLES)
    return {
        "gain": float(means.mean()),
        "gain_interval": [low, high],
        "gain_excludes_zero": bool(low > 0 or high < 0),
    }


def difference_of(
    first: Sequence[Mapping[str, Sequence[float]]], second: Sequence[Mapping[str, Sequence[float]]], *, seed: int = 0
) -> dict[str, Any]:
    """first − second on the same prompts under the same seeds: {"difference", "interval": 95 % over prompts with the
    seeds averaged, "interval_both": drawing prompts and seeds, "excludes_zero": whether the second one does}.
    """
    table = _table(_changes(second, first))
    means = table.mean(axis=1)
    low, high = bootstrap_both(table, seed=seed)
    return {
        "difference": float(means.mean()),
        "interval": list(bootstrap_by_prompt([[float(m)] for m in means], seed=seed, resamples=RESAMPLES)),
        "interval_both": [low, high],
        "excludes_zero": bool(low > 0 or high < 0),
    }


def _changes(
    before: Sequence[Mapping[str, Sequence[float]]], after: Sequence[Mapping[str, Sequence[float]]]
) -> list[dict[str, list[float]]]:
    """Per seed, prompt id → [mean after − mean before], of the prompts that have both."""
    return [
        {prompt: [fmean(values) - fmean(old[prompt])] for prompt, values in new.items() if values and old.get(prompt)}
        for old, new in zip(before, after, strict=True)
    ]


def bootstrap_both(table: np.ndarray, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the mean of `[prompts, seeds]`, drawing prompts and seeds with replacement.

    Source: Davison & Hinkley 1997, 3.8 (two crossed factors, each drawn whole).
    """
    generator = np.random.Generator(np.random.Philox(seed))
    prompts = generator.integers(table.shape[0], size=(resamples, table.shape[0]))
    seeds = generator.integers(table.shape[1], size=(resamples, table.shape[1]))
    found = [table[np.ix_(p, s)].mean() for p, s in zip(prompts, seeds, strict=True)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def curve_over_seeds(runs: Sequence[Sequence[Mapping[str, float]]], against: str, value: str) -> list[dict[str, float]]:
    """One curve out of several: at each position the mean over the runs, and the lowest and highest of them.

    runs: rows of each run, in order of `against`. Each run is a line between its rows; positions are those of the first
    run, as far as all runs reach. Returns: rows {against, "mean", "low", "high"}.
    """
    lines = [[(float(row[against]), float(row[value])) for row in run if row.get(value) is not None] for run in runs]
    if not lines or any(not line for line in lines):
        return []
    first, last = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    positions = [x for x, _ in lines[0] if first <= x <= last]
    rows: list[dict[str, float]] = []
    for x in positions:
        values = [float(np.interp(x, [a for a, _ in line], [b for _, b in line])) for line in lines]
        rows.append({against: x, "mean": fmean(values), "low": min(values), "high": max(values)})
    return rows


def _table(seeds: Sequence[Mapping[str, Sequence[float]]]) -> np.ndarray:
    """`[prompts, seeds]` of each prompt's mean, of the prompts that every seed has."""
    shared = [prompt for prompt in (seeds[0] if seeds else ()) if all(each.get(prompt) for each in seeds)]
    if not shared:
        raise ValueError("the seeds share no held-out prompt with a value")
    table = np.array([[math.fsum(each[p]) / len(each[p]) for each in seeds] for p in shared])
    return np.asarray(table, dtype=float)
