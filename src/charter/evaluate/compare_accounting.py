"""How much arithmetic a pass over tokens is, by formula: what the mathematics needs once, whatever the machine did.

    forward  = 2 N tokens + 4 L A attended + 2 V D predicted
    backward = 2 forward

N parameters that every token goes through (all without the embedding table and without the output layer), L layers, A
their attention's width (heads · head size), attended the keys that the queries look at (summed over the tokens),
predicted the positions whose next token is scored, V D the output layer. A prompt's tokens count once per group.

Not here: which passes a method makes (compare_work.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from charter.types import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The numbers of a transformer that its arithmetic depends on.

    parameters: that every token goes through. head: of the output layer (V · D). layers, attention_width: as above.
    """

    parameters: int
    head: int
    layers: int
    attention_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A pass, or several of one kind, over tokens. rows: sequences in it."""

    tokens: int = 0
    attended: int = 0
    predicted: int = 0
    rows: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            tokens=self.tokens + other.tokens,
            attended=self.attended + other.attended,
            predicted=self.predicted + other.predicted,
            rows=self.rows + other.rows,
        )

    def times(self, count: int) -> Work:
        """The same work done `count` times."""
        return Work(
            tokens=self.tokens * count,
            attended=self.attended * count,
            predicted=self.predicted * count,
            rows=self.rows * count,
        )

    def record(self) -> dict[str, int]:
        """As JSON."""
        return {"tokens": self.tokens, "attended": self.attended, "predicted": self.predicted, "rows": self.rows}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Work:
        """Back from JSON."""
        return cls(**{name: int(record[name]) for name in ("tokens", "attended", "predicted", "rows")})


def work_of(trees: Iterable[Tree]) -> Work:
    """One forward over trees.

    A prefix of P tokens attends to P (P + 1) / 2 keys. A branch of n tokens forwards n − 1 of them (nothing follows the
    last), the i-th of which attends to P + i keys, and predicts n. Generating the branch token by token with a cache is
    the same work.
    """
    total = Work()
    for tree in trees:
        prefix = len(tree.prefix)
        tokens, attended, predicted = prefix, prefix * (prefix + 1) // 2, 0
        for branch in tree.branches:
            more = max(len(branch.tokens) - 1, 0)
            tokens += more
            attended += more * prefix + more * (more + 1) // 2
            predicted += sum(branch.mask)
        total += Work(tokens=tokens, attended=attended, predicted=predicted, rows=len(tree.branches))
    return total


def forward_flops(work: Work, architecture: Architecture, *, head: bool = True) -> int:
    """Floating-point operations of a forward. head: whether the output layer is needed where a token is predicted (a
    critic and a reward model have a scalar in its place, which is left out)."""
    body = 2 * architecture.parameters * work.tokens
    attention = 4 * architecture.layers * architecture.attention_width * work.attended
    return body + attention + (2 * architecture.head * work.predicted if head else 0)


def learning_flops(work: Work, architecture: Architecture, *, head: bool = True) -> int:
    """Floating-point operations of a forward and its backward (twice the forward)."""
    return 3 * forward_flops(work, architecture, head=head)
