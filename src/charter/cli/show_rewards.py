"""What each reward of a run gave, cost and broke on, for `charter show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any


def reward_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per reward, in the order of the first row: `math  0.10 → 0.62, 1.2 ms each, 0 % broke, 3 % silent`.

    rows: of metrics.jsonl. The value is the mean of the first and last step; the rest is the mean over all steps.
    """
    ends = ("/seconds", "/error_rate", "/abstain_rate")
    names = dict.fromkeys(
        key.removeprefix("reward/").removesuffix(ends[0])
        for row in rows
        for key in row
        if key.startswith("reward/") and key.endswith(ends[0])
    )
    width = max(map(len, names), default=0)
    lines = []
    for name in names:
        seconds, broke, silent = (
            fmean(values) if (values := _numbers(rows, f"reward/{name}{end}")) else 0.0 for end in ends
        )
        given = _numbers(rows, f"rewards/{name}/mean")
        value = f"{given[0]:.3f} → {given[-1]:.3f}" if given else "no value"
        lines.append(f"{name:<{width}}  {value}, {_duration(seconds)} each, {broke:.1%} broke, {silent:.1%} silent")
    return lines


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if isinstance(row.get(name), int | float)]


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"
