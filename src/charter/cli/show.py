"""`charter show RUN`: a run in the terminal, from its curve down to single completions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.display import clean, duration, sparkline
from charter.cli.show_rewards import reward_lines

if TYPE_CHECKING:
    from charter.run.reader import Run

LIMIT = 5
"""Completions that --best and --worst print."""


def find_run(name: str) -> Run:
    """A run by its folder, or by its name under runs/. Raises: StoreError where there is none."""
    from charter.run.reader import open_run

    named = Path("runs") / name
    return open_run(named if not Path(name).exists() and named.exists() else name)


def command(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name under runs/.")],
    step: Annotated[int | None, typer.Option(help="Completions of this step; the newest stored when left out.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Only the prompt with this id, or whose id begins so.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Only the completions with the highest reward.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Only the completions with the lowest reward.")] = False,
    suspicious: Annotated[
        bool, typer.Option("--suspicious", help="Rewarded completions that look as if they game the reward.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, help="How many of the best or worst, or examples of each suspicious kind.")
    ] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Show a run: its summary; with --step, --prompt, --best or --worst what it wrote; with --suspicious what games."""
    from charter.errors import UsageError

    if best and worst:
        raise UsageError("--best and --worst exclude each other: give one of them.")
    found = find_run(run)
    if suspicious:
        if prompt is not None or best or worst:
            raise UsageError("--suspicious looks at every rewarded completion: give it alone, or with --step.")
        from charter.cli import suspicious as kinds

        steps = found.rollout_steps if step is None else [step]
        report, note = kinds.look(found, steps)
        shown = kinds.as_data(report, note)
        typer.echo(json.dumps(shown, indent=2) if as_json else kinds.render(report, note, steps, limit))
        return
    if step is None and prompt is None and not best and not worst:
        summary = found.summary
        typer.echo(json.dumps(summary, indent=2) if as_json else render_summary(found, summary))
        return
    chosen = step if step is not None else _newest(found, prompt)
    rows = select(found.rollouts(chosen).to_pylist(), prompt=prompt, best=best, worst=worst, limit=limit)
    if not rows:
        wanted = f"prompt {prompt!r}" if prompt is not None else "completion that has a reward"
        raise UsageError(f"step {chosen} of {found.folder} has no {wanted}; `charter show {run} --step {chosen}`.")
    if as_json:
        typer.echo(json.dumps({"step": chosen, "rollouts": rows}, indent=2))
    else:
        typer.echo(render_rollouts(chosen, rows))


def _newest(run: Run, prompt: str | None) -> int:
    """The newest stored step, or the newest that has the prompt."""
    from charter.errors import StoreError, UsageError

    steps = run.rollout_steps
    if not steps:
        raise StoreError(f"{run.folder} has no stored completions: it has not finished a step, or it imitates.")
    if prompt is None:
        return steps[-1]
    for step in reversed(steps):
        if any(name.startswith(prompt) for name in run.rollouts(step)["prompt_id"].to_pylist()):
            return step
    raise UsageError(f"no step of {run.folder} has a prompt whose id is or begins with {prompt!r}.")


def select(
    rows: Sequence[Mapping[str, Any]],
    *,
    prompt: str | None = None,
    best: bool = False,
    worst: bool = False,
    limit: int = LIMIT,
) -> list[dict[str, Any]]:
    """The completions that were asked for.

    rows: of a rollout file. prompt: id or beginning of one; an id that fits exactly wins over those that begin so.
    best, worst: the `limit` highest or lowest rewards, those without a reward left out, equal ones in stored order.
    """
    kept = [dict(row) for row in rows]
    if prompt is not None:
        exact = [row for row in kept if row["prompt_id"] == prompt]
        kept = exact or [row for row in kept if row["prompt_id"].startswith(prompt)]
    if best or worst:
        kept = [row for row in kept if row["reward"] is not None]
        kept = sorted(kept, key=lambda row: row["reward"], reverse=best)[:limit]
    return kept


def _text(value: object, form: str = "") -> str:
    return format(value, form) if isinstance(value, int | float) else "—"


