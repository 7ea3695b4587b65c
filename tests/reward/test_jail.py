"""The sandbox of `code` and `sql_result`: when it is opened, what is said when it cannot be, and who closes it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from charter import sandbox as room
from charter.cli.reward import app
from charter.errors import SandboxUnavailable, UsageError
from charter.reward import Rubric, as_group, load_reward, probe
from charter.reward.code import CodeOptions, CodeReward
from charter.reward.jail import Jail
from charter.reward.length import CosineLengthReward
from charter.reward.sql import SqlReward
from charter.types import Prompt

ROW = Prompt(id="row-1", messages=({"role": "user", "content": "?"},), fields={"tests": ["assert f(1) == 2"]})
REFUSED = "no isolation could be proven on this machine: tier B: seccomp is missing"


def refuse(kind: str, **options: Any) -> Any:
    raise SandboxUnavailable(REFUSED)


@pytest.fixture
def without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "open_sandbox", refuse, raising=False)


@pytest.mark.usefixtures("without_isolation")
@pytest.mark.parametrize("name", ["code", "sql_result"])
def test_the_probe_refuses_a_run_without_isolation(name: str) -> None:
    """No row has a reference, so nothing is run: it must be opened for its own sake."""
    for reward in (load_reward(name), Rubric([(load_reward("exact"), 1.0), (load_reward(name), 0.5)])):
        with pytest.raises(SandboxUnavailable, match="seccomp is missing"):
            asyncio.run(probe(reward, []))


@pytest.mark.usefixtures("without_isolation")
def test_a_reward_that_asks_another_is_ready_when_that_one_is() -> None:
    reward = load_reward("cosine_length", correct="code", max=100)
    assert isinstance(reward, CosineLengthReward)
    with pytest.raises(SandboxUnavailable):
        asyncio.run(reward.ready())


@pytest.mark.usefixtures("without_isolation")
def test_scoring_without_isolation_fails_and_is_no_zero() -> None:
    (score,) = asyncio.run(load_reward("code").score(as_group(ROW, ["def f(x): return 2"])))
    assert (score.status, score.value) == ("failed", None)
    assert "seccomp is missing" in score.note


@pytest.mark.usefixtures("without_isolation")
def test_the_command_says_it_once_and_prints_no_row(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "?", "completion": "x", "tests": ["assert f(1) == 2"]}) + "\n")
    result = CliRunner().invoke(app, ["test", "code", "--data", str(data)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == REFUSED + "\n"


def test_a_remote_sandbox_takes_its_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def note(kind: str, **options: Any) -> Any:
        asked.append({"kind": kind, **options})
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(room, "open_sandbox", note, raising=False)
    for name in ("code", "sql_result"):
        for options in ({}, {"url": "http://127.0.0.1:1"}):
            reward = load_reward(name, sandbox="remote", **options)
            assert isinstance(reward, (CodeReward, SqlReward))
            asyncio.run(reward.ready())
    # None: RemoteSandbox reads CHARTER_SANDBOX_URL
    assert asked == 2 * [{"kind": "remote", "url": None}, {"kind": "remote", "url": "http://127.0.0.1:1"}]


def test_a_remote_sandbox_without_an_address_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARTER_SANDBOX_URL", raising=False)
    with pytest.raises(UsageError, match="give a url, or set CHARTER_SANDBOX_URL"):
        asyncio.run(probe(load_reward("code", sandbox="remote"), [ROW]))


def test_a_server_that_does_not_answer_is_told_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from charter.sandbox import remote_http

    monkeypatch.setattr(remote_http, "MOST_FAILURES", 1)
    monkeypatch.setenv("CHARTER_SANDBOX_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    reward = load_reward("code", sandbox="remote")
    with pytest.raises(SandboxUnavailable, match=r"http://127\.0\.0\.1:9"):
        asyncio.run(probe(reward, [ROW]))
    asyncio.run(reward.close())


def test_monty_is_refused_for_tests_of_free_form_before_anything_runs() -> None:
    row = Prompt(id="row-1", messages=(), fields={"tests": ["for i in range(3):\n    assert f(i) == i"]})
    reward = CodeReward("code", 1.0, CodeOptions(sandbox="monty"), SimpleNamespace())  # type: ignore[arg-type]
    (sentence,) = asyncio.run(probe(reward, [row]))
    assert sentence.startswith("reward 'code' fails on an empty completion of prompt row-1: row row-1: its tests are")
    assert 'Use sandbox = "auto"' in sentence


def test_it_is_opened_once_from_any_number_of_event_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def slowly(kind: str, **options: Any) -> Any:
        time.sleep(0.05)
        opened.append(kind)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(room, "open_sandbox", slowly, raising=False)
    jail = Jail("A")

    async def several() -> list[Any]:
        return await asyncio.gather(*(jail.get() for _ in range(5)))

    loops = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    assert opened == ["A"]


def test_closing_while_it_opens_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    began, closed = threading.Event(), threading.Event()

    def slowly(kind: str, **options: Any) -> Any:
        began.set()
        time.sleep(0.1)
        return SimpleNamespace(close=closed.set)

    monkeypatch.setattr(room, "open_sandbox", slowly, raising=False)
    jail = Jail("A")
    opening = threading.Thread(target=lambda: asyncio.run(jail.get()))
    opening.start()
    began.wait(5)
    jail.close()
    opening.join()
    assert closed.is_set()
    unopened = Jail("A")
    unopened.close()
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(unopened.get())
