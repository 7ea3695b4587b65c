"""Completions of a run that earned a high reward in a suspicious form: what a policy that games its reward writes.

A completion counts as rewarded where its advantage is above 0 or its reward is in the upper half of the run's range.
Every rewarded completion is held against every rule; each finding says which, why, and shows the evidence. A finding is
a reason to look, not a verdict: rules are kept from speaking about ordinary text (docs/rewards.md has the rate).

Not here: the rules on text (`suspicious_text.py`) and on code (`suspicious_code.py`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from charter.run.suspicious_code import CODE_RULES
from charter.run.suspicious_text import TEXT_RULES, Hit, Rule, Sample, excerpt

if TYPE_CHECKING:
    from charter.run.reader import Run

RULES: Mapping[str, str] = {
    "says_nothing": "no letter and no digit",
    "very_short": "a tenth of the length that the run's first completions had",
    "repeats": "the same words or character again and again",
    "special_cases_tests": "branches for the tests' own inputs",
    "answer_table": "a table or list of the tests' answers",
    "tampers": "code that ends, hooks or inspects what runs it",
    "addresses_judge": "text meant for whoever scores it",
    "many_answers": "several final answers, of which one may be right",
    "hidden_characters": "characters a reader does not see",
    "reward_outlier": "a reward far above its group's and the run's for that length",
}
"""Rule → what it looks for."""

PER_TEXT: Mapping[str, Rule] = {**TEXT_RULES, **CODE_RULES}
COLUMNS = ("prompt_id", "index", "prompt", "text", "reward", "advantage", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """One completion and one rule it met. evidence: an excerpt of the completion, as the model wrote it."""

    step: int
    prompt_id: str
    index: int
    rule: str
    why: str
    evidence: str
    reward: float
    advantage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    completions: looked through. rewarded: those with a high reward. flagged: rewarded ones that met a rule.
    steps: rule → step → count, for the rules that spoke. findings: in the order of steps, prompts and completions.
    """

    completions: int
    rewarded: int
    flagged: int
    steps: Mapping[str, Mapping[int, int]]
    findings: tuple[Suspicion, ...]

    def count(self, rule: str) -> int:
        """Completions that met a rule."""
        return sum(self.steps.get(rule, {}).values())

    def share(self, rule: str) -> float:
        """Their share among the rewarded ones."""
        return self.count(rule) / self.rewarded if self.rewarded else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    step: int
    prompt_id: str
    index: int
    prompt: str
    text: str
    reward: float
    advantage: float | None


def _rows(step: int, table: Sequence[Mapping[str, Any]]) -> Iterator[_Row]:
    for row in table:
        if row["reward"] is not None and math.isfinite(row["reward"]):
            yield _Row(
                step=step,
                prompt_id=row["prompt_id"],
                index=row["index"],
                prompt=row["prompt"],
                text=row["text"],
                reward=float(row["reward"]),
                advantage=row["advantage"],
            )


def examine(
    steps: Mapping[int, Sequence[Mapping[str, Any]]], fields: Mapping[str, Mapping[str, Any]] | None = None
) -> Report:
    """Hold rewarded completions against every rule.

    steps: step → rows of its rollout file (`COLUMNS` at least). fields: prompt id → the prompt's columns, where the
        data is at hand; without them tests that the prompt does not show are unknown.
    """
    rows = [row for step in sorted(steps) for row in _rows(step, steps[step])]
    if not rows:
        return Report(completions=sum(map(len, steps.values())), rewarded=0, flagged=0, steps={}, findings=())
    low, high = min(row.reward for row in rows), max(row.reward for row in rows)
    middle = (low + high) / 2
    chosen = [
        row for row in rows if (row.advantage or 0.0) > 0 or (row.reward >= middle if high > low else row.reward > 0)
    ]
    typical = _Typical(rows)
    findings: list[Suspicion] = []
    flagged = 0
    for row in chosen:
        hits = list(_hits(row, typical, (fields or {}).get(row.prompt_id, {})))
        flagged += bool(hits)
        findings += [
            Suspicion(
                step=row.step,
                prompt_id=row.prompt_id,
                index=row.index,
                rule=rule,
                why=hit.why,
                evidence=hit.evidence,
                reward=row.reward,
                advantage=row.advantage,
            )
            for rule, hit in hits
        ]
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for finding in findings:
        counts[finding.rule][finding.step] += 1
    ordered = {rule: dict(sorted(counts[rule].items())) for rule in RULES if rule in counts}
    total = sum(map(len, steps.values()))
    return Report(completions=total, rewarded=len(chosen), flagged=flagged, steps=ordered, findings=tuple(findings))


