"""`code`: whether the program in a completion passes its row's tests.

    completion → extract_code → program → Sandbox.run_calls | run_stdio | run_checker → 1, 0 or the share passed

The program runs in the sandbox alone; what is expected never goes in. What the sandbox itself gets wrong
(`sandbox_error`) is a failed score, never a 0; everything else that is not a pass is the program's own doing.

Not here: reading the tests (`code_tests.py`), finding the program (`code_extract.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from charter.errors import DataError, Problem
from charter.reward.code_extract import RULES, Code, Rule, defines, extract_code, function_body
from charter.reward.code_tests import KNOWN_COLUMNS, Mode, RowTests, read_tests
from charter.reward.jail import URL_HELP, Jail, check_address
from charter.reward.runtime import NamedReward, Verdict, failed, missing_column, scored
from charter.sandbox.job import CallSuite, CheckerSuite, Limits
from charter.types import Prompt, Rollout

if TYPE_CHECKING:
    from charter.sandbox.job import Sandbox
    from charter.sandbox.job import Verdict as Ran

SOLUTION_COLUMNS = ("canonical_solution", "solution", "reference_solution", "code", "solutions")
"""Columns with a right program, for the probe before a run."""
_REMEMBERED_ROWS = 4096
NO_CHECKER = (
    'its tests are code of free form (mode "checker"), which needs all of Python, and sandbox = "monty" runs a part of '
    'it. Use sandbox = "auto", or tests that are asserts on single calls'
)


class CodeOptions(BaseModel):
    """Options of `code`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field("auto", description="How tests are judged; auto takes, row by row, what the row has.")
    tests: str | None = Field(
        None, description="Column with the tests; left out: the first of " + ", ".join(KNOWN_COLUMNS) + "."
    )
    entry_point: str = Field("entry_point", description="Column with the name of the function to write.")
    solution: str | None = Field(
        None, description="Column with a right program, for the probe; left out: found by its usual names."
    )
    partial: bool = Field(False, description="Credit for the share of tests passed; else all or nothing.")
    extract: Rule = Field("auto", description="Where the program is. auto: " + RULES["auto"] + ".")
    prompt_prefix: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Put the prompt's own code before the completion (HumanEval); auto: where the completion goes on "
        "inside the function instead of defining it.",
    )
    time_limit_s: float = Field(5.0, gt=0, le=3600, description="Wall time of one execution, at most timeout_s.")
    memory_mb: int = Field(512, ge=32, le=65536, description="Address space of one execution, in MiB.")
    sandbox: Literal["auto", "A", "B", "C", "monty", "remote", "unsafe"] = Field(
        "auto", description="Isolation; auto: the best tier that proves itself here, else an error."
    )
    url: str | None = Field(None, description=URL_HELP)

    @model_validator(mode="after")
    def _address(self) -> CodeOptions:
        check_address(self.sandbox, self.url)
        return self


