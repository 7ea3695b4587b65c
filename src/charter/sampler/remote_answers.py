"""What the answer of an OpenAI-compatible endpoint says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from charter.sampler.remote_http import Passing
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest

MOST_SHOWN = 20
"""Most likeliest tokens that the format lets one ask for."""
UNMETERED = "the server gave no usage: the tokens of this reply are not counted"

Used = tuple[int, int] | None
"""(prompt, completion) tokens, or None where the server does not tell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply and what it used."""

    reply: ChatReply
    used: Used


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Log-probabilities and what they used."""

    reply: ChoiceReply
    used: Used


class Unusable(Exception):  # noqa: N818 - reads as the condition it names
    """An answer that is whole and holds no reply: filtered, or without text."""

    def __init__(self, text: str, used: Used) -> None:
        super().__init__(text)
        self.used = used


def read_answer(answer: dict[str, Any], request: ChatRequest) -> Answer:
    """The reply in an answer. A model's `refusal` is its reply, with a note; its reasoning is not part of it.

    Raises: Passing where a field is missing (half an answer), Unusable where there is no text to be had.
    """
    choice = _choice(answer)
    used = _used(answer)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Passing("the answer has no choices[0].message")
    finish = choice.get("finish_reason")
    if finish == "content_filter":
        raise Unusable("the endpoint's content filter withheld the reply", used)
    text, note = _text(message.get("content")), ""
    if not text and isinstance(message.get("refusal"), str) and message["refusal"]:
        text, note = message["refusal"], "the model used its field for refusals"
    if text is None:
        if "content" not in message:
            raise Passing("the answer has no choices[0].message.content")
        raise Unusable(_silent(message, finish, used), used)
    full = used is not None and used[1] >= request.max_new_tokens
    cut = finish in ("length", "max_tokens") or (finish is None and full)
    return Answer(
        reply=ChatReply(
            id=request.id,
            text=text,
            stop="length" if cut else "eos",
            note="; ".join(filter(None, [note, UNMETERED if used is None else ""])),
            prompt_tokens=used[0] if used else 0,
            completion_tokens=used[1] if used else 0,
        ),
        used=used,
    )


def read_shown(answer: dict[str, Any], request: ChoiceRequest) -> Shown:
    """The log-probability of each choice as the first token; logprobs None where the answer shows none at all.

    Tokens that are a choice but for white space around it count together: log Σ p.
    Raises: Passing where a field is missing.
    """
    choice = _choice(answer)
    used = _used(answer)
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return Shown(reply=ChoiceReply(id=request.id, logprobs=None, note="the answer shows no log-probabilities"),
                     used=used)  # fmt: skip
    first: dict[str, Any] = content[0]
    shown: dict[str, float] = {}
    for one in [first, *(first.get("top_logprobs") or [])]:
        token, logprob = (one.get("token"), one.get("logprob")) if isinstance(one, dict) else (None, None)
        value = _number(logprob)
        if not isinstance(token, str) or value is None:
            raise Passing("the answer shows log-probabilities without token or logprob")
        shown[token] = value
    logprobs = tuple(
        _log_sum([value for token, value in shown.items() if token.strip() == text.strip()]) for text in request.choices
    )
    note = ""
    if all(value == -math.inf for value in logprobs):
        note = f"none of the choices is among the {len(shown)} likeliest tokens"
    return Shown(
        reply=ChoiceReply(
            id=request.id,
            logprobs=logprobs,
            note="; ".join(filter(None, [note, UNMETERED if used is None else ""])),
            prompt_tokens=used[0] if used else 0,
            completion_tokens=used[1] if used else 0,
        ),
        used=used,
    )


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Passing("the answer has no choices")
    return choices[0]


def _used(answer: dict[str, Any]) -> Used:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens", 0))
    if prompt is None or completion is None or prompt < 0 or completion < 0:
        return None
    return int(prompt), int(completion)


def _text(content: Any) -> str | None:
    """A message's text; some servers send it in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str)) if parts else None
    return content if isinstance(content, str) else None


def _silent(message: dict[str, Any], finish: Any, used: Used) -> str:
    thought = any(message.get(key) for key in ("reasoning_content", "reasoning"))
    if thought and finish == "length":
        spent = f"all {used[1]} tokens" if used else "all tokens"
        return f"the model spent {spent} on its reasoning and wrote no reply; raise max_new_tokens"
    return f"the answer has no text (finish_reason {finish!r})"


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _log_sum(values: list[float]) -> float:
    """log Σ exp, -inf for none."""
    if not values:
        return -math.inf
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))
