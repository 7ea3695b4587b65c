"""A weight that changes over the run: a pure function of the step, so that resuming changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["linear", "cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSchedule:
    """A weight's course from `start` to `end`.

        done(t) = min(1, max(0, (t − first) / steps))
        linear   w(t) = start + (end − start) · done
        cosine   w(t) = start + (end − start) · (1 − cos(π · done)) / 2

    start, end: weights at and before step `first`, and from step `first` + `steps` on. steps: length of the course.
    first: step at which it begins, counted from 1.
    Raises: ValueError for a weight that is not finite, fewer than one step, or a first step before 1.
    """

    start: float
    end: float
    steps: int
    shape: Shape = "linear"
    first: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(f"a weight goes from {self.start} to {self.end}; both must be finite")
        if self.steps < 1 or self.first < 1:
            raise ValueError(f"a weight changes over {self.steps} steps from step {self.first}; both must be 1 or more")
        if self.shape not in ("linear", "cosine"):
            raise ValueError(f"a weight has the shape {self.shape!r}; expected linear or cosine")

    def at(self, step: int) -> float:
        """The weight of a step, counted from 1; outside training (step 0) the final one."""
        if step == 0 or step >= self.first + self.steps:
            return self.end
        done = max(0.0, (step - self.first) / self.steps)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        """As `charter explain` shows it: `1 → 0 over steps 1 to 101, linear`."""
        return f"{self.start:g} → {self.end:g} over steps {self.first} to {self.first + self.steps}, {self.shape}"
