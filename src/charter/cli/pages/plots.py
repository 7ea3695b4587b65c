"""Plots as inline SVG: lines with bands, bars with intervals, stacked bars, dots with intervals.

Each function takes data and a width and returns an `<svg>` whose colours come from the page (`PLOT_CSS`). `fitted`
draws one twice, for a wide page and for a phone, so that the labels of both can be read. Planes: plane.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from charter.cli.pages.svg import (
    CHAR,
    SERIES,
    Range,
    Scale,
    dash,
    finite,
    legend,
    line,
    nothing,
    padded,
    svg,
    text,
    whisker,
)
from charter.cli.pages.text import escape, number

WIDE, NARROW = 640, 330
"""View boxes of a plot on a wide page and on a phone."""

PLOT_CSS = """
:root{--ink:#1d1c1a;--soft:#6b6862;--rule:#d9d6cf;--paper:#fdfcfa;--panel:#f5f3ee;
--c0:#24527a;--c1:#b1502b;--c2:#55782f;--c3:#7b4f87;--c4:#8d6b14;--c5:#2e7d78}
@media (prefers-color-scheme:dark){:root{--ink:#e8e5df;--soft:#a09c94;--rule:#3d3b37;--paper:#181715;--panel:#22211e;
--c0:#7fb2dd;--c1:#e48f68;--c2:#a3c473;--c3:#c69ad2;--c4:#d6b45a;--c5:#72c4bd}}
@media print{:root{--ink:#000;--soft:#444;--rule:#bbb;--paper:#fff;--panel:#fff;
--c0:#24527a;--c1:#b1502b;--c2:#55782f;--c3:#7b4f87;--c4:#8d6b14;--c5:#2e7d78}}
svg.plot{display:block;width:100%;height:auto;font-family:inherit;overflow:visible}
svg.plot text{font-size:12px;fill:var(--ink);font-variant-numeric:tabular-nums}
svg.plot .soft{fill:var(--soft)}svg.plot .strong{font-weight:600}
svg.plot .axis{stroke:var(--soft);stroke-width:1}svg.plot .grid{stroke:var(--rule);stroke-width:1}
svg.plot .mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
svg.plot .error{stroke:var(--ink);stroke-width:1.4}
svg.plot .line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}
svg.plot .fill{fill:var(--c)}svg.plot .band{fill:var(--c);opacity:.16;stroke:none}svg.plot .pale{opacity:.45}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}
.fitted .narrow{display:none}
@media screen and (max-width:560px){.fitted .wide{display:none}.fitted .narrow{display:block}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line. points: (x, y), a gap where y is None. band: (x, low, high) around it."""

    name: str
    points: Sequence[tuple[float, float | None]]
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value with its interval. note: written after it; the value itself when left out. colour: of the series."""

    label: str
    value: float | None
    interval: Range | None = None
    note: str | None = None
    colour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A bar in parts. parts: name → length, in the order in which they stand. note: written after the bar."""

    label: str
    parts: Mapping[str, float]
    note: str | None = None


def fitted(draw: Callable[[float], str], caption: str = "") -> str:
    """The plot for a wide page and for a phone, as one figure. draw: from a width to an <svg>. caption: HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    wide, narrow = draw(WIDE), draw(NARROW)
    return f'<figure class="fitted"><div class="wide">{wide}</div><div class="narrow">{narrow}</div>{below}</figure>'


def _interval(interval: Range | None) -> list[float]:
    """Its two ends, or nothing where they are not known."""
    return [bound for bound in interval or () if finite(bound)]


def _horizontal_axis(scale: Scale, top: float, bottom: float, label: str, width: float) -> list[str]:
    left, right = scale.span
    marks: list[str] = []
    for value, words in scale.ticks(6 if width > 500 else 4):
        x = scale(value)
        marks += [line(x, top, x, bottom, "grid"), text(x, bottom + 15, words, anchor="middle", kind="soft")]
    marks.append(line(left, bottom, right, bottom, "axis"))
    if label:
        marks.append(text((left + right) / 2, bottom + 32, label, anchor="middle", kind="soft"))
    return marks


def _vertical_axis(scale: Scale, left: float, right: float, label: str) -> list[str]:
    bottom, top = scale.span
    marks: list[str] = []
    for value, words in scale.ticks(5):
        y = scale(value)
        marks += [line(left, y, right, y, "grid"), text(left - 6, y + 4, words, anchor="end", kind="soft")]
    marks.append(line(left, top, left, bottom, "axis"))
    if label:
        marks.append(text(0, top - 10, label, kind="soft"))
    return marks


def lines(
    series: Sequence[Series],
    *,
    width: float = WIDE,
    height: float = 280,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    x_range: Range | None = None,
    y_range: Range | None = None,
    log_x: bool = False,
    y_zero: bool = False,
    dots: bool = False,
    diagonal: bool = False,
    marks_at: Mapping[str, float] | None = None,
) -> str:
    """Several lines with bands and a legend.

    log_x: x on a logarithmic axis (values ≤ 0 are left out). y_zero: the axis begins at 0. dots: a mark at each
    point. diagonal: the line y = x. marks_at: label → y of a horizontal line to compare with.
    """
    title = title or f"{y_label} by {x_label}"
    clear = [
        Series(
            name=each.name,
            points=[(x, y if finite(y) else None) for x, y in each.points if finite(x) and (not log_x or x > 0)],
            band=[row for row in each.band if all(map(finite, row)) and (not log_x or row[0] > 0)],
        )
        for each in series
    ]
    xs = [x for each in clear for x, y in each.points if y is not None]
    ys = [y for each in clear for _, y in each.points if y is not None]
    if not xs:
        return nothing(width, title)
    ys += [bound for each in clear for _, low, high in each.band for bound in (low, high)]
    ys += [value for value in (marks_at or {}).values() if finite(value)]
    head, top = legend([each.name for each in clear], width, dashed=True) if len(clear) > 1 else ([], 0.0)
    top += 26 if y_label else 10
    bottom = top + height - 60
    x_domain = x_range or ((min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) * 0.9, max(xs) * 1.1 or 1.0))
    y = Scale(domain=y_range or padded(ys, zero=y_zero), span=(bottom, top))
    left = 14 + CHAR * max(len(words) for _, words in y.ticks(5))
    x = Scale(domain=x_domain, span=(left, width - 14), log=log_x)
    marks = head + _vertical_axis(y, left, width - 14, y_label)
    for value, words in x.ticks(6 if width > 500 else 4):
        marks.append(text(x(value), bottom + 15, words, anchor="middle", kind="soft"))
    marks.append(line(left, bottom, width - 14, bottom, "axis"))
    marks.append(text((left + width - 14) / 2, bottom + 32, x_label, anchor="middle", kind="soft"))
    if diagonal:
        low, high = max(x.domain[0], y.domain[0]), min(x.domain[1], y.domain[1])
        marks.append(line(x(low), y(low), x(high), y(high), "mark"))
    for name, value in (marks_at or {}).items():
        if finite(value):
            marks.append(line(left, y(value), width - 14, y(value), "mark"))
            marks.append(text(width - 14, y(value) - 5, name, anchor="end", kind="soft"))
    for i, each in enumerate(clear):
        colour = f"c{i % SERIES}"
        if len(each.band) > 1:
            there = " ".join(f"{x(a):.1f},{y(high):.1f}" for a, _, high in each.band)
            back = " ".join(f"{x(a):.1f},{y(low):.1f}" for a, low, _ in reversed(each.band))
            marks.append(f'<polygon class="band {colour}" points="{there} {back}"/>')
        marks.append(f'<path class="line {colour}"{dash(i)} d="{_path(each, x, y)}"/>')
        alone = dots or sum(value is not None for _, value in each.points) == 1
        for a, value in each.points if alone else ():
            if value is not None:
                marks.append(f'<circle class="fill {colour}" cx="{x(a):.1f}" cy="{y(value):.1f}" r="3"/>')
    return svg(marks, width, bottom + 40, title)


def _path(series: Series, x: Scale, y: Scale) -> str:
    """M and L commands; a gap begins anew."""
    parts: list[str] = []
    pen = "M"
    for a, value in series.points:
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x(a):.1f} {y(value):.1f}")
        pen = "L"
    return "".join(parts)


ROW = 26
BAR = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Where the rows of a horizontal plot stand: beside their labels, or below them on a phone."""

    left: float
    right: float
    step: float
    top: float
    over: bool
    limit: int

    @classmethod
    def of(cls, labels: Sequence[str], notes: Sequence[str], width: float, top: float) -> _Rows:
        over = width < 500
        limit = 48 if over else 30
        longest = CHAR * min(max(map(len, labels), default=0), limit)
        note = CHAR * max(map(len, notes), default=0) + 10
        left = 2.0 if over else longest + 12
        return cls(left=left, right=width - min(note, 0.35 * width), step=ROW + 18 if over else ROW, top=top, over=over,
                   limit=limit)  # fmt: skip

    def middle(self, i: int) -> float:
        return self.top + i * self.step + (self.step - ROW / 2 if self.over else self.step / 2)

    def bottom(self, count: int) -> float:
        return self.top + count * self.step + 2

    def label(self, i: int, words: str) -> str:
        if self.over:
            return text(self.left, self.middle(i) - 13, words, limit=self.limit)
        return text(self.left - 8, self.middle(i) + 4, words, anchor="end", limit=self.limit)


def bars(
    rows: Sequence[Bar],
    *,
    width: float = WIDE,
    x_label: str = "",
    title: str = "",
    x_range: Range | None = None,
    marks_at: Mapping[str, float] | None = None,
) -> str:
    """Horizontal bars from 0, each with its interval. marks_at: label → value of a vertical line to compare with."""
    title = title or x_label
    known = [row for row in rows if finite(row.value)]
    if not known:
        return nothing(width, title)
    every = [bound for row in known for bound in [float(row.value or 0), *_interval(row.interval)]]
    every += [value for value in (marks_at or {}).values() if finite(value)]
    notes = [_note(row) for row in rows]
    place = _Rows.of([row.label for row in rows], notes, width, 18 if marks_at else 2)
    scale = Scale(domain=x_range or padded(every, zero=True, share=0.04), span=(place.left, place.right))
    bottom = place.bottom(len(rows))
    marks = _horizontal_axis(scale, place.top, bottom, x_label, width)
    for name, value in (marks_at or {}).items():
        if finite(value):
            marks.append(line(scale(value), place.top, scale(value), bottom, "mark"))
            marks.append(text(scale(value), place.top - 6, name, anchor="middle", kind="soft"))
    zero = scale(min(max(0.0, scale.domain[0]), scale.domain[1]))
    for i, (row, note) in enumerate(zip(rows, notes, strict=True)):
        y = place.middle(i)
        marks.append(place.label(i, row.label))
        if not finite(row.value):
            marks.append(text(place.left + 4, y + 4, "not measured", kind="soft"))
            continue
        at = scale(float(row.value or 0))
        marks.append(
            f'<rect class="fill c{row.colour % SERIES}" x="{min(zero, at):.1f}" y="{y - BAR / 2:.1f}" '
            f'width="{max(abs(at - zero), 0.5):.1f}" height="{BAR}"/>'
        )
        if len(bounds := _interval(row.interval)) == 2:
            marks.append(whisker(scale(bounds[0]), scale(bounds[1]), y, "error"))
        marks.append(text(place.right + 8, y + 4, note))
    return svg(marks, width, bottom + (40 if x_label else 22), title)


def _note(row: Bar) -> str:
    return row.note if row.note is not None else number(row.value) if finite(row.value) else ""


def stacked(
    rows: Sequence[Stack], *, width: float = WIDE, x_label: str = "", title: str = "", total: float | None = None
) -> str:
    """Horizontal bars in parts with a legend of the parts. total: the axis ends here; at the longest if left out."""
    title = title or x_label
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    sums = [sum(value for value in row.parts.values() if finite(value) and value > 0) for row in rows]
    if not names or not any(sums):
        return nothing(width, title)
    head, top = legend(names, width)
    notes = [row.note if row.note is not None else number(amount) for row, amount in zip(rows, sums, strict=True)]
    place = _Rows.of([row.label for row in rows], notes, width, top + 4)
    scale = Scale(domain=(0.0, total or max(sums)), span=(place.left, place.right))
    bottom = place.bottom(len(rows))
    marks = head + _horizontal_axis(scale, place.top, bottom, x_label, width)
    for i, (row, note) in enumerate(zip(rows, notes, strict=True)):
        y, before = place.middle(i), 0.0
        marks.append(place.label(i, row.label))
        for name, value in row.parts.items():
            if not finite(value) or value <= 0:
                continue
            x, end = scale(before), scale(before + value)
            marks.append(
                f'<rect class="fill c{names.index(name) % SERIES}" x="{x:.1f}" y="{y - BAR / 2:.1f}" '
                f'width="{max(end - x, 0.5):.1f}" height="{BAR}"><title>{escape(name)}: {number(value)}</title></rect>'
            )
            before += value
        marks.append(text(place.right + 8, y + 4, note))
    return svg(marks, width, bottom + (40 if x_label else 22), title)


def dots(
    rows: Sequence[Bar],
    *,
    width: float = WIDE,
    x_label: str = "",
    title: str = "",
    marks_at: Mapping[str, float] | None = None,
    x_range: Range | None = None,
) -> str:
    """A dot with its interval per row, on an axis that need not begin at 0. marks_at: as in `bars`."""
    title = title or x_label
    every = [bound for row in rows if finite(row.value) for bound in [float(row.value or 0), *_interval(row.interval)]]
    if not every:
        return nothing(width, title)
    every += [value for value in (marks_at or {}).values() if finite(value)]
    notes = [_note(row) for row in rows]
    place = _Rows.of([row.label for row in rows], notes, width, 18 if marks_at else 2)
    scale = Scale(domain=x_range or padded(every), span=(place.left, place.right))
    bottom = place.bottom(len(rows))
    marks = _horizontal_axis(scale, place.top, bottom, x_label, width)
    for name, value in (marks_at or {}).items():
        if finite(value):
            marks.append(line(scale(value), place.top, scale(value), bottom, "mark"))
            marks.append(text(scale(value), place.top - 6, name, anchor="middle", kind="soft"))
    for i, (row, note) in enumerate(zip(rows, notes, strict=True)):
        y = place.middle(i)
        marks.append(place.label(i, row.label))
        if not finite(row.value):
            marks.append(text(place.left + 4, y + 4, "not measured", kind="soft"))
            continue
        if len(bounds := _interval(row.interval)) == 2:
            marks.append(whisker(scale(bounds[0]), scale(bounds[1]), y, "error"))
        marks.append(
            f'<circle class="fill c{row.colour % SERIES}" cx="{scale(float(row.value or 0)):.1f}" cy="{y:.1f}" r="5"/>'
        )
        marks.append(text(place.right + 8, y + 4, note))
    return svg(marks, width, bottom + (40 if x_label else 22), title)
