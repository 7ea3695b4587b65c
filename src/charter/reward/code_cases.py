"""Tests that are pairs of input and output: of a whole program (stdin, stdout) or of a function (arguments, value).

APPS            input_output: {"inputs": […], "outputs": […], "fn_name": …}
LiveCodeBench   public_test_cases, private_test_cases: [{"input", "output", "testtype"}]
plain           [{"stdin" | "input": …, "stdout" | "output": …}]
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.errors import DataError
from charter.sandbox.job import CallSuite, CallTest, StdioCase

_TARGET = "_charter_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Pairs, read: of a program (stdio) or of a function (suite, and its name in entry)."""

    stdio: tuple[StdioCase, ...] = ()
    suite: CallSuite | None = None
    entry: str | None = None


def apps_cases(value: object, fields: Mapping[str, Any]) -> Cases:
    """APPS. Outputs of a function may be wrapped in a list of one, and tuples count as lists, as in its own judge."""
    found = _loaded(value)
    if not isinstance(found, Mapping):
        raise DataError(f'it holds {found!r:.80}; expected {{"inputs": […], "outputs": […]}}')
    inputs, outputs, name = found.get("inputs"), found.get("outputs"), found.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs or len(inputs) != len(outputs):
        counts = f"{_count(inputs)} inputs and {_count(outputs)} outputs"
        raise DataError(f"it has {counts}; expected as many of each, and at least one")
    if name is None:
        pairs = zip(inputs, outputs, strict=True)
        return Cases(stdio=tuple(StdioCase(stdin=_text(i), stdout=_text(o)) for i, o in pairs))
    tests = []
    for arguments, output in zip(inputs, outputs, strict=True):
        if not isinstance(arguments, list):
            raise DataError(f"an input of {name} is {arguments!r:.80}; expected a list of its arguments")
        wrapped = [output[0]] if isinstance(output, list) and output else []
        tests.append(_function_test(name, arguments, [output, *wrapped]))
    return _function_cases(name, tests, fields)


def livecodebench_cases(fields: Mapping[str, Any]) -> Cases:
    """LiveCodeBench: public and private cases together; `metadata` holds the name of the function, if there is one."""
    cases: list[Mapping[str, Any]] = []
    for column in ("public_test_cases", "private_test_cases"):
        value = fields.get(column)
        if value in (None, "", []):
            continue
        found = _loaded(value, "; compressed private cases hold a pickle, which is not read: decode them first")
        if not isinstance(found, list) or not all(isinstance(c, Mapping) for c in found):
            raise DataError(f'{column} holds {found!r:.80}; expected a list of {{"input", "output", "testtype"}}')
        cases += found
    kinds = {str(case.get("testtype", "stdin")) for case in cases}
    if kinds == {"stdin"}:
        return plain_cases(cases, None)
    if kinds != {"functional"}:
        raise DataError(
            f"the cases have testtype {' and '.join(sorted(kinds)) or 'none'}; expected stdin or functional"
        )
    metadata = _loaded(fields.get("metadata") or "{}")
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise DataError('the cases are functional and metadata has no "func_name"')
    tests = []
    for case in cases:
        arguments = [_loaded(line) for line in _text(case.get("input")).split("\n") if line.strip()]
        tests.append(_function_test(name, arguments, [_loaded(_text(case.get("output")))]))
    return _function_cases(name, tests, fields)


def plain_cases(cases: Sequence[Mapping[str, Any]], entry: str | None) -> Cases:
    """A list of {"stdin" | "input", "stdout" | "output"}; with lists of arguments for input, of a function."""
    stdio: list[StdioCase] = []
    tests: list[CallTest] = []
    for number, case in enumerate(cases, start=1):
        given = next((case[key] for key in ("stdin", "input") if key in case), None)
        wanted = next((case[key] for key in ("stdout", "output", "expected_output") if key in case), None)
        if given is None or wanted is None:
            keys = ", ".join(map(repr, case)) or "none"
            raise DataError(
                f'case {number} has the keys {keys}; expected "stdin" and "stdout", or "input" and "output"'
            )
        if isinstance(given, list) and entry is not None and "stdin" not in case:
            tests.append(_function_test(entry, given, [wanted]))
        else:
            stdio.append(StdioCase(stdin=_text(given), stdout=_text(wanted)))
    if tests and stdio:
        raise DataError("some cases hold arguments of a function and some text for standard input; use one kind")
    return Cases(suite=CallSuite(tests=tuple(tests)), entry=entry) if tests else Cases(stdio=tuple(stdio))


def _function_test(name: str, arguments: Sequence[object], accepted: Sequence[object]) -> CallTest:
    call = f"{name}({', '.join(map(repr, arguments))})"
    equal = [f"_0 == {value!r}" for value in accepted]
    equal += [f"(type(_0) is tuple and list(_0) == {value!r})" for value in accepted if isinstance(value, list)]
    check = " or ".join(equal)
    for text in (repr(list(arguments)), repr(list(accepted))):
        try:
            ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise DataError(f"{text:.80} holds something else than plain finite values") from None
    return CallTest(source=f"{call} gives {accepted[0]!r}", calls=(call,), check=check)


def _function_cases(name: str, tests: Sequence[CallTest], fields: Mapping[str, Any]) -> Cases:
    """The function may be a method of `class Solution`; without starter code the program decides."""
    starter = fields.get("starter_code")
    if isinstance(starter, str) and starter.strip():
        target = f"Solution().{name}" if "class Solution" in starter else name
        setup = ""
    else:
        target = _TARGET
        setup = f"try:\n    {_TARGET} = Solution().{name}\nexcept NameError:\n    {_TARGET} = {name}\n"
    renamed = [
        CallTest(source=t.source, calls=tuple(target + c.removeprefix(name) for c in t.calls), check=t.check)
        for t in tests
    ]
    return Cases(suite=CallSuite(tests=tuple(renamed), setup=setup), entry=name)


def _loaded(value: object, hint: str = "") -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it holds text that is not JSON ({error}){hint}: {value!r:.60}") from None


def _text(value: object) -> str:
    """Text as it stands; a list is one line each."""
    if isinstance(value, list):
        return "\n".join(_text(item) for item in value) + ("\n" if value else "")
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise DataError(f"an input or output is {value!r:.80}; expected text")
    return str(value)


def _count(value: object) -> int | str:
    return len(value) if isinstance(value, list) else "no list of"