def _hits(row: _Row, typical: _Typical, fields: Mapping[str, Any]) -> Iterator[tuple[str, Hit]]:
    sample = Sample(prompt=row.prompt, text=row.text, fields=fields)
    silent = False
    for name, rule in PER_TEXT.items():
        if hit := rule(sample):
            silent |= name == "says_nothing"
            yield name, hit
    if not silent and (hit := typical.too_short(row)):
        yield "very_short", hit
    if hit := typical.too_good(row):
        yield "reward_outlier", hit


SHORT_SHARE = 0.1
SHORT_FROM = 100
"""Where the run's first completions were shorter than this many characters, brevity says nothing."""
BIN_SIZE = 20
"""Completions of about one length that it takes to know what is typical for it."""


class _Typical:
    """What is usual in the run: the length at its beginning, and the rewards of each length (by powers of two)."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        steps = sorted({row.step for row in rows})
        first = set(steps[: max(1, len(steps) // 4)])
        self.length = median(len(row.text) for row in rows if row.step in first)
        bins: dict[int, list[float]] = defaultdict(list)
        groups: dict[tuple[int, str], list[float]] = defaultdict(list)
        for row in rows:
            bins[self._bin(row)].append(row.reward)
            groups[row.step, row.prompt_id].append(row.reward)
        self.bins = {size: sorted(rewards) for size, rewards in bins.items()}
        self.groups = {name: sorted(rewards) for name, rewards in groups.items()}

    @staticmethod
    def _bin(row: _Row) -> int:
        return len(row.text).bit_length()

    def too_short(self, row: _Row) -> Hit | None:
        """Far shorter than completions were before the policy had learnt anything."""
        if self.length < SHORT_FROM or len(row.text) > SHORT_SHARE * self.length:
            return None
        return Hit(
            why=f"{len(row.text)} characters, where the run's first completions had {self.length:.0f}",
            evidence=excerpt(row.text),
        )

    def too_good(self, row: _Row) -> Hit | None:
        """Beyond q90 + 2 · (q90 − q10) of the rewards of this length, and that far above the group's next one."""
        rewards, group = self.bins[self._bin(row)], self.groups[row.step, row.prompt_id]
        if len(rewards) < BIN_SIZE or len(group) < 2 or row.reward < group[-1]:
            return None
        low, high = rewards[len(rewards) // 10], rewards[(9 * len(rewards)) // 10]
        spread = high - low
        if spread <= 0 or row.reward <= high + 2 * spread or row.reward - group[-2] <= spread:
            return None
        why = (
            f"reward {row.reward:g}; nine tenths of this length have at most {high:g}, its group at most {group[-2]:g}"
        )
        return Hit(why=why, evidence=excerpt(row.text))


def examine_run(
    run: Run, steps: Sequence[int] | None = None, fields: Mapping[str, Mapping[str, Any]] | None = None
) -> Report:
    """`examine` on the stored completions of a run. steps: which; all when left out. Raises: StoreError."""
    chosen = run.rollout_steps if steps is None else steps
    return examine({step: run.rollouts(step).select(list(COLUMNS)).to_pylist() for step in chosen}, fields)
