"""Charter: align language models by rules a program can check and principles a reader can judge.

    recipe = charter.load_recipe("recipes/quickstart.toml", run={"steps": 5})
    run = charter.train(recipe)
    print(run.summary["reward_last"])

Each function imports what it needs when it is called: `import charter` loads neither torch nor pydantic.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from charter.protocols import Reward
    from charter.recipe import Recipe
    from charter.run.reader import Run

__version__ = "0.1.0"

__all__ = ["__version__", "load_recipe", "load_reward", "open_run", "train"]


def load_recipe(path: str | Path, **overrides: Any) -> Recipe:
    """Read a recipe, with keys laid over it.

    Args:
        path: a TOML file.
        overrides: keys and values, nested (`run={"steps": 5}`) or dotted (`**{"run.steps": 5}`). A text is read as on
            the command line; any other value is taken as it is.

    Returns:
        the recipe, checked; its keys are attributes: `recipe.run.steps`.

    Raises:
        charter.errors.RecipeError: with every problem there is: file, line, key, what was found, what to do.
    """
    from charter.recipe import load_recipe as load

    return load(path, overrides)


def train(recipe: Recipe, *, run_dir: str | Path | None = None, resume: bool = False) -> Run:
    """Train as `charter train` does and open the run. Ctrl-C once ends it after its step, with everything saved.

    Works in a notebook too, where an event loop is running already: the run then has a thread of its own.

    Args:
        recipe: what to do. run_dir: folder of the run; `runs/NAME` when left out, NAME being `recipe.run.name` or the
            method. resume: go on from the newest checkpoint.

    Returns:
        the run's folder, opened for reading.

    Raises:
        charter.errors.CharterError: the recipe, the data, the folder or the work itself; the sentence says which.
    """
    from charter.cli.train import train_recipe

    if not _loop_is_running():
        return train_recipe(recipe, run_dir=run_dir, resume=resume)
    from concurrent.futures import ThreadPoolExecutor

    from charter.cli.session import StopRequest

    stop = StopRequest()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="charter-train")
    job = thread.submit(train_recipe, recipe, run_dir=run_dir, resume=resume, stop=stop)
    try:
        while True:
            try:
                return job.result()
            except KeyboardInterrupt:
                if stop.asked:
                    raise
                stop.asked = True
    finally:
        thread.shutdown(wait=False)


def load_reward(name_or_function: str | Callable[..., Any], **options: Any) -> Reward:
    """One reward, ready to score.

    Args:
        name_or_function: a built-in name, `path/to/file.py:function`, `package.module:function`, or a function object
            with TRL's signature (which runs in a thread and cannot be killed, only abandoned).
        options: of the reward itself; `weight` and `timeout_s` (seconds per completion) for any.

    Returns:
        a `charter.protocols.Reward`: `await reward.score(group)`, and `await reward.close()` when done.

    Raises:
        charter.errors.UsageError: an unknown name or option; MissingExtra: an optional package is not installed.
    """
    from charter.cli.reward_builders import reward_builders
    from charter.reward import load_reward as load

    return load(name_or_function, builders=reward_builders(), **options)


def open_run(dir: str | Path) -> Run:
    """A run folder, for reading: `metrics`, `rollouts(step)`, `summary`, `recipe_text`, `latest_checkpoint`.

    Args: dir: folder that `charter train` wrote, finished or still being written.
    Raises: charter.errors.StoreError: that is no run.
    """
    from charter.run.reader import open_run as open_folder

    return open_folder(dir)


def _loop_is_running() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _TrainRoom(ModuleType):
    """The package `charter.train`, which shares its name with the function above.

    Importing anything of the package would put the package in the function's place; so the package itself is what
    `charter.train` always is, and calling it calls the function.
    """

    def __call__(self, recipe: Recipe, *, run_dir: str | Path | None = None, resume: bool = False) -> Run:
        return _train(recipe, run_dir=run_dir, resume=resume)


_train = train
_TrainRoom.__call__.__doc__ = train.__doc__
importlib.import_module("charter.train").__class__ = _TrainRoom
