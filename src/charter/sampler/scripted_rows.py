"""The file of a scripted chat model: one row for each kind of request it meets.

    {"match": "lock", "reply": "Ask a locksmith."}                    the last message holds this text
    {"regex": "^Which .* better", "choices": {"A": -0.1, "B": -2.3}}  re.search in it
    {"match": "lock", "in": "all", "fail": "out of order"}            any message
    {"reply": ["Yes.", "No."]}                                        everything; which of the two, its id decides

The first row that fits and that answers this kind of request is taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.errors import DataError
from charter.types import ChatRequest, ChoiceRequest

_KEYS = {"match", "regex", "in", "reply", "choices", "fail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRow:
    """One row. match: a text to find, or None where any request fits.

    everywhere: look in every message, and not in the last one alone (with the beginning of the reply behind it).
    replies: of which the request's id picks one. choices: choice → log-probability. fail: the cause of a failure.
    """

    match: re.Pattern[str] | None
    everywhere: bool = False
    replies: tuple[str, ...] = ()
    choices: Mapping[str, float] | None = None
    fail: str = ""

    def fits(self, request: ChatRequest | ChoiceRequest) -> bool:
        """Whether the row is about this request."""
        answers = self.replies if isinstance(request, ChatRequest) else self.choices is not None
        if not (answers or self.fail):
            return False
        if self.match is None:
            return True
        messages = request.messages if self.everywhere else request.messages[-1:]
        return self.match.search("\n".join([*(m["content"] for m in messages), request.begin])) is not None

    def reply(self, id: str) -> str:
        """The reply to the request of this id."""
        digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return self.replies[int.from_bytes(digest, "little") % len(self.replies)]


def read_script(path: Path | str) -> tuple[ScriptRow, ...]:
    """The rows of a .jsonl file. Raises: DataError naming file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the script {path} cannot be read: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f'the script {path} is empty; give it rows like {{"match": "…", "reply": "…"}}')
    rows: list[ScriptRow] = []
    for number, line in lines:
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return tuple(rows)


def substring_rows(table: Mapping[str, str | Sequence[str]]) -> tuple[ScriptRow, ...]:
    """Rows of a table: text in the last message → reply, or replies of which the id picks one."""
    return tuple(
        ScriptRow(match=re.compile(re.escape(text)), replies=(answer,) if isinstance(answer, str) else tuple(answer))
        for text, answer in table.items()
    )


def _row(row: Any) -> ScriptRow:
    if not isinstance(row, dict):
        raise ValueError(f"found {json.dumps(row)[:60]}, expected a row with the keys {_names(_KEYS)}")
    if unknown := row.keys() - _KEYS:
        raise ValueError(f"unknown key {_names(unknown)}; a row has {_names(_KEYS)}")
    if "match" in row and "regex" in row:
        raise ValueError("found match and regex; give one of them")
    if not row.keys() & {"reply", "choices", "fail"}:
        raise ValueError("the row says nothing; give it reply, choices or fail")
    for key in ("match", "regex", "fail"):
        if not isinstance(row.get(key, ""), str):
            raise ValueError(f"{key} is {row[key]!r}, expected a text")
    if row.get("in", "last") not in ("last", "all"):
        raise ValueError(f'in is {row["in"]!r}, expected "last" or "all"')
    pattern = row.get("regex") or (re.escape(row["match"]) if row.get("match") else None)
    try:
        match = re.compile(pattern) if pattern else None
    except re.error as error:
        raise ValueError(f"regex {pattern!r} is no regular expression: {error}") from error
    return ScriptRow(
        match=match,
        everywhere=row.get("in") == "all",
        replies=_replies(row["reply"]) if "reply" in row else (),
        choices=_choices(row["choices"]) if "choices" in row else None,
        fail=row.get("fail", ""),
    )


def _replies(value: Any) -> tuple[str, ...]:
    replies = [value] if isinstance(value, str) else value
    if not isinstance(replies, list) or not replies or not all(isinstance(one, str) for one in replies):
        raise ValueError(f"reply is {json.dumps(value)[:60]}, expected a text or a list of texts")
    return tuple(replies)


def _choices(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"choices is {json.dumps(value)[:60]}, expected a table of choice → log-probability or null")
    told: dict[str, float] = {}
    for choice, logprob in value.items():
        if logprob is None:
            told[choice] = float("-inf")
        elif isinstance(logprob, int | float) and not isinstance(logprob, bool) and logprob <= 0:
            told[choice] = float(logprob)
        else:
            raise ValueError(f"choices.{choice} is {logprob!r}, expected a log-probability (at most 0) or null")
    return told


def _names(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys))
