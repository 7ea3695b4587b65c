"""Human ratings of harm → pairs of replies to one prompt, of which people saw less harm in one.

    replies = rated_replies(folder / "harm-ratings.jsonl")      # the asset harm-ratings
    pairs = rated_pairs(replies)                                # 1,253 pairs under 79 prompts
    learn_from = [pair for pair in pairs if part_of(pair.prompt) == "train"]

Where the rows come from: the tables that PyRIT 1.1.0 ships to test its scorers (`pyrit/datasets/scorer_evals/harm`,
MIT). Eight of them have one person's rating of each reply (604 rows: cyber exploits, hate speech, information
integrity, privacy, representational harm, self-harm, sexual content, violence) and two have three people's (386 rows:
hate speech, violence). A rating is 0, 0.25, 0.5, 0.75 or 1; a reply's severity is the mean of its ratings. Left out are
`mini_hate_speech.csv`, which repeats rows of the larger table, and `refusal_extra.csv`, which is no set of refusals.

*Which pairs.* Two replies of one table to the same prompt, not the same text, whose severities differ by at least
`min_gap`. Tables are not mixed, because other people rated them. The count of 1,253 comes of the severities as float64:
in 27 further pairs the difference is 1/2 in exact thirds and falls short of it by rounding (`min_gap = 0.4999` has
them). One prompt alone has 277 of the pairs, so every interval must draw prompts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from charter.data.reading import read_rows
from charter.errors import DataError
from charter.types import Message, Pair, Prompt

Part = Literal["train", "calibration", "evaluation"]

RATER_SPREAD = 0.1486
"""Standard deviation of one person's rating of a reply about the reply's mean, pooled over the 386 replies that three
people rated: √(Σ (rating − mean)² / Σ (raters − 1))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedReply:
    """A reply and what people thought of it.

    ratings: of harm, 0 to 1, one per person. source: table and row, "privacy:12".
    """

    prompt: str
    reply: str
    ratings: tuple[float, ...]
    source: str

    @property
    def severity(self) -> float:
        """Mean of the ratings."""
        return sum(self.ratings) / len(self.ratings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPair:
    """Two replies to one prompt. less, more: by harm. id: hash of the prompt and both texts."""

    id: str
    prompt: str
    less: RatedReply
    more: RatedReply

    @property
    def gap(self) -> float:
        """Difference of the two severities, more than 0."""
        return self.more.severity - self.less.severity

    @property
    def p(self) -> float:
        """Probability that one more person, who rates both replies, finds more harm in the one that was rated higher.

        Φ(gap / (s·√(2 + 1/n_less + 1/n_more))), s = RATER_SPREAD, n the number of ratings behind a severity: one
        person's two ratings and both means scatter about what all people would say. From 0.954 to 1 at gaps of 0.5
        and more; the hard label is 1.
        """
        scatter = RATER_SPREAD * math.sqrt(2 + 1 / len(self.less.ratings) + 1 / len(self.more.ratings))
        return 0.5 * (1 + math.erf(self.gap / (scatter * math.sqrt(2))))


def rated_replies(path: Path | str) -> tuple[RatedReply, ...]:
    """The replies of a file of rows {"prompt", "reply", "ratings", "file", "row"}, as the asset has it.

    Raises: DataError naming the row that is none.
    """
    found: list[RatedReply] = []
    for where, row in read_rows(str(path), {}, None):
        ratings = row.get("ratings")
        if not isinstance(ratings, list) or not ratings or not all(_is_rating(value) for value in ratings):
            raise DataError(f"{where}: ratings is {ratings!r}, expected a list of numbers from 0 to 1, one per person")
        for name in ("prompt", "reply", "file"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise DataError(f"{where}: {name} is {row.get(name)!r}, expected text")
        source = f"{row['file']}:{row.get('row')}"
        values = tuple(float(value) for value in ratings)
        found.append(RatedReply(prompt=row["prompt"], reply=row["reply"], ratings=values, source=source))
    return tuple(found)


def rated_pairs(replies: Iterable[RatedReply], min_gap: float = 0.5) -> tuple[RatedPair, ...]:
    """All pairs of one table and prompt whose severities differ by `min_gap` and at all, in the order of the rows.

    A pair that stands there twice (the same two texts under the same prompt) is given once for each.
    """
    groups: dict[tuple[str, str], list[RatedReply]] = {}
    for reply in replies:
        groups.setdefault((reply.source.partition(":")[0], reply.prompt), []).append(reply)
    found: list[RatedPair] = []
    for (_, prompt), group in groups.items():
        for one, other in combinations(group, 2):
            less, more = sorted((one, other), key=lambda reply: reply.severity)
            gap = more.severity - less.severity
            if gap > 0 and gap >= min_gap and one.reply != other.reply:
                id = _digest([prompt, less.reply, more.reply, less.source, more.source])
                found.append(RatedPair(id=id, prompt=prompt, less=less, more=more))
    return tuple(found)


def part_of(prompt: str) -> Part:
    """Which of three parts a prompt belongs to: train (3/5), calibration (1/5), evaluation (1/5), by its hash.

    A prompt's part does not depend on which other prompts there are. Of the 1,253 pairs 810, 153 and 290 fall to them.
    """
    share = int(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 2**32
    return "train" if share < 0.6 else "calibration" if share < 0.8 else "evaluation"


def as_pairs(pairs: Sequence[RatedPair], labels: Literal["soft", "hard"] = "soft") -> tuple[Pair, ...]:
    """The pairs as the judge and the trainers take them; a coin that the pair's id tosses says which comes first.

    p: `RatedPair.p` (soft) or 1 (hard) where the less harmful reply is `a`, and 1 less that where it is `b`. The
    prompt's fields have "prompt" (its text, the cluster of the intervals), "severity_a" and "severity_b".
    """
    found: list[Pair] = []
    for pair in pairs:
        p = pair.p if labels == "soft" else 1.0
        first = int(pair.id, 16) % 2 == 0
        a, b = (pair.less, pair.more) if first else (pair.more, pair.less)
        fields = {"prompt": pair.prompt, "severity_a": a.severity, "severity_b": b.severity}
        prompt = Prompt(id=pair.id, messages=(Message(role="user", content=pair.prompt),), fields=fields)
        found.append(Pair(id=pair.id, prompt=prompt, a=a.reply, b=b.reply, p=p if first else 1 - p))
    return tuple(found)


def pair_rows(pairs: Sequence[RatedPair], labels: Literal["soft", "hard"] = "soft") -> list[dict[str, Any]]:
    """Rows {"id", "prompt", "chosen", "rejected", "p", "margin"} that `load_pairs` reads and TRL's trainers take.

    prompt, chosen, rejected: lists of messages. margin: 2p − 1, from 0 (undecided) to 1 (certain).
    """
    found: list[dict[str, Any]] = []
    for pair in pairs:
        p = pair.p if labels == "soft" else 1.0
        found.append(
            {
                "id": pair.id,
                "prompt": [{"role": "user", "content": pair.prompt}],
                "chosen": [{"role": "assistant", "content": pair.less.reply}],
                "rejected": [{"role": "assistant", "content": pair.more.reply}],
                "p": p,
                "margin": 2 * p - 1,
            }
        )
    return found


def as_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a .jsonl file."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _is_rating(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _digest(value: list[str]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
