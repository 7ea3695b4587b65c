"""`charter cai RECIPE`: the whole constitutional loop, stage by stage, from red-team prompts to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.cli.session import StopRequest
    from charter.recipe.cai import CaiRecipe


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Keys laid over it.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move an existing run of this name aside.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of lines that are drawn over.")] = False,
) -> None:
    """Revise, imitate, calibrate, label, model the preferences, train against them, compare; write report.html.

    Run it again to go on where it was stopped: nothing is asked or trained twice.
    """
    from charter.cli.cai_run import folder_of
    from charter.cli.going_on import command_line, going_on
    from charter.cli.train import move_aside
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, overrides or ())
    folder = folder_of(loaded, recipe, run_dir)
    if replace:
        move_aside(folder)
    with going_on(command_line("cai", recipe, overrides, run_dir), f"Everything so far is in {folder}."):
        report = run_cai(loaded, folder, plain=plain)
    typer.echo(json.dumps(report, indent=2, ensure_ascii=False) if as_json else closing(report, folder))


def run_cai(recipe: CaiRecipe, folder: Path, *, plain: bool = False, stop: StopRequest | None = None) -> dict[str, Any]:
    """Run every stage that is not finished in `folder`, and return the report.

    The first Ctrl-C (or SIGTERM) asks a training stage to stop after its step; a stage that asks models stops at once,
    with every answer kept.
    Raises: StageStopped, BudgetError, and what a stage raises: what is finished stays finished.
    """
    import asyncio

    from charter.cli.cai_run import open_cai_run
    from charter.cli.cai_stages import Loop
    from charter.cli.session import StopRequest
    from charter.cli.train import stopping

    stop = stop or StopRequest()
    with stopping(stop), open_cai_run(recipe, folder) as run:
        return asyncio.run(Loop(run=run, plain=plain, stop=stop).finish())


def closing(report: dict[str, Any], folder: Path) -> str:
    """What came of it, in sentences, and where to look."""
    from charter.cli.display import duration
    from charter.evaluate.report import sentences

    seconds = report["seconds"]
    spent = ", ".join(f"{stage} {duration(took)}" for stage, took in seconds.items())
    return "\n".join(
        [
            "",
            *sentences(report),
            "",
            f"time       {duration(sum(seconds.values()))} ({spent})",
            f"report     {folder / 'report.html'}",
            f"data       {folder / 'report.json'}",
            f"records    {folder / 'records.jsonl'}; the life of one: charter trace ID --run-dir {folder}",
        ]
    )
