"""The processes of a comparison: one for each run, and how they are asked to stop. Imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from charter.cli.compare_child import STOPPED
from charter.cli.doctor import cores
from charter.cli.signals import handled_by
from charter.errors import RunError


class Processes:
    """Starts them, and stops all of them.

    at_once: how many run side by side; each then computes with its share of the cores, unless OMP_NUM_THREADS says
    with how many.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._asked = 0
        threads = max(1, cores() // at_once)
        self._environment = None if at_once == 1 else {"OMP_NUM_THREADS": str(threads), **os.environ}

    def run(self, what: str, name: str, folder: Path) -> None:
        """Train or measure a run in a process, and wait for it.

        Raises: RunError for one that failed, or when all were asked to stop.
        """
        words = [sys.executable, "-m", "charter.cli.compare_child", what, str(folder), name]
        with self._lock:
            if self._asked:
                raise self._stopped(name)
            child = subprocess.Popen(words, stdout=2, env=self._environment)
            self._live.add(child)
        if self._asked:  # while it was being started
            child.terminate()
        code = child.wait()
        with self._lock:
            self._live.remove(child)
        if self._asked or code == STOPPED:
            raise self._stopped(name)
        if code:
            raise RunError(
                f"{name} failed while it was to {what} (exit code {code}; what it said stands above). Repair the "
                "cause; the same command goes on from its last checkpoint"
            )

    @contextmanager
    def passing_on(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets the processes finish their step and save, the second ends them."""

        def handle(number: int, frame: FrameType | None) -> None:
            again = self._asked > 0
            self._asked += 1
            for child in tuple(self._live):
                if again:
                    child.kill()
                elif number == signal.SIGTERM:
                    child.terminate()  # a Ctrl-C reaches the whole group of processes by itself

        with handled_by(handle):
            yield

    def _stopped(self, name: str) -> RunError:
        return RunError(f"stopped in {name}, everything saved. The same command goes on from there")
