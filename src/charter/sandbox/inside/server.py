"""The fork server: one clean process that makes one jailed child per job and reports how it ended.

It never sees a job: the child reads that from its own pipe once it is jailed. The control socket carries
`{"cpu_s", "memory_bytes"}` with the job's four descriptors (input, output, errors, results) one way, and
`S` (started, with a pidfd), `X` (ended: wait status, processor seconds) or `E` (could not
start: why) the other. When the socket closes, the trainer is gone, and so is everything here.
"""

from __future__ import annotations

import _thread
import array
import ctypes
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from . import child, habits, imports, namespaces, scratch
from .confine import Bounds, Scratch, Unconfined, Walls

_RIGHTS_BYTES = socket.CMSG_SPACE(4 * array.array("i").itemsize)
_MESSAGE_BYTES = 4096
THREAD_STACK_BYTES = 1024**2
"""Of threads a program starts; the usual 8 MiB each would eat the address-space limit."""


class Server:
    """control: connected SOCK_SEQPACKET socket to the trainer. walls: what each child puts around itself."""

    def __init__(self, control: socket.socket, walls: Walls) -> None:
        self.control = control
        self.walls = walls

    def run(self) -> None:
        """Serve jobs until the socket closes."""
        while True:
            try:
                message, descriptors = self._next()
            except OSError:
                return
            if not message:
                return
            self._one(json.loads(message), descriptors)

    def _next(self) -> tuple[bytes, list[int]]:
        message, ancillary, _, _ = self.control.recvmsg(_MESSAGE_BYTES, _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return message, list(descriptors)

    def _one(self, job: dict[str, Any], descriptors: list[int]) -> None:
        bounds = Bounds(cpu_s=job["cpu_s"], memory_bytes=job["memory_bytes"])
        try:
            pid = os.fork()
        except OSError as error:
            self._close(descriptors)
            self.control.send(b"E" + str(error).encode())
            return
        if pid == 0:
            become_child(self.walls, bounds, descriptors)
        self._close(descriptors)
        pidfd = os.pidfd_open(pid)
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
            self.control.sendmsg([b"S"], rights)
            self._await_end(pidfd)
            _, status, usage = os.wait4(pid, 0)
            seconds = usage.ru_utime + usage.ru_stime
            self.control.send(b"X" + json.dumps([status, seconds]).encode())
        except OSError:  # the trainer is gone
            os.kill(pid, signal.SIGKILL)
            os._exit(0)
        finally:
            os.close(pidfd)

    def _await_end(self, pidfd: int) -> None:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        watch.register(self.control.fileno(), 0)  # hang-ups only; they need not be asked for
        while True:
            ready = dict(watch.poll())
            if pidfd in ready:
                return
            if ready:
                raise ConnectionResetError("the trainer hung up")

    @staticmethod
    def _close(descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)


def become_child(walls: Walls, bounds: Bounds, descriptors: list[int]) -> None:
    """In the child: take the job's descriptors, put the walls up, work. Does not return."""
    try:
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
        try:
            walls.enter(bounds)
        except Unconfined as error:
            os.write(3, child.UNCONFINED + str(error).encode()[:500])
            os._exit(4)
        os.write(3, child.JAILED)
        child.work()
    finally:
        os._exit(5)


def _take_socket(descriptor: int) -> socket.socket:
    """The control socket, moved out of the way of 0 to 3, which belong to the children."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)  # the only one that was inherited besides 0 to 2
    os.dup2(2, 3)
    return socket.socket(fileno=moved)


def _leave_users() -> bool:
    """Whether the server has a user namespace of its own now; without one, threads are bounded by memory only."""
    if os.getuid() == 0:
        return False
    try:
        namespaces.leave(ctypes.CDLL(None, use_errno=True), mounts=False)
    except OSError:
        return False
    return True


def _make_scratch(settings: dict[str, Any]) -> Scratch | None:
    size_bytes, hidden_host = settings["scratch_bytes"], settings["hidden_host"]
    if not size_bytes:
        return None
    if not hidden_host:  # else both were mounted before bubblewrap was started
        scratch.mount_folder(size_bytes)
        scratch.mount_library(settings["roots"][0])
    return Scratch(scratch.FOLDER, size_bytes, hidden_host)


def main(descriptor: int) -> None:
    """Set the server up as its first message says, answer `{"error": ""}` or why it cannot serve, and serve.

    descriptor: the control socket.
    """
    control = _take_socket(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    settings = json.loads(control.recv(1 << 20))
    os.environ.clear()
    os.chdir(settings["roots"][0])
    _thread.stack_size(THREAD_STACK_BYTES)
    habits.keep()
    try:
        extensions = imports.preload(settings["extensions"])
        if settings["checks"]:
            from . import checker

            child.extra_modes["checker"] = checker.run
        room = _make_scratch(settings)
        imports.use_index(settings["roots"], extensions, scratch.LIBRARY if room else "")
        own_user = settings["uid"] is not None or settings["hidden_host"] or room is not None or _leave_users()
        walls = Walls(settings["layers"], settings["readable"], settings["uid"], room, own_user=own_user)
        if room:
            os.chdir(room.folder)
    except (OSError, Unconfined) as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    for name in [name for name in sys.modules if name == "inside" or name.startswith("inside.")]:
        sys.modules.pop(name)  # a program finds nothing of the jail by name; what is running keeps its own references
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"error": ""}).encode())
    Server(control, walls).run()
