"""`charter eval`: how often a policy is right on held-out prompts, before and after training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.cli.compose import Inputs
    from charter.recipe import Recipe


def command(
    recipe: Annotated[str, typer.Argument(help="Recipe file (TOML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Keys laid over it.")] = None,
    run_dir: Annotated[
        str | None, typer.Option(help="Run whose newest checkpoint is judged; runs/NAME when left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Evaluate this model folder instead of a run's checkpoint.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Accuracy, pass@k and their intervals on the recipe's held-out prompts, before and after training."""
    import asyncio

    from charter.cli.compose import read_inputs
    from charter.errors import UsageError
    from charter.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    inputs = read_inputs(loaded)
    if inputs.prompts is None or inputs.rubric is None or not inputs.prompts.held_out:
        raise UsageError(
            f"{recipe} has nothing to evaluate: it needs data.prompts, data.held_out and a [[rewards]] table"
        )
    after = _after(Path(run_dir) if run_dir else Path("runs") / (loaded.run.name or Path(recipe).stem), model)
    results = asyncio.run(_evaluate(inputs, after))
    main = results["after"] or results["before"]
    if as_json:
        typer.echo(json.dumps({**main[0], **results}))
        return
    for name in ("before", "after"):
        for result in results[name] or ():
            low, high = result["interval"]
            passes = ", ".join(f"pass@{k} {value:.3f}" for k, value in result["pass_at_k"].items())
            accuracy = f"accuracy {result['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
            reward = f"mean reward {result['reward']:.3f}"
            typer.echo(f"{name:<7} {_how(result['temperature']):<14} {accuracy}  {reward}  {passes}  n = {result['n']}")
    for difference in results["difference"] or ():
        low, high = difference["interval"]
        typer.echo(
            f"gain    {_how(difference['temperature']):<14} {difference['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
    if after is None:
        typer.echo("no trained checkpoint was found: only the starting model was evaluated (--run-dir names a run)")


def _how(temperature: float) -> str:
    return "greedy" if temperature == 0 else f"temperature {temperature:g}"


def _after(run_dir: Path, model: str | None) -> Path | None:
    from charter.errors import StoreError
    from charter.run.checkpoint import Checkpoints

    if model is not None:
        return Path(model)
    if not (run_dir / "checkpoints").is_dir():
        return None
    newest = Checkpoints(run_dir).latest()
    if newest is None:
        raise StoreError(f"{run_dir} has no whole checkpoint to evaluate")
    return newest / "model"


async def _evaluate(inputs: Inputs, after: Path | None) -> dict[str, Any]:
    from charter.evaluate.accuracy import compare_accuracy

    assert inputs.rubric is not None
    try:
        await inputs.rubric.ready()
        before = await _policy(inputs, None)
        trained = await _policy(inputs, after) if after is not None else None
    finally:
        await inputs.rubric.close()
    differences = None
    if trained is not None:
        differences = [
            {"temperature": old["temperature"], "difference": gain.mean, "interval": list(gain.interval)}
            for (old, a), (_, b) in zip(before, trained, strict=True)
            for gain in [compare_accuracy(a, b, threshold=inputs.recipe.eval.threshold)]
        ]
    return {
        "before": [record for record, _ in before],
        "after": [record for record, _ in trained] if trained is not None else None,
        "difference": differences,
    }


async def _policy(inputs: Inputs, folder: Path | None) -> list[tuple[dict[str, Any], Any]]:
    from charter.cli.compose import load_model
    from charter.cli.heldout import HeldOut
    from charter.sampler.local import LocalSampler

    recipe: Recipe = inputs.recipe
    assert inputs.prompts is not None
    assert inputs.rubric is not None
    held_out = HeldOut(
        recipe=recipe,
        prompts=inputs.prompts.held_out,
        sampler=LocalSampler(load_model(recipe, folder), recipe.seed),
        reward=inputs.rubric,
    )
    return [await held_out.at(temperature) for temperature in recipe.eval.temperatures]
