"""Every hostile program against every tier there is on this machine. The programs themselves: `programs/`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests have no packages

from hostile.canary import Canary, plant_environment
from hostile.corpus import CALLS, CLASSES, PROGRAMS, Program, read_programs, telling
from hostile.harness import examine

from charter.errors import SandboxUnavailable
from charter.sandbox import CallSuite, CallTest, Limits, Sandbox, StdioCase, Verdict, open_sandbox

TIERS = ("A", "B")
CORPUS = read_programs()
PATIENCE_S = 8.0
"""The machine that runs a test suite is busy; the benchmark allows nothing."""


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    plant_environment()
    with Canary() as one:
        yield one


@pytest.fixture(scope="module")
def sandboxes(canary: Canary) -> Iterator[dict[str, Sandbox | SandboxUnavailable]]:
    """Tier → the sandbox, one slot wide so that each job follows the last one's; or why there is none."""
    found: dict[str, Sandbox | SandboxUnavailable] = {}
    for tier in TIERS:
        try:
            found[tier] = open_sandbox(tier, slots=1)
        except SandboxUnavailable as error:
            found[tier] = error
    yield found
    for one in found.values():
        if not isinstance(one, SandboxUnavailable):
            one.close()


@pytest.fixture(params=TIERS)
def sandbox(
    request: pytest.FixtureRequest,
    sandboxes: dict[str, Sandbox | SandboxUnavailable],
    excuse: Callable[[Exception, str], None],
) -> Sandbox:
    one = sandboxes[request.param]
    if isinstance(one, SandboxUnavailable):
        excuse(one, request.param)
    assert isinstance(one, Sandbox)
    return one


def judged_in(sandbox: Sandbox, program: Program) -> None:
    if program.tiers is not None and sandbox.kind not in program.tiers:
        pytest.skip(f"only a mount namespace hides this; judged in tier {', '.join(program.tiers)}")


def quick() -> Iterator[tuple[str, Program]]:
    """What `make test` runs. What a verdict is worth is decided by the same code in every tier, so tier A, slower to
    set up, is asked about what its walls are for."""
    for program in CORPUS:
        if not program.slow:
            yield "B", program
            if program.kind in ("escape", "leak"):
                yield "A", program


@pytest.mark.parametrize(
    ("sandbox", "program"), [*quick()], indirect=["sandbox"], ids=lambda value: getattr(value, "name", value)
)
def test_it_gets_nothing(sandbox: Sandbox, canary: Canary, program: Program) -> None:
    judged_in(sandbox, program)
    modes = ("plain", "telling") if program.kind in ("escape", "leak") else ("plain",)
    found = asyncio.run(examine(sandbox, program, canary, modes=modes, patience_s=PATIENCE_S))
    assert found.problems == []
    assert "plain" in found.verdicts


@pytest.mark.slow
@pytest.mark.parametrize("program", CORPUS, ids=lambda p: p.name)
def test_it_gets_nothing_in_any_mode(sandbox: Sandbox, canary: Canary, program: Program) -> None:
    judged_in(sandbox, program)
    assert asyncio.run(examine(sandbox, program, canary, patience_s=PATIENCE_S)).problems == []


def calls(sandbox: Sandbox, text: str, **limits: float) -> Verdict:
    return asyncio.run(sandbox.run_calls(text, CALLS, Limits(wall_s=10.0, **limits)))


def test_no_exit_code_is_the_machines_fault(sandbox: Sandbox) -> None:
    codes = {*range(16), *range(64, 256, 9), 125, 126, 127, 134, 137, 139, 152, 159, 255}
    before = {n: calls(sandbox, f"import os\nos._exit({n})").outcome for n in codes}
    assert {n: outcome for n, outcome in before.items() if outcome != "crashed"} == {}


