"""Two micro-batches at once on a CPU, each in a thread with half of the cores; the gradient of one after another.

    thread 0:   forward 0   backward 0   forward 2   backward 2
    thread 1:   forward 1     backward 1   forward 3   backward 3

A product that two threads share is over when the slower one is, and a step is thousands of products: measured on two
virtual cores, two forwards and backwards abreast took three quarters of the time of one after another
(docs/performance.md). Both add to the same gradients, each weight's in the order of the micro-batches: a backward that
comes to a weight before its turn waits. So the sums, and all that follows from them, do not depend on timing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class _StoppedError(Exception):
    """Another micro-batch failed, or the caller stopped."""


def abreast(sizes: Sequence[int], most: int, device: torch.device) -> int:
    """How many micro-batches of these tokens to run at once: two where cores and memory allow.

    most: tokens whose activations may be there together.
    """
    fit = len(sizes) > 1 and 2 * max(sizes) <= most
    return 2 if fit and device.type == "cpu" and torch.get_num_threads() > 1 else 1


def run_in_turn(count: int, work: Callable[[int], Result], weights: Iterable[Tensor], *, at_once: int) -> list[Result]:
    """[work(0), work(1), …]; each may add to the weights' gradients, and adds in this order.

    Raises: the first exception of any of them, when none runs any more.
    """
    if at_once == 1:
        return [work(i) for i in range(count)]
    turns = _Turns(count)
    everyone = torch.get_num_threads()
    results: dict[int, Result] = {}

    def worker() -> None:
        torch.set_num_threads(max(1, everyone // at_once))  # of this thread
        try:
            for i in iter(turns.begin, None):
                results[i] = work(i)
                turns.end(i)
        except BaseException:
            turns.stop()
            raise

    with turns.kept_by(weights), ThreadPoolExecutor(at_once, thread_name_prefix="charter-learn") as pool:
        try:
            running = [pool.submit(worker) for _ in range(at_once)]
            failures = [failure for future in running if (failure := future.exception()) is not None]
        finally:
            turns.stop()  # nobody waits any more
            torch.set_num_threads(everyone)  # of threads yet to come; this one's never changed
    for failure in sorted(failures, key=lambda failure: isinstance(failure, _StoppedError)):
        raise failure
    return [results[i] for i in range(count)]


class _Turns:
    """Whose turn it is at each weight: the first micro-batch's that has neither added to it nor ended."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._begun = 0
        self._ended = [False] * count
        self._added: dict[int, int] = {}  # weight → the last micro-batch that added to it
        self._stopped = False
        self._changed = threading.Condition()
        self._mine = threading.local()

    def begin(self) -> int | None:
        """The next micro-batch, for the thread that asks; None when all have begun."""
        with self._changed:
            if self._stopped or self._begun == self._count:
                return None
            self._mine.number = self._begun
            self._begun += 1
            return self._mine.number

    def end(self, number: int) -> None:
        """This one adds to nothing any more."""
        with self._changed:
            self._ended[number] = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let those who wait fail."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @contextmanager
    def kept_by(self, weights: Iterable[Tensor]) -> Iterator[None]:
        """Backwards add to these weights in turn."""
        hooks = [
            hook
            for place, weight in enumerate(weights)
            if weight.requires_grad
            for hook in (
                weight.register_hook(partial(self._wait, place)),
                weight.register_post_accumulate_grad_hook(partial(self._pass_on, place)),
            )
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _wait(self, place: int, _: Tensor) -> None:
        with self._changed:
            while not self._stopped and not all(self._ended[self._added.get(place, -1) + 1 : self._mine.number]):
                self._changed.wait()
            if self._stopped:
                raise _StoppedError

    def _pass_on(self, place: int, _: Tensor) -> None:
        with self._changed:
            self._added[place] = self._mine.number
            self._changed.notify_all()
