"""An append-only JSONL file of records, each with a kind and an id, that a killed writer leaves whole.

    {"kind": "header", "format": 1, "made_under": {…}}
    {"kind": "draft", "id": "9f…", …}

What is in it was done; whoever goes on asks `in` before doing it again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from charter.errors import StoreError
from charter.run.atomic import fsync_folder, unwritable, write_all
from charter.run.lock import take_lock

Row = dict[str, Any]
FORMAT = 1
SYNC_EVERY_S = 2.0
"""Longest time that an appended record waits for fsync while others are appended."""


class Journal:
    """The file, open for appending. Make one with `open`; use it as a context manager.

    path: the file. made_under: what its records depend on (hashes of recipe and constitution, say).
    """

    def __init__(self, path: Path, fd: int, lock: int | None, rows: dict[tuple[str, str], Row]) -> None:
        self.path = path
        self._fd: int | None = fd
        self._lock = lock
        self._rows = rows
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path | str, made_under: Mapping[str, Any], *, lock: bool = True) -> Journal:
        """Begin a file or go on with it; a torn last line, which a kill leaves, is cut off.

        lock: hold the folder against other writers; False where the caller holds it.
        Raises: StoreError where another process writes, where a line is damaged, or where the records were made under
        something else: the message names the first key that differs.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path.parent, error) from error
        held = take_lock(path.parent) if lock else None
        try:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise unwritable(path, error) from error
            try:
                rows = _begin(path, fd, json.loads(json.dumps(dict(made_under))))
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            if held is not None:
                os.close(held)
            raise
        return cls(path, fd, held, rows)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, kind: str, id: str) -> Row | None:
        """The record of this kind and id, or None."""
        return self._rows.get((kind, id))

    def of_kind(self, kind: str) -> Iterator[Row]:
        """All records of a kind, in the order in which they were written."""
        return (row for (of, _), row in self._rows.items() if of == kind)

    def append(self, row: Mapping[str, Any]) -> bool:
        """Write a record, which must have "kind" and "id"; False where one of that kind and id is there already.

        Raises: StoreError on a full disk, and then the file is as it was.
        """
        if self._fd is None:
            raise StoreError(f"{self.path} was closed by this process; open it again to write.")
        key = (str(row["kind"]), str(row["id"]))
        if key in self._rows:
            return False
        line = json.dumps(dict(row), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"
        before = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, line)
        except BaseException as error:
            os.ftruncate(self._fd, before)  # shrinking needs no space: the torn line goes
            if isinstance(error, OSError):
                raise unwritable(self.path, error, needed=len(line)) from error
            raise
        self._rows[key] = json.loads(line)
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self.sync()
        return True

    def sync(self) -> None:
        """Make everything appended survive a power cut."""
        if self._fd is not None:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise unwritable(self.path, error) from error
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and let another process write. Calling it again does nothing."""
        if self._fd is not None:
            try:
                self.sync()
            finally:
                os.close(self._fd)
                self._fd = None
                if self._lock is not None:
                    os.close(self._lock)
                    self._lock = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_records(path: Path | str) -> list[Row]:
    """The records of a journal, without its header, read without touching it. Raises: StoreError for damage."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    return [row for _, row in _lines(path, data) if row["kind"] != "header"]


def _begin(path: Path, fd: int, made_under: Row) -> dict[tuple[str, str], Row]:
    data = path.read_bytes()
    lines = _lines(path, data)
    whole = sum(length for length, _ in lines)
    if whole != len(data):
        os.ftruncate(fd, whole)
    elif data and not data.endswith(b"\n"):
        write_all(fd, b"\n")
    if not lines:
        header = {"kind": "header", "format": FORMAT, "made_under": made_under}
        try:
            write_all(fd, json.dumps(header, ensure_ascii=False).encode() + b"\n")
            os.fsync(fd)
            fsync_folder(path.parent)
        except OSError as error:
            raise unwritable(path, error) from error
        return {}
    _refuse_mixture(path, lines[0][1], made_under)
    return {(row["kind"], row["id"]): row for _, row in lines[1:]}


def _refuse_mixture(path: Path, header: Row, made_under: Row) -> None:
    if header["kind"] != "header" or header.get("format") != FORMAT:
        raise StoreError(f"{path}:1 is not the head of a journal of format {FORMAT}. Move the file away to begin anew.")
    before = header.get("made_under", {})
    for key in [*before, *(key for key in made_under if key not in before)]:
        if before.get(key) != made_under.get(key):
            raise StoreError(
                f"{path} holds records made under another {key} ({before.get(key)!r}; now {made_under.get(key)!r}), "
                "and records of two kinds must not mix. Put it back, or begin another run (run.name=… or --run-dir …)."
            )


def _lines(path: Path, data: bytes) -> list[tuple[int, Row]]:
    """(length in bytes, row) of every whole line; a last line that a kill tore is left out."""
    found: list[tuple[int, Row]] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        if last and not line:
            break
        try:
            row = json.loads(line.decode("utf-8", "surrogatepass"))
            if not isinstance(row, dict) or "kind" not in row or (row["kind"] != "header" and "id" not in row):
                raise ValueError("not an object with kind and id")
        except ValueError as error:
            if last:
                break
            raise StoreError(
                f"{path}:{number} is not a record ({error}): {line[:60]!r}. Delete that line, or restore the file "
                "from a copy."
            ) from error
        found.append((len(line) + (not last), row))
    return found
