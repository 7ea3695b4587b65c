"""File names in a recipe: looked for beside the recipe, then in the current folder."""

# pyright: strict

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from charter.recipe.tables import DataTable, Recipe, RewardTable

_DATA_FILES = ("prompts", "examples", "pairs")
_FILE_SUFFIXES = {".csv", ".json", ".jsonl", ".parquet", ".py", ".toml", ".txt"}


def with_found_files(recipe: Recipe, folder: Path, overridden: set[str]) -> Recipe:
    """The recipe with each relative file name that exists beside it written so that it works from here.

    Names that stand for something else (an asset, `hf:NAME`, a built-in reward) and names of files that do not
    exist stay as they are; whoever opens them reports them.

    Args:
        folder: the recipe's own. overridden: dotted keys set on the command line, whose names are meant from here.
    """

    def found(name: str, key: str) -> str:
        order = (Path(), folder) if key in overridden else (folder, Path())
        return _from_here(name, order)

    data = recipe.data.model_copy(
        update={
            key: found(name, f"data.{key}")
            for key in ("prompts", "examples", "pairs")
            if (name := _name(recipe.data, key))
        }
    )
    rewards = [_reward(reward, f"rewards.{index}", found) for index, reward in enumerate(recipe.rewards)]
    beside = folder / recipe.model
    model = _relative(beside) if "model" not in overridden and (beside / "config.json").is_file() else recipe.model
    return recipe.model_copy(update={"data": data, "rewards": rewards, "model": model})


def _name(table: DataTable, key: str) -> str | None:
    return {"prompts": table.prompts, "examples": table.examples, "pairs": table.pairs}[key]


def _reward(reward: RewardTable, key: str, found: Callable[[str, str], str]) -> RewardTable:
    update: dict[str, object] = {}
    file, colon, function = reward.name.rpartition(":")
    if colon and file.endswith(".py"):
        update["name"] = f"{found(file, f'{key}.name')}:{function}"
    for option, value in reward.options.items():
        if isinstance(value, str) and Path(value).suffix in _FILE_SUFFIXES:
            update[option] = found(value, f"{key}.{option}")
        elif option == "folder" and isinstance(value, str):
            update[option] = found(f"{value.rstrip('/') or '/'}/", f"{key}.{option}")
    return RewardTable.model_validate({**reward.model_dump(), **update})


def _from_here(name: str, order: tuple[Path, ...]) -> str:
    """The first of the folders' files of that name, or folders where the name ends in a slash."""
    expanded = Path(name).expanduser()
    if expanded.is_absolute():
        return str(expanded)
    for folder in order:
        try:
            if (folder / expanded).is_dir() if name.endswith("/") else (folder / expanded).is_file():
                return _relative(folder / expanded)
        except (OSError, ValueError):  # not a possible file name, so it names something else
            return name
    return name


def _relative(path: Path) -> str:
    """The path from the current folder where it lies inside it, else the absolute one."""
    absolute, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(absolute, here) if absolute.startswith(here + os.sep) else absolute
