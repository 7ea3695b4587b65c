"""The sandbox `monty`: verdicts of programs in a Python subset, limits, forgeries, and what is left when it ends."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from charter.errors import MissingExtra
from charter.sandbox import CallSuite, CallTest, CheckerSuite, Limits, StdioCase, Verdict
from charter.sandbox.job import Sandbox
from charter.sandbox.monty import MontySandbox
from charter.sandbox.monty_outcome import SUBSET, outcome_of_error

LIMITS = Limits(wall_s=1.0, memory_bytes=64 * 1024**2, output_bytes=10_000, result_bytes=10_000)


def suite(*tests: tuple[str, str], setup: str = "") -> CallSuite:
    """(call, value it must have) each."""
    made = (CallTest(source=f"assert {c} == {v}", calls=(c,), check=f"_0 == {v}") for c, v in tests)
    return CallSuite(tests=tuple(made), setup=setup)


DOUBLE = suite(("f(2)", "4"), ("f(-3)", "-6"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MontySandbox]:
    made = MontySandbox(slots=2)
    yield made
    made.close()


def calls(sandbox: MontySandbox, program: str, tests: CallSuite = DOUBLE, limits: Limits = LIMITS) -> Verdict:
    return asyncio.run(sandbox.run_calls(program, tests, limits))


def stdio(sandbox: MontySandbox, program: str, cases: Sequence[tuple[str, str]], every: bool = False) -> Verdict:
    made = [StdioCase(stdin=given, stdout=wanted) for given, wanted in cases]
    return asyncio.run(sandbox.run_stdio(program, made, LIMITS, every=every))


def test_it_is_a_sandbox(sandbox):
    assert isinstance(sandbox, Sandbox)
    assert sandbox.kind == "monty"
    assert sandbox.slots == 2


def test_a_right_program_passes(sandbox):
    verdict = calls(sandbox, "def f(x):\n    return 2 * x\n")
    assert (verdict.outcome, verdict.passed, verdict.total, verdict.note) == ("passed", 2, 2, "")
    assert 0 < verdict.seconds < 1


def test_what_a_program_gets_wrong_is_counted_and_said(sandbox):
    verdict = calls(sandbox, "def f(x):\n    return 4\n")
    assert (verdict.outcome, verdict.passed, verdict.total) == ("failed", 1, 2)
    assert verdict.note == "test 2 of 2: assert f(-3) == -6 does not hold"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("[1, 2.5, None, True]", "[1, 2.5, None, True]"),
        ("(1, (2,))", "(1, (2,))"),
        ("{'a': [1], 2: 'ü'}", "{'a': [1], 2: 'ü'}"),
        ("{1, 2}", "{2, 1}"),
        ("2 ** 200", str(2**200)),
        ("b'\\x00\\xff'", "b'\\x00\\xff'"),
        ("'a\\0b'", "'a\\0b'"),
    ],
)
def test_values_of_every_plain_type_come_out_exactly(sandbox, expression, value):
    assert calls(sandbox, f"def f():\n    return {expression}\n", suite(("f()", value))).outcome == "passed"


def test_setup_runs_in_the_programs_namespace(sandbox):
    tests = suite(("f(root)", "3.0"), setup="import math\nroot = math.sqrt(9)")
    assert calls(sandbox, "def f(x):\n    return math.floor(x) * 1.0\n", tests).outcome == "passed"


FORGERIES = {
    "equal to everything": "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()",
    "an object in a list": "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return [A()]",
    "text for a number": "def f(x):\n    return str(2 * x)",
    "the function itself": "def f(x):\n    return f",
    "an exception": "def f(x):\n    return ValueError(2 * x)",
    "a type": "def f(x):\n    return int",
    "itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "deep": "def f(x):\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a",
    "exit": "import sys\ndef f(x):\n    sys.exit(0)",
    "raises passed": "def f(x):\n    raise AssertionError('passed')",
    "nothing": "",
    "no answer": "def f(x):\n    pass",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes(sandbox, name):
    verdict = calls(sandbox, FORGERIES[name])
    assert (verdict.outcome, verdict.passed) == ("failed", 0)


ENDINGS = {
    "endless": ("def f(x):\n    while True:\n        pass", "timeout"),
    "endless, deaf": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except: pass",
        "timeout",
    ),
    "endless at the top": ("while True:\n    pass", "timeout"),
    "asleep": ("import time\ntime.sleep(100)\ndef f(x):\n    return 2 * x", "timeout"),
    "look-ups": ("def f(x):\n while True:\n  try: nothing\n  except NameError: pass", "timeout"),
    "hungry": ("def f(x):\n    a = []\n    while True:\n        a.append('abc' * 1000)", "out_of_memory"),
    "at once": ("def f(x):\n    return [0] * 10**10", "out_of_memory"),
    "a large number": ("def f(x):\n    return 10 ** 10 ** 9", "out_of_memory"),
    "talkative": ("def f(x):\n    print('a' * 100000)\n    return 2 * x", "output_limit"),
    "talkative for ever": ("while True:\n    print('a' * 1000)", "output_limit"),
    "a large answer": ("def f(x):\n    return 'a' * 10001", "output_limit"),
    "recursion": ("def f(x):\n    return f(x)", "failed"),
    "not Python": ("def f(", "crashed"),
    "a lone surrogate": ("def f(x):\n    return '\ud800'", "crashed"),
    "nested": ("def f(x):\n    return " + "(" * 50_000 + "x" + ")" * 50_000, "crashed"),
    "raises at the top": ("raise ValueError('no')", "crashed"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_end_has_its_outcome_within_its_time(sandbox, name):
    program, outcome = ENDINGS[name]
    started = time.monotonic()
    verdict = calls(sandbox, program)
    assert (verdict.outcome, verdict.passed, verdict.total) == (outcome, 0, 2), verdict.note
    assert verdict.note
    assert time.monotonic() - started < 8
    assert calls(sandbox, "def f(x):\n    return 2 * x").outcome == "passed"  # the next one is none the worse


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("def f(x):\n    yield x", "does not yet support yield"),
        ("class A: pass\nclass B(A): pass", "class inheritance"),
        ("import numpy", "No module named 'numpy'"),
        ("import sys\nsys.stdin.read()", "no attribute 'stdin'"),
        ("input()", "'input'"),
    ],
)
def test_what_the_subset_lacks_is_the_programs_choice_and_said(sandbox, program, said):
    verdict = calls(sandbox, program)
    assert verdict.outcome == "failed"
    assert said in verdict.note
    assert SUBSET in verdict.note


def test_no_words_of_a_program_make_an_error_of_the_sandbox(sandbox):
    for words in (
        "NotImplementedError('The monty syntax parser does not yet support tests')",
        "RuntimeError('monty worker crashed while waiting for a reply (signal: 9 (SIGKILL))')",
        "TimeoutError('checkout timed out')",
        "MemoryError('no')",
        "OSError('No space left on device')",
    ):
        for program in (f"raise {words}", f"def f(x):\n    raise {words}"):
            assert calls(sandbox, program).outcome in ("failed", "crashed", "timeout", "out_of_memory")


def test_tests_the_subset_cannot_run_are_no_verdict_on_a_program(sandbox):
    right = "def f(x):\n    return 2 * x"
    for tests in (suite(("f(2)", "4"), setup="import heapq"), suite(("f(*(yield 2))", "4")), suite(("f(", "4"))):
        verdict = calls(sandbox, right, tests)
        assert verdict.outcome == "sandbox_error"
        assert "the tests cannot run here" in verdict.note


def test_a_program_that_breaks_the_setup_failed(sandbox):
    tests = suite(("f(2)", "4"), setup="two = min(2, 3)")
    verdict = calls(sandbox, "def f(x):\n    return 4\ndef min(*_):\n    raise ValueError('no')", tests)
    assert verdict.outcome == "crashed"


def test_a_check_that_makes_no_sense_of_the_value_failed(sandbox):
    tests = CallSuite(tests=(CallTest(source="assert f() < 3", calls=("f()",), check="_0 < 3"),))
    verdict = calls(sandbox, "def f():\n    return 'a'", tests)
    assert (verdict.outcome, verdict.passed) == ("failed", 0)


def test_answers_are_bounded_together_and_in_the_keys_they_hold(sandbox):
    one, two = suite(("f(2)", "4")), suite(("f(2)", "4"), ("f(3)", "4"))
    program = "def f(x):\n    return 'a' * {}"
    # result_bytes is 10,000; text of n characters is n + 2 bytes of JSON
    assert calls(sandbox, program.format(9_998), one).outcome == "failed"
    assert calls(sandbox, program.format(9_999), one).outcome == "output_limit"
    assert calls(sandbox, program.format(4_998), two).outcome == "failed"
    assert calls(sandbox, program.format(4_999), two).outcome == "output_limit"
    colliding = "def f(x):\n    return {n * (2 ** 61 - 1): 0 for n in range(5000)}"  # each with the hash 0
    verdict = calls(sandbox, colliding, one, Limits(wall_s=5.0))
    assert verdict.outcome == "failed"
    assert "keys of one hash" in verdict.note


def test_nothing_of_one_program_is_left_for_the_next(sandbox):
    assert calls(sandbox, "answer = 4\ndef f(x):\n    return 2 * x").outcome == "passed"
    for _ in range(4):  # both workers
        assert "'answer'" in calls(sandbox, "def f(x):\n    return answer").note


@pytest.mark.parametrize(
    "program",
    [
        "open('/etc/passwd').read()",
        "import os\nos.environ['HOME'] + ''",
        "import os\nos.listdir('/')",
        "import socket",
        "import subprocess",
        "import ctypes",
        "().__class__.__base__.__subclasses__()",
        "import sys\nsys.modules['os'].system('true')",
    ],
)
def test_there_is_no_machine_to_reach(sandbox, program):
    assert calls(sandbox, program + "\ndef f(x):\n    return 2 * x").outcome in ("failed", "crashed")


def test_standard_input_and_output(sandbox):
    program = "n = int(input('? '))\ntotal = 0\nfor _ in range(n):\n    total += int(input())\nprint(total)"
    assert stdio(sandbox, program, [("2\n3\n4\n", "? 7\n"), ("1\r\n9", "? 9  \n\n")]).outcome == "passed"
    verdict = stdio(sandbox, program, [("2\n3\n", "? 3"), ("1\n5", "? 5")])
    assert (verdict.outcome, verdict.passed) == ("crashed", 0)  # it read past the end
    assert "EOF when reading a line" in verdict.note


def test_output_counts_whole_and_only_if_the_program_ended_well(sandbox):
    for program in ("print(1)", "print(1)\nprint(2)\nprint(3)", "print(1)\nprint(3)", ""):
        assert stdio(sandbox, program, [("", "1\n2\n")]).outcome == "failed"
    assert stdio(sandbox, "print(1)\nprint(2)\nraise ValueError('x')", [("", "1\n2\n")]).outcome == "crashed"
    assert stdio(sandbox, "import sys\nprint(1)\nprint('note', file=sys.stderr)", [("", "1")]).outcome == "passed"


def test_cases_after_one_that_failed_count_only_if_asked_for(sandbox):
    cases = [("1", "1"), ("2", "1"), ("3", "3"), ("4", "4")]
    first = stdio(sandbox, "print(input())", cases)
    every = stdio(sandbox, "print(input())", cases, every=True)
    assert (first.outcome, first.passed, first.total) == ("failed", 1, 4)
    assert (every.outcome, every.passed, every.total) == ("failed", 3, 4)
    assert every.note.startswith("case 2 of 4: line 1 of its output is '2'")


def test_what_it_cannot_do_names_who_can(sandbox):
    verdict = asyncio.run(sandbox.run_checker("", CheckerSuite(tests="assert f() == 1"), LIMITS))
    query = asyncio.run(sandbox.run_query("select 1", b"", LIMITS))
    for found in (verdict, query):
        assert found.outcome == "sandbox_error"
        assert "A, B or C" in found.note


def test_no_tests_are_no_pass(sandbox):
    assert calls(sandbox, "", CallSuite(tests=())).outcome == "sandbox_error"
    assert stdio(sandbox, "", []).outcome == "sandbox_error"


def test_a_worker_that_is_killed_from_outside_is_no_verdict_and_is_replaced():
    sandbox = MontySandbox(slots=1)

    async def main() -> Verdict:
        job = asyncio.ensure_future(sandbox.run_calls("while True: pass", DOUBLE, Limits(wall_s=20.0)))
        while not sandbox._all or not interpreters(next(iter(sandbox._all)).pid):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        os.kill(next(iter(sandbox._all)).pid, signal.SIGKILL)
        return await job

    started = time.monotonic()
    verdict = asyncio.run(main())
    assert verdict.outcome == "sandbox_error"
    assert "killed from outside" in verdict.note
    assert time.monotonic() - started < 10
    assert calls(sandbox, "def f(x):\n    return 2 * x").outcome == "passed"
    sandbox.close()


def test_an_interpreter_that_is_killed_from_outside_is_no_verdict():
    sandbox = MontySandbox(slots=1)

    async def main() -> Verdict:
        job = asyncio.ensure_future(sandbox.run_calls("while True: pass", DOUBLE, Limits(wall_s=20.0)))
        while not sandbox._all or not (found := interpreters(next(iter(sandbox._all)).pid)):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        os.kill(found[0], signal.SIGKILL)
        return await job

    verdict = asyncio.run(main())
    sandbox.close()
    assert verdict.outcome == "sandbox_error"
    assert "SIGKILL" in verdict.note


def interpreters(worker: int) -> list[int]:
    """The children of a process."""
    found = []
    for task in Path(f"/proc/{worker}/task").glob("*/children"):
        found += [int(pid) for pid in task.read_text().split()]
    return found


def test_closing_ends_everything_and_says_so():
    sandbox = MontySandbox(slots=1)

    async def main() -> tuple[Verdict, list[int]]:
        job = asyncio.ensure_future(sandbox.run_calls("while True: pass", DOUBLE, Limits(wall_s=20.0)))
        while not sandbox._all or not (found := interpreters(next(iter(sandbox._all)).pid)):
            await asyncio.sleep(0.01)
        worker = next(iter(sandbox._all)).pid
        await asyncio.to_thread(sandbox.close)
        return await job, [worker, *found]

    verdict, pids = asyncio.run(main())
    assert (verdict.outcome, verdict.note) == ("sandbox_error", "the sandbox was closed")
    assert gone(pids)
    assert calls(sandbox, "").note == "the sandbox was closed"


def test_no_secret_of_the_trainer_is_in_their_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    sandbox = MontySandbox(slots=1)
    calls(sandbox, "")
    (worker,) = sandbox._all
    assert b"PATH=" in Path(f"/proc/{worker.pid}/environ").read_bytes()
    for pid in (worker.pid, *interpreters(worker.pid)):
        assert b"hf_secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    sandbox.close()


def gone(pids: Sequence[int]) -> bool:
    """Whether the processes end within a second; one that only waits to be reaped has ended."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    give_up = time.monotonic() + 1.0
    while any(map(runs, pids)) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not any(map(runs, pids))


