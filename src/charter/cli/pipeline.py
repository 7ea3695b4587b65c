"""A pipeline (method = "pipeline") under `charter train`: its stages, their progress, and the table at the end."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charter.errors import Problem, StoreError
from charter.recipe import (
    PipelineRecipe,
    check_recipe,
    differences,
    dump_recipe,
    load_pipeline,
    matters_for_resume,
)
from charter.recipe.comparing import stated_values
from charter.recipe.loading import read_toml
from charter.recipe.pipeline import pipeline_conflicts, stage_recipe

if TYPE_CHECKING:
    from charter.cli.session import StopRequest
    from charter.train.pipeline import Finished, Stage, Turn


def run_pipeline(
    pipeline: PipelineRecipe, folder: Path, *, plain: bool = False, stop: StopRequest | None = None
) -> list[Finished]:
    """Run every stage that is not finished yet in `folder`; the first Ctrl-C stops after a step, everything saved.

    Raises: StageStopped when asked to stop; StoreError where a finished stage is not what the recipe says now; and
    what a stage raises.
    """
    import asyncio

    from charter.cli.session import StopRequest
    from charter.cli.stage import run_in_folder
    from charter.cli.train import stopping

    check_recipe(pipeline, pipeline_conflicts)
    stop = stop or StopRequest()
    stages = stages_of(pipeline, folder, plain=plain, stop=stop)
    with stopping(stop):
        return asyncio.run(run_in_folder(stages, folder, announce, begin=lambda: _begin(pipeline, folder)))


def stages_of(pipeline: PipelineRecipe, folder: Path, *, plain: bool, stop: StopRequest) -> list[Stage]:
    """The stages of a recipe as things to run. A stage finds what another made in that one's folder."""
    from charter.train.pipeline import Stage

    return [
        Stage(
            name=stage.name,
            run=_Work(pipeline, index, folder, plain, stop),
            inputs=stage_inputs(pipeline, index),
        )
        for index, stage in enumerate(pipeline.stages)
    ]


def output_of(pipeline: PipelineRecipe, folder: Path, name: str) -> str:
    """What a stage made: its examples, or its model."""
    from charter.cli.stage import model_of

    kinds = {stage.name: stage.kind for stage in pipeline.stages}
    return str(folder / name / "examples.jsonl" if kinds[name] == "rejection" else model_of(folder / name))


def stage_inputs(pipeline: PipelineRecipe, index: int) -> dict[str, str]:
    """What a stage depends on: a hash of its recipe, without what may change when a run goes on, and of its files."""
    recipe, table = stage_recipe(pipeline, index, lambda name: f"@{name}"), pipeline.stages[index].rejection
    stated = stated_values(recipe)
    kept = {key: value for key, value in stated.items() if matters_for_resume(key) or key == "run.steps"}
    found = {"recipe": _digest(kept)}
    if pipeline.stages[index].kind == "rejection":
        found["rejection"] = _digest(table.model_dump(exclude_defaults=True))
    data = {f"data.{key}": getattr(recipe.data, key) for key in recipe.data.file_keys}
    for key, name in {**data, "rejection.mix": table.mix}.items():
        if name and Path(name).is_file():
            found[key] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return found


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def announce(turn: Turn) -> None:
    """One line of a stage's turn, on standard error."""
    place = f"stage {turn.number} of {turn.of}: {turn.name}"
    if turn.what == "begins":
        print(f"\n{place}", file=sys.stderr, flush=True)
    elif turn.what == "skipped":
        print(f"{place} (finished before)", file=sys.stderr, flush=True)


