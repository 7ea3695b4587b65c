"""Verdicts of a real jail: each outcome by a program that earns it."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from charter.sandbox import CallSuite, CheckerSuite, Limits, Sandbox, StdioCase, Verdict
from charter.sandbox.calls import split_asserts

_LIMITS = Limits(wall_s=5.0)
_SHORT = Limits(wall_s=0.5)
_ADD = "assert add(1, 2) == 3\nassert add(-7, 7) == 0\nassert add(10**20, 5) == 10**20 + 5\n"
_GOOD = "def add(a, b):\n    return a + b\n"


def _calls(jail: Sandbox, program: str, tests: str = _ADD, limits: Limits = _LIMITS) -> Verdict:
    suite: CallSuite = split_asserts(tests)
    return asyncio.run(jail.run_calls(program, suite, limits))


def _stdio(
    jail: Sandbox, program: str, *cases: tuple[str, str], limits: Limits = _LIMITS, every: bool = False
) -> Verdict:
    given = [StdioCase(stdin=stdin, stdout=stdout) for stdin, stdout in cases]
    return asyncio.run(jail.run_stdio(program, given, limits, every=every))


def _check(jail: Sandbox, program: str, tests: str, entry: str | None = None, limits: Limits = _LIMITS) -> Verdict:
    return asyncio.run(jail.run_checker(program, CheckerSuite(tests=tests, entry=entry), limits))


@pytest.mark.parametrize(
    ("program", "outcome", "passed", "note"),
    [
        (_GOOD, "passed", 3, ""),
        ("def add(a, b):\n    return a - b\n", "failed", 0, "does not hold for -1"),
        ("def add(a, b):\n    return abs(a + b) if a < 0 else 3\n", "failed", 2, "10**20"),
        ("def add(a, b):\n    raise ValueError('no')\n", "failed", 0, "ValueError: no"),
        ("def sub(a, b): ...\n", "failed", 0, "NameError"),
        ("def add(a, b:\n", "crashed", 0, "SyntaxError"),
        ("1 / 0\n", "crashed", 0, "ZeroDivisionError"),
        ("import os; os._exit(0)\n", "crashed", 0, "ended before the tests"),
        ("raise SystemExit(0)\n", "crashed", 0, "SystemExit"),
        ("import ctypes; ctypes.string_at(0)\n", "crashed", 0, "SIGSEGV"),
        ("import os; os.abort()\n", "crashed", 0, "SIGABRT"),
        ("open('/etc/passwd')\n", "policy_violation", 0, "refused"),
        ("import socket; socket.socket()\n", "policy_violation", 0, "refused"),
        ("x = bytearray(2**40)\n", "out_of_memory", 0, "MemoryError"),
        ("def add(a, b): return [0] * 10**6\n", "failed", 0, "200000 values"),
        ("def add(a, b): return 'x' * 10**7\n", "output_limit", 0, "limit"),
        ("class I(int):\n    def __eq__(s, o): return True\ndef add(a, b): return I(0)\n", "failed", 0, "type I"),
        ("import numpy\n", "crashed", 0, "No module named 'numpy'"),
        ("\x00", "crashed", 0, "null"),
        ("\ud800 = 1", "crashed", 0, "Unicode"),
        ("", "failed", 0, "NameError"),
        ("# añ — 加\n" + _GOOD, "passed", 3, ""),
    ],
)
def test_calls(jail: Sandbox, program: str, outcome: str, passed: int, note: str) -> None:
    verdict = _calls(jail, program)
    assert (verdict.outcome, verdict.passed, verdict.total) == (outcome, passed, 3)
    assert note in verdict.note


def test_what_is_expected_does_not_enter(jail: Sandbox) -> None:
    # the program looks for the answer in everything it can find in its own process, without holding it itself
    snoop = (
        "import gc, sys\n"
        "def secret():\n"
        "    texts = [o for o in gc.get_objects() if isinstance(o, (str, dict, list, tuple))]\n"
        "    frame, found = sys._getframe(), []\n"
        "    while frame: found.append(repr(frame.f_locals)); frame = frame.f_back\n"
        "    wanted = bytes(b ^ 1 for b in b'DYQDBUDE,W@MTD').decode()\n"
        "    return wanted in repr([found, texts])\n"
    )
    assert bytes(b ^ 1 for b in b"DYQDBUDE,W@MTD") == b"EXPECTED-VALUE"
    suite = split_asserts("assert secret() == 'EXPECTED-VALUE'\nassert secret() is False\n")
    verdict = asyncio.run(jail.run_calls(snoop, suite, _LIMITS))
    assert (verdict.outcome, verdict.passed) == ("failed", 1)


def test_time_runs_out(jail: Sandbox) -> None:
    for program in (
        "while True: pass",
        "import time; time.sleep(30)",
        _GOOD + "import time\nadd = lambda a, b: time.sleep(9)",
    ):
        verdict = _calls(jail, program, limits=_SHORT)
        assert verdict.outcome == "timeout"
        assert 0.5 <= verdict.seconds < 2.5


def test_answers_before_the_time_ran_out_are_counted(jail: Sandbox) -> None:
    program = "import time\ndef add(a, b):\n    if a == 10**20: time.sleep(9)\n    return a + b\n"
    verdict = _calls(jail, program, limits=_SHORT)
    assert (verdict.outcome, verdict.passed, verdict.total) == ("timeout", 2, 3)


def test_processor_time_runs_out(jail: Sandbox) -> None:
    verdict = _calls(jail, "while True: pass", limits=Limits(wall_s=30.0, cpu_s=1.0))
    assert verdict.outcome == "timeout"
    assert "processor" in verdict.note


@pytest.mark.parametrize(
    ("program", "outcome", "note"),
    [
        ("a, b = map(int, input().split())\nprint(a + b)\n", "passed", ""),
        ("import sys\nprint(sum(map(int, sys.stdin.read().split())))", "passed", ""),
        ("print(sum(map(int, open(0).read().split())), end='   \\n\\n')", "passed", ""),
        ("import atexit\natexit.register(print, 3)", "passed", ""),
        ("import threading\nthreading.Timer(0.05, print, args=(3,)).start()", "passed", ""),
        ("import os\nos.write(1, b'3'); os._exit(0)", "passed", ""),
        ("print(4)", "failed", "line 1"),
        ("print(3); print(3)", "failed", "2 lines, expected 1"),
        ("", "failed", "0 lines"),
        ("print(3); raise SystemExit(1)", "crashed", "exit code 1"),
        ("print(3); 1 / 0", "crashed", "ZeroDivisionError"),
        ("while True: print('x' * 1000)", "output_limit", "limit"),
    ],
)
def test_stdio(jail: Sandbox, program: str, outcome: str, note: str) -> None:
    verdict = _stdio(jail, program, ("1 2\n", "3\n"))
    assert verdict.outcome == outcome
    assert note in verdict.note


def test_stdio_counts_cases(jail: Sandbox) -> None:
    program = "n = int(input())\nprint(n * n if n != 2 else 5)"
    cases = [("1", "1"), ("2", "4"), ("3", "9")]
    stopped = _stdio(jail, program, *cases)
    assert (stopped.outcome, stopped.passed, stopped.total) == ("failed", 1, 3)
    assert stopped.note.startswith("case 2: ")
    all_of_them = _stdio(jail, program, *cases, every=True)
    assert (all_of_them.outcome, all_of_them.passed, all_of_them.total) == ("failed", 2, 3)


def test_more_input_than_a_pipe_holds_need_not_be_read(jail: Sandbox) -> None:
    verdict = _stdio(jail, "print(1)", ("x" * 5_000_000, "1"))
    assert verdict.outcome == "passed"
    verdict = _stdio(jail, "import sys\nprint(len(sys.stdin.read()))", ("x" * 5_000_000, "5000000"))
    assert verdict.outcome == "passed"


_CHECK = "def check(candidate):\n    for n in range(3):\n        assert candidate(n, n) == 2 * n\n"
_UNITTEST = """import unittest
from solution import add
class Adding(unittest.TestCase):
    def test_small(self): self.assertEqual(add(1, 2), 3)
    def test_large(self): self.assertEqual(add(10**20, 5), 10**20 + 5)
