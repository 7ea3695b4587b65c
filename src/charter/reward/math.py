"""`math`: 1 when the completion's stated answer equals the reference answer, else 0.

What counts as the stated answer: `math_statement.py`. The comparison runs in a worker process. An answer beyond the
bounds of `math_bounds.py`, or one that needs more than half of `timeout_s` in CPU seconds, is wrong; a machine too busy
to give it those seconds is a failure, and so is a reference that cannot be parsed, which names its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from charter.reward.math_answer import CPU_SHARE
from charter.reward.math_answer import reference as reference_text
from charter.reward.runtime import Verdict, WorkerReward, abstained, failed, scored
from charter.types import Prompt, Rollout

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


class MathOptions(BaseModel):
    """Options of `math`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str = Field(
        "answer", description="Column with the reference answer: a number, LaTeX, or GSM8K's '#### 42'."
    )


class MathReward(WorkerReward):
    """1 or 0 by mathematical equality with the reference."""

    def __init__(self, name: str, timeout_s: float, options: MathOptions) -> None:
        super().__init__(name, timeout_s, "math", {})
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The column with the reference answer."""
        return (self.options.answer,)

    def reference(self, prompt: Prompt) -> str | None:
        """The reference answer in a box."""
        gold = prompt.fields.get(self.options.answer)
        return None if gold is None else f"\\boxed{{{reference_text(gold).strip('$')}}}"

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """Two plain numbers are compared here; everything else is sent to a worker."""
        column = self.options.answer
        gold = reference_column(prompt, column)
        if isinstance(gold, Verdict):
            return gold
        if isinstance(gold, bool) or not isinstance(gold, (str, int, float)):
            return failed(f"row {prompt.id}: column {column!r} holds {gold!r:.80}; expected a number or its text")
        quick = compare_numbers(reference_text(gold), rollout.text)
        if quick is not None:
            return scored(quick, "" if quick else f"stated {rollout.text.strip()!r}")
        return {
            "answer": str(gold),
            "text": rollout.text,
            "row": f"row {prompt.id}, column {column!r}: ",
            "cpu_s": self.timeout_s * CPU_SHARE,
        }

    def timed_out(self, work: Mapping[str, Any]) -> Verdict:
        """An overrun on the clock alone: the machine was busy, so the reward failed; the answer is not wrong for it.

        What is too complex is told by the text (`math_bounds`) or by the CPU seconds it used, both in the worker.
        """
        cpu_s = work["cpu_s"]
        return failed(
            f"no verdict within {self.timeout_s:g} s in two tries, though the text used less than its {cpu_s:g} s "
            "of CPU time: the machine is too busy, or timeout_s is too low"
        )


def compare_numbers(gold: str, text: str) -> float | None:
    """The verdict on two plain numbers of at most 30 + 30 digits, or None when the full comparison must decide.

    It decides only what is beyond doubt: equal values are right, unequal integers wrong. Decimals that differ may still
    be roundings of one another, which the full comparison knows about.
    """
    stripped = text.strip()
    if not (_NUMBER.fullmatch(gold) and _NUMBER.fullmatch(stripped)):
        return None
    if Fraction(gold) == Fraction(stripped):
        return 1.0
    return None if "." in gold or "." in stripped else 0.0


def reference_column(prompt: Prompt, column: str) -> Any:
    """The reference in a prompt's row, or the verdict when it has none: null abstains, a missing column fails."""
    if column not in prompt.fields:
        have = ", ".join(map(repr, prompt.fields)) or "none"
        return failed(f"row {prompt.id} has no column {column!r} (its columns: {have})")
    gold = prompt.fields[column]
    return abstained(f"row {prompt.id} has no reference: {column!r} is null") if gold is None else gold
