"""Losses and metrics of a step, added up over its micro-batches."""

from __future__ import annotations

import math

from charter.objectives.rows import Loss


class Pooled:
    """Losses and metrics of a step, added up over micro-batches."""

    def __init__(self) -> None:
        self.loss = 0.0
        self._means: dict[str, tuple[float, float]] = {}
        self._largest: dict[str, float] = {}

    def add(self, loss: Loss) -> None:
        self.loss += float(loss.value.detach())
        for name, (total, count) in loss.means.items():
            had = self._means.get(name, (0.0, 0.0))
            self._means[name] = had[0] + float(total), had[1] + float(count)
        for name, value in loss.largest.items():
            self._largest[name] = max(self._largest.get(name, -math.inf), float(value))

    def metrics(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self._means.items() if count}
        return {"loss": self.loss, **means, **self._largest}
