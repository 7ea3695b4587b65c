"""A row's tests, whatever data set it comes from: HumanEval, MBPP, APPS, LiveCodeBench, or a plain `tests` column.

    read_tests({"test": "def check(candidate): …", "entry_point": "f", …}) -> RowTests

Everything read here is of the data set and trusted; what a model wrote never comes here.

Not here: tests of (input, output) pairs (`code_cases.py`), taking asserts apart (`charter.sandbox.calls`).
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charter.errors import DataError
from charter.reward.code_cases import Cases, apps_cases, livecodebench_cases, plain_cases
from charter.sandbox.calls import Unsplittable, split_asserts
from charter.sandbox.job import CallSuite, CheckerSuite, StdioCase

Mode = Literal["auto", "stdio", "calls", "checker"]

KNOWN_COLUMNS = ("test", "test_list", "input_output", "public_test_cases", "private_test_cases", "tests")
"""Columns that tests are read from when no option names one, first match first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTests:
    """What a row's programs are judged by.

    suite: the tests, in the form its mode takes. prologue: trusted text put before a program that defines its function
    whole. prompt_code: the text a program that is only a function's body goes on from, empty where there is none.
    """

    mode: Literal["stdio", "calls", "checker"]
    suite: tuple[StdioCase, ...] | CallSuite | CheckerSuite
    entry: str | None = None
    prologue: str = ""
    prompt_code: str = ""


def read_tests(
    fields: Mapping[str, Any], *, mode: Mode = "auto", column: str | None = None, entry_column: str = "entry_point",
    prompt_text: str = "",
) -> RowTests:  # fmt: skip
    """The tests in a row.

    fields: the row. mode: how to judge; auto takes what the row has (asserts that cannot be taken apart: checker).
    column: read this column as plain tests; None: the first of `KNOWN_COLUMNS` that the row has. entry_column: column
    with the function's name. prompt_text: the row's prompt, for HumanEval's completions of it.
    Raises: DataError that says what was found and what is expected.
    """
    entry = fields.get(entry_column)
    if entry is not None and not (isinstance(entry, str) and entry.strip()):
        raise DataError(f"column {entry_column!r} holds {entry!r:.80}; expected the name of a function")
    found = column or next((c for c in KNOWN_COLUMNS if fields.get(c) not in (None, "", [])), None)
    if found is None or fields.get(found) is None:
        have = ", ".join(map(repr, fields)) or "none"
        wanted = repr(column) if column else " or ".join(KNOWN_COLUMNS)
        empty = [c for c in ((column,) if column else KNOWN_COLUMNS) if c in fields]
        if empty:
            raise DataError(f"the row has no tests: {' and '.join(map(repr, empty))} is empty. Fill it or drop the row")
        raise DataError(f"the row has no tests (its columns: {have}); expected {wanted}")
    try:
        return _read(found, column is not None, fields, mode, entry, prompt_text)
    except DataError as error:
        raise DataError(f"column {found!r}: {error}") from None


def _read(
    name: str, chosen: bool, fields: Mapping[str, Any], mode: Mode, entry: str | None, prompt_text: str
) -> RowTests:
    value = fields[name]
    if not chosen and name == "input_output":
        return _of_cases(apps_cases(value, fields), mode)
    if not chosen and name in ("public_test_cases", "private_test_cases"):
        return _of_cases(livecodebench_cases(fields), mode)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = _json(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if all(isinstance(item, Mapping) for item in value):
            return _of_cases(plain_cases(value, entry), mode)
        if all(isinstance(item, str) for item in value):
            return _of_asserts("\n".join(value), mode, entry, _setup_code(fields), "")
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"it holds {value!r:.80}; expected a list of asserts, Python source, or a list of "
            '{"stdin": …, "stdout": …}'
        )
    if mode == "stdio":
        raise DataError('mode = "stdio" needs a list of {"stdin": …, "stdout": …}; found asserts')
    return _of_asserts(value, mode, entry, _setup_code(fields), prompt_text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # Python source may start with a bracket, too


def _setup_code(fields: Mapping[str, Any]) -> str:
    """MBPP's `test_setup_code` and `test_imports`."""
    imports = fields.get("test_imports") or ()
    lines = [imports] if isinstance(imports, str) else list(imports)
    code = fields.get("test_setup_code") or ""
    if not isinstance(code, str) or not all(isinstance(line, str) for line in lines):
        raise DataError("test_setup_code and test_imports hold something else than text")
    return "\n".join(part for part in (*lines, code) if part.strip())


def _of_cases(cases: Cases, mode: Mode) -> RowTests:
    if cases.suite is not None:
        if mode in ("stdio", "checker"):
            raise DataError(f'mode = "{mode}" does not fit tests that call a function; use "calls" or "auto"')
        return RowTests(mode="calls", suite=cases.suite, entry=cases.entry)
    if mode in ("calls", "checker"):
        raise DataError(f'mode = "{mode}" does not fit tests of standard input and output; use "stdio" or "auto"')
    return RowTests(mode="stdio", suite=cases.stdio)


def _of_asserts(source: str, mode: Mode, entry: str | None, setup: str, prompt_text: str) -> RowTests:
    prompt_code, prologue, helpers = ("", "", "")
    if entry is not None and prompt_text:
        prompt_code, prologue, helpers = divide_prompt(prompt_text, entry)
    prologue = "\n".join(part for part in (setup, prologue) if part)
    call = entry.strip() if entry else None
    if mode != "checker":
        try:
            suite = split_asserts(source, call)
        except Unsplittable as reason:
            if mode == "calls":
                raise DataError(f'mode = "calls" cannot judge this row: {reason}. Use "checker" or "auto"') from None
        else:
            return RowTests(mode="calls", suite=suite, entry=entry, prologue=prologue, prompt_code=prompt_code)
    tests = "\n".join(part for part in (_missing_imports(source), helpers, source) if part)
    return RowTests(
        mode="checker",
        suite=CheckerSuite(tests=tests, entry=call),
        entry=entry,
        prologue=prologue,
        prompt_code=prompt_code,
    )


def divide_prompt(prompt_text: str, entry: str) -> tuple[str, str, str]:
    """HumanEval's prompt: code that breaks off inside the function to write.

    Returns: the prompt if it is such code, else ""; what stands before the function; and the imports and finished
        functions in that, which tests may use as they were given (a policy could redefine them in its program).
    """
    lines = prompt_text.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith((f"def {entry}(", f"async def {entry}("))]
    if not starts:
        return "", "", ""
    before = "\n".join(lines[: starts[-1]])
    try:
        ast.parse(prompt_text.rstrip() + "\n    pass\n")
        nodes = ast.parse(before).body
    except (SyntaxError, ValueError, RecursionError):
        return "", "", ""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    helpers = "\n".join(ast.unparse(node) for node in nodes if isinstance(node, kinds))
    return prompt_text, before, helpers


def _missing_imports(source: str) -> str:
    """Imports of the standard modules that tests use and do not import; else they would be taken for the program's."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    used = {n.value.id for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {(a.asname or a.name).partition(".")[0] for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))
              for a in n.names}  # fmt: skip
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return "\n".join(f"import {name}" for name in sorted((used - bound) & sys.stdlib_module_names))
