"""What the self-test tries from inside: each probe is closed when its attempt fails, open when it gets through.

The attempts of one program run one after another; each prints its name and `closed` or `open`. A name that is missing
from the output counts as open: nothing is proven by silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """layer: what must hold for it to be closed. attempt: the body of a function that returns whether it got through;
    an OSError means that it did not. Names in scope: os, ctypes, libc, nr (system calls by name), canary (facts)."""

    name: str
    layer: str
    attempt: str


_REFUSED_CALLS: Mapping[str, str] = {
    "TCP socket": "libc.socket(2, 1, 0) >= 0",
    "UDP socket": "libc.socket(2, 2, 0) >= 0",
    "unix socket": "libc.socket(1, 1, 0) >= 0",
    "netlink socket": "libc.socket(16, 3, 0) >= 0",
    "pair of datagram sockets": "libc.socketpair(1, 2, 0, (ctypes.c_int * 2)()) == 0",
    "exec": "libc.execve(b'/nonexistent', None, None) == 0 or ctypes.get_errno() != 1",
    "ptrace": "libc.ptrace(0, 0, 0, 0) == 0",
    "io_uring": "libc.syscall(nr['io_uring_setup'], 1, None) >= 0 or ctypes.get_errno() != 1",
    "anonymous file": "libc.memfd_create(b'x', 0) >= 0",
    "shared memory": "libc.shmget(0, 4096, 0o1600) >= 0",
    "message queue": "libc.msgget(0, 0o1600) >= 0",
    "keyring": "libc.syscall(nr['keyctl'], 0, -3, 1) >= 0",
    "changing a file's mode": "libc.chmod(canary['file'].encode(), 0o644) == 0",
    "signalling the server": "libc.kill(os.getppid(), 0) == 0",
    "a SIGKILL of its own": "libc.tgkill(os.getpid(), 1, 9) == 0 or ctypes.get_errno() != 1",
    "limits of the server": "libc.prlimit(os.getppid(), 7, None, (ctypes.c_ulong * 2)()) == 0",
    "priority of the server": "libc.setpriority(0, os.getppid(), 19) == 0",
    "own priority": "libc.setpriority(0, 0, 19) == 0",
    "affinity": "libc.sched_setaffinity(0, 8, b'\\1' + bytes(7)) == 0",
    "a handle on the server": "libc.syscall(nr['pidfd_open'], os.getppid(), 0) >= 0",
    "namespaces": "libc.unshare(0x10000000) == 0",
    "signals through a descriptor": "libc.fcntl(1, 8, os.getppid()) == 0",
    "typing into a terminal": "libc.ioctl(0, 0x5412, b'x') == 0 or ctypes.get_errno() != 1",
    "loosening the filter": "libc.prctl(4, 1, 0, 0, 0) == 0",
}
"""What the filter must refuse: name → whether it got through. Some would fail anyway for another reason; then it is the
errno (1, EPERM, the filter's) that tells."""

PROBES = (
    Probe(name="environment", layer="process", attempt="return len(os.environ) > 0 or bool(libc.getenv(b'PATH'))"),
    Probe(
        name="open descriptors",
        layer="process",
        attempt="import fcntl\nfor fd in range(4, 4096):\n    try: fcntl.fcntl(fd, 1)\n    except OSError: continue\n"
        "    return True\nreturn False",
    ),
    Probe(name="core dumps and tracing", layer="process", attempt="return libc.prctl(3, 0, 0, 0, 0) != 0"),
    Probe(
        name="outliving the trainer",
        layer="process",
        attempt="s = ctypes.c_int(0)\nreturn libc.prctl(2, ctypes.byref(s), 0, 0, 0) != 0 or s.value != 9",
    ),
    Probe(
        name="memory",
        layer="limits",
        attempt="try: block = bytearray(canary['memory_bytes'])\nexcept MemoryError: return False\nreturn True",
    ),
    Probe(
        name="processor time",
        layer="limits",
        attempt="import resource\nreturn resource.getrlimit(resource.RLIMIT_CPU)[0] not in range(1, 3600)",
    ),
    Probe(
        name="file size and core size",
        layer="limits",
        attempt="import resource\nreturn resource.getrlimit(resource.RLIMIT_FSIZE)[1] != 0 "
        "or resource.getrlimit(resource.RLIMIT_CORE)[1] != 0",
    ),
    Probe(
        name="number of descriptors",
        layer="limits",
        attempt="held = []\ntry:\n    for _ in range(64): held.append(os.pipe())\nexcept OSError: return False\n"
        "finally:\n    for pair in held: os.close(pair[0]); os.close(pair[1])\nreturn True",
    ),
    Probe(
        name="capabilities",
        layer="capabilities",
        attempt="import struct\nsets = ctypes.create_string_buffer(24)\n"
        "failed = libc.capget(struct.pack('<Ii', 0x20080522, 0), sets)\nreturn bool(failed) or any(sets.raw)",
    ),
    Probe(name="root", layer="identity", attempt="return os.getuid() == 0 or os.geteuid() == 0"),
    Probe(
        name="a file beside the library",  # reachable in every tier, by every user: only Landlock can refuse it
        layer="landlock",
        attempt="try: open(canary['withheld'])\nexcept OSError as error: return error.errno != 13\nreturn True",
    ),
    Probe(name="a file of the host", layer="files", attempt="return bool(open(canary['file']).read())"),
    Probe(name="a file of the host, by its size", layer="files", attempt="return os.stat(canary['file']).st_size > 0"),
    Probe(
        name="a file of the host, by a bare descriptor",
        layer="seccomp",
        attempt="return os.open(canary['file'], 0o10000000) >= 0",
    ),
    Probe(
        name="other packages",
        layer="files",
        attempt="import importlib\nfor name in canary['packages']:\n    try: importlib.import_module(name)\n"
        "    except ImportError: continue\n    return True\nreturn False",
    ),
    Probe(
        name="writing a file",
        layer="seccomp",
        attempt="return os.open(canary['new'], os.O_WRONLY | os.O_CREAT) >= 0",
    ),
    Probe(name="fork", layer="seccomp", attempt="pid = os.fork()\nif pid == 0: os._exit(0)\nreturn pid > 0"),
    *(Probe(name=name, layer="seccomp", attempt=f"return {attempt}") for name, attempt in _REFUSED_CALLS.items()),
    Probe(name="processes of the host", layer="bubblewrap", attempt="return os.getppid() > 64"),
    Probe(
        name="the host's file system",
        layer="bubblewrap",
        attempt="try: open(canary['elsewhere'])\nexcept OSError as error: return error.errno != 2\nreturn True",
    ),
)

_HEAD = """
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.getenv.restype = ctypes.c_char_p
nr = {numbers!r}
canary = {canary!r}
def attempt(name, body):
    space = dict(globals())
    source = "def probe():\\n" + "\\n".join("    " + line for line in body.split("\\n"))
    try:
        exec(source, space)
        got_through = space["probe"]()
    except OSError:
        got_through = False
    print(name, "open" if got_through else "closed", sep="\\t", flush=True)
"""

NUMBERS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {"io_uring_setup": 425, "pidfd_open": 434, "keyctl": 250},
    "aarch64": {"io_uring_setup": 425, "pidfd_open": 434, "keyctl": 219},
}


