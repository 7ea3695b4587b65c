"""The host's end of one `monty` worker: started clean, asked one job at a time, killed with its interpreter.

Not here: what the worker does (`monty_worker.py`), who owns how many (`monty.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charter.sandbox.inside.codec import HEADER
from charter.sandbox.wire import MOST_VERDICT_BYTES

START_LIMIT_S = 60.0
"""Longest time a worker may take to import the interpreter's bindings (seconds)."""
_KEPT = ("PATH", "HOME", "PYTHONPATH", "MONTY_BIN", "LD_LIBRARY_PATH")
"""Variables a worker is given; nothing else of the trainer's environment, which holds keys, reaches it."""


class WorkerFault(Exception):  # noqa: N818 - reads as the condition it names
    """A worker that brought no verdict for a reason the program has no part in."""


class WorkerOverran(Exception):  # noqa: N818
    """A worker that did not answer in time and was killed."""


class WorkerCrashed(Exception):  # noqa: N818
    """A worker that a signal of its own ended while it took over what the program answered."""


class MontyWorker:
    """One child process, and the interpreter it holds. memory_bytes: address space of each of the two."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        root = str(Path(__file__).resolve().parents[2])
        if root not in site.getsitepackages():
            environment["PYTHONPATH"] = os.pathsep.join(p for p in (environment.get("PYTHONPATH"), root) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "charter.sandbox.monty_worker", str(os.getpid()), str(memory_bytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True, env={**environment, "PYTHONUTF8": "1"},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    @property
    def pid(self) -> int:
        """The process id, which is its group's too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it can take jobs. Raises: WorkerFault."""
        try:
            message = self._receive(time.monotonic() + START_LIMIT_S)
        except (WorkerOverran, WorkerCrashed) as error:
            raise WorkerFault(f"the monty worker did not start: {error}") from error
        if message.get("ready") is not True:
            raise WorkerFault(f"the monty worker did not start: {message.get('error', 'no reason given')}")

    def ask(self, job: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """The answer to one job, `limit_s` seconds at most.

        Raises: WorkerFault, WorkerOverran, WorkerCrashed; the worker is then of no more use.
        """
        deadline = time.monotonic() + limit_s
        body = json.dumps(job).encode("ascii")
        view = memoryview(HEADER.pack(len(body)) + body)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._end() from None
        return self._receive(deadline)

    def _receive(self, deadline: float) -> dict[str, Any]:
        (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
        if length > MOST_VERDICT_BYTES:
            raise WorkerFault(f"the monty worker announced an answer of {length} bytes")
        return json.loads(self._read(length, deadline))

    def _read(self, count: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(self._out, select.POLLIN, deadline)
            with contextlib.suppress(BlockingIOError):
                part = os.read(self._out, count - len(parts))
                if not part:
                    raise self._end()
                parts += part
        return bytes(parts)

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise WorkerOverran("it gave no answer in time")

    def _end(self) -> Exception:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        code = self._process.returncode
        if code is not None and code < 0 and -code != signal.SIGKILL:
            return WorkerCrashed(f"ended by signal {-code}")
        how = {None: "closed its channel", -signal.SIGKILL: "was killed from outside (out of memory on this machine?)"}
        return WorkerFault(f"the monty worker {how.get(code, f'ended with exit code {code}')}")

    def signal(self) -> None:
        """Kill the worker and its interpreter; whoever waits on its pipes sees their end."""
        # also after its own end: the interpreter is in the group and may be running still
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill both and let go of the pipes; only for a worker that no thread is waiting on."""
        self.signal()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