def test_no_signal_to_itself_is_the_machines_fault(sandbox: Sandbox) -> None:
    stopping = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}  # v46 waits for the limit
    found = {
        int(n): calls(sandbox, f"import os\ndef add(a, b):\n    os.kill(os.getpid(), {int(n)}); os._exit(0)").outcome
        for n in set(signal.valid_signals()) - stopping
    }
    assert {n: outcome for n, outcome in found.items() if outcome in ("sandbox_error", "passed")} == {}


def test_a_limit_it_lowered_itself_is_not_the_machines_fault(sandbox: Sandbox) -> None:
    """v94 with time enough on a busy machine for the second of processor time that it needs."""
    text = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass"
    verdict = asyncio.run(sandbox.run_calls(text, CALLS, Limits(wall_s=15.0, cpu_s=3.0)))
    assert verdict.outcome not in ("sandbox_error", "passed"), verdict


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("print('done')", "passed"),
        ("import sys\nsys.stdin.read(10); sys.stdin.close(); print('done')", "passed"),
        ("import os\nos.close(0); print('done')", "passed"),
        ("import sys\nprint('done' if len(sys.stdin.read()) == 4_000_000 else 'short')", "passed"),
        ("import sys\nprint(len(sys.stdin.read()))", "failed"),
    ],
    ids=["never reads", "reads a little", "closes it", "reads it all", "is wrong"],
)
def test_a_long_input_blocks_nobody(sandbox: Sandbox, text: str, outcome: str) -> None:
    case = StdioCase(stdin="1234567 89012345\n"[:16] * 250_000, stdout="done\n")
    verdict = asyncio.run(sandbox.run_stdio(text, [case], Limits(wall_s=10.0)))
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("count", [1, 100_000])
def test_output_is_compared_to_its_last_character(sandbox: Sandbox, count: int) -> None:
    right = StdioCase(stdin="", stdout="12345678\n" * count)
    wrong = StdioCase(stdin="", stdout="12345678\n" * (count - 1) + "12345679\n")
    text = f"print('12345678\\n' * {count}, end='')"
    assert asyncio.run(sandbox.run_stdio(text, [right], Limits(wall_s=10.0))).outcome == "passed"
    assert asyncio.run(sandbox.run_stdio(text, [wrong], Limits(wall_s=10.0))).outcome == "failed"


def test_a_program_may_print_nothing(sandbox: Sandbox) -> None:
    case = StdioCase(stdin="x\n", stdout="")
    assert asyncio.run(sandbox.run_stdio("pass", [case], Limits(wall_s=10.0))).outcome == "passed"
    assert asyncio.run(sandbox.run_stdio("print(0)", [case], Limits(wall_s=10.0))).outcome == "failed"


@pytest.mark.parametrize(
    ("expression", "check", "holds"),
    [
        ("True", "_0 == 1", True),  # as in Python: an assert of a data set means what it means there
        ("'1'", "_0 == 1", False),
        ("[1, 2]", "_0 == (1, 2)", False),
        ("float('nan')", "_0 == _0", False),
        ("-0.0", "_0 == 0", True),
        ("{1: 2, 3: 4}", "_0 == {3: 4, 1: 2}", True),
        ("'\\ud800'", "_0 == '\\ud800'", True),
        ("2**53 + 1", "_0 == 9007199254740993.0", False),
        ("10**5000", "_0 == 3", False),
    ],
)
def test_a_value_means_outside_what_it_meant_inside(sandbox: Sandbox, expression: str, check: str, holds: bool) -> None:
    suite = CallSuite(tests=(CallTest(source=check, calls=("f()",), check=check),))
    verdict = asyncio.run(sandbox.run_calls(f"def f(): return {expression}", suite, Limits(wall_s=10.0)))
    assert verdict.outcome == ("passed" if holds else "failed"), verdict


