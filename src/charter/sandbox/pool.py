"""The jailed sandbox: slots enough for the machine, memory shared out among them, and a look now and then whether the
jail still holds."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from charter.errors import SandboxUnavailable
from charter.sandbox import modes
from charter.sandbox.job import CallSuite, CallTest, CheckerSuite, Limits, QueryResult, StdioCase, Verdict
from charter.sandbox.launch import Walls
from charter.sandbox.slot import Slot

T = TypeVar("T")
JOBS_BETWEEN_LOOKS = 500
SHARE_OF_MEMORY = 0.7
"""Of the memory available when the sandbox is opened, what all its jobs together may be allowed."""

PAGE_TABLES = 1.25
"""What a process costs the machine, at most, over the address space it may use."""

_GOOD = "def add(a, b):\n    return a + b\n"
_BAD = "import ctypes, socket\nsocket.socket()\n"
_LOOK = CallSuite(tests=(CallTest(source="assert add(2, 3) == 5", calls=("add(2, 3)",), check="_0 == 5"),))


def memory_budget() -> int:
    """Bytes all jobs together may be allowed: a share of what is available, under a container's limit."""
    available = 2 * 1024**3
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    except OSError:
        pass  # the default stands where there is no /proc
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            available = min(available, int(limit) - used)
    except (OSError, ValueError):
        pass  # no container limit
    return max(0, int(available * SHARE_OF_MEMORY))


def default_slots(limits: Limits | None = None) -> int:
    """Programs that run at the same time when nobody says otherwise: one a core, as far as memory goes."""
    each = int((limits or Limits()).memory_bytes * PAGE_TABLES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, memory_budget() // each))


class _Budget:
    """Memory promised to jobs: each waits until its limit fits beside the others', in the order in which they came."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def take(self, count: int) -> bool:
        """False when it would never fit."""
        if count > self.total_bytes:
            return False
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= count)
            self._waiting.popleft()
            self._free -= count
            self._changed.notify_all()
        return True

    def give(self, count: int) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()


def _close(slots: Sequence[Slot]) -> None:
    for slot in slots:
        slot.interrupt()
    for slot in slots:
        slot.close()


class JailedSandbox:
    """Programs in jails on this machine. kind: the tier, or "unsafe". slots: programs at a time."""

    def __init__(self, kind: str, walls: Walls, slots: int | None = None) -> None:
        self.kind = kind
        self._watched = "seccomp" in walls.layers
        self.slots = slots or default_slots()
        self._budget = _Budget(memory_budget())
        self._all = [Slot(walls, number) for number in range(self.slots)]
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self._all:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="charter-sandbox")
        self._lock = threading.Lock()
        self._jobs = 0
        self._broken = ""
        self._finalizer = weakref.finalize(self, _close, self._all)

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        """See `Sandbox`. Raises: SandboxUnavailable once the jail was seen not to hold."""

        def work(slot: Slot) -> Verdict:
            return modes.run_calls(slot.program, program, suite, limits)

        return await self._run(work, _failed(len(suite.tests)), limits)

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        """See `Sandbox`. Raises: as `run_calls`."""

        def work(slot: Slot) -> Verdict:
            return modes.run_stdio(slot.program, program, cases, limits, every=every)

        return await self._run(work, _failed(len(cases)), limits)

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        """See `Sandbox`. Raises: as `run_calls`."""

        def work(slot: Slot) -> Verdict:
            return modes.run_checker(slot.program, slot.checker, program, suite, limits)

        return await self._run(work, _failed(1), limits, processes=2)

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        """See `Sandbox`. Raises: as `run_calls`."""

        def work(slot: Slot) -> QueryResult:
            return modes.run_query(slot.program, query, database, limits)

        return await self._run(work, lambda why: QueryResult(outcome="sandbox_error", note=why), limits)

    async def _run(
        self, work: Callable[[Slot], T], failed: Callable[[str], T], limits: Limits, *, processes: int = 1
    ) -> T:
        count = int(processes * limits.memory_bytes * PAGE_TABLES) + limits.scratch_bytes
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._do, work, failed, count)
        try:
            return await running
        except asyncio.CancelledError:
            for slot in self._all:  # whoever waited for it has gone; the slot should not work on
                slot.give_up(work)
            raise

    def _do(self, work: Callable[[Slot], T], failed: Callable[[str], T], memory_bytes: int) -> T:
        """Do some work with the next free slot, in a thread of the pool."""
        if not self._budget.take(memory_bytes):
            limit = self._budget.total_bytes // 1024**2
            return failed(
                f"it may use {memory_bytes // 1024**2} MiB, which is above the {limit} MiB there are for jobs"
            )
        slot = self._free.get()
        try:
            self._look_now_and_then(slot)
            return slot.attempt(work, failed)
        finally:
            self._free.put(slot)
            self._budget.give(memory_bytes)

    def _look_now_and_then(self, slot: Slot) -> None:
        with self._lock:
            self._jobs += 1
            due = self._watched and self._jobs % JOBS_BETWEEN_LOOKS == 0
        if due and not self._broken:
            self._broken = slot.attempt(_look, lambda why: "")  # a server that died says nothing about the walls
        if self._broken:
            raise SandboxUnavailable(f"the jail no longer holds: {self._broken}. Run charter sandbox check")

    def close(self) -> None:
        """Kill whatever runs and let go of it."""
        for slot in self._all:
            slot.interrupt()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._finalizer()


def _failed(total: int) -> Callable[[str], Verdict]:
    def failed(why: str) -> Verdict:
        return Verdict(outcome="sandbox_error", passed=0, total=total, seconds=0.0, note=why)

    return failed


def _look(slot: Slot) -> str:
    """What is wrong with the jail, by a program that must pass and one that must not; empty when nothing is."""
    began = time.monotonic()
    limits = Limits(wall_s=20.0, memory_bytes=128 * 1024**2)
    good = modes.run_calls(slot.program, _GOOD, _LOOK, limits)
    bad = modes.run_calls(slot.program, _BAD, _LOOK, limits)
    if "sandbox_error" in (good.outcome, bad.outcome):
        return ""
    if good.outcome != "passed":
        return (
            f"a program that is right came out as {good.outcome} after {time.monotonic() - began:.1f} s ({good.note})"
        )
    return "" if bad.outcome == "policy_violation" else f"a program that opens a socket came out as {bad.outcome}"
