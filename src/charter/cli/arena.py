"""`charter arena RECIPE`: models against each other on prompts that none of them learnt from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.recipe.cai import CaiRecipe

RESULT = "arena.json"
SHARES = (("answered", "safe answered"), ("over_refusal", "safe refused"), ("refused_unsafe", "unsafe refused"))


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a line that is drawn over.")] = False,
) -> None:
    """Head to head on held-out prompts: Elo for helpful and harmless, refusals on twins; write arena.json.

    The models are arena.models, or those that the run's own stages made, the starting model first.
    """
    import asyncio

    from charter.cli.cai_run import folder_of, open_cai_run
    from charter.cli.contests import run_arena
    from charter.cli.going_on import command_line, going_on
    from charter.cli.stage_lines import StageLines
    from charter.recipe import load_cai_recipe
    from charter.run.atomic import write_text

    loaded = load_cai_recipe(recipe, overrides or ())
    folder = folder_of(loaded, recipe, run_dir)
    models = models_of(loaded, folder)
    with open_cai_run(loaded, folder) as run:
        with going_on(command_line("arena", recipe, overrides, run_dir), "What was answered is kept."):
            found = asyncio.run(run_arena(run, models, StageLines([], plain=plain)))
        write_text(run.folder / RESULT, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render_arena(found))


def models_of(recipe: CaiRecipe, folder: Path) -> dict[str, str]:
    """Name → where it is. Raises: UsageError for a model named twice, or a run that made none."""
    from charter.cli.stage import model_of
    from charter.errors import UsageError

    named = recipe.arena.models
    if named:
        if len(set(named)) != len(named) or len(named) < 2:
            raise UsageError(f"arena.models names {', '.join(named)}: an arena needs at least two different models.")
        return {name: name for name in named}
    made = {name: model_of(folder / name) for name in ("sft", "policy")}
    found = {name: str(place) for name, place in made.items() if place.is_dir()}
    if not found:
        raise UsageError(
            f"{folder} has no trained model yet, and arena.models names none: run `charter cai` first, or write "
            'arena.models = ["FOLDER", "FOLDER"].'
        )
    return {"start": recipe.model, **found}


def render_arena(found: Mapping[str, Any]) -> str:
    """What was found as lines of text."""
    from charter.cli.display import clean
    from charter.evaluate.report import sentences

    arena = found["arena"]
    lines = [f"compared by {arena['judged_by']}"]
    width = max(len(name) for name in arena["models"])
    for axis in ("harmless", "helpful"):
        bout = arena.get(axis)
        if not bout:
            continue
        lines += ["", f"{axis}: {bout['decided']} comparisons on {bout['prompts']} prompts, {bout['same']} of the same "
                  f"text, {bout['left_out']} without a label, {bout['failed']} without a reply"]  # fmt: skip
        for row in bout["elo"]:
            span = "" if row["interval"] is None else f"  [{row['interval'][0]:.0f}, {row['interval'][1]:.0f}]"
            lines.append(f"  {row['model']:<{width}}  Elo {row['elo']:6.0f}{span}  preferred {row['win_rate']:.0%}")
    if arena["evasive"]:
        lines += ["", "twins"]
        for row in arena["evasive"]:
            shares = [f"{words} {row[key]['share']:.0%}" for key, words in SHARES if row[key]["share"] is not None]
            lines.append(f"  {row['model']:<{width}}  {', '.join(shares)} of {row['answered']['n']}")
    lines += ["", *sentences(found)]
    return clean("\n".join(lines))
