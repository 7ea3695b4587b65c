"""The harness sees what it looks for: stand-ins for a sandbox that do, in this process, what a breach would do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests have no packages

from hostile.canary import TOKEN_FILE, Canary
from hostile.corpus import GOOD, WRONG, Program, header_of, read_programs, telling
from hostile.harness import Examination, examine, faults_of, modes_of, row_of

from charter.sandbox import CallSuite, CheckerSuite, Limits, StdioCase, Verdict

FAILED = Verdict(outcome="failed", passed=0, total=3, seconds=0.0, note="it does not hold")
PASSED = Verdict(outcome="passed", passed=3, total=3, seconds=0.0)
HOSTILE = Program(
    name="x", kind="escape", style="call", text="print('x')", passes=False, slow=False, tiers=None, runs=1
)


def noted(note: str) -> Verdict:
    """A failed verdict with exactly this note, as if nobody had made it legible."""
    verdict = Verdict(outcome="failed", passed=0, total=3, seconds=0.0)
    object.__setattr__(verdict, "note", note)
    return verdict


class StandIn:
    """A sandbox that judges the good and the wrong program as told, and `act`s for any other."""

    kind = "stand-in"

    def __init__(self, act: Callable[[], Verdict], good: Verdict = PASSED, wrong: Verdict = FAILED) -> None:
        self.act, self.good, self.wrong = act, good, wrong

    def _judge(self, program: str) -> Verdict:
        return self.good if program == GOOD else self.wrong if program == WRONG else self.act()

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        return self._judge(program)

    async def run_stdio(self, program: str, cases: Sequence[StdioCase], limits: Limits) -> Verdict:
        return self._judge(program)

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        return self._judge(program)

    def close(self) -> None: ...


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as one:
        yield one


def problems(canary: Canary, act: Callable[[], Verdict], patience_s: float = 5.0, **others: Verdict) -> str:
    sandbox = StandIn(act, **others)
    found = asyncio.run(examine(sandbox, HOSTILE, canary, modes=("plain",), wall_s=0.05, patience_s=patience_s))
    return "\n".join(found.problems)


def test_nothing_wrong_is_no_problem(canary: Canary) -> None:
    assert problems(canary, lambda: FAILED) == ""


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (PASSED, "it should fail, and is passed"),
        (Verdict(outcome="sandbox_error", passed=0, total=3, seconds=0.0), "it made the sandbox take the blame"),
        (Verdict(outcome="failed", passed=3, total=3, seconds=0.0), "every test passed"),
        (noted(f"got {TOKEN_FILE}"), "the note holds 'TOK_'"),
        (noted("BREACH raw"), "the note holds 'BREACH'"),
        (noted("root:x:0:0"), "the note holds 'root:'"),
        (noted("n" * 2001), "the note has 2001 characters"),
        (noted("\x1b[2J"), "control characters"),
        (noted("\ud800"), "surrogates"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_verdict_that_tells_is_a_problem(canary: Canary, verdict: Verdict, said: str) -> None:
    assert said in problems(canary, lambda: verdict)


def test_a_benign_program_that_fails_is_a_problem() -> None:
    assert faults_of(FAILED, passes=True) != []
    assert faults_of(PASSED, passes=True) == []


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda folder: (folder / "outside" / "new").write_text("x"), "changed: outside/new"),
        (lambda folder: (folder / "outside" / "victim.txt").chmod(0o600), "changed: outside/victim.txt"),
        (lambda folder: os.utime(folder / "secret.txt"), "changed: secret.txt"),
        (lambda folder: (folder / "secret.txt").write_text("other"), "changed: secret.txt"),
        (lambda folder: (folder / "outside" / "victim.txt").unlink(), "changed: outside/victim.txt"),
        (lambda folder: os.link(folder / "secret.txt", folder / "second"), "changed: second"),
        (lambda folder: _connect(str(folder / "sock")), "was reached"),
        (lambda folder: _send(str(folder / "dgram")), "was reached"),
    ],
    ids=["new file", "mode", "times", "content", "removed", "linked", "stream socket", "datagram socket"],
)
def test_a_disturbed_canary_is_a_problem(canary: Canary, act: Callable[[Path], object], said: str) -> None:
    def breach() -> Verdict:
        act(canary.folder)
        return FAILED

    assert said in problems(canary, breach)


def _connect(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(address)


def _send(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(b"hit", address)


def test_a_changed_limit_is_a_problem(canary: Canary) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def breach() -> Verdict:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        return FAILED

    try:
        assert "limit RLIMIT_NOFILE was" in problems(canary, breach)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_changed_signal_disposition_is_a_problem(canary: Canary) -> None:
    before = signal.getsignal(signal.SIGUSR2)

    def breach() -> Verdict:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        return FAILED

    try:
        assert "signals (SigIgn) was" in problems(canary, breach)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_changed_umask_is_a_problem(canary: Canary) -> None:
    mask = os.umask(0o022)

    def breach() -> Verdict:
        os.umask(0o007)
        return FAILED

    try:
        assert "umask was" in problems(canary, breach)
    finally:
        os.umask(mask)


def test_a_process_that_stays_is_a_problem(canary: Canary) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def breach() -> Verdict:
        started.append(subprocess.Popen(["/bin/sleep", "60"], start_new_session=True))
        return FAILED

    try:
        assert "a process was left" in problems(canary, breach)
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_a_file_that_stays_is_a_problem(canary: Canary) -> None:
    left = Path("/tmp/charter-hostile-left")

    def breach() -> Verdict:
        left.write_text("x")
        return FAILED

    try:
        assert f"a file was left: {left}" in problems(canary, breach)
    finally:
        left.unlink()


def test_a_late_verdict_is_a_problem(canary: Canary) -> None:
    def late() -> Verdict:
        time.sleep(0.3)
        return FAILED

    assert "the verdict took 0.3 s" in problems(canary, late, patience_s=-1.95)  # allowed: 0.05 + 2 - 1.95 s


def test_an_exception_in_the_host_is_a_problem(canary: Canary) -> None:
    def raises() -> Verdict:
        raise RecursionError("deep")

    assert "it raised RecursionError in the host: deep" in problems(canary, raises)


def test_a_host_that_grows_is_a_problem(canary: Canary) -> None:
    grown = bytearray()

    def grows() -> Verdict:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        grown.extend(b"x" * (peak + 310 * 1024**2))
        return FAILED

    with contextlib.suppress(MemoryError):
        found = problems(canary, grows)
        assert "this process grew by" in found


def test_a_jail_that_no_longer_judges_is_a_problem(canary: Canary) -> None:
    assert "after it, a good program is failed" in problems(canary, lambda: FAILED, good=FAILED)
    assert "after it, a wrong program is passed" in problems(canary, lambda: FAILED, wrong=PASSED)


def test_the_modes_of_a_program() -> None:
    by_name = {program.name: program for program in read_programs()}
    assert modes_of(by_name["l02_secret_file"]) == ["plain", "telling", "output", "checker", "scratch"]
    assert modes_of(by_name["v55_float_answers"]) == ["plain", "checker"]
    assert modes_of(by_name["b60_stdin_input"]) == ["plain"]
    assert modes_of(by_name["l02_secret_file"], ["plain"]) == ["plain"]


def test_a_header_is_read_and_a_bad_one_refused(tmp_path: Path) -> None:
    assert header_of("# case: a\n# it must NOT: b: c\nx = 1\n# late: d") == {"case": "a", "it must NOT": "b: c"}
    from hostile.corpus import read_program

    bad = tmp_path / "v00.py"
    bad.write_text("# case: v00\n# class: verdict\nx = 1\n")
    with pytest.raises(ValueError, match=r"v00\.py: the header has no detect, expect, style"):
        read_program(bad)
    bad.write_text("# case: v00\n# class: cheat\n# style: call\n# detect: x\n# expect: verdict FAIL\n")
    with pytest.raises(ValueError, match="none there is"):
        read_program(bad)
    lines = "# case: v00\n# class: verdict\n# style: call\n# detect: x\n# expect: verdict FAIL\n"
    bad.write_text(lines + '# text: "a" * 3 + "".join("b" for i in range(2))\n')
    assert read_program(bad).text == "aaabb"
    bad.write_text(lines + "# text: open('x').read()\n")
    with pytest.raises(ValueError, match="more than literals"):
        read_program(bad)


def test_telling_is_one_program_for_any_text() -> None:
    for text in ("x = \"'''\"", "\0\ud800\\", "def f(:"):
        compile(telling(text), "telling", "exec")


def test_the_table_counts_by_class() -> None:
    rows = [
        Examination("a", "leak", "B"),
        Examination("b", "leak", "B", problems=["bad"]),
        Examination("c", "escape", "B"),
    ]
    assert row_of(rows) == {
        "classes": {"leak": {"passed": 1, "total": 2}, "escape": {"passed": 1, "total": 1}},
        "failures": {"b": ["bad"]},
    }
