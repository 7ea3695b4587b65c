"""Which system calls a jailed process may make, as data; everything that is not here is refused with EPERM.

A condition is met by the low 32 bits of an argument unless it says otherwise: the kernel reads these arguments as int
or unsigned int. What the list leaves out, on purpose: sockets, fork and exec, ptrace and its kin, io_uring, memfd and
shared memory, keyrings, mounts, namespaces, and every call that takes a path and answers with metadata (stat, access,
readlink), which Landlock does not cover. fstat works on what was opened; Python falls back where newfstatat is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Machine = Literal["x86_64", "aarch64"]

AUDIT_ARCH: Mapping[Machine, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The architecture as seccomp names it (linux/audit.h); a call made in another one's convention kills the process."""


@dataclass(frozen=True, slots=True)
class Among:
    """The argument is one of these values."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Without:
    """None of these bits is set in the argument."""

    argument: int
    bits: int


@dataclass(frozen=True, slots=True)
class NotBoth:
    """The argument does not have both of these bits."""

    argument: int
    one: int
    other: int


@dataclass(frozen=True, slots=True)
class Other:
    """The argument is not this value."""

    argument: int
    value: int


@dataclass(frozen=True, slots=True)
class Null:
    """The argument is a null pointer (64 bits)."""

    argument: int


@dataclass(frozen=True, slots=True)
class Keeps:
    """The argument is not this value, or the pointer in `unless_null` is null: the thing is at most read."""

    argument: int
    value: int
    unless_null: int


@dataclass(frozen=True, slots=True)
class Self:
    """The argument is this process's own id, or 0 where `zero` allows it."""

    argument: int
    zero: bool = False


Condition = Among | Without | NotBoth | Other | Null | Keeps | Self

_O_WRITING = 0x1 | 0x2 | 0o100 | 0o1000 | 0o20000000  # WRONLY, RDWR, CREAT, TRUNC, and O_TMPFILE's own bit
_O_PATH = 0o10000000  # a descriptor that Landlock does not guard, and that fstat would answer for
_THREAD = 0x3D0F00  # VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID, as C libraries ask for it
_THREAD_DETACHED = 0x7D0F00  # the same with the old CLONE_DETACHED, as musl asks for it
_SIGKILL = 9
_RLIMIT_CPU = 0
_MAP_SHARED, _MAP_ANONYMOUS = 0x1, 0x20
_STREAM_WITH_FLAGS = tuple(0x1 | flags for flags in (0, 0o4000, 0o2000000, 0o2004000))
_FCNTL = (0, 1, 2, 3, 4, 1030)  # DUPFD GETFD SETFD GETFL SETFL DUPFD_CLOEXEC
_IOCTL = (0x5401, 0x541B, 0x5413, 0x5421, 0x5450, 0x5451)  # TCGETS FIONREAD TIOCGWINSZ FIONBIO FIONCLEX FIOCLEX
_PRCTL = (2, 3, 15, 16)  # GET_PDEATHSIG GET_DUMPABLE SET_NAME GET_NAME

# name: (x86-64 number, aarch64 number, conditions that must all hold)
_ALLOWED: Mapping[str, tuple[int | None, int | None, tuple[Condition, ...]]] = {
    # the ones a program makes all the time come first: the filter looks from top to bottom
    "read": (0, 63, ()),
    "write": (1, 64, ()),
    "futex": (202, 98, ()),
    # shared anonymous memory outlives its mapping, beyond the limit on address space
    "mmap": (9, 222, (NotBoth(3, _MAP_SHARED, _MAP_ANONYMOUS),)),
    "munmap": (11, 215, ()),
    "mprotect": (10, 226, ()),
    "brk": (12, 214, ()),
    "mremap": (25, 216, ()),
    "madvise": (28, 233, ()),
    "openat": (257, 56, (Without(2, _O_WRITING | _O_PATH),)),
    "open": (2, None, (Without(1, _O_WRITING | _O_PATH),)),
    "close": (3, 57, ()),
    "fstat": (5, 80, ()),
    "lseek": (8, 62, ()),
    "pread64": (17, 67, ()),
    "readv": (19, 65, ()),
    "writev": (20, 66, ()),
    "getdents64": (217, 61, ()),
    "ioctl": (16, 29, (Among(1, _IOCTL),)),
    "fcntl": (72, 25, (Among(1, _FCNTL),)),
    "dup": (32, 23, ()),
    "dup2": (33, None, ()),
    "dup3": (292, 24, ()),
    "pipe": (22, None, ()),
    "pipe2": (293, 59, ()),
    "poll": (7, None, ()),
    "ppoll": (271, 73, ()),
    "select": (23, None, ()),
    "pselect6": (270, 72, ()),
    "epoll_create1": (291, 20, ()),
    "epoll_ctl": (233, 21, ()),
    "epoll_wait": (232, None, ()),
    "epoll_pwait": (281, 22, ()),
    "eventfd2": (290, 19, ()),
    # asyncio wakes itself through a pair of connected stream sockets; a datagram pair could reach any other socket
    "socketpair": (53, 199, (Among(0, (1,)), Among(1, _STREAM_WITH_FLAGS), Among(2, (0,)))),
    "sendto": (44, 206, (Null(4),)),
    "recvfrom": (45, 207, (Null(4),)),
    "shutdown": (48, 210, ()),
    "getsockname": (51, 204, ()),
    "getpeername": (52, 205, ()),
    "getsockopt": (55, 209, ()),
    "rt_sigaction": (13, 134, ()),
    "rt_sigprocmask": (14, 135, ()),
    "rt_sigreturn": (15, 139, ()),
    "rt_sigpending": (127, 136, ()),
    "rt_sigtimedwait": (128, 137, ()),
    "rt_sigsuspend": (130, 133, ()),
    "sigaltstack": (131, 132, ()),
    # never SIGKILL: so one that was not ours is the machine's (out of memory), and no program can pretend to that
    "kill": (62, 129, (Self(0), Other(1, _SIGKILL))),
    "tgkill": (234, 131, (Self(0), Other(2, _SIGKILL))),
    "pause": (34, None, ()),
    "alarm": (37, None, ()),
    "getitimer": (36, 102, ()),
    "setitimer": (38, 103, ()),
    "nanosleep": (35, 101, ()),
    "clock_nanosleep": (230, 115, ()),
    "clock_gettime": (228, 113, ()),
    "clock_getres": (229, 114, ()),
    "gettimeofday": (96, 169, ()),
    "time": (201, None, ()),
    "times": (100, 153, ()),
    "restart_syscall": (219, 128, ()),
    "clone": (56, 220, (Among(0, (_THREAD, _THREAD_DETACHED)),)),
    "set_robust_list": (273, 99, ()),
    "set_tid_address": (218, 96, ()),
    "rseq": (334, 293, ()),
    "sched_yield": (24, 124, ()),
    "sched_getaffinity": (204, 123, (Self(0, zero=True),)),
    "exit": (60, 93, ()),
    "exit_group": (231, 94, ()),
    "getrandom": (318, 278, ()),
    "getcwd": (79, 17, ()),
    "umask": (95, 166, ()),
    "uname": (63, 160, ()),
    "getpid": (39, 172, ()),
    "getppid": (110, 173, ()),
    "gettid": (186, 178, ()),
    "getuid": (102, 174, ()),
    "geteuid": (107, 175, ()),
    "getgid": (104, 176, ()),
    "getegid": (108, 177, ()),
    "capget": (125, 90, ()),
    "getrusage": (98, 165, ()),
    "getrlimit": (97, 163, ()),
    # a program that lowered its processor time would end by a SIGKILL that looks like the machine's
    "setrlimit": (160, 164, (Other(0, _RLIMIT_CPU),)),
    "prlimit64": (302, 261, (Self(0, zero=True), Keeps(1, _RLIMIT_CPU, unless_null=2))),
    "prctl": (157, 167, (Among(0, _PRCTL),)),
}

