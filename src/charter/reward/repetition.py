"""`repetition`: a penalty for saying the same again, by the share of n-grams that were there before."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.types import Prompt, Rollout


class RepetitionOptions(BaseModel):
    """Options of `repetition`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(3, ge=1, le=64, description="Length of the n-grams that are compared.")
    unit: Literal["words", "characters", "tokens"] = Field(
        "words", description="What they are made of; characters for languages without spaces, with a larger n."
    )
    free: float = Field(0.0, ge=0, lt=1, description="Share of repeated n-grams that costs nothing.")


def _pairs(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """A number for each pair, the same for the same pair."""
    known: dict[tuple[int, int], int] = {}
    return [known.setdefault(pair, len(known)) for pair in zip(left, right, strict=True)]


def repeated_share(units: Sequence[Hashable], n: int) -> float:
    """`1 - distinct n-grams / n-grams`, in [0, 1); 0 for fewer than n units.

    Two w-grams make a 2w-gram, and two that overlap make an n-gram, so time and memory are those of the units times
    log n, for a completion of any length.
    """
    count = len(units) - n + 1
    if count < 1:
        return 0.0
    known: dict[Hashable, int] = {}
    ids = [known.setdefault(unit, len(known)) for unit in units]
    width = 1
    while 2 * width <= n:
        ids = _pairs(ids[:-width], ids[width:])
        width *= 2
    if width < n:
        shift = n - width
        ids = _pairs(ids[:-shift], ids[shift:])
    return 1.0 - len(set(ids)) / count


class RepetitionReward(NamedReward):
    """`-max(0, s - free) / (1 - free)` with s the share of n-grams that repeat an earlier one; in [-1, 0].

    Words are split at white space and compared without regard to case.
    """

    maximum = None  # 0, which a short text reaches without having said anything

    def __init__(self, name: str, timeout_s: float, options: RepetitionOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Count in each completion."""
        return [self._one(rollout) for rollout in rollouts]

    def _one(self, rollout: Rollout) -> Verdict:
        options = self.options
        if options.unit == "tokens":
            if rollout.text and not rollout.tokens:
                return failed('the completion\'s tokens are not known; use unit = "words"')
            units: Sequence[Hashable] = rollout.tokens
        else:
            units = rollout.text.lower().split() if options.unit == "words" else rollout.text
        share = repeated_share(units, options.n)
        penalty = max(0.0, share - options.free) / (1.0 - options.free)
        return scored(-penalty if penalty else 0.0, f"{share:.3f} of the {options.n}-grams repeat")
