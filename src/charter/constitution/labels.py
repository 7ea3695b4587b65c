"""From prompts to preferences: replies of the policy, compared, and written as rows to train on.

    {"id", "prompt": [messages], "chosen": [message], "rejected": [message], "p", "margin"}

p ≥ 1/2 is the probability that `chosen` is better, margin = 2p − 1. TRL's trainers take the rows as they stand (their
conversational form), and so does `charter.data.load_pairs`. A pair the judge had no opinion on, or on which its two
orders cancelled out, is no row: both are counted.

*Not here*: the judge (`feedback`), whether it may label (`calibrate`).
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from charter.constitution.asking import Progress, ask, chat_request
from charter.constitution.exporting import jsonl_bytes
from charter.constitution.feedback import Judged, Match
from charter.constitution.judging import clamped
from charter.constitution.records import Completion
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import Message, Pair, Prompt

Labels = Literal["soft", "hard", "clamped"]
Row = dict[str, Any]


class LabelSettings(Protocol):
    """What a recipe's [label] table says about replies and labels."""

    @property
    def completions(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The pairs to compare, one per prompt at most.

    counts: of prompts, replies, and what left a prompt without a pair ("failed": fewer than two replies came;
    "identical": all replies were the same or empty).
    """

    matches: tuple[Match, ...]
    counts: Mapping[str, int]


async def complete(
    prompts: Sequence[Prompt], policy: ChatModel, settings: LabelSettings, journal: Journal, seed: int,
    progress: Progress | None = None,
) -> Matched:  # fmt: skip
    """Ask the policy for `completions` replies to each prompt; the first two that differ are a pair.

    seed: tells these replies apart from those of another run. Raises: BudgetError, with what came before it written.
    """
    requests = [
        [
            chat_request(
                policy.name, prompt.messages, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature,
                salt=f"label/{seed}/{index}",
            )
            for index in range(settings.completions)
        ]
        for prompt in prompts
    ]  # fmt: skip
    replies = await ask(policy, [request for group in requests for request in group], journal, progress)
    counts = Counter({"prompts": len(prompts), "replies": 0, "failed": 0, "identical": 0})
    matches: list[Match] = []
    for prompt, group in zip(prompts, requests, strict=True):
        came: list[Completion] = []
        for index, request in enumerate(group):
            reply = replies[request.id]
            if reply.stop != "failed":
                record = Completion(
                    prompt_id=prompt.id, messages=prompt.messages, text=reply.text, model=policy.name,
                    purpose=str(prompt.fields.get("purpose", "redteam")), index=index,
                )  # fmt: skip
                journal.append(record.row())
                came.append(record)
        counts["replies"] += len(came)
        distinct = {one.text.strip(): one for one in reversed(came) if one.text.strip()}
        pair = sorted(distinct.values(), key=lambda one: one.index)[:2]
        if len(pair) == 2:
            a, b = pair
            matches.append(Match(messages=prompt.messages, a=a.text, b=b.text, a_id=a.id, b_id=b.id))
        else:
            counts["failed" if len(came) < 2 else "identical"] += 1
    journal.sync()
    return Matched(matches=tuple(matches), counts=dict(counts))


def judged_rows(
    matches: Sequence[Match], judged: Sequence[Judged], labels: Labels, clamp: tuple[float, float]
) -> tuple[list[Row], dict[str, int]]:
    """The rows of what a judge said, and how many pairs gave none: "unparsed", "refused", "error" or "undecided".

    undecided: p is 1/2, because both orders cancel out or the clamp leaves nothing of it.
    """
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for match, one in zip(matches, judged, strict=True):
        p = one.preference.p_a
        if p is None:
            statuses = [judgement.status for judgement in one.judgements]
            left_out[next(status for status in ("error", "refused", "unparsed") if status in statuses)] += 1
            continue
        if labels == "clamped":
            p = clamped(p, clamp)
        if p == 0.5:
            left_out["undecided"] += 1
            continue
        rows.append(_row(one.preference.id, match.messages, match.a, match.b, p, hard=labels == "hard"))
    return rows, dict(left_out)


def human_rows(pairs: Sequence[Pair], labels: Labels) -> list[Row]:
    """The rows of pairs that people decided; their labels are as given, or hard.

    Ordered by a hash of their ids, so that the first rows are a fair sample where a trainer takes no more (data.size).
    """
    return [
        _row(pair.id, pair.prompt.messages, pair.a, pair.b, pair.p, hard=labels == "hard")
        for pair in sorted(pairs, key=lambda pair: _order(pair.id))
        if pair.p != 0.5
    ]


def mixed(judged: Sequence[Row], human: Sequence[Row], weight: float) -> list[Row]:
    """The judge's rows and as many human ones as make up the share `weight` of the whole, if there are that many.

    Which of them is decided by a hash of their ids. Without rows of the judge, all of the human ones.
    """
    if weight <= 0 and judged:
        return list(judged)
    if not judged or weight >= 1:
        return list(human)
    wanted = round(len(judged) * weight / (1 - weight))
    chosen = {row["id"] for row in sorted(human, key=lambda row: _order(row["id"]))[:wanted]}
    return [*judged, *(row for row in human if row["id"] in chosen)]


def preference_jsonl(rows: Sequence[Row]) -> bytes:
    """The content of preferences.jsonl."""
    return jsonl_bytes(rows)


def preference_parquet(rows: Sequence[Row]) -> bytes:
    """The same rows as Parquet: lists of struct<role, content>, p and margin as float64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    names = [("prompt", turns), ("chosen", turns), ("rejected", turns)]
    schema = pa.schema([("id", pa.string()), *names, ("p", pa.float64()), ("margin", pa.float64())])
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
    return file.getvalue()


def _row(id: str, messages: Sequence[Message], a: str, b: str, p: float, *, hard: bool) -> Row:
    chosen, rejected = (a, b) if p > 0.5 else (b, a)
    sure = 1.0 if hard else max(p, 1 - p)
    # conversations alone: TRL takes no file in which some prompts are texts and some are turns
    turns = [{"role": "user" if m["role"] == "text" else m["role"], "content": m["content"]} for m in messages]
    return {
        "id": id,
        "prompt": turns,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "p": sure,
        "margin": 2 * sure - 1,
    }


def _order(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
