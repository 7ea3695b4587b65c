"""What changed between two models on the same prompts, and whether the data can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charter.evaluate.intervals import Interval, paired_difference

Verdict = Literal["higher", "lower", "cannot decide"]
FEWEST_CLUSTERS = 6
"""Fewer prompts can never decide: that 5 differences all have one sign happens by chance 1 time in 16 (sign test)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """after − before by one measure.

    before, after: mean over prompts. interval: of the difference, not of `after`. n: prompts that both sides have.
    left_out: replies without a score on either side.
    """

    measure: str
    before: float
    after: float
    interval: Interval
    n: int
    left_out: int = 0

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference does not hold 0, with enough prompts for that to mean something."""
        return self.n >= FEWEST_CLUSTERS and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def verdict(self) -> Verdict:
        if not self.excludes_zero:
            return "cannot decide"
        return "higher" if self.interval[0] > 0 else "lower"

    def record(self) -> dict[str, object]:
        """The table "effect" of report.json; "interval" is that of the difference."""
        return {
            "measure": self.measure,
            "before": self.before,
            "after": self.after,
            "interval": list(self.interval),
            "n": self.n,
            "difference": self.difference,
            "excludes_zero": self.excludes_zero,
            "verdict": self.verdict,
            "left_out": self.left_out,
        }


def effect(
    before_scores: Sequence[float | None],
    after_scores: Sequence[float | None],
    clusters: Sequence[str],
    *,
    measure: str,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Effect:
    """How a measure of the same prompts' replies changed.

    mean over clusters of (mean after − mean before), with an interval that draws clusters.

    before_scores, after_scores: one per reply, in the same order; where either is None both are left out, since a
    failure is no score. clusters: the prompt of each. measure: its name.
    Raises: ValueError for lists of different lengths, a score that is not finite, or nothing to compare.
    """
    if not len(before_scores) == len(after_scores) == len(clusters):
        raise ValueError(
            f"{len(before_scores)} scores before, {len(after_scores)} after and {len(clusters)} prompts do not belong "
            "together: each reply needs all three"
        )
    old: dict[str, list[float]] = {}
    new: dict[str, list[float]] = {}
    left_out = 0
    for before, after, cluster in zip(before_scores, after_scores, clusters, strict=True):
        if before is None or after is None:
            left_out += 1
            continue
        if not (math.isfinite(before) and math.isfinite(after)):
            raise ValueError(f"the measure {measure!r} gave {before} and {after} for {cluster!r}: no finite scores")
        old.setdefault(cluster, []).append(before)
        new.setdefault(cluster, []).append(after)
    if not old:
        raise ValueError(f"no reply has a score by {measure!r} both before and after; {left_out} were left out")
    order = sorted(old)
    found = paired_difference(
        [old[name] for name in order], [new[name] for name in order], level=level, seed=seed, resamples=resamples
    )
    before_mean, after_mean = (
        math.fsum(math.fsum(side[name]) / len(side[name]) for name in order) / len(order) for side in (old, new)
    )
    return Effect(
        measure=measure,
        before=before_mean,
        after=after_mean,
        interval=found.interval,
        n=found.prompts,
        left_out=left_out,
    )