class CodeReward(NamedReward):
    """1 when every test passes, else 0 or, with `partial`, the share that did."""

    pure = True

    def __init__(self, name: str, timeout_s: float, options: CodeOptions, sandbox: Sandbox | None = None) -> None:
        """sandbox: where to run programs; None: opened by the options when the first one comes."""
        super().__init__(name, timeout_s)
        self.options = options
        self.limits = Limits(
            wall_s=min(options.time_limit_s, timeout_s), memory_bytes=options.memory_mb * 1024**2
        )  # fmt: skip
        self._jail = Jail(options.sandbox, options.url, sandbox)
        self._rows: dict[str, tuple[Mapping[str, Any], RowTests]] = {}

    def required_columns(self) -> tuple[str, ...]:
        """The columns that options name."""
        return () if self.options.tests is None else (self.options.tests,)

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """Tests must be somewhere."""
        named = self.options.tests
        if named is None and not any(column in columns for column in KNOWN_COLUMNS):
            return [missing_column(self.name, "tests", columns, source)]
        return super().check_columns(columns, source)

    def reference(self, prompt: Prompt) -> str | None:
        """A right program of the row, written where `extract` looks for it."""
        code = self._solution(prompt)
        if code is None:
            return None
        if self.options.extract == "text":
            return code
        longest = max((len(run) for run in _backticks(code)), default=0)
        fence = "`" * max(3, longest + 1)
        block = f"{fence}python\n{code.rstrip()}\n{fence}"
        return f"<answer>\n{block}\n</answer>" if self.options.extract == "answer" else block

    def _solution(self, prompt: Prompt) -> str | None:
        named = self.options.solution
        for column in (named,) if named else SOLUTION_COLUMNS:
            value = prompt.fields.get(column)
            if column == "solutions" and isinstance(value, str):
                try:
                    value = json.loads(value)
                except ValueError:
                    continue
            if isinstance(value, list):
                value = value[0] if value else None
            if isinstance(value, str) and value.strip():
                return value
        return None

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Run each completion's program; as many at a time as the sandbox has slots."""
        try:
            tests = self._tests(prompt)
        except DataError as error:
            return [failed(f"row {prompt.id}: {error}")] * len(rollouts)
        if self.options.sandbox == "monty" and isinstance(tests.suite, CheckerSuite):
            return [failed(f"row {prompt.id}: {NO_CHECKER}")] * len(rollouts)
        tasks = [asyncio.ensure_future(self._one(tests, rollout.text)) for rollout in rollouts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _tests(self, prompt: Prompt) -> RowTests:
        """The row's tests, read once."""
        known = self._rows.get(prompt.id)
        if known is not None and known[0] == prompt.fields:
            return known[1]
        options = self.options
        tests = read_tests(
            prompt.fields,
            mode=options.mode,
            column=options.tests,
            entry_column=options.entry_point,
            prompt_text="" if options.prompt_prefix == "never" else _prompt_text(prompt),
        )
        if len(self._rows) >= _REMEMBERED_ROWS:
            self._rows.clear()
        self._rows[prompt.id] = (prompt.fields, tests)
        return tests

    async def _one(self, tests: RowTests, text: str) -> Verdict:
        code = extract_code(text, self.options.extract)
        if code is None or not code.text.strip():
            return scored(0.0, f"there is no code by the rule: {RULES[self.options.extract]}")
        program = assemble(code, tests, self.options.prompt_prefix)
        try:
            program.encode("utf-8")
        except UnicodeEncodeError:
            return scored(0.0, "the program holds half a surrogate pair, which is no text")
        sandbox = await self._jail.get()
        suite = tests.suite
        if isinstance(suite, CallSuite):
            ran = await sandbox.run_calls(program, suite, self.limits)
        elif isinstance(suite, CheckerSuite):
            ran = await sandbox.run_checker(program, suite, self.limits)
        else:
            ran = await sandbox.run_stdio(program, suite, self.limits, every=self.options.partial)
        return verdict_of(ran, partial=self.options.partial)

    async def ready(self) -> None:
        """Open the sandbox. Raises: SandboxUnavailable."""
        await self._jail.prove()

    def shut_down(self) -> None:
        """Let go of the sandbox."""
        self._jail.close()


def assemble(code: Code, tests: RowTests, prompt_prefix: str) -> str:
    """The program to run: what the completion holds, after the prompt's own code where it goes on from that."""
    goes_on = bool(tests.prompt_code) and prompt_prefix != "never"
    if goes_on and prompt_prefix == "auto" and tests.entry is not None:
        goes_on = not defines(code.text, tests.entry)
    if not goes_on:
        return f"{tests.prologue}\n{code.text}" if tests.prologue else code.text
    if code.place == "text":
        return tests.prompt_code + function_body(code.text)
    gap = "" if tests.prompt_code.endswith("\n") else "\n"
    return tests.prompt_code + gap + code.text


def verdict_of(ran: Ran, *, partial: bool) -> Verdict:
    """What an execution is worth.

    1 when it passed; 0 for every other outcome, or with partial `passed / total`, kept below 1; failed for
    sandbox_error. Time and memory depend on the machine, so those verdicts are not remembered.
    """
    if ran.outcome == "sandbox_error":
        return replace(failed(f"sandbox_error: {ran.note}"), seconds=ran.seconds)
    if ran.outcome == "passed":
        return replace(scored(1.0), seconds=ran.seconds)
    share = min(ran.passed, ran.total - 1) / ran.total if partial and ran.total > 0 else 0.0
    note = f"{ran.outcome}: {ran.passed} of {ran.total} tests passed" + (f"; {ran.note}" if ran.note else "")
    lasting = ran.outcome in ("failed", "policy_violation")
    return replace(scored(max(0.0, share), note), seconds=ran.seconds, lasting=lasting)


def _prompt_text(prompt: Prompt) -> str:
    """The prompt as its data set has it: its column where a template is used, else the text the policy goes on from."""
    column = prompt.fields.get("prompt")
    if isinstance(column, str):
        return column
    return prompt.messages[-1]["content"] if prompt.messages else ""


def _backticks(text: str) -> list[str]:
    """The runs of backticks in a text."""
    runs, current = [], ""
    for character in text + " ":
        if character == "`":
            current += character
        elif current:
            runs.append(current)
            current = ""
    return runs
