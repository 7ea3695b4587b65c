"""`charter revise RECIPE`: the supervised stage of a constitutional recipe alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.display import clean

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun
    from charter.constitution.supervised import Supervised
    from charter.types import Usage


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a line that is drawn over.")] = False,
) -> None:
    """Draft, critique, revise and accept; write sft.jsonl. Run it again to go on where it was stopped."""
    import asyncio

    from charter.cli.cai_run import folder_of, open_cai_run
    from charter.cli.going_on import command_line, going_on
    from charter.cli.stage_lines import StageLines
    from charter.cli.supervising import open_and_supervise
    from charter.errors import RunError
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, overrides or ())
    again = command_line("revise", recipe, overrides, run_dir)
    with open_cai_run(loaded, folder_of(loaded, recipe, run_dir)) as run:
        with going_on(again, f"What was answered is in {run.journal.path}."):
            done, usage = asyncio.run(open_and_supervise(run, lambda models: StageLines(models, plain=plain)))
        typer.echo(
            json.dumps(as_data(run, done, usage), indent=2, ensure_ascii=False) if as_json else render(run, done, usage)
        )
    if done.lost:
        noun = "request had no answer" if done.lost == 1 else "requests had no answer"
        notes = sorted({one.note for one in (*done.drafts.lost, *done.revised.lost) if one.note})
        cause = clean("; ".join(notes[:3])) or "no cause given"
        typer.echo(f"{done.lost} {noun} ({cause}). To ask only these again:\n  {again}", err=True)
    if not done.sft.rows:
        raise RunError(
            "nothing came of it that could be imitated, so there is no sft.jsonl. The funnel says where it went"
        )


def as_data(run: CaiRun, done: Supervised, usage: Usage) -> dict[str, Any]:
    """For --json."""
    from dataclasses import asdict

    return {
        "folder": str(run.folder),
        "rows": len(done.sft.rows),
        "sources": _sources(done),
        "unanswered": done.lost,
        "funnel": done.funnel,
        "usage": asdict(usage),
    }


def render(run: CaiRun, done: Supervised, usage: Usage) -> str:
    """The closing tables, where the rows are, and what was asked for them this time."""
    from charter.cli.chat import describe_usage
    from charter.cli.supervising import render_funnel

    lines = [render_funnel(done.funnel)]
    if done.sft.rows:
        sources = ", ".join(f"{count} {source}" for source, count in _sources(done).items())
        lines.append(f"\n{len(done.sft.rows)} rows to imitate ({sources}) in {run.folder / 'sft.jsonl'}")
    if done.revised.trajectories and not any(one.accepted for one in done.acceptances.values()):
        lines.append("No revision was accepted: what is left to imitate does not follow the constitution any better.")
    return "\n".join([*lines, "", describe_usage(usage)])


def _sources(done: Supervised) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in done.sft.rows:
        found[row.source] = found.get(row.source, 0) + 1
    return found
