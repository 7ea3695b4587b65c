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
from charter.reward.runtime import Verdict, failed, scored
from charter.reward.text import RegexReward
from charter.types import Prompt, Score

PROMPT = Prompt(id="p", messages=())
GOOD = Reply(result={"value": 1.0, "note": ""}, seconds=0.5)


class Script:
    """A pool that answers from a list."""

    def __init__(self, answers: Sequence[Reply | WorkerError]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.patient: list[bool] = []

    async def run(self, payload: Mapping[str, Any], limit_s: float, *, patient: bool = False) -> Reply:
        self.asked += 1
        self.patient.append(patient)
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


def test_a_text_that_had_the_processor_for_its_whole_limit_is_wrong() -> None:
    score, reward, script = run(WorkerTimeoutError("took longer", 2.3))  # of 2.5 s: 0.92, over the 0.9 of PROVEN
    assert (score.value, score.note) == (0.0, "the completion did not parse within 2.5 s")
    assert (score.seconds, script.asked) == ({reward.name: 2.5}, 1)
    score, _, _ = run(WorkFailedError("MemoryError", "MemoryError"))
    assert (score.value, score.note) == (0.0, "the completion needs too much memory to parse")


def test_an_honest_text_on_a_busy_machine_gets_a_second_try_and_never_a_zero() -> None:
    score, _, script = run(WorkerTimeoutError("took longer", 0.4), GOOD)
    assert (score.value, script.patient) == (1.0, [False, True])
    score, _, script = run(WorkerTimeoutError("took longer", 0.4), WorkerTimeoutError("took longer", 1.0))
    assert (score.value, score.status, script.asked) == (None, "failed", 2)
    assert "a busy machine" in score.note
    score, _, _ = run(WorkerTimeoutError("took longer", 0.4), WorkerTimeoutError("took longer", 2.5))
    assert (score.value, score.status) == (0.0, "scored")  # the second try had its whole limit of processor time


def test_a_text_over_the_stated_bound_is_wrong_at_once() -> None:
    reward = load_reward("regex", pattern="x", timeout_s=2.5)
    assert isinstance(reward, RegexReward)
    reward.shut_down()
    script = Script([WorkerTimeoutError("took longer", 0.1)])
    reward.pool = script  # type: ignore[assignment]
    (score,) = asyncio.run(reward.score(as_group(PROMPT, ["x" * 100_001])))
    assert (score.value, script.asked) == (0.0, 1)
    assert "over the bound of 100000" in score.note


def test_a_reward_may_know_a_better_bound() -> None:
    class Knowing(RegexReward):
        def timed_out(self, work: Mapping[str, Any]) -> Verdict:
            return scored(0.25, "too deep") if "((" in work["text"] else failed("cheap text")

    made = load_reward("regex", pattern="x", timeout_s=2.5)
    assert isinstance(made, RegexReward)
    made.shut_down()
    made.__class__ = Knowing
    for text, answers, expected in (
        ("((", 1, (0.25, "scored", "too deep")),
        ("x", 2, (None, "failed", "cheap text")),
    ):
        script = Script([WorkerTimeoutError("took longer", 0.1)] * answers)
        made.pool = script  # type: ignore[assignment]
        for _ in range(2):  # neither is remembered
            (score,) = asyncio.run(made.score(as_group(PROMPT, [text])))
            assert (score.value, score.status, score.note) == expected
            script.answers = [WorkerTimeoutError("took longer", 0.1)] * answers
        assert script.asked == 2 * answers


@pytest.mark.parametrize("error", [WorkFailedError("KeyError: 'text'", "KeyError"), WorkerStartError("did not start")])
def test_what_breaks_on_our_side_is_a_failure(error: WorkerError) -> None:
    score, reward, _ = run(error)
    assert (score.value, score.status, score.note) == (None, "failed", str(error))
    assert score.failures == {reward.name: str(error)}


def test_seconds_are_the_workers_and_are_paid_once() -> None:
    score, reward, _ = run(GOOD)
    assert score.seconds == {reward.name: 0.5}
    twice = asyncio.run(reward.score(as_group(PROMPT, ["x", "x"])))  # remembered by now
    assert [s.seconds[reward.name] for s in twice] == [0.0, 0.0]


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