if __name__ == "__main__": unittest.main()
"""


@pytest.mark.parametrize(
    ("program", "tests", "outcome", "passed", "total"),
    [
        (_GOOD, _CHECK, "passed", 1, 1),
        (_GOOD, _UNITTEST, "passed", 2, 2),
        (_GOOD, "def test_add():\n    assert add(1, 1) == 2\n", "passed", 1, 1),
        (_GOOD, "class TestAdd:\n    def test_one(self):\n        assert add(1, 1) == 2\n", "passed", 1, 1),
        (_GOOD, "import solution\nassert solution.add([1], [2]) == [1, 2]\n", "passed", 1, 1),
        ("def add(a, b): return 3\n", _UNITTEST, "failed", 1, 2),
        ("def add(a, b): return 3\n", _CHECK, "failed", 0, 1),
        (
            "def add(a, b): raise KeyError(1)\n",
            "try:\n    add(1, 2)\nexcept KeyError: pass\nelse: assert 0\n",
            "passed",
            1,
            1,
        ),
        ("def add(a, b): a.append(b)\n", "x = [1]\nadd(x, 2)\nassert x == [1, 2]\n", "passed", 1, 1),
        ("1 / 0", _CHECK, "crashed", 0, 1),
        ("def add(a, b): __import__('os')._exit(0)", _CHECK, "crashed", 0, 1),
        (_GOOD, "import nothing_of_this_name\n", "sandbox_error", 0, 1),
        (_GOOD, "x = 1\n", "sandbox_error", 0, 1),
        (_GOOD, "def check(:\n", "sandbox_error", 0, 1),
        ("1 / 0", "x = 1\n", "crashed", 0, 1),
    ],
)
def test_checker(jail: Sandbox, program: str, tests: str, outcome: str, passed: int, total: int) -> None:
    verdict = _check(jail, program, tests, "add")
    assert (verdict.outcome, verdict.passed, verdict.total) == (outcome, passed, total), verdict.note


def test_a_program_cannot_make_the_checker_wait(jail: Sandbox) -> None:
    verdict = _check(jail, "import time\ndef add(a, b): time.sleep(30)", _CHECK, "add", _SHORT)
    assert verdict.outcome == "timeout"
    assert verdict.seconds < 3


def test_an_answer_nobody_asked_for(jail: Sandbox) -> None:
    forged = (
        'import os\nframe = b\'{"ok":{"t":"int","v":"3"}}\'\nos.write(3, len(frame).to_bytes(4, \'big\') + frame)\n'
    )
    verdict = _calls(jail, forged + _GOOD)
    assert verdict.outcome in ("crashed", "failed")
    verdict = _calls(jail, _GOOD + "import atexit, threading, time\n" + forged.replace("os.write", "[os.write][0]"))
    assert verdict.passed == 0 or verdict.outcome == "failed"


def test_saying_that_the_sandbox_is_at_fault_does_not_help(jail: Sandbox) -> None:
    for lie in (
        "import os; os.write(3, b'Eno walls'); os._exit(4)",
        "import os; os._exit(4)",
        "import os; os._exit(5)",
    ):
        assert _calls(jail, lie).outcome == "crashed" or _calls(jail, lie).outcome == "failed"
    assert _calls(jail, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)").outcome == "policy_violation"
    assert _calls(jail, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", limits=_SHORT).outcome == "timeout"


@pytest.mark.parametrize(
    "value",
    ["10**5000", "{10**5000: 1}", "{i * (2**61 - 1) for i in range(5000)}", "[[]] * 100000", "float('nan')", "-0.0",
     "chr(0xD800)", "bytes(1000)", "{(i, i): i for i in range(3000)}"],
)  # fmt: skip
@pytest.mark.parametrize("test", ["assert f() == 3", "assert sorted(f())[0] == 3", "assert f()[1] == 3"])
def test_no_value_is_too_odd_to_be_judged(jail: Sandbox, value: str, test: str) -> None:
    verdict = _calls(jail, f"def f(): return {value}\n", test + "\n")
    assert verdict.outcome == "failed"
    assert verdict.note.isprintable()
    assert verdict.seconds < 3
    checked = _check(jail, f"def f(): return {value}\n", "def test_f():\n    r = f()\n    assert r == 3, r\n")
    assert checked.outcome == "failed"


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", "crashed"),
        ("import mmap\nmmap.mmap(-1, 10**6)", "policy_violation"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_STACK, (2**20, 2**20))\n" + _GOOD, "passed"),
        ("import sys\nsys.stderr.write('x' * 10**6)\n" + _GOOD, "passed"),
        ("print('x' * 10**6)\n" + _GOOD, "passed"),
    ],
)
def test_dodges_and_harmless_habits(jail: Sandbox, program: str, outcome: str) -> None:
    verdict = _calls(jail, program)
    assert verdict.outcome == outcome, verdict.note


def test_threads_are_bounded(jail: Sandbox) -> None:
    bomb = (
        "import threading, time\nthreading.stack_size(32768)\ncount = 0\n"
        "try:\n    for _ in range(3000):\n        threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n"
        "        count += 1\nexcept RuntimeError: pass\nprint(count <= 256, flush=True)\nimport os\nos._exit(0)\n"
    )
    verdict = _stdio(jail, bomb, ("", "True\n"))
    assert verdict.outcome == "passed", verdict.note


@pytest.mark.parametrize(
    ("tests", "outcome", "passed", "total"),
    [
        ("async def test_a():\n    assert add(1, 2) == 4\n", "failed", 0, 1),
        ("async def test_a():\n    assert add(1, 2) == 3\n", "passed", 1, 1),
        ("def test_a():\n    assert add(1, 2) == 3\n    yield\n", "sandbox_error", 0, 1),
        ("class TestAdd:\n    def __init__(self): self.r = add(None, 2)\n    def test_a(self): pass\n", "failed", 0, 1),
        ("import unittest\nclass T(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls): cls.r = add(1, 2)\n"
         "    def test_a(self): self.assertEqual(self.r, 3)\n", "passed", 1, 1),
    ],
)  # fmt: skip
def test_checkers_of_every_form_are_really_run(
    jail: Sandbox, tests: str, outcome: str, passed: int, total: int
) -> None:
    verdict = _check(jail, _GOOD, tests)
    assert (verdict.outcome, verdict.passed, verdict.total) == (outcome, passed, total), verdict.note


@pytest.mark.parametrize(
    "unrun",
    [
        "import unittest\nclass T(unittest.TestCase):\n    async def test_a(self): self.assertEqual(add(1, 2), 4)\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        add(1, 2)\n        yield\n",
        "class TestAdd:\n    def test_a(self):\n        add(1, 2)\n        yield\n",
        "class TestAdd:\n    async def test_a(self):\n        yield add(1, 2)\n",
    ],
)
def test_a_test_that_would_never_run_is_the_tests_fault(jail: Sandbox, unrun: str) -> None:
    verdict = _check(jail, _GOOD, unrun + "    def test_b(self): assert add(1, 2) == 3\n")
    assert (verdict.outcome, verdict.passed) == ("sandbox_error", 0)
    assert "never run" in verdict.note


def test_an_awaited_case_is_run(jail: Sandbox) -> None:
    case = (
        "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test_a(self): assert add(1, 2) == {}\n"
    )
    assert _check(jail, _GOOD, case.format(3)).outcome == "passed"
    assert _check(jail, _GOOD, case.format(4)).outcome == "failed"


def test_a_set_up_that_cannot_run_here_is_no_verdict_and_no_excuse(jail: Sandbox) -> None:
    missing = "import numpy as np\nassert add(np.int64(1), 2) == 3\n"
    verdict = _calls(jail, _GOOD, missing)
    assert (verdict.outcome, verdict.passed) == ("sandbox_error", 0)
    assert "set-up" in verdict.note
    assert "numpy" in verdict.note
    # a program that breaks a set-up which runs without it has only itself to blame
    saboteur = "import builtins\nbuiltins.__import__ = None\n" + _GOOD
    assert _calls(jail, saboteur, "import math\nassert add(math.floor(1.5), 2) == 3\n").outcome == "crashed"


def test_a_program_named_like_a_built_in_is_the_one_that_is_tested(jail: Sandbox) -> None:
    tests = "def check(candidate):\n    assert sum([1, 2]) == 3 and candidate([]) == 0\n"
    assert _check(jail, "def sum(x): return 3 if x else 0", tests, "sum").outcome == "passed"
    assert _check(jail, "def sum(x): return 0", tests, "sum").outcome == "failed"


def test_sql(jail: Sandbox) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t(a, b)")
    connection.executemany("insert into t values (?, ?)", [(1, "x"), (2.5, None), (None, b"\x00")])
    database = connection.serialize()
    connection.close()

    def query(text: str, limits: Limits = _LIMITS):
        return asyncio.run(jail.run_query(text, database, limits))

    found = query("select a, b as name from t order by rowid")
    assert (found.columns, found.rows) == (("a", "name"), ((1, "x"), (2.5, None), (None, b"\x00")))
    assert query("delete from t").outcome == "policy_violation"
    assert query("attach 'x' as y").outcome == "policy_violation"
    assert query("select 1; select 2").outcome == "failed"
    assert query("selct").outcome == "failed"
    many = "with recursive c(x) as (select 1 union all select x + 1 from c limit 300000) select x from c"
    assert (query(many).outcome, query("select zeroblob(200000000)").outcome) == ("failed", "out_of_memory")
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"
    assert query(endless, _SHORT).outcome == "timeout"
    broken = asyncio.run(jail.run_query("select 1", b"no database", _LIMITS))
    assert broken.outcome == "sandbox_error"


def test_many_at_the_same_time_keep_their_verdicts(jail: Sandbox) -> None:
    async def all_of_them() -> list[Verdict]:
        suite = split_asserts("assert f(1) == 1\nassert f(2) == 2\n")
        programs = [f"def f(x): return x if {i} % 3 else -x" for i in range(24)]
        return list(await asyncio.gather(*(jail.run_calls(program, suite, _LIMITS) for program in programs)))

    verdicts = asyncio.run(all_of_them())
    assert [v.outcome for v in verdicts] == ["passed" if i % 3 else "failed" for i in range(24)]


def test_verdicts_do_not_depend_on_chance(jail: Sandbox) -> None:
    program = "import random\ndef f(): return [random.random(), hash('x'), list({'a', 'b', 'c'})]\n"
    suite = split_asserts("assert f() == 0\n")
    notes = {asyncio.run(jail.run_calls(program, suite, _LIMITS)).note for _ in range(3)}
    assert len(notes) == 1


def test_more_memory_than_there_is(jail: Sandbox) -> None:
    verdict = _calls(jail, _GOOD, limits=Limits(memory_bytes=2**50))
    assert verdict.outcome == "sandbox_error"
    assert "MiB" in verdict.note
