"""What `sql_result` needs to know without running anything: a row's database as bytes, and whether order matters.

Databases and reference queries come from the data set and are trusted; the model's query is never looked at here.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

from charter.errors import DataError

MAGIC = b"SQLite format 3\0"
_SCRIPT = re.compile(r"\s*(?:--|/\*|(?:create|insert|begin|pragma|drop)\b)", re.IGNORECASE)
_TOKEN = re.compile(
    r"""(?P<skip>--[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?|'(?:[^']|'')*'?|"(?:[^"]|"")*"?|`[^`]*`?|\[[^\]]*\]?)"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<mark>[()])"""
)


def is_script(source: str) -> bool:
    """Whether a database column holds SQL that builds one, rather than the path of a file."""
    return ";" in source or "\n" in source or _SCRIPT.match(source) is not None


def build_database(script: str) -> bytes:
    """The file of the database that a script builds. Raises: DataError when it does not run."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action in (24, 25) else sqlite3.SQLITE_OK)
        connection.executescript(script)
        if connection.in_transaction:
            connection.commit()
        tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
        content = connection.serialize() if tables else b""
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise DataError(f"the script that builds the database does not run: {error}") from None
    finally:
        connection.close()
    if not content:
        raise DataError("the script that builds the database makes no table")
    return content


def read_database(path: Path) -> bytes:
    """The bytes of a database file, set to be opened without its write-ahead log. Raises: DataError."""
    try:
        content = path.read_bytes()
        log = path.with_name(path.name + "-wal")
        unfinished = log.is_file() and log.stat().st_size > 0
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"the database {str(path)!r:.200} cannot be read: {reason}") from None
    if unfinished:
        raise DataError(f"{str(path)!r} has changes in its write-ahead log: run PRAGMA wal_checkpoint(TRUNCATE) on it")
    return as_database(content, str(path))


def as_database(content: bytes, name: str) -> bytes:
    """Bytes checked to be an SQLite file. Raises: DataError."""
    if not content.startswith(MAGIC):
        raise DataError(f"{name!r:.200} is no SQLite database")
    # Bytes 18 and 19 say how the file is written; 2 asks for a log file, which a database in memory cannot have.
    return content[:18] + b"\1\1" + content[20:] if content[18:20] == b"\2\2" else content


def open_database(source: Any, folder: Path) -> bytes:
    """The database a row gives: the path of a file, SQL that builds one, or a file's bytes. Raises: DataError."""
    if isinstance(source, (bytes, bytearray)):
        return as_database(bytes(source), "the column's value")
    if not isinstance(source, str) or not source.strip():
        raise DataError(f"{source!r:.80} is no database; expected the path of an SQLite file, or SQL that builds one")
    return build_database(source) if is_script(source) else read_database(folder / Path(source).expanduser())


def has_order(query: str) -> bool:
    """Whether a query orders its result: ORDER BY outside parentheses, strings and comments."""
    depth, before = 0, ""
    for token in _TOKEN.finditer(query):
        if token["mark"]:
            depth += 1 if token["mark"] == "(" else -1
            before = ""
        elif token["word"] and depth == 0:
            word = token["word"].lower()
            if word == "by" and before == "order":
                return True
            before = word
        elif token["word"]:
            before = ""
    return False
