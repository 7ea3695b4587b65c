"""A recipe's [[rewards]] table → the rule by which that reward counts in the sum."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from charter.errors import Problem
from charter.protocols import Reward
from charter.reward.composition import Rule, check_gates
from charter.reward.runtime import NamedReward
from charter.reward.schedule import WeightSchedule


class WeightCourse(Protocol):
    """A weight that changes, as a recipe writes it."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def shape(self) -> Any: ...
    @property
    def first(self) -> int: ...


class RuleSettings(Protocol):
    """What a [[rewards]] table says about the sum; everything but the weight may be missing."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> Any: ...


def make_rules(
    tables: Sequence[RuleSettings], rewards: Sequence[Reward | None], names: Sequence[str]
) -> tuple[list[Rule], list[Problem]]:
    """The rule of every reward, and everything that is wrong with them.

    tables, rewards, names: in the same order; None stands for a reward that could not be made. The names are those of
    the rubric's parts.
    """
    rules: list[Rule] = []
    problems: list[Problem] = []
    for i, table in enumerate(tables):
        gate = getattr(table, "gate", None)
        place = None if gate is None else _place(gate, tables, names)
        if gate is not None and place is None:
            problems.append(_unknown_gate(f"rewards[{i}].gate", gate, [n for n in names if n != names[i]]))
        at_least = getattr(table, "gate_at_least", None)
        if at_least is None:
            at_least = 1.0 if place is None else default_threshold(rewards[place])
        only = dict(getattr(table, "only", None) or {})
        rule = Rule(gate=None if place is None else names[place], normalize=_normalizes(table), only=only)
        cap = getattr(table, "cap", None)
        for key, value, change in (
            ("weight", table.weight, lambda value: {"weight": _weight(value)}),
            ("gate_at_least", at_least, lambda value: {"gate_at_least": value}),
            ("cap", cap, lambda value: {"cap": None if value is None else tuple(value)}),
        ):
            try:
                rule = replace(rule, **change(value))
            except ValueError as error:
                found = str(error).removeprefix("the weight is ")
                found = f"it is {found}" if found != str(error) else found
                problems.append(Problem(where=f"rewards[{i}].{key}", found=found, fix="Correct it"))
        rules.append(rule)
    if not problems:
        try:
            check_gates(dict(zip(names, rules, strict=True)))
        except ValueError as error:
            problems.append(Problem(where="rewards", found=str(error), fix="Leave one of these gates out"))
    return rules, problems


def _unknown_gate(where: str, gate: str, others: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(gate, others, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    there = f"Name one of {', '.join(map(repr, others))}" if others else "Add the reward that is to be the gate"
    return Problem(where=where, found=f"{gate!r} is no other reward of this recipe", fix=hint + there)


def _normalizes(table: RuleSettings) -> bool:
    return getattr(table, "normalize", "none") == "group"


def default_threshold(gate: Reward | None) -> float:
    """The value at which a gate opens when the recipe does not say: its maximum, 1 where it has none."""
    maximum = gate.maximum if isinstance(gate, NamedReward) else None
    return 1.0 if maximum is None else maximum


def _place(gate: str, tables: Sequence[RuleSettings], names: Sequence[str]) -> int | None:
    if gate in names:
        return list(names).index(gate)
    whole = [i for i, table in enumerate(tables) if table.name == gate]
    return whole[0] if len(whole) == 1 else None


def _weight(weight: float | WeightCourse) -> float | WeightSchedule:
    if isinstance(weight, (int, float)):
        return float(weight)
    return WeightSchedule(
        start=weight.start, end=weight.end, steps=weight.steps, shape=weight.shape, first=weight.first
    )
