"""What a judge must beat: the shorter reply wins, the refusal wins; and scorers that are fitted out of fold.

Each gives, per pair, the probability that `a` is better: 1 or 0 where the rule decides, 1/2 where it has nothing to
say, so that its accuracy counts a coin's throw there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from charter.constitution.judging import Refuses
from charter.types import Message, Pair

Scorer = Callable[[Sequence[Message], str], float]
"""A reply to a conversation → a number in logits, of which only differences under one conversation mean anything."""


def shorter_wins(pairs: Sequence[Pair]) -> list[float]:
    """The reply of fewer characters is the better one."""
    return [_of(len(pair.b) - len(pair.a)) for pair in pairs]


def refusal_wins(pairs: Sequence[Pair], refuses: Refuses) -> list[float]:
    """Where exactly one of the two declines to answer, it is the better one."""
    known = {text: refuses(text) for pair in pairs for text in (pair.a, pair.b)}
    return [_of(known[pair.a] - known[pair.b]) for pair in pairs]


def out_of_fold(
    pairs: Sequence[Pair], clusters: Sequence[str], fit: Callable[[Sequence[Pair]], Scorer], folds: int = 5
) -> list[float]:
    """σ(s(a) − s(b)) of a scorer that was fitted to the pairs of other prompts.

    clusters: of each pair, its prompt; a prompt's fold is decided by its hash, so that no prompt is on both sides.
    """
    fold = [int(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % folds for key in clusters]
    found = [0.5] * len(pairs)
    for held in sorted(set(fold)):
        scorer = fit([pair for pair, its in zip(pairs, fold, strict=True) if its != held])
        for index, pair in enumerate(pairs):
            if fold[index] == held:
                margin = scorer(pair.prompt.messages, pair.a) - scorer(pair.prompt.messages, pair.b)
                found[index] = 1 / (1 + math.exp(-margin)) if margin > -700 else 0.0
    return found


def _of(difference: int) -> float:
    return 0.5 if difference == 0 else float(difference > 0)
