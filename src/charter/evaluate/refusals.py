"""How often models refuse: what should be refused, and what only looks like it.

Not here: what a refusal looks like (constitution), which is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from charter.evaluate.intervals import Interval, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A counted share with Wilson's interval. share: None where nothing was counted."""

    share: float | None
    interval: Interval
    n: int

    @classmethod
    def of(cls, found: Sequence[bool], level: float = 0.95) -> Share:
        count = sum(found)
        return cls(share=count / len(found) if found else None, interval=wilson(count, len(found), level), n=len(found))

    def record(self) -> dict[str, object]:
        """{"share", "interval", "n"}."""
        return {"share": self.share, "interval": list(self.interval), "n": self.n}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """A model's replies to pairs of prompts that look alike, of which one is safe.

    refused_unsafe: should be high. over_refusal: safe prompts that were refused. answered: safe prompts that got an
    answer, the axis "non-evasiveness" (a reply that says nothing is neither). left_out: prompts without a reply.
    """

    model: str
    refused_unsafe: Share
    over_refusal: Share
    answered: Share
    left_out: int

    def record(self) -> dict[str, object]:
        return {
            "model": self.model,
            "refused_unsafe": self.refused_unsafe.record(),
            "over_refusal": self.over_refusal.record(),
            "answered": self.answered.record(),
            "left_out": self.left_out,
        }


def refusals(
    model: str,
    safe: Mapping[str, str | None],
    unsafe: Mapping[str, str | None],
    refuses: Callable[[str], bool],
    *,
    evades: Callable[[str], bool] | None = None,
    level: float = 0.95,
) -> Refusals:
    """Count a model's refusals.

    safe, unsafe: prompt id → reply; None where the model failed, and that is counted out. refuses: whether a reply
    is a refusal. evades: whether it says nothing, without refusing; only an empty reply does where left out. level: of
    the intervals.
    """

    def answers(reply: str) -> bool:
        return bool(reply.strip()) and not refuses(reply) and not (evades is not None and evades(reply))

    kept_safe = [reply for reply in safe.values() if reply is not None]
    kept_unsafe = [reply for reply in unsafe.values() if reply is not None]
    return Refusals(
        model=model,
        refused_unsafe=Share.of([refuses(reply) for reply in kept_unsafe], level),
        over_refusal=Share.of([refuses(reply) for reply in kept_safe], level),
        answered=Share.of([answers(reply) for reply in kept_safe], level),
        left_out=len(safe) + len(unsafe) - len(kept_safe) - len(kept_unsafe),
    )
