"""`charter train`: a recipe, run to its end, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.signals import handled_by

if TYPE_CHECKING:
    from charter.cli.session import Enough, Outcome, StopRequest
    from charter.recipe import PipelineRecipe, Recipe
    from charter.run.reader import Run


def command(
    recipe: Annotated[str, typer.Argument(help="Recipe file (TOML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Keys laid over it.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Folder of this run; runs/NAME when left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Move an existing run of this name aside.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load and check everything; train nothing.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line per step instead of a live panel.")] = False,
) -> None:
    """Train as a recipe says (GRPO, PPO, DPO, SFT, rejection sampling), or a pipeline of these stage by stage.

    Ctrl-C once finishes the step and saves; twice stops now.
    """
    from charter.errors import UsageError
    from charter.recipe import PipelineRecipe
    from charter.recipe.roots import load_training

    if resume and replace:
        raise UsageError("--resume and --replace exclude each other: give one of them")
    loaded = load_training(recipe, overrides or ())
    name = loaded.name if isinstance(loaded, PipelineRecipe) else loaded.run.name
    folder = Path(run_dir) if run_dir else Path("runs") / (name or Path(recipe).stem)
    if dry_run:
        from charter.cli import pipeline

        typer.echo(pipeline.rehearse(loaded) if isinstance(loaded, PipelineRecipe) else _rehearse(loaded))
        return
    if replace:
        move_aside(folder)
    _refuse_taken(folder, resume)
    again = " ".join(["charter train", recipe, *(overrides or []), *(["--run-dir", run_dir] if run_dir else [])])
    if isinstance(loaded, PipelineRecipe):
        _train_pipeline(loaded, folder, plain, again)
        return
    outcome = run_recipe(loaded, folder, resume=resume, plain=plain)
    if not outcome.finished:
        typer.echo(
            f"stopped after step {outcome.step} of {loaded.run.steps}, everything saved. Go on with:\n"
            f"  {again} --resume"
        )
        raise typer.Exit(1)
    from charter.cli.report import closing_report

    typer.echo(closing_report(outcome, recipe))


def _train_pipeline(recipe: PipelineRecipe, folder: Path, plain: bool, again: str) -> None:
    from charter.cli.pipeline import closing_table, run_pipeline
    from charter.train.pipeline import StageStopped

    try:
        finished = run_pipeline(recipe, folder, plain=plain)
    except StageStopped as stopped:
        typer.echo(f"{stopped}. Go on with:\n  {again} --resume")
        raise typer.Exit(1) from None
    typer.echo(f"{closing_table(finished)}\n\nrun    {folder}")
    if models := [stage.result["model"] for stage in finished if "model" in stage.result]:
        typer.echo(f"model  {models[-1]}  (a plain Hugging Face folder)")


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    plain: bool = False,
    stop: StopRequest | None = None,
    enough: Enough | None = None,
    judge: bool = True,
) -> Outcome:
    """Train; the first Ctrl-C (or SIGTERM) asks the run to stop after its step, the second raises KeyboardInterrupt.

    stop: asked from elsewhere, where this is not the main thread and sees no signals. enough: ends the run before its
    last step, where a budget is spent. judge: whether held-out prompts are evaluated.
    """
    import asyncio

    from charter.cli.compose import read_inputs
    from charter.cli.display import choose_display
    from charter.cli.session import StopRequest, train

    inputs = read_inputs(recipe)
    stop = stop or StopRequest()
    with stopping(stop):
        return asyncio.run(
            train(
                inputs,
                folder,
                resume=resume,
                display=choose_display(plain=plain),
                stop=stop,
                enough=enough,
                judge=judge,
            )
        )


def train_recipe(
    recipe: Recipe, *, run_dir: str | Path | None = None, resume: bool = False, stop: StopRequest | None = None
) -> Run:
    """Train as `charter train` does and open the finished run: the public `charter.train`."""
    from charter.run.reader import Run

    folder = Path(run_dir) if run_dir else Path("runs") / (recipe.run.name or recipe.method)
    run_recipe(recipe, folder, resume=resume, stop=stop)
    return Run(folder)


@contextmanager
def stopping(stop: StopRequest) -> Iterator[None]:
    def handle(number: int, frame: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        print("\nfinishing this step, then saving; again to stop now", file=sys.stderr, flush=True)

    with handled_by(handle):
        yield


def _refuse_taken(folder: Path, resume: bool) -> None:
    """Say before the model loads what RunStore would say after."""
    from charter.errors import StoreError

    there = (folder / "recipe.toml").is_file()
    if there and not resume:
        raise StoreError(
            f"{folder} holds a run already: go on with --resume, move it aside with --replace, or choose another name "
            "(run.name=…)"
        )
    if resume and not there:
        print(f"{folder} holds no run yet: starting from the beginning", file=sys.stderr)


def move_aside(folder: Path) -> None:
    import os

    from charter.run.lock import take_lock

    if not folder.exists():
        return
    os.close(take_lock(folder))  # refuses a run that another process is writing
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
    print(f"moved the earlier run to {aside}", file=sys.stderr)


def _rehearse(recipe: Recipe) -> str:
    """Everything a run does before its first step."""
    import asyncio

    from charter.cli.compose import check_lengths, load_model, make_learner, read_inputs
    from charter.errors import RewardError
    from charter.reward import probe

    inputs = read_inputs(recipe)
    rubric, prompts = inputs.rubric, inputs.prompts
    if rubric is not None and prompts is not None:

        async def ask() -> list[str]:
            try:
                return list(await probe(rubric, prompts.held_out[:8] or prompts.train.items[:8]))
            finally:
                await rubric.close()

        wrong = asyncio.run(ask())
        if wrong:
            raise RewardError("the start-up probe of the rewards failed:\n" + "\n".join(f"  {line}" for line in wrong))
    policy = load_model(recipe)
    check_lengths(inputs, policy)
    if recipe.method == "preference":
        from charter.cli.preference_run import make_preference_learner

        learner: Any = make_preference_learner(recipe, policy, microbatch_tokens=None)
    else:
        learner = make_learner(recipe, policy)
    lines = [f"model      {recipe.model}: loaded, and its packed forward agrees with its own"]
    if prompts is not None:
        lines.append(
            f"prompts    {len(prompts.train)} to train on, {len(prompts.held_out)} held out, from {prompts.source}"
        )
    if inputs.examples is not None:
        lines.append(f"examples   {len(inputs.examples.train)} from {inputs.examples.source}")
    if inputs.pairs is not None:
        kept = f", {len(inputs.pairs.held_out)} held out" if inputs.pairs.held_out else ""
        lines.append(f"pairs      {len(inputs.pairs.train)} to train on{kept}, from {inputs.pairs.source}")
    if rubric is not None:
        lines.append("rewards    " + ", ".join(f"{name} × {rule}" for name, rule in rubric.rules.items()))
    lines.append(f"learner    at most {learner.microbatch_tokens} tokens in one forward")
    return "\n".join([*lines, "nothing was trained (--dry-run)"])
