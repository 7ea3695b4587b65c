"""The layers a child puts around itself, in order, before it knows its job.

Whatever costs time and needs no child (the filter, the ruleset, the bounding set) is made once, in the fork server.
Any layer that fails raises Unconfined, and the child ends without having read its job.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from . import landlock, policy, seccomp

LAYERS = ("process", "limits", "identity", "landlock", "seccomp")
"""In the order in which they are put up; whether each holds is shown by its effect, not by this list."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63


MOST_THREADS = 256


class Unconfined(Exception):  # noqa: N818 - reads as the condition it names
    """A layer could not be put up; the job must not run."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one job. cpu_s: whole seconds. memory_bytes: address space."""

    cpu_s: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder to write to. hidden_host: whether a mount namespace hides the host's files beside it."""

    folder: str
    size_bytes: int
    hidden_host: bool


class Walls:
    """The layers, prepared.

    layers: which to put up. readable: paths a job may read. uid: the user to become, when the server is root.
    scratch: what a job may write to, or None. own_user: whether the kernel counts this server's processes apart from
    all others; else a limit on their number would let one program starve the next of threads.
    """

    def __init__(
        self,
        layers: Sequence[str],
        readable: Sequence[str],
        uid: int | None,
        scratch: Scratch | None = None,
        *,
        own_user: bool = False,
    ) -> None:
        self.layers = frozenset(layers)
        self.machine: policy.Machine = policy.machine()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.filter: seccomp.Filter | None = None
        if "seccomp" in self.layers:
            program = seccomp.assemble(
                self.machine, scratch=scratch is not None, metadata=scratch is not None and scratch.hidden_host
            )
            self.filter = seccomp.Filter(program, self.libc, self.machine)
        self.ruleset = -1
        if "landlock" in self.layers:
            writable = scratch.folder if scratch else ""
            self.ruleset = landlock.create(readable, self.libc, self.machine, writable=writable)
        self.file_bytes = scratch.size_bytes if scratch else 0
        self.uid = uid
        self.server = os.getpid()
        self.own_user = own_user
        if "identity" in self.layers and os.geteuid() == 0:
            self._forget_capabilities()

    def _forget_capabilities(self) -> None:
        """Nothing started from here can gain a capability again, whatever it executes."""
        for capability in range(_LAST_CAPABILITY + 1):
            if self._prctl(_PR_CAPBSET_DROP, capability) != 0:
                if ctypes.get_errno() == 22:  # EINVAL: past the kernel's last one
                    break
                raise Unconfined(f"identity: the bounding set: {os.strerror(ctypes.get_errno())}")

    def _prctl(self, option: int, argument: int) -> int:
        zero = ctypes.c_ulong(0)
        return self.libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero)

    def enter(self, bounds: Bounds) -> None:
        """Put the layers up around this process. Raises: Unconfined with the layer's name."""
        layer = "process"
        try:
            if "process" in self.layers:
                os.setsid()
            if "limits" in self.layers:
                layer = "limits"
                self._limit(bounds)
            if "identity" in self.layers:
                layer = "identity"
                self._change_identity()
            if "process" in self.layers:  # after the change of user, which would undo both
                layer = "process"
                self._stand_alone()
            if "landlock" in self.layers or "seccomp" in self.layers:
                layer = "no_new_privs"
                if self._prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
                    raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS was refused")
            if "landlock" in self.layers:
                layer = "landlock"
                landlock.restrict(self.ruleset, self.libc, self.machine)
            os.closerange(4, 256)  # 0 to 3 are the job's; the server closed what it did not open, and holds a dozen
            if self.filter is not None:
                layer = "seccomp"
                self.filter.install(os.getpid())
        except (OSError, ValueError) as error:
            raise Unconfined(f"{layer}: {error}") from error

    def _limit(self, bounds: Bounds) -> None:
        for which, soft, hard in (
            (resource.RLIMIT_AS, bounds.memory_bytes, bounds.memory_bytes),
            # SIGXCPU at the soft limit can be caught, SIGKILL at the hard one would look like the machine's doing
            (resource.RLIMIT_CPU, bounds.cpu_s, bounds.cpu_s + 60),
            (resource.RLIMIT_FSIZE, self.file_bytes, self.file_bytes),
            (resource.RLIMIT_NOFILE, 64, 64),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
            (resource.RLIMIT_MSGQUEUE, 0, 0),
            (resource.RLIMIT_NICE, 0, 0),
            (resource.RLIMIT_RTPRIO, 0, 0),
            *([(resource.RLIMIT_NPROC, MOST_THREADS, MOST_THREADS)] if self.own_user else []),
        ):
            resource.setrlimit(which, (soft, hard))

    def _change_identity(self) -> None:
        if self.uid is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
        call = ctypes.c_long(policy.number_of("capset", self.machine))
        if self.libc.syscall(call, header, bytes(24)) != 0:
            raise OSError(ctypes.get_errno(), "capset was refused")

    def _stand_alone(self) -> None:
        if self._prctl(_PR_SET_DUMPABLE, 0) != 0 or self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl was refused")
        if os.getppid() != self.server:  # it died before the request above took hold
            os._exit(0)
