"""Worker processes: reuse, replacement, and that none outlives its trainer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from charter.reward.frames import HEADER, body_length, decode, encode
from charter.reward.pool import WorkerDiedError, WorkerPool, WorkerStartError, WorkerTimeoutError

SLEEPER = """
import os, subprocess, time
def nap(completions):
    if completions[0] == "spawn":
        subprocess.Popen(["sleep", "61.5"])
    elif completions[0] != "0":
        open(completions[0] + ".started", "w").close() if completions[0].startswith("/") else None
        time.sleep(60 if completions[0].startswith("/") else float(completions[0]))
    return [float(os.getpid())]
"""


def work(text: str) -> dict[str, object]:
    return {
        "messages": [{"role": "text", "content": ""}],
        "texts": [text],
        "tokens": [[]],
        "columns": {},
        "options": {},
    }


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "nap.py").write_text(SLEEPER, "utf-8")
    return f"{tmp_path / 'nap.py'}:nap"


@pytest.fixture
def pool(source: str) -> Iterator[WorkerPool]:
    made = WorkerPool("function", {"source": source, "signature": None, "options": {}}, size=2, bounded=False)
    yield made
    made.close()


def pid_of(pool: WorkerPool, text: str = "0", limit_s: float = 10.0) -> int:
    return int(asyncio.run(pool.run(work(text), limit_s)).result[0]["value"])


def gone(pid: int, within_s: float = 1.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_nothing_starts_before_it_is_needed_and_one_worker_is_reused(pool: WorkerPool) -> None:
    assert pool.pids() == []
    assert pid_of(pool) == pid_of(pool) == pool.pids()[0]
    assert len(pool.pids()) == 1


def test_work_runs_side_by_side_up_to_the_size(pool: WorkerPool) -> None:
    async def all_at_once() -> set[float]:
        replies = await asyncio.gather(*(pool.run(work("0.3"), 10.0) for _ in range(6)))
        return {reply.result[0]["value"] for reply in replies}

    pids = asyncio.run(all_at_once())
    assert pids == set(map(float, pool.pids()))
    assert len(pids) == 2


def test_a_worker_over_its_limit_is_killed_and_replaced(pool: WorkerPool) -> None:
    first = pid_of(pool)
    with pytest.raises(WorkerTimeoutError, match=r"took longer than 0.2 s"):
        pid_of(pool, "60", 0.2)
    assert gone(first)
    assert pid_of(pool) != first


def test_a_worker_killed_in_the_middle_of_work(pool: WorkerPool, tmp_path: Path) -> None:
    pid = pid_of(pool)
    flag = tmp_path / "flag"

    def murder() -> None:
        while not (tmp_path / "flag.started").exists():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=murder)
    thread.start()
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL"):
        pid_of(pool, str(flag), 20.0)
    thread.join()
    assert pid_of(pool) != pid


def test_a_worker_killed_while_idle_costs_nothing(pool: WorkerPool) -> None:
    pid = pid_of(pool)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until all its threads have ended; not reaped
    assert pid_of(pool) != pid


def test_what_a_worker_started_dies_with_it(pool: WorkerPool) -> None:
    pid = pid_of(pool, "spawn")
    (child,) = psutil.Process(pid).children()
    pool.close()
    assert gone(pid)
    assert gone(child.pid)


def test_closing_ends_work_in_progress(pool: WorkerPool, tmp_path: Path) -> None:
    flag = tmp_path / "busy"

    async def close_while_busy() -> float:
        task = asyncio.ensure_future(pool.run(work(str(flag)), 60.0))
        while not (tmp_path / "busy.started").exists():
            await asyncio.sleep(0.02)
        started = time.monotonic()
        await asyncio.to_thread(pool.close)
        with pytest.raises(WorkerDiedError):
            await task
        return time.monotonic() - started

    assert asyncio.run(close_while_busy()) < 5
    assert pool.pids() == []
    with pytest.raises(WorkerStartError, match="closed"):
        pid_of(pool)


def test_a_pool_that_is_forgotten_leaves_nothing(source: str) -> None:
    pool = WorkerPool("function", {"source": source, "signature": None, "options": {}}, size=1, bounded=False)
    pid = pid_of(pool)
    del pool
    assert gone(pid)


@pytest.mark.parametrize("busy", ["idle", "in Python", "in C"])
def test_a_trainer_killed_leaves_no_worker_after_a_second(source: str, tmp_path: Path, busy: str) -> None:
    """kill -9 gives the trainer no chance to clean up; "in C" holds the GIL, so only the kernel can end the worker."""
    (tmp_path / "slow.py").write_text(
        textwrap.dedent("""
        import re, time
        def hold(completions):
            open(__file__ + ".started", "w").close()
            if completions[0] == "in Python": time.sleep(60)
            if completions[0] == "in C": re.match(r"(a+)+$", "a" * 60 + "!")
            return [0.0]
        """),
        "utf-8",
    )
    trainer = textwrap.dedent(f"""
        import asyncio, threading, time
        from charter.reward.pool import WorkerPool
        setup = {{"source": {str(tmp_path / "slow.py") + ":hold"!r}, "signature": None, "options": {{}}}}
        pool = WorkerPool("function", setup, bounded=False)
        pool.start()
        print(pool.pids()[0], flush=True)
        payload = {work(busy)!r}
        asyncio.run(pool.run(payload, 60.0))
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", trainer], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    while not (tmp_path / "slow.py.started").exists():
        time.sleep(0.01)
    if busy == "idle":
        time.sleep(0.2)
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(pid, 1.0)


def test_a_task_that_does_not_start_says_why() -> None:
    pool = WorkerPool("no_such_task", {})
    with pytest.raises(WorkerStartError, match="its worker did not start: KeyError: 'no_such_task'"):
        pool.start()
    assert pool.pids() == []
    pool.close()


def test_frames_carry_every_text() -> None:
    for message in ["\ud800 é 日本 \x00", {"a": [1.5, None, True]}, ""]:
        frame = encode(message)
        assert body_length(frame[: HEADER.size]) == len(frame) - 4
        assert decode(frame[4:]) == message
    with pytest.raises(ValueError, match="over the limit"):
        body_length(b"\xff\xff\xff\xff")
    with pytest.raises(TypeError, match="a set cannot be handed to a reward"):
        encode({1, 2})