@pytest.mark.parametrize(
    "body",
    [
        "b'[' * 100000",
        "b'{\"ok\":' * 20000",
        "b'{\"ok\":' + b'[' * 20000 + b']' * 20000 + b'}'",
        "b'1e999999'",
        "b'{\"ok\":NaN}'",
        "b'{\"ok\":' + b'9' * 300000 + b'}'",
        'b\'{"ok":3,"ok":{"t":"int","v":"zz"}}\'',
        'b\'{"ok":"\\\\ud800"}\'',
        "b'\\xff\\xfe\\x00'",
        "b''",
        "b'null'",
        'b\'{"ok":{"t":"int","v":"\' + b\'f\' * 300000 + b\'"}}\'',
        'b\'{"ok":{"t":"float","v":"0x\' + b\'1\' * 60 + b\'p99"}}\'',
        'b\'{"ok":{"t":"tuple","v":\' * 3000 + b\'[]\' + b\'}}\' * 3000',
        "b'{\"raised\":[\"' + b'A' * 200000 + b'\",\"\",false]}'",
    ],
)
def test_a_raw_frame_is_an_answer_or_none(sandboxes: dict[str, Sandbox | SandboxUnavailable], body: str) -> None:
    one = next(one for one in sandboxes.values() if not isinstance(one, SandboxUnavailable))
    program = f"""
import os
def add(a, b):
    body = {body}
    view = memoryview((len(body).to_bytes(4, "big") + body) * 3)
    while view: view = view[os.write(3, view):]
    os._exit(0)
"""
    verdict = calls(one, program)
    assert verdict.outcome in ("failed", "crashed", "output_limit"), verdict
    assert (verdict.passed, verdict.total, len(verdict.note) < 2000) == (0, 3, True)


@pytest.mark.parametrize(
    "check",
    [
        "set(_0) == {1}",
        "{*_0} == {1}",
        "len(set(_0)) == 3",
        "set().union(_0) == {1}",
        "{1}.issubset(_0)",
        "{1, 2}.intersection(_0) == {1}",
        "dict.fromkeys(_0) == {1: None}",
        "{x: 1 for x in _0} == {1: 1}",
    ],
)
def test_a_check_costs_the_host_little(sandboxes: dict[str, Sandbox | SandboxUnavailable], check: str) -> None:
    """A list may hold numbers that all have one hash (multiples of 2**61 - 1); made a set out here, 12,000 of them are
    72 million comparisons, a second and more with the trainer's interpreter locked."""
    one = next(one for one in sandboxes.values() if not isinstance(one, SandboxUnavailable))
    suite = CallSuite(tests=(CallTest(source=check, calls=("f()",), check=check),))
    program = "def f(): return [n * (2**61 - 1) for n in range(1, 12001)]"
    began = time.process_time()
    verdict = asyncio.run(one.run_calls(program, suite, Limits(wall_s=10.0)))
    assert verdict.outcome == "failed", verdict
    assert time.process_time() - began < 0.6  # decoding 12,000 numbers is a tenth of that


def test_what_is_only_printed_is_seen(sandbox: Sandbox) -> None:
    """The instrument: `telling` turns printed evidence into a passed verdict, and nothing else into one."""
    for text, passes in (
        ("print('BREACH of something')", True),
        ("print('META', 53)\ndef add(a, b): return None", True),
        ("raise ValueError('TOK_FILE_1')", True),
        ("print('errno 1'); print('disk bytes', 0)", False),
        ("def add(a, b): return a + b", False),
    ):
        assert (calls(sandbox, telling(text)).outcome == "passed") is passes, text


def test_the_corpus_is_whole() -> None:
    """67 programs came with the project; each class is there; names are unique by construction (they are files)."""
    kinds = [program.kind for program in CORPUS]
    assert {kind: kinds.count(kind) >= 8 for kind in CLASSES} == dict.fromkeys(CLASSES, True)
    assert len(CORPUS) == len(list(PROGRAMS.glob("*.py"))) >= 67 + 35
    assert {p.name for p in CORPUS if p.passes} == {p.name for p in CORPUS if p.kind == "benign"}
    assert {p.name[0] for p in CORPUS if p.passes} == {"b"}
