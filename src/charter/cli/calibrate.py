"""`charter calibrate RECIPE`: the judge of a constitutional recipe against human labels."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.recipe.cai import CaiRecipe


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
    from charter.cli.calibrating import render_calibration
    from charter.errors import BudgetError, RunError
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, overrides or ())
    folder = folder_of(loaded, recipe, run_dir)
    again = shlex.join(
        ["charter", "calibrate", recipe, *(overrides or []), *(["--run-dir", run_dir] if run_dir else [])]
    )
    try:
        found = asyncio.run(_stage(loaded, folder, plain))
    except BudgetError as error:
        raise BudgetError(f"{error}\nWhat was answered is kept. Go on with:\n  {again}") from None
    except KeyboardInterrupt:
        raise RunError(f"stopped; what was answered is kept. Go on with:\n  {again}") from None
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render_calibration(found))


async def _stage(recipe: CaiRecipe, folder: Path, plain: bool) -> dict[str, Any]:
    from charter.cli.calibrating import run_calibration
    from charter.cli.chat import open_chat
    from charter.cli.stage_lines import StageLines
    from charter.constitution.principles import Constitution

    constitution = Constitution.load(recipe.constitution.file).tagged(recipe.constitution.tags)
    judge = open_chat(recipe.judge, model=recipe.model, learner=recipe.learner, seed=recipe.seed)
    try:
        return await run_calibration(recipe, folder, judge, constitution, StageLines([judge], plain=plain))
    finally:
        await judge.close()
