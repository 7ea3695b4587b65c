"""Decoding loops side by side: everything arrives, a failure is raised, nobody goes on when the caller stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from charter.sampler.threads import LEAST_ROWS, MOST_THREADS, interleave, loops_for


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def steps(name: str, count: int, seen: list[Any], pause_s: float = 0.0) -> Iterator[list[str]]:
    for i in range(count):
        seen.append((name, threading.get_ident(), torch.get_num_threads()))
        time.sleep(pause_s)
        yield [f"{name}{i}"] if i % 2 else []


async def gathered(parts: list[Any]) -> list[str]:
    return [item async for item in interleave(parts)]


@pytest.mark.parametrize(
    ("rows", "threads", "loops"), [(64, 2, 2), (16, 2, 2), (15, 2, 1), (1, 2, 1), (512, 16, MOST_THREADS), (64, 1, 1)]
)
def test_how_many_loops(rows: int, threads: int, loops: int) -> None:
    assert LEAST_ROWS == 8
    torch.set_num_threads(threads)
    assert loops_for(rows, torch.device("cpu")) == loops
    assert loops_for(rows, torch.device("cuda")) == 1


def test_everything_arrives_and_each_loop_has_its_share_of_the_cores() -> None:
    seen: list[Any] = []
    both = threading.Barrier(2, timeout=60)  # a part that ended before the other began would leave it its thread

    def together(name: str, count: int) -> Iterator[list[str]]:
        both.wait()
        yield from steps(name, count, seen)

    found = asyncio.run(gathered([partial(together, "a", 6), partial(together, "b", 4)]))
    assert sorted(found) == ["a1", "a3", "a5", "b1", "b3"]
    assert [item for item in found if item[0] == "a"] == ["a1", "a3", "a5"]
    own = {name: {thread for n, thread, _ in seen if n == name} for name in "ab"}
    assert len(own["a"]) == len(own["b"]) == 1
    assert own["a"] != own["b"]
    assert {threads for _, _, threads in seen} == {1}
    assert torch.get_num_threads() == 2


def test_a_single_part_runs_in_the_callers_thread() -> None:
    seen: list[Any] = []
    assert asyncio.run(gathered([partial(steps, "a", 4, seen)])) == ["a1", "a3"]
    assert {thread for _, thread, _ in seen} == {threading.get_ident()}


def test_the_first_failure_is_raised_and_ends_the_others() -> None:
    seen: list[Any] = []

    def broken() -> Iterator[list[str]]:
        yield ["x"]
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(gathered([broken, partial(steps, "b", 10_000, seen, 0.002)]))
    assert len(seen) < 2_000
    assert torch.get_num_threads() == 2


def test_a_caller_that_stops_ends_every_part() -> None:
    seen: list[Any] = []

    async def first_only() -> str:
        items = interleave([partial(steps, name, 10_000, seen, 0.002) for name in "ab"])
        async for item in items:
            await items.aclose()  # type: ignore[attr-defined]
            return item
        raise AssertionError("nothing came")

    assert asyncio.run(first_only()) in ("a1", "b1")
    reached = len(seen)
    assert reached < 2_000
    time.sleep(0.05)
    assert len(seen) == reached


def test_other_tasks_get_their_turn_while_loops_run() -> None:
    async def both() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.005)

        task = asyncio.create_task(count())
        await gathered([partial(steps, name, 40, [], 0.005) for name in "ab"])
        task.cancel()
        return turns

    assert asyncio.run(both()) > 10
