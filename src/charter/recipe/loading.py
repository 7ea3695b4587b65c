"""TOML and overrides → Recipe, or every problem at once."""

# pyright: strict

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from charter.errors import Problem, RecipeError
from charter.recipe.checks import Conflict, conflicts
from charter.recipe.explaining import explain_error, nearest_key
from charter.recipe.lines import key_lines, line_of
from charter.recipe.overrides import Overrides, apply_override, dotted, parse_overrides
from charter.recipe.paths import with_found_files
from charter.recipe.tables import Recipe

KeyPath = tuple[str | int, ...]


def load_recipe(path: str | Path, overrides: Overrides = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file.
        overrides: `key=value` strings or a mapping of dotted keys, laid over the file; see `parse_overrides`.

    Returns:
        the recipe, its relative file names made such that they work from the current folder: a name in the file is
        looked for beside the recipe first, then in the current folder; a name in an override the other way round.

    Raises:
        RecipeError: with every problem there is, each with the file, line and key, what was found and what to do.
    """
    file = Path(path)
    text, values = _read(file)
    settings, problems = parse_overrides(overrides)
    overridden: set[KeyPath] = set()
    for key, value in settings:
        problem = apply_override(values, key, value)
        problems += [problem] if problem else []
        overridden.add(key)
    places = _Places(str(file), key_lines(text), overridden)
    recipe, more = _validate(values, places)
    if recipe is None or problems or more:
        raise RecipeError([*problems, *more])
    return with_found_files(recipe, file.parent, {dotted(key) for key in overridden})


def check_recipe(recipe: Recipe) -> Recipe:
    """Refuse a recipe, made in Python, whose values make no sense together.

    Raises:
        RecipeError: with every problem there is.
    """
    problems = [Problem(where=c.key, found=c.found, fix=c.fix) for c in conflicts(recipe)]
    if problems:
        raise RecipeError(problems)
    return recipe


class _Places:
    """Says where a key stands: file and line, or the override that set it."""

    def __init__(self, file: str, lines: dict[KeyPath, int], overridden: set[KeyPath]) -> None:
        self.file, self.lines, self.overridden = file, lines, overridden

    def knows(self, path: KeyPath) -> bool:
        return path in self.lines or path in self.overridden

    def __call__(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return f"override {dotted(path)}"
        line = line_of(path, self.lines)
        return f"{self.file}{f':{line}' if line else ''} {dotted(path)}"


def _validate(values: dict[str, Any], places: _Places) -> tuple[Recipe | None, list[Problem]]:
    """The recipe (None when a value is wrong in itself) and everything wrong with it."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        problems = _problems(details, values, places)
        rest = _without(values, details)
        remaining = _conflicts_apart_from(rest, {_key_of(d) for d in details}) if rest else ()
        return None, problems + [_at(c, places) for c in remaining]
    return recipe, [_at(c, places) for c in conflicts(recipe)]


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    def refuse(where: str, found: str, fix: str) -> RecipeError:
        return RecipeError([Problem(where=where, found=found, fix=fix)])

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise refuse(str(file), "there is no such file", "Check the path") from None
    except UnicodeDecodeError as error:
        raise refuse(str(file), f"it is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None
    except OSError as error:
        raise refuse(str(file), f"it cannot be read: {error.strerror}", "Name a readable TOML file") from None
    # tomllib takes only \n and \r\n, and an editor may leave either
    try:
        return text, tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
        if found:
            message, where = found[1], f"{file}:{found[2]}:{found[3]}"
        else:
            message, where = str(error), f"{file}:{len(text.splitlines())}"
        raise refuse(where, f"it is not valid TOML: {message}", "Texts need quotes; a table is [name]") from None


def _key_of(detail: ErrorDetails) -> KeyPath:
    """The key an error is about: pydantic adds the tried member of a union, or the entry of a list, to the path."""
    path = detail["loc"]
    if path[:1] == ("rewards",) and path[2:3] == ("weight",) and path[3:4] in (("number",), ("table",)):
        return (*path[:3], *path[4:])
    for index, part in enumerate(path):
        entry = isinstance(part, int) and path[0] != "rewards"
        if entry or (isinstance(part, str) and re.match(r"(list|literal|tuple|dict)\[", part)):
            return path[:index]
    return path


def _problems(details: list[ErrorDetails], values: dict[str, Any], places: _Places) -> list[Problem]:
    by_key: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        by_key.setdefault(_key_of(detail), []).append(detail)
    problems: list[Problem] = []
    for path, group in by_key.items():
        found, fix = explain_error(path, group, values)
        problems.append(Problem(where=places(path), found=found, fix=fix))
    return problems


def _without(values: dict[str, Any], details: list[ErrorDetails]) -> Recipe | None:
    """The recipe with the wrong keys at their defaults, so that the checks across keys can still speak."""
    kept = copy.deepcopy(values)
    for path in sorted({_key_of(d) for d in details}, key=len, reverse=True):
        if path in (("method",), ()):
            return None
        if path[0] == "rewards":
            kept.pop("rewards", None)
            continue
        where: Any = kept
        for part in path[:-1]:
            where = cast("dict[Any, Any]", where).get(part, {}) if isinstance(where, dict) else {}
        if isinstance(where, dict):
            cast("dict[Any, Any]", where).pop(path[-1], None)
    kept.setdefault("model", "unnamed")
    try:
        return Recipe.model_validate(kept)
    except ValidationError:
        return None


def _conflicts_apart_from(recipe: Recipe, wrong: set[KeyPath]) -> Iterator[Conflict]:
    """Conflicts that do not come from a key that was wrong, or misspelt, and stands at its default now."""
    doubtful = {dotted(path) for path in wrong}
    doubtful |= {dotted((*path[:-1], near)) for path in wrong if path and (near := nearest_key(path))}
    doubtful |= {"rewards"} if any(path[:1] == ("rewards",) for path in wrong) else set()
    for conflict in conflicts(recipe):
        keys = {conflict.key, *conflict.others}
        if not (keys | {key.rpartition(".")[0] for key in keys}) & doubtful:
            yield conflict


def _at(conflict: Conflict, places: _Places) -> Problem:
    """The conflict where its key stands, or the key it conflicts with when it is left out itself."""
    keys: list[KeyPath] = [
        tuple(int(part) if part.isdecimal() else part for part in key.split("."))
        for key in (conflict.key, *conflict.others)
    ]
    present = next((key for key in keys if places.knows(key)), keys[0])
    where = places(present) if present == keys[0] else f"{places(present)} and {conflict.key}"
    return Problem(where=where, found=conflict.found, fix=conflict.fix)
