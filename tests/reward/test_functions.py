"""Python functions with TRL's signature: what they get, what they may return, and every way they break."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from charter.errors import UsageError
from charter.reward import as_group, load_reward
from charter.reward.adapt import ObjectReward, SourceReward
from charter.types import Group, Prompt, Rollout, Score

RULES = '''
"""Rewards of a user."""
import asyncio, os, signal, subprocess, sys, time
from fractions import Fraction

def seen(prompts, completions, completion_ids, answer, extra="default", **kwargs):
    import json
    print("SEEN" + json.dumps([prompts, completions, completion_ids, answer, extra, kwargs]), file=sys.stderr)
    return [float(len(ids)) for ids in completion_ids]

def length(completions, scale=1.0):
    return [scale * len(c if isinstance(c, str) else c[0]["content"]) for c in completions]

def only(prompts, /, completions, *, answer):
    return [float(a == c) for a, c in zip(answer, completions)]

async def later(completions, **kwargs):
    await asyncio.sleep(0.01)
    return [float(len(c)) for c in completions]

def wild(completions, **kwargs):
    """Does what each completion says."""
    out = []
    import numpy as np
    for text in completions:
        if text == "raise": raise ValueError("no such thing")
        if text == "exit": os._exit(3)
        if text == "sysexit": sys.exit("bye")
        if text == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if text == "hang": time.sleep(60)
        if text == "print":
            print("x" * 3_000_000); os.write(1, b"y" * 100_000); subprocess.run(["echo", "child"])
        out.append({"nan": float("nan"), "inf": float("-inf"), "text": "1.0", "none": None, "true": True,
                    "np": np.float32(0.5), "np0": np.array(2.0), "npbool": np.bool_(True), "fraction": Fraction(1, 4),
                    "list": [1.0], "complex": 1j}.get(text, 1.0))
    return out

def together(completions):
    if "raise" in completions: raise RuntimeError("compared and failed")
    return [1.0] * len(completions)
together.row_independent = False

def short(completions): return [1.0]
def scalar(completions): return 1.0
def nothing(completions): return None
def table(completions): return {"a": 1}
def array(completions):
    import numpy as np
    return np.arange(len(completions), dtype=np.float32)
def count_pid(completions): return [float(os.getpid())] * len(completions)
def has_torch(completions): return [float("torch" in sys.modules)] * len(completions)
def stdin(completions): return [float(len(sys.stdin.read()))] * len(completions)
def mutate(completions, meta):
    return [float(m.pop("n")) for m in meta]
not_a_function = 3
'''


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "rules.py"
    path.write_text(RULES, "utf-8")
    return path


def group(texts: list[str], fields: Mapping[str, Any] | None = None, *, chat: bool = False) -> Group:
    message = {"role": "user" if chat else "text", "content": "Q"}
    prompt = Prompt(id="p1", messages=({"role": message["role"], "content": "Q"},), fields=fields or {})
    rollouts = tuple(
        Rollout(prompt_id="p1", index=i, tokens=tuple(range(i + 1)), logprobs=(), text=t, stop="eos", version=0)
        for i, t in enumerate(texts)
    )
    return Group(prompt=prompt, rollouts=rollouts)


def run(source: object, texts: list[str], fields: Mapping[str, Any] | None = None, **options: Any) -> list[Score]:
    timeout_s = options.pop("timeout_s", 5.0)
    chat = options.pop("chat", False)
    reward = load_reward(source, timeout_s=timeout_s, **options)  # type: ignore[arg-type]
    assert isinstance(reward, (SourceReward, ObjectReward))
    try:
        return list(asyncio.run(reward.score(group(texts, fields, chat=chat))))
    finally:
        reward.shut_down()


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def test_the_name_is_the_functions(rules: Path) -> None:
    (score,) = run(f"{rules}:length", ["abc"])
    assert (score.value, dict(score.parts), score.status) == (3.0, {"length": 3.0}, "scored")


@pytest.mark.parametrize("chat", [False, True])
def test_what_a_function_is_given(rules: Path, chat: bool, capfd: pytest.CaptureFixture[str]) -> None:
    import json

    fields = {"answer": "42", "level": 3}
    assert values(run(f"{rules}:seen", ["a", "bé\ud800"], fields, chat=chat)) == [1.0, 2.0]
    line = next(ln for ln in capfd.readouterr().err.splitlines() if ln.startswith("SEEN"))
    prompts, completions, ids, answer, extra, kwargs = json.loads(line.removeprefix("SEEN"))
    if chat:  # TRL's conversational form
        assert prompts == [[{"role": "user", "content": "Q"}]] * 2
        assert completions == [[{"role": "assistant", "content": t}] for t in ("a", "bé\ud800")]
    else:
        assert prompts == ["Q", "Q"]
        assert completions == ["a", "bé\ud800"]
    assert (ids, answer, extra, kwargs) == ([[0], [0, 1]], ["42", "42"], "default", {"level": [3, 3]})


def test_options_are_keyword_parameters(rules: Path) -> None:
    assert values(run(f"{rules}:length", ["abc"], scale=2)) == [6.0]
    with pytest.raises(UsageError, match=r"has no parameter 'scal'.*Did you mean 'scale'"):
        run(f"{rules}:length", ["abc"], scal=2)
    with pytest.raises(UsageError, match="has no parameter 'level'"):  # **kwargs takes columns, not options
        run(f"{rules}:later", ["abc"], level=2)


def test_positional_only_and_keyword_only_parameters(rules: Path) -> None:
    assert values(run(f"{rules}:only", ["42", "43"], {"answer": "42"})) == [1.0, 0.0]


def test_async_functions(rules: Path) -> None:
    assert values(run(f"{rules}:later", ["ab", "c"])) == [2.0, 1.0]


def test_each_completion_has_its_own_copy_of_a_column(rules: Path) -> None:
    assert values(run(f"{rules}:mutate", ["a", "b"], {"meta": {"n": 5}})) == [5.0, 5.0]


def test_what_counts_as_a_number(rules: Path) -> None:
    texts = ["none", "true", "np", "np0", "npbool", "fraction"]
    scores = run(f"{rules}:wild", texts)
    assert values(scores) == [None, 1.0, 0.5, 2.0, 1.0, 0.25]
    assert [s.status for s in scores] == ["abstained"] + ["scored"] * 5
    assert values(run(f"{rules}:array", ["a", "b", "c"])) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("nan", "returned nan; expected a finite number or None"),
        ("inf", "returned -inf; expected a finite number or None"),
        ("text", "returned '1.0', a str; expected a number or None"),
        ("list", "returned [1.0], a list; expected a number or None"),
        ("complex", "returned 1j, a complex; expected a number or None"),
    ],
)
def test_what_does_not_fails_that_completion_alone(rules: Path, text: str, note: str) -> None:
    good, bad = run(f"{rules}:wild", ["fine", text])
    assert (good.value, bad.value, bad.status, bad.note) == (1.0, None, "failed", note)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("raise", "ValueError: no such thing (rules.py, line "),
        ("sysexit", "SystemExit: bye"),
        ("exit", "the worker process ended with exit code 3"),
        ("kill", "the worker process was killed by SIGKILL (out of memory?)"),
        ("hang", "took longer than 0.7 s"),
    ],
)
def test_only_the_guilty_completion_fails(rules: Path, text: str, note: str) -> None:
    started = time.monotonic()
    first, guilty, last = run(f"{rules}:wild", ["fine", text, "fine"], timeout_s=0.7)
    assert (first.value, last.value) == (1.0, 1.0)
    assert (guilty.value, guilty.status) == (None, "failed")
    assert guilty.note.startswith(note)
    assert time.monotonic() - started < 9


def test_a_function_that_compares_completions_fails_as_a_whole(rules: Path) -> None:
    scores = run(f"{rules}:together", ["a", "raise"])
    assert [s.status for s in scores] == ["failed", "failed"]
    assert "compared and failed" in scores[0].note
    assert values(run(f"{rules}:together", ["a", "b"])) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("short", "returned 1 values for 3 completions"),
        ("scalar", "returned a float; expected a list with one number or None per completion"),
        ("nothing", "returned a NoneType; expected a list with one number or None per completion"),
        ("table", "returned a dict; expected a list with one number or None per completion"),
    ],
)
def test_a_wrong_shape_fails_all(rules: Path, name: str, note: str) -> None:
    scores = run(f"{rules}:{name}", ["a", "b", "c"])
    assert [(s.value, s.status, s.note) for s in scores] == [(None, "failed", note)] * 3


def test_printing_megabytes_does_not_reach_the_channel(rules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = run(f"{rules}:wild", ["print", "fine"])
    out, err = capfd.readouterr()
    assert values(scores) == [1.0, 1.0]
    assert out == ""
    assert err.count("x") == 3_000_000
    assert "child" in err


def test_it_runs_elsewhere_and_without_torch(rules: Path) -> None:
    (pid,) = values(run(f"{rules}:count_pid", ["a"]))
    assert pid is not None
    assert pid != os.getpid()
    assert values(run(f"{rules}:has_torch", ["a"])) == [0.0]
    assert values(run(f"{rules}:stdin", ["a"])) == [0.0]


def test_a_megabyte_completion(rules: Path) -> None:
    assert values(run(f"{rules}:length", ["é" * 1_000_000])) == [1_000_000.0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{rules}:lenght", r"has no 'lenght'; did you mean 'length'\?"),
        ("{folder}/none.py:f", "there is no file"),
        ("no_such_module_x:f", "there is no module 'no_such_module_x'"),
        ("{folder}/broken.py:f", r"SyntaxError: .*broken.py"),
        ("{folder}/raises.py:f", r"ZeroDivisionError: division by zero \(raises.py, line 1\)"),
        ("{rules}:not_a_function", "is a int, not a function"),
    ],
)
def test_a_function_that_cannot_be_loaded(rules: Path, source: str, said: str) -> None:
    (rules.parent / "broken.py").write_text("def f(:\n", "utf-8")
    (rules.parent / "raises.py").write_text("1 / 0\n", "utf-8")
    with pytest.raises(UsageError, match=said):
        load_reward(source.format(rules=rules, folder=rules.parent))


def test_module_names(rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rules_pkg").mkdir()
    (tmp_path / "my_rules_pkg" / "a.py").write_text(
        "from .b import two\ndef f(completions): return [two]*len(completions)\n"
    )
    (tmp_path / "my_rules_pkg" / "b.py").write_text("two = 2\n")
    (tmp_path / "my_rules_pkg" / "__init__.py").write_text("")
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")  # the worker itself must not see this
    monkeypatch.chdir(tmp_path)
    assert values(run("my_rules_pkg.a:f", ["x"])) == [2.0]


@pytest.fixture
def reward(rules: Path) -> Iterator[SourceReward]:
    made = load_reward(f"{rules}:seen")
    assert isinstance(made, SourceReward)
    yield made
    made.shut_down()


def test_missing_columns_are_found_before_anything_runs(reward: SourceReward) -> None:
    assert reward.required_columns() == ("answer",)
    assert reward.check_columns(["answer", "level"], "sums.jsonl") == []
    (problem,) = reward.check_columns(["answers", "level"], "sums.jsonl")
    assert "'answer' is no column of sums.jsonl (columns: 'answers', 'level')" in str(problem)
    assert "Did you mean 'answers'?" in str(problem)
    (score,) = asyncio.run(reward.score(group(["a"], {"level": 1})))
    assert score.status == "failed"
    assert "row p1 has no column 'answer'" in score.note


def test_values_json_does_not_know(rules: Path) -> None:
    import datetime

    import numpy as np

    fine = {"answer": np.float32(2.0), "when": datetime.date(2026, 1, 2), "list": np.arange(2)}
    assert values(run(f"{rules}:seen", ["a"], fine)) == [1.0]
    (score,) = run(f"{rules}:seen", ["a"], {"answer": b"bytes"})
    assert score.status == "failed"
    assert "a bytes cannot be handed to a reward" in score.note


def test_function_objects() -> None:
    def rule(completions: list[str], answer: list[str]) -> list[float]:
        if "raise" in completions:
            raise KeyError("gone")
        return [float(c == a) for c, a in zip(completions, answer, strict=True)]

    async def slow(completions: list[str]) -> list[float]:
        await asyncio.sleep(30 if "hang" in completions else 0)
        return [1.0] * len(completions)

    assert values(run(rule, ["1", "2"], {"answer": "2"})) == [0.0, 1.0]
    good, bad = run(rule, ["2", "raise"], {"answer": "2"})
    assert (good.value, bad.status) == (1.0, "failed")
    assert bad.note.startswith("KeyError: 'gone' (test_functions.py, line ")
    good, hung = run(slow, ["fine", "hang"], timeout_s=0.2)
    assert (good.value, hung.status, hung.note) == (1.0, "failed", "took longer than 0.2 s")
    with pytest.raises(UsageError, match="has no parameter 'x'"):
        load_reward(rule, x=1)


def test_many_groups_at_once_keep_their_order(rules: Path) -> None:
    reward = load_reward(f"{rules}:length")

    async def score_all() -> list[list[float | None]]:
        groups = [as_group(group([""]).prompt, ["a" * (i + j) for j in range(3)]) for i in range(40)]
        return [[s.value for s in scores] for scores in await asyncio.gather(*(reward.score(g) for g in groups))]

    assert asyncio.run(score_all()) == [[i, i + 1.0, i + 2.0] for i in range(40)]
    assert asyncio.run(score_all()) == [[i, i + 1.0, i + 2.0] for i in range(40)]  # another event loop
    asyncio.run(reward.close())
