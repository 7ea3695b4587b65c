"""Nothing outlives its owner, and a sandbox that breaks says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path

import pytest

from charter.errors import SandboxUnavailable
from charter.sandbox import Limits, StdioCase, Verdict, launch, modes, pool
from charter.sandbox.calls import split_asserts
from charter.sandbox.pool import JailedSandbox
from charter.sandbox.process import Process, ServerGone, step

_TRAINER = """
import asyncio, sys
from charter.sandbox import Limits, StdioCase, open_sandbox
async def main():
    sandbox = open_sandbox("B", slots=8)
    print("open", flush=True)
    case = [StdioCase(stdin="", stdout="")]
    sleep = "import time, sys; time.sleep(60)"
    await asyncio.gather(*(sandbox.run_stdio(sleep, case, Limits(wall_s=60, memory_bytes=2**27)) for _ in range(8)))
asyncio.run(main())
"""
_SUITE = split_asserts("assert add(1, 2) == 3\n")
_GOOD = "def add(a, b):\n    return a + b\n"


def _descendants(of: int) -> set[int]:
    """Processes below one, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found: set[int] = set()
    while True:
        more = {pid for pid, parent in parents.items() if parent in found | {of}} - found
        if not more:
            return found
        found |= more


def _alive(pids: set[int]) -> set[int]:
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            alive.add(pid)
    return alive


def test_a_trainer_killed_by_sigkill_leaves_nothing_running() -> None:
    trainer = subprocess.Popen([sys.executable, "-c", _TRAINER], stdout=subprocess.PIPE)
    try:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"open\n"
        until = time.monotonic() + 60
        while len(below := _descendants(trainer.pid)) < 16 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(below) == 16  # eight fork servers, eight sleeping programs
        trainer.kill()
        trainer.wait()
        time.sleep(1.0)
        assert _alive(below) == set()
    finally:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()


def test_closing_kills_what_runs() -> None:
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)

    async def interrupted() -> Verdict:
        running = asyncio.ensure_future(sandbox.run_calls("import time; time.sleep(60)", _SUITE, Limits(wall_s=60.0)))
        await asyncio.sleep(1.0)
        await asyncio.to_thread(sandbox.close)
        return await running

    before = _descendants(os.getpid())
    verdict = asyncio.run(interrupted())
    assert verdict.outcome == "sandbox_error"
    assert _alive(_descendants(os.getpid()) - before) == set()


def test_work_that_nobody_waits_for_is_stopped() -> None:
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)

    async def given_up() -> float:
        running = asyncio.ensure_future(sandbox.run_calls("while True: pass", _SUITE, Limits(wall_s=60.0)))
        await asyncio.sleep(1.0)
        running.cancel()
        began = time.monotonic()
        assert (await sandbox.run_calls(_GOOD, _SUITE, Limits())).outcome == "passed"
        return time.monotonic() - began

    try:
        assert asyncio.run(given_up()) < 10
    finally:
        sandbox.close()


def test_the_unsafe_kind_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "JOBS_BETWEEN_LOOKS", 1)
    sandbox = JailedSandbox("unsafe", launch.TIERS["unsafe"], slots=1)
    try:
        assert asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits())).outcome == "passed"
    finally:
        sandbox.close()


_FORKING = r"""
import asyncio, os, sys, time, warnings
from charter.sandbox import Limits, StdioCase, open_sandbox
warnings.simplefilter("ignore")  # threads and fork: the point of the test
sandbox = open_sandbox("B", slots=1)
read_all = "import sys, time\ntime.sleep(0.5)\nprint(len(sys.stdin.read()))"
case = [StdioCase(stdin="x" * 300_000, stdout="300000")]

async def with_fork():
    job = asyncio.ensure_future(sandbox.run_stdio(read_all, case, Limits()))
    await asyncio.sleep(0.3)
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return await job

asyncio.run(sandbox.run_stdio("print()", [StdioCase(stdin="", stdout="")], Limits()))  # the server is up
print(asyncio.run(with_fork()).outcome, flush=True)
time.sleep(60)
"""


def test_a_process_forked_from_the_trainer_holds_nothing_open() -> None:
    trainer = subprocess.Popen([sys.executable, "-c", _FORKING], stdout=subprocess.PIPE)
    below: set[int] = set()
    try:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"passed\n"  # its input ended although a copy of the trainer lives
        below = _descendants(trainer.pid)
        assert len(below) == 2  # the fork server and the forked trainer
        trainer.kill()
        trainer.wait()
        time.sleep(1.0)
        assert len(_alive(below)) == 1
    finally:
        trainer.kill()
        trainer.wait()
        for pid in _alive(below):
            os.kill(pid, signal.SIGKILL)
        trainer.stdout.close()


