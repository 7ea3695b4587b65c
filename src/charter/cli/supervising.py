"""The supervised stage in a run folder: prompts written and saved, replies asked for, rows to imitate written whole."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from charter.cli.cai_run import CaiRun
    from charter.constitution.acceptance import Prefer, Score
    from charter.constitution.feedback import Match
    from charter.constitution.records import Preference
    from charter.constitution.redteam import PromptSets
    from charter.constitution.supervised import Supervised
    from charter.constitution.watching import Watcher
    from charter.protocols import ChatModel
    from charter.recipe.cai import CaiRecipe
    from charter.types import Usage


@asynccontextmanager
async def open_models(recipe: CaiRecipe, *, judge: bool) -> AsyncIterator[tuple[ChatModel, ChatModel | None]]:
    """The author, and the judge where it is wanted, closed in the end. A judge that is the author is loaded once."""
    from charter.cli.chat import open_chat

    def made(table: Any) -> ChatModel:
        return open_chat(table, model=recipe.model, learner=recipe.learner, seed=recipe.seed)

    def who(table: Any) -> tuple[str, ...]:
        return table.backend, table.model or recipe.model, table.url, table.script

    author = made(recipe.author)
    other = None
    try:
        if judge:
            other = author if who(recipe.judge) == who(recipe.author) else made(recipe.judge)
        yield author, other
    finally:
        await author.close()
        if other is not None and other is not author:
            await other.close()


async def open_and_supervise(run: CaiRun, watch: Callable[[Sequence[ChatModel]], Watcher]) -> tuple[Supervised, Usage]:
    """`run_supervised` with the recipe's own models.

    watch: makes who is told, of the models. Returns: as `run_supervised`, and what the models were asked.
    """
    from charter.cli.stage_lines import total_usage

    async with open_models(run.recipe, judge=needs_judge(run.recipe)) as (author, judge):
        models = [model for model in (author, judge) if model is not None]
        done = await run_supervised(run, author, judge=judge, watcher=watch(models))
        return done, total_usage(models)


def needs_judge(recipe: CaiRecipe) -> bool:
    """Whether the supervised stage asks the judge."""
    table = recipe.revise
    return table.control == "judge" or (table.control == "none" and table.accept == "judge")


def prefer_by(run: CaiRun, judge: ChatModel, watcher: Watcher) -> Prefer:
    """The judge of `revise.accept = "judge"`: both orders, under the principle of the revision.

    A preference that lacks an answer because the judge failed is None, and is asked again by the next run.
    """
    from charter.constitution.feedback import compare

    async def prefer(matches: Sequence[Match]) -> list[Preference | None]:
        recipe = run.recipe
        found = await compare(
            matches, judge, run.constitution, recipe.judge, run.journal, recipe.seed,
            strategy=recipe.constitution.draw, progress=watcher.answered,
        )  # fmt: skip
        return [one if ("preference", one.id) in run.journal else None for one in found]

    return prefer


async def gather_prompts(run: CaiRun, author: ChatModel | None, watcher: Watcher) -> PromptSets:
    """The run's prompts with those that the author writes, saved as redteam.jsonl.

    author: may be None where redteam.write = 0. Raises: RunError and BudgetError as `write_prompts`.
    """
    from charter.cli.cai_run import redteam_rows
    from charter.constitution.exporting import jsonl_bytes
    from charter.constitution.redteam import write_prompts
    from charter.run.atomic import write_bytes

    table, sets = run.recipe.redteam, run.sets
    if table.write and author is not None:
        written = await write_prompts(
            author, sets.redteam.train, (*sets.redteam.train, *sets.redteam.held_out), table.write, run.journal,
            seed=run.recipe.seed, temperature=table.temperature, watcher=watcher,
        )  # fmt: skip
        sets = replace(sets, written=written)
    write_bytes(run.folder / "redteam.jsonl", jsonl_bytes(redteam_rows(sets)))
    return sets


async def run_supervised(
    run: CaiRun,
    author: ChatModel,
    *,
    watcher: Watcher,
    judge: ChatModel | None = None,
    prefer: Prefer | None = None,
) -> Supervised:
    """Run the stage in its folder; running it again asks only what failed or was not asked yet.

    Writes redteam.jsonl, sft.jsonl, sft.parquet and funnel.json, each whole or not at all. Where there is nothing to
    imitate no sft file is left behind.

    Args:
        judge: who replies under revise.control = "judge" and compares under accept = "judge". prefer: who compares
            in its place.

    Raises:
        StoreError: the folder holds replies of another author. UsageError, RunError, BudgetError: as `supervise`.
    """
    from charter.cli.cai_run import refuse_another_author, worked_examples
    from charter.constitution.exporting import jsonl_bytes, parquet_bytes
    from charter.constitution.supervised import supervise
    from charter.errors import DataError
    from charter.run.atomic import write_bytes, write_text

    recipe = run.recipe
    refuse_another_author(run.journal, author.name)
    if prefer is None and judge is not None:
        prefer = prefer_by(run, judge, watcher)
    sets = await gather_prompts(run, author, watcher)
    if not sets.prompts:
        raise DataError(
            f"{recipe.redteam.prompts}: no prompt is left to train on: {len(sets.redteam.held_out)} are held out and "
            f"{sets.redteam.near_held_out} nearly repeat one of those. Hold out fewer (redteam.held_out), or give "
            "prompts that differ"
        )
    done = await supervise(
        sets, author=author, constitution=run.constitution, journal=run.journal, redteam=recipe.redteam,
        settings=recipe.revise, seed=recipe.seed, draw=run.draw, shots=worked_examples(recipe), prefer=prefer,
        score=_score(recipe), judge=judge, watcher=watcher,
    )  # fmt: skip
    write_text(run.folder / "funnel.json", json.dumps(done.funnel, indent=2, ensure_ascii=False) + "\n")
    files = {"sft.jsonl": lambda: jsonl_bytes(row.row() for row in done.sft.rows)}
    files["sft.parquet"] = lambda: parquet_bytes(done.sft.rows)
    for name, content in files.items():
        if done.sft.rows:
            write_bytes(run.folder / name, content())
        else:
            (run.folder / name).unlink(missing_ok=True)
    return done


def _score(recipe: CaiRecipe) -> Score | None:
    if recipe.revise.accept != "rules":
        return None
    from charter.constitution.checks import score_checks

    return score_checks


def render_funnel(funnel: Mapping[str, Any]) -> str:
    """The funnel as two tables."""
    lines = [f"{'stage':<12} {'in':>7} {'out':>7}  dropped"]
    for stage in funnel["stages"]:
        dropped = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in stage["dropped"].items())
        lines.append(f"{stage['name']:<12} {stage['in']:>7} {stage['out']:>7}  {dropped}".rstrip())
    drawn = [row for row in funnel["principles"] if row["drawn"]]
    if drawn:
        width = max(len("principle"), *(len(row["id"]) for row in drawn))
        heads = f"{'drawn':>6} {'issues':>7} {'unparsed':>9} {'revised':>8} {'accepted':>9} {'edit':>6}"
        lines += ["", f"{'principle':<{width}} {heads}  faults"]
        for row in drawn:
            faults = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in row["faults"].items())
            edit = "—" if row["edit"] is None else f"{row['edit']:.2f}"
            counts = (
                f"{row['drawn']:>6} {row['issues']:>7} {row['unparsed']:>9} {row['revised']:>8} {row['accepted']:>9}"
            )
            lines.append(f"{row['id']:<{width}} {counts} {edit:>6}  {faults}".rstrip())
    stripped, trimmed = funnel["labels_stripped"], funnel["sentences_trimmed"]
    if stripped or trimmed:
        lines += ["", f"labels taken off {stripped}, torn last sentences taken off {trimmed}"]
    return "\n".join(lines)
