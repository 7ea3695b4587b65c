"""How the values of several rewards become one number per completion.

    r = Σ_k w_k(step) · n_k(g_k · min(high_k, max(low_k, v_k)))       over the rewards k that answered

v is a reward's own value; low and high its cap; g is 1 where its gate is open and 0 where it is closed; n is the
identity, or subtracts the group's mean and divides by its standard deviation; w is its weight at this step.

A gate is another reward of the same completion. It is open when that reward's own value reaches the threshold, or when
that reward abstained, and closed when its own gate is: what stands behind a closed gate is closed.

Not here: who asks the rewards (`rubric.py`), the course of a weight (`schedule.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter.reward.runtime import Verdict
from charter.reward.schedule import WeightSchedule
from charter.types import Score

NORMALIZE_EPS = 1e-4
"""Added to the standard deviation by which a group's values are divided; the constant of `standardize`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one reward counts in the sum.

    weight: its factor, or the course of it. gate: name of the reward without which it counts 0, or None.
    gate_at_least: value at which that gate opens. cap: lowest and highest value it may bring, before the weight.
    normalize: whether its values are standardised inside the group (in training; outside it they stand as they are).
    only: column → value; on prompts whose columns have other values the reward abstains, unasked.
    Raises: ValueError for numbers that cannot be meant.
    """

    weight: float | WeightSchedule = 1.0
    gate: str | None = None
    gate_at_least: float = 1.0
    cap: tuple[float, float] | None = None
    normalize: bool = False
    only: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not isinstance(self.weight, WeightSchedule) and not math.isfinite(self.weight):
            raise ValueError(f"the weight is {self.weight}; it must be finite")
        if not math.isfinite(self.gate_at_least):
            raise ValueError(f"gate_at_least is {self.gate_at_least}; it must be finite")
        if self.cap is not None and not self.cap[0] < self.cap[1]:
            raise ValueError(f"the cap is {list(self.cap)}; the first number must be below the second")

    def __str__(self) -> str:
        """The weight and what limits it, in a few words."""
        words = [f"({self.weight})" if isinstance(self.weight, WeightSchedule) else f"{self.weight:g}"]
        if self.gate is not None:
            words.append(f"where {self.gate} ≥ {self.gate_at_least:g}")
        if self.cap is not None:
            words.append(f"capped to [{self.cap[0]:g}, {self.cap[1]:g}]")
        if self.normalize:
            words.append("normalised in its group")
        if self.only:
            words.append("only on prompts with " + ", ".join(f"{key} = {value}" for key, value in self.only.items()))
        return " ".join(words)

    def applies_to(self, columns: Mapping[str, Any]) -> bool:
        """Whether the reward is for a prompt with these columns."""
        return all(key in columns and columns[key] == value for key, value in self.only.items())

    def weight_at(self, step: int) -> float:
        """The weight of a step, counted from 1; 0 stands for outside training, where the final weight counts."""
        return self.weight.at(step) if isinstance(self.weight, WeightSchedule) else self.weight


def check_gates(rules: Mapping[str, Rule]) -> None:
    """Raise ValueError for a gate that is no reward of these, or that depends on itself."""
    for name in rules:
        seen = [name]
        while (gate := rules[seen[-1]].gate) is not None:
            if gate not in rules:
                names = ", ".join(map(repr, rules))
                raise ValueError(f"the gate of {seen[-1]!r} is {gate!r}, which is none of the rewards {names}")
            if gate in seen:
                raise ValueError(f"the gates go in a circle: {' → '.join([*seen, gate])}")
            seen.append(gate)


def is_open(name: str, rules: Mapping[str, Rule], values: Mapping[str, float | None]) -> bool:
    """Whether a reward counts for one completion. values: each reward's own value, None where it abstained."""
    gate = rules[name].gate
    if gate is None:
        return True
    value = values[gate]
    return (value is None or value >= rules[name].gate_at_least) and is_open(gate, rules, values)


