"""`sql_result`: whether a completion's query finds in a database what the reference query finds.

    completion → query → Sandbox.run_query → rows ≟ rows of the reference query, or of an expected table

The query runs in the sandbox on a copy of the database and may only read. What the sandbox itself gets wrong is a
failed score; a query that does not run, takes too long or finds too much is wrong.
Not here: the databases (`sql_database.py`), the comparison (`table.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from charter.errors import DataError
from charter.reward.extract import PLACE_HELP, Place, find_place
from charter.reward.jail import URL_HELP, Jail, check_address
from charter.reward.math import reference_column
from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.reward.sql_database import has_order, open_database
from charter.reward.table import Row, table_fault
from charter.sandbox.job import Limits, legible
from charter.types import Prompt, Rollout

if TYPE_CHECKING:
    from charter.sandbox.job import QueryResult, Sandbox

LONGEST_QUERY = 100_000
"""Characters of a query; longer ones are wrong without being run."""
MOST_DATABASES = 16
_REMEMBERED = 32


class SqlOptions(BaseModel):
    """Options of `sql_result`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str = Field("answer", description="Column with the reference query, or the expected rows as a list.")
    database: str = Field(
        "database",
        description="Column with the database: the path of an SQLite file, SQL that builds one, or a list of them: the "
        "query must be right on each.",
    )
    folder: str = Field(".", description="Folder that relative paths start from; looked for beside the recipe.")
    order: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether the order of rows matters; auto: where the reference query has ORDER BY."
    )
    tolerance: float = Field(
        1e-6, ge=0, lt=1, description="For numbers that are not both whole, relative and absolute."
    )
    extract: Place = Field("auto", description=PLACE_HELP)
    memory_mb: int = Field(512, ge=64, le=65536, description="Address space of one query, in MiB.")
    sandbox: Literal["auto", "A", "B", "C", "remote", "unsafe"] = Field(
        "auto", description="Isolation; auto: the best tier that proves itself here, else an error."
    )
    url: str | None = Field(None, description=URL_HELP)

    @model_validator(mode="after")
    def _address(self) -> SqlOptions:
        check_address(self.sandbox, self.url)
        return self


@dataclass(frozen=True, slots=True)
class _Gold:
    """One database and what is right on it."""

    database: bytes
    rows: Sequence[Row]
    columns: int | None
    ordered: bool


