"""The host's end of one running program: its pipes, its clock and its limits.

Reading and writing never block, what comes in is counted while it is read, and the end is the end of the process, not
of its output.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import time
import weakref
from array import array
from collections.abc import Sequence

from charter.sandbox.inside.child import JAILED, UNCONFINED
from charter.sandbox.inside.codec import HEADER
from charter.sandbox.job import Limits
from charter.sandbox.judging import Ending

SETUP_LIMIT_S = 20.0
"""Time a child has to put its walls up, even on an overloaded machine; past it, the sandbox is at fault."""
END_LIMIT_S = 10.0
"""Time the server has to report the end of a child that was killed."""
_READ_BYTES = 1 << 16
_LIVE: weakref.WeakSet[Process] = weakref.WeakSet()


class ServerGone(Exception):  # noqa: N818 - reads as the condition it names
    """The fork server ended or broke its protocol."""


class Process:
    """One child of a fork server, from its request to its end.

    control: the server's socket. limits: of this process. payload: what it reads on standard input.
    keep_input: leave its input open for more (`say`). wants_output: whether its standard output is read.
    """

    def __init__(
        self,
        control: socket.socket,
        limits: Limits,
        payload: bytes,
        *,
        keep_input: bool = False,
        wants_output: bool = False,
    ) -> None:
        self._control = control
        self.limits = limits
        self._pending = memoryview(payload)
        self._keep_input = keep_input
        self.output = bytearray()
        self._results = bytearray()
        self._pidfd = -1
        self._state: str = "asked"  # asked → started → jailed → ended
        self.ending: Ending | None = None
        self._killed: Ending | None = None
        self._theirs: list[int] = []  # ends that go to the child
        self._asked_at = self._jailed_at = time.monotonic()
        self._in = self._out = self._res = -1
        _LIVE.add(self)
        try:
            self._ask(self._open_pipes(wants_output))
        except OSError as error:
            self._let_go()
            raise ServerGone(f"a job could not be started: {error}") from error
        self._close_theirs()

    def _open_pipes(self, wants_output: bool) -> list[int]:
        child_in, self._in = os.pipe2(os.O_CLOEXEC)
        self._theirs.append(child_in)
        self._res, child_res = os.pipe2(os.O_CLOEXEC)
        self._theirs.append(child_res)
        # a null device of the job's own: what a program sets on a shared one, the next could read
        null = child_out = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._theirs.append(null)
        if wants_output:
            self._out, child_out = os.pipe2(os.O_CLOEXEC)
            self._theirs.append(child_out)
        for own in (self._in, self._out, self._res):
            if own >= 0:
                os.set_blocking(own, False)
        return [child_in, child_out, null, child_res]

    def _ask(self, child_ends: Sequence[int]) -> None:
        request = json.dumps({"cpu_s": self._cpu_s, "memory_bytes": self.limits.memory_bytes})
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", child_ends))]
        self._control.sendmsg([request.encode()], rights)

    @property
    def _cpu_s(self) -> int:
        limits = self.limits
        return max(1, math.ceil(limits.cpu_s if limits.cpu_s is not None else limits.wall_s + 1))

    @property
    def deadline(self) -> float:
        """When it must have ended, on the monotonic clock."""
        return self._jailed_at + self.limits.wall_s if self._state == "jailed" else self._asked_at + SETUP_LIMIT_S

    def say(self, data: bytes) -> None:
        """Queue more for its standard input."""
        self._pending = memoryview(bytes(self._pending) + data)

    def frames(self) -> list[bytes]:
        """Take the whole frames that have arrived."""
        found = []
        while len(self._results) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._results)
            if length > self.limits.result_bytes:
                self.kill(Ending(killed="output_limit"))
                break
            end = HEADER.size + length
            if len(self._results) < end:
                break
            found.append(bytes(self._results[HEADER.size : end]))
            del self._results[:end]
        return found

    @property
    def leftover(self) -> bool:
        """Whether results hold part of a frame after the end."""
        return bool(self._results)

    def kill(self, why: Ending) -> None:
        """End it now; `why` becomes its ending unless it had already ended."""
        if self._killed is None:
            self._killed = why
        if self._pidfd >= 0 and self.ending is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def interests(self) -> list[tuple[int, int]]:
        """Descriptors to poll, each with its events."""
        wanted = [(self._control.fileno(), select.POLLIN)]
        if self._state in ("started", "jailed"):
            wanted += [(end, select.POLLIN) for end in (self._out, self._res) if end >= 0]
            if self._in >= 0 and self._pending and self._state == "jailed":
                wanted.append((self._in, select.POLLOUT))
        return wanted

    def handle(self, ready: set[int]) -> None:
        """Do what the ready descriptors allow; also look at the clock. Raises: ServerGone."""
        if self._in in ready:
            self._write()
        if self._res in ready:
            self._read_results()
        if self._out in ready:
            self._read_output()
        if self._control.fileno() in ready:
            self._hear_server()
        if self.ending is None and time.monotonic() >= self.deadline:
            self._run_out()

    def _run_out(self) -> None:
        if self._state == "asked" or time.monotonic() >= self.deadline + END_LIMIT_S:
            raise ServerGone("the fork server does not answer")
        late = Ending(killed="timeout") if self._state == "jailed" else Ending(error="the jail was not up in time")
        self.kill(late)

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._in, self._pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to hear more
            self._pending = memoryview(b"")
            self._keep_input = False
        self._close_input_when_done()

    def _close_input_when_done(self) -> None:
        if not self._pending and not self._keep_input and self._in >= 0:
            os.close(self._in)
            self._in = -1

    def _read_results(self) -> None:
        data = self._read(self._res)
        if not data:
            self._res = self._closed_if_over(self._res, data)
            return
        if self._state == "started":
            self._become_jailed(data[:1], data)
            data = data[1:]
        self._results += data
        if len(self._results) > self.limits.result_bytes + HEADER.size:
            self.kill(Ending(killed="output_limit"))
            self._results.clear()

    def _become_jailed(self, first: bytes, data: bytes) -> None:
        # what a child says first it says before it has its job, so it is the jail that speaks
        if first != JAILED:
            said = data[1:300].decode("utf-8", "replace") if first == UNCONFINED else "it did not say that it is jailed"
            self.kill(Ending(error=f"the jail could not be closed: {said}"))
            return
        self._state = "jailed"
        self._jailed_at = time.monotonic()
        self._write()

    def _read_output(self) -> None:
        data = self._read(self._out)
        if not data:
            self._out = self._closed_if_over(self._out, data)
            return
        self.output += data
        if len(self.output) > self.limits.output_bytes:
            self.kill(Ending(killed="output_limit"))
            del self.output[self.limits.output_bytes :]

    @staticmethod
    def _read(descriptor: int) -> bytes | None:
        try:
            return os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return None

    @staticmethod
    def _closed_if_over(descriptor: int, data: bytes | None) -> int:
        """Close a pipe that has ended; -1 then. That the process goes on without it is its own affair."""
        if data is None:
            return descriptor
        os.close(descriptor)
        return -1

    def _hear_server(self) -> None:
        rights_bytes = socket.CMSG_SPACE(array("i").itemsize)
        try:
            message, ancillary, _, _ = self._control.recvmsg(4096, rights_bytes, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise ServerGone(f"the fork server is gone: {error}") from error
        for _, _, data in ancillary:
            self._pidfd = array("i", data[: array("i").itemsize])[0]
        kind, rest = message[:1], message[1:]
        if kind == b"S":
            self._state = "started"
            if self._killed is not None:
                self.kill(self._killed)
        elif kind == b"X":
            try:
                status, cpu_s = map(float, json.loads(rest))
            except (TypeError, ValueError) as error:
                raise ServerGone(f"the fork server speaks in riddles: {error}") from error
            self._settle(int(status), cpu_s)
        elif kind == b"E":
            self._finish(Ending(error=f"the child could not be started: {rest.decode('utf-8', 'replace')}"))
        else:
            raise ServerGone("the fork server ended")

    def _settle(self, status: int, cpu_s: float) -> None:
        # the process is gone; what it managed to write is still in the pipes
        while self._res >= 0 and self._killed is None and self._has_more(self._res):
            self._read_results()
        while self._out >= 0 and self._killed is None and self._has_more(self._out):
            self._read_output()
        if self._killed is not None:
            self._finish(self._killed)
        elif self._state != "jailed":
            self._finish(Ending(error=f"the child ended before it was jailed (status {status})"))
        elif os.WIFSIGNALED(status):
            late = os.WTERMSIG(status) == signal.SIGKILL and cpu_s >= self._cpu_s  # the kernel's, at the hard limit
            self._finish(Ending(killed="timeout") if late else Ending(signal=os.WTERMSIG(status)))
        else:
            self._finish(Ending(code=os.WEXITSTATUS(status)))

    @staticmethod
    def _has_more(descriptor: int) -> bool:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return any(event & select.POLLIN for _, event in waiting.poll(0))

    def _finish(self, ending: Ending) -> None:
        seconds = time.monotonic() - self._jailed_at
        self.ending = Ending(
            killed=ending.killed, signal=ending.signal, code=ending.code, error=ending.error, seconds=seconds
        )
        self._state = "ended"
        self._let_go()

    def abandon(self) -> None:
        """Kill it and let go of everything, whatever state it is in; for work that is given up."""
        self.kill(Ending(error="the work was given up"))
        self._let_go()

    def _let_go(self) -> None:
        for end in (self._in, self._out, self._res, self._pidfd):
            if end >= 0:
                os.close(end)
        self._in = self._out = self._res = self._pidfd = -1
        self._close_theirs()

    def _close_theirs(self) -> None:
        for end in self._theirs:
            os.close(end)
        self._theirs.clear()


def _forget_in_fork() -> None:
    """A process forked from the trainer must not hold the pipes of its jobs open: their ends would never come."""
    for process in list(_LIVE):
        process._let_go()


os.register_at_fork(after_in_child=_forget_in_fork)


def step(processes: Sequence[Process]) -> None:
    """Wait until something happens to one of the processes, and handle it. Raises: ServerGone."""
    waiting = select.poll()
    running = [process for process in processes if process.ending is None]
    for process in running:
        for descriptor, events in process.interests():
            waiting.register(descriptor, events)
    left_s = min(process.deadline for process in running) - time.monotonic()
    ready = {descriptor for descriptor, _ in waiting.poll(max(0.0, left_s) * 1000 + 1)}
    for process in running:
        process.handle(ready)
