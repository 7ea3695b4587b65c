"""Rewards on length: `length` (keep to a number) and `cosine_length` (short when right, long when wrong)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from charter.errors import Problem
from charter.reward.math import reference_column
from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.types import Group, Prompt, Rollout

Unit = Literal["tokens", "characters"]


def length_of(rollout: Rollout, unit: Unit) -> int | None:
    """The length of a completion (its closing end-of-sequence token included); None when its tokens are not known."""
    if unit == "characters":
        return len(rollout.text)
    return None if rollout.text and not rollout.tokens else len(rollout.tokens)


NO_TOKENS = 'the completion\'s tokens are not known; use unit = "characters"'


class LengthOptions(BaseModel):
    """Options of `length`: exactly one of target and max."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Unit = Field("tokens", description="What is counted.")
    target: int | None = Field(None, ge=1, description="Length n* wanted: max(0, 1 - |n - n*| / n*).")
    max: int | None = Field(None, ge=1, description="Longest length m: 1 up to m, then max(0, 1 - (n - m) / m).")

    @model_validator(mode="after")
    def _one(self) -> LengthOptions:
        if (self.target is None) == (self.max is None):
            raise ValueError("give exactly one of target and max")
        return self


class LengthReward(NamedReward):
    """How well the completion keeps to a length, in [0, 1].

    target n*: `max(0, 1 - |n - n*| / n*)`. max m: `1` for n ≤ m, then `max(0, 1 - (n - m) / m)`.
    n counts the completion's tokens (its closing end-of-sequence token included) or its characters.
    """

    maximum = None  # a short answer may be what is wanted, so the empty one is no sign of a mistake

    def __init__(self, name: str, timeout_s: float, options: LengthOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Count each completion."""
        return [self._one(rollout) for rollout in rollouts]

    def _one(self, rollout: Rollout) -> Verdict:
        n = length_of(rollout, self.options.unit)
        if n is None:
            return failed(NO_TOKENS)
        if self.options.target is not None:
            excess = abs(n - self.options.target) / self.options.target
        else:
            assert self.options.max is not None
            excess = max(0, n - self.options.max) / self.options.max
        return scored(max(0.0, 1.0 - excess), f"{n} {self.options.unit}")


class CosineOptions(BaseModel):
    """Options of `cosine_length`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correct: str | dict[str, Any] = Field(
        description="What says whether the answer is right: a reward's name, a table of its name and options, or a "
        "column with true, false or a number."
    )
    max: int = Field(ge=1, description="Length L at which the scale ends; set it to sampling.max_new_tokens.")
    unit: Unit = Field("tokens", description="What is counted.")
    right: tuple[float, float] = Field((1.0, 0.5), description="Value of a right answer at length 0 and at L.")
    wrong: tuple[float, float] = Field((-1.0, -0.5), description="Value of a wrong answer at length 0 and at L.")
    exceeded: float = Field(-1.0, description="Value at L and beyond, right or wrong.")
    at_least: float = Field(1.0, description="From which value of the reward or column on the answer counts as right.")

    @field_validator("correct")
    @classmethod
    def _known(cls, given: str | dict[str, Any]) -> str | dict[str, Any]:
        from charter.reward.registry import BUILT_IN, options_model

        name, options = _name_and_options(given)
        if isinstance(given, dict) and name not in BUILT_IN and ":" not in name:
            raise ValueError(f"there is no reward {name!r}; use one of {', '.join(BUILT_IN)} or file.py:function")
        if name == "cosine_length":
            raise ValueError("it cannot ask itself whether the answer is right")
        if name in BUILT_IN:
            try:
                options_model(name).model_validate(options)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join([name, *(str(part) for part in first["loc"])])
                raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
        return given

    @model_validator(mode="after")
    def _finite(self) -> CosineOptions:
        if not all(map(math.isfinite, (*self.right, *self.wrong, self.exceeded, self.at_least))):
            raise ValueError("right, wrong, exceeded and at_least must be finite numbers")
        return self


def _name_and_options(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(given, str):
        return given, {}
    name = given.get("name")
    if not isinstance(name, str):
        raise ValueError('the table needs a "name", the reward that says whether the answer is right')
    return name, {key: value for key, value in given.items() if key != "name"}


def cosine_scale(n: float, longest: float, at_zero: float, at_longest: float) -> float:
    """Half a cosine from one value to another: `b + (a - b) · (1 + cos(π n / L)) / 2`.

    n: length, 0 ≤ n ≤ L. longest: L. at_zero: a, the value at 0. at_longest: b, the value at L.
    Source: Yeo et al. 2025, arXiv 2502.03373, with the two ends named by where they are reached.
    """
    return at_longest + (at_zero - at_longest) * (1.0 + math.cos(math.pi * n / longest)) / 2.0


class CosineLengthReward(NamedReward):
    """A right answer is worth more when short, a wrong one less when short; at the limit it is worth `exceeded`.

    `exceeded` for n ≥ L; else `cosine_scale(n, L, *right)` or `cosine_scale(n, L, *wrong)`.
    Whether it is right is asked of another reward, which is scored here once more where the recipe has it as well.
    Source: Yeo et al. 2025, "Demystifying Long Chain-of-Thought Reasoning in LLMs", arXiv 2502.03373.
    """

    def __init__(self, name: str, timeout_s: float, options: CosineOptions) -> None:
        """Raises: UsageError when the reward in `correct` cannot be made."""
        from charter.reward.registry import BUILT_IN, load_reward

        super().__init__(name, timeout_s)
        self.options = options
        self.maximum = max(*options.right, *options.wrong, options.exceeded)
        judge, settings = _name_and_options(options.correct)
        self._column: str | None = None
        self._judge: NamedReward | None = None
        if judge in BUILT_IN or ":" in judge:
            made = load_reward(judge, timeout_s=timeout_s, **settings)
            assert isinstance(made, NamedReward)
            self._judge = made
        else:
            self._column = judge

    def required_columns(self) -> tuple[str, ...]:
        """What the other reward needs, or the column."""
        if self._judge is not None:
            return self._judge.required_columns()
        assert self._column is not None
        return (self._column,)

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """What the other reward misses, or the column."""
        checks = super() if self._judge is None else self._judge
        return checks.check_columns(columns, source)

    async def ready(self) -> None:
        """Open what the other reward needs."""
        if self._judge is not None:
            await self._judge.ready()

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Ask whether each is right, then weigh its length; abstain and fail with the reward that was asked."""
        if self._judge is None:
            assert self._column is not None
            answers: Sequence[Verdict] = [_flag(prompt, self._column)] * len(rollouts)
        else:
            answers = await self._judge.verdicts(Group(prompt=prompt, rollouts=tuple(rollouts)))
        return [self._one(rollout, answer) for rollout, answer in zip(rollouts, answers, strict=True)]

    def _one(self, rollout: Rollout, answer: Verdict) -> Verdict:
        if answer.value is None:
            return answer
        n = length_of(rollout, self.options.unit)
        if n is None:
            return failed(NO_TOKENS)
        if n >= self.options.max:
            return replace(
                scored(self.options.exceeded, f"{n} {self.options.unit}: at the limit"), seconds=answer.seconds
            )
        right = answer.value >= self.options.at_least
        ends = self.options.right if right else self.options.wrong
        note = f"{'right' if right else 'wrong'} in {n} {self.options.unit}" + (
            f": {answer.note}" if answer.note else ""
        )
        return replace(scored(cosine_scale(n, self.options.max, *ends), note), seconds=answer.seconds)

    def shut_down(self) -> None:
        """Free what the other reward holds."""
        if self._judge is not None:
            self._judge.shut_down()


def _flag(prompt: Prompt, column: str) -> Verdict:
    found = reference_column(prompt, column)
    if isinstance(found, Verdict):
        return found
    if not isinstance(found, (bool, int, float)):
        return failed(f"row {prompt.id}: column {column!r} holds {found!r:.80}; expected true, false or a number")
    return scored(float(found))
