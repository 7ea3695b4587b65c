"""Worker processes: started when first needed, reused, killed when they overrun or are cancelled, replaced.

Each pool serves one reward. Work runs on the pool's own threads, at most `size` at a time, so any number of groups may
be scored at once from any event loop; the threads only wait on pipes. All pools share one limit on processes
(`slots.py`).

Not here: a single process (`process.py`), what a time-out means for a score (`runtime.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from charter.reward.process import (
    Reply,
    WorkCancelledError,
    Worker,
    WorkerDiedError,
    WorkerError,
    WorkerStartError,
    WorkerTimeoutError,
    WorkFailedError,
)
from charter.reward.slots import SHARED, Slots

__all__ = [
    "Reply",
    "WorkCancelledError",
    "WorkFailedError",
    "Worker",
    "WorkerDiedError",
    "WorkerError",
    "WorkerPool",
    "WorkerStartError",
    "WorkerTimeoutError",
]

START_LIMIT_S = 120.0
"""Longest time a worker may take to import what its task needs (seconds)."""
LOOK_AGAIN_S = 0.5
"""How often a thread that waits for a slot looks whether its work is still wanted (seconds)."""


class _Job:
    """One piece of work on its way: cancelled from an event loop, done on a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.cancelled = False

    def hold(self, worker: Worker | None) -> None:
        """The worker that does it, None when it has done it. Raises: WorkCancelledError."""
        with self._lock:
            self._worker = worker
            if self.cancelled and worker is not None:
                raise WorkCancelledError("the work was cancelled")

    def cancel(self) -> None:
        """Nobody waits any more: kill the worker that does it, or see that none begins."""
        with self._lock:
            self.cancelled = True
            if self._worker is not None:
                self._worker.signal()


def _kill_all(workers: set[Worker], lock: threading.Lock, slots: Slots) -> None:
    with lock:
        doomed = list(workers)
        workers.clear()
    for worker in doomed:
        worker.kill()
    if doomed:
        slots.give(len(doomed))


def default_size() -> int:
    """Workers of one reward when nobody says otherwise: the machine's cores, four at most."""
    return max(1, min(4, os.cpu_count() or 1))


class WorkerPool:
    """The workers of one reward.

    task, options: what a worker is set up for (see `charter.reward.worker.TASKS`).
    size: most processes at a time. bounded: whether their memory is limited (text parsers, not user functions).
    slots: the limit it shares with other pools; that of the process when left out.
    """

    def __init__(
        self,
        task: str,
        options: Mapping[str, Any],
        *,
        size: int | None = None,
        bounded: bool = True,
        start_limit_s: float = START_LIMIT_S,
        slots: Slots | None = None,
    ) -> None:
        self._setup = {"op": "setup", "task": task, "options": dict(options), "bounded": bounded}
        self.size = size or default_size()
        self._start_limit_s = start_limit_s
        self._slots = slots or SHARED
        self._lock = threading.Lock()
        self._second_tries = threading.Lock()
        self._idle: list[tuple[float, Worker]] = []  # with the time since when, the longest idle first
        self._all: set[Worker] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix=f"charter-{task}")
        self._finalizer = weakref.finalize(self, _kill_all, self._all, self._lock, self._slots)
        self._slots.join(self)
        self.facts: Any = None

    def pids(self) -> list[int]:
        """Process ids of the workers that exist now."""
        with self._lock:
            return [worker.pid for worker in self._all]

    async def run(self, payload: Mapping[str, Any], limit_s: float, *, patient: bool = False) -> Reply:
        """Have a worker do one piece of work. The limit counts from the moment a worker takes it.

        patient: a second try, one at a time, whose limit counts the worker's processor time (see `Worker.ask`).
        Cancelling it kills the worker at once. Raises: WorkerError.
        """
        if self._closed:
            raise WorkerStartError("the reward was closed")
        job = _Job()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._run, job, payload, limit_s, patient)
        try:
            return await future
        except asyncio.CancelledError:
            job.cancel()
            raise

    def start(self) -> Any:
        """Start one worker now and return the facts its task reports. Raises: WorkerError."""
        return self._threads.submit(self._start_one).result()

    def _start_one(self) -> Any:
        self._give(self._take(_Job()))
        return self.facts

    def _run(self, job: _Job, payload: Mapping[str, Any], limit_s: float, patient: bool) -> Reply:
        with self._second_tries if patient else contextlib.nullcontext():
            worker = self._take(job)
            try:
                job.hold(worker)
                reply = worker.ask({"op": "work", "payload": payload}, limit_s, patient=patient)
            except WorkFailedError:
                self._let_go(job, worker)
                raise
            except BaseException:
                job.hold(None)
                self._drop(worker)
                raise
            self._let_go(job, worker)
            return reply

    def _let_go(self, job: _Job, worker: Worker) -> None:
        job.hold(None)
        if job.cancelled:  # it may have been killed after it had answered
            self._drop(worker)
        else:
            self._give(worker)

    def _take(self, job: _Job) -> Worker:
        while True:
            state = self._slots.state
            if job.cancelled:
                raise WorkCancelledError("the work was cancelled")
            if self._closed:
                raise WorkerStartError("the reward was closed")
            with self._lock:
                worker = self._idle.pop()[1] if self._idle else None
            if worker is None:
                if self._slots.take(self, has_workers=bool(self.pids())):
                    return self._new()
                self._slots.wait(state, LOOK_AGAIN_S)
            elif worker.alive:
                return worker
            else:
                self._drop(worker)  # killed from outside while it was idle

    def _new(self) -> Worker:
        # Started on a pool thread: Linux's parent-death signal follows the thread, and these live as long as the pool.
        try:
            worker = Worker()
        except BaseException as error:
            self._slots.give()
            if isinstance(error, OSError):
                raise WorkerStartError(f"its worker did not start: {error}") from error
            raise
        with self._lock:
            closed = self._closed
            self._all.add(worker)
        if closed:
            self._drop(worker)
            raise WorkerStartError("the reward was closed")
        try:
            self.facts = worker.ask(self._setup, self._start_limit_s).result
        except WorkFailedError as error:
            self._drop(worker)
            raise WorkerStartError(f"its worker did not start: {error}", error.kind) from error
        except (WorkerTimeoutError, WorkerDiedError) as error:
            self._drop(worker)
            raise WorkerStartError(f"its worker did not start: {error}") from error
        except BaseException:
            self._drop(worker)
            raise
        return worker

    def _give(self, worker: Worker) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._idle.append((time.monotonic(), worker))
        if closed:
            self._drop(worker)
        else:
            self._slots.changed()

    def _drop(self, worker: Worker, *, keep_slot: bool = False) -> bool:
        """Kill a worker and, unless it is to be kept, give its slot back. Whether it had one still."""
        with self._lock:
            known = worker in self._all
            self._all.discard(worker)
        worker.kill()
        if known and not keep_slot:
            self._slots.give()
        return known

    def idle_for(self) -> float | None:
        """Seconds the longest idle worker has had nothing to do; None when none is idle."""
        with self._lock:
            return time.monotonic() - self._idle[0][0] if self._idle else None

    def close_idle(self) -> bool:
        """Close the longest idle worker and leave its slot to the caller. Whether there was one."""
        with self._lock:
            worker = self._idle.pop(0)[1] if self._idle else None
        return worker is not None and self._drop(worker, keep_slot=True)

    def close(self) -> None:
        """Kill every worker; work in progress fails."""
        with self._lock:
            self._closed = True
            self._idle.clear()
            busy_or_idle = list(self._all)
        for worker in busy_or_idle:
            worker.signal()
        self._slots.changed()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._finalizer()
