"""The worker's side of `csv`: read the table in a completion strictly, check it, compare it.

Cells are text and equal as text ("007" is not "7") unless the column is numeric: by its type in `columns`, or because
the expected cells are JSON numbers. Rows of unequal length, blank lines inside, unclosed quotes and text after a
closing quote are wrong.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from charter.reward.extract import find_place
from charter.reward.table import Cell, same_cell, table_fault, unmatched

LONGEST = 1_000_000
"""Characters of a table."""
MOST_CELLS = 200_000
TYPES = ("string", "integer", "number", "boolean", "date", "datetime")
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{5,15}(?:Z|[+-][0-9]{2}:?[0-9]{2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """header: names, or None where there is no header row. rows: cells as they were written."""

    header: list[str] | None
    rows: list[list[str]]


def parse_table(text: str, options: Mapping[str, Any]) -> Table:
    """The table in a CSV text. Raises: ValueError that says what is wrong, with the row's number."""
    text = text.strip("\r\n")
    if not text.strip():
        raise ValueError("there is no table")
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters; {LONGEST} at most")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=options["delimiter"], quotechar=options["quote"], strict=True
    )
    rows: list[list[str]] = []
    cells = 0
    try:
        for number, row in enumerate(reader, start=1):
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"row {number} has {len(row)} cells; the first has {len(rows[0])}")
            cells += len(row)
            if cells > MOST_CELLS:
                raise ValueError(f"more than {MOST_CELLS} cells")
            rows.append([cell.strip() for cell in row] if options["trim"] else row)
    except csv.Error as error:
        raise ValueError(f"not CSV: row {len(rows) + 1}: {error}") from None
    if not rows[0]:
        raise ValueError("the first row is empty")
    return Table(header=rows[0], rows=rows[1:]) if options["header"] else Table(header=None, rows=rows)


def _as_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return cell if isinstance(cell, str) else repr(cell) if isinstance(cell, float) else str(cell)


def read_expected(given: Any, options: Mapping[str, Any]) -> tuple[Table, set[int]]:
    """The expected table and the columns whose cells are JSON numbers. Raises: ValueError."""
    if isinstance(given, str):
        return parse_table(given, options), set()
    if not isinstance(given, list) or not given:
        raise ValueError(f"{given!r:.80} is no table; expected CSV text, a list of rows, or a list of objects")
    if all(isinstance(row, dict) for row in given):
        names = list(given[0])
        if any(row.keys() != given[0].keys() for row in given):
            raise ValueError("the objects of the list have different keys")
        raw = [[row[name] for name in names] for row in given]
        header: list[str] | None = [str(name) for name in names] if options["header"] else None
    elif all(isinstance(row, list) and len(row) == len(given[0]) for row in given):
        header = [_as_text(name) for name in given[0]] if options["header"] else None
        raw = given[1:] if options["header"] else given
    else:
        raise ValueError("the rows of the list are not lists of one length, or objects")
    width = len(given[0])
    numeric = {
        i
        for i in range(width)
        if (column := [row[i] for row in raw if row[i] is not None])
        and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in column)
    }
    return Table(header=header, rows=[[_as_text(cell) for cell in row] for row in raw]), numeric


def _is_iso(cell: str, kind: str) -> bool:
    try:
        if kind == "date":
            return _DATE.fullmatch(cell) is not None and date.fromisoformat(cell) is not None
        return _DATETIME.fullmatch(cell) is not None and datetime.fromisoformat(cell) is not None
    except ValueError:
        return False


def is_of_type(cell: str, kind: str) -> bool:
    """Whether a cell is of a type; an empty or blank one only where the type ends in "?"."""
    if not cell.strip():
        return kind.endswith("?")
    kind = kind.removesuffix("?")
    if kind == "integer":
        return _INTEGER.fullmatch(cell) is not None
    if kind == "number":
        return _NUMBER.fullmatch(cell) is not None
    if kind == "boolean":
        return cell.lower() in ("true", "false")
    return kind == "string" or _is_iso(cell, kind)


def _value(cell: str, numeric: bool) -> Cell:
    return Decimal(cell) if numeric and _NUMBER.fullmatch(cell) else cell


