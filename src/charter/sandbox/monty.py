"""The sandbox `monty`: a subset of Python in an interpreter that has no system calls to give.

    MontySandbox(slots=2)  →  Sandbox of kind "monty"

pydantic-monty is an interpreter written in Rust; a program in it sees no file, no network, no clock but the time, and
no C extension. It starts no process per program, so it is the fastest kind, and it needs nothing from the kernel. The
price is the subset: no class inheritance, no generators, few modules, no `sys.stdin`, no test code of free form.

A program that uses what the subset lacks is `failed`, with a note that says so, and not `sandbox_error`: what a program
is made of is its author's choice, and a policy that could turn its wrong answers into errors by writing `yield` would
learn to. Choose the kind for tasks the subset can solve; the notes show when it cannot.

Nothing of a program reaches the trainer's process: a worker holds the interpreter's bindings, and returns verdicts.

Source: github.com/pydantic/monty, package pydantic-monty (measured with 1.4).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from charter.errors import MissingExtra
from charter.sandbox.job import CallSuite, CheckerSuite, Limits, QueryResult, StdioCase, Verdict
from charter.sandbox.monty_process import MontyWorker, WorkerCrashed, WorkerFault, WorkerOverran
from charter.sandbox.wire import WireError, calls_body, read_verdict, stdio_body

SLACK_S = 10.0
"""Time beyond the program's own after which a worker is given up (seconds)."""
BASE_MEMORY_BYTES = 3 * 1024**3
"""Address space of worker and interpreter beside what a program may use: bindings, and answers while they cross."""
NO_CHECKER = "mode checker needs all of Python; use a sandbox of kind A, B or C (or remote, served by one of them)"
NO_QUERY = "the sandbox monty has no SQLite; use a sandbox of kind A, B or C (or remote, served by one of them)"


def _kill_all(workers: set[MontyWorker], lock: threading.Lock) -> None:
    with lock:
        doomed = list(workers)
        workers.clear()
    for worker in doomed:
        worker.kill()


class MontySandbox:
    """Programs in pydantic-monty. slots: how many run at the same time (default: the machine's cores, four at most).

    Raises: MissingExtra without the package.
    """

    kind = "monty"

    def __init__(self, *, slots: int | None = None) -> None:
        if importlib.util.find_spec("pydantic_monty") is None:
            raise MissingExtra("pydantic-monty", "monty", "the sandbox 'monty'")
        self.slots = slots or max(1, min(4, os.cpu_count() or 1))
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="charter-monty")
        self._lock = threading.Lock()
        self._idle: list[MontyWorker] = []
        self._all: set[MontyWorker] = set()
        self._closed = False
        self._finalizer = weakref.finalize(self, _kill_all, self._all, self._lock)

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        """Ask the program for the value of each call and judge the values outside."""
        job = {"mode": "calls", **calls_body(program, suite, limits)}
        return await self._judge(job, len(suite.tests), limits, executions=1)

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        """Run the program once per case; `input()` is its only standard input."""
        job = {"mode": "stdio", **stdio_body(program, cases, limits, every=every)}
        return await self._judge(job, len(cases), limits, executions=len(cases))

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        """Not in this kind: sandbox_error with a sentence that names the others."""
        return _error(NO_CHECKER, 1)

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        """Not in this kind: sandbox_error with a sentence that names the others."""
        return QueryResult(outcome="sandbox_error", note=NO_QUERY)

    def close(self) -> None:
        """Kill every worker; what runs gets the outcome sandbox_error."""
        with self._lock:
            self._closed = True
            self._idle.clear()
            workers = list(self._all)
        for worker in workers:
            worker.signal()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._finalizer()

    async def _judge(self, job: Mapping[str, Any], total: int, limits: Limits, *, executions: int) -> Verdict:
        if total == 0:
            return _error("there are no tests", 0)
        if self._closed:
            return _error("the sandbox was closed", total)
        # the interpreter's own limit, once more for what it cannot interrupt, and slack for this machine
        limit_s = (2 * limits.wall_s + 1.0) * executions + SLACK_S
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._run, job, total, limits, limit_s)
        try:
            return await running
        except asyncio.CancelledError:
            if not self._closed or not running.cancelled():
                raise
            return _error("the sandbox was closed", total)

    def _run(self, job: Mapping[str, Any], total: int, limits: Limits, limit_s: float) -> Verdict:
        worker: MontyWorker | None = None
        try:
            worker = self._take(limits.memory_bytes + BASE_MEMORY_BYTES)
            verdict = read_verdict(worker.ask(job, limit_s), total=total)
        except WorkerOverran:
            # everything a worker does between two answers is driven by the program
            found = Verdict(
                outcome="timeout", passed=0, total=total, seconds=limit_s, note="it ran into the time limit"
            )
        except WorkerCrashed as error:
            note = f"the interpreter's bindings crashed on what it answered: {error}"
            found = Verdict(outcome="crashed", passed=0, total=total, seconds=0.0, note=note)
        except (WorkerFault, WireError, OSError, ValueError) as error:
            found = _error("the sandbox was closed" if self._closed else str(error), total)
        else:
            self._give(worker)
            return verdict
        if worker is not None:
            self._drop(worker)
        return found

    def _take(self, memory_bytes: int) -> MontyWorker:
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                return self._new(memory_bytes)
            if worker.alive and worker.memory_bytes == memory_bytes:
                return worker
            self._drop(worker)

    def _new(self, memory_bytes: int) -> MontyWorker:
        # Started on a pool thread: Linux's parent-death signal follows the thread, and these live as long as the pool.
        worker = MontyWorker(memory_bytes)
        with self._lock:
            closed = self._closed
            self._all.add(worker)
        try:
            if closed:
                raise WorkerFault("the sandbox was closed")
            worker.wait_ready()
        except BaseException:
            self._drop(worker)
            raise
        return worker

    def _give(self, worker: MontyWorker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        self._drop(worker)

    def _drop(self, worker: MontyWorker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.kill()


def _error(note: str, total: int) -> Verdict:
    return Verdict(outcome="sandbox_error", passed=0, total=total, seconds=0.0, note=note)
