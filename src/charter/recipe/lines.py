"""Where each key of a TOML text stands, so that a problem can name its line.

tomllib gives values without positions. This reads only keys, headers and where values end; whether the
text is valid TOML has been settled by tomllib before.
"""

# pyright: strict

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_KEY_PART = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([A-Za-z0-9_-]+))\s*")
_STRING = re.compile(r"\"\"\"|'''|\"(?:[^\"\\]|\\.)*\"|'[^']*'")


def key_lines(text: str) -> dict[Path, int]:
    """Line of every table header and of every key outside inline tables.

    Args:
        text: a valid TOML document.

    Returns:
        path of the key (array-of-tables entries by index) → line, counted from 1.
    """
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    open_value = _OpenValue()
    for number, line in enumerate(text.splitlines(), start=1):
        if open_value.unfinished:
            open_value.read(line)
            continue
        stripped = line.strip()
        if stripped.startswith("[["):
            path = _inside_arrays(_key_path(stripped[2:])[0], arrays)
            arrays[path] = arrays.get(path, -1) + 1
            table = (*path, arrays[path])
            lines[table] = number
            lines.setdefault(path, number)
        elif stripped.startswith("["):
            table = _inside_arrays(_key_path(stripped[1:])[0], arrays)
            lines.setdefault(table, number)
        elif stripped and not stripped.startswith("#"):
            path, rest = _key_path(stripped)
            for length in range(1, len(path) + 1):
                lines.setdefault((*table, *path[:length]), number)
            open_value.read(rest)
    return lines


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """Line of a key, or of the nearest table or key that encloses it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _OpenValue:
    """Whether the value that was begun goes on over the next line."""

    def __init__(self) -> None:
        self.quote = ""
        self.depth = 0

    @property
    def unfinished(self) -> bool:
        return bool(self.quote) or self.depth > 0

    def read(self, line: str) -> None:
        position = 0
        while position < len(line):
            if self.quote:
                end = line.find(self.quote, position)
                while self.quote == '"""' and end > 0 and _escaped(line, end):
                    end = line.find(self.quote, end + 1)
                if end < 0:
                    return
                position, self.quote = end + 3, ""
            elif line[position] == "#":
                return
            elif found := _STRING.match(line, position):
                position = found.end()
                if found.group() in ('"""', "'''"):
                    self.quote = found.group()
            else:
                self.depth += (line[position] in "[{") - (line[position] in "]}")
                position += 1


def _escaped(line: str, position: int) -> bool:
    """Whether an odd number of backslashes stands before the position."""
    before = line[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _key_path(text: str) -> tuple[Path, str]:
    """The dotted key at the start of the text, and what follows it."""
    parts: list[str] = []
    position = 0
    while found := _KEY_PART.match(text, position):
        parts.append(next(group for group in found.groups() if group is not None))
        position = found.end()
        if text[position : position + 1] != ".":
            break
        position += 1
    return tuple(parts), text[position:]


def _inside_arrays(path: Path, arrays: dict[Path, int]) -> Path:
    """The path with the index of the newest entry after each array of tables it passes through."""
    walked: Path = ()
    for index, part in enumerate(path):
        walked = (*walked, part)
        if walked in arrays and index < len(path) - 1:
            walked = (*walked, arrays[walked])
    return walked