class SqlReward(NamedReward):
    """1 when the query's result is the expected one on every database, else 0.

    Rows are compared as a multiset, or in order where order matters; columns by their place, names ignored.
    """

    pure = True

    def __init__(self, name: str, timeout_s: float, options: SqlOptions, sandbox: Sandbox | None = None) -> None:
        """sandbox: where to run queries; None: opened by the options when the first one comes."""
        super().__init__(name, timeout_s)
        self.options = options
        self.limits = Limits(wall_s=timeout_s, memory_bytes=options.memory_mb * 1024**2)
        self._jail = Jail(options.sandbox, options.url, sandbox)
        self._lock = threading.Lock()
        self._databases: OrderedDict[bytes, bytes] = OrderedDict()
        self._golds: OrderedDict[bytes, list[_Gold]] = OrderedDict()

    def required_columns(self) -> tuple[str, ...]:
        """The columns with the reference and the database."""
        return (self.options.answer, self.options.database)

    def reference(self, prompt: Prompt) -> str | None:
        """The reference query in a block."""
        gold = prompt.fields.get(self.options.answer)
        if not isinstance(gold, str):
            return None
        block = f"```sql\n{gold}\n```"
        return {"text": gold, "answer": f"<answer>{gold}</answer>"}.get(self.options.extract, block)

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Run the reference once and each completion's query, as many at a time as the sandbox has slots."""
        gold = reference_column(prompt, self.options.answer)
        database = reference_column(prompt, self.options.database)
        for found in (gold, database):
            if isinstance(found, Verdict):
                return [found] * len(rollouts)
        try:
            golds = await self._golds_of(gold, database)
        except DataError as error:
            return [failed(f"row {prompt.id}: {error}")] * len(rollouts)
        tasks = [asyncio.ensure_future(self._one(rollout.text, golds)) for rollout in rollouts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, text: str, golds: Sequence[_Gold]) -> Verdict:
        try:
            query = find_place(text, self.options.extract, ("sql", "sqlite")).strip()
        except ValueError as error:
            return scored(0.0, str(error))
        if not query:
            return scored(0.0, "there is no query")
        if len(query) > LONGEST_QUERY:
            return scored(0.0, f"a query of {len(query)} characters; {LONGEST_QUERY} at most")
        sandbox = await self._jail.get()
        started = time.monotonic()
        for number, gold in enumerate(golds, start=1):
            ran = await sandbox.run_query(query, gold.database, self.limits)
            verdict = await asyncio.to_thread(self._compare, ran, gold)
            if verdict.value != 1.0:
                where = f"database {number}: " if len(golds) > 1 else ""
                return replace(verdict, note=where + verdict.note, seconds=time.monotonic() - started)
        return replace(scored(1.0), seconds=time.monotonic() - started)

    def _compare(self, ran: QueryResult, gold: _Gold) -> Verdict:
        said = legible(ran.note)
        if ran.outcome == "sandbox_error":
            return failed(f"sandbox_error: {said}")
        if ran.outcome != "passed":
            lasting = ran.outcome in ("failed", "policy_violation")  # time and memory depend on the machine
            return replace(scored(0.0, f"{ran.outcome}: {said}"), lasting=lasting)
        if gold.columns is not None and len(ran.columns) != gold.columns:
            return scored(0.0, f"{len(ran.columns)} columns; expected {gold.columns}")
        fault = table_fault(gold.rows, ran.rows, ordered=gold.ordered, tolerance=self.options.tolerance)
        return scored(0.0 if fault else 1.0, fault)

    async def _golds_of(self, gold: Any, database: Any) -> list[_Gold]:
        """What is right on each database of a row. Raises: DataError."""
        sources = database if isinstance(database, list) else [database]
        if not 1 <= len(sources) <= MOST_DATABASES:
            raise DataError(f"{len(sources)} databases; expected 1 to {MOST_DATABASES}")
        if isinstance(gold, list) and len(sources) > 1:
            raise DataError("expected rows fit one database; give a reference query for several")
        contents = [await asyncio.to_thread(self._content, source) for source in sources]
        key = _digest(gold, *contents)
        if key not in self._golds:
            self._golds[key] = [await self._gold(gold, content) for content in contents]
            while len(self._golds) > _REMEMBERED:
                self._golds.popitem(last=False)
        return self._golds[key]

    async def _gold(self, gold: Any, database: bytes) -> _Gold:
        order = self.options.order
        if isinstance(gold, list):
            rows = [_expected_row(row) for row in gold]
            return _Gold(database, rows, len(rows[0]) if rows else None, order == "always")
        if not isinstance(gold, str):
            raise DataError(f"column {self.options.answer!r} holds {gold!r:.80}; expected a query or a list of rows")
        sandbox = await self._jail.get()
        ran = await sandbox.run_query(gold, database, self.limits)
        if ran.outcome != "passed":
            raise DataError(f"the reference query did not run: {ran.outcome}: {ran.note}")
        ordered = order == "always" or (order == "auto" and has_order(gold))
        return _Gold(database, ran.rows, len(ran.columns), ordered)

    def _content(self, source: Any) -> bytes:
        """The database's bytes, read or built once."""
        key = _digest(source)
        with self._lock:
            if key not in self._databases:
                self._databases[key] = open_database(source, Path(self.options.folder).expanduser())
                while len(self._databases) > _REMEMBERED:
                    self._databases.popitem(last=False)
            return self._databases[key]

    async def ready(self) -> None:
        """Open the sandbox. Raises: SandboxUnavailable."""
        await self._jail.prove()

    def shut_down(self) -> None:
        """Let go of the sandbox."""
        self._jail.close()


def _digest(*parts: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


def _expected_row(row: Any) -> Row:
    cells = list(row.values()) if isinstance(row, dict) else row
    if not isinstance(cells, (list, tuple)):
        raise DataError(f"an expected row is {row!r:.80}; expected a list of values, or a table")
    for cell in cells:
        if not isinstance(cell, (type(None), int, float, str, bytes)):
            raise DataError(f"an expected cell is {cell!r:.80}; SQLite knows null, numbers, text and bytes")
    return [int(cell) if isinstance(cell, bool) else cell for cell in cells]


__all__ = ["LONGEST_QUERY", "SqlOptions", "SqlReward"]
