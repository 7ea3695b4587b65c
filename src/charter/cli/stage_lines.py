"""The stages of a constitutional run as they happen: one line each, drawn over while it is under way on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from charter.cli.display import clean, duration, wants_plain

if TYPE_CHECKING:
    from charter.protocols import ChatModel
    from charter.types import Usage

EVERY_S, EVERY_PLAIN_S = 0.2, 10.0
"""Shortest time between two drawings of a line, and between two plain lines of one stage."""


class StageLines:
    """A Watcher (`charter.constitution.watching`) that prints.

    models: whose usage is shown. stream: standard error when left out. plain: print lines only, as the user wishes.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        stream: TextIO | None = None,
        *,
        plain: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = list(models)
        self._stream: TextIO = stream or sys.stderr
        self._plain = wants_plain(self._stream, plain=plain)
        self._clock = clock
        self._stage, self._asked = "", 0
        self._began = self._drawn = clock()
        self._before = self._usage()

    def follow(self, model: ChatModel) -> None:
        """Show this model's usage too, from the next stage on: for models that are opened one after the other."""
        self._models.append(model)

    def begin(self, stage: str, asked: int) -> None:
        """A stage asks for so many replies."""
        self._stage, self._asked = stage, asked
        self._began = self._drawn = self._clock()
        self._before = self._usage()

    def answered(self, done: int, asked: int) -> None:
        """So many of them are there."""
        now = self._clock()
        if now - self._drawn < (EVERY_PLAIN_S if self._plain else EVERY_S):
            return
        self._drawn = now
        text = f"{self._stage:<12} {done:>6}/{asked:<6} {self._pace()}"
        self._write(text + "\n" if self._plain else f"\r\x1b[K{text}")

    def end(self, counts: Mapping[str, int]) -> None:
        """The stage is done; what came of it."""
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        line = f"{self._stage:<12} {self._asked:>6} {self._pace()}  {told}".rstrip()
        self._write(("" if self._plain else "\r\x1b[K") + clean(line) + "\n")

    def _pace(self) -> str:
        now, before = self._usage(), self._before
        new = now.requests - before.requests
        seconds = self._clock() - self._began
        if not new:
            return "recorded before" if self._asked else "nothing to ask"
        tokens = f"{now.prompt_tokens - before.prompt_tokens:,} + {now.completion_tokens - before.completion_tokens:,}"
        cost = now.cost - before.cost
        price = f"  cost {cost:.4f}" if cost else ""
        rate = new / seconds if seconds > 0 else 0.0
        return f"{new} replies in {duration(seconds)} ({rate:.1f}/s), {tokens} tokens{price}"

    def _usage(self) -> Usage:
        return total_usage(self._models)

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def total_usage(models: Sequence[ChatModel]) -> Usage:
    """What several models were asked together; one that is given twice counts once."""
    from charter.types import Usage

    found = [model.usage for model in {id(model): model for model in models}.values()]
    return Usage(
        requests=sum(one.requests for one in found),
        retries=sum(one.retries for one in found),
        failures=sum(one.failures for one in found),
        prompt_tokens=sum(one.prompt_tokens for one in found),
        completion_tokens=sum(one.completion_tokens for one in found),
        cost=sum(one.cost for one in found),
        seconds=sum(one.seconds for one in found),
    )
