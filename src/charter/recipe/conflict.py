"""Something in a recipe that cannot be meant."""

# pyright: strict

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """key: the dotted key to change. others: keys that take part in it. found, fix: as in `charter.errors.Problem`."""

    key: str
    found: str
    fix: str
    others: tuple[str, ...] = ()
