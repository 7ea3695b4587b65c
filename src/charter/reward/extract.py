"""Where a structured answer stands in a completion: all of it, the last fenced block, or <answer>…</answer>.

One pass over the text, so safe in the trainer. Not here: what is inside (`json_text.py`, `csv_answer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Place = Literal["auto", "text", "fence", "answer"]
"""text: the whole completion. fence: the last complete fenced block. answer: the last complete <answer>…</answer>, or
the last block fenced inside it. auto: answer, else fence, else text: the first of them that is there."""
PLACE_HELP = (
    'Where it stands: "text" (all of it), "fence" (last fenced block), "answer" (last <answer>…</answer>), or "auto": '
    "the answer, else the fence, else all of it."
)
OPEN, CLOSE = "<answer>", "</answer>"


class MissingPlaceError(ValueError):
    """The completion lacks the place where its answer was to stand; the text says which."""


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language, body) of every complete fenced block, in order.

    A fence is a line of at least three backticks; the opening one may name a language, the closing one has nothing
    else and at least as many. A block that is never closed is none. Only "\\n" ends a line.
    """
    found: list[tuple[str, str]] = []
    opened: tuple[int, str, int] | None = None  # backticks, language, start of the body
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if "```" in text[start : min(end, start + 400)]:
            line = text[start:end].strip()
            ticks = len(line) - len(line.lstrip("`"))
            label = line[ticks:].strip()
            if opened is None and ticks >= 3 and "`" not in label:
                opened = (ticks, label.split(maxsplit=1)[0].lower() if label else "", end + 1)
            elif opened is not None and ticks >= opened[0] and not label:
                found.append((opened[1], text[opened[2] : start]))
                opened = None
        start = end + 1
    return found


def last_fence(text: str, languages: Sequence[str] = ()) -> str | None:
    """The body of the last complete block; of the last one in `languages` where there is any."""
    blocks = fenced_blocks(text)
    named = [body for language, body in blocks if language in languages]
    if named:
        return named[-1]
    return blocks[-1][1] if blocks else None


def last_answer(text: str) -> str | None:
    """What stands in the last complete <answer>…</answer>."""
    end = text.rfind(CLOSE)
    start = text.rfind(OPEN, 0, end) if end >= 0 else -1
    return text[start + len(OPEN) : end] if start >= 0 else None


def find_place(text: str, place: Place, languages: Sequence[str] = ()) -> str:
    """The part of a completion that counts. Raises: MissingPlaceError when it is not there."""
    if place == "text":
        return text
    if place in ("answer", "auto"):
        inside = last_answer(text)
        if inside is not None:
            block = last_fence(inside, languages)
            return inside if block is None else block
        if place == "answer":
            raise MissingPlaceError(f"there is no {OPEN}…{CLOSE}")
    block = last_fence(text, languages)
    if block is not None:
        return block
    if place == "fence":
        raise MissingPlaceError("there is no fenced block")
    return text
