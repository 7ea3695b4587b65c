"""What stages of pipelines are made of: a run of stages in a folder, and a training run as one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.cli.display import Display
    from charter.cli.session import StopRequest
    from charter.recipe import Recipe
    from charter.train.pipeline import Finished, Stage, Turn


async def run_in_folder(
    stages: Sequence[Stage],
    folder: Path,
    report: Callable[[Turn], None] | None = None,
    *,
    lock: bool = True,
    begin: Callable[[], object] | None = None,
) -> list[Finished]:
    """`run_stages` in a folder that this process holds while it runs. Raises: as it, and StoreError for a taken one.

    lock: False where the caller holds the folder. begin: called once it is held, before the first stage (to write the
    recipe, say).
    """
    from charter.run.atomic import unwritable, write_text
    from charter.run.lock import take_lock
    from charter.train.pipeline import run_stages

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    held = take_lock(folder) if lock else None
    try:
        if begin is not None:
            begin()
        return await run_stages(stages, folder, report, write=write_text)
    finally:
        if held is not None:
            os.close(held)


async def train_stage(recipe: Recipe, folder: Path, *, display: Display, stop: StopRequest) -> dict[str, Any]:
    """An ordinary training run as a stage: begins in `folder`, or goes on from its newest checkpoint.

    Args:
        recipe: of the stage. display: shows its steps. stop: when asked, the run saves after its step.

    Returns:
        {"method", "steps", "model": folder of what it made}, and where something was evaluated {"before", "after",
        "interval", "n", "train_seconds"} of its summary.

    Raises:
        StageStopped: asked to stop before its last step, with everything saved. CharterError: as `train`.
    """
    import gc

    from charter.cli.compose import read_inputs
    from charter.cli.session import train
    from charter.recipe.paths import with_found_files
    from charter.train.pipeline import StageStopped

    if stop.asked:
        raise StageStopped(f"{folder.name} was not begun")
    recipe = with_found_files(recipe, Path(), set())  # as it will be read again from the folder
    outcome = await train(read_inputs(recipe), folder, resume=True, display=display, stop=stop)
    gc.collect()  # the models of a stage are not needed beside those of the next
    if not outcome.finished:
        raise StageStopped(f"{folder.name} stopped after step {outcome.step} of {recipe.run.steps}, everything saved")
    told = ("before", "after", "interval", "n", "train_seconds")
    summary = {key: outcome.summary[key] for key in told if key in outcome.summary} if outcome.summary else {}
    return {"method": recipe.method, "steps": outcome.step, "model": str(model_of(folder)), **summary}


def model_of(folder: Path) -> Path:
    """The model that a finished training stage made: a plain Hugging Face folder."""
    return folder / "latest" / "model"
