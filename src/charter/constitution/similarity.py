"""How alike two texts are: as prompts, as replies, as one quoting the other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case, punctuation or the width and accents' form of its characters."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return tuple(re.findall(r"\w+(?:'\w+)*", folded))


def normalised(text: str) -> str:
    """What is left of a text when only its words count: two texts that differ in nothing else are the same."""
    return " ".join(words(text)) or " ".join(text.split())


def jaccard(a: Collection[str], b: Collection[str]) -> float:
    """|a ∩ b| / |a ∪ b| of two sets of words; 1 where both are empty."""
    left, right = set(a), set(b)
    together = len(left | right)
    return len(left & right) / together if together else 1.0


def edit_size(before: str, after: str) -> float:
    """1 − difflib's ratio over words: 0 where no word changed, 1 where none was kept."""
    return 1.0 - SequenceMatcher(None, before.split(), after.split(), autojunk=False).ratio()


def quotes(text: str, source: str, length: int, *, apart_from: Sequence[str] = ()) -> bool:
    """Whether `length` words in a row of `source` stand in `text`, and in none of the texts `apart_from`."""
    told = words(source)
    runs = {told[i : i + length] for i in range(len(told) - length + 1)}
    if not runs:
        return False
    for known in apart_from:
        runs -= _runs(words(known), length)
    return not runs.isdisjoint(_runs(words(text), length))


def _runs(told: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(told[i : i + length]) for i in range(len(told) - length + 1)}
