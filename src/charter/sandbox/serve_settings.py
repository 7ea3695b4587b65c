"""What a sandbox server is told: who may ask, how much at a time, how large."""

from __future__ import annotations

from dataclasses import dataclass, field

from charter.errors import UsageError
from charter.sandbox.job import Limits


def _most() -> Limits:
    mib = 1024**2
    return Limits(
        wall_s=60.0,
        cpu_s=60.0,
        memory_bytes=4096 * mib,
        output_bytes=16 * mib,
        result_bytes=16 * mib,
        scratch_bytes=1024 * mib,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """token: what clients must send; None admits everyone who reaches the address. slots: programs at a time.
    queue: requests that may wait beside them; more are answered 429. most: largest limits granted; a request above
    them is refused, never run with smaller ones, which would fail right programs. most_body_bytes, most_tests: of one
    request. body_limit_s: time a client has to send its body, in seconds. self_test_s: for health.
    """

    token: str | None = None
    slots: int = 1
    queue: int = 1
    most: Limits = field(default_factory=_most)
    most_body_bytes: int = 32 * 1024**2
    most_tests: int = 10_000
    body_limit_s: float = 30.0
    self_test_s: float | None = None

    def __post_init__(self) -> None:
        if self.token is not None and (not self.token.isascii() or not self.token.isprintable() or " " in self.token):
            raise UsageError("the token holds characters other than printable ASCII without spaces; choose another")
        if self.token == "":
            raise UsageError("the token is empty; give one, or none at all")
        if self.slots < 1 or self.queue < 0:
            raise UsageError(f"slots is {self.slots} and queue {self.queue}; give at least 1 and 0")
