"""Axes of a plot: ticks at round numbers, a scale from values to places, and the marks that all plots share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charter.cli.pages.text import escape, shorten

Range = tuple[float, float]

CHAR = 6.3
"""Width of an average character of a plot's labels, in units of its view box (size 12)."""
SERIES = 6
"""Colours there are; a further series begins again with another dash."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def finite(value: object) -> bool:
    """Whether a plot can show this value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _step(span: float, count: int) -> float:
    """The round step (1, 2 or 5 times a power of ten) that cuts `span` into about `count` parts."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(nice for nice in (1, 2, 5, 10) if nice * power >= raw * (1 - 1e-9))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them, both ends included where they are round."""
    if not high > low:
        return [low]
    step = _step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step if step >= 1 else round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, with 2 and 5 between where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [10.0**p for p in powers if low * (1 - 1e-9) <= 10.0**p <= high * (1 + 1e-9)]
    if len(found) >= 3:
        return found[:: max(1, len(found) // 6)]
    every = [nice * 10.0**p for p in powers for nice in (1, 2, 5)]
    return [value for value in every if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)] or [low, high]


def tick_text(value: float, step: float) -> str:
    """A tick's label with as many decimals as the step between ticks needs, thousands as k, M or G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            size = 1e3 if unit == "k" else size
            return f"{value / size:.3g}{unit}".replace("-", "−")
    if step and (abs(step) < 1e-4):
        return f"{value:.2g}".replace("-", "−")
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 2
    return f"{value:.{places}f}".replace("-", "−")


def padded(values: Iterable[float], *, zero: bool = False, share: float = 0.05) -> Range:
    """The range of the values with a little room; widened where all are the same. zero: 0 belongs to it."""
    found = [value for value in values if finite(value)]
    if zero:
        found.append(0.0)
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    if high == low:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    room = share * (high - low)
    return (low if zero and low == 0 else low - room), (high if zero and high == 0 else high + room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values in `domain` to places in `span`; logarithmic where `log`. Values outside land at the end."""

    domain: Range
    span: Range
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.domain
        if self.log:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        part = (value - low) / (high - low) if high > low else 0.5
        return self.span[0] + min(max(part, 0.0), 1.0) * (self.span[1] - self.span[0])

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """(value, label) of the axis."""
        values = log_ticks(*self.domain) if self.log else ticks(*self.domain, count)
        if self.log:
            return [(value, f"{value:g}" if 1e-3 <= value < 1e4 else tick_text(value, 0)) for value in values]
        step = values[1] - values[0] if len(values) > 1 else 0.0
        return [(value, tick_text(value, step)) for value in values]


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "", limit: int | None = None) -> str:
    """A label; one that is cut to `limit` characters has its whole text as a tooltip."""
    shown = words if limit is None else shorten(words, limit)
    tip = f"<title>{escape(words)}</title>" if shown != words else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}{tip}</text>'


def whisker(x1: float, x2: float, y: float, kind: str) -> str:
    """An interval from x1 to x2 with caps."""
    return line(x1, y, x2, y, kind) + line(x1, y - 4, x1, y + 4, kind) + line(x2, y - 4, x2, y + 4, kind)


def legend(names: Sequence[str], width: float, *, dashed: bool = False) -> tuple[list[str], float]:
    """One entry per series from the top left, in as many lines as it takes. Returns (marks, height)."""
    marks: list[str] = []
    x, y = 0.0, 10.0
    for i, name in enumerate(names):
        shown = shorten(name, 36)
        size = 24 + CHAR * len(shown) + 16
        if x and x + size - 16 > width:
            x, y = 0.0, y + 18
        if dashed:
            marks.append(f'<path class="line c{i % SERIES}"{dash(i)} d="M{x:.1f} {y:.1f}h18"/>')
        else:
            marks.append(f'<rect class="fill c{i % SERIES}" x="{x + 4:.1f}" y="{y - 6:.1f}" width="12" height="12"/>')
        marks.append(text(x + 24, y + 4, shown))
        x += size
    return marks, (y + 14 if names else 0.0)


def dash(i: int) -> str:
    """The stroke of the i-th series, so that lines can be told apart without colour."""
    pattern = DASHES[(i // SERIES + i) % len(DASHES)] if i else ""
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def svg(marks: Sequence[str], width: float, height: float, title: str) -> str:
    """The drawing, as wide as its place. title: what it shows, for those who do not see it."""
    return (
        f'<svg class="plot" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(marks)}</svg>"
    )


def nothing(width: float, title: str) -> str:
    """What stands where there is nothing to plot."""
    return svg([text(width / 2, 24, "nothing was measured", anchor="middle", kind="soft")], width, 40, title)
