"""Worker processes: started when first needed, reused, killed when they overrun, replaced.

Each pool serves one reward. Work runs on the pool's own threads, at most `size` at a time, so any number of groups may
be scored at once from any event loop; the threads only wait on pipes.

Not here: what a time-out means for a score (`runtime.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import site
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.reward.frames import HEADER, body_length, decode, encode

START_LIMIT_S = 120.0
"""Longest time a worker may take to import what its task needs (seconds)."""


class WorkerError(Exception):
    """A piece of work that brought no answer; the text says why."""


class WorkerTimeoutError(WorkerError):
    """The worker overran its limit and was killed."""


class WorkerDiedError(WorkerError):
    """The worker ended in the middle of its work."""


class WorkFailedError(WorkerError):
    """The work raised an exception; `kind` is its type's name."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class WorkerStartError(WorkerError):
    """The worker could not be set up: a module that does not import, say. `kind` is the exception's type, if any."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer and how long the worker took for it, in seconds."""

    result: Any
    seconds: float


def _environment() -> dict[str, str]:
    """The trainer's environment, with this copy of Charter importable and numeric libraries on one thread."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **os.environ}
    root = str(Path(__file__).resolve().parents[2])
    if root not in site.getsitepackages():
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (environment.get("PYTHONPATH"), root) if p)
    return environment


class Worker:
    """One child process and the two pipes to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "charter.reward.worker", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True, env=_environment(),
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, message: Mapping[str, Any], limit_s: float) -> Reply:
        """Send one message and wait for its answer, `limit_s` seconds at most.

        Raises: WorkerTimeoutError, WorkerDiedError (the worker is then of no more use), WorkFailedError.
        """
        started = time.monotonic()
        deadline = started + limit_s
        frame = encode(message)
        try:
            self._send(frame, deadline, limit_s)
            length = body_length(self._receive(HEADER.size, deadline, limit_s))
            answer = decode(self._receive(length, deadline, limit_s))
        except (BrokenPipeError, EOFError, ValueError) as error:
            raise WorkerDiedError(self._how_it_ended()) from error
        if not answer["ok"]:
            raise WorkFailedError(answer["error"], answer["kind"])
        return Reply(result=answer["result"], seconds=time.monotonic() - started)

    def _wait(self, descriptor: int, event: int, deadline: float, limit_s: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise WorkerTimeoutError(f"took longer than {limit_s:g} s")

    def _send(self, frame: bytes, deadline: float, limit_s: float) -> None:
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, deadline, limit_s)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._in, view) :]

    def _receive(self, count: int, deadline: float, limit_s: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(self._out, select.POLLIN, deadline, limit_s)
            with contextlib.suppress(BlockingIOError):
                part = os.read(self._out, min(count - len(parts), 1 << 20))
                if not part:
                    raise EOFError
                parts += part
        return bytes(parts)

    def _how_it_ended(self) -> str:
        give_up = time.monotonic() + 1.0
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not reaped yet, so that its group can still be killed by its id
        while os.waitid(os.P_PID, self.pid, peek) is None and time.monotonic() < give_up:
            time.sleep(0.005)
        if os.waitid(os.P_PID, self.pid, peek) is None:
            return "the worker process closed its channel"
        self.signal()
        code = self._process.wait()
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"the worker process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"the worker process was killed by signal {-code}"

    def signal(self) -> None:
        """Kill the process and everything it started; whoever waits on its pipes sees their end."""
        if self._process.returncode is None:  # not yet reaped, so the id is still its own
            for kill in (os.killpg, os.kill):  # not Popen.kill, which may reap it under a thread that is looking at it
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the process and let go of its pipes; only for a worker that no thread is waiting on."""
        self.signal()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)


def _kill_all(workers: set[Worker], lock: threading.Lock) -> None:
    with lock:
        doomed = list(workers)
        workers.clear()
    for worker in doomed:
        worker.kill()


def default_size() -> int:
    """Workers of one reward when nobody says otherwise: the machine's cores, four at most."""
    return max(1, min(4, os.cpu_count() or 1))


class WorkerPool:
    """The workers of one reward.

    task, options: what a worker is set up for (see `charter.reward.worker.TASKS`).
    size: most processes at a time. bounded: whether their memory is limited (text parsers, not user functions).
    """

    def __init__(
        self,
        task: str,
        options: Mapping[str, Any],
        *,
        size: int | None = None,
        bounded: bool = True,
        start_limit_s: float = START_LIMIT_S,
    ) -> None:
        self._setup = {"op": "setup", "task": task, "options": dict(options), "bounded": bounded}
        self.size = size or default_size()
        self._start_limit_s = start_limit_s
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix=f"charter-{task}")
        self._finalizer = weakref.finalize(self, _kill_all, self._all, self._lock)
        self.facts: Any = None

    def pids(self) -> list[int]:
        """Process ids of the workers that exist now."""
        with self._lock:
            return [worker.pid for worker in self._all]

    async def run(self, payload: Mapping[str, Any], limit_s: float) -> Reply:
        """Have a worker do one piece of work. The limit counts from the moment a worker takes it.

        Raises: WorkerError.
        """
        if self._closed:
            raise WorkerStartError("the reward was closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, payload, limit_s)

    def start(self) -> Any:
        """Start one worker now and return the facts its task reports. Raises: WorkerError."""
        return self._threads.submit(self._start_one).result()

    def _start_one(self) -> Any:
        self._give(self._take())
        return self.facts

    def _run(self, payload: Mapping[str, Any], limit_s: float) -> Reply:
        worker = self._take()
        try:
            reply = worker.ask({"op": "work", "payload": payload}, limit_s)
        except WorkFailedError:
            self._give(worker)
            raise
        except BaseException:
            self._drop(worker)
            raise
        self._give(worker)
        return reply

    def _take(self) -> Worker:
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                return self._new()
            if worker.alive:
                return worker
            self._drop(worker)  # killed from outside while it was idle

    def _new(self) -> Worker:
        # Started on a pool thread: Linux's parent-death signal follows the thread, and these live as long as the pool.
        worker = Worker()
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
        return worker

    def _give(self, worker: Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.kill()

    def close(self) -> None:
        """Kill every worker; work in progress fails."""
        with self._lock:
            self._closed = True
            self._idle.clear()
            busy_or_idle = list(self._all)
        for worker in busy_or_idle:
            worker.signal()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._finalizer()
