"""How much completions resemble each other: distinct n-grams, and boilerplate that turns up under many prompts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text, case folded; signs are left out."""
    return _WORD.findall(text.casefold())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Every n words in a row. n: at least 1."""
    found = words(text)
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def distinct_n(texts: Iterable[str], n: int) -> float | None:
    """Different n-grams / n-grams, over all texts together; None where there is none.

    Near 1 where everything is said once. It falls with the amount of text, so compare steps of like size.
    Source: Li et al. 2016, arXiv 1510.03055.
    """
    every = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(every)) / len(every) if every else None


def boilerplate(groups: Sequence[Sequence[str]], n: int, *, top: int = 5) -> float | None:
    """Share of the completions that contain one of the commonest n-grams; None without a completion.

    An n-gram is common by the number of *prompts* under which it turns up, at least two: completions of one prompt
    speak of the same thing and may say it alike. Ties are broken by the number of completions, then by the words.

    groups: per prompt, its completions. n: words of an n-gram. top: how many n-grams count as the commonest.
    """
    by_prompt = [[frozenset(ngrams(text, n)) for text in texts] for texts in groups]
    completions = [grams for texts in by_prompt for grams in texts]
    if not completions:
        return None
    prompts = Counter(gram for texts in by_prompt for gram in frozenset[tuple[str, ...]]().union(*texts))
    uses = Counter(gram for grams in completions for gram in grams)
    shared = [gram for gram, count in prompts.items() if count >= 2]
    common = set(sorted(shared, key=lambda gram: (-prompts[gram], -uses[gram], gram))[:top])
    return sum(not common.isdisjoint(grams) for grams in completions) / len(completions)
