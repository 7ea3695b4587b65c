"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Protocol


class ScheduleSettings(Protocol):
    """The numbers of a schedule; a recipe's [optimizer] table has them."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def final_fraction(self) -> float: ...


def learning_rate(settings: ScheduleSettings, step: int, total: int) -> float:
    """Rate of step number `step` (counted from 1) of `total`.

    Linear warm-up to the peak over warmup_steps; then constant, or from the peak down to final_fraction · peak at the
    last step, along a line or half a cosine.
    Raises ValueError for an unknown schedule.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step <= warmup:
        return peak * step / warmup
    done = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
    floor = settings.final_fraction
    match settings.schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - done * (1 - floor))
        case "cosine":
            return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
        case unknown:
            raise ValueError(f"unknown schedule {unknown!r}: constant, linear or cosine")
