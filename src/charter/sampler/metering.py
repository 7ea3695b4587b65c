"""What a chat model was asked and what it cost: counted in one place, read as a `Usage`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from charter.types import Usage


class Meter:
    """Counts of one chat model since it was made; several threads may count at once.

    input_price, output_price: of a million tokens, in any currency.
    """

    def __init__(self, *, input_price: float = 0.0, output_price: float = 0.0) -> None:
        self._prices = input_price, output_price
        self._requests = self._retries = self._failures = 0
        self._prompt_tokens = self._completion_tokens = 0
        self._seconds = 0.0
        self._working = 0
        self._since = 0.0
        self._counting = threading.Lock()

    def answered(self, prompt_tokens: int, completion_tokens: int) -> None:
        """One request was answered, with this many tokens."""
        with self._counting:
            self._requests += 1
        self.paid(prompt_tokens, completion_tokens)

    def paid(self, prompt_tokens: int, completion_tokens: int) -> None:
        """These tokens are to be paid, whatever came of them."""
        with self._counting:
            self._prompt_tokens += prompt_tokens
            self._completion_tokens += completion_tokens

    def retried(self) -> None:
        """One try failed and is repeated."""
        with self._counting:
            self._retries += 1

    def failed(self) -> None:
        """One request was given up."""
        with self._counting:
            self._failures += 1

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What these tokens cost: (n_in · input_price + n_out · output_price) / 10⁶."""
        return (prompt_tokens * self._prices[0] + completion_tokens * self._prices[1]) / 1e6

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time passes for as long as at least one of these is open."""
        with self._counting:
            if not self._working:
                self._since = time.monotonic()
            self._working += 1
        try:
            yield
        finally:
            with self._counting:
                self._working -= 1
                if not self._working:
                    self._seconds += time.monotonic() - self._since

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        return Usage(
            requests=self._requests,
            retries=self._retries,
            failures=self._failures,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cost=self.price(self._prompt_tokens, self._completion_tokens),
            seconds=self._seconds + (time.monotonic() - self._since if self._working else 0.0),
        )