def counted_values(rules: Mapping[str, Rule], values: Mapping[str, float | None]) -> dict[str, float]:
    """What each reward that answered brings before normalisation and weight: capped, 0 behind a closed gate."""
    counted: dict[str, float] = {}
    for name, rule in rules.items():
        value = values[name]
        if value is None:
            continue
        if rule.cap is not None:
            value = min(rule.cap[1], max(rule.cap[0], value))
        counted[name] = value if is_open(name, rules, values) else 0.0
    return counted


def standardised(values: Sequence[float | None]) -> list[float | None]:
    """(v − mean) / (std + 1e-4) over the values that are there, std with N − 1.

    Exactly 0 for a single value and where all are equal, with no residue of rounding blown up by the division.
    """
    known = [value for value in values if value is not None]
    if not known or all(value == known[0] for value in known):
        return [None if value is None else 0.0 for value in values]
    scale = max(map(abs, known))  # so that neither the sum nor the squares of huge values overflow
    mean = math.fsum(value / scale for value in known) / len(known)
    std = math.sqrt(math.fsum((value / scale - mean) ** 2 for value in known) / (len(known) - 1))
    divisor = std + NORMALIZE_EPS / scale
    return [None if value is None else (value / scale - mean) / divisor for value in values]


def compose(rules: Mapping[str, Rule], columns: Mapping[str, Sequence[Verdict]], step: int) -> list[Score]:
    """One score per completion of a group.

    rules, columns: by reward, in the same order; a column has one verdict per completion.
    step: of the group; 0 outside training.

    A reward that abstained is left out of the sum; if all did, so does the score. If any failed, the score is failed,
    names it, and takes no part in a normalisation: a sum without the broken part would be another reward.
    """
    count = len(next(iter(columns.values()), ()))
    rows = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    whole = [all(v.status != "failed" for v in row.values()) for row in rows]
    counted = [
        counted_values(rules, {name: v.value for name, v in row.items()}) if sound else {}
        for row, sound in zip(rows, whole, strict=True)
    ]
    for name, rule in rules.items():
        if rule.normalize and step > 0:
            for row, value in zip(counted, standardised([row.get(name) for row in counted]), strict=True):
                if value is not None:
                    row[name] = value
    weights = {name: rule.weight_at(step) for name, rule in rules.items()}
    return [_score(rules, row, values, weights) for row, values in zip(rows, counted, strict=True)]


def _score(
    rules: Mapping[str, Rule], row: Mapping[str, Verdict], counted: Mapping[str, float], weights: Mapping[str, float]
) -> Score:
    parts = {name: verdict.value for name, verdict in row.items()}
    seconds = {name: verdict.seconds for name, verdict in row.items()}
    failures = {name: verdict.note for name, verdict in row.items() if verdict.status == "failed"}
    if failures:
        note = "; ".join(f"reward {name!r} failed: {cause}" for name, cause in failures.items())
        return Score(value=None, parts=parts, note=note, status="failed", failures=failures, seconds=seconds)
    notes = [(name, verdict.note) for name, verdict in row.items() if verdict.note]
    notes += [
        (name, f"counts 0, its gate {rules[name].gate!r} is closed")
        for name in counted
        if not is_open(name, rules, parts)
    ]
    note = notes[0][1] if len(row) == 1 and notes else "; ".join(f"{name}: {text}" for name, text in notes)
    if not counted:
        note = note or "every reward abstained"
        return Score(value=None, parts=parts, note=note, status="abstained", seconds=seconds)
    terms = [weights[name] * value for name, value in counted.items()]
    total = _sum(terms)
    if total is None:
        cause = "the weighted sum is not finite"
        broken = [name for name, term in zip(counted, terms, strict=True) if not math.isfinite(term)] or list(counted)
        return Score(
            value=None, parts=parts, note=cause, status="failed", failures=dict.fromkeys(broken, cause), seconds=seconds
        )
    return Score(value=total, parts=parts, note=note, counted=counted, seconds=seconds)


def _sum(terms: Sequence[float]) -> float | None:
    """The sum, or None where it is not finite. It is exact before its one rounding, so order cannot matter."""
    if not all(map(math.isfinite, terms)):
        return None
    try:
        return math.fsum(terms)
    except OverflowError:
        return None
