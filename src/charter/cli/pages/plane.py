"""A plane of models: two figures of each, with an interval each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charter.cli.pages.plots import WIDE
from charter.cli.pages.svg import (
    CHAR,
    SERIES,
    Range,
    Scale,
    finite,
    legend,
    line,
    nothing,
    padded,
    svg,
    text,
    whisker,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place in a plane with an interval each way. note: written beside it (a third figure)."""

    label: str
    x: float | None
    y: float | None
    x_interval: Range | None = None
    y_interval: Range | None = None
    note: str = ""


def plane(
    points: Sequence[Point], *, width: float = WIDE, x_label: str = "", y_label: str = "", title: str = ""
) -> str:
    """Points with crosses as wide and high as their intervals. A point without both figures is left out."""
    title = title or f"{y_label} against {x_label}"
    known = [point for point in points if finite(point.x) and finite(point.y)]
    if not known:
        return nothing(width, title)
    xs = [bound for point in known for bound in (point.x, *(point.x_interval or ()))]
    ys = [bound for point in known for bound in (point.y, *(point.y_interval or ()))]
    head, top = legend([f"{p.label} ({p.note})" if p.note else p.label for p in known], width)
    top += 26
    bottom = top + min(320.0, 0.8 * width)
    y = Scale(domain=padded(map(float, filter(finite, ys))), span=(bottom, top))  # pyright: ignore[reportArgumentType]
    left = 14 + CHAR * max(len(words) for _, words in y.ticks(5))
    x = Scale(
        domain=padded(map(float, filter(finite, xs))),  # pyright: ignore[reportArgumentType]
        span=(left, width - 14),
    )
    marks = [*head, text(0, top - 10, y_label, kind="soft")]
    for value, words in y.ticks(5):
        marks += [line(left, y(value), width - 14, y(value), "grid")]
        marks += [text(left - 6, y(value) + 4, words, anchor="end", kind="soft")]
    for value, words in x.ticks(6 if width > 500 else 4):
        marks += [line(x(value), top, x(value), bottom, "grid")]
        marks += [text(x(value), bottom + 15, words, anchor="middle", kind="soft")]
    marks += [line(left, bottom, width - 14, bottom, "axis"), line(left, top, left, bottom, "axis")]
    marks.append(text((left + width - 14) / 2, bottom + 32, x_label, anchor="middle", kind="soft"))
    for i, point in enumerate(known):
        at_x, at_y = x(float(point.x or 0)), y(float(point.y or 0))
        if point.x_interval and all(map(finite, point.x_interval)):
            marks.append(whisker(x(point.x_interval[0]), x(point.x_interval[1]), at_y, "error"))
        if point.y_interval and all(map(finite, point.y_interval)):
            low, high = y(point.y_interval[0]), y(point.y_interval[1])
            marks.append(line(at_x, low, at_x, high, "error"))
            marks += [line(at_x - 4, end, at_x + 4, end, "error") for end in (low, high)]
        marks.append(f'<circle class="fill c{i % SERIES}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="6"/>')
    return svg(marks, width, bottom + 40, title)