TRAINER = """
import asyncio, time
from charter.sandbox import CallSuite, CallTest, Limits
from charter.sandbox.monty import MontySandbox

sandbox = MontySandbox(slots=2)
suite = CallSuite(tests=(CallTest(source="", calls=("f()",), check="_0"),))

async def main():
    limits = Limits(wall_s=60.0)
    jobs = [asyncio.ensure_future(sandbox.run_calls(p, suite, limits)) for p in ("while True: pass", "import time\\ntime.sleep(50)")]
    await asyncio.sleep(1.5)
    print(*(worker.pid for worker in sandbox._all), flush=True)
    await asyncio.gather(*jobs)

asyncio.run(main())
"""  # noqa: E501 - a program of its own


def test_a_killed_trainer_leaves_nothing_running():
    with subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        pids = [*workers, *(pid for worker in workers for pid in interpreters(worker))]
        trainer.kill()
    assert len(pids) == 4
    assert gone(pids)


def test_many_programs_at_once_each_get_their_own_verdict(sandbox):
    async def main() -> list[Verdict]:
        jobs = [sandbox.run_calls(f"def f(x):\n    return {n} * x", DOUBLE, LIMITS) for n in range(60)]
        return await asyncio.gather(*jobs)

    passed = [n for n, verdict in enumerate(asyncio.run(main())) if verdict.outcome == "passed"]
    assert passed == [2]


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"the sandbox 'monty' needs the package 'pydantic-monty'.*charter\[monty\]"):
        MontySandbox()


def test_an_error_of_an_unknown_kind_is_held_against_the_program():
    assert outcome_of_error(RecursionError("deep")) == (
        "crashed",
        "its answer cannot be taken over: RecursionError: deep",
    )
    assert outcome_of_error(MemoryError())[0] == "output_limit"
