"""report.html out of report.json and nothing else: one file that asks no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.cli.pages.plane import Point, plane
from charter.cli.pages.plots import PLOT_CSS, Bar, Series, Stack, bars, dots, fitted, lines, stacked
from charter.cli.pages.style import PAGE_CSS
from charter.cli.pages.svg import finite
from charter.cli.pages.text import escape, number, seconds, share
from charter.cli.report_lives import lives_section
from charter.evaluate.report import sentences

Table = Mapping[str, Any]
AXES = {"harmless": "Harmless", "helpful": "Helpful"}


def write_report(folder: Path, report: Table) -> None:
    """Write report.json and report.html, each whole or not at all."""
    from charter.run.atomic import write_text

    write_text(folder / "report.json", json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    write_text(folder / "report.html", report_html(report))


def report_html(report: Table) -> str:
    """The page. Everything that a model or a file said is escaped, and shown with its invisible characters."""
    sections = [
        _effects(report),
        _arena(report.get("arena")),
        _funnel(report.get("funnel")),
        _principles(report.get("principles")),
        _calibration(report.get("calibration")),
        _preference_model(report.get("preference_model")),
        _time(report),
        lives_section(report.get("lives") or ()),
        _reading(),
    ]
    name = escape(report.get("name") or "run")
    about = (
        f"{escape(report.get('model') or 'a model')} under the constitution {escape(report.get('constitution') or '–')}"
    )
    found = "".join(f"<li>{escape(each)}</li>" for each in [*sentences(report), *(report.get("notes") or ())])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{name}: constitutional report</title><style>{PLOT_CSS}{PAGE_CSS}</style></head><body><main>"
        f"<header><h1>{name}</h1><p class=lead>{about}</p></header>"
        f"<ul class=found>{found}</ul>{''.join(sections)}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML already; the first column names the row."""
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    return f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def span(interval: Sequence[float] | None, *, percent: bool = False) -> str:
    if not interval or not all(map(finite, interval)):
        return "–"
    show = share if percent else number
    return f"{show(interval[0])} to {show(interval[1])}"


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return (float(interval[0]), float(interval[1])) if interval and all(map(finite, interval)) else None


def _effects(report: Table) -> str:
    rows = [row for row in (report.get("effect"), report.get("helpfulness")) if row]
    if not rows:
        return ""
    shown = [
        Bar(label=str(row["measure"]), value=_change(row), interval=_pair(row["interval"]), colour=i)
        for i, row in enumerate(rows)
    ]
    plot = fitted(
        lambda width: dots(shown, width=width, x_label="after − before", title="Effect", marks_at={"no change": 0.0}),
        "Difference on the same held-out prompts with its 95 % interval, which draws prompts.",
    )
    cells = [
        [
            escape(row["measure"]), number(row["before"]), number(row["after"]), number(_change(row)),
            span(row["interval"]), number(row.get("n")), escape(row.get("verdict") or _verdict(row)),
        ]
        for row in rows
    ]  # fmt: skip
    head = ["measure", "before", "after", "difference", "95 % interval of the difference", "prompts", "verdict"]
    return f"<h2>What training changed</h2>{plot}{table(head, cells)}"


def _change(row: Table) -> float:
    return float(row.get("difference", row["after"] - row["before"]))


def _verdict(row: Table) -> str:
    low, high = row["interval"]
    return "higher" if low > 0 else "lower" if high < 0 else "cannot decide"


