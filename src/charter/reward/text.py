"""Rewards on the text as it stands: `exact`, `regex`.

Only `regex` needs a worker: a pattern meets text the model wrote, and matching may take exponential time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

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
        right = {
            self._canonical(str(g)) for g in (gold if isinstance(gold, (list, tuple)) else [gold]) if g is not None
        }
        if not right:
            column = self.options.answer
            note = f"row {prompt.id}: column {column!r} holds {gold!r:.80}; expected a text, or a list of right texts"
            return [failed(note)] * len(rollouts)
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
