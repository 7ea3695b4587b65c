"""`charter label RECIPE`: the feedback stage of a constitutional recipe alone."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Whose replies are compared; the run's after imitation, or the recipe's model.")
    ] = None,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Label with a judge that did not pass, or was not measured.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a line that is drawn over.")] = False,
) -> None:
    """Compare the policy's replies and write preferences.jsonl. Run it again to go on where it was stopped.

    The judge must have passed `charter calibrate` in the same folder.
    """
    import asyncio

    from charter.cli.cai_run import folder_of, open_cai_run
    from charter.cli.going_on import command_line, going_on
    from charter.cli.labelling import open_and_label, render_label
    from charter.cli.stage_lines import StageLines
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, [*(overrides or ()), *(["label.allow_uncalibrated=true"] * allow_uncalibrated)])
    more = [*(["--policy", policy] if policy else []), *(["--allow-uncalibrated"] * allow_uncalibrated)]
    again = command_line("label", recipe, overrides, run_dir, *more)
    with open_cai_run(loaded, folder_of(loaded, recipe, run_dir)) as run:
        with going_on(again, f"What was answered is in {run.journal.path}."):
            counts, _ = asyncio.run(open_and_label(run, lambda models: StageLines(models, plain=plain), policy))
        typer.echo(json.dumps(counts, indent=2, ensure_ascii=False) if as_json else render_label(counts, run.folder))
    if counts.get("left_out", {}).get("error"):
        typer.echo(f"{counts['left_out']['error']} pairs had no answer. To ask only these again:\n  {again}", err=True)
