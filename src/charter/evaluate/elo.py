"""Ratings of models from comparisons of two at a time, on the Elo scale, with intervals that draw prompts.

Not here: who answers and who compares (arena.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from charter.evaluate.intervals import Interval, bootstrap_by_prompt, pooled_mean

POINTS = 400 / math.log(10)
"""Elo points per nat: a difference of 400 is odds of 10 to 1."""
MEAN = 1000.0
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models' replies to one prompt. p_a: probability that a's is better, a half for a tie. cluster: the prompt."""

    a: str
    b: str
    p_a: float
    cluster: str

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise ValueError(f"{self.a!r} cannot be compared with itself")
        if not 0 <= self.p_a <= 1:
            raise ValueError(f"p_a is a probability, not {self.p_a!r} ({self.a} against {self.b})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A model's place. wins: its summed p. n: comparisons it took part in. interval: None with a single prompt."""

    model: str
    elo: float
    interval: Interval | None
    wins: float
    n: int

    def record(self) -> dict[str, object]:
        """{"model", "elo", "interval", "win_rate", "n"}."""
        interval = list(self.interval) if self.interval else None
        return {"model": self.model, "elo": self.elo, "interval": interval, "win_rate": self.wins / self.n, "n": self.n}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadToHead:
    """How often a's reply was preferred to b's. share: mean p_a. interval: drawn over prompts, None with one prompt."""

    a: str
    b: str
    share: float
    interval: Interval | None
    n: int

    def record(self) -> dict[str, object]:
        """{"a", "b", "share", "interval", "n"}."""
        interval = list(self.interval) if self.interval else None
        return {"a": self.a, "b": self.b, "share": self.share, "interval": interval, "n": self.n}


def elo(
    comparisons: Sequence[Comparison],
    *,
    models: Sequence[str] | None = None,
    anchor: str | None = None,
    prior: float = 1.0,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[Rating, ...]:
    """Bradley-Terry ratings of the models, by maximum likelihood with a weak prior.

    maximise Σ p log σ(θ_a − θ_b) + (1 − p) log σ(θ_b − θ_a), and Elo = 1000 + 400/ln 10 · θ with mean θ = 0. Of two
    models the difference is 400 · log10(W / L), W and L the summed p of each and half the prior.
    The prior is `prior` ties more between every two models that met: one tie is half a win each way, Jeffreys' prior
    of a share, and keeps the rating of a model that never lost finite. The result does not depend on the order of
    comparisons, nor on which of two is called a.

    comparisons: their p may be soft. models: in the order of the result; those that occur, by name, when left out.
    anchor: this model has 1000 points instead of the mean. prior: ties per pair, at least 0. level: of the interval.
    seed, resamples: of the bootstrap, which draws prompts. Where every draw says the same (a model that won always),
    the interval is the likelihood's own curvature, each prompt counted once: an always is not a certainty.
    Returns: one Rating per model. Raises: ValueError with fewer than two models, for models that are not connected by
    comparisons, and, without a prior, for a rating that would be infinite.
    Source: Bradley & Terry 1952; Hunter 2004 (connectedness); Elo scale: Elo 1978.
    """
    names = sorted({name for each in comparisons for name in (each.a, each.b)})
    wanted = list(models) if models is not None else names
    if len(names) < 2:
        raise ValueError(f"ratings need comparisons of at least two models, and there are {len(names)}")
    if unknown := [name for name in [*wanted, *([anchor] if anchor is not None else [])] if name not in names]:
        raise ValueError(f"{unknown[0]!r} took part in no comparison that was decided")
    if prior < 0:
        raise ValueError(f"a prior of {prior} ties is none")
    place = {name: i for i, name in enumerate(names)}
    by_cluster = _wins_by_cluster(comparisons, place)
    total = by_cluster.sum(axis=0)
    ties = np.where(total + total.T > 0, prior / 2, 0.0)
    _check_connected(total + ties, names)
    fixed = place[anchor] if anchor is not None else None
    theta = _maximum(total + ties, fixed)
    intervals = _intervals(by_cluster, ties, theta, fixed, level=level, seed=seed, resamples=resamples)
    counts = {name: sum(name in (each.a, each.b) for each in comparisons) for name in names}
    return tuple(
        Rating(
            model=name,
            elo=float(MEAN + POINTS * theta[place[name]]),
            interval=intervals[place[name]],
            wins=float(total[place[name]].sum()),
            n=counts[name],
        )
        for name in wanted
    )


def head_to_head(
    comparisons: Sequence[Comparison],
    models: Sequence[str],
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[HeadToHead, ...]:
    """Every two models that met, the earlier in `models` as a: how often it was preferred."""
    place = {name: i for i, name in enumerate(models)}
    met: dict[tuple[str, str], dict[str, list[float]]] = {}
    for each in sorted(comparisons, key=lambda one: (one.cluster, one.a, one.b, one.p_a)):
        straight = place[each.a] < place[each.b]
        pair = (each.a, each.b) if straight else (each.b, each.a)
        met.setdefault(pair, {}).setdefault(each.cluster, []).append(each.p_a if straight else 1 - each.p_a)
    found: list[HeadToHead] = []
    for (a, b), prompts in sorted(met.items(), key=lambda item: (place[item[0][0]], place[item[0][1]])):
        values = list(prompts.values())
        interval = bootstrap_by_prompt(values, level=level, seed=seed, resamples=resamples) if len(values) > 1 else None
        n = sum(map(len, values))
        found.append(HeadToHead(a=a, b=b, share=pooled_mean(values), interval=interval, n=n))
    return tuple(found)


def _wins_by_cluster(comparisons: Sequence[Comparison], place: dict[str, int]) -> Matrix:
    """[cluster, i, j]: summed p that i's reply is better than j's. Sorted, so that rounding knows no order either."""
    clusters = {name: i for i, name in enumerate(sorted({each.cluster for each in comparisons}))}
    cells: dict[tuple[int, int, int], list[float]] = {}
    for each in comparisons:
        k, i, j = clusters[each.cluster], place[each.a], place[each.b]
        cells.setdefault((k, i, j), []).append(each.p_a)
        cells.setdefault((k, j, i), []).append(1 - each.p_a)
    wins = np.zeros((len(clusters), len(place), len(place)))
    for cell, values in cells.items():
        wins[cell] = math.fsum(values)
    return wins


def _reach(wins: Matrix) -> NDArray[np.bool_]:
    """[i, j]: whether a chain of wins leads from i to j."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return reach


def _check_connected(wins: Matrix, names: Sequence[str]) -> None:
    """Hunter's condition: from every model a chain of wins leads to every other."""
    reach, met = _reach(wins), _reach(wins + wins.T)
    if not met.all():
        i, j = np.argwhere(~met)[0]
        raise ValueError(f"{names[i]!r} and {names[j]!r} were not compared, not even through others")
    if not reach.all():
        i, j = np.argwhere(~reach)[0]
        raise ValueError(f"{names[j]!r} never lost to {names[i]!r} or whom it beat: without a prior its rating is ∞")


def _curvature(wins: Matrix, theta: Matrix) -> tuple[Matrix, Matrix]:
    """Gradient and negative Hessian of the log-likelihood."""
    played = wins + wins.T
    expected = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    gradient = wins.sum(axis=1) - (played * expected).sum(axis=1)
    weights = played * expected * (1 - expected)
    return gradient, np.diag(weights.sum(axis=1)) - weights


def _likelihood(wins: Matrix, theta: Matrix) -> float:
    return float(-(wins * np.logaddexp(0, theta[None, :] - theta[:, None])).sum())


def _maximum(wins: Matrix, fixed: int | None) -> Matrix:
    """θ by Newton's method with halved steps; the likelihood is concave, so there is one maximum."""
    count = len(wins)
    theta = np.zeros(count)
    for _ in range(200):
        gradient, hessian = _curvature(wins, theta)
        if np.abs(gradient).max() < 1e-10 * max(1.0, wins.sum()):
            break
        # Adding the mean's direction makes the matrix regular and leaves the step's other directions as they are.
        step = np.linalg.solve(hessian + 1 / count, gradient)
        size, before = 1.0, _likelihood(wins, theta)
        while size > 1e-8 and _likelihood(wins, theta + size * step) < before - 1e-12 * abs(before):
            size /= 2
        theta = theta + size * step
    return theta - (theta.mean() if fixed is None else theta[fixed])


def _intervals(
    by_cluster: Matrix, ties: Matrix, theta: Matrix, fixed: int | None, *, level: float, seed: int, resamples: int
) -> list[Interval | None]:
    clusters, count = by_cluster.shape[0], by_cluster.shape[1]
    if clusters < 2:
        return [None] * count
    generator = np.random.Generator(np.random.Philox(seed))
    chosen = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    wins = np.tensordot(chosen, by_cluster, axes=1)
    # A draw in which a model never lost has a finite rating by the prior's ties; without a prior it is left out.
    found = np.array([_maximum(each + ties, fixed) for each in wins if _reach(each + ties).all()]).reshape(-1, count)
    spread = _spread(by_cluster, ties, theta, fixed)
    z = NormalDist().inv_cdf((1 + level) / 2)
    intervals: list[Interval | None] = []
    for i in range(count):
        if i == fixed:
            intervals.append((MEAN, MEAN))
            continue
        low, high = np.quantile(found[:, i], [(1 - level) / 2, (1 + level) / 2]) if len(found) else (theta[i],) * 2
        if high - low < 1e-9:
            low, high = theta[i] - z * spread[i], theta[i] + z * spread[i]
        intervals.append((float(MEAN + POINTS * low), float(MEAN + POINTS * high)))
    return intervals


def _spread(by_cluster: Matrix, ties: Matrix, theta: Matrix, fixed: int | None) -> Matrix:
    """Standard error of each θ from the likelihood's curvature, each prompt counted once per pair that met on it."""
    played = by_cluster + by_cluster.transpose(0, 2, 1)
    once = np.divide(by_cluster, played, out=np.zeros_like(by_cluster), where=played > 0).sum(axis=0)
    _, hessian = _curvature(once + ties, theta)
    count = len(theta)
    covariance = np.linalg.inv(hessian + 1 / count) - 1 / count
    if fixed is None:
        return np.sqrt(np.maximum(np.diag(covariance), 0))
    variance = np.diag(covariance) + covariance[fixed, fixed] - 2 * covariance[:, fixed]
    return np.sqrt(np.maximum(variance, 0))
