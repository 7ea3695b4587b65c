"""`code`: what is run, under which limits, and what each outcome is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from charter.errors import SandboxUnavailable, UsageError
from charter.reward import as_group, load_reward, options_model, probe
from charter.reward.code import CodeOptions, CodeReward
from charter.sandbox.job import (
    CallSuite,
    CheckerSuite,
    Limits,
    Outcome,
    QueryResult,
    Sandbox,
    StdioCase,
    Verdict,
)
from charter.types import Prompt, Score

ROW = {
    "entry_point": "f",
    "tests": ["assert f(1) == 2", "assert f(2) == 4"],
    "solution": "def f(x):\n    return 2 * x\n",
}


@dataclass
class Fake:
    """A sandbox that answers as it is told and remembers what it was asked."""

    outcome: Outcome = "passed"
    passed: int = 2
    note: str = ""
    raises: Exception | None = None
    asked: list[tuple[str, str, Any, Limits, dict[str, Any]]] = field(default_factory=list)
    closed: bool = False
    kind: str = "fake"

    async def _answer(self, mode: str, program: str, suite: Any, limits: Limits, **named: Any) -> Verdict:
        self.asked.append((mode, program, suite, limits, named))
        await asyncio.sleep(0)
        if self.raises is not None:
            raise self.raises
        return Verdict(outcome=self.outcome, passed=self.passed, total=2, seconds=0.5, note=self.note)

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        return await self._answer("calls", program, suite, limits)

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        return await self._answer("stdio", program, cases, limits, every=every)

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        return await self._answer("checker", program, suite, limits)

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        raise AssertionError("no reward here runs a query")

    def close(self) -> None:
        self.closed = True


def row(fields: dict[str, Any] | None = None, text: str = "Write f.") -> Prompt:
    return Prompt(id="row-1", messages=({"role": "text", "content": text},), fields=ROW if fields is None else fields)


def made(sandbox: Fake, timeout_s: float = 10.0, **options: Any) -> CodeReward:
    return CodeReward("code", timeout_s, CodeOptions(**options), sandbox)


def scored(reward: CodeReward, prompt: Prompt, *texts: str) -> list[Score]:
    return list(asyncio.run(reward.score(as_group(prompt, texts))))


def test_the_fake_is_a_sandbox() -> None:
    assert isinstance(Fake(), Sandbox)


@pytest.mark.parametrize(
    ("outcome", "passed", "partial", "value"),
    [
        ("passed", 2, False, 1.0),
        ("passed", 2, True, 1.0),
        ("failed", 1, False, 0.0),
        ("failed", 1, True, 0.5),
        ("failed", 0, True, 0.0),
        ("timeout", 1, True, 0.5),
        ("timeout", 1, False, 0.0),
        ("out_of_memory", 1, False, 0.0),
        ("output_limit", 0, False, 0.0),
        # all tests passed and then something went wrong: not the whole reward, (2 - 1) / 2
        ("crashed", 2, True, 0.5),
        ("crashed", 2, False, 0.0),
        ("policy_violation", 2, True, 0.5),
    ],
)
def test_what_an_outcome_is_worth(outcome: Outcome, passed: int, partial: bool, value: float) -> None:
    sandbox = Fake(outcome=outcome, passed=passed, note="because\nof\x1b[31m it")
    (score,) = scored(made(sandbox, partial=partial), row(), "def f(x): …")
    assert (score.status, score.value) == ("scored", value)
    if outcome != "passed":
        assert score.note == f"{outcome}: {passed} of 2 tests passed; because\ufffdof\ufffd[31m it"


def test_an_error_of_the_sandbox_is_never_a_zero() -> None:
    (score,) = scored(made(Fake(outcome="sandbox_error", passed=0, note="the disk is full")), row(), "def f(x): …")
    assert (score.status, score.value) == ("failed", None)
    assert score.note == "sandbox_error: the disk is full"


def test_an_exception_of_the_sandbox_is_a_failed_score() -> None:
    sandbox = Fake(raises=SandboxUnavailable("nothing is proven here"))
    (score,) = scored(made(sandbox), row(), "def f(x): …")
    assert (score.status, score.value) == ("failed", None)
    assert "nothing is proven here" in score.note


def test_limits_come_from_the_options_and_timeout_s_caps_them() -> None:
    sandbox = Fake()
    scored(made(sandbox, timeout_s=3.0, time_limit_s=8.0, memory_mb=64), row(), "x = 1")
    scored(made(sandbox, timeout_s=30.0, time_limit_s=8.0), row(), "x = 1")
    assert [(asked[3].wall_s, asked[3].memory_bytes) for asked in sandbox.asked] == [
        (3.0, 64 * 1024**2),
        (8.0, 512 * 1024**2),
    ]


def test_modes_by_row() -> None:
    sandbox = Fake()
    reward = made(sandbox, partial=True)
    rows = [
        {"tests": ["assert f(1) == 2"]},
        {"tests": [{"stdin": "1", "stdout": "2"}]},
        {"tests": "for i in range(3):\n    assert f(i) == i"},
    ]
    for fields in rows:
        scored(reward, row(fields), "print(1)")
    assert [asked[0] for asked in sandbox.asked] == ["calls", "stdio", "checker"]
    # partial credit needs every case run
    assert sandbox.asked[1][4] == {"every": True}


def test_identical_completions_run_once_and_a_timeout_is_not_remembered() -> None:
    sandbox = Fake()
    reward = made(sandbox)
    assert [s.value for s in scored(reward, row(), "x = 1", "x = 1", "x = 2")] == [1.0, 1.0, 1.0]
    scored(reward, row(), "x = 1")
    assert len(sandbox.asked) == 2
    sandbox.outcome, sandbox.asked = "timeout", []
    for _ in range(2):
        scored(reward, row(), "x = 3")
    assert len(sandbox.asked) == 2


@pytest.mark.parametrize(
    ("text", "rule", "note"),
    [
        ("", "auto", "no code"),
        ("  \n", "auto", "no code"),
        ("x = 1", "fence", "no code"),
        ("x = '\ud800'", "auto", "surrogate"),
    ],
)
def test_what_holds_no_program_is_not_run(text: str, rule: str, note: str) -> None:
    sandbox = Fake()
    (score,) = scored(made(sandbox, extract=rule), row(), text)
    assert (score.value, sandbox.asked) == (0.0, [])
    assert note in score.note


PROMPT = 'import math\n\n\ndef f(x):\n    """Twice x."""\n'
HUMANEVAL = {
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "canonical_solution": "    return 2 * x\n",
}


@pytest.mark.parametrize(
    ("completion", "options", "program"),
    [
        # goes on from the prompt, up to the margin
        ("    return 2 * x\n\n\nprint(f(1))", {}, PROMPT + "    return 2 * x\n\n\n"),
        ("```python\n    return 2 * x\n```", {}, PROMPT + "    return 2 * x\n"),
        # defines the function anew: the prompt's imports come before it
        ("```python\ndef f(x):\n    return 2 * x\n```", {}, "import math\n\n\ndef f(x):\n    return 2 * x\n"),
        ("def f(x):\n    return 2 * x", {"prompt_prefix": "never"}, "def f(x):\n    return 2 * x"),
        ("    return 2 * x", {"prompt_prefix": "never"}, "    return 2 * x"),
        (
            "```\ndef f(x):\n    return 2 * x\n```",
            {"prompt_prefix": "always"},
            PROMPT + "def f(x):\n    return 2 * x\n",
        ),
    ],
)
def test_the_prompt_comes_before_what_goes_on_from_it(completion: str, options: dict[str, Any], program: str) -> None:
    sandbox = Fake()
    scored(made(sandbox, **options), row(HUMANEVAL, PROMPT), completion)
    assert sandbox.asked[0][1] == program


def test_the_prompt_is_read_from_its_column_where_a_template_is_used() -> None:
    sandbox = Fake()
    prompt = Prompt(
        id="1", messages=({"role": "user", "content": "Complete:\n" + PROMPT},), fields=HUMANEVAL | {"prompt": PROMPT}
    )
    scored(made(sandbox), prompt, "    return 2 * x\n")
    assert sandbox.asked[0][1].startswith(PROMPT)


def test_tests_that_cannot_be_read_fail_and_name_the_row() -> None:
    sandbox = Fake()
    (score,) = scored(made(sandbox), row({"tests": "assert f("}), "x = 1")
    assert score.status == "failed"
    assert score.note.startswith("row row-1: column 'tests': test code, line 1: it is not Python")


def test_columns_are_checked_before_a_run() -> None:
    reward = made(Fake())
    assert reward.check_columns(["question", "tests"], "rows.jsonl") == []
    assert reward.check_columns(["test", "entry_point"], "rows.jsonl") == []
    (problem,) = reward.check_columns(["question", "test_lists"], "rows.jsonl")
    assert "rows.jsonl does not have" in str(problem)
    (problem,) = made(Fake(), tests="mine").check_columns(["tests"], "rows.jsonl")
    assert "'mine'" in str(problem)


@pytest.mark.parametrize("rule", ["auto", "fence", "answer", "text"])
def test_the_reference_is_found_where_the_rule_looks(rule: str) -> None:
    sandbox = Fake()
    reward = made(sandbox, extract=rule)
    fenced = {"tests": ROW["tests"], "entry_point": "f", "solution": "def f(x):\n    '''\n```\n'''\n    return 2 * x"}
    for fields in (ROW, fenced):
        sandbox.asked.clear()
        text = reward.reference(row(fields))
        assert text is not None
        scored(reward, row(fields), text)
        assert sandbox.asked[0][1].strip() == str(fields["solution"]).strip()
    assert reward.reference(row({"tests": []})) is None
    assert "return 1" in str(reward.reference(row({"solutions": '["return 1", "return 2"]'})))


def test_closing_the_reward_closes_the_sandbox() -> None:
    sandbox = Fake()
    asyncio.run(made(sandbox).close())
    assert sandbox.closed


def test_options_are_checked() -> None:
    for options in (
        {"url": "http://127.0.0.1:1"},
        {"url": "http://127.0.0.1:1", "sandbox": "monty"},
        {"mode": "guess"},
        {"extract": "regex"},
        {"time_limit_s": 0},
        {"sandbox": "none"},
        {"tets": "a"},
    ):
        with pytest.raises(UsageError):
            load_reward("code", **options)
    assert options_model("code") is CodeOptions


@pytest.fixture(scope="module")
def real(excuse: Callable[[Exception, str], None]) -> Iterator[CodeReward]:
    reward = load_reward("code", timeout_s=5.0, partial=True)
    assert isinstance(reward, CodeReward)
    try:
        asyncio.run(reward.ready())
    except SandboxUnavailable as reason:
        excuse(reason, "B")
    yield reward
    reward.shut_down()


@pytest.mark.parametrize(
    ("completion", "value", "note"),
    [
        ("```python\ndef f(x):\n    return 2 * x\n```", 1.0, ""),
        ("```python\ndef f(x):\n    return 2\n```", 0.5, "1 of 2 tests passed"),
        ("```python\ndef f(x):\n    return x\n```", 0.0, "0 of 2"),
        ("```python\ndef f(x)\n    return x\n```", 0.0, "SyntaxError"),
        ("I cannot help with that.", 0.0, "crashed"),
        ("```python\nimport sys\nsys.exit(0)\n```", 0.0, "0 of 2"),
        ("```python\nclass A(int):\n    def __eq__(self, o): return True\ndef f(x): return A()\n```", 0.0, "0 of 2"),
    ],
)
def test_in_the_jail(real: CodeReward, completion: str, value: float, note: str) -> None:
    (score,) = scored(real, row(), completion)
    assert (score.status, score.value) == ("scored", value), score.note
    assert note in score.note


def test_the_probe_in_the_jail(real: CodeReward) -> None:
    assert asyncio.run(probe(real, [row(), row(HUMANEVAL, PROMPT)])) == []
    wrong = row({**ROW, "solution": "def f(x):\n    return 3 * x\n"})
    (sentence,) = asyncio.run(probe(real, [wrong]))
    assert "gives the reference answer of prompt row-1 0, not 1" in sentence


def test_explain_says_where_the_program_is() -> None:
    from pathlib import Path

    from charter.cli.explain_rewards import reward_facts
    from charter.recipe import RewardTable, load_recipe

    recipe = load_recipe(Path(__file__).resolve().parents[2] / "recipes" / "grpo-code.toml")
    assert reward_facts(recipe.rewards[0])["program"].startswith("the last fenced block")
    assert "wrong" not in reward_facts(recipe.rewards[0])
    misspelt = RewardTable.model_validate({"name": "code", "tets": "a"})
    assert "there is no option 'tets'. Did you mean 'tests'?" in reward_facts(misspelt)["wrong"]
