"""An endless order of items in which any step can be found again from its number alone.

Order of epoch e: items sorted by blake2b(seed, e, id). No generator state exists, so nothing has to be saved to
resume, and neither the order of the file nor what else draws random numbers matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from charter.errors import DataError
from charter.types import Prompt


class Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


class EpochOrder(Generic[T]):
    """Items in epochs, each epoch shuffled anew.

    Args:
        items: with distinct ids. seed: fixes every epoch. source: name of the data set, for messages.
    """

    def __init__(self, items: Sequence[T], seed: int, source: str = "the data set") -> None:
        self.items = tuple(items)
        self.seed = seed
        self.source = source
        self._prompts_per_step = 0
        # what was computed last, to save computing it again; never an input to what comes next
        self._drawn: tuple[int, tuple[T, ...]] | None = None
        self._pool: tuple[int, list[T]] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def steps(self, prompts_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[T, ...]]]:
        """Yield (step, items) for step = start, start + 1, …, without end.

        Every epoch visits each item once; an epoch's end and the next one's beginning may share a step, and then no
        item comes twice in it. A pure function of the items, the seed, `prompts_per_step` and the step.

        Args:
            prompts_per_step: items of a step. start: first step to yield, from 1.

        Raises:
            DataError: a step would need more items than there are.
        """
        if start < 1:
            raise ValueError(f"steps are counted from 1, not {start}")
        if not 1 <= prompts_per_step <= len(self.items):
            raise DataError(
                f"{self.source}: {prompts_per_step} per step were asked for and there are {len(self.items)}. "
                "Use a smaller number per step or more data"
            )
        if prompts_per_step != self._prompts_per_step:
            self._prompts_per_step, self._drawn, self._pool = prompts_per_step, None, None
        return self._remembered(self._steps(prompts_per_step, start))

    def refill(self, step: int, round: int, count: int) -> tuple[T, ...]:
        """Items beyond a step's own, for dynamic sampling: in none of the step's items, nor in its other rounds.

        A pure function of the items, the seed, the `prompts_per_step` that `steps` was called with and the arguments.
        An item drawn twice in a step would draw the same completions twice, so a data set that is used up gives
        fewer than asked, at last none.

        Args:
            step, round: which refill, both from 1. count: how many; at most `prompts_per_step`.
        """
        size = self._prompts_per_step
        if not size:
            raise ValueError("refill belongs to a step: call steps first")
        if not 0 <= count <= size or round < 1:
            raise ValueError(f"round {round} of refilling cannot have {count} items: 0 to {size} in rounds from 1")
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = next(self._steps(size, step))
        own = {item.id for item in self._drawn[1]}
        if self._pool is None or self._pool[0] != step:
            self._pool = step, [item for item in self._shuffled(f"refill:{step}") if item.id not in own]
        # each round owns a slot as wide as a whole step, whatever it takes of it, so rounds never meet
        begin = (round - 1) * size
        return tuple(self._pool[1][begin : begin + count])

    def _remembered(self, steps: Iterator[tuple[int, tuple[T, ...]]]) -> Iterator[tuple[int, tuple[T, ...]]]:
        for drawn in steps:
            self._drawn = drawn
            yield drawn

    def _steps(self, size: int, start: int) -> Iterator[tuple[int, tuple[T, ...]]]:
        step = 1
        pending: list[T] = []
        epoch = 0
        while True:
            order = self._shuffled(f"epoch:{epoch}")
            if pending:
                order = _without_repeats(order, {item.id for item in pending}, size - len(pending))
            # steps before `start` are walked over as well: which items open an epoch depends on how the last one ended
            pending += order
            epoch += 1
            position = 0
            while len(pending) - position >= size:
                if step >= start:
                    yield step, tuple(pending[position : position + size])
                step += 1
                position += size
            pending = pending[position:]

    def _shuffled(self, purpose: str) -> list[T]:
        def key(item: T) -> bytes:
            return hashlib.blake2b(f"{self.seed}:{purpose}:{item.id}".encode(), digest_size=16).digest()

        return sorted(self.items, key=key)


PromptSource = EpochOrder[Prompt]
"""The order in which prompts are trained on; satisfies `charter.protocols.PromptSource`."""


def _without_repeats(order: list[T], taken: set[str], count: int) -> list[T]:
    """The order with its first `count` items chosen among those not taken, everything else as it was."""
    head = [item for item in order if item.id not in taken][:count]
    chosen = {item.id for item in head}
    return head + [item for item in order if item.id not in chosen]