def test_nothing_leaks_when_servers_die() -> None:
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)
    try:
        asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits()))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(4):
            doomed = _descendants(os.getpid())
            killer = threading.Timer(0.3, lambda pids=doomed: [os.kill(pid, signal.SIGKILL) for pid in _alive(pids)])
            killer.start()
            asyncio.run(sandbox.run_calls("import time; time.sleep(1)\n" + _GOOD, _SUITE, Limits()))
            killer.join()
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    finally:
        sandbox.close()


def test_a_trainer_with_many_open_files_gives_none_away() -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(400)]
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)
    look = """
import fcntl
found = []
for fd in range(2000):
    try: fcntl.fcntl(fd, 1); found.append(fd)
    except OSError: pass
print(found)
"""
    try:
        expected = [StdioCase(stdin="", stdout="[0, 1, 2, 3]")]
        verdict = asyncio.run(sandbox.run_stdio(look, expected, Limits()))
    finally:
        sandbox.close()
        for descriptor in held:
            os.close(descriptor)
    assert verdict.outcome == "passed", verdict.note


def test_a_fork_server_that_was_killed_is_replaced() -> None:
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)
    before = _descendants(os.getpid())
    try:
        assert asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits())).outcome == "passed"
        for pid in _descendants(os.getpid()) - before:
            os.kill(pid, signal.SIGKILL)
        assert asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits())).outcome == "passed"
    finally:
        sandbox.close()


def test_a_jail_that_stops_holding_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "JOBS_BETWEEN_LOOKS", 3)
    monkeypatch.setattr(pool, "_BAD", _GOOD)  # stands for walls that have gone
    sandbox = JailedSandbox("B", launch.TIERS["B"], slots=1)
    try:
        for _ in range(2):
            assert asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits())).outcome == "passed"
        with pytest.raises(SandboxUnavailable, match="opens a socket came out as passed"):
            asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits()))
        with pytest.raises(SandboxUnavailable):
            asyncio.run(sandbox.run_calls(_GOOD, _SUITE, Limits()))
    finally:
        sandbox.close()


class _ScriptedServer:
    """A fork server that says what it is told to, for faults a real one cannot be made to have."""

    def __init__(self, *, jailed: bytes = b"J", status: int = 0, refusal: bytes = b"", results: bytes = b"") -> None:
        self.host, self._guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._script = (jailed, status, refusal, results)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        jailed, status, refusal, results = self._script
        _, rights, _, _ = self._guest.recvmsg(4096, socket.CMSG_SPACE(16))
        job, output, errors, answers = array("i", rights[0][2])
        if refusal:
            self._guest.send(refusal)
        else:
            child = subprocess.Popen(["sleep", "60"])  # what the host may kill
            pidfd = os.pidfd_open(child.pid)
            self._guest.sendmsg([b"S"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [pidfd]))])
            os.close(pidfd)
            os.write(answers, jailed + results)
            time.sleep(0.05)
            child.kill()
            child.wait()
            self._guest.send(b"X" + json.dumps([status, 0.0]).encode())
        for descriptor in (job, output, errors, answers):
            os.close(descriptor)

    def start(self, limits: Limits, payload: bytes, *, keep_input: bool = False, wants_output: bool = False) -> Process:
        return Process(self.host, limits, payload, keep_input=keep_input, wants_output=wants_output)

    def close(self) -> None:
        self._thread.join()
        self.host.close()
        self._guest.close()


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ({"refusal": b"E[Errno 12] Cannot allocate memory"}, "Cannot allocate memory"),
        ({"jailed": b"Elandlock: refused"}, "landlock: refused"),
        ({"jailed": b"?"}, "did not say that it is jailed"),
        ({"jailed": b""}, "before it was jailed"),
        ({"status": 9}, "something outside killed it"),
    ],
    ids=["no memory", "a wall fails", "nonsense", "ends early", "killed from outside"],
)
def test_the_machines_faults_are_no_verdicts(script: dict[str, object], note: str) -> None:
    server = _ScriptedServer(**script)  # type: ignore[arg-type]
    try:
        verdict = modes.run_calls(server.start, _GOOD, _SUITE, Limits(wall_s=5.0))
    finally:
        server.close()
    assert verdict.outcome == "sandbox_error"
    assert note in verdict.note


def test_a_server_that_goes_away_is_no_verdict() -> None:
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with host:
        process = Process(host, Limits(), b"", wants_output=False)
        guest.close()
        with pytest.raises(ServerGone):
            step([process])
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    guest.close()
    with host, pytest.raises(ServerGone, match="could not be started"):
        Process(host, Limits(), b"", wants_output=False)