def _arena(arena: Table | None) -> str:
    if not arena:
        return ""
    parts = ["<h2>Head to head</h2>", f"<p class=lead>Compared by {escape(arena.get('judged_by') or 'the judge')}.</p>"]
    known = {axis: {row["model"]: row for row in (arena.get(axis) or {}).get("elo", [])} for axis in AXES}
    evasive = {row["model"]: row for row in arena.get("evasive") or []}
    models = list(arena["models"])
    if known["harmless"] and known["helpful"]:
        points = [
            Point(
                label=model, x=_of(known["harmless"], model), y=_of(known["helpful"], model),
                x_interval=_pair((known["harmless"].get(model) or {}).get("interval")),
                y_interval=_pair((known["helpful"].get(model) or {}).get("interval")),
                note=f"answers {share(evasive[model]['answered']['share'])}" if model in evasive else "",
            )
            for model in models
        ]  # fmt: skip
        parts.append(
            fitted(
                lambda width: plane(points, width=width, x_label="harmless Elo", y_label="helpful Elo"),
                "Up is more helpful, right is less harmful; 1000 is the mean of these models. A model that refuses "
                "everything moves right; the share of safe twins that it answers, given beside its name, falls.",
            )
        )
    for axis, title in AXES.items():
        bout = arena.get(axis)
        if not bout or not bout.get("elo"):
            continue
        shown = [
            Bar(
                label=row["model"], value=row["elo"], interval=_pair(row["interval"]), colour=models.index(row["model"])
            )
            for row in bout["elo"]
        ]
        parts.append(f"<h3>{title}</h3>")
        parts.append(_elo_plot(shown, bout))
        cells = [
            [f"{escape(one['b'])} over {escape(one['a'])}", share(1 - one["share"]), _turned(one["interval"]),
             number(one["n"])]
            for one in bout.get("pairs", [])
        ]  # fmt: skip
        parts.append(table(["preferred", "share", "95 % interval", "comparisons"], cells))
    if evasive:
        cells = [
            [
                escape(model), share(row["answered"]["share"]), span(row["answered"]["interval"], percent=True),
                share(row["over_refusal"]["share"]), share(row["refused_unsafe"]["share"]),
                span(row["refused_unsafe"]["interval"], percent=True), number(row["answered"]["n"]),
            ]
            for model, row in evasive.items()
        ]  # fmt: skip
        head = [
            "model",
            "safe answered",
            "95 % interval",
            "safe refused",
            "unsafe refused",
            "95 % interval",
            "safe prompts",
        ]
        parts.append(f"<h3>Evasiveness</h3>{table(head, cells)}")
        parts.append("<p class=note>Pairs of a safe and an unsafe prompt that look alike. Intervals are Wilson's.</p>")
    return "".join(parts)


def _elo_plot(shown: Sequence[Bar], bout: Table) -> str:
    caption = f"{number(bout['decided'])} comparisons on {number(bout['prompts'])} prompts"
    caption += "".join(
        f"; {number(bout[key])} {words}"
        for key, words in (
            ("same", "ties of the same text"),
            ("left_out", "left out without an opinion"),
            ("failed", "without a reply"),
        )
        if bout.get(key)
    )
    return fitted(lambda width: dots(shown, width=width, x_label="Elo", marks_at={"mean": 1000.0}), f"{caption}.")


def _of(rows: Mapping[str, Table], model: str) -> float | None:
    return rows[model]["elo"] if model in rows else None


def _turned(interval: Sequence[float] | None) -> str:
    return span([1 - interval[1], 1 - interval[0]], percent=True) if interval else "–"


def _funnel(funnel: Table | None) -> str:
    if not funnel or not funnel.get("stages"):
        return ""
    rows = [
        Stack(
            label=str(stage["name"]),
            parts={"passed on": stage["out"], "dropped": sum((stage.get("dropped") or {}).values())},
            note=f"{number(stage['out'])} of {number(stage['in'])}",
        )
        for stage in funnel["stages"]
    ]
    plot = fitted(
        lambda width: stacked(rows, width=width, x_label="records", title="Data funnel"),
        "What each stage was given and what it passed on. One kind of record becomes another between stages: a draft "
        "has several critiques.",
    )
    reasons = [
        [escape(stage["name"]), escape(reason.replace("_", " ")), number(count), share(count / max(stage["in"], 1))]
        for stage in funnel["stages"]
        for reason, count in (stage.get("dropped") or {}).items()
    ]
    if reasons:
        plot += table(["stage", "dropped because", "records", "of the stage"], reasons)
    return f"<h2>Where the data went</h2>{plot}"


def _principles(rows: Sequence[Table] | None) -> str:
    if not rows:
        return ""
    further = [key for key in ("agreement", "flips") if any(row.get(key) is not None for row in rows)]
    head = ["principle", "drawn", "found an issue", "unparsed", "usable", "accepted", "edit", *further]
    cells = [
        [
            escape(row["id"]), number(row.get("drawn")), _part(row, "issues", "drawn"), _part(row, "unparsed", "drawn"),
            number(row.get("revised")), _part(row, "accepted", "revised"), share(row.get("edit")),
            *[share(row.get(key)) for key in further],
        ]
        for row in rows
    ]  # fmt: skip
    note = (
        "Edit is how much of the text a usable revision changed, by words. Accepted is of usable revisions. Shares of "
        "few records say little."
    )
    if further:
        note += (
            " Agreement is with the mean of the other principles, flips the share of judged pairs that change sides "
            "without this one."
        )
    return f"<h2>Principles</h2>{table(head, cells)}<p class=note>{note}</p>"


