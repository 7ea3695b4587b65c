"""How the cost of a GRPO step grows: slopes with intervals over several sizes, not single points.

    python benchmarks/scaling.py [--json] [--store] [--axes group,prompt,tokens,vocabulary,size] [--rounds 5]

    group         completions of one prompt of 512 tokens           smollm2-135m
    prompt        tokens of the prompt, 4 completions               smollm2-135m
    tokens        tokens of each of 4 completions                   smollm2-135m
    vocabulary    of a small random Llama
    size          layers of a small random Llama, x its parameters without embedding table

Each round measures all points of an axis in a shuffled order, each in a process of its own (`measured_step.py`: one
warm-up step, one timed). Over all rounds and points:

    seconds = a + b x        least squares; b with its 95 % interval (Student's t, n − 2 degrees of freedom)

The floor (`floors.py`) is fitted over the same x: `of_limit` is its slope over the measured one. `growth` has the ratio
of medians at each doubling of x beside the floor's: with a long prompt, twice the completions may cost what their own
tokens cost, and no prompt again. Results go to benchmarks/results/scaling.json with --store.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floors import best_rates
from harness import as_json, facts, median, sample_quiet, store, table, validity, watching
from measured_step import Shape, measured, step_floors

EMBEDDED = "smollm2-135m"
PARTS = ("sample", "forward_backward", "step")
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
         2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
         2.042)  # fmt: skip
"""Student's t at 97.5 % for 1 to 30 degrees of freedom; 1.96 beyond (2 % too narrow at 31)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What is varied. x: values on the axis. shapes: the step at each; `size` has layers for x until it is measured."""

    name: str
    x: Sequence[float]
    shapes: Sequence[Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """seconds = a + b x. interval: of b, 95 %; None where two points or none are left over."""

    a: float
    b: float
    interval: tuple[float, float] | None

    def as_row(self) -> dict[str, Any]:
        return {"intercept_s": self.a, "slope_s": self.b, "interval": self.interval}


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """Least squares. Raises ValueError with fewer than two different x."""
    n, mean_x, mean_y = len(x), sum(x) / len(x), sum(y) / len(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    if spread == 0:
        raise ValueError("a slope needs two different values of x")
    b = sum((u - mean_x) * (v - mean_y) for u, v in zip(x, y, strict=True)) / spread
    a = mean_y - b * mean_x
    if n < 3:
        return Line(a=a, b=b, interval=None)
    left = sum((v - a - b * u) ** 2 for u, v in zip(x, y, strict=True))
    quantile = T_975[n - 3] if n - 2 <= len(T_975) else 1.96
    half = quantile * math.sqrt(left / (n - 2) / spread)
    return Line(a=a, b=b, interval=(b - half, b + half))


def growth(x: Sequence[float], y: Sequence[float]) -> list[dict[str, float]]:
    """Ratio of y at each x to y at its half, where both are there."""
    at = dict(zip(x, y, strict=True))
    return [{"x": value, "ratio": at[value] / at[value / 2]} for value in x if value / 2 in at]


def make_axes(names: Sequence[str], points: int, model: str, tokens: int) -> list[Axis]:
    """The axes asked for, each with its first `points` values. tokens: of a completion where it is not varied."""

    def shape(**given: Any) -> Shape:
        return Shape(**({"model": model, "prompts": 1, "group": 4, "tokens": tokens, "repeats": 1, "prompt": 128,
                         "dtype": "float32"} | given))  # fmt: skip

    known = {
        "group": ([4, 8, 16, 32], lambda x: shape(group=x, prompt=512)),
        "prompt": ([128, 256, 512, 1024], lambda x: shape(prompt=x)),
        "tokens": ([16, 32, 64, 128], lambda x: shape(tokens=x)),
        "vocabulary": ([4096, 8192, 16384, 32768, 65536], lambda x: shape(model=f"random:vocab={x}", group=8)),
        "size": ([4, 8, 16, 32], lambda x: shape(model=f"random:layers={x}", group=8)),
    }
    if unknown := set(names) - set(known):
        raise SystemExit(f"--axes knows {', '.join(known)}, not {', '.join(sorted(unknown))}")
    if points < 2:
        raise SystemExit("--points is at least 2: a slope needs two values of x")
    return [
        Axis(name=name, x=values[:points], shapes=[make(x) for x in values[:points]])
        for name, (values, make) in ((name, known[name]) for name in names)
    ]


def measure_axis(axis: Axis, rounds: int) -> dict[str, Any]:
    """All points of an axis, in every round in another order."""
    said: list[list[dict[str, Any]]] = [[] for _ in axis.x]
    for number in range(rounds):
        order = list(range(len(axis.x)))
        random.Random(number).shuffle(order)
        for at in order:
            print(f"{axis.name} {axis.x[at]:g}, round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
            said[at].append(measured(axis.shapes[at]))
    return summary(axis, said)


def summary(axis: Axis, said: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Slopes out of what the processes said. said: the answers of each point."""
    x = [float(points[0]["model"]["body"]) for points in said] if axis.name == "size" else list(map(float, axis.x))
    # a rate holds for one model's shapes: points that share a model share the best of theirs
    rates = {
        shape.model: best_rates([one["rates"] for s, answers in zip(axis.shapes, said, strict=True)
                                 if s.model == shape.model for one in answers])
        for shape in axis.shapes
    }  # fmt: skip
    least = [step_floors(points[0], rates[s.model]) for s, points in zip(axis.shapes, said, strict=True)]
    parts: dict[str, Any] = {}
    for part in PARTS:
        floor = [sum(one.values()) if part == "step" else one[part] for one in least]
        seconds = [[one["steps"][0][f"{part}_s"] for one in points] for points in said]
        line = fit(*zip(*_flat(x, seconds), strict=True))
        limit = fit(x, floor)
        middle = [median(values) for values in seconds]
        parts[part] = {
            **line.as_row(),
            "floor_slope_s": limit.b,
            "of_limit": limit.b / line.b if line.b > 0 else None,
            "seconds": middle,
            "floor_s": floor,
            "of_limit_at_points": [f / s for f, s in zip(floor, middle, strict=True)],
            "growth": growth(x, middle),
            "floor_growth": growth(x, floor),
            "rounds_s": seconds,
        }
    return {"x": x, "at": list(axis.x), "model": sorted({s.model for s in axis.shapes}), "parts": parts}


def _flat(x: Sequence[float], seconds: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    for value, row in zip(x, seconds, strict=True):
        for one in row:
            yield value, one


def report(data: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, axis in data["axes"].items():
        for part, one in axis["parts"].items():
            interval = "–" if one["interval"] is None else f"{one['interval'][0]:.2e} … {one['interval'][1]:.2e}"
            last = "–"
            if one["growth"]:
                last = f"{one['growth'][-1]['ratio']:.2f} ({one['floor_growth'][-1]['ratio']:.2f})"
            limit = "–" if one["of_limit"] is None else f"{one['of_limit']:.2f}"
            rows.append([name, part, f"{axis['x'][0]:g} … {axis['x'][-1]:g}", f"{one['slope_s']:.2e}", interval,
                         limit, f"{one['of_limit_at_points'][-1]:.2f}", last])  # fmt: skip
    head = ("axis", "part", "x", "s per x", "95 %", "slope of limit", "of limit at the end", "doubling (floor's)")
    return "\n".join([table(rows, head), "valid" if data["valid"] else "NOT VALID: " + "; ".join(data["disturbed_by"])])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/scaling.json")
    parser.add_argument("--name", default="scaling", help="name to store under")
    parser.add_argument("--model", default=EMBEDDED, help="of the axes group, prompt and tokens")
    parser.add_argument("--axes", default="group,prompt,tokens,vocabulary,size", help="comma-separated")
    parser.add_argument("--points", type=int, default=5, help="most points of each axis, from its small end")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a completion where they are not varied")
    parser.add_argument("--rounds", type=int, default=5, help="times that each point is measured")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    asked = make_parser().parse_args(words)
    axes = make_axes(asked.axes.split(","), asked.points, asked.model, asked.tokens)
    before = sample_quiet()
    with watching() as during:
        found = {axis.name: measure_axis(axis, asked.rounds) for axis in axes}
    data = {**facts(), "rounds": asked.rounds, "axes": found, **validity(before, during)}
    if asked.store:
        print(f"stored {store(asked.name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
