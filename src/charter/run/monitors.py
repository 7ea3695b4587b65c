"""Signs that a policy learns something else than it was meant to, each with a limit at which the run stops.

Each step's own numbers are computed here (`observe`); what an evaluation measures (refusals of safe prompts, a reward
that was not trained against) arrives in the step's metrics. Everything is derived from the rows of metrics.jsonl, so
that a resumed run goes on where it was.

Not here: sentences about what is going wrong without a limit (diagnose.py); who measures (cli).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from charter.run.diversity import boilerplate, distinct_n
from charter.types import Scored, Update

Row = Mapping[str, Any]
BASELINE = 5
"""First steps that lengths are compared with."""


class Limits(Protocol):
    """The table [monitors] of a recipe; None is no limit."""

    @property
    def ngram(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def max_boilerplate_rise(self) -> float | None: ...
    @property
    def min_distinct_2(self) -> float | None: ...
    @property
    def max_length_drift(self) -> float | None: ...
    @property
    def max_refusal_rate(self) -> float | None: ...
    @property
    def max_gap(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a run ends early. key: of the limit in the recipe."""

    key: str
    value: float
    limit: float
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a step showed: metrics to record, and a stop or None."""

    metrics: Mapping[str, float]
    stop: Stop | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A limit on a metric. sign: 1 where it may not rise above, −1 where it may not fall below. every: per step."""

    key: str
    limit: Callable[[Limits], float | None]
    metric: str
    sign: int
    what: str
    every: bool = True


RULES = (
    _Rule(
        key="max_boilerplate_rise",
        limit=lambda limits: limits.max_boilerplate_rise,
        metric="monitors/boilerplate_rise",
        sign=1,
        what="the share of completions with one of the step's commonest phrases has risen by",
    ),
    _Rule(
        key="min_distinct_2",
        limit=lambda limits: limits.min_distinct_2,
        metric="monitors/distinct_2",
        sign=-1,
        what="the share of different word pairs is",
    ),
    _Rule(
        key="max_length_drift",
        limit=lambda limits: limits.max_length_drift,
        metric="monitors/length_drift",
        sign=1,
        what="the mean length against the first steps has changed by a factor of",
    ),
    _Rule(
        key="max_refusal_rate",
        limit=lambda limits: limits.max_refusal_rate,
        metric="monitors/refusal_rate",
        sign=1,
        every=False,
        what="the share of safe prompts that are refused is",
    ),
    _Rule(
        key="max_gap",
        limit=lambda limits: limits.max_gap,
        metric="monitors/gap",
        sign=1,
        every=False,
        what="the trained reward has risen more than the held-out one by standard deviations:",
    ),
)


class Monitors:
    """The monitors of one run, step by step.

    limits: of the recipe. rows: of the steps before, where a run is resumed.
    """

    def __init__(self, limits: Limits, rows: Sequence[Row] = ()) -> None:
        self.limits = limits
        self._lengths: list[float] = []
        self._boilerplate: float | None = None
        self._over: dict[str, int] = {}
        for row in rows:
            if row.get("step"):
                self._remember(row)
                self._count(row)

    def observe(self, update: Update) -> Seen:
        """The newest step's numbers, and whether one has passed its limit `patience` steps in a row.

        A limit on what only evaluations measure counts at once: the next one may be far away.
        """
        metrics = self._measure(update)
        row = {**update.metrics, **metrics}
        self._remember(row)
        stop = next((self._stop(rule, row, update.step) for rule in self._count(row)), None)
        return Seen(metrics=metrics, stop=stop)

    def _measure(self, update: Update) -> dict[str, float]:
        metrics: dict[str, float] = {}
        groups = _texts(update.scored)
        if (different := distinct_n([text for texts in groups for text in texts], 2)) is not None:
            metrics["monitors/distinct_2"] = different
        if (share := boilerplate(groups, self.limits.ngram)) is not None:
            metrics["monitors/boilerplate"] = share
            first = share if self._boilerplate is None else self._boilerplate
            metrics["monitors/boilerplate_rise"] = share - first
        length = _number(update.metrics, "completions/mean_length")
        if length is not None and length > 0 and len(self._lengths) >= BASELINE:
            ratio = length / fmean(self._lengths)
            metrics["monitors/length_drift"] = max(ratio, 1 / ratio)
        return metrics

    def _remember(self, row: Row) -> None:
        if self._boilerplate is None:
            self._boilerplate = _number(row, "monitors/boilerplate")
        length = _number(row, "completions/mean_length")
        if length is not None and length > 0 and len(self._lengths) < BASELINE:
            self._lengths.append(length)

    def _count(self, row: Row) -> list[_Rule]:
        """The rules that are now over their limit for long enough."""
        reached: list[_Rule] = []
        for rule in RULES:
            limit, value = rule.limit(self.limits), _number(row, rule.metric)
            if limit is None or value is None:
                continue
            over = rule.sign * (value - limit) > 0
            self._over[rule.key] = self._over.get(rule.key, 0) + 1 if over else 0
            if over and self._over[rule.key] >= (self.limits.patience if rule.every else 1):
                reached.append(rule)
        return reached

    def _stop(self, rule: _Rule, row: Row, step: int) -> Stop:
        limit, value = rule.limit(self.limits), float(row[rule.metric])
        assert limit is not None
        times = f" for {self._over[rule.key]} steps" if rule.every and self._over[rule.key] > 1 else ""
        beyond = "above" if rule.sign > 0 else "below"
        sentence = f"step {step}: {rule.what} {value:.3g}, {beyond} the limit monitors.{rule.key} = {limit:g}{times}"
        return Stop(key=rule.key, value=value, limit=limit, sentence=sentence)


def reward_gap(before: Row, now: Row) -> float | None:
    """By how much more the trained-against reward has risen than the held-out one, each in its own unit of spread.

    (r_t − r_0)/s_r − (h_t − h_0)/s_h, s² the mean of the variances over the completions of the two evaluations, so that
    rewards of different scales compare. A policy that games its reward raises the first term alone.

    before, now: metrics of two evaluations, with "eval/reward", "monitors/reward_std", "monitors/held_reward" and
    "monitors/held_reward_std". Returns: None where one was not measured, or moved while no completion differed.
    """
    trained = _rise(before, now, "eval/reward", "monitors/reward_std")
    held = _rise(before, now, "monitors/held_reward", "monitors/held_reward_std")
    return None if trained is None or held is None else trained - held


def _rise(before: Row, now: Row, name: str, spread: str) -> float | None:
    """Cohen's d of a metric between two evaluations."""
    old, new = _number(before, name), _number(now, name)
    first, last = _number(before, spread), _number(now, spread)
    if old is None or new is None or first is None or last is None:
        return None
    unit = math.sqrt((first**2 + last**2) / 2)
    return 0.0 if new == old else (new - old) / unit if unit > 0 else None


def _texts(scored: Sequence[Scored]) -> list[list[str]]:
    groups = [[rollout.text for rollout in each.group.rollouts if rollout.stop != "failed"] for each in scored]
    return [texts for texts in groups if texts]


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
