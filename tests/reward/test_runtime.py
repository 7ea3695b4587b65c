"""What a worker's misfortune means for the score of a built-in reward."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from charter.reward import as_group, load_reward
from charter.reward.pool import (
    Reply,
    WorkerDiedError,
    WorkerError,
    WorkerStartError,
    WorkerTimeoutError,
    WorkFailedError,
)
from charter.reward.text import RegexReward
from charter.types import Prompt, Score

PROMPT = Prompt(id="p", messages=())
GOOD = Reply(result={"value": 1.0, "note": ""}, seconds=0.5)


class Script:
    """A pool that answers from a list."""

    def __init__(self, answers: Sequence[Reply | WorkerError]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def run(self, payload: Mapping[str, Any], limit_s: float) -> Reply:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def close(self) -> None:
        pass


def run(*answers: Reply | WorkerError) -> tuple[Score, RegexReward, Script]:
    reward = load_reward("regex", pattern="x", timeout_s=2.5)
    assert isinstance(reward, RegexReward)
    reward.shut_down()
    script = Script(answers)
    reward.pool = script  # type: ignore[assignment]
    (score,) = asyncio.run(reward.score(as_group(PROMPT, ["x"])))
    return score, reward, script


def test_a_worker_that_dies_once_is_given_a_second_chance() -> None:
    score, _, script = run(WorkerDiedError("killed by SIGKILL"), GOOD)
    assert (score.value, script.asked) == (1.0, 2)


def test_a_text_that_kills_two_workers_is_a_failure_with_its_cause() -> None:
    score, _, script = run(WorkerDiedError("killed by SIGKILL"), WorkerDiedError("killed by SIGSEGV"))
    assert (score.value, score.status, score.note, script.asked) == (None, "failed", "killed by SIGSEGV", 2)


def test_slow_and_greedy_texts_are_wrong() -> None:
    score, reward, _ = run(WorkerTimeoutError("took longer"))
    assert (score.value, score.note) == (0.0, "the completion did not parse within 2.5 s")
    assert reward.statistics() == {"seconds": 2.5, "error_rate": 0.0, "abstain_rate": 0.0}
    score, _, _ = run(WorkFailedError("MemoryError", "MemoryError"))
    assert (score.value, score.note) == (0.0, "the completion needs too much memory to parse")


@pytest.mark.parametrize("error", [WorkFailedError("KeyError: 'text'", "KeyError"), WorkerStartError("did not start")])
def test_what_breaks_on_our_side_is_a_failure(error: WorkerError) -> None:
    score, reward, _ = run(error)
    assert (score.value, score.status, score.note) == (None, "failed", str(error))
    assert reward.statistics()["error_rate"] == 1.0


def test_seconds_are_the_workers() -> None:
    _, reward, _ = run(GOOD)
    assert reward.statistics()["seconds"] == 0.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_workers_of_built_in_rewards_have_bounded_memory() -> None:
    from charter.reward.worker import MEMORY_BYTES

    reward = load_reward("regex", pattern="x")
    assert isinstance(reward, RegexReward)
    asyncio.run(reward.score(as_group(PROMPT, ["x"])))
    (pid,) = reward.pool.pids()
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        line = next(ln for ln in limits if ln.startswith("Max address space"))
    reward.shut_down()
    assert line.split()[3:5] == [str(MEMORY_BYTES)] * 2