def _part(row: Table, key: str, of: str) -> str:
    count, whole = row.get(key), row.get(of)
    if count is None or not whole:
        return number(count)
    return f"{number(count)} ({share(count / whole)})"


def _calibration(calibration: Table | None) -> str:
    judges = (calibration or {}).get("judges") or []
    if not judges:
        return ""
    every = [Bar(label=str(row["name"]), value=row["accuracy"], interval=_pair(row.get("interval"))) for row in judges]
    free = [
        Bar(label=str(row["name"]), value=row["refusal_free"].get("accuracy"),
            interval=_pair(row["refusal_free"].get("interval")), colour=1)
        for row in judges
        if row.get("refusal_free")
    ]  # fmt: skip
    chance = {"chance": 0.5}

    def accuracy(rows: Sequence[Bar], caption: str) -> str:
        return fitted(
            lambda width: bars(rows, width=width, x_label="accuracy", marks_at=chance, x_range=(0.0, 1.0)), caption
        )

    parts = [
        "<h2>Judge calibration</h2>",
        f"<p>{escape((calibration or {}).get('verdict') or '')}</p>",
        accuracy(every, "Share of human-rated pairs whose better reply is named; intervals draw prompts."),
    ]
    if free:
        parts.append(accuracy(free, "The same without pairs in which a reply is a refusal."))
    curves = [
        Series(name=str(row["name"]), points=[(one["confidence"], one["accuracy"]) for one in row["reliability"]])
        for row in judges
        if row.get("reliability") and row.get("kind") != "baseline"
    ]
    if curves:
        parts.append(
            fitted(
                lambda width: lines(
                    curves, width=width, height=260, x_label="confidence", y_label="right", diagonal=True, dots=True,
                    x_range=(0.5, 1.0), y_range=(0.0, 1.0),
                ),
                "On the dashed line a judge is right as often as it is sure.",
            )
        )  # fmt: skip
    cells = [
        [
            escape(row["name"]), number(row.get("n")), number(row.get("accuracy")), span(row.get("interval")),
            number(row.get("brier")), number(row.get("ece")), share(row.get("keeps_slot")),
            number(row.get("position_gap")), {True: "passes", False: "refused"}.get(row.get("passed"), "–"),  # pyright: ignore[reportArgumentType]
        ]
        for row in judges
    ]  # fmt: skip
    head = ["judge", "pairs", "accuracy", "95 % interval", "Brier", "ECE", "keeps slot", "position gap", "gate"]
    return "".join([*parts, table(head, cells)])


def _preference_model(model: Table | None) -> str:
    if not model or model.get("accuracy") is None:
        return ""
    every: list[Table] = [model, *(model.get("baselines") or [])]
    rows = [
        Bar(
            label=str(row.get("name") or "preference model"),
            value=row["accuracy"],
            interval=_pair(row.get("interval")),
            colour=min(i, 1),
        )
        for i, row in enumerate(every)
    ]
    plot = fitted(
        lambda width: bars(rows, width=width, x_label="accuracy", marks_at={"chance": 0.5}, x_range=(0.0, 1.0)),
        f"On {number(model.get('n'))} held-out human pairs, split by prompt."
        + (f" Expected calibration error {number(model['ece'])}." if model.get("ece") is not None else ""),
    )
    return f"<h2>Preference model</h2>{plot}"


def _time(report: Table) -> str:
    spent: Table = report.get("seconds") or {}
    if not spent:
        return ""
    shown = [Bar(label=name, value=value, note=seconds(value)) for name, value in spent.items()]
    cost: Table = report.get("cost") or {}
    plot = fitted(lambda width: bars(shown, width=width, x_label="seconds", title="Time per stage"))
    total = sum(value for value in spent.values() if finite(value))
    text = f"<h2>Time and cost</h2><p>{seconds(total)} in all.</p>{plot}"
    if cost:
        keys = ("requests", "prompt_tokens", "completion_tokens", "cost")
        cells = [[escape(name), *[number(row.get(key)) for key in keys]] for name, row in cost.items()]
        text += table(["stage", "requests", "prompt tokens", "completion tokens", "cost"], cells)
    return text


def _reading() -> str:
    return (
        "<h2>How to read this page</h2><p class=note>Every interval holds the true value in 95 of 100 repetitions of "
        "the draw of prompts; it says nothing about other prompts than these kinds. Where an interval of a difference "
        "holds 0, or one of a share holds one half, the data cannot decide, and no direction is claimed. Elo points: a "
        "difference of 400 is odds of 10 to 1. A record without a label (a judge that could not be read) is left out "
        "and counted, never taken for a half.</p>"
    )
