"""Names and tables → rewards. Every option is checked against the reward's own model, with all problems at once."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from charter.errors import Problem, RecipeError, UsageError
from charter.protocols import Reward
from charter.reward.adapt import ObjectReward, SourceReward
from charter.reward.call import SourceError
from charter.reward.pool import WorkerError
from charter.reward.rubric import Rubric, unique_names
from charter.reward.rules import make_rules
from charter.reward.runtime import NamedReward

BUILT_IN: Mapping[str, tuple[str, str, str]] = {
    "math": ("charter.reward.math", "MathReward", "MathOptions"),
    "exact": ("charter.reward.text", "ExactReward", "ExactOptions"),
    "regex": ("charter.reward.text", "RegexReward", "RegexOptions"),
    "format": ("charter.reward.tags", "FormatReward", "FormatOptions"),
    "xml_tags": ("charter.reward.tags", "XmlTagsReward", "XmlTagsOptions"),
    "length": ("charter.reward.length", "LengthReward", "LengthOptions"),
    "cosine_length": ("charter.reward.length", "CosineLengthReward", "CosineOptions"),
    "repetition": ("charter.reward.repetition", "RepetitionReward", "RepetitionOptions"),
    "language": ("charter.reward.language", "LanguageReward", "LanguageOptions"),
    "schema": ("charter.reward.schema", "SchemaReward", "SchemaOptions"),
    "tool_call": ("charter.reward.tool", "ToolCallReward", "ToolCallOptions"),
    "csv": ("charter.reward.csv_table", "CsvReward", "CsvOptions"),
    "sql_result": ("charter.reward.sql", "SqlReward", "SqlOptions"),
    "code": ("charter.reward.code", "CodeReward", "CodeOptions"),
    "reasoning_gym": ("charter.reward.gym", "GymReward", "GymOptions"),
}
"""Name → module, class, options model."""
DEFAULT_TIMEOUT_S = 10.0


class RewardSettings(Protocol):
    """What a recipe's [[rewards]] table has."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> Any: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """How a reward is made that needs what this room does not know: a model, a judge.

    options: its options, described field by field. make: (name, timeout_s, checked options) → the reward; raises
    UsageError for what cannot be. content: what it rewards, in a sentence.
    """

    options: type[BaseModel]
    make: Callable[[str, float, Any], NamedReward]
    content: str = ""


Builders = Mapping[str, Builder]
"""Name → how it is made. Whoever puts a recipe together passes them (`charter.cli.reward_builders`)."""


def reward_names(builders: Builders | None = None) -> tuple[str, ...]:
    """The rewards that a recipe may name: the built-in ones, and those of the builders."""
    return (*BUILT_IN, *(builders or {}))


def options_model(name: str, builders: Builders | None = None) -> type[BaseModel]:
    """The options of a reward, described field by field."""
    if name not in BUILT_IN and builders and name in builders:
        return builders[name].options
    module, _, model = BUILT_IN[name]
    return getattr(importlib.import_module(module), model)


def _option_problems(error: ValidationError, where: str, model: type[BaseModel]) -> list[Problem]:
    names = [field.alias or name for name, field in model.model_fields.items()]
    problems = []
    for item in error.errors(include_url=False):
        key = str(item["loc"][0]) if item["loc"] else ""
        place = ".".join([where, *(str(p) for p in item["loc"])])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            problems.append(
                Problem(where=place, found=f"there is no option {key!r}", fix=f"{hint}Options: {', '.join(names)}")
            )
        elif item["type"] == "missing":
            text = next((f.description or "" for n, f in model.model_fields.items() if key in (n, f.alias)), "")
            problems.append(Problem(where=place, found="the option is missing", fix=f"Set it: {text}"))
        else:
            said = item["msg"].removeprefix("Value error, ")
            problems.append(
                Problem(where=place, found=f"{said} (found {item['input']!r:.80})", fix="Correct the value")
            )
    return problems


def option_problems(name: str, options: Mapping[str, Any], builders: Builders | None = None) -> list[str]:
    """What is wrong with the options of a reward that a recipe names, in sentences; a function's are not looked at."""
    if name not in reward_names(builders):
        return []
    model = options_model(name, builders)
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        return [str(problem) for problem in _option_problems(error, name, model)]
    return []


