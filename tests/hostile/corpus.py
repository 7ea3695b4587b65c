"""The hostile programs as data: their headers, their texts, and the task they all pretend to solve.

A program is a file of `programs/`: a header of comment lines `key: value`, then the text. Beside the keys that the
README of the shared programs describes (case, class, style, it must NOT, detect, expect) there may be
    slow:  it runs into a limit of time, or thrashes memory; the reason
    tiers: the only tiers in which it is judged
    runs:  how often it is run in a row on one slot (a second run finds what the first left)
    scratch: the size in bytes of the folder it may write to
    text:  a Python expression, ours, whose value is the program (too large or too strange to be a file)
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from charter.sandbox import CallSuite, CallTest, CheckerSuite, StdioCase

PROGRAMS = Path(__file__).parent / "programs"
CLASSES = ("benign", "resource", "leak", "escape", "verdict")
STYLES = ("call", "stdio", "unittest", "pytest")

GOOD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
PLANTED = "marker = [f'PREVJOB_SECRET {n}' * 50 for n in range(2000)]\ndef add(a, b):\n    return a + b\n"
"""The job before a program that looks for traces of earlier ones."""


def _call(a: str, b: str, result: str) -> CallTest:
    return CallTest(source=f"assert add({a}, {b}) == {result}", calls=(f"add({a}, {b})",), check=f"_0 == {result}")


CALLS = CallSuite(
    tests=(_call("1", "2", "3"), _call("-7", "7", "0"), _call("10**20", "5", "100000000000000000005")),
)
CASE = StdioCase(stdin="1 2\n-7 7\n100000000000000000000 5\n", stdout="3\n0\n100000000000000000005\n")
CHECKERS = {
    "pytest": CheckerSuite(
        tests="""
def test_sums():
    assert add(1, 2) == 3
    assert add(-7, 7) == 0
    assert add(10**20, 5) == 10**20 + 5

def test_a_sum_of_a_sum():
    assert add(add(1, 2), -3) == 0
"""
    ),
    "unittest": CheckerSuite(
        tests="""
import unittest
from solution import add

class TestAdd(unittest.TestCase):
    def test_small(self):
        self.assertEqual(add(1, 2), 3)

    def test_zero(self):
        self.assertEqual(add(-7, 7), 0)

    def test_large(self):
        self.assertEqual(add(10**20, 5), 10**20 + 5)

if __name__ == "__main__":
    unittest.main()
"""
    ),
}

RUNS_INTO_LIMITS = frozenset(
    {
        "r02_thread_bomb",
        "r03_mem_list",
        "r04_mem_mmap",
        "r06_mem_shared_anon_fork",
        "r07_bigint",
        "r08_infinite_loop",
        "r09_sleep",
        "r12_alarm_hijack",
        "r25_regex_redos",
        "r26_decompression_bomb",
        "r28_huge_return",
        "r31_bigint_return",
        "r55_no_descriptor_left",
        "r57_hash_collisions",
        "r58_set_collisions",
        "r59_many_small_answers",
        "r64_waits_for_input",
        "r67_thin_threads",
        "r69_many_sets_of_collisions",
        "r71_source_thirty_megabytes",
        "r88_regrow_address_space",
    }
)
"""Programs without a `slow:` line of their own that take seconds all the same."""


SOURCES = Path(__file__).resolve().parents[2]
"""The checkout: what no program may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One file. passes: whether it is benign. tiers: where it is judged, or None for everywhere."""

    name: str
    kind: str
    style: str
    text: str
    passes: bool
    slow: bool
    tiers: frozenset[str] | None
    runs: int
    scratch_bytes: int = 0

    def text_for(self, canary: str) -> str:
        """The program with the paths in it: of the canary folder, and of the sources."""
        return self.text.replace("@CANARY@", canary).replace("@SOURCES@", str(SOURCES))


def header_of(text: str) -> dict[str, str]:
    """The keys of the comment lines a file begins with."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"# ([a-zA-Z ]+): ?(.*)$", line)
        if match is None:
            break
        found.setdefault(match[1], match[2])
    return found


def read_program(file: Path) -> Program:
    """Raises: ValueError for a header that does not say what is needed."""
    text = file.read_text(encoding="utf-8")
    header = header_of(text)
    missing = {"case", "class", "style", "detect", "expect"} - header.keys()
    if missing:
        raise ValueError(f"{file.name}: the header has no {', '.join(sorted(missing))}")
    if header["class"] not in CLASSES or header["style"] not in STYLES or header["case"] != file.stem:
        raise ValueError(f"{file.name}: class, style or case is none there is")
    tiers = header.get("tiers")
    return Program(
        name=file.stem,
        kind=header["class"],
        style=header["style"],
        text=_made(header["text"]) if "text" in header else text,
        passes=header["expect"].startswith("verdict PASS"),
        slow="slow" in header or file.stem in RUNS_INTO_LIMITS,
        tiers=frozenset(tiers.split()) if tiers else None,
        runs=int(header.get("runs", "1")),
        scratch_bytes=int(header.get("scratch", "0")),
    )


def read_programs() -> list[Program]:
    """All of them, by name."""
    return [read_program(file) for file in sorted(PROGRAMS.glob("*.py"))]


def _made(expression: str) -> str:
    """The value of a `text:` header: literals joined by + and *, and "".join over a range."""
    allowed = (
        *(ast.Expression, ast.BinOp, ast.Add, ast.Mult, ast.Constant, ast.Call, ast.Attribute, ast.GeneratorExp),
        *(ast.comprehension, ast.Name, ast.Load, ast.Store),
    )
    tree = ast.parse(expression, mode="eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not all(isinstance(node, allowed) for node in ast.walk(tree)) or not names <= {"i", "range"}:
        raise ValueError(f"a text that is more than literals: {expression[:80]}")
    return eval(compile(tree, "text", "eval"), {"__builtins__": {"range": range}})


WRITES = frozenset({"e61_write_anywhere", "e64_dlopen_from_memory"})
"""Programs to which any place they can write to is a breach; so they are not run with a scratch folder."""

# What a program prints when it got something it must not have; the shared programs were written for a host that reads
# their output.
EVIDENCE = (
    r"BREACH|TOK_|root:|META \d|wrote [/.@]|bypass (posix|fork)|disk bytes [1-9]|inodes [1-9]|(shmget|semget) \d|"
    r"PREVJOB[_]SECRET"  # spelt so that a program that looks for it in memory does not find this
)


def telling(text: str) -> str:
    """A program of style call around another one: it answers rightly if the inner one printed evidence of a breach.

    So a breach that is only printed becomes a verdict, and nobody needs to read a jail's output.
    """
    return f"""
import io as _io, re as _re, sys as _sys
_out, _real = _io.StringIO(), _sys.stdout
_sys.stdout = _out
try:
    exec(compile({text!r}, "inner.py", "exec"), {{"__name__": "solution"}})
except BaseException as _error:
    _out.write(repr(_error)[:10000])
_sys.stdout = _real
_hit = _re.search({EVIDENCE!r}, _out.getvalue())
def add(a, b):
    return a + b if _hit else None
"""
