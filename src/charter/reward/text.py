"""Rewards on the text as it stands: `exact`, `regex`, `format`, `length`.

Only `regex` needs a worker: a pattern meets text the model wrote, and matching may take exponential time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from charter.reward.math import reference_column
from charter.reward.runtime import NamedReward, Verdict, WorkerReward, failed, scored
from charter.types import Prompt, Rollout


class ExactOptions(BaseModel):
    """Options of `exact`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str = Field("answer", description="Column with the right text, or a list of right texts.")
    strip: bool = Field(True, description="Ignore white space at both ends.")
    case: bool = Field(True, description="Whether upper and lower case differ.")


class ExactReward(NamedReward):
    """1 when the completion is the reference text, else 0."""

    pure = True

    def __init__(self, name: str, timeout_s: float, options: ExactOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The column with the right text."""
        return (self.options.answer,)

    def reference(self, prompt: Prompt) -> str | None:
        """The right text, or the first of them."""
        gold = prompt.fields.get(self.options.answer)
        first = (gold[0] if gold else None) if isinstance(gold, (list, tuple)) else gold
        return None if first is None else str(first)

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Compare each completion."""
        gold = reference_column(prompt, self.options.answer)
        if isinstance(gold, Verdict):
            return [gold] * len(rollouts)
        right = {self._canonical(str(g)) for g in (gold if isinstance(gold, (list, tuple)) else [gold])}
        return [
            scored(1.0) if self._canonical(r.text) in right else scored(0.0, f"not {sorted(right)[0]!r:.200}")
            for r in rollouts
        ]

    def _canonical(self, text: str) -> str:
        text = text.strip() if self.options.strip else text
        return text if self.options.case else text.casefold()


class RegexOptions(BaseModel):
    """Options of `regex`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str = Field(description="Python regular expression.")
    match: Literal["search", "fullmatch"] = Field("search", description="Match anywhere, or the whole completion.")
    ignore_case: bool = Field(False, description="Upper and lower case are the same.")
    dotall: bool = Field(False, description="The dot also matches line breaks.")
    multiline: bool = Field(False, description="^ and $ also match at line breaks.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return pattern


class RegexReward(WorkerReward):
    """1 when the pattern matches, else 0."""

    def __init__(self, name: str, timeout_s: float, options: RegexOptions) -> None:
        super().__init__(name, timeout_s, "regex", options.model_dump())

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The text is all the pattern needs."""
        return {"text": rollout.text}


class FormatOptions(BaseModel):
    """Options of `format`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: list[str] = Field(["think", "answer"], min_length=1, description="Tags, in the order they must come.")
    opened: bool = Field(False, description="The prompt already ends with the first opening tag.")

    @field_validator("tags")
    @classmethod
    def _names(cls, tags: list[str]) -> list[str]:
        for tag in tags:
            if not re.fullmatch(r"[\w.-]+", tag):
                raise ValueError(f"{tag!r} is not a tag's name; write it without < and >")
        if len(set(tags)) != len(tags):
            raise ValueError("a tag is named twice")
        return tags


def format_fault(text: str, tags: Sequence[str]) -> str:
    """What keeps a text from being `<a>…</a><b>…</b>`, each tag once, in order, only space outside; "" if nothing."""
    marks = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
    for mark in marks:
        count = text.count(mark)
        if count == 0:
            return f"{mark} is missing"
        if count > 1:
            return f"{mark} appears {count} times"
    places = [text.index(mark) for mark in marks]
    for i in range(1, len(places)):
        if places[i] < places[i - 1]:
            return f"{marks[i]} comes before {marks[i - 1]}"
    edges = [0, *(place + len(mark) for place, mark in zip(places, marks, strict=True))]
    for i in range(0, len(marks), 2):  # the text before each opening tag lies outside
        if text[edges[i] : places[i]].strip():
            return f"there is text before {marks[i]}"
    if text[edges[-1] :].strip():
        return f"there is text after {marks[-1]}"
    return ""


class FormatReward(NamedReward):
    """1 when the completion has the tags strictly, else 0; the note says what is wrong."""

    def __init__(self, name: str, timeout_s: float, options: FormatOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Look at each completion."""
        opening = f"<{self.options.tags[0]}>" if self.options.opened else ""
        faults = [format_fault(opening + r.text, self.options.tags) for r in rollouts]
        return [scored(0.0 if fault else 1.0, fault) for fault in faults]


class LengthOptions(BaseModel):
    """Options of `length`: exactly one of target and max."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Literal["tokens", "characters"] = Field("tokens", description="What is counted.")
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
        unit = self.options.unit
        if unit == "tokens" and rollout.text and not rollout.tokens:
            return failed('the completion\'s tokens are not known; use unit = "characters"')
        n = len(rollout.tokens) if unit == "tokens" else len(rollout.text)
        if self.options.target is not None:
            excess = abs(n - self.options.target) / self.options.target
        else:
            assert self.options.max is not None
            excess = max(0, n - self.options.max) / self.options.max
        return scored(max(0.0, 1.0 - excess), f"{n} {unit}")
