"""TOML and overrides → a recipe of any kind, or every problem at once."""

# pyright: strict

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from charter.errors import Problem, RecipeError
from charter.recipe.checks import Conflict, conflicts
from charter.recipe.explaining import explain_error, nearest_key
from charter.recipe.keys import holds_tables
from charter.recipe.kinds import other_kind
from charter.recipe.lines import key_lines, line_of
from charter.recipe.overrides import Overrides, apply_override, dotted, parse_overrides, with_numbers
from charter.recipe.paths import with_found_files
from charter.recipe.tables import Recipe

KeyPath = tuple[str | int, ...]
RootT = TypeVar("RootT", bound=BaseModel)
Conflicts = Callable[[RootT], Sequence[Conflict]]


def load_recipe(path: str | Path, overrides: Overrides = ()) -> Recipe:
    """Read a training recipe; as `load_root`."""
    return load_root(path, overrides, Recipe, conflicts=conflicts)


def load_root(
    path: str | Path, overrides: Overrides, root: type[RootT], *, conflicts: Conflicts[RootT] | None = None
) -> RootT:
    """Read a recipe of any kind.

    Args:
        path: a TOML file.
        overrides: `key=value` strings or a mapping of dotted keys, laid over the file; see `parse_overrides`.
        root: the kind of recipe: the model of the whole file.
        conflicts: what in such a recipe makes no sense together; nothing is checked when left out.

    Returns:
        the recipe, its relative file names made such that they work from the current folder: a name in the file is
        looked for beside the recipe first, then in the current folder; a name in an override the other way round.

    Raises:
        RecipeError: with every problem there is, each with the file, line and key, what was found and what to do; for
            a recipe of another kind, the verb that takes it.
    """
    file = Path(path)
    text, values = read_toml(file)
    settings, problems = parse_overrides(overrides, root)
    overridden: set[KeyPath] = set()
    for named, value in settings:
        key = with_numbers(values, named)
        problem = apply_override(values, key, value)
        problems += [problem] if problem else []
        overridden.add(key)
    places = _Places(str(file), key_lines(text), overridden)
    if other := other_kind(values.get("method"), root, str(file)):
        raise RecipeError([Problem(where=places(("method",)), found=other[0], fix=other[1])])
    recipe, more = _Reading(root, conflicts or (lambda _: ()), places).validate(values)
    if recipe is None or problems or more:
        raise RecipeError([*problems, *more])
    return with_found_files(recipe, file.parent, {dotted(key) for key in overridden})


@overload
def check_recipe(recipe: Recipe) -> Recipe: ...
@overload
def check_recipe(recipe: RootT, conflicts: Conflicts[RootT]) -> RootT: ...
def check_recipe(recipe: Any, conflicts: Conflicts[Any] = conflicts) -> Any:
    """Refuse a recipe, made in Python, whose values make no sense together.

    conflicts: what makes no sense together in a recipe of its kind; a training recipe's when left out.

    Raises:
        RecipeError: with every problem there is.
    """
    problems = [Problem(where=c.key, found=c.found, fix=c.fix) for c in conflicts(recipe)]
    if problems:
        raise RecipeError(problems)
    return recipe


def read_toml(file: Path) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and its values. Raises: RecipeError naming the file, and the line where it can."""

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


@dataclass(frozen=True, slots=True)
class _Reading(Generic[RootT]):
    """The values of one file, judged as one kind of recipe."""

    root: type[RootT]
    conflicts: Conflicts[RootT]
    places: _Places

    def validate(self, values: dict[str, Any]) -> tuple[RootT | None, list[Problem]]:
        """The recipe (None when a value is wrong in itself) and everything wrong with it."""
        try:
            recipe = self.root.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=True)
            problems = self.problems(details)
            rest = self.without(values, details)
            remaining = self.apart_from(rest, {self.key_of(d) for d in details}) if rest else ()
            return None, problems + [self.at(c) for c in remaining]
        return recipe, [self.at(c) for c in self.conflicts(recipe)]

    def key_of(self, detail: ErrorDetails) -> KeyPath:
        """The key an error is about: pydantic adds the tried member of a union, or the entry of a list, to the path."""
        path = detail["loc"]
        for index, part in enumerate(path):
            entry = isinstance(part, int) and not holds_tables(path[:index], self.root)
            if entry or (isinstance(part, str) and re.match(r"(list|literal|tuple|dict)\[", part)):
                return path[:index]
            if part in ("number", "table") and path[index - 1 : index] == ("weight",):
                return (*path[:index], *path[index + 1 :])
        return path

    def problems(self, details: list[ErrorDetails]) -> list[Problem]:
        by_key: dict[KeyPath, list[ErrorDetails]] = {}
        for detail in details:
            by_key.setdefault(self.key_of(detail), []).append(detail)
        problems: list[Problem] = []
        for path, group in by_key.items():
            found, fix = explain_error(path, group, self.root)
            problems.append(Problem(where=self.places(path), found=found, fix=fix))
        return problems

    def without(self, values: dict[str, Any], details: list[ErrorDetails]) -> RootT | None:
        """The recipe with the wrong keys at their defaults, so that the checks across keys can still speak."""
        kept = copy.deepcopy(values)
        for path in sorted({self.key_of(d) for d in details}, key=len, reverse=True):
            if path in (("method",), ()):
                return None
            if "rewards" in path:
                path = path[: path.index("rewards") + 1]
            where: Any = kept
            for part in path[:-1]:
                where = _inside(where, part)
            if isinstance(where, dict):
                cast("dict[Any, Any]", where).pop(path[-1], None)
        kept.setdefault("model", "unnamed")
        try:
            return self.root.model_validate(kept)
        except ValidationError:
            return None

    def apart_from(self, recipe: RootT, wrong: set[KeyPath]) -> Iterator[Conflict]:
        """Conflicts that do not come from a key that was wrong, or misspelt, and stands at its default now."""
        doubtful = {dotted(path) for path in wrong}
        doubtful |= {dotted((*path[:-1], near)) for path in wrong if path and (near := nearest_key(path, self.root))}
        doubtful |= {dotted(path[: path.index("rewards") + 1]) for path in wrong if "rewards" in path}
        for conflict in self.conflicts(recipe):
            keys = {conflict.key, *conflict.others}
            if not (keys | {key.rpartition(".")[0] for key in keys}) & doubtful:
                yield conflict

    def at(self, conflict: Conflict) -> Problem:
        """The conflict where its key stands, or the key it conflicts with when it is left out itself."""
        keys: list[KeyPath] = [
            tuple(int(part) if part.isdecimal() else part for part in key.split("."))
            for key in (conflict.key, *conflict.others)
        ]
        present = next((key for key in keys if self.places.knows(key)), keys[0])
        where = self.places(present) if present == keys[0] else f"{self.places(present)} and {conflict.key}"
        return Problem(where=where, found=conflict.found, fix=conflict.fix)


def _inside(table: Any, part: str | int) -> Any:
    """What a table or a list holds under a key or an index; an empty table where there is nothing."""
    if isinstance(table, dict):
        return cast("dict[Any, Any]", table).get(part, {})
    entries = cast("list[Any]", table) if isinstance(table, list) else []
    return entries[part] if isinstance(part, int) and part < len(entries) else {}
