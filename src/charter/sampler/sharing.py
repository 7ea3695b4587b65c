"""Which sequences begin alike, so that what they share is computed once.

Requests of one stage mostly begin with the same system message and the same worked examples; those of another begin
with others. `families` parts them so, two levels deep: a trunk, and what each sequence adds to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Sequences with a common beginning. shared: its length in tokens. rows: their numbers."""

    shared: int
    rows: tuple[int, ...]


def common_length(a: Tokens, b: Tokens) -> int:
    """Length of the longest common beginning of two sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def families(sequences: Sequence[Tokens], *, least: int = 2) -> list[Family]:
    """Part sequences into families, each number in exactly one.

    A set of n sequences that shares c tokens leaves one that shares b < c where that saves more than it costs: the
    (n − 1)(c − b) tokens that are no longer computed for each, against the b of a trunk of its own.

    least: sequences that a family must have to leave a larger one (small ones decode badly).
    """
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    found: list[Family] = []
    waiting = [order] if order else []
    while waiting:
        rows = waiting.pop()
        trunk = _shared(sequences, rows)
        stay: list[int] = []
        looked_at = [rows]
        while looked_at:
            for child in _children(sequences, looked_at.pop()):
                saved = (len(child) - 1) * (_shared(sequences, child) - trunk)
                if len(child) < least or len(child) == len(rows):
                    stay += child
                elif saved > trunk:
                    waiting.append(child)
                else:
                    looked_at.append(child)
        if stay:
            stay.sort(key=lambda i: tuple(sequences[i]))
            found.append(Family(shared=_shared(sequences, stay), rows=tuple(stay)))
    return found


def _shared(sequences: Sequence[Tokens], rows: Sequence[int]) -> int:
    """What sorted sequences have in common: what the first and the last have."""
    return common_length(sequences[rows[0]], sequences[rows[-1]])


def _children(sequences: Sequence[Tokens], rows: Sequence[int]) -> Iterator[list[int]]:
    """Sorted sequences, parted by their first token that is not common to all; one by one where they are equal."""
    at = _shared(sequences, rows)
    if all(len(sequences[i]) == at for i in rows):
        yield from ([i] for i in rows)
        return
    for _, child in groupby(rows, key=lambda i: sequences[i][at] if len(sequences[i]) > at else None):
        yield list(child)
