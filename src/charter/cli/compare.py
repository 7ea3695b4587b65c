"""`charter compare`: PPO, DPO, GRPO and rejection-sampling SFT on the same work, measured side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[str | None, typer.Argument(help='Recipe of a comparison (TOML, method = "compare").')] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Keys laid over it.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the comparison; runs/NAME when left out.")] = None,
    at_once: Annotated[
        int, typer.Option(min=1, help="Runs side by side, each with its share of the cores; they share the clock.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run; train nothing.")] = False,
    render: Annotated[
        str | None, typer.Option(metavar="DIR", help="Make compare.md and compare.html again from DIR/compare.json.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the tables between the markers of a Markdown file too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record instead of the table.")] = False,
) -> None:
    """Run each method and seed in a process of its own, and compare them.

    A comparison that was interrupted goes on with the same command: finished runs are not repeated, an unfinished one
    goes on from its checkpoint.
    """
    from charter.cli.compare_page import markdown, write_between, write_pages
    from charter.cli.compare_runs import carry_out, plan_of
    from charter.errors import UsageError

    if render is not None:
        record = _read(Path(render))
        write_pages(Path(render), record)
    elif recipe is None:
        raise UsageError("name a recipe: charter compare RECIPE, or charter compare --render DIR")
    else:
        from charter.recipe.compare import CompareRecipe, compare_conflicts
        from charter.recipe.loading import load_root

        loaded = load_root(recipe, overrides or (), CompareRecipe, conflicts=compare_conflicts)
        folder = Path(run_dir) if run_dir else Path("runs") / (loaded.name or Path(recipe).stem)
        jobs = plan_of(loaded, folder)
        if dry_run:
            told = [job.facts() for job in jobs]
            typer.echo(json.dumps(told, indent=2) if as_json else "\n".join(job.line() for job in jobs))
            return
        if at_once > 1 and loaded.budget.seconds is not None:
            raise UsageError(
                "--at-once with budget.seconds: runs side by side would learn less in the same time. Use "
                "budget.tokens, or leave --at-once out"
            )
        record = carry_out(loaded, jobs, folder, recipe, at_once=at_once)
        write_pages(folder, record)
    if into is not None:
        write_between(Path(into), markdown(record))
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False) if as_json else markdown(record))


def _read(folder: Path) -> dict[str, object]:
    """A record. Raises: UsageError where there is none, or it is not one."""
    from charter.errors import UsageError

    file = folder / "compare.json" if folder.is_dir() else folder
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file} does not exist: run charter compare RECIPE first, or name its folder") from None
    except ValueError as error:
        raise UsageError(f"{file} is not JSON ({error}); expected the record of charter compare") from None
    if not isinstance(record, dict) or not record.get("methods"):
        raise UsageError(f'{file} is not the record of a comparison: expected a table "methods"')
    return record
