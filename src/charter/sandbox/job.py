"""The nouns of the sandbox: what is run, under which limits, and what came of it.

    program + StdioCase | CallSuite | CheckerSuite  →  Sandbox  →  Verdict

A program is text that a model wrote. It is never parsed, compiled or run in the trainer's process; everything else
here (tests, limits, databases) comes from the data set or the recipe and is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Outcome = Literal[
    "passed",
    "failed",
    "timeout",
    "out_of_memory",
    "output_limit",
    "crashed",
    "policy_violation",
    "sandbox_error",
]
"""What became of a program. Everything but sandbox_error is the program's own doing; sandbox_error is the machine's,
says nothing about the program, and is never a reward of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one execution may use.

    wall_s: time from the moment the jailed process has its job, in seconds. cpu_s: processor time, in seconds
    (None: as much as wall_s, rounded up, plus one). memory_bytes: address space of the process. output_bytes: standard
    output. result_bytes: everything the program answers in modes calls and checker. scratch_bytes: size of a private
    folder it may write to; 0 gives it none.
    """

    wall_s: float = 5.0
    cpu_s: float | None = None
    memory_bytes: int = 512 * 1024**2
    output_bytes: int = 1024**2
    result_bytes: int = 1024**2
    scratch_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.wall_s > 0:
            raise ValueError(f"wall_s is {self.wall_s}; it must be above 0")
        if self.cpu_s is not None and not self.cpu_s > 0:
            raise ValueError(f"cpu_s is {self.cpu_s}; it must be above 0")
        for name in ("memory_bytes", "output_bytes", "result_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.scratch_bytes < 0:
            raise ValueError(f"scratch_bytes is {self.scratch_bytes}; it must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioCase:
    """One run of a program: what it reads on standard input and what it must write on standard output."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """One assert, taken apart so that what is expected stays outside.

    source: the assert as written, for the note. calls: expressions the program is asked to evaluate, in order, in its
    own namespace. check: a Python expression over `_0`, `_1`, … (the values of the calls), evaluated outside.
    """

    source: str
    calls: tuple[str, ...]
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSuite:
    """Asserts taken apart. setup: statements (imports, constants) the calls need; run in the program's namespace."""

    tests: tuple[CallTest, ...]
    setup: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerSuite:
    """Test code of any form, run in a jailed process of its own; the program is a proxy there.

    tests: Python source. Names it uses and does not define are proxies of the program's functions; `import solution`
    gives the same. entry: the function a HumanEval-style `check(candidate)` is called with, if the source has one.
    """

    tests: str
    entry: str | None = None


def legible(text: str, limit: int = 600) -> str:
    """Untrusted text that can be printed, logged and sent: no control characters, no lone surrogates, not too long."""
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text[:limit])
    return clean if len(text) <= limit else clean[:-1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one program.

    passed, total: tests. seconds: wall time of its executions. note: why it did not pass, in a sentence; it may quote
    the program, and is made legible.
    """

    outcome: Outcome
    passed: int
    total: int
    seconds: float
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "note", legible(self.note))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """What an SQL query found. outcome "passed" means that it ran; columns and rows are empty otherwise."""

    outcome: Outcome
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[int | float | str | bytes | None, ...], ...] = ()
    note: str = ""


@runtime_checkable
class Sandbox(Protocol):
    """Somewhere to run programs. `close` frees it; the methods may be awaited at the same time, from one event loop.

    They return a Verdict for whatever the program does; what goes wrong in the sandbox itself is the outcome
    sandbox_error with its cause, not an exception.
    """

    kind: str
    """"A", "B", "C", "monty", "remote" or "unsafe"."""

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        """Ask the program for the value of each call and judge the values outside."""
        ...

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        """Run the program once per case and compare what it wrote with what was expected, whole.

        every: go on after a case that did not pass, so that `passed` counts all of them.
        """
        ...

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        """Run test code against the program."""
        ...

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        """Run one SQL statement that only reads on a copy of an SQLite database (the bytes of its file)."""
        ...

    def close(self) -> None:
        """Kill whatever runs and let go of it."""
        ...
