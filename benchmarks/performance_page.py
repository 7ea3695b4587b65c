"""Stored results as tables and plots: writes the part of docs/performance.md between its two markers.

    python benchmarks/performance_page.py [--page docs/performance.md] [--check]

Reads benchmarks/results/{step_S,step_S_int8,step_S_default,…,sample,sample_few,learn,memory,scaling,scaling_group,
roofline,curves}.json, writes docs/images/performance_*.svg and puts the targets and tables with *achieved / limit*
between `<!-- results: begin -->` and `<!-- results: end -->`; what was not stored is left out. --check changes nothing
and fails where the page is not what the results say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness import ROOT, stored
from scaling import fit

from charter.cli.pages.plots import PLOT_CSS, WIDE, Bar, Series, bars, lines
from charter.run.atomic import write_text

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
FONT = 'svg{background:var(--paper);font-family:system-ui,"Segoe UI",Helvetica,Arial,sans-serif}'
MARGIN = 12
PART_NAMES = {"sample": "sampling", "forward_backward": "learning", "optimizer": "optimizer", "step": "whole step"}
SIDE_NAMES = {
    "charter": "Charter",
    "int8": "Charter, int8",
    "generate": "transformers `generate`",
    "continuous": "continuous batching",
    "vllm": "vLLM",
}
Data = Mapping[str, Any]


def standalone(plot: str) -> str:
    """A plot of a page as a file of its own: with its name space, its style and a margin."""
    head, _, rest = plot.partition(">")
    _, _, box = head.partition('viewBox="0 0 ')
    width, height = (float(word) for word in box.partition('"')[0].split())
    view = f'viewBox="{-MARGIN} {-MARGIN} {width + 2 * MARGIN:g} {height + 2 * MARGIN:g}"'
    head = head.replace(f'viewBox="0 0 {box.partition(chr(34))[0]}"', view)
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{head}><style>{PLOT_CSS}{FONT}</style>{rest}\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first to the right."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *rows])


def origin(data: Data) -> str:
    """Where and when a result was taken, and whether the machine was quiet."""
    machine = data["machine"]
    cores = data.get("threads") or machine["cores"]
    packages = ", ".join(f"{name} {data['packages'][name]}" for name in ("torch", "transformers")
                         if name in data["packages"])  # fmt: skip
    state = "" if data["valid"] else f" **Not valid**: {'; '.join(data['disturbed_by'])}."
    where = data.get("device") if data.get("device") not in (None, "cpu") else machine["processor"]
    rounds = f"{count} round{'s' if count > 1 else ''}; " if (count := data.get("rounds")) else ""
    return f"{where}, {cores} threads; {rounds}{packages}; commit {data['revision']}; {data['date'][:10]}.{state}"


def step_part(found: Mapping[str, Data]) -> tuple[str, dict[str, str]]:
    """Tables of the steps: against TRL, and part by part."""
    against: list[list[str]] = []
    parts: list[list[str]] = []
    for name, data in found.items():
        shape = data["shape"]
        what = f"{name}: {shape['prompts']} × {shape['prompt']}, {shape['group']} × {shape['tokens']}"
        peaks = (data["charter_peak_bytes"], data["trl_peak_bytes"])
        against.append([what, f"{data['charter_s']:.2f}", number(data["trl_s"]), number(data["ratio"], 3),
                        f"{data['of_limit']:.2f}", *(number(p and p / 1e9) for p in peaks),
                        number(data["peak_ratio"], 3)])  # fmt: skip
        for part, one in data["parts"].items():
            if "floor_s" in one:
                parts.append([f"{name}: {PART_NAMES[part]}", f"{one['seconds']:.2f}", f"{one['floor_s']:.2f}",
                              f"{one['of_limit']:.2f}"])  # fmt: skip
        for setting, one in data["trl"].items():
            told = [one["failed"], "", ""] if "failed" in one else [f"{one['step_s']:.2f}", "–", "–"]
            parts.append([f"{name}: TRL, {setting}", *told])
    head = ("case", "Charter s", "TRL s", "ratio", "of limit", "Charter GB", "TRL GB", "ratio")
    text = [
        "### A step against TRL", table(head, against),
        "Each part, and each of TRL's settings:", table(("part", "seconds", "floor s", "of limit"), parts),
        *(f"Case {name}: {origin(data)}" for name, data in found.items()),
    ]  # fmt: skip
    rows = [
        Bar(label=f"{name} {who}", value=value, colour=colour)
        for name, data in found.items()
        for who, value, colour in (("limit", data["floor_s"], 2), ("Charter", data["charter_s"], 0),
                                   ("TRL", data["trl_s"], 1))
        if value is not None
    ]  # fmt: skip
    plot = bars(rows, width=WIDE, x_label="seconds of a step", title="Seconds of a GRPO step: limit, Charter, TRL")
    return join(text), {"step": plot}


def sample_part(data: Data, title: str = "Sampling", plot: str = "sample") -> tuple[str, dict[str, str]]:
    rows: list[list[str]] = []
    for cell in data["cells"]:
        for side, one in cell["sides"].items():
            what = [f"{cell['rows']} × {cell['tokens']}, prompt {cell['prompt']}", SIDE_NAMES[side]]
            if "left_out" in one:
                rows.append([*what, one["left_out"], "", "", ""])
                continue
            against = cell["charter_against"].get(side, {}).get("tokens_per_s")
            rows.append([*what, f"{one['tokens_per_s']:.0f}", f"{one['tokens_per_core_s']:.0f}",
                         f"{one['of_limit']:.2f}", number(against)])  # fmt: skip
    head = ("rows × tokens", "side", "tokens/s", "per core-second", "of limit", "Charter is × faster")
    plots: dict[str, str] = {}
    for prompt in sorted({cell["prompt"] for cell in data["cells"]}):
        cells = [cell for cell in data["cells"] if cell["prompt"] == prompt]
        series = [
            Series(name=SIDE_NAMES[side].replace("`", ""),
                   points=[(c["rows"], c["sides"][side].get("tokens_per_s")) for c in cells])
            for side in cells[0]["sides"]
        ]  # fmt: skip
        limit = [(c["rows"], c["rows"] * c["tokens"] / c["floor_s"]) for c in cells]
        plots[f"{plot}_{prompt}"] = lines(
            [*series, Series(name="limit", points=limit)], width=WIDE, x_label="rows", y_label="tokens/s", log_x=True,
            y_zero=True, dots=True, title=f"Tokens per second by rows, prompts of {prompt} tokens",
        )  # fmt: skip
    return join([f"### {title}", table(head, rows), origin(data)]), plots


def learn_part(data: Data) -> tuple[str, dict[str, str]]:
    rows: list[list[str]] = []
    for cell in data["cells"]:
        ours, theirs = cell["sides"]["charter"], cell["sides"]["padded"]
        rows.append([f"{cell['group']} × {cell['tokens']}, prompt {cell['prompt']}", f"{ours['tokens_per_s']:.0f}",
                     f"{theirs['tokens_per_s']:.0f}", f"{cell['ratio']:.3f}", f"{ours['of_limit']:.2f}",
                     f"{theirs['of_limit']:.2f}"])  # fmt: skip
    head = ("G × tokens", "Charter tokens/s", "padded tokens/s", "time ratio", "of limit", "padded of limit")
    series = [
        Series(name=f"G = {group}", points=[(c["prompt"] / c["tokens"], 1 / c["ratio"]) for c in data["cells"]
                                            if c["group"] == group])
        for group in sorted({cell["group"] for cell in data["cells"]})
    ]  # fmt: skip
    plot = lines(
        series, width=WIDE, x_label="prompt tokens per completion token", y_label="times faster than padded",
        log_x=True, y_zero=True, dots=True, title="Shared-prefix learning against the padded forward",
    )  # fmt: skip
    return join(["### Learning", table(head, rows), origin(data)]), {"learn": plot}


def memory_part(data: Data) -> tuple[str, dict[str, str]]:
    rows: list[list[str]] = []
    marks: list[Bar] = []
    for name, case in data["cases"].items():
        for side, one in (("Charter", case["charter"]), *((f"TRL, {n}", row) for n, row in case["trl"].items())):
            if "failed" in one:
                rows.append([f"{name} {side}", one["failed"], "", "", "", ""])
                continue
            told = f"{case['estimate_with_prompts_bytes'] / 1e9:.2f}" if side == "Charter" else "–"
            rows.append(
                [
                    f"{name} {side}",
                    f"{one['peak_bytes'] / 1e9:.2f}",
                    f"{one['own_bytes'] / 1e9:.2f}",
                    told,
                    f"{one['of_limit']:.2f}",
                    f"{case['charter']['peak_bytes'] / one['peak_bytes']:.3f}",
                ]
            )
            marks.append(
                Bar(label=f"{name} {side}", value=one["peak_bytes"] / 1e9, colour=0 if side == "Charter" else 1)
            )
    head = ("case", "peak GB", "without imports GB", "explain's estimate GB", "of limit", "Charter / it")
    plot = bars(marks, width=WIDE, x_label="peak memory of the process, GB", title="Peak memory of a GRPO step")
    return join(["### Memory", table(head, rows), origin(data)]), {"memory": plot}


def scaling_part(data: Data, title: str = "Growth", plot: str = "scaling") -> tuple[str, dict[str, str]]:
    rows: list[list[str]] = []
    plots: dict[str, str] = {}
    for name, axis in data["axes"].items():
        for part, one in axis["parts"].items():
            interval = "–" if one["interval"] is None else " … ".join(f"{bound:.2e}" for bound in one["interval"])
            doubled = "–"
            if one["growth"]:
                doubled = f"{one['growth'][-1]['ratio']:.2f} ({one['floor_growth'][-1]['ratio']:.2f})"
            rows.append([f"{name}, {PART_NAMES[part]}", f"{one['slope_s']:.2e}", interval, number(one["of_limit"]),
                         f"{one['of_limit_at_points'][-1]:.2f}", doubled])  # fmt: skip
        x, step = axis["x"], axis["parts"]["step"]
        line = fit(x, step["seconds"])
        series = [
            Series(name="measured", points=list(zip(x, step["seconds"], strict=True)),
                   band=[(at, min(row), max(row)) for at, row in zip(x, step["rounds_s"], strict=True)]),
            Series(name="least squares", points=[(at, line.a + line.b * at) for at in (x[0], x[-1])]),
            Series(name="limit", points=list(zip(x, step["floor_s"], strict=True))),
        ]  # fmt: skip
        plots[f"{plot}_{name}"] = lines(
            series, width=WIDE, x_label=name, y_label="seconds of a step", y_zero=True, dots=True,
            title=f"Seconds of a step by {name}",
        )  # fmt: skip
    head = ("x, part", "seconds per x", "95 %", "slope of limit", "of limit at the end", "last doubling (floor's)")
    return join([f"### {title}", table(head, rows), origin(data)]), plots


def roofline_part(data: Data) -> tuple[str, dict[str, str]]:
    rates = data["rates"]
    rows = [
        [f"{name}: {one['prompts']} × {one['prompt']}, {one['group']} × {one['tokens']}",
         *(f"{one['parts'][part]:.2f}" for part in ("sample", "forward_backward", "optimizer")),
         f"{one['floor_s']:.2f}", number(one["of_limit"])]
        for name, one in data["steps"].items()
    ]  # fmt: skip
    few = ", ".join(f"{value / 1e9:.0f} at {count} rows" for count, value in data["gemm_flops_at_few_rows"].items())
    text = (
        f"{rates['gemm_flops'] / 1e9:.0f} GFLOP/s at 2,048 rows ({few}), {rates['bandwidth_bytes'] / 1e9:.1f} GB/s. "
        "Floors, in seconds:"
    )
    head = ("case", "sampling", "learning", "optimizer", "step", "of limit")
    return join(["### The machine", text, table(head, rows), origin(data)]), {}


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def join(blocks: Sequence[str]) -> str:
    return "\n\n".join(blocks)


def curves_part(data: Data) -> tuple[str, dict[str, str]]:
    rows: list[list[str]] = []
    for side, found in data["sides"].items():
        for name, numbers in found["numbers"].items():
            less = numbers.get("less_fp32") or {"interval": None}
            told = "–"
            if less["interval"] is not None:
                told = f"{less['mean']:+.3f} [{less['interval'][0]:+.3f}, {less['interval'][1]:+.3f}]"
            rows.append([f"{side}, {len(found['seeds'])} seeds", name, f"{numbers['mean']:.3f}", told])
    steps = next(iter(data["sides"].values()))["curve"]
    series = [
        Series(name=side, points=[(i, mean) for i, (mean, _, _) in enumerate(found["curve"], start=1)],
               band=[(i, low, high) for i, (_, low, high) in enumerate(found["curve"], start=1)])
        for side, found in data["sides"].items()
    ]  # fmt: skip
    plot = lines(
        series, width=WIDE, x_label="step", y_label="mean reward", y_zero=True,
        title=f"Reward of {len(steps)} steps: mean over seeds, with the least and the largest",
    )  # fmt: skip
    meet = [
        f"{side}'s range over seeds meets fp32's in {found['steps_overlapping_fp32']} of {len(steps)} steps."
        for side, found in data["sides"].items()
        if "steps_overlapping_fp32" in found
    ]
    head = ("side", "what", "mean", "less fp32, 95 % over seeds")
    taken = f"{data['recipe']}; commit {data['revision']}; {data['date'][:10]}."
    return join(["### Learning curves", table(head, rows), " ".join([*meet, taken])]), {"curves": plot}


def targets_part(read: Callable[[str], Data | None]) -> str:
    """Every target that something stored speaks of, met or missed."""
    rows: list[list[str]] = []

    def add(what: str, wanted: str, found: float | None, met: Callable[[float], bool], data: Data) -> None:
        if found is not None:
            quiet = "" if data.get("valid", True) else ", on a disturbed machine"
            rows.append([what, wanted, f"{found:.3f}", ("met" if met(found) else "**missed**") + quiet])

    for name, most in (("S", 3), ("M", 4), ("L", 6)):
        if (step := read(f"step_{name}")) is not None:
            add(f"{name}: time of a step against TRL", f"≤ 1/{most}", step["ratio"], lambda x, m=most: x <= 1 / m, step)
            add(f"{name}: of the limit", "≥ 0.5", step["of_limit"], lambda x: x >= 0.5, step)
            if name != "M":
                add(f"{name}: peak memory against TRL", "≤ 1/3", step["peak_ratio"], lambda x: x <= 1 / 3, step)
    sample, scaling = read("sample") or {"cells": []}, read("scaling_group") or read("scaling") or {"axes": {}}
    for cell in sample["cells"]:
        if (cell["rows"], cell["tokens"]) != (64, 128):
            continue
        what, against = f"sampling 64 × 128, prompt {cell['prompt']}", cell["charter_against"]
        for side, key, least in (("generate", "tokens_per_s", 4.0), ("vllm", "tokens_per_core_s", 1.3)):
            ratio = against.get(side, {}).get(key)
            unit = "tokens/s" if key == "tokens_per_s" else "tokens per core-second"
            add(f"{what}: {unit} against {SIDE_NAMES[side]}", f"≥ {least:g}", ratio, lambda x, m=least: x >= m, sample)
        add(f"{what}: of the limit", "≥ 0.5", cell["sides"]["charter"].get("of_limit"), lambda x: x >= 0.5, sample)
    growth = (scaling["axes"].get("group") or {"parts": {}})["parts"].get("forward_backward")
    if growth is not None and growth["growth"]:
        ratio = growth["growth"][-1]["ratio"] / growth["floor_growth"][-1]["ratio"]
        what = "learning as G doubles: its growth over the limit's"
        add(what, "0.9 to 1.1", ratio, lambda x: 0.9 <= x <= 1.1, scaling)
    return join(["### The targets", table(("what", "wanted", "measured", ""), rows)]) if rows else ""


PARTS: Mapping[str, Callable[[Data], tuple[str, dict[str, str]]]] = {
    "roofline": roofline_part,
    "sample": sample_part,
    "sample_few": partial(sample_part, title="Sampling, few rows", plot="sample_few"),
    "learn": learn_part,
    "memory": memory_part,
    "scaling": scaling_part,
    "scaling_group": partial(scaling_part, title="Growth with G, more rounds", plot="scaling_more"),
    "curves": curves_part,
}


def render(read: Callable[[str], Data | None]) -> tuple[str, dict[str, str]]:
    """The text between the markers, and the plots by file name. read: a stored result by its name, or None."""
    blocks: list[str] = []
    plots: dict[str, str] = {}
    steps = {
        f"{case}{words}": data
        for case in ("S", "M", "L")
        for suffix, words in (("", ""), ("_int8", ", int8"), ("_default", " (TRL's defaults)"))
        if (data := read(f"step_{case}{suffix}")) is not None
    }
    if targets := targets_part(read):
        blocks.append(targets)
    made = [step_part(steps)] if steps else []
    made += [part(data) for name, part in PARTS.items() if (data := read(name)) is not None]
    for text, drawn in made:
        title = text.partition("\n")[0].lstrip("# ")
        images = [f"![{title}: {name.replace('_', ' ')}](images/performance_{name}.svg)" for name in drawn]
        blocks.append(join([text, *images]))
        plots |= {f"performance_{name}.svg": standalone(plot) for name, plot in drawn.items()}
    return join(blocks) if blocks else "Nothing is stored yet.", plots


def between(page: str, text: str) -> str:
    """The page with `text` between its markers. Exits with a sentence where it has not both, in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has no {BEGIN} … {END} to write between")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="the page to write into")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something would change")
    asked = parser.parse_args(words)
    text, plots = render(stored)
    wanted = {asked.page: between(asked.page.read_text("utf-8"), text)}
    wanted |= {asked.page.parent / "images" / name: plot for name, plot in plots.items()}
    stale = [path for path, content in wanted.items() if not path.is_file() or path.read_text("utf-8") != content]
    if asked.check:
        if stale:
            raise SystemExit(f"not what the results say: {', '.join(path.name for path in stale)}")
        return
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, wanted[path])
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
