"""`charter calibrate RECIPE`: the judge of a constitutional recipe against human labels."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a line that is drawn over.")] = False,
) -> None:
    """Measure the judge on pairs that people decided, beside two baselines; write calibration.json.

    A judge that is not more often right than both baselines, or that keeps its slot, may not label.
    """
    import asyncio

    from charter.cli.cai_run import folder_of
    from charter.cli.calibrating import open_and_calibrate, render_calibration
    from charter.cli.going_on import command_line, going_on
    from charter.cli.stage_lines import StageLines
    from charter.constitution.principles import Constitution
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, overrides or ())
    folder = folder_of(loaded, recipe, run_dir)
    constitution = Constitution.load(loaded.constitution.file).tagged(loaded.constitution.tags)
    with going_on(command_line("calibrate", recipe, overrides, run_dir), "What was answered is kept."):
        found, _ = asyncio.run(
            open_and_calibrate(loaded, folder, constitution, lambda models: StageLines(models, plain=plain))
        )
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render_calibration(found))
