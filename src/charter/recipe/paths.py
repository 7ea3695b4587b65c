"""File names in a recipe: looked for beside the recipe, then in the current folder."""

# pyright: strict

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from charter.recipe.tables import RewardTable, Table

_FILE_SUFFIXES = {".csv", ".json", ".jsonl", ".parquet", ".py", ".toml", ".txt"}
TableT = TypeVar("TableT", bound=BaseModel)
Found = Callable[[str, str], str]
"""(name as written, dotted key) → the name that works from here."""


def with_found_files(recipe: TableT, folder: Path, overridden: set[str]) -> TableT:
    """The recipe with each relative file name that exists beside it written so that it works from here.

    Which keys may hold such a name, their table says (`Table.file_keys`, `Table.model_keys`). Names that stand for
    something else (an asset, `hf:NAME`, a built-in reward) and names of files that do not exist stay as they are;
    whoever opens them reports them.

    Args:
        recipe: of any kind. folder: the recipe's own. overridden: dotted keys set on the command line, whose names are
            meant from here.
    """

    def file(name: str, key: str) -> str:
        order = (Path(), folder) if key in overridden else (folder, Path())
        return _from_here(name, order)

    def model(name: str, key: str) -> str:
        beside = folder / name
        return _relative(beside) if key not in overridden and name and _is_model(beside) else name

    return _walk(recipe, "", file, model)


def _walk(table: TableT, prefix: str, file: Found, model: Found) -> TableT:
    """The table, and every table in it, with its names found; what does not change stays as it is, set or left out."""
    if isinstance(table, RewardTable):
        return cast("TableT", _reward(table, prefix, file, model))
    files, models = (table.file_keys, table.model_keys) if isinstance(table, Table) else ((), ())
    changed: dict[str, Any] = {}
    for name in type(table).model_fields:
        key, value = f"{prefix}{name}", getattr(table, name)
        found = file if name in files else model if name in models else None
        if isinstance(value, BaseModel):
            new: Any = _walk(value, f"{key}.", file, model)
        elif isinstance(value, str) and found:
            new = found(value, key)
        elif isinstance(value, list):
            new = [_entry(e, f"{key}.{i}", key, found, file, model) for i, e in enumerate(cast("list[Any]", value))]
        else:
            continue
        if new != value:
            changed[name] = new
    return table.model_copy(update=changed) if changed else table


def _entry(entry: Any, place: str, key: str, found: Found | None, file: Found, model: Found) -> Any:
    if isinstance(entry, BaseModel):
        return _walk(entry, f"{place}.", file, model)
    return found(entry, key) if found and isinstance(entry, str) else entry


def _reward(reward: RewardTable, prefix: str, found: Found, model: Found) -> RewardTable:
    update: dict[str, object] = {}
    file, colon, function = reward.name.rpartition(":")
    if colon and file.endswith(".py"):
        update["name"] = f"{found(file, f'{prefix}name')}:{function}"
    for option, value in reward.options.items():
        if isinstance(value, str) and Path(value).suffix in _FILE_SUFFIXES:
            update[option] = found(value, f"{prefix}{option}")
        elif option == "folder" and isinstance(value, str):
            update[option] = found(f"{value.rstrip('/') or '/'}/", f"{prefix}{option}")
        elif option == "model" and isinstance(value, str):
            update[option] = model(value, f"{prefix}{option}")
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


def _is_model(folder: Path) -> bool:
    marks = ("config.json", "bag_of_words.json", "latest/model/config.json")  # a model, a bag of words, a run
    try:
        return any((folder / mark).is_file() for mark in marks)
    except (OSError, ValueError):
        return False


def _relative(path: Path) -> str:
    """The path from the current folder where it lies inside it, else the absolute one."""
    absolute, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(absolute, here) if absolute.startswith(here + os.sep) else absolute
