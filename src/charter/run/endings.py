"""Completions that should have ended earlier: a token the model ends with and nobody declared as an end.

Works from token ids alone, since a run folder has no tokenizer; names of special tokens sharpen it where known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.types import Scored

TAIL = 4
"""Equal tokens in a row, at the cut, that count as nothing but filling."""

FEWEST = 4
"""Cut-off completions below which no pattern is called one."""

SHARE = 0.5
"""Share of the cut-off completions that must show the pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A token that seems to end completions without being declared as an end.

    token: its id. how: "repeated" where the completion is filled up with it; "new turn" where the same words follow
    it every time, as the header of a next turn does. completions: that show it. truncated: all that were cut off.
    """

    token: int
    how: str
    completions: int
    truncated: int


def undeclared_ending(scored: Sequence[Scored], special: Mapping[int, str] | None = None) -> Ending | None:
    """The token that most cut-off completions had in fact ended with, or None.

    Among the completions with stop "length" (at least 4), a token counts where more than half of them either
    - end with it at least 4 times in a row ("repeated"), or
    - hold it at least twice, followed each time, in all of them, by the same two tokens, while what stands before it
      differs ("new turn"). Where special tokens are known, only they count here, and once is enough.
    A token that properly ended another completion of the step is declared and never counts.

    scored: what the step sampled. special: id → text of the model's special tokens, where known.
    """
    rollouts = [rollout for each in scored for rollout in each.group.rollouts]
    cut = [rollout.tokens for rollout in rollouts if rollout.stop == "length"]
    declared = {rollout.tokens[-1] for rollout in rollouts if rollout.stop == "eos" and rollout.tokens}
    if len(cut) < FEWEST:
        return None
    found = _repeated(cut, declared)
    how = "repeated"
    if found is None:
        found = _special_inside(cut, declared, special) if special else _new_turn(cut, declared)
        how = "new turn"
    return None if found is None else Ending(token=found[0], how=how, completions=found[1], truncated=len(cut))


def _most(counts: Counter[int], total: int) -> tuple[int, int] | None:
    """The most frequent token if more than SHARE of the completions show it; the lower id among equals."""
    if not counts:
        return None
    token, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return (token, count) if count > SHARE * total else None


def _repeated(cut: Sequence[tuple[int, ...]], declared: set[int]) -> tuple[int, int] | None:
    tails = Counter(
        tokens[-1]
        for tokens in cut
        if len(tokens) > TAIL and len(set(tokens[-TAIL:])) == 1 and tokens[-1] not in declared
    )
    return _most(tails, len(cut))


def _special_inside(
    cut: Sequence[tuple[int, ...]], declared: set[int], special: Mapping[int, str]
) -> tuple[int, int] | None:
    # The first one in each completion: a header's own special tokens come after the one that ended the answer.
    firsts = (next((t for t in tokens if t in special and t not in declared), None) for tokens in cut)
    return _most(Counter(token for token in firsts if token is not None), len(cut))


def _new_turn(cut: Sequence[tuple[int, ...]], declared: set[int]) -> tuple[int, int] | None:
    followers: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
    before: defaultdict[int, set[int]] = defaultdict(set)
    holding: Counter[int] = Counter()
    for tokens in cut:
        inside: Counter[int] = Counter()
        for place, token in enumerate(tokens[:-2]):
            followers[token].add(tokens[place + 1 : place + 3])
            inside[token] += 1
            if place:
                before[token].add(tokens[place - 1])
        holding.update(token for token, times in inside.items() if times >= 2)
    always = {token for token, seen in followers.items() if len(seen) == 1 and token not in declared}
    return _most(Counter({t: n for t, n in holding.items() if t in always and len(before[t]) > 1}), len(cut))
