"""Rows of the data sets people have, read into tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from charter.errors import DataError
from charter.reward.code_tests import RowTests, divide_prompt, read_tests
from charter.sandbox.calls import evaluate_check
from charter.sandbox.job import CallSuite, CheckerSuite, StdioCase

PROMPT = (
    'import math\n\n\ndef double(n: int):\n    """Twice n."""\n    return 2 * n\n\n\n'
    'def half(n: int):\n    """Half of n.\n    >>> half(4)\n    2\n    """\n'
)
HUMANEVAL = {
    "task_id": "T/0",
    "entry_point": "half",
    "canonical_solution": "    return n // 2\n",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate(4) == 2\n    assert candidate(0) == 0\n",
}


def calls_of(tests: RowTests) -> list[tuple[tuple[str, ...], str]]:
    assert tests.mode == "calls"
    assert isinstance(tests.suite, CallSuite)
    return [(test.calls, test.check) for test in tests.suite.tests]


def test_humaneval() -> None:
    tests = read_tests(HUMANEVAL, prompt_text=PROMPT)
    assert calls_of(tests) == [(("half(4)",), "_0 == 2"), (("half(0)",), "_0 == 0")]
    assert tests.entry == "half"
    assert tests.prompt_code == PROMPT
    assert tests.prologue + "\n" == PROMPT[: PROMPT.index("def half")]


def test_humaneval_that_needs_the_checker_keeps_its_helpers_from_the_program() -> None:
    loop = "def check(candidate):\n    for n in range(9):\n        assert candidate(double(n)) == n\n"
    tests = read_tests(HUMANEVAL | {"test": loop}, prompt_text=PROMPT)
    assert tests.mode == "checker"
    assert isinstance(tests.suite, CheckerSuite)
    assert tests.suite.entry == "half"
    # `double` is the prompt's: a program that defines another one gains nothing by it
    assert "def double(n: int)" in tests.suite.tests
    assert tests.suite.tests.endswith(loop)


def test_the_checker_gets_the_standard_modules_its_tests_forgot() -> None:
    source = "for n in range(3):\n    assert math.isclose(f(n), n) and rows.append(n) is None\n"
    tests = read_tests({"tests": source})
    assert isinstance(tests.suite, CheckerSuite)
    assert tests.suite.tests == "import math\n" + source


def test_mbpp() -> None:
    row = {
        "text": "Write a function to …",
        "code": "def depth(root): …",
        "test_list": ["assert depth(root) == 2", "assert depth(None) == 0"],
        "test_setup_code": "class Node:\n    pass\nroot = Node()",
        "challenge_test_list": [],
    }
    tests = read_tests(row)
    assert calls_of(tests) == [(("depth(root)",), "_0 == 2"), (("depth(None)",), "_0 == 0")]
    assert tests.prologue == "class Node:\n    pass\nroot = Node()"
    imports = read_tests({"test_imports": ["import math", "import re"], "test_list": ["assert f(math.pi) == 3"]})
    assert imports.prologue == "import math\nimport re"


def test_apps() -> None:
    row = {"input_output": json.dumps({"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]})}
    tests = read_tests(row)
    assert tests.mode == "stdio"
    assert tests.suite == (StdioCase(stdin="1 2\n", stdout="3\n"), StdioCase(stdin="3\n4\n", stdout="7\n"))


def test_apps_of_a_function() -> None:
    cases = {"fn_name": "pair", "inputs": [[1, "a"]], "outputs": [[[1, "a"]]]}
    row = {"input_output": json.dumps(cases), "starter_code": "class Solution:\n    def pair(self, n, s):\n"}
    tests = read_tests(row)
    ((calls, check),) = calls_of(tests)
    assert calls == ("Solution().pair(1, 'a')",)
    # its own judge takes the value, the value in a list, and tuples for lists
    for value, right in [([1, "a"], True), ([[1, "a"]], True), ((1, "a"), True), ([1, "b"], False), (None, False)]:
        assert evaluate_check(check, [value]) is right
    plain = read_tests({"input_output": json.dumps(cases), "starter_code": "def pair(n, s):"})
    assert calls_of(plain)[0][0] == ("pair(1, 'a')",)


@pytest.mark.parametrize(
    "program", ["class Solution:\n    def pair(self, n):\n        return n", "def pair(n):\n    return n"]
)
def test_without_starter_code_the_program_decides(program: str) -> None:
    tests = read_tests({"input_output": {"fn_name": "pair", "inputs": [[7]], "outputs": [7]}})
    assert isinstance(tests.suite, CallSuite)
    names: dict[str, Any] = {}
    exec(program, names)
    exec(tests.suite.setup, names)
    (test,) = tests.suite.tests
    assert evaluate_check(test.check, [eval(test.calls[0], names)])


def test_livecodebench() -> None:
    public = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
    private = [{"input": "5\n", "output": "6\n", "testtype": "stdin"}]
    tests = read_tests({"public_test_cases": json.dumps(public), "private_test_cases": json.dumps(private)})
    assert tests.suite == (StdioCase(stdin="1\n", stdout="2\n"), StdioCase(stdin="5\n", stdout="6\n"))


def test_livecodebench_of_a_function() -> None:
    cases = [{"input": '[1, 2]\n"a"', "output": "[true]", "testtype": "functional"}]
    row = {
        "public_test_cases": json.dumps(cases),
        "metadata": json.dumps({"func_name": "mix"}),
        "starter_code": "class Solution:\n    def mix(self, …",
    }
    ((calls, check),) = calls_of(read_tests(row))
    assert calls == ("Solution().mix([1, 2], 'a')",)
    assert evaluate_check(check, [[True]])
    assert evaluate_check(check, [(True,)])
    assert not evaluate_check(check, [[False]])


@pytest.mark.parametrize(
    "value",
    [
        ["assert f(1) == 2", "assert f(2) == 3"],
        "assert f(1) == 2\nassert f(2) == 3",
        json.dumps(["assert f(1) == 2", "assert f(2) == 3"]),
    ],
)
def test_a_plain_column_of_asserts(value: object) -> None:
    assert calls_of(read_tests({"tests": value})) == [(("f(1)",), "_0 == 2"), (("f(2)",), "_0 == 3")]


def test_a_plain_column_of_cases() -> None:
    cases = [{"stdin": "1", "stdout": "2"}, {"input": 3, "output": "4"}]
    assert read_tests({"tests": cases}).suite == (StdioCase(stdin="1", stdout="2"), StdioCase(stdin="3", stdout="4"))
    of_function = read_tests({"tests": [{"input": [1, 2], "output": 3}], "entry_point": "add"})
    assert calls_of(of_function) == [(("add(1, 2)",), "_0 == 3")]


def test_the_column_and_the_mode_may_be_named() -> None:
    row = {"tests": ["assert f(1) == 2"], "mine": ["assert f(1) == 3"]}
    assert calls_of(read_tests(row, column="mine"))[0][1] == "_0 == 3"
    assert read_tests(row, mode="checker").suite == CheckerSuite(tests="assert f(1) == 2", entry=None)


@pytest.mark.parametrize(
    ("row", "options", "sentence"),
    [
        ({"tests": []}, {}, r"the row has no tests: 'tests' is empty. Fill it or drop the row"),
        ({"a": 1}, {}, r"the row has no tests \(its columns: 'a'\); expected test or test_list"),
        ({"a": 1}, {"column": "mine"}, "expected 'mine'"),
        ({"tests": ["assert f("]}, {}, "column 'tests': test code, line 1: it is not Python"),
        ({"tests": [1, 2]}, {}, r"column 'tests': it holds \[1, 2\]"),
        ({"tests": [{"in": 1}]}, {}, r"case 1 has the keys 'in'; expected"),
        ({"tests": "for i in range(2):\n    assert f(i)"}, {"mode": "calls"}, "line 1: a statement of kind for"),
        ({"tests": "assert f(1)"}, {"mode": "stdio"}, "found asserts"),
        ({"tests": [{"stdin": "", "stdout": ""}]}, {"mode": "checker"}, 'use "stdio" or "auto"'),
        ({"tests": "assert f(1)", "entry_point": 3}, {}, "expected the name of a function"),
        ({"input_output": "{"}, {}, "text that is not JSON"),
        ({"input_output": "{}"}, {}, "no list of inputs and no list of outputs"),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, {}, "1 inputs and 0 outputs"),
        ({"input_output": {"inputs": [1], "outputs": [1], "fn_name": "f"}}, {}, "expected a list of its arguments"),
        ({"input_output": '{"inputs": [[1]], "outputs": [NaN], "fn_name": "f"}'}, {}, "plain finite values"),
        ({"private_test_cases": "eJxrYJ0qz"}, {}, "hold a pickle, which is not read"),
        ({"public_test_cases": [{"input": "1", "output": "1", "testtype": "functional"}]}, {}, "func_name"),
        ({"public_test_cases": [{"input": "1", "output": "1", "testtype": "magic"}]}, {}, "testtype magic"),
        ({"tests": [{"stdin": "", "stdout": None}]}, {}, "expected"),
    ],
)
def test_what_cannot_be_read_is_named(row: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_tests(row, **options)


def test_a_prompt_that_is_no_code_is_left_alone() -> None:
    assert divide_prompt("Write a function half(n).", "half") == ("", "", "")
    assert divide_prompt("Write:\ndef half(n):\n", "half") == ("", "", "")
    assert divide_prompt("def other(n):\n", "half") == ("", "", "")
