"""Starting a fork server: executed clean, with what it may read written down, inside bubblewrap or not."""

from __future__ import annotations

import functools
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.errors import SandboxUnavailable
from charter.sandbox.inside import scratch
from charter.sandbox.inside.confine import LAYERS
from charter.sandbox.inside.imports import HIDDEN

START_LIMIT_S = 30.0
_HOME = Path(__file__).parent
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from inside.server import main; main(int(sys.argv[2]))"
_PREPARE = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from inside.scratch import LIBRARY, mount_folder;"
    "mount_folder(int(sys.argv[2]), LIBRARY); os.execv(sys.argv[3], sys.argv[3:])"
)
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
_FIRST_HIDDEN_UID = 61184  # the range systemd gives to users it makes up; nobody owns files there
_HIDDEN_UIDS = 4096
_NOBODY = 65534
_NEEDLESS = ("antigravity.py", "this.py", "LICENSE.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What a fork server is to put around its children. layers: of `inside.confine`. bubblewrap: one around it all."""

    layers: tuple[str, ...]
    bubblewrap: bool = False


TIERS = {
    "A": Walls(layers=LAYERS, bubblewrap=True),
    "B": Walls(layers=LAYERS),
    "C": Walls(layers=tuple(layer for layer in LAYERS if layer != "landlock"), bubblewrap=True),
    "unsafe": Walls(layers=("limits",)),
}
"""Best first. `unsafe` is never chosen, only asked for."""


@dataclass(frozen=True, slots=True)
class Library:
    """Where the standard library is. entries: everything in it but other people's packages and `withheld`, a file in
    its root that nobody needs and that the self-test must find closed."""

    roots: tuple[str, ...]
    extensions: str
    entries: tuple[str, ...]
    withheld: str


@functools.cache
def library() -> Library:
    """The standard library of this interpreter."""
    paths = sysconfig.get_paths()
    roots = tuple(dict.fromkeys(os.path.realpath(paths[key]) for key in ("stdlib", "platstdlib")))
    base = tuple(root for root in roots if os.path.isdir(os.path.join(root, "collections"))) or roots
    extensions = os.path.join(base[0], "lib-dynload")
    withheld = next((name for name in _NEEDLESS if os.path.isfile(os.path.join(base[0], name))), "")
    if not withheld:
        raise SandboxUnavailable(f"{base[0]} is no complete standard library: it has none of {', '.join(_NEEDLESS)}")
    entries = [entry.path for root in base for entry in os.scandir(root) if entry.name not in (*HIDDEN, withheld)]
    return Library(roots=base, extensions=extensions, entries=tuple(sorted(entries)), withheld=withheld)


def _interpreter() -> str:
    """The interpreter itself rather than a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def hidden_uid(number: int) -> int | None:
    """A user id for slot `number` that exists in this user namespace; None without root or where there is none."""
    if os.geteuid() != 0:
        return None
    try:
        with open("/proc/self/uid_map") as lines:
            ranges = [tuple(map(int, line.split())) for line in lines]
    except OSError:
        ranges = [(0, 0, 2**32 - 1)]
    own = (os.getpid() * 64 + number) % _HIDDEN_UIDS  # another trainer's programs should be other users
    for uid in (_FIRST_HIDDEN_UID + own, _NOBODY):
        if any(first <= uid < first + count for first, _, count in ranges):
            return uid
    return None


@functools.cache
def _shared_objects() -> tuple[str, ...]:
    """The shared libraries that the interpreter and its extension modules need."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from inside import imports; imports.preload(sys.argv[2]);"
        "print(json.dumps(sorted({l.split()[-1] for l in open('/proc/self/maps') if '.so' in l})))"
    )
    command = [*_python(code), str(_HOME), library().extensions]
    try:
        done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, timeout=START_LIMIT_S, check=True)
        return tuple(json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise SandboxUnavailable(f"bubblewrap: the interpreter's libraries cannot be found: {error}") from None


def _library_files() -> dict[str, str]:
    """Each shared library by every name the loader may ask for, and the loader by the name the interpreter does."""
    real_files = set(_shared_objects())
    found = {path: path for path in real_files if not path.startswith(library().roots)}
    for folder in {os.path.dirname(path) for path in found}:
        for entry in os.scandir(folder):
            if entry.is_symlink() and (real := os.path.realpath(entry.path)) in real_files:
                found[entry.path] = real
    for loader in (*glob.glob("/lib64/ld-*"), *glob.glob("/lib/ld-*")):
        found[os.path.join(os.path.realpath(os.path.dirname(loader)), os.path.basename(loader))] = os.path.realpath(
            loader
        )
    return found


def _without_packages(place: str) -> list[str]:
    """Hide other people's packages where the library is shown."""
    here = [name for name in sorted(HIDDEN) if os.path.isdir(os.path.join(library().roots[0], name))]
    return [word for name in here for word in ("--tmpfs", os.path.join(place, name))]


def _python(code: str) -> list[str]:
    """A clean interpreter that runs some code."""
    return [_interpreter(), "-s", "-S", "-B", "-P", "-c", code]


def bubblewrap_command(scratch_bytes: int = 0) -> list[str]:
    """The beginning of a command that runs the rest with nothing in sight but the interpreter and its library.

    scratch_bytes: size of a folder that can be written to; 0 for none.
    Raises: SandboxUnavailable without the program `bwrap`.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable("bubblewrap is not installed (no program bwrap): apt install bubblewrap")
    command = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--die-with-parent", "--new-session", "--tmpfs", "/"]
    if os.geteuid() == 0:  # what the server needs to give each child a user of its own
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL"):
            command += ["--cap-add", capability]
    for link in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
    for place, real in sorted(_library_files().items()):
        command += ["--ro-bind", real, place]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    command += ["--ro-bind", _interpreter(), _interpreter()]
    for root in library().roots:
        command += ["--ro-bind", root, root, *_without_packages(root)]
    if scratch_bytes:  # made by us: a tmpfs of bubblewrap's has no limit on the number of files
        prepare = [*_python(_PREPARE), str(_HOME), str(scratch_bytes)]
        # over the library's place first: what is bound below may itself lie under /tmp
        command = [*prepare, *command, "--bind", scratch.LIBRARY, scratch.FOLDER]
        command += ["--ro-bind", library().roots[0], scratch.LIBRARY]
        command += _without_packages(scratch.LIBRARY)
    inside = str(_HOME / "inside")
    return [*command, "--ro-bind", inside, inside, "--remount-ro", "/", "--chdir", "/", "--"]


_RUNNING: weakref.WeakSet[Server] = weakref.WeakSet()


@dataclass(eq=False)
class Server:
    """A running fork server. control: its socket."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    def __post_init__(self) -> None:
        _RUNNING.add(self)

    def stop(self) -> None:
        """Kill it; its child dies with it."""
        self.control.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def _forget_in_fork() -> None:
    """A process forked from the trainer must not keep the servers alive when the trainer is gone."""
    for server in list(_RUNNING):
        server.control.close()


os.register_at_fork(after_in_child=_forget_in_fork)


def start(walls: Walls, number: int, *, checks: bool = False, scratch_bytes: int = 0) -> Server:
    """Start a fork server and wait until it is ready.

    number: of the slot; chooses the user id of its children when this process is root. checks: whether it can
    run test code (mode checker). scratch_bytes: size of the folder its job may write to; such a server is good for one
    job.
    Raises: SandboxUnavailable with what it said.
    """
    found = library()
    before = bubblewrap_command(scratch_bytes) if walls.bubblewrap else []
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with guest:
        guest.set_inheritable(True)
        boot = [*_python(_BOOT), str(_HOME), str(guest.fileno())]
        try:
            process = subprocess.Popen(
                [*before, *boot],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(guest.fileno(),),
                cwd="/",
            )
        except OSError as error:
            host.close()
            raise SandboxUnavailable(f"the fork server did not start: {error}") from None
    server = Server(process, host)
    settings = {
        "layers": list(walls.layers),
        "readable": list(found.entries),
        "roots": list(found.roots),
        "extensions": found.extensions,
        "uid": hidden_uid(number),
        "scratch_bytes": scratch_bytes,
        "checks": checks,
        "hidden_host": walls.bubblewrap,
    }
    try:
        host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        host.send(json.dumps(settings).encode())
        _await_ready(server)
    except (OSError, ValueError) as error:
        said = _last_words(process)
        server.stop()
        raise SandboxUnavailable(f"the fork server did not start: {said or error}") from None
    except SandboxUnavailable:
        server.stop()
        raise
    return server


def _await_ready(server: Server) -> None:
    waiting = select.poll()
    waiting.register(server.control.fileno(), select.POLLIN)
    until = time.monotonic() + START_LIMIT_S
    if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
        raise SandboxUnavailable(f"the fork server was not ready after {START_LIMIT_S:g} s")
    said = json.loads(server.control.recv(1 << 16))
    if said["error"]:
        raise SandboxUnavailable(f"the fork server could not prepare the jail: {said['error']}")


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """The end of what a server that failed wrote to standard error."""
    process.send_signal(signal.SIGKILL)
    assert process.stderr is not None
    text = process.stderr.read().decode("utf-8", "replace").strip()
    return text.splitlines()[-1] if text else ""


def remedies(missing: Sequence[str]) -> str:
    """What to do about layers that are not there."""
    advice = {
        "landlock": "Landlock needs Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK and `landlock` in the kernel's "
        "lsm= list",
        "seccomp": "seccomp filters must be allowed: in a container, do not deny the system call seccomp",
        "bubblewrap": "apt install bubblewrap, and let it make namespaces (kernel.unprivileged_userns_clone = 1)",
    }
    return "; ".join(advice[name] for name in missing if name in advice)
