"""One limit on the worker processes of all rewards; cancelled work is killed; a function that hangs costs little."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from charter.reward import as_group, load_reward
from charter.reward.pool import WorkerPool, WorkerTimeoutError
from charter.reward.process import cpu_seconds
from charter.reward.runtime import Verdict, failed, scored
from charter.reward.slots import Slots, default_limit, machine_bytes
from charter.reward.tries import most_overruns, one_by_one
from charter.train.scoring import score_as_they_finish
from charter.types import Prompt, Rollout

PROMPT = Prompt(id="p", messages=({"role": "text", "content": ""},))
SOURCE = """
import os, time
def nap(completions):
    for text in completions:
        if text.startswith("/"):
            open(text, "w").close()
            time.sleep(60)
        if text == "burn":
            while True: pass
        time.sleep(float(text))
    return [float(os.getpid()) for _ in completions]
"""


@pytest.fixture
def setup(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "nap.py").write_text(SOURCE, "utf-8")
    return {"source": f"{tmp_path}/nap.py:nap", "signature": None, "options": {}}


def work(text: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "text", "content": ""}],
        "texts": [text],
        "tokens": [[]],
        "columns": {},
        "options": {},
    }


@pytest.fixture
def pools(setup: dict[str, Any]) -> Iterator[Any]:
    made: list[WorkerPool] = []

    def make(slots: Slots, count: int, size: int = 2) -> list[WorkerPool]:
        made.extend(WorkerPool("function", setup, size=size, bounded=False, slots=slots) for _ in range(count))
        return made

    yield make
    for pool in made:
        pool.close()


def test_the_default_limit_by_hand(tmp_path: Path) -> None:
    gib = 1024**3
    assert default_limit(2, 128 * gib) == 4
    assert default_limit(16, 128 * gib) == 32
    assert default_limit(16, 8 * gib) == 8  # half of 8 GiB holds 8 times 512 MiB
    assert default_limit(16, gib // 4) == 1
    assert machine_bytes(Path("/nowhere")) > 0
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine_bytes(tmp_path / "memory.max") == 1048576
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_bytes(tmp_path / "memory.max") == machine_bytes(Path("/nowhere"))
    with pytest.raises(ValueError, match="lets no reward run"):
        Slots(0)


def test_all_rewards_together_keep_to_the_limit_and_all_get_their_turn(pools: Any) -> None:
    slots = Slots(2)
    made = pools(slots, 3)
    most = 0

    async def watch(done: asyncio.Event) -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, sum(len(pool.pids()) for pool in made), slots.taken)
            await asyncio.sleep(0.01)

    async def go() -> list[Any]:
        done = asyncio.Event()
        watcher = asyncio.ensure_future(watch(done))
        found = await asyncio.gather(*(pool.run(work("0.05"), 10.0) for _ in range(3) for pool in made))
        done.set()
        await watcher
        return found

    assert len(asyncio.run(go())) == 9
    assert most == 2
    for pool in made:
        pool.close()
    assert slots.taken == 0


def test_a_pool_without_workers_takes_the_place_of_an_idle_one(pools: Any) -> None:
    slots = Slots(1)
    first, second = pools(slots, 2)
    one = asyncio.run(first.run(work("0"), 10.0)).result[0]["value"]
    two = asyncio.run(second.run(work("0"), 10.0)).result[0]["value"]
    assert (first.pids(), second.pids()) == ([], [int(two)])
    assert one != two
    assert slots.taken == 1


def test_slots_come_back_after_every_kind_of_end(pools: Any, setup: dict[str, Any], tmp_path: Path) -> None:
    slots = Slots(2)
    (pool,) = pools(slots, 1)
    with pytest.raises(WorkerTimeoutError):
        asyncio.run(pool.run(work("60"), 0.2))
    assert slots.taken == 0
    asyncio.run(pool.run(work("0"), 10.0))
    assert slots.taken == 1
    (pid,) = pool.pids()
    psutil.Process(pid).kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    asyncio.run(pool.run(work("0"), 10.0))
    assert slots.taken == 1
    broken = WorkerPool("no_such_task", {}, slots=slots)
    with pytest.raises(Exception, match="did not start"):
        broken.start()
    broken.close()
    forgotten = WorkerPool("function", setup, bounded=False, slots=slots)
    forgotten.start()
    assert slots.taken == 2
    del forgotten
    assert slots.taken == 1


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.01)
    return False


def test_cancelling_kills_the_worker_at_once_and_what_waits_never_begins(pools: Any, tmp_path: Path) -> None:
    (pool,) = pools(Slots(1), 1, size=1)
    flags = [tmp_path / "first", tmp_path / "second"]

    async def go() -> list[int]:
        tasks = [asyncio.ensure_future(pool.run(work(str(flag)), 60.0)) for flag in flags]
        while not flags[0].exists():
            await asyncio.sleep(0.01)
        pids = pool.pids()
        for task in tasks:
            task.cancel()
        assert [type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2
        return pids

    began = time.monotonic()
    pids = asyncio.run(go())
    assert gone(pids, 1.0)
    assert time.monotonic() - began < 10
    assert not flags[1].exists()
    assert asyncio.run(pool.run(work("0"), 10.0)).result[0]["value"] > 0  # the pool is of use still


def test_a_step_that_is_given_up_leaves_no_worker_busy(setup: dict[str, Any], tmp_path: Path) -> None:
    reward = load_reward(setup["source"], timeout_s=60.0)
    flag = tmp_path / "busy"

    async def groups() -> Any:
        yield as_group(PROMPT, [str(flag)])
        while not flag.exists():
            await asyncio.sleep(0.01)
        raise RuntimeError("the sampler broke")

    async def go() -> None:
        async for _ in score_as_they_finish(groups(), reward):
            pass

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the sampler broke"):
        asyncio.run(go())
    assert gone(reward.pool.pids(), 1.0)  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10
    asyncio.run(reward.close())


def test_a_function_that_hangs_costs_two_limits_a_group_and_a_little(setup: dict[str, Any]) -> None:
    reward = load_reward(setup["source"], timeout_s=0.5)
    began = time.monotonic()
    scores = asyncio.run(reward.score(as_group(PROMPT, ["60"] * 16)))
    took = time.monotonic() - began
    asyncio.run(reward.close())
    assert [s.status for s in scores] == ["failed"] * 16
    tried = [s for s in scores if s.note == "took longer than 0.5 s"]
    assert len(tried) >= most_overruns(16) == 4
    assert all("not tried" in s.note for s in scores if s not in tried)
    # 0.5 s together, then 4 tries on 1 to 4 workers, each a new process; it was 2 · 16 · 0.5 = 16 s before
    assert took < 9


def test_a_function_slower_than_its_limit_for_a_group_is_asked_one_by_one_from_then_on(setup: dict[str, Any]) -> None:
    reward = load_reward(setup["source"], timeout_s=0.9)
    for _ in range(2):
        scores = asyncio.run(reward.score(as_group(PROMPT, ["0.3"] * 4)))  # 1.2 s together, 0.3 s alone
        assert [s.status for s in scores] == ["scored"] * 4
    asyncio.run(reward.close())
    assert reward._slow  # type: ignore[attr-defined]


def test_one_by_one_stops_early_and_keeps_what_came_back() -> None:
    asked: list[int] = []

    async def alone(rollout: Rollout) -> tuple[Verdict, bool]:
        asked.append(rollout.index)
        await asyncio.sleep(0)
        return (scored(1.0), False) if rollout.index < 2 else (failed("took longer"), True)

    rollouts = as_group(PROMPT, ["x"] * 8).rollouts
    found = asyncio.run(one_by_one(rollouts, alone, 1))
    assert asked == [0, 1, 2, 3]
    assert [v.status for v in found] == ["scored"] * 2 + ["failed"] * 6
    assert found[4].note == "not tried: 2 other completions of its group took longer than the limit"


def test_a_second_try_counts_processor_time(pools: Any) -> None:
    (pool,) = pools(Slots(1), 1)
    pool.start()
    began = time.monotonic()
    with pytest.raises(WorkerTimeoutError) as caught:
        asyncio.run(pool.run(work("60"), 0.2, patient=True))
    assert time.monotonic() - began > 0.7  # it sleeps, so it gets 4 times its limit by the clock
    assert caught.value.cpu_s < 0.1
    with pytest.raises(WorkerTimeoutError) as caught:
        asyncio.run(pool.run(work("burn"), 0.3, patient=True))
    assert caught.value.cpu_s > 0.1


def test_processor_time_of_a_process() -> None:
    before = cpu_seconds(os.getpid())
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.04 < cpu_seconds(os.getpid()) - before < 5
    assert cpu_seconds(2**22 + 12345) == 0.0
