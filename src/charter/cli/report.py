"""What a finished run says at its end: numbers before and after, a curve, completions, and where to go next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from charter.cli.display import clean, duration, sparkline
from charter.cli.heldout import evaluated_steps, read_evaluation
from charter.run.reader import Run

if TYPE_CHECKING:
    from charter.cli.session import Outcome

SHOWN = 3


def closing_report(outcome: Outcome, recipe: str) -> str:
    """The report of a finished run. recipe: the file it was started with."""
    run = Run(outcome.folder)
    rows = [row for row in run.metrics if row["step"] > 0]
    name = "reward" if any("reward" in row for row in rows) else "loss"
    curve = [float(row[name]) for row in rows if row.get(name) is not None]
    lines: list[str] = []
    scores = (outcome.summary or {}).get("preference")
    if scores:
        lines += _agreement(scores, outcome.summary or {})
    elif outcome.summary:
        lines += _accuracies(outcome.summary)
    if curve:
        lines.append(f"{name} per step    {sparkline(curve, 50)}  {curve[0]:.3f} → {curve[-1]:.3f}")
    if outcome.summary and not scores:
        lines += ["", *_completions(outcome)]
    lines += [
        "",
        f"run        {outcome.folder}",
        f"model      {outcome.folder}/latest/model  (a plain Hugging Face folder)",
        f"recipe     {recipe}",
        "next       " + f"charter show {outcome.folder} --best",
        f"           charter explain {recipe}",
    ]
    if not scores:
        lines.append(f"           charter eval {recipe} --run-dir {outcome.folder}")
    return "\n".join(lines)


def _accuracies(summary: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for temperature, pair in summary["at_temperature"].items():
        how = "greedy" if float(temperature) == 0 else f"temperature {temperature}"
        before, after = (_share(pair[a], pair[b]) for a, b in (("before", "before_interval"), ("after", "interval")))
        lines.append(f"held-out accuracy, {how:<14} {before}  →  {after}   n = {pair['n']}")
    lines.append(f"training took {duration(summary['train_seconds'])}")
    return lines


def _agreement(scores: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """What a preference model says of held-out pairs, before and after."""
    before, after = scores["before"], scores["after"]
    accuracy = " → ".join(_share(end["accuracy"], end["interval"]) for end in (before, after))
    others = "   ".join(f"{name} {before[name]:.3f} → {after[name]:.3f}" for name in ("brier", "ece", "margin"))
    return [
        f"held-out accuracy  {accuracy}   {after['n']} pairs of {after['prompts']} prompts",
        f"held-out           {others}",
        f"training took {duration(summary['train_seconds'])}",
    ]


def _share(value: float, interval: list[float]) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _completions(outcome: Outcome) -> list[str]:
    steps = evaluated_steps(outcome.folder)
    first, last = read_evaluation(outcome.folder, steps[0]), read_evaluation(outcome.folder, steps[-1])
    if first is None or last is None:
        return []
    lines: list[str] = []
    for before, after in list(zip(first["results"][0]["completions"], last["results"][0]["completions"], strict=True))[
        :SHOWN
    ]:
        lines += [
            f"prompt     {_line(before['prompt'])}",
            f"  before   {_line(before['texts'][0])}",
            f"  after    {_line(after['texts'][0])}",
        ]
    return lines


def _line(text: str, limit: int = 100) -> str:
    one = " ⏎ ".join(clean(text).strip().splitlines()) or "(empty)"
    return one if len(one) <= limit else one[: limit - 1] + "…"
