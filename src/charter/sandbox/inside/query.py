"""One SQL query against a database that lives in this process's memory and dies with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import codec

_READING = frozenset({20, 21, 31, 33})  # SQLITE_READ, SQLITE_SELECT, SQLITE_FUNCTION, SQLITE_RECURSIVE
_OK, _DENIED = 0, 1
MOST_ROWS = 50_000


def run(job: dict[str, Any], send: Callable[[object], None]) -> None:
    """Send {"columns": [...], "rows": encoded} or {"raised": [type, text, denied]}."""
    import sqlite3

    database = codec.decode(job["database"])
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(database)
        connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error as error:
        send({"broken": f"the database cannot be opened: {error}"[:300]})
        return
    denied: list[int] = []

    def authorize(action: int, *_: object) -> int:
        if action in _READING:
            return _OK
        denied.append(action)
        return _DENIED

    connection.set_authorizer(authorize)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        cursor = connection.execute(job["query"])
        rows = [tuple(row) for row in cursor.fetchmany(MOST_ROWS + 1)]
        if len(rows) > MOST_ROWS:
            raise codec.Unsendable(f"more than {MOST_ROWS} rows")
        answer = {"columns": [column[0] for column in cursor.description or ()], "rows": codec.encode(rows)}
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        send({"raised": [type(error).__name__, str(error)[:300], bool(denied)]})
        return
    send(answer)
