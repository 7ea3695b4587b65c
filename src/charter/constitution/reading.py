"""TOML → Constitution, or every problem at once with its file, line and key."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from charter.constitution.lines import Path as KeyPath
from charter.constitution.lines import key_lines, line_of
from charter.constitution.principles import SHIPPED, Check, Constitution, Principle, shipped_constitutions
from charter.errors import DataError

_KINDS: Mapping[str, str] = {
    "name": "text", "version": "version", "prose": "text", "id": "text", "title": "text", "text": "text",
    "reason": "text", "weight": "number", "tags": "texts", "critique": "text", "revision": "text", "preference": "text",
    "question": "text", "wanted": "flag", "program": "text",
}  # fmt: skip
_EXPECTED = {
    "text": 'a text in quotes', "version": 'a text in quotes', "number": "a number, such as 1.0",
    "flag": "true or false", "texts": 'a list of texts, such as ["harmless"]',
}  # fmt: skip


def read_constitution(path_or_name: str | Path) -> Constitution:
    """A shipped constitution by its name, or any by its path; see `Constitution.load`."""
    names = shipped_constitutions()
    if str(path_or_name) in names:
        file = SHIPPED / f"{path_or_name}.toml"
    else:
        file = Path(path_or_name)
        if not file.is_file():
            near = difflib.get_close_matches(str(path_or_name), names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Shipped ones are: {', '.join(names)}"
            raise DataError(f"{path_or_name}: there is no such constitution and no such file. {hint}")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: it is not UTF-8 text (byte {error.start}). Save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{file}: it cannot be read: {error.strerror}. Name a readable TOML file") from None
    return parse_constitution(text, str(file))


def parse_constitution(text: str, source: str = "") -> Constitution:
    """A constitution out of the text of its file.

    Raises: DataError with every problem there is.
    """
    text = text.replace("\r\n", "\n")  # tomllib takes only \n, and an editor may leave either
    shown = source or "the constitution"
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
        message, place = (found[1], f":{found[2]}:{found[3]}") if found else (str(error), f":{text.count(chr(10)) + 1}")
        raise DataError(
            f"{shown}{place}: it is not valid TOML: {message}. Texts need quotes; a principle begins with [[principle]]"
        ) from None
    reader = _Reader(shown, key_lines(text))
    constitution = reader.constitution(values, source)
    if reader.problems:
        count = "1 problem" if len(reader.problems) == 1 else f"{len(reader.problems)} problems"
        raise DataError(f"{count} in the constitution:\n" + "\n".join(f"  {line}" for line in reader.problems))
    return constitution


class _Reader:
    """Walks the values and collects what is wrong with them."""

    def __init__(self, shown: str, lines: dict[KeyPath, int]) -> None:
        self.shown, self.lines = shown, lines
        self.problems: list[str] = []

    def wrong(self, path: KeyPath, found: str, fix: str) -> None:
        line = line_of(path, self.lines)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        self.problems.append(f"{self.shown}{f':{line}' if line else ''} {key}: {found}. {fix}")

    def constitution(self, values: Mapping[str, Any], source: str) -> Constitution:
        known = {"name", "version", "prose", "principle"}
        plain = self.table({key: value for key, value in values.items() if key != "principle"}, (), known)
        principles = tuple(
            self.principle(entry, ("principle", index))
            for index, entry in enumerate(self.tables(values.get("principle", []), ("principle",)))
        )
        if "principle" not in values:
            self.wrong((), "it has no principles", "Write each as a [[principle]] table with an id and a text")
        name = {"name": Path(source).stem if source else "unnamed"}
        return Constitution(**(name | plain), principles=principles, source=source, lines=self.lines)

    def principle(self, entry: Mapping[str, Any], path: KeyPath) -> Principle:
        known = {field.name for field in fields(Principle)}
        plain = self.table({key: value for key, value in entry.items() if key != "checks"}, path, known)
        checks = tuple(
            self.check(check, (*path, "checks", index))
            for index, check in enumerate(self.tables(entry.get("checks", []), (*path, "checks")))
        )
        self.required(entry, plain, path, ("id", "text"))
        return Principle(**{"id": "", "text": "", **plain}, checks=checks)

    def check(self, entry: Mapping[str, Any], path: KeyPath) -> Check:
        plain = self.table(entry, path, {field.name for field in fields(Check)})
        self.required(entry, plain, path, ("question",))
        return Check(**{"question": "", **plain})

    def required(
        self, entry: Mapping[str, Any], plain: Mapping[str, Any], path: KeyPath, keys: tuple[str, ...]
    ) -> None:
        for key in keys:
            if key not in entry:
                self.wrong((*path, key), "it is missing", f'Add {key} = "…"')
            elif key == "id" and key in plain and not plain[key].strip():
                self.wrong((*path, key), "it is empty", 'Give a short name, such as id = "calm"')

    def tables(self, value: Any, path: KeyPath) -> list[Mapping[str, Any]]:
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            return value
        name = ".".join(str(part) for part in path if isinstance(part, str))
        self.wrong(path, f"found {_said(value)}, expected a list of tables", f"Begin each with [[{name}]]")
        return []

    def table(self, values: Mapping[str, Any], path: KeyPath, known: set[str]) -> dict[str, Any]:
        """The values that are right, the others reported."""
        kept: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1)
                fix = f"Did you mean {near[0]!r}?" if near else f"The keys are: {', '.join(sorted(known))}"
                self.wrong((*path, key), "there is no such key", fix)
                continue
            kind = _KINDS[key]
            read = _read(kind, value)
            if read is None:
                self.wrong((*path, key), f"found {_said(value)}, expected {_EXPECTED[kind]}", "Write it so")
            else:
                kept[key] = read
        return kept


def _read(kind: str, value: Any) -> Any:
    """The value as its field has it, or None where it is of another kind."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "texts":
        texts: list[Any] = value if isinstance(value, list) else [None]
        return tuple(texts) if all(isinstance(item, str) for item in texts) else None
    if kind == "number":
        return float(value) if number and math.isfinite(value) else None
    if kind == "version" and number:
        return str(value)
    return value if isinstance(value, bool if kind == "flag" else str) else None


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
