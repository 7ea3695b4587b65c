"""A judge against human labels, before anything is trained on what it says.

    accuracy      share of pairs whose better reply it names; p = 1/2 counts a half, no answer (None) is left out
    Brier         mean (p − y)²,  y = 1 where people found `a` better
    ECE           Σ_bins n_bin/n · |accuracy − confidence|, confidence = max(p, 1 − p) in ten bins from 1/2 to 1
    keeps_slot    share of comparisons whose verdict stays with the slot (A, or B) when the replies change places
    position_gap  mean |p_AB − (1 − p_BA)|

All with intervals that draw prompts, and again on the pairs in which neither reply is a refusal. The gate: a judge may
label if it is more often right than *shorter wins* and than *the refusal wins* on the pairs that it answered, each
difference with an interval above 0, and if it neither keeps the slot on half of the pairs nor leaves half unanswered;
on fewer than ten prompts an interval means nothing, and nobody passes.

*Not here*: who asks (`feedback`), how pairs are read (`charter.data.ratings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from charter.constitution.baselines import refusal_wins, shorter_wins
from charter.constitution.feedback import Judged, both_orders
from charter.constitution.judging import Refuses
from charter.constitution.resampling import Clusters, Interval
from charter.types import Pair

MOST_SLOT = 0.5
"""Share of comparisons from which on a judge that keeps its slot is bound to the position."""
MOST_ABSTAINED = 0.5
LEAST_PROMPTS = 10
"""Prompts below which a bootstrap of prompts says nothing."""
SHORTER, REFUSAL = "shorter wins", "refusal wins"
_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What one judge said of every pair.

    p: that `a` is better, or None. orders: per pair, (p_a with a shown first, p_a with b shown first) of each asking;
    empty where the order is not shown.
    """

    name: str
    kind: Literal["judge", "model", "baseline"]
    p: tuple[float | None, ...]
    orders: tuple[tuple[tuple[float, float], ...], ...] = ()

    @classmethod
    def of(cls, name: str, judged: Sequence[Judged]) -> Verdicts:
        """The verdicts of a judge that was asked."""
        return cls(
            name=name,
            kind="judge",
            p=tuple(one.preference.p_a for one in judged),
            orders=tuple(tuple(both_orders(one.judgements)) for one in judged),
        )


def clusters_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Of each pair, the conversation it is about: what an interval draws."""
    return tuple("\n".join(f"{m['role']}: {m['content']}" for m in pair.prompt.messages) for pair in pairs)


def calibration(
    pairs: Sequence[Pair], judge: Verdicts, refuses: Refuses, *, others: Sequence[Verdicts] = (),
    resamples: int = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The judge, the two baselines and further models, measured on pairs that people decided; ready for JSON.

    pairs: p ≠ 1/2 each. others: measured and put through the gate as the judge is (a fitted model, another mode).

    Returns: {"passed", "verdict", "n", "prompts", "refusal_free_n", "judges": [row, …]}; the first row is the judge's:
        {"name", "kind", "n", "abstained", "ties", "accuracy", "interval", "brier", "brier_interval", "ece",
        "ece_interval", "position_gap", "keeps_slot", "first_slot", "reliability", "against", "passed", "verdict",
        "refusal_free": {the same measures}}; n counts the pairs it answered; intervals are [low, high], null without n.
    """
    if any(pair.p == 0.5 for pair in pairs):
        raise ValueError("a pair that people did not decide calibrates nobody")
    known = {text: refuses(text) for pair in pairs for text in (pair.a, pair.b)}
    free = [not (known[pair.a] or known[pair.b]) for pair in pairs]
    baselines = [
        Verdicts(name=SHORTER, kind="baseline", p=tuple(shorter_wins(pairs))),
        Verdicts(name=REFUSAL, kind="baseline", p=tuple(refusal_wins(pairs, known.__getitem__))),
    ]
    whole = _Ground(pairs, resamples, seed)
    rest = _Ground([pair for pair, kept in zip(pairs, free, strict=True) if kept], resamples, seed)
    rows: list[dict[str, Any]] = []
    for verdicts in (judge, *others, *baselines):
        row: dict[str, Any] = {"name": verdicts.name, "kind": verdicts.kind, **whole.measure(verdicts)}
        row["against"] = {other.name: whole.difference(verdicts, other) for other in baselines}
        row["refusal_free"] = rest.measure(_only(verdicts, free))
        row["passed"], row["verdict"] = gate(row, len(whole.clusters))
        rows.append(row)
    return {
        "passed": rows[0]["passed"], "verdict": rows[0]["verdict"], "n": len(pairs), "prompts": len(whole.clusters),
        "refusal_free_n": sum(free), "judges": rows,
    }  # fmt: skip


def gate(row: Mapping[str, Any], prompts: int) -> tuple[bool, str]:
    """Whether a measured row may label, and a sentence that says what was measured; prompts: behind its pairs."""
    name, asked = row["name"], row["n"] + row["abstained"]
    if not row["n"]:
        return False, f"{name} is refused: it gave no answer that could be read on any of {asked} pairs."
    measured = f"right on {_percent(row['accuracy'], row['interval'])} of {row['n']} pairs"
    reasons: list[str] = []
    if prompts < LEAST_PROMPTS:
        reasons.append(f"they are of {prompts} prompts, too few to tell (at least {LEAST_PROMPTS})")
    if row["abstained"] >= MOST_ABSTAINED * asked:
        reasons.append(f"it gave no answer that could be read on {row['abstained']} of {asked} pairs")
    if row["keeps_slot"] is not None and row["keeps_slot"] >= MOST_SLOT:
        reasons.append(
            f"it keeps the same slot on {row['keeps_slot']:.0%} of the comparisons when the two replies change places"
        )
    for other, found in row["against"].items():
        if other == name:
            reasons.append("it is one of the two rules that a judge must beat")
        elif found["interval"] is None or found["interval"][0] <= 0:
            reasons.append(
                f"it does not beat {other!r} (right on {found['accuracy']:.1%} of them; difference "
                f"{_signed(found['difference'], found['interval'])})"
            )
    if reasons:
        return False, f"{name} is refused: {measured}; {'; '.join(reasons)}."
    beaten = " and ".join(
        f"{other!r} by {_signed(found['difference'], found['interval'])}" for other, found in row["against"].items()
    )
    return True, f"{name} passes: {measured}; it beats {beaten}."


