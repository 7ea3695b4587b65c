"""What is imitated in the end: rows that this project's trainer and others load as they stand.

{"messages": [{"role": "user", "content": …}, …, {"role": "assistant", "content": …}], "id": "…", "source": "…"}
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charter.constitution.drafting import Cut, Reply, uncut
from charter.constitution.records import Acceptance, Revision
from charter.constitution.trajectories import Trajectory
from charter.errors import UsageError
from charter.types import Message

Source = Literal["revision", "helpful", "draft", "judge"]
"""Why a row is there: an accepted revision, an unrevised reply to a harmless prompt, or one of the two controls."""


_SOURCES: Mapping[str, Source] = {"redteam": "draft", "judge": "judge", "helpful": "helpful"}
"""What a first reply was for → why it is imitated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftRow:
    """One conversation to imitate. id: of the Revision or Draft that its last turn is."""

    messages: tuple[Message, ...]
    id: str
    source: Source

    def row(self) -> dict[str, Any]:
        """As a line of sft.jsonl."""
        return {"messages": [dict(message) for message in self.messages], "id": self.id, "source": self.source}


@dataclass(frozen=True, slots=True, kw_only=True)
class SftRows:
    """The rows in the order of the prompts, revisions (or a control's replies) before helpful ones.

    dropped: source → reason → how many.
    """

    rows: tuple[SftRow, ...]
    dropped: Mapping[str, Mapping[str, int]]


def chosen_steps(sft_on: str) -> int | Literal["all", "final"]:
    """What `revise.sft_on` asks for: "all", "final", or the n of "upto:n". Raises: UsageError for anything else."""
    if sft_on == "all" or sft_on == "final":
        return sft_on
    upto = re.fullmatch(r"upto:([1-9]\d*)", sft_on)
    if upto is None:
        raise UsageError(f'revise.sft_on is {sft_on!r}, expected "all", "final" or "upto:n" with n from 1 up')
    return int(upto[1])


def select_revisions(
    trajectory: Trajectory, acceptances: Mapping[str, Acceptance], sft_on: str
) -> tuple[Revision, ...]:
    """The accepted revisions of a trajectory that are imitated: all, the last, or those of the first n steps."""
    chosen = chosen_steps(sft_on)
    accepted = [
        revision
        for revision in trajectory.usable
        if (found := acceptances.get(revision.id)) is not None and found.accepted
    ]
    if chosen == "final":
        return tuple(accepted[-1:])
    return tuple(revision for revision in accepted if chosen == "all" or revision.step <= chosen)


def sft_rows(
    revised: Iterable[tuple[Trajectory, Sequence[Revision]]],
    control: Sequence[Reply],
    helpful: Sequence[Reply],
    cut: Cut,
) -> SftRows:
    """All rows to imitate.

    Args:
        revised: each trajectory with the revisions that were selected. control: drafts, or the judge's replies, in the
            place of revisions; empty without a control. helpful: unrevised replies to harmless prompts. cut: what is
            done with those of them that ended at the token limit.
    """
    rows: list[SftRow] = []
    dropped: dict[str, dict[str, int]] = {}
    known: set[str] = set()

    def add(messages: Sequence[Message], text: str | None, id: str, source: Source) -> None:
        reason = "truncated" if text is None else ""
        if text is not None:
            turns = (*messages, Message(role="assistant", content=text))
            said = json.dumps(turns, sort_keys=True)
            reason = "repeated" if said in known else ""
            if not reason:
                known.add(said)
                rows.append(SftRow(messages=turns, id=id, source=source))
                return
        of_source = dropped.setdefault(source, {})
        of_source[reason] = of_source.get(reason, 0) + 1

    for trajectory, revisions in revised:
        for revision in revisions:
            add(trajectory.prompt.messages, revision.text, revision.id, "revision")
    for replies in (control, helpful):
        for reply in replies:
            text = uncut(reply.draft.text, reply.stop, cut)
            add(reply.prompt.messages, text, reply.draft.id, _SOURCES[reply.draft.purpose])
    return SftRows(rows=tuple(rows), dropped=dropped)


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as UTF-8 lines of JSON; halves of a character pair, which UTF-8 has no bytes for, become U+FFFD."""
    lines = (json.dumps(_whole(dict(row)), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return "".join(lines).encode("utf-8")


def parquet_bytes(rows: Sequence[SftRow]) -> bytes:
    """The same rows as Parquet: messages list<struct<role, content>>, id, source."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(turn)), ("id", pa.string()), ("source", pa.string())])
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_whole(row.row()) for row in rows], schema=schema), file)
    return file.getvalue()


def _whole(value: Any) -> Any:
    """The value with lone surrogates, which a byte-level model may write, replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value
