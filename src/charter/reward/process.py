"""One worker process: the two pipes to it, the time its work has, and how it ended.

Not here: how many there are and who gets one (`pool.py`), what a time-out means for a score (`runtime.py`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.reward.frames import HEADER, body_length, decode, encode

PATIENCE = 4.0
"""Wall time of a second try, as a multiple of the processor time it may use."""


class WorkerError(Exception):
    """A piece of work that brought no answer; the text says why."""


class WorkerTimeoutError(WorkerError):
    """The worker overran its limit and was killed. cpu_s: the processor time it had used on this work, in seconds."""

    def __init__(self, text: str, cpu_s: float = 0.0) -> None:
        super().__init__(text)
        self.cpu_s = cpu_s


class WorkCancelledError(WorkerError):
    """Nobody waits for the work any more; its worker was killed."""


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


class Clock:
    """The time one piece of work has, by the wall clock or by the worker's processor time."""

    def __init__(self, pid: int, limit_s: float, *, patient: bool) -> None:
        self._pid, self._limit_s, self._patient = pid, limit_s, patient
        self._began = time.monotonic()
        self._cpu_began = cpu_seconds(pid)
        self._deadline = self._began + limit_s

    def left_s(self) -> float:
        """Seconds until it is time to look again."""
        return max(0.0, self._deadline - time.monotonic())

    def refuse_overrun(self) -> None:
        """Raise WorkerTimeoutError when the time is up; a patient clock grants what was not spent computing."""
        now = time.monotonic()
        if now < self._deadline:
            return
        used = cpu_seconds(self._pid) - self._cpu_began
        left = self._limit_s - used
        end = self._began + PATIENCE * self._limit_s
        if not self._patient or left <= 0.02 * self._limit_s or now >= end:
            raise WorkerTimeoutError(f"took longer than {self._limit_s:g} s", used)
        self._deadline = min(now + left, end)


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used, in seconds; 0 when it cannot be read."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            return time.clock_gettime((~pid << 3) | 2)  # Linux numbers the clock of a process by its id
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


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

    def ask(self, message: Mapping[str, Any], limit_s: float, *, patient: bool = False) -> Reply:
        """Send one message and wait for its answer, `limit_s` seconds at most.

        patient: count the limit in the worker's processor time, within `PATIENCE` times as much wall time.
        Raises: WorkerTimeoutError, WorkerDiedError (the worker is then of no more use), WorkFailedError.
        """
        started = time.monotonic()
        clock = Clock(self.pid, limit_s, patient=patient)
        frame = encode(message)
        try:
            self._send(frame, clock)
            length = body_length(self._receive(HEADER.size, clock))
            answer = decode(self._receive(length, clock))
        except (BrokenPipeError, EOFError, ValueError) as error:
            raise WorkerDiedError(self._how_it_ended()) from error
        if not answer["ok"]:
            raise WorkFailedError(answer["error"], answer["kind"])
        return Reply(result=answer["result"], seconds=time.monotonic() - started)

    def _wait(self, descriptor: int, event: int, clock: Clock) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        while not poll.poll(clock.left_s() * 1000):
            clock.refuse_overrun()

    def _send(self, frame: bytes, clock: Clock) -> None:
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, clock)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._in, view) :]

    def _receive(self, count: int, clock: Clock) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(self._out, select.POLLIN, clock)
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
