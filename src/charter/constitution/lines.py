"""On which line of a constitution's file each key stands: tomllib gives values without positions.

It reads only headers, keys, and where values end; whether the text is valid TOML has been settled before.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.?)""")
_INSIDE = re.compile(r'''"""|\'\'\'|"(?:[^"\\]|\\.)*"|'[^']*'|#|[\[\]{}]''')
_CLOSES = {'"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*"""', re.DOTALL), "'''": re.compile(r".*?'''", re.DOTALL)}


def key_lines(text: str) -> dict[Path, int]:
    """Path of a header or key (entries of arrays of tables by index) → line, counted from 1."""
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    position, number = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].strip()
        if line.startswith("["):
            several = line.startswith("[[")
            table = _resolved(_path(line[2 if several else 1 :])[0], arrays)
            if several:
                lines.setdefault(table, number)
                arrays[table] = arrays.get(table, -1) + 1
                table = (*table, arrays[table])
            lines.setdefault(table, number)
        elif line and not line.startswith("#"):
            keys, length = _path(text[position:end])
            for count in range(1, len(keys) + 1):
                lines.setdefault((*table, *keys[:count]), number)
            end = _value_end(text, position + length)
        number += text.count("\n", position, end + 1)
        position = end + 1
    return lines


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """Line of a key, or of the nearest one that encloses it."""
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)


def _path(text: str) -> tuple[tuple[str, ...], int]:
    """The dotted key at the start of the text, and how long it is."""
    keys: list[str] = []
    position = 0
    while found := _KEY.match(text, position):
        keys.append(next(group for group in found.groups()[:3] if group is not None))
        position = found.end()
        if not found[4]:
            break
    return tuple(keys), position


def _resolved(path: tuple[str, ...], arrays: dict[Path, int]) -> Path:
    """The path with the index of the newest entry after each array of tables it passes through."""
    walked: Path = ()
    for index, part in enumerate(path):
        walked = (*walked, part)
        if walked in arrays and index < len(path) - 1:
            walked = (*walked, arrays[walked])
    return walked


def _value_end(text: str, position: int) -> int:
    """Where the line ends on which the value that begins here ends."""
    depth = 0
    while True:
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        found = _INSIDE.search(text, position, line_end)
        if found is None or found[0] == "#":
            if depth <= 0 or line_end == len(text):
                return line_end
            position = line_end + 1
        elif found[0] in _CLOSES:
            closed = _CLOSES[found[0]].match(text, found.end())
            if closed is None:
                return len(text)
            position = closed.end()
            while text[position : position + 1] == found[0][0]:  # up to two quotes may stand before the closing three
                position += 1
        else:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            position = found.end()
