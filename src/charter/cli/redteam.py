"""`charter redteam RECIPE`: the prompts of a constitutional run, gathered, written and split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.display import clean

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun
    from charter.constitution.redteam import PromptSets


def command(
    recipe: Annotated[str, typer.Argument(help='TOML file of a recipe with method = "cai".')],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a line that is drawn over.")] = False,
) -> None:
    """Gather the red-team and helpful prompts of a recipe, let the author write more, and save redteam.jsonl."""
    import asyncio

    from charter.cli.cai_run import folder_of, open_cai_run, redteam_rows
    from charter.cli.going_on import command_line, going_on
    from charter.recipe import load_cai_recipe

    loaded = load_cai_recipe(recipe, overrides or ())
    with open_cai_run(loaded, folder_of(loaded, recipe, run_dir)) as run:
        again = command_line("redteam", recipe, overrides, run_dir)
        with going_on(again, f"What was answered is in {run.journal.path}."):
            sets = asyncio.run(_gather(run, plain))
        if as_json:
            typer.echo(
                json.dumps({**summary(sets), "folder": str(run.folder), "prompts": redteam_rows(sets)}, indent=2)
            )
            return
        typer.echo(render(sets))
        typer.echo(f"\nsaved in {run.folder / 'redteam.jsonl'}")


async def _gather(run: CaiRun, plain: bool) -> PromptSets:
    from charter.cli.stage_lines import StageLines
    from charter.cli.supervising import gather_prompts, open_models

    if not run.recipe.redteam.write:
        return await gather_prompts(run, None, StageLines((), plain=plain))
    async with open_models(run.recipe, judge=False) as (author, _):
        return await gather_prompts(run, author, StageLines((author,), plain=plain))


def summary(sets: PromptSets) -> dict[str, Any]:
    """Counts, for --json."""
    written = sets.written
    return {
        "read": sets.read,
        "repeated": sets.repeated,
        "near_held_out": sets.redteam.near_held_out,
        "unused": sets.redteam.unused,
        "train": len(sets.redteam.train),
        "held_out": len(sets.redteam.held_out),
        "helpful_train": len(sets.helpful.train),
        "helpful_held_out": len(sets.helpful.held_out),
        "written": None if written is None else {
            "asked": written.asked, "prompts": len(written.prompts), "dropped": dict(written.dropped),
        },
    }  # fmt: skip


SHOWN = 5
"""Prompts of each group that are printed."""


def render(sets: PromptSets) -> str:
    """Counts and the first prompts of each group."""
    told = summary(sets)
    lines = [
        f"read {told['read']}, repeated {told['repeated']}, near a held-out one {told['near_held_out']}, "
        f"not asked for {told['unused']}"
    ]
    if sets.written is not None:
        dropped = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in sets.written.dropped.items()) or "none"
        lines.append(f"written {len(sets.written.prompts)} of {sets.written.asked}; left out: {dropped}")
    groups = (
        ("red-team prompts to train on", sets.prompts), ("red-team prompts held out", sets.redteam.held_out),
        ("helpful prompts to train on", sets.helpful.train), ("helpful prompts held out", sets.helpful.held_out),
    )  # fmt: skip
    for name, prompts in groups:
        lines += ["", f"{len(prompts)} {name}"]
        lines += [f"  {prompt.id}  {_short(prompt.messages[-1]['content'])}" for prompt in prompts[:SHOWN]]
        if len(prompts) > SHOWN:
            lines.append(f"  … {len(prompts) - SHOWN} more")
    return "\n".join(lines)


def _short(text: str, width: int = 96) -> str:
    told = clean(" ".join(text.split()))
    return told if len(told) <= width else told[: width - 1] + "…"
