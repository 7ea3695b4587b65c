"""What a step sampled, as one Parquet file: one row per completion.

Columns, in order: prompt_id, index, prompt, text, tokens, logprobs, reward, reward/<name> (one per named reward),
advantage, stop, version, status, note. `prompt` is the text itself for a plain-text prompt, and the turns as a
JSON list for a conversation. A reward or advantage that does not exist is null. The bytes are a pure function of
the content: two runs that sampled the same have equal files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from charter.types import Prompt, Scored, Update

PART = "reward/"
"""Prefix of the column that holds one named reward's own value."""


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one string: its text where it is plain, else its turns as a JSON list of {"role", "content"}."""
    if len(prompt.messages) == 1 and prompt.messages[0]["role"] == "text":
        return prompt.messages[0]["content"]
    return json.dumps([dict(message) for message in prompt.messages], ensure_ascii=False)


def turns(prompt: str) -> list[tuple[str, str]]:
    """The (role, content) pairs of a stored prompt; a plain text is one turn of role "text"."""
    try:
        messages = json.loads(prompt) if prompt.startswith('[{"') else None
    except json.JSONDecodeError:
        messages = None
    if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
        return [("text", prompt)]
    return [(str(message["role"]), str(message.get("content", ""))) for message in messages]


def part_names(scored: Sequence[Scored]) -> list[str]:
    """Names of all rewards that gave a part, in alphabetical order: the file must not depend on who was first."""
    return sorted({name for each in scored for score in each.scores for name in score.parts})


def _schema(parts: Sequence[str]) -> pa.Schema:
    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("index", pa.int32()),
            ("prompt", pa.string()),
            ("text", pa.string()),
            ("tokens", pa.list_(pa.int32())),
            ("logprobs", pa.list_(pa.float32())),
            ("reward", pa.float64()),
            *((PART + name, pa.float64()) for name in parts),
            ("advantage", pa.float64()),
            ("stop", pa.string()),
            ("version", pa.int64()),
            ("status", pa.string()),
            ("note", pa.string()),
        ]
    )


def _utf8(text: str) -> str:
    """Text that Parquet can hold: a lone surrogate, which UTF-8 has no bytes for, becomes \\udXXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def rollout_table(update: Update) -> pa.Table:
    """The completions of a step, in prompt order and then index order.

    Raises: ValueError where the advantages do not fit the groups.
    """
    if update.advantages and len(update.advantages) != len(update.scored):
        raise ValueError(
            f"step {update.step}: {len(update.advantages)} rows of advantages for {len(update.scored)} groups"
        )
    parts = part_names(update.scored)
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(update.scored):
        prompt = _utf8(prompt_text(each.group.prompt))
        advantages: Sequence[float | None] = (
            update.advantages[number] if update.advantages else [None] * len(each.scores)
        )
        if len(advantages) != len(each.scores):
            raise ValueError(
                f"step {update.step}, prompt {each.group.prompt.id}: {len(advantages)} advantages "
                f"for {len(each.scores)} completions"
            )
        for rollout, score, advantage in zip(each.group.rollouts, each.scores, advantages, strict=True):
            rows.append(
                {
                    "prompt_id": _utf8(rollout.prompt_id),
                    "index": rollout.index,
                    "prompt": prompt,
                    "text": _utf8(rollout.text),
                    "tokens": list(rollout.tokens),
                    "logprobs": list(rollout.logprobs),
                    "reward": score.value,
                    **{PART + name: score.parts.get(name) for name in parts},
                    "advantage": advantage,
                    "stop": rollout.stop,
                    "version": rollout.version,
                    "status": score.status,
                    "note": _utf8(score.note),
                }
            )
    return pa.Table.from_pylist(rows, schema=_schema(parts))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file, the same for the same content."""
    sink = pa.BufferOutputStream()
    # Texts and prompts repeat inside a group; zstd takes a third of the default's space at no visible cost in time.
    pq.write_table(table, sink, compression="zstd", use_dictionary=True, write_statistics=True)
    return sink.getvalue().to_pybytes()