def render_summary(run: Run, summary: Mapping[str, Any]) -> str:
    """A run in a dozen lines."""
    from charter.run.diagnose import diagnose

    rows = run.metrics
    lines = [f"{run.name}: {summary['method']}, {summary['steps']} steps", ""]

    def add(label: str, text: str) -> None:
        lines.append(f"  {label:<12}{text}")

    def curve(name: str) -> str:
        return sparkline([float(row[name]) for row in rows if isinstance(row.get(name), int | float)], 40)

    if not rows:
        add("metrics", "no step is finished yet")
    if summary["reward_last"] is not None:
        first, last, best = (_text(summary[f"reward_{which}"], ".3f") for which in ("first", "last", "best"))
        add("reward", f"{first} → {last}, best {best}   {curve('reward')}")
    elif rows and isinstance(rows[-1].get("loss"), int | float):
        add("loss", f"{_text(rows[0].get('loss'), '.4f')} → {_text(rows[-1]['loss'], '.4f')}   {curve('loss')}")
    for number, line in enumerate(reward_lines(rows)):
        add("" if number else "rewards", clean(line))
    held_out = _held_out(summary, rows)
    if held_out:
        add("held-out", held_out)
    seconds: Mapping[str, float] = summary["seconds"]
    if seconds["step"] > 0:
        parts = {"sampling": seconds["sample"], "scoring": seconds["score"], "learning": seconds["learn"]}
        parts["rest"] = max(0.0, seconds["step"] - sum(parts.values()))
        shares = ", ".join(f"{name} {part / seconds['step']:.0%}" for name, part in parts.items())
        add("time", f"{duration(seconds['step'])}: {shares}")
    if summary["tokens"]:
        add("tokens", f"{summary['tokens']:,.0f} sampled")
    if summary["skipped"]:
        add("skipped", f"{summary['skipped']:.0f} steps whose gradient was not finite")
    checkpoint = run.latest_checkpoint
    add("checkpoint", checkpoint.name if checkpoint else "none yet")
    steps = run.rollout_steps
    stored = f"steps {steps[0]} to {steps[-1]}: read them with --step N, --best or --worst" if steps else "none stored"
    add("completions", stored)
    for finding in diagnose(rows):
        lines += ["", f"  !  step {finding.step}: {clean(finding.sentence)}", f"     {clean(finding.advice)}"]
    return "\n".join(lines)


def _held_out(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy before and after: from summary.json where it says so, else the first and last evaluation."""

    def percent(value: object) -> str:
        return _text(value, ".1%")

    before, after = summary.get("before"), summary.get("after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        interval = summary.get("interval")
        sure = f" [{percent(interval[0])}, {percent(interval[1])}]" if isinstance(interval, list | tuple) else ""
        return f"{percent(before)} → {percent(after)}{sure}"
    evaluated = [row for row in rows if isinstance(row.get("eval/accuracy"), int | float)]
    if not evaluated:
        return ""
    ends = evaluated if len(evaluated) == 1 else [evaluated[0], evaluated[-1]]
    texts = [
        f"{percent(row['eval/accuracy'])} [{percent(row.get('eval/accuracy_low'))}, "
        f"{percent(row.get('eval/accuracy_high'))}] (step {row['step']})"
        for row in ends
    ]
    return " → ".join(texts)


def _indent(text: str, by: str) -> str:
    return "\n".join(by + part for part in clean(text).split("\n"))


def render_rollouts(step: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """Completions under their prompts, each with its reward, the reward's parts, its advantage and why it stopped."""
    from charter.run.rollouts import PART, turns

    lines = [f"step {step}"]
    last: str | None = None
    for row in rows:
        if row["prompt_id"] != last:
            last = row["prompt_id"]
            lines += ["", f"prompt {clean(row['prompt_id'])}"]
            for role, text in turns(row["prompt"]):
                lines.append(_indent(text if role == "text" else f"{role}: {text}", "  "))
        parts = ", ".join(f"{key.removeprefix(PART)} {_text(row[key], '.3g')}" for key in row if key.startswith(PART))
        facts = [
            f"reward {_text(row['reward'], '.3g')}" + (f" ({parts})" if parts else ""),
            f"advantage {_text(row['advantage'], '+.3g')}",
            f"{len(row['tokens'])} tokens",
            {"eos": "ended", "length": "cut off at the limit", "failed": "not drawn"}.get(row["stop"], row["stop"]),
        ]
        if row["status"] != "scored":
            facts.append(row["status"])
        lines += ["", f"  [{row['index']}] " + " · ".join(facts)]
        if row["note"]:
            lines.append(_indent(row["note"], "      note: "))
        lines.append(_indent(row["text"], "      │ "))
    return "\n".join(lines)
