"""What a metric is: a name with its formula, unit, healthy range and meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass

INF = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What one number in metrics.jsonl means.

    name: as written; `<name>` stands for one part of the name, e.g. a reward's. formula: how it is computed.
    unit: of the value. healthy: lowest and highest value of an ordinary run, or None where there is no such
    range. meaning: what it tells, in words.
    """

    name: str
    formula: str
    unit: str
    healthy: tuple[float, float] | None
    meaning: str


def entry(
    name: str, formula: str, unit: str, meaning: str, healthy: tuple[float, float] | None = None
) -> tuple[str, Metric]:
    """A line of the registry."""
    return name, Metric(name=name, formula=formula, unit=unit, healthy=healthy, meaning=meaning)
