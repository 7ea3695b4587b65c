"""What a hostile program must not touch: tokens, a folder, sockets, and the state of the process that holds it.

`Canary` lays the bait and says afterwards what was taken; `own_state` and `Machine` look at everything around it.
Nothing here runs a program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import secrets
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_TAG = secrets.token_hex(8)
TOKEN_FILE = f"TOK_FILE_{_TAG}"
TOKEN_ENV = f"TOK_ENV_{_TAG}"
TOKEN_MEMORY = [f"TOK_MEM_{_TAG}_{n}" for n in range(200)]
"""Held in this process's memory for as long as it lives."""
UDP_PORT = 18766  # the port that the shared program e02 sends to
ABSTRACT = {"\0charter-canary": socket.SOCK_STREAM, "\0charter-dgram": socket.SOCK_DGRAM}


def plant_environment() -> None:
    """Put the token into the environment; before a sandbox is opened, so that it had the chance to inherit it."""
    os.environ["CHARTER_CANARY"] = TOKEN_ENV


class Canary:
    """A folder anyone may read and write by its modes, so that what keeps a program out is the jail; and sockets.

    It lies in /var/tmp, for a scratch folder is mounted over /tmp.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="charter-canary-", dir="/var/tmp"))
        self._sockets: list[socket.socket] = []
        (self.folder / "outside").mkdir()
        (self.folder / "secret.txt").write_text(TOKEN_FILE + "\n")
        (self.folder / "outside" / "victim.txt").write_text("left alone\n")
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "sock"))
        self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "dgram"))
        for name, kind in ABSTRACT.items():
            self._listen(socket.AF_UNIX, kind, name)
        self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", UDP_PORT))
        for path in (self.folder, self.folder / "outside"):
            path.chmod(0o777)
        for path in self.folder.rglob("*"):
            if not path.is_dir():
                path.chmod(0o666)
        self._before = self._snapshot()

    def _listen(self, family: int, kind: int, address: Any) -> None:
        one = socket.socket(family, kind)
        try:
            one.bind(address)
        except OSError:  # another canary on this machine has the name
            one.close()
            return
        one.setblocking(False)
        if kind == socket.SOCK_STREAM:
            one.listen()
        self._sockets.append(one)

    def _snapshot(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            about = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            kept = (about.st_mode, about.st_uid, about.st_gid, about.st_size, about.st_nlink, about.st_ino)
            times = (about.st_mtime_ns, about.st_ctime_ns)
            found[str(path.relative_to(self.folder))] = (*kept, *times, content, tuple(os.listxattr(path)))
        return found

    def disturbances(self) -> list[str]:
        """What was changed in the folder, and which socket was reached."""
        after = self._snapshot()
        changed = sorted(
            name for name in self._before.keys() | after.keys() if self._before.get(name) != after.get(name)
        )
        return [f"the canary folder changed: {name}" for name in changed] + [
            f"a socket of the caller was reached: {one.getsockname()!r}" for one in self._sockets if _touched(one)
        ]

    def close(self) -> None:
        """Remove it all."""
        for one in self._sockets:
            one.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _touched(one: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        if one.type == socket.SOCK_STREAM:
            one.accept()[0].close()
        else:
            one.recv(1 << 16)
        return True
    return False


_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33, which the C library handles for its threads when it likes."""


def own_state() -> dict[str, Any]:
    """Everything about this process that a child could have changed."""
    numbers = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    state: dict[str, Any] = {
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "scheduler": os.sched_getscheduler(0),
        "io priority": str(psutil.Process().ionice()),
        "umask": _umask(),
        "working folder": os.getcwd(),
        "session": (os.getsid(0), os.getpgid(0)),
        "out-of-memory score": Path("/proc/self/oom_score_adj").read_text(),
    }
    state |= {f"limit {name}": resource.getrlimit(number) for name, number in numbers.items()}
    lines = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    masks = {name: int(value, 16) & ~_C_LIBRARY for name, value in lines if name in ("SigBlk", "SigIgn", "SigCgt")}
    state |= {f"signals ({name})": f"{mask:x}" for name, mask in masks.items()}
    return state


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", ".", "~")
_NAMES = re.compile(
    r"charter-(w|leak|hostile|residue).*|fill\d+|i\d+|w|guard|walk|core(\..*)?|conftest\.py|lnk|hard|x|x\.so"
)
"""What the programs would call what they leave."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is around: files where programs may leave some, objects that outlive processes, processes themselves."""

    files: frozenset[str]
    ipc: tuple[str, ...]
    processes: dict[int, float]

    @classmethod
    def now(cls) -> Machine:
        """As it is."""
        found: set[str] = set()
        for place in map(os.path.expanduser, _PLACES):
            with contextlib.suppress(OSError):
                found |= {os.path.join(place, name) for name in os.listdir(place) if _NAMES.fullmatch(name)}
        tables = [Path("/proc/sysvipc") / name for name in ("shm", "sem", "msg")]
        ipc = tuple(_keys(table) for table in tables)
        return cls(frozenset(found), ipc, {p.pid: p.create_time() for p in _processes()})

    def left_since(self) -> list[str]:
        """What is there now and was not then."""
        after = Machine.now()
        return [f"a file was left: {path}" for path in sorted(after.files - self.files)] + [
            "shared memory, a semaphore or a message queue was left" for _ in range(after.ipc != self.ipc)
        ]

    def running_since(self) -> list[str]:
        """Processes that jobs may have started since then and that still run."""
        return [
            f"a process was left: {process.pid} {' '.join(_words(process))[:80]}"
            for process in _processes()
            if self.processes.get(process.pid) != process.create_time() and _of_a_job(process)
        ]


def _keys(table: Path) -> str:
    """The keys our programs ask for, as the table has them."""
    if not table.exists():
        return ""
    known = {str(0x5B5B), str(0x5B5C), str(0x43484152)}
    return " ".join(sorted(known & {line.split()[0] for line in table.read_text().splitlines()[1:]}))


def _processes() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            process.create_time()
            found.append(process)
    return found


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _of_a_job(process: psutil.Process) -> bool:
    """Whether a process is a child of a fork server (same command line as its parent, which is no bubblewrap), or
    something a program started (`sleep`), of this process's family or of nobody's."""
    with contextlib.suppress(psutil.Error):
        words, parent = process.cmdline(), process.parent()
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        ours = os.getpid() in {one.pid for one in process.parents()}
        orphan = parent is None or parent.pid == 1
        serves = any("inside.server" in word for word in words)
        if serves and not process.name().startswith("bwrap"):
            return orphan or (ours and parent.cmdline() == words and not parent.name().startswith("bwrap"))
        return not serves and (ours or (orphan and words[:1] in (["/bin/sleep"], ["sleep"])))
    return False