def _make(
    name: object, timeout_s: float, options: Mapping[str, Any], where: str, builders: Builders | None = None
) -> NamedReward | list[Problem]:
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        found = f"timeout_s is {timeout_s!r}"
        return [Problem(where=where, found=found, fix="Give a positive number of seconds for one completion")]
    if not isinstance(name, str):
        try:
            return _with_sound_options(ObjectReward(name, timeout_s, options), where)
        except SourceError as error:
            return [
                Problem(
                    where=where, found=f"{name!r:.80} is no reward: {error}", fix="Pass a reward function or its name"
                )
            ]
    if name in reward_names(builders):
        model = options_model(name, builders)
        try:
            checked = model.model_validate(dict(options))
        except ValidationError as error:
            return _option_problems(error, where, model)
        if name in BUILT_IN:
            module, class_name, _ = BUILT_IN[name]
            return getattr(importlib.import_module(module), class_name)(name, timeout_s, checked)
        assert builders is not None
        try:
            return builders[name].make(name, timeout_s, checked)
        except UsageError as error:
            return [Problem(where=where, found=str(error).rstrip("."), fix="Correct the options of this reward")]
    place, colon, function = name.rpartition(":")
    if not (colon and place and function):
        names = reward_names(builders)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}Use one of {', '.join(names)}, path/to/file.py:function or package.module:function"
        return [Problem(where=where, found=f"there is no reward {name!r}", fix=fix)]
    try:
        return _with_sound_options(SourceReward(name, timeout_s, options), where)
    except (WorkerError, SourceError) as error:
        said = str(error).removeprefix("its worker did not start: ")
        return [
            Problem(
                where=where, found=f"the function {name!r} cannot be loaded: {said}", fix="Correct the name or the file"
            )
        ]


def _with_sound_options(reward: ObjectReward | SourceReward, where: str) -> NamedReward | list[Problem]:
    problems = reward.option_problems(where)
    if problems:
        reward.shut_down()
        return problems
    return reward


def load_reward(
    name: str | Callable[..., Any],
    *,
    weight: float = 1.0,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    builders: Builders | None = None,
    **options: Any,
) -> Reward:
    """One reward by name, ready to score.

    name: a built-in reward, `path/to/file.py:function`, `package.module:function`, or a function object (which runs in
        a thread and cannot be killed, only abandoned).
    weight: factor on the value. timeout_s: longest time one completion may take, in seconds.
    builders: of the rewards that need a model.
    options: of the reward itself; `options_model(name)` describes them.
    Returns: a Reward; close it when done.
    Raises: UsageError with every problem; MissingExtra when an optional package is missing.
    """
    made = _make(name, timeout_s, options, f"reward {name!r}" if isinstance(name, str) else "reward", builders)
    if isinstance(made, list):
        raise UsageError("\n".join(str(problem) for problem in made))
    if not math.isfinite(weight):
        made.shut_down()
        raise UsageError(f"reward {made.name!r}: the weight is {weight}; it must be a finite number")
    return made if weight == 1.0 else Rubric([(made, weight)], name=made.name)


def build_rubric(tables: Sequence[RewardSettings], builders: Builders | None = None) -> Rubric:
    """The rewards of a recipe, together.

    builders: of the rewards that need a model; without them those names are unknown.
    Raises: RecipeError with every problem of every table; MissingExtra when an optional package is missing.
    """
    made: list[NamedReward | None] = []
    problems: list[Problem] = []
    try:
        for i, table in enumerate(tables):
            one = _make(table.name, table.timeout_s, table.options, f"rewards[{i}]", builders)
            problems += one if isinstance(one, list) else []
            made.append(None if isinstance(one, list) else one)
        if not tables:
            problems.append(Problem(where="rewards", found="there is none", fix="Add a [[rewards]] table with a name"))
        names = unique_names(
            [short_name(t.name) if one is None else one.name for t, one in zip(tables, made, strict=True)]
        )
        rules, more = make_rules(tables, made, names)
        if problems or more:
            raise RecipeError(sorted([*problems, *more], key=_table_number))
    except BaseException:
        for reward in made:
            if reward is not None:
                reward.shut_down()
        raise
    return Rubric([(reward, rule) for reward, rule in zip(made, rules, strict=True) if reward is not None])


def highest_value(name: str, options: Mapping[str, Any]) -> float | None:
    """The maximum of a reward that a recipe names, without starting anything; None where it has none, or no options."""
    if name not in BUILT_IN:
        return None
    module, class_name, _ = BUILT_IN[name]
    kind: type[NamedReward] = getattr(importlib.import_module(module), class_name)
    try:
        made = kind(name, DEFAULT_TIMEOUT_S, options_model(name).model_validate(dict(options)))  # type: ignore[call-arg]
    except (ValidationError, UsageError):  # `charter train` will say what is wrong with it
        return kind.maximum
    made.shut_down()
    return made.maximum


def _table_number(problem: Problem) -> int:
    number = problem.where.removeprefix("rewards[").partition("]")[0]
    return int(number) if number.isdecimal() else 1_000_000


def short_name(name: str) -> str:
    """What a reward is called by its name in a recipe: `rules.py:right` is `right`."""
    return name.rpartition(":")[2].rpartition(".")[2]
