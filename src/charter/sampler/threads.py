"""Decoding on several cores: independent parts of a batch, each in a thread with its own share of the cores.

A product of 16 or 32 rows is too small to be worth cutting: measured on two virtual cores, one decoding loop with two
OpenMP threads was no faster than with one, two loops with one each 1.4 times (docs/performance.md). The products run
without the interpreter's lock. Which part runs where changes no draw.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
MOST_THREADS = 4
"""Decoding loops at once; beyond it they wait for the interpreter more than they gain."""
LEAST_ROWS = 8
"""Rows that a loop should have: below, reading the weights takes the time, and another loop reads them again."""


def loops_for(rows: int, device: torch.device) -> int:
    """How many decoding loops to run for `rows` rows: one, except on a CPU with cores to spare."""
    if device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), MOST_THREADS, rows // LEAST_ROWS))


async def interleave(parts: Sequence[Callable[[], Iterator[Sequence[Item]]]]) -> AsyncIterator[Item]:
    """What all parts yield, as it comes. A single part runs here, others in a thread each.

    Other tasks get a turn between any two steps of a part. When the caller stops, or a part raises, every part ends at
    its next step; the first exception is raised here.
    """
    if len(parts) == 1:
        for items in parts[0]():
            for item in items:
                yield item
            await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Sequence[Item] | BaseException | None] = asyncio.Queue()
    stop = threading.Event()
    everyone = torch.get_num_threads()

    def run(part: Callable[[], Iterator[Sequence[Item]]]) -> None:
        torch.set_num_threads(max(1, everyone // len(parts)))  # of this thread
        last: BaseException | None = None
        try:
            for items in part():
                if stop.is_set():
                    break
                if items:
                    loop.call_soon_threadsafe(arrived.put_nowait, items)
        except BaseException as error:  # noqa: BLE001  (it is raised again where the caller waits)
            last = error
        loop.call_soon_threadsafe(arrived.put_nowait, last)

    with ThreadPoolExecutor(len(parts), thread_name_prefix="charter-decode") as pool:
        try:
            for part in parts:
                pool.submit(run, part)
            going = len(parts)
            while going:
                items = await arrived.get()
                if isinstance(items, BaseException):
                    raise items
                if items is None:
                    going -= 1
                    continue
                for item in items:
                    yield item
        finally:
            stop.set()
            pool.shutdown()
            torch.set_num_threads(everyone)  # of threads yet to come; this one's never changed