def closing_table(finished: Sequence[Finished]) -> str:
    """What each stage did, in columns: its steps or rows, its seconds, the held-out accuracy before and after."""
    rows = [("stage", "method", "work", "time", "held-out accuracy")]
    for stage in finished:
        from charter.cli.display import duration

        result = stage.result
        rows.append(
            (stage.name, str(result.get("method", "rejection")), _work(result), duration(stage.seconds), _gain(result))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def rehearse(pipeline: PipelineRecipe) -> str:
    """Everything that can be checked of a pipeline before it runs: its data, its rewards and its first model."""
    import asyncio

    from charter.cli.compose import load_model, read_inputs
    from charter.recipe.pipeline import references

    lines: list[str] = []
    for index, stage in enumerate(pipeline.stages):
        recipe = stage_recipe(pipeline, index, lambda name: f"@{name}")
        made = [key for key, _ in references(pipeline, index) if key != "model"]
        if made:
            lines.append(f"{stage.name:<20} {stage.kind}: {', '.join(made)} will be made by a stage before it")
            continue
        inputs = read_inputs(recipe)
        parts = {
            "prompts": len(inputs.prompts.train) if inputs.prompts else 0,
            "examples": len(inputs.examples.train) if inputs.examples else 0,
            "pairs": len(inputs.pairs.train) if inputs.pairs else 0,
        }
        lines.append(f"{stage.name:<20} {stage.kind}: " + ", ".join(f"{n} {name}" for name, n in parts.items() if n))
        if inputs.rubric is not None:
            asyncio.run(inputs.rubric.close())
    load_model(stage_recipe(pipeline, 0, lambda name: f"@{name}"))
    lines.append(f"{'model':<20} {pipeline.model}: loaded, and its packed forward agrees with its own")
    return "\n".join([*lines, "nothing was trained (--dry-run)"])


class _Work:
    """The work of one stage, called with its folder."""

    def __init__(self, pipeline: PipelineRecipe, index: int, folder: Path, plain: bool, stop: StopRequest) -> None:
        self.pipeline, self.index, self.folder, self.plain, self.stop = pipeline, index, folder, plain, stop

    async def __call__(self, folder: Path) -> Mapping[str, Any]:
        from charter.cli.display import choose_display
        from charter.cli.sampled_examples import sample_examples
        from charter.cli.stage import train_stage

        pipeline, stage = self.pipeline, self.pipeline.stages[self.index]
        display = choose_display(plain=self.plain)

        def output(name: str) -> str:
            return output_of(pipeline, self.folder, name)

        recipe = stage_recipe(pipeline, self.index, output)
        if stage.kind == "rejection":
            mix = stage.rejection.mix
            table = stage.rejection.model_copy(update={"mix": output(mix[1:]) if mix.startswith("@") else mix})
            made_under = {"recipe": stage_inputs(pipeline, self.index)["recipe"]}
            return await sample_examples(table, recipe, folder, made_under, display=display, stop=self.stop)
        return await train_stage(recipe, folder, display=display, stop=self.stop)


def _begin(pipeline: PipelineRecipe, folder: Path) -> None:
    """Write the recipe, or hold it against the one that the pipeline began with."""
    from charter.run.atomic import write_text
    from charter.train.pipeline import read_finished

    file = folder / "recipe.toml"
    if file.is_file():
        if (method := read_toml(file)[1].get("method")) != "pipeline":
            raise StoreError(
                f"{folder} holds a run of another kind (method = {method!r}). Choose another name (name=… or "
                "--run-dir …)"
            )
        changed = _changes(load_pipeline(file), pipeline, len(read_finished(folder)))
        if changed:
            raise StoreError(
                f"{folder} cannot go on under this recipe: stages that are finished would be others:\n"
                + "\n".join(f"  {problem}" for problem in changed)
            )
    write_text(file, dump_recipe(pipeline))


def _changes(old: PipelineRecipe, new: PipelineRecipe, finished: int) -> list[Problem]:
    """What differs in the recipes of the stages that are finished."""
    problems: list[Problem] = []
    for index in range(min(finished, len(old.stages), len(new.stages))):
        before, after = (stage_recipe(one, index, lambda name: f"@{name}") for one in (old, new))
        tables = (old.stages[index].rejection, new.stages[index].rejection)
        found = [*differences(before, after), *((f"rejection.{k}", a, b) for k, a, b in differences(*tables))]
        problems += [
            Problem(
                where=f"stages.{new.stages[index].name}.{key}",
                found=f"{b!r}, and the stage finished with {a!r}",
                fix="Put it back, or begin another run (name=… or --run-dir …)",
            )
            for key, a, b in found
            if matters_for_resume(key) or key == "run.steps"
        ]
    return problems


def _work(result: Mapping[str, Any]) -> str:
    if "examples" in result:
        return f"{result['examples']} examples of {result['completions']} completions"
    return f"{result['steps']} steps"


def _gain(result: Mapping[str, Any]) -> str:
    if "before" not in result:
        return "–"
    low, high = result["interval"]
    return f"{result['before']:.3f} → {result['after']:.3f} [{low:.3f}, {high:.3f}]"
