"""`charter label RECIPE`: the feedback stage of a constitutional recipe alone."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun


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
    from charter.cli.labelling import render_label
    from charter.errors import BudgetError, RunError
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, [*(overrides or ()), *(["label.allow_uncalibrated=true"] * allow_uncalibrated)])
    words = ["charter", "label", recipe, *(overrides or []), *(["--run-dir", run_dir] if run_dir else [])]
    words += [*(["--policy", policy] if policy else []), *(["--allow-uncalibrated"] * allow_uncalibrated)]
    again = shlex.join(words)
    with open_cai_run(loaded, folder_of(loaded, recipe, run_dir)) as run:
        try:
            counts = asyncio.run(_stage(run, policy, plain))
        except BudgetError as error:
            raise BudgetError(f"{error}\nWhat was answered is in {run.journal.path}. Go on with:\n  {again}") from None
        except KeyboardInterrupt:
            raise RunError(f"stopped; what was answered is in {run.journal.path}. Go on with:\n  {again}") from None
        typer.echo(json.dumps(counts, indent=2, ensure_ascii=False) if as_json else render_label(counts, run.folder))
    if counts.get("left_out", {}).get("error"):
        typer.echo(f"{counts['left_out']['error']} pairs had no answer. To ask only these again:\n  {again}", err=True)


async def _stage(run: CaiRun, given: str | None, plain: bool) -> dict[str, Any]:
    from charter.cli.chat import open_chat
    from charter.cli.labelling import label_with, policy_model, run_label
    from charter.cli.stage_lines import StageLines

    recipe = run.recipe
    judge = open_chat(recipe.judge, model=recipe.model, learner=recipe.learner, seed=recipe.seed)
    policy = None
    try:
        by, _ = label_with(run, judge)  # before a second model is loaded
        if by == "judge":
            table = _author_of(recipe.author, policy_model(run.folder, given, ""))
            policy = open_chat(table, model=recipe.model, learner=recipe.learner, seed=recipe.seed)
        models = [judge] if policy is None else [policy, judge]
        return await run_label(run, policy, judge, StageLines(models, plain=plain))
    finally:
        await judge.close()
        if policy is not None:
            await policy.close()


def _author_of(table: Any, model: str) -> Any:
    """Who writes the replies: the model of that name in this process, or the recipe's author where none is named."""
    from charter.recipe.cai import ChatTable

    return ChatTable(backend="local", model=model) if model else table