# what a scratch folder adds; Landlock holds it to that folder
_SCRATCH: Mapping[str, tuple[int | None, int | None, tuple[Condition, ...]]] = {
    "openat": (257, 56, (Without(2, _O_PATH),)),
    "open": (2, None, (Without(1, _O_PATH),)),
    "pwrite64": (18, 68, ()),
    "ftruncate": (77, 46, ()),
    "fsync": (74, 82, ()),
    "fdatasync": (75, 83, ()),
    "mkdir": (83, None, ()),
    "mkdirat": (258, 34, ()),
    "rmdir": (84, None, ()),
    "unlink": (87, None, ()),
    "unlinkat": (263, 35, ()),
    "rename": (82, None, ()),
    "renameat": (264, 38, ()),
    "renameat2": (316, 276, ()),
}
# and, where a mount namespace hides the host's files, the calls that answer with metadata
_METADATA: Mapping[str, tuple[int | None, int | None, tuple[Condition, ...]]] = {
    "stat": (4, None, ()),
    "lstat": (6, None, ()),
    "newfstatat": (262, 79, ()),
    "access": (21, None, ()),
    "faccessat": (269, 48, ()),
}

_ENOSYS = 38
# A C library that is told "no such call" asks again in the older way, which the filter can read: clone3 and openat2
# hide their flags behind a pointer.
_ABSENT: Mapping[str, tuple[int, int]] = {"clone3": (435, 435), "openat2": (437, 437), "faccessat2": (439, 439)}

_INSTALLING: Mapping[str, tuple[int, int]] = {
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "capset": (126, 91),
}
"""Calls the jail itself makes before it is closed, and which the C library has no function for."""


def machine() -> Machine:
    """The architecture of this process. Raises: OSError for one that has no table here."""
    import os
    import sys

    name = os.uname().machine
    if name == "x86_64" and sys.maxsize > 2**32:
        return "x86_64"
    if name in ("aarch64", "arm64"):
        return "aarch64"
    raise OSError(f"there is no system-call table for {name!r} (known: x86_64, aarch64)")


def _column(on: Machine) -> int:
    return 0 if on == "x86_64" else 1


def allowed(on: Machine, *, scratch: bool = False, metadata: bool = False) -> dict[int, tuple[Condition, ...]]:
    """System-call number → the conditions under which it is let through, in the order in which to look.

    scratch: files may be written. metadata: of files too, paths may be asked about.
    """
    table = {**_ALLOWED, **(_SCRATCH if scratch else {}), **(_METADATA if metadata else {})}
    rows = [(x86_64 if on == "x86_64" else aarch64, conditions) for x86_64, aarch64, conditions in table.values()]
    return {number: conditions for number, conditions in rows if number is not None}


def absent(on: Machine) -> dict[int, int]:
    """System-call number → the errno that says it does not exist."""
    return {row[_column(on)]: _ENOSYS for row in _ABSENT.values()}


def number_of(name: str, on: Machine) -> int:
    """The number of a call the jail makes while it is being closed."""
    return _INSTALLING[name][_column(on)]