def _spec_fault(table: Table, options: Mapping[str, Any]) -> tuple[str, int, int]:
    """What breaks the spec first, sound cells, all cells; no sound cells where the shape is wrong."""
    count, columns = len(table.rows), options["columns"]
    everything = count * len(table.rows[0]) if table.rows else 0
    if options["rows"] is not None and count != options["rows"]:
        return f"{count} rows; expected {options['rows']}", 0, everything
    if options["rows"] is None and count < options["min_rows"]:
        return f"{count} rows; at least {options['min_rows']}", 0, everything
    if options["max_rows"] is not None and count > options["max_rows"]:
        return f"{count} rows; at most {options['max_rows']}", 0, everything
    if columns is None:
        return "", everything, everything
    if table.header is not None and table.header != list(columns):
        return f"the header is {table.header!r:.200}, not {list(columns)!r:.200}", 0, everything
    if table.rows and len(table.rows[0]) != len(columns):
        return f"{len(table.rows[0])} columns; expected {len(columns)}", 0, everything
    fault, sound = "", 0
    for number, row in enumerate(table.rows, start=1):
        for cell, (name, kind) in zip(row, columns.items(), strict=True):
            if is_of_type(cell, kind):
                sound += 1
            elif not fault:
                fault = f"row {number}, column {name!r}: {cell!r:.80} is no {kind}"
    return fault, sound, everything


def _expected_fault(
    table: Table, expected: Table, numeric: set[int], options: Mapping[str, Any]
) -> tuple[str, int, int]:
    """What differs from the expected table, right cells, cells of the larger table."""
    width = len((expected.rows or [expected.header or []])[0])
    most = max(len(table.rows), len(expected.rows)) * width
    if table.header != expected.header:
        return f"the header is {table.header!r:.200}, not {expected.header!r:.200}", 0, most
    if table.rows and len(table.rows[0]) != width:
        return f"{len(table.rows[0])} columns; expected {width}", 0, most

    def values(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
        return [[_value(cell, i in numeric) for i, cell in enumerate(row)] for row in rows]

    wanted, got, tolerance = values(expected.rows), values(table.rows), options["tolerance"]
    fault = table_fault(wanted, got, ordered=options["ordered"], tolerance=tolerance)
    if not fault:
        return "", most, most
    if not options["ordered"]:
        return fault, (len(wanted) - len(unmatched(wanted, got)[0])) * width, most
    pairs = zip(wanted, got, strict=False)
    return fault, sum(same_cell(a, b, tolerance) for x, y in pairs for a, b in zip(x, y, strict=True)), most


def judge_text(text: str, expected: tuple[Table, set[int]] | None, options: Mapping[str, Any]) -> tuple[float, str]:
    """The value of a completion and what is wrong with it."""
    try:
        table = parse_table(find_place(text, options["extract"], ("csv", "tsv")), options)
    except ValueError as error:
        return 0.0, str(error)
    faults = [_spec_fault(table, options)] if expected is None or options["columns"] is not None else []
    if expected is not None:
        typed = {i for i, kind in enumerate((options["columns"] or {}).values()) if kind.rstrip("?") in TYPES[1:3]}
        faults.append(_expected_fault(table, expected[0], expected[1] | typed, options))
    share = min((good / count if count else 0.0) if fault else 1.0 for fault, good, count in faults)
    first = next((fault for fault, _, _ in faults if fault), "")
    if not first:
        return 1.0, ""
    return (min(share, 0.99) if options["partial"] else 0.0), first


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up for `csv`."""
    latest: dict[str, tuple[Table, set[int]]] = {}

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        expected = None
        if work["expected"] is not None:
            key = json.dumps(work["expected"])
            if key not in latest:
                try:
                    read = read_expected(work["expected"], options)
                except ValueError as error:
                    return {"failed": f"{work['row']}{error}"}
                latest.clear()  # the completions of one prompt come together
                latest[key] = read
            expected = latest[key]
        value, note = judge_text(work["text"], expected, options)
        return {"value": value, "note": note}

    return judge, None
