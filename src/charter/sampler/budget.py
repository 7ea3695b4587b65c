"""A budget that holds to the request: what a request may cost at most is set aside before it is sent.

Beside the reservations only what was really used counts, so requests wait for others to be settled before the budget
is said to be spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from charter.errors import BudgetError
from charter.sampler.metering import Meter
from charter.types import Message

_PER_MESSAGE = 16
_PER_REQUEST = 64


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """Tokens that a prompt has at most: one per byte of UTF-8, and what a template writes around them.

    A byte-level tokenizer never has more tokens than bytes; 16 per message and 64 per request are for the template.
    """
    written = sum(len(m["content"].encode("utf-8", "replace")) + _PER_MESSAGE for m in messages)
    return written + _PER_REQUEST


class Budget:
    """Tokens and money that may still be spent.

    most_cost: in the currency of the meter's prices. most_tokens: prompt and completion together. None: no limit.
    """

    def __init__(self, meter: Meter, *, most_cost: float | None, most_tokens: int | None) -> None:
        self._meter = meter
        self._most_cost, self._most_tokens = most_cost, most_tokens
        self._cost = self._tokens = 0.0  # spent
        self._held_cost = self._held_tokens = 0.0
        self._held = 0
        self._settled: asyncio.Event | None = None

    async def reserve(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Set aside what a request may cost; wait while others that are under way leave no room for it.

        Raises: BudgetError when nothing is under way and it still does not fit.
        """
        cost, tokens = self._meter.price(prompt_tokens, completion_tokens), prompt_tokens + completion_tokens
        while not self._fits(cost, tokens):
            if not self._held:
                raise BudgetError(self._spent(cost, tokens))
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()
        self._held += 1
        self._held_cost += cost
        self._held_tokens += tokens

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Give back a reservation of (prompt, completion) tokens and book what was used."""
        self._held -= 1
        self._held_cost -= self._meter.price(*reserved)
        self._held_tokens -= sum(reserved)
        self._cost += self._meter.price(*used)
        self._tokens += sum(used)
        if not self._held:
            self._held_cost = self._held_tokens = 0.0  # no rounding stays behind
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def _fits(self, cost: float, tokens: int) -> bool:
        if self._most_tokens is not None and self._tokens + self._held_tokens + tokens > self._most_tokens:
            return False
        return self._most_cost is None or self._cost + self._held_cost + cost <= self._most_cost

    def _spent(self, cost: float, tokens: int) -> str:
        if self._most_tokens is not None and self._tokens + tokens > self._most_tokens:
            told = f"budget_tokens = {self._most_tokens}: {self._tokens:.0f} tokens are used and the next request may "
            told += f"take {tokens}"
        else:
            told = f"budget = {self._most_cost:g}: {self._cost:.6g} is spent and the next request may cost {cost:.6g}"
        return f"{told}. Everything answered so far is kept; raise the budget to go on where it stopped"