def program(probes: tuple[Probe, ...], machine: str, canary: Mapping[str, object]) -> str:
    """One program that makes every attempt."""
    head = _HEAD.format(numbers=dict(NUMBERS[machine]), canary=dict(canary))
    return head + "\n".join(f"attempt({probe.name!r}, {probe.attempt!r})" for probe in probes) + "\n"


FOREIGN_CALL = """
import ctypes
libc = ctypes.CDLL(None)
print("before", flush=True)
libc.syscall(0x40000000 + 39)
print("open", flush=True)
"""
"""getpid in the x32 convention, on x86-64: the process must be killed for it."""

CONTROLS: Mapping[str, tuple[str, str, str]] = {
    "a trivial program": ("print(2 + 3)", "", "5"),
    "the standard library": (
        "import json, decimal, random, collections, datetime, hashlib, heapq, re, sqlite3, email.message\n"
        "print(json.dumps([str(decimal.Decimal(1) / 8), hashlib.sha256(b'').hexdigest()[:4]]))",
        "",
        '["0.125", "e3b0"]',
    ),
    "threads": (
        "import threading\nseen = []\nall_ = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]\n"
        "[t.start() for t in all_]; [t.join() for t in all_]\nprint(sorted(seen))",
        "",
        "[0, 1, 2, 3, 4, 5, 6, 7]",
    ),
    "asyncio": ("import asyncio\nprint(asyncio.run(asyncio.sleep(0.001, 7)))", "", "7"),
    "standard input": ("import sys\nprint(sum(map(int, open(0).read().split())))", "1 2\n3\n", "6"),
    "input()": ("print(input()[::-1])", "añ\n", "ña"),
    "recursion and memory": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)\n"
        "print(f(9000), len(bytearray(100_000_000)))",
        "",
        "9000 100000000",
    ),
}
"""What must work all the same: name → program, standard input, its output."""
