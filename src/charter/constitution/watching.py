"""How a stage tells whoever watches how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Watcher(Protocol):
    """Told of each round of requests: that it begins, how far it is, and what came of it."""

    def begin(self, stage: str, asked: int) -> None: ...
    def answered(self, done: int, asked: int) -> None: ...
    def end(self, counts: Mapping[str, int]) -> None: ...


class Silent:
    """Watches and says nothing."""

    def begin(self, stage: str, asked: int) -> None:
        """Nothing."""

    def answered(self, done: int, asked: int) -> None:
        """Nothing."""

    def end(self, counts: Mapping[str, int]) -> None:
        """Nothing."""


SILENT = Silent()