class _Ground:
    """Pairs with their labels, and the draws of their prompts."""

    def __init__(self, pairs: Sequence[Pair], resamples: int, seed: int) -> None:
        self.better = [pair.p > 0.5 for pair in pairs]
        self.clusters = Clusters(clusters_of(pairs), resamples, seed)

    def right(self, p: Sequence[float | None]) -> list[float | None]:
        """1, 0, or a half for p = 1/2; None where there is no answer."""
        return [
            None if value is None else 0.5 if value == 0.5 else float((value > 0.5) == better)
            for value, better in zip(p, self.better, strict=True)
        ]

    def measure(self, verdicts: Verdicts) -> dict[str, Any]:
        """All measures of one judge."""
        told = [value for value in verdicts.p if value is not None]
        right = self.right(verdicts.p)
        accuracy, interval = self.clusters.mean(right)
        squares = [
            None if value is None else (value - better) ** 2
            for value, better in zip(verdicts.p, self.better, strict=True)
        ]
        brier, brier_interval = self.clusters.mean(squares)
        columns = self._bins(verdicts.p, right)
        ece, ece_interval = self.clusters.ratio(columns, _ece)
        orders = [pair for pairs in verdicts.orders for pair in pairs]
        kept = [_kept(ab, ba) for ab, ba in orders if _decided(ab, ba)]
        firsts = [value for ab, ba in orders for value in (ab, 1 - ba)]
        return {
            "n": len(told),
            "abstained": len(verdicts.p) - len(told),
            "ties": sum(value == 0.5 for value in told),
            "accuracy": accuracy,
            "interval": _listed(interval),
            "brier": brier,
            "brier_interval": _listed(brier_interval),
            "ece": ece,
            "ece_interval": _listed(ece_interval),
            "position_gap": _mean([abs(ab - ba) for ab, ba in orders]),
            "keeps_slot": _mean([float(one) for one in kept]),
            "first_slot": _mean(firsts),
            "reliability": _reliability(columns),
        }

    def difference(self, verdicts: Verdicts, other: Verdicts) -> dict[str, Any]:
        """How much more often right, on the pairs that both answered."""
        ours, theirs = self.right(verdicts.p), self.right(other.p)
        both = [None if a is None or b is None else (a, b) for a, b in zip(ours, theirs, strict=True)]
        difference, interval = self.clusters.mean([None if one is None else one[0] - one[1] for one in both])
        accuracy, _ = self.clusters.mean([None if one is None else one[1] for one in both])
        return {"accuracy": accuracy, "difference": difference, "interval": _listed(interval)}

    @staticmethod
    def _bins(p: Sequence[float | None], right: Sequence[float | None]) -> np.ndarray:
        """Per pair and bin of confidence: whether it lies in it, its confidence, whether it is right."""
        columns = np.zeros((len(p), 3 * _BINS))
        for row, (value, hit) in enumerate(zip(p, right, strict=True)):
            if value is not None and hit is not None:
                confidence = max(value, 1 - value)
                # a confidence that rounding leaves a hair below an edge belongs above it
                place = min(int((confidence - 0.5) * 2 * _BINS + 1e-9), _BINS - 1)
                columns[row, 3 * place : 3 * place + 3] = 1.0, confidence, hit
        return columns


def _ece(sums: np.ndarray) -> np.ndarray:
    bins = sums.reshape(*sums.shape[:-1], _BINS, 3)
    return np.abs(bins[..., 1] - bins[..., 2]).sum(axis=-1) / bins[..., 0].sum(axis=-1)


def _reliability(columns: np.ndarray) -> list[dict[str, float]]:
    """The bins that have a pair: {"low", "high", "n", "confidence", "accuracy"}."""
    bins = columns.sum(axis=0).reshape(_BINS, 3)
    return [
        {
            "low": 0.5 + place / (2 * _BINS),
            "high": 0.5 + (place + 1) / (2 * _BINS),
            "n": int(n),
            "confidence": float(confidence / n),
            "accuracy": float(hits / n),
        }
        for place, (n, confidence, hits) in enumerate(bins)
        if n
    ]


def _decided(ab: float, ba: float) -> bool:
    return ab != 0.5 and ba != 0.5


def _kept(ab: float, ba: float) -> bool:
    """Whether the verdict stayed with the slot: for a in one order and for b in the other."""
    return (ab > 0.5) != (ba > 0.5)


def _only(verdicts: Verdicts, kept: Sequence[bool]) -> Verdicts:
    orders = [one for one, keep in zip(verdicts.orders, kept, strict=True) if keep] if verdicts.orders else []
    p = tuple(value for value, keep in zip(verdicts.p, kept, strict=True) if keep)
    return Verdicts(name=verdicts.name, kind=verdicts.kind, p=p, orders=tuple(orders))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _percent(value: float, interval: Sequence[float] | None) -> str:
    span = "" if interval is None else f" [{interval[0]:.1%}, {interval[1]:.1%}]"
    return f"{value:.1%}{span}"


def _signed(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "not measured"
    span = "" if interval is None else f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
    return f"{100 * value:+.1f} points{span}"
