"""How many worker processes all rewards of a trainer may have together.

A pool that wants one more process takes a slot first. When none is left it uses what it has: it waits for one of its
own workers. A pool without any takes the place of another pool's idle worker, and so does one that has waited while
another's has long been idle; nothing waits for a slot while holding one, so nobody can wait for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Protocol

WORKER_BYTES = 512 * 1024**2
"""What a worker is reckoned to need: an interpreter with the parsers it imports, and room to work."""
IDLE_S = 5.0
"""A worker idle for longer may be closed for another reward even if that one has workers already."""


class Lender(Protocol):
    """A pool as seen from the others."""

    def idle_for(self) -> float | None:
        """Seconds its longest idle worker has had nothing to do; None when none is idle."""
        ...

    def close_idle(self) -> bool:
        """Close the longest idle worker; its slot stays taken and is the caller's. Whether there was one."""
        ...


class Slots:
    """The processes that all pools may have together. limit: most at a time."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit of {limit} worker processes lets no reward run; give at least 1")
        self.limit = limit
        self._changed = threading.Condition()
        self._changes = 0
        self._taken = 0
        self._pools: weakref.WeakSet[Lender] = weakref.WeakSet()

    def join(self, pool: Lender) -> None:
        """Make a pool known, so that its idle workers can make room."""
        with self._changed:
            self._pools.add(pool)

    @property
    def taken(self) -> int:
        """Processes there are now."""
        return self._taken

    def take(self, pool: Lender, *, has_workers: bool) -> bool:
        """Take a slot, from another pool's idle worker if need be. Whether there was one."""
        with self._changed:
            if self._taken < self.limit:
                self._taken += 1
                return True
            others = [other for other in self._pools if other is not pool]
        waits = [(idle, other) for other in others if (idle := other.idle_for()) is not None]
        least = IDLE_S if has_workers else 0.0
        longest_first = sorted(waits, key=lambda pair: -pair[0])
        return any(idle >= least and other.close_idle() for idle, other in longest_first)

    def give(self, count: int = 1) -> None:
        """Give slots back."""
        with self._changed:
            self._taken -= count
            self._note()

    def changed(self) -> None:
        """Say that a worker has become idle."""
        with self._changed:
            self._note()

    def _note(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    @property
    def state(self) -> int:
        """A number that differs after every change; for `wait`."""
        return self._changes

    def wait(self, state: int, limit_s: float) -> None:
        """Wait until something has changed since `state` was read, at most `limit_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != state, limit_s)


def machine_bytes(container_limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Memory of the machine, or of the container where that is less, in bytes."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        whole = 8 * 1024**3
    try:
        return min(whole, int(container_limit.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return whole


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_limit(cores: int | None = None, memory_bytes: int | None = None) -> int:
    """Two processes per core, at least four, and at most what half the memory holds; never fewer than one."""
    by_cores = max(4, 2 * (cores or _cores()))
    by_memory = (memory_bytes or machine_bytes()) // 2 // WORKER_BYTES
    return max(1, min(by_cores, by_memory))


SHARED = Slots(default_limit())
"""The slots of this process, used by every pool that is not given its own."""
