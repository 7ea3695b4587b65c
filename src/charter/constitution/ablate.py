"""What each principle brings to the judge's labels, out of the judgements that are there: nobody is asked.

    agreement    share of pairs on which the principle and the mean of the others prefer the same reply
    flips        pairs whose label changes sides when the principle is left out
    shift        mean |p with it − p without it|

It needs pairs that were judged under several principles each (`judge.ensemble = "all"`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from charter.errors import UsageError


def ablation(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the judgements among records, principle by principle.

    rows: records of one or several runs. A pair is what one judge said in one mode about two replies; where a
    judgement stands there twice the later one counts. A pair under which a judgement is missing is left out.

    Returns: {"pairs", "left_out", "principles": [{"id", "pairs", "agreement", "flips", "flip_share", "shift"}]}, in
        order of the share of flips; agreement is None where the principle or the rest is always undecided.
    Raises: UsageError where no pair was judged under two principles.
    """
    orders: dict[tuple[str, ...], dict[str, dict[str, float | None]]] = {}
    for row in rows:
        if row["kind"] == "judgement":
            pair = (row["a"], row["b"], row["mode"], row["model"])
            orders.setdefault(pair, {}).setdefault(row["principle"], {})[row["order"]] = row["p_a"]
    several = {pair: under for pair, under in orders.items() if len(under) > 1}
    if not several:
        found = f"{len(orders)} pairs, each under one principle" if orders else "no judgement"
        raise UsageError(
            f'the records hold {found}, so none can be left out. Judge with judge.ensemble = "all" '
            "(charter calibrate or charter label), then ask again"
        )
    tallies: dict[str, _Tally] = {}
    left_out = 0
    for under in several.values():
        means = {principle: _mean(told.values()) for principle, told in under.items()}
        known = {principle: value for principle, value in means.items() if value is not None}
        if len(known) < len(means):
            left_out += 1
            continue
        whole = _side(sum(known.values()) / len(known))
        for principle, p in known.items():
            without = sum(value for other, value in known.items() if other != principle) / (len(known) - 1)
            tallies.setdefault(principle, _Tally()).add(p, without, sum(known.values()) / len(known), whole)
    principles = [{"id": id, **tally.row()} for id, tally in tallies.items()]
    principles.sort(key=lambda row: (-row["flip_share"], row["id"]))
    return {"pairs": len(several) - left_out, "left_out": left_out, "principles": principles}


class _Tally:
    """What one principle did over the pairs."""

    def __init__(self) -> None:
        self.pairs = self.flips = self.agreed = self.decided = 0
        self.shift = 0.0

    def add(self, p: float, without: float, whole_p: float, whole: int) -> None:
        """One pair: p under the principle, the mean of the others, the mean of all and its side."""
        self.pairs += 1
        self.shift += abs(whole_p - without)
        self.flips += _side(without) != whole
        if _side(p) and _side(without):
            self.decided += 1
            self.agreed += _side(p) == _side(without)

    def row(self) -> dict[str, Any]:
        """The tally as shares."""
        return {
            "pairs": self.pairs,
            "agreement": self.agreed / self.decided if self.decided else None,
            "flips": self.flips,
            "flip_share": self.flips / self.pairs,
            "shift": self.shift / self.pairs,
        }


def _side(p: float) -> int:
    """1 for a, −1 for b, 0 where what is left is rounding."""
    return 0 if abs(p - 0.5) < 1e-9 else 1 if p > 0.5 else -1


def _mean(values: Iterable[float | None]) -> float | None:
    told = list(values)
    known = [value for value in told if value is not None]
    return sum(known) / len(known) if len(known) == len(told) else None
