"""The pictures of a comparison, each drawn for any width, out of its record alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.cli.compare_table import interval, size
from charter.cli.pages.plots import Bar, Series, Stack, dots, lines, stacked
from charter.cli.pages.text import seconds

Record = Mapping[str, Any]

CURVE_LABELS = {
    "tokens": "sampled tokens",
    "seconds": "seconds in training steps",
    "processor_seconds": "seconds of processor time in training steps",
}
PART_TITLES = {"sample": "sampling and scoring", "learn": "learning", "other": "other"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """name: as part of a file's. draw: from a width to an <svg>. caption: one sentence."""

    name: str
    draw: Callable[[float], str]
    caption: str


def pictures(record: Record) -> list[Picture]:
    """Final score, reward against tokens and time, memory, and where the time went."""
    return [_score(record), *_curves(record), _memory(record), _time(record)]


def _score(record: Record) -> Picture:
    columns: Sequence[Mapping[str, Any]] = list(record["methods"].values())
    name = "held-out accuracy" if record["score"] == "accuracy" else "held-out mean reward"
    rows = [Bar(label=c["title"], value=c["score"], interval=tuple(c["score_interval"]),
                note=interval(c["score"], c["score_interval"]), colour=i)
            for i, c in enumerate(columns)]  # fmt: skip
    start = {"start": columns[0]["score_before"]}
    return Picture(
        name="score",
        draw=lambda width: dots(rows, width=width, x_label=name, marks_at=start),
        caption=f"Final {name}, with 95 % intervals over prompts (seeds averaged).",
    )


def _curves(record: Record) -> Iterator[Picture]:
    banded = len(record["seeds"]) > 1
    around = "; the band is from the lowest to the highest seed" if banded else ""
    for by, label in CURVE_LABELS.items():
        series = [
            Series(
                name=str(c["title"]),
                points=[(row[by], row["mean"]) for row in c["curve"][by]],
                band=[(row[by], row["low"], row["high"]) for row in c["curve"][by]] if banded else [],
            )
            for c in record["methods"].values()
            if c["curve"][by]
        ]
        if series:
            yield Picture(
                name=f"reward_{by}",
                draw=lambda width, s=series, x=label: lines(
                    s, width=width, x_label=x, y_label="reward in training", x_range=_from_0(s)
                ),
                caption=f"Mean reward of each step's completions against {label}{around}.",
            )


def _memory(record: Record) -> Picture:
    bars = [
        Stack(label=c["title"], parts=_stack(c), note=f"{size(c['peak_bytes'])} peak")
        for c in record["methods"].values()
    ]
    return Picture(
        name="memory",
        draw=lambda width: stacked(bars, width=width, x_label="GiB"),
        caption="Memory while it learns: what the process held before any model was there, and each part by "
        "construction; beside each bar the peak that was measured.",
    )


def _time(record: Record) -> Picture:
    bars = [
        Stack(label=c["title"], parts={PART_TITLES[k]: value for k, value in c["processor_time"].items()},
              note=seconds(c["processor_seconds"]))
        for c in record["methods"].values()
    ]  # fmt: skip
    return Picture(
        name="time",
        draw=lambda width: stacked(bars, width=width, x_label="s"),
        caption="Where the processor time of the steps went.",
    )


def _from_0(series: Sequence[Series]) -> tuple[float, float]:
    return 0.0, max(x for one in series for x, _ in one.points)


def _stack(column: Mapping[str, Any]) -> dict[str, float]:
    """The bytes that are there together while it learns, in GiB."""
    found = column["bytes"]
    policy = found["weights_of"]["policy"]
    parts = {
        "before any model": column["baseline_bytes"],
        "policy": policy,
        "other models": found["weights"] - policy,
        "gradients": found["gradients"],
        "optimizer state": found["optimizer_state"],
        "activations and logits": found["activations"] + found["logits"],
    }
    return {name: value / 2**30 for name, value in parts.items()}
