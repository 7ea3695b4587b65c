"""Queries and what they found as JSON: the body of `POST /v1/query` and its answer.

JSON has no bytes, no infinity and, for many readers, no whole numbers past 2**53; those cells travel as a table with
one key: {"bytes": base64}, {"real": "inf"}, {"integer": "9007199254740993"}.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

from charter.sandbox.job import Limits, QueryResult
from charter.sandbox.wire import LONGEST_NOTE, OUTCOMES, WireError, limits_body

Cell = None | int | float | str | bytes
_KEYS = frozenset({"outcome", "columns", "rows", "note"})
_EXACT = 2**53
_LARGEST = 2**63


def query_body(query: str, database: bytes, limits: Limits) -> dict[str, Any]:
    """The body of a query. database: the bytes of an SQLite file."""
    encoded = base64.b64encode(database).decode("ascii")
    return {"query": query, "database": encoded, "limits": limits_body(limits)}


def result_body(result: QueryResult) -> dict[str, Any]:
    """What a query found, as a table."""
    return {
        "outcome": result.outcome,
        "columns": list(result.columns),
        "rows": [[_cell_body(cell) for cell in row] for row in result.rows],
        "note": result.note[:LONGEST_NOTE],
    }


def read_result(body: object) -> QueryResult:
    """What a query found, from a table that came from elsewhere. Raises: WireError."""
    if not isinstance(body, dict) or body.keys() != _KEYS:
        raise WireError(f"it is not a table with the keys {', '.join(sorted(_KEYS))}")
    outcome, columns, rows, note = (body[key] for key in ("outcome", "columns", "rows", "note"))
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise WireError(f"the outcome {outcome!r:.60} is none of {', '.join(sorted(OUTCOMES))}")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise WireError("columns is no list of names")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise WireError(f"rows is no list of rows with {len(columns)} cells each")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise WireError(f"a note that is no text of up to {LONGEST_NOTE} characters")
    if outcome != "passed" and (columns or rows):
        raise WireError(f"the outcome {outcome!r} with rows")
    cells = tuple(tuple(_cell(cell) for cell in row) for row in rows)
    return QueryResult(outcome=outcome, columns=tuple(columns), rows=cells, note=note)  # type: ignore[arg-type]


def _cell_body(cell: Cell) -> Any:
    if isinstance(cell, bytes):
        return {"bytes": base64.b64encode(cell).decode("ascii")}
    if isinstance(cell, float) and not math.isfinite(cell):
        return {"real": repr(cell)}
    if isinstance(cell, int) and abs(cell) > _EXACT:
        return {"integer": str(cell)}
    return cell


def _cell(body: Any) -> Cell:
    if body is None or type(body) is str:
        return body
    if type(body) is float and math.isfinite(body):
        return body
    if type(body) is int and abs(body) <= _EXACT:
        return body
    match body:
        case {"bytes": str(text)} if len(body) == 1:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise WireError("a cell of bytes that is not base64") from None
        case {"real": ("inf" | "-inf" | "nan") as text} if len(body) == 1:
            return float(text)
        case {"integer": str(text)} if len(body) == 1 and text.removeprefix("-").isascii() and len(text) <= 20:
            if text.removeprefix("-").isdigit() and -_LARGEST <= int(text) < _LARGEST:
                return int(text)
    raise WireError(f"a cell that holds no value of SQLite: {body!r:.60}")
