"""verifiers: a `Rubric` with functions and weights, or one such function.

A function takes by name what it wants of `prompt`, `completion`, `answer`, `state`, `info`, `task`, `parser`, the
rubric's class objects and the row's columns; async works. Those with plural names (`completions`, `states`, …) or a
list as their return annotation see all completions of a prompt. The score is Σ weight · value.

Unlike `Rubric.score_rollout`, which turns an exception into 0.0, a function that raises fails the completion; one that
returns None is left out of the sum. A function of weight 0 is a metric: its value goes into the note, and so does its
failure.

Source: verifiers 0.1.14, rubrics/rubric.py and rubric_group.py. Releases since 0.2 have tasks in place of rubrics.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from charter.reward.adapters.shape import (
    LONGEST_EXTRA,
    Opened,
    Reply,
    Work,
    as_table,
    facts,
    is_plain,
    named,
    need,
    parameters_of,
    prompt_text,
    takes_all,
    wait_for,
)
from charter.reward.call import SourceError, read_numbers
from charter.reward.worker import describe_error

GROUP = ("states", "prompts", "completions", "answers", "tasks", "infos")
SINGLE = ("prompt", "completion", "answer", "state", "info", "task", "parser")


class LastMessage:
    """Stands in for verifiers' default parser where verifiers is not installed: the answer is the last message."""

    def parse_answer(self, completion: Any) -> str:
        """The content of the last message, or the text itself."""
        return completion if isinstance(completion, str) else str(completion[-1]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One function of a rubric, with its weight, the objects of its rubric and whether it sees the whole group."""

    function: Callable[..., Any]
    weight: float
    objects: Mapping[str, Any]
    grouped: bool

    @property
    def name(self) -> str:
        """For notes."""
        return getattr(self.function, "__name__", type(self.function).__name__)


def is_rubric(found: Any) -> bool:
    """Whether this is a rubric: functions, weights, and the two ways to score."""
    return not isinstance(found, type) and all(
        hasattr(found, name) for name in ("funcs", "weights", "score_rollout", "score_group")
    )


def is_rubric_class(found: Any) -> bool:
    """Whether this is a class of rubrics."""
    return isinstance(found, type) and all(hasattr(found, name) for name in ("score_rollout", "score_group"))


def _grouped(function: Callable[..., Any]) -> bool:
    parameters = parameters_of(function)
    annotation = inspect.signature(function).return_annotation
    returns_list = annotation is list or get_origin(annotation) is list or str(annotation).startswith("list[")
    return returns_list or any(p.name in GROUP for p in parameters)


def _default_parser() -> Any:
    try:
        import verifiers  # pyright: ignore[reportMissingImports] - an optional package

        return verifiers.Parser()
    except (ImportError, AttributeError):  # not installed, or a release without parsers
        return LastMessage()


def rules_of(found: Any) -> list[Rule]:
    """The functions of a rubric (a RubricGroup's rubrics one after the other), or the one function.

    Raises: SourceError for a rubric that scores in a way of its own.
    """
    if not is_rubric(found):
        return [Rule(function=found, weight=1.0, objects={"parser": _default_parser()}, grouped=_grouped(found))]
    inner = getattr(found, "rubrics", None)
    if isinstance(inner, list | tuple) and inner:
        return [rule for rubric in inner for rule in rules_of(rubric)]
    if not found.funcs:
        raise SourceError(f"the {type(found).__name__} has no reward functions")
    own = [cls.__name__ for cls in type(found).__mro__ if cls.__name__ != "Rubric" and "score_rollout" in vars(cls)]
    if own and any(cls.__name__ == "Rubric" for cls in type(found).__mro__):
        raise SourceError(
            f"{own[0]} replaces Rubric.score_rollout, so its functions alone are not its score. Name one of them"
        )
    objects = {"parser": getattr(found, "parser", None), **dict(getattr(found, "class_objects", None) or {})}
    return [
        Rule(function=function, weight=float(weight), objects=objects, grouped=_grouped(function))
        for function, weight in zip(found.funcs, found.weights, strict=True)
    ]


def _states(work: Work) -> list[dict[str, Any]]:
    plain, columns = is_plain(work), work["columns"]
    states = []
    for i, text in enumerate(work["texts"]):
        own = copy.deepcopy(dict(columns))
        prompt = prompt_text(work) if plain else [dict(message) for message in work["messages"]]
        states.append(
            {
                "input": own,
                "prompt": prompt,
                "completion": text if plain else [{"role": "assistant", "content": text}],
                "answer": own.get("answer", ""),
                "info": as_table(own.get("info")),
                "task": own.get("task"),
                "example_id": i,
                "trajectory": [],
                "metrics": {},
                "reward": None,
                "is_completed": True,
            }
        )
    return states


def _chosen(rule: Rule, given: dict[str, Any]) -> dict[str, Any]:
    parameters = parameters_of(rule.function)
    if takes_all(parameters):
        return given
    names = {p.name for p in named(parameters)}
    return {name: value for name, value in given.items() if name in names}


async def _values(rule: Rule, states: Sequence[dict[str, Any]], options: Mapping[str, Any]) -> list[Reply]:
    """One reply per completion of one function."""
    if rule.grouped:
        given = {
            "states": list(states),
            **{plural: [s[plural[:-1]] for s in states] for plural in GROUP if plural != "states"},
            **rule.objects,
            **options,
        }
        try:
            returned = rule.function(**_chosen(rule, given))
            returned = await wait_for(returned) if inspect.isawaitable(returned) else returned
        except BaseException as error:  # noqa: BLE001 - SystemExit in a user's function is its failure
            return [{"failed": describe_error(error)}] * len(states)
        return read_numbers(returned, len(states))
    replies: list[Reply] = []
    for state in states:
        single = {name: state[name] for name in SINGLE if name in state}
        given = {**state["input"], **single, "state": state, **rule.objects, **options}
        try:
            returned = rule.function(**_chosen(rule, given))
            returned = await wait_for(returned) if inspect.isawaitable(returned) else returned
            replies += read_numbers([returned], 1)
        except BaseException as error:  # noqa: BLE001
            replies.append({"failed": describe_error(error)})
    return replies


def _sum(rules: Sequence[Rule], replies: Sequence[Reply]) -> Reply:
    """The weighted sum of one completion's values."""
    total: list[float] = []
    notes: list[str] = []
    for rule, reply in zip(rules, replies, strict=True):
        if "failed" in reply:
            if rule.weight != 0:
                return {"failed": f"{rule.name}: {reply['failed']}" if len(rules) > 1 else reply["failed"]}
            notes.append(f"{rule.name} failed: {reply['failed']}")
        elif reply["value"] is not None:
            if rule.weight != 0:
                total.append(rule.weight * reply["value"])
            notes.append(f"{rule.name}={reply['value']:g}")
    note = ", ".join(notes)[:LONGEST_EXTRA] if len(rules) > 1 else ""
    if not total:
        return {"value": None, "note": note or "every function returned None"}
    return {"value": math.fsum(total), "note": note}


async def score_all(rules: Sequence[Rule], work: Work) -> list[Reply]:
    """The functions in their order, which may hand things on in `state`."""
    states = _states(work)
    columns = [await _values(rule, states, work["options"]) for rule in rules]
    return [_sum(rules, row) for row in zip(*columns, strict=True)]


def open_verifiers(found: Any) -> Opened:
    """Set up for a rubric or one function of a rubric. Raises: SourceError, see `rules_of`."""
    rules = rules_of(found)
    names: dict[str, bool] = {}
    for rule in rules:
        for p in named(parameters_of(rule.function)):
            names[p.name] = names.get(p.name, False) or p.default is p.empty
    filled = {*SINGLE, *GROUP, *(name for rule in rules for name in rule.objects)}
    needs = [need(name) for name, required in names.items() if required and name not in filled]
    if names.get("answer") or names.get("answers"):
        needs.append(need("answer"))

    def judge(work: Work) -> list[Reply]:
        import asyncio

        return asyncio.run(score_all(rules, work))

    return judge, facts(
        list(names), filled=sorted(filled), needs=needs, wants=None, row_independent=not any(r.grouped for r in rules)
    )
