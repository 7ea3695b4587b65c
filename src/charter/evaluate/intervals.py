"""How sure a measured share or mean is: Wilson intervals, and a bootstrap that draws prompts, not completions.

Completions of one prompt resemble each other; treating them as independent makes intervals too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not {level}")


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k completions is right.

    1 − C(n−c, k)/C(n, k), as the product 1 − Π_{i=n−c+1..n} (1 − k/i), which overflows nowhere.

    n: completions drawn. c: those that are right. k: completions one may try, at most n.
    Returns: a probability. Raises: ValueError outside 0 ≤ c ≤ n, 1 ≤ k ≤ n.
    Source: Chen et al. 2021, arXiv 2107.03374.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} completions cannot be right")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} completions per prompt (and k ≥ 1); there are {n}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), p = successes/n.

    successes, n: counts (or effective counts) of independent trials. level: probability that the interval covers.
    Returns: (low, high) inside [0, 1]; (0, 1) where n is 0. Source: Wilson 1927.
    """
    _check_level(level)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula gives exactly 0 and 1; rounding must not leave 1e-17 there.
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def pooled_mean(values: Sequence[Sequence[float]]) -> float:
    """Mean over all completions of all prompts."""
    flat = [value for prompt in values for value in prompt]
    return math.fsum(flat) / len(flat) if flat else math.nan


def bootstrap_by_prompt(
    values: Sequence[Sequence[float]],
    statistic: Callable[[Sequence[Sequence[float]]], float] = pooled_mean,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Percentile interval of a statistic, drawing whole prompts with replacement.

    values: one list of numbers per prompt. statistic: from such lists to a number. level: of the interval.
    seed: fixes the draws. resamples: number of them.
    Returns: (low, high). Raises: ValueError without a prompt. Source: Efron 1979; Davison & Hinkley 1997, 2.4.
    """
    _check_level(level)
    if not values:
        raise ValueError("an interval needs at least one prompt")
    if resamples < 1:
        raise ValueError(f"an interval needs at least one resample, not {resamples}")
    generator = np.random.Generator(np.random.Philox(seed))
    draws = generator.integers(len(values), size=(resamples, len(values)))
    found = np.array([statistic([values[i] for i in draw]) for draw in draws.tolist()])
    found = found[~np.isnan(found)]
    if not found.size:
        return math.nan, math.nan
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """after − before. mean: over prompts of the difference of their means. prompts: that both sides have."""

    mean: float
    interval: Interval
    prompts: int


def paired_difference(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Difference:
    """How much better the same prompts do, with an interval that draws prompts.

    mean over prompts of (mean(after) − mean(before)); pairing takes the difference between easy and hard prompts out.

    before, after: one list of numbers per prompt, in the same order; a prompt that is empty on one side is left out.
    Raises: ValueError where the two do not have the same number of prompts or no prompt has both.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} prompts before and {len(after)} after cannot be paired")
    pairs = [[math.fsum(b) / len(b), math.fsum(a) / len(a)] for b, a in zip(before, after, strict=True) if b and a]
    if not pairs:
        raise ValueError("no prompt has values both before and after")
    differences = [[a - b] for b, a in pairs]
    interval = bootstrap_by_prompt(differences, pooled_mean, level=level, seed=seed, resamples=resamples)
    return Difference(mean=pooled_mean(differences), interval=interval, prompts=len(pairs))
