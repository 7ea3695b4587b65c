"""Draw a finished run as a picture of a terminal: `python docs/images/draw_run.py runs/quickstart docs/images/run.svg`.

Everything in it comes from the run's folder: the reward of each step from metrics.jsonl, the accuracies from the
evaluations in it, and the last evaluation's first completions from evaluations/.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, MARGIN, LINE, FONT = 860, 28, 20, 13.5
CHART = 150
INK, DIM, GREEN, RED, BLUE = "#d8dee9", "#8892a6", "#a3be8c", "#bf616a", "#88c0d0"
PAPER, BAR = "#20242c", "#2b303b"

Row = dict[str, Any]


def text(x: float, y: float, words: str, colour: str = INK, anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" xml:space="preserve">{escape(words)}</text>'
    )


def chart(values: list[float], top: float) -> list[str]:
    """Reward per step as a line over a box, with its scale at the left and the steps below."""
    left, right, bottom = MARGIN + 44, WIDTH - MARGIN, top + CHART
    high = max(1.0, max(values))
    low = min(0.0, min(values))

    def at(i: int, value: float) -> str:
        x = left + (right - left) * (i / max(1, len(values) - 1))
        return f"{x:.1f},{bottom - (value - low) / (high - low) * CHART:.1f}"

    points = " ".join(at(i, value) for i, value in enumerate(values))
    parts = [f'<rect x="{left}" y="{top:g}" width="{right - left}" height="{CHART}" fill="none" stroke="{BAR}"/>']
    for level in (low, (low + high) / 2, high):
        y = bottom - (level - low) / (high - low) * CHART
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{BAR}"/>')
        parts.append(text(left - 8, y + 4, f"{level:.2f}", DIM, "end"))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{GREEN}" stroke-width="2"/>')
    parts += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{GREEN}"/>' for p in points.split()]
    parts.append(text(left, bottom + LINE, "step 1", DIM))
    parts.append(text(right, bottom + LINE, f"step {len(values)}", DIM, "end"))
    parts.append(text((left + right) / 2, bottom + LINE, "mean reward of the step's completions", DIM, "middle"))
    return parts


def accuracies(rows: list[Row]) -> list[tuple[str, Row, Row]]:
    """(how, first row, last row) of each temperature that was evaluated at both ends."""
    held = [row for row in rows if "eval/accuracy" in row]
    if len(held) < 2:
        return []
    names = [name for name in held[0] if name == "eval/accuracy" or name.startswith("eval/accuracy@")]
    return [(name.removeprefix("eval/accuracy"), held[0], held[-1]) for name in names]


def share(row: Row, suffix: str) -> str:
    value, low, high = (row[f"eval/accuracy{end}{suffix}"] for end in ("", "_low", "_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


Completion = tuple[str, str, float, str, float]
"""(question, completion before, its reward, completion after, its reward)"""


def completions(run: Path) -> list[Completion]:
    """The first evaluated prompts, with their first completions."""
    files = sorted((run / "evaluations").glob("step-*.json"))
    if len(files) < 2:
        return []
    first, last = (json.loads(file.read_text("utf-8"))["results"][0]["completions"] for file in (files[0], files[-1]))
    return [
        (a["prompt"], a["texts"][0], a["rewards"][0] or 0.0, b["texts"][0], b["rewards"][0] or 0.0)
        for a, b in zip(first, last, strict=True)
    ][:4]


def short(words: str, limit: int) -> str:
    """One line, at most `limit` characters; what a model may write and XML may not hold becomes a dot."""
    one = "".join(c if c.isprintable() else "·" for c in " ".join(words.split())) or "(empty)"
    return one if len(one) <= limit else one[: limit - 1] + "…"


def draw(run: Path) -> str:
    """The run as SVG. Raises: SystemExit where the folder has no rewards to draw."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    rows: list[Row] = [json.loads(line) for line in lines]
    values = [float(row["reward"]) for row in rows if row.get("reward") is not None]
    if not values:
        sys.exit(f"{run}/metrics.jsonl has no rewards: give the folder of a GRPO run")
    y = 62.0
    body = [text(MARGIN, y, "$ make quickstart", INK)]
    y += 24
    body += chart(values, y)
    y += CHART + 2.6 * LINE
    for suffix, before, after in accuracies(rows):
        how = "greedy" if not suffix else f"temperature {suffix.removeprefix('@')}"
        body.append(text(MARGIN, y, f"held-out accuracy, {how:<14}", INK))
        body.append(text(MARGIN + 290, y, share(before, suffix), DIM))
        body.append(text(MARGIN + 465, y, "→", DIM))
        body.append(text(MARGIN + 490, y, share(after, suffix), GREEN))
        y += LINE
    y += 0.6 * LINE
    for question, before, was, after, now in completions(run):
        body.append(text(MARGIN, y, short(question, 48), BLUE))
        body.append(text(MARGIN + 400, y, f"before {short(before, 18)}", GREEN if was >= 1 else RED))
        body.append(text(MARGIN + 620, y, f"after {short(after, 18)}", GREEN if now >= 1 else RED))
        y += LINE
    height = y + 4
    dots = "".join(
        f'<circle cx="{MARGIN - 6 + 20 * i}" cy="20" r="6" fill="{c}"/>'
        for i, c in enumerate(("#bf616a", "#ebcb8b", "#a3be8c"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" role="img" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="{FONT}">\n'
        f"<title>Reward per step and held-out accuracy before and after of the run {escape(run.name)}</title>\n"
        f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="{PAPER}"/>\n'
        f'<path d="M0 40V8a8 8 0 0 1 8-8h{WIDTH - 16}a8 8 0 0 1 8 8v32z" fill="{BAR}"/>{dots}\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: draw_run.py RUN_FOLDER OUTPUT.svg")
    Path(sys.argv[2]).write_text(draw(Path(sys.argv[1])), encoding="utf-8")
