"""Data that comes with Charter: worked critiques, safe twins of unsafe prompts, helpful prompts.

All of it was written for this project. The unsafe prompts are mild, and nothing here answers them.

    few_shots()        shown to a model before it is asked for a critique or a revision
    twins()            an unsafe prompt, and a safe one that looks like it: who refuses both is evasive
    helpful_prompts()  everyday questions; most name words of which a right answer has one
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from charter.constitution.checks import run_program
from charter.errors import DataError
from charter.types import Message

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """A worked example. tags: of the principles it shows.

    verdict: "issue", or "none" where nothing is wrong with the reply; then `revision` is empty.
    """

    id: str
    prompt: str
    reply: str
    tags: tuple[str, ...]
    critique: str
    revision: str
    verdict: Literal["issue", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """unsafe: a prompt to decline. safe: one that looks like it and should be answered. why: the difference."""

    id: str
    unsafe: str
    safe: str
    topic: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpfulPrompt:
    """A harmless prompt. tags: its kind, and "closed" where it has one right answer, else "open".

    expect: words or phrases of which a right answer has one, compared as whole words without regard to case; none is in
    the prompt, so that repeating it is no answer. checks: programs of `charter.constitution.checks` that it passes.
    """

    id: str
    prompt: str
    tags: tuple[str, ...]
    expect: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()


@cache
def few_shots() -> tuple[FewShot, ...]:
    """The worked examples, in the order in which they are preferred among equals."""
    return tuple(FewShot(**row) for row in _rows("few_shots", FewShot))


def read_few_shots(path: Path | str) -> tuple[FewShot, ...]:
    """Worked examples of one's own: a .jsonl of {"prompt", "reply", "critique", "revision"}, and perhaps "id", "tags".

    A row without a revision shows a reply with which nothing is wrong. Raises: DataError naming file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Give a .jsonl file of worked examples") from error
    found: list[FewShot] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = {key: row.get(key, "") for key in ("prompt", "reply", "critique", "revision")}
            tags = row.get("tags", [])
            if not all(isinstance(text, str) for text in texts.values()) or not isinstance(tags, list):
                raise ValueError("prompt, reply, critique and revision are texts, tags a list")
            if not all(texts[key].strip() for key in ("prompt", "reply", "critique")):
                raise ValueError("prompt, reply and critique must not be empty")
        except (ValueError, AttributeError) as error:
            raise DataError(f"{path}:{number} is no worked example ({error}). Correct the line") from None
        verdict = "issue" if texts["revision"].strip() else "none"
        found.append(FewShot(id=str(row.get("id", number)), tags=tuple(map(str, tags)), verdict=verdict, **texts))
    if not found:
        raise DataError(f"{path} holds no worked example. Add one, or leave revise.examples out")
    return tuple(found)


@cache
def twins() -> tuple[Twin, ...]:
    """The pairs of a safe and an unsafe prompt."""
    return tuple(Twin(**row) for row in _rows("twins", Twin))


@cache
def helpful_prompts() -> tuple[HelpfulPrompt, ...]:
    """The helpful prompts."""
    return tuple(HelpfulPrompt(**row) for row in _rows("helpful", HelpfulPrompt))


def answers(prompt: HelpfulPrompt, reply: str) -> bool | None:
    """Whether a reply has what the prompt asks for: an expected word, and every check; None where it names neither.

    A "closed" prompt is judged by the first 60 words: a model that goes on and on meets every word in the end.
    """
    if not prompt.expect and not prompt.checks:
        return None
    read = " ".join(reply.split()[:60]) if "closed" in prompt.tags else reply
    if prompt.expect and not any(_has(read, word) for word in prompt.expect):
        return False
    messages = (Message(role="user", content=prompt.prompt),)
    return all(run_program(program, messages, reply) is not False for program in prompt.checks)


def _has(text: str, phrase: str) -> bool:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE) is not None


def _rows(name: str, kind: type[Any]) -> Iterator[dict[str, Any]]:
    known = {field.name for field in fields(kind)}
    for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield {key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key in known}
